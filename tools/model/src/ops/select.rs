//! Choices between numbers: by truth values, between ends, among several tensors.

mod back;

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use crate::attributes::Definition;
use crate::fault::Fault;
use crate::kernels::{lanes, parts};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::binary::{Operation, combine, made};
use crate::ops::halves::Half;
use crate::ops::number::Number;
use crate::ops::spread::Spread;
use crate::ops::unary::own;
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::{Buffer, Data, Element, Tensor};

/// Elements of one tensor where a third is true, else of the other.
#[derive(Clone, Copy, Debug)]
pub struct Where;

/// Numbers moved between two ends.
#[derive(Clone, Copy, Debug)]
pub struct Clip {
    /// The lower end, where it is not an input.
    pub low: Option<f32>,
    /// The upper end, where it is not an input.
    pub high: Option<f32>,
}

/// What is made of any number of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The largest of each.
    Max,
    /// The smallest.
    Min,
    /// The sum.
    Sum,
    /// The sum, divided by their number.
    Mean,
}

/// One tensor of any number of them that broadcast.
#[derive(Clone, Copy, Debug)]
pub struct Several {
    /// What is made.
    pub choice: Choice,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    match definition.op.as_str() {
        "Where" => some(Where),
        "Clip" => some(Clip { low: definition.float("min")?, high: definition.float("max")? }),
        "Max" => some(Several { choice: Choice::Max }),
        "Min" => some(Several { choice: Choice::Min }),
        "Sum" => some(Several { choice: Choice::Sum }),
        "Mean" => some(Several { choice: Choice::Mean }),
        _ => Ok(None),
    }
}

impl Operator for Where {
    fn name(&self) -> &'static str {
        "Where"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let (condition, a, b) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
        let Data::Bool(truth) = condition.data() else { return Err(Fault::dtype(0, condition, "a truth value")) };
        let spread = Spread::new([condition.shape(), a.shape(), b.shape()])?;
        let truth = truth.as_slice();
        macro_rules! of {
            ($($variant:ident)*) => {
                match (a.data(), b.data()) {
                    (Data::F32(a), Data::F32(b)) => {
                        let out = context.buffer(&spread.shape)?;
                        Data::F32(Buffer::from(chosen(&spread, truth, a.as_slice(), b.as_slice(), out)))
                    }
                    $((Data::$variant(a), Data::$variant(b)) => {
                        let out = fresh(&spread.shape, context)?;
                        Data::$variant(Buffer::from(chosen(&spread, truth, a.as_slice(), b.as_slice(), out)))
                    })*
                    (a, b) => return Err(Fault::shape(format!("{} and {}", a.dtype(), b.dtype()), "the same type")),
                }
            };
        }
        let data = of!(F64 F16 Bf16 I64 I32 I16 I8 U64 U32 U16 U8 Bool);
        Ok(vec![made(spread.shape, data)?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

/// Elements for a result.
fn fresh<T: Element>(shape: &[usize], context: &Context<'_>) -> Result<Vec<T>, Fault> {
    Ok(vec![T::default(); context.len::<T>(shape)?])
}

fn chosen<T: Element>(spread: &Spread<3>, truth: &[u8], a: &[T], b: &[T], mut out: Vec<T>) -> Vec<T> {
    parts::each(&mut out, 1, |start, out| {
        spread.stretches(start, out.len(), |at, len, [t, i, k]| {
            let out = &mut out[at..at + len];
            let [one_truth, one_a, one_b] = spread.still;
            if one_truth {
                let (x, x_at, one) = if truth[t] != 0 { (a, i, one_a) } else { (b, k, one_b) };
                if one {
                    out.fill(x[x_at])
                } else {
                    out.copy_from_slice(&x[x_at..x_at + len])
                }
                return;
            }
            let rows = out.iter_mut().zip(&truth[t..t + len]);
            match (one_a, one_b) {
                (true, true) => rows.for_each(|(y, t)| *y = if *t != 0 { a[i] } else { b[k] }),
                (true, false) => {
                    let one = a[i];
                    rows.zip(&b[k..k + len]).for_each(|((y, t), b)| *y = if *t != 0 { one } else { *b });
                }
                (false, true) => {
                    let one = b[k];
                    rows.zip(&a[i..i + len]).for_each(|((y, t), a)| *y = if *t != 0 { *a } else { one });
                }
                (false, false) => {
                    let both = a[i..i + len].iter().zip(&b[k..k + len]);
                    rows.zip(both).for_each(|((y, t), (a, b))| *y = if *t != 0 { *a } else { *b });
                }
            }
        });
    });
    out
}

impl Operator for Clip {
    fn name(&self) -> &'static str {
        "Clip"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        if let Some(half) = Half::among(inputs) {
            return half.run(inputs, 1, |inputs| self.run(inputs, context));
        }
        let mut tensor = own(inputs.take(0)?, context)?;
        macro_rules! of {
            ($($variant:ident $type:ty),*) => {
                match tensor.data_mut() {
                    Data::F32(x) => {
                        let [low, high] = self.ends::<f32>(inputs)?;
                        parts::each(x.to_mut(), 1, |_, x| clip(Level::best(), x, low, high));
                    }
                    $(Data::$variant(x) => {
                        let [low, high] = self.ends::<$type>(inputs)?;
                        parts::each(x.to_mut(), 1, |_, x| between(x, low, high));
                    })*
                    _ => return Err(Fault::dtype(0, &tensor, "a number")),
                }
            };
        }
        of!(F64 f64, I64 i64, I32 i32, I16 i16, I8 i8, U64 u64, U32 u32, U16 u16, U8 u8);
        Ok(vec![tensor])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl Clip {
    /// Both ends; the lowest and the highest number where they are left out.
    fn ends<T: Number>(&self, inputs: &Inputs) -> Result<[T; 2], Fault> {
        let end = |at: usize, given: Option<f32>, otherwise: T| match inputs.optional(at) {
            None => Ok(given.map_or(otherwise, |x| T::from_float(f64::from(x)))),
            Some(_) => match inputs.elements::<T>(at, "the type of the numbers")? {
                [one] => Ok(*one),
                other => Err(Fault::shape(format!("input {at} of {} elements", other.len()), "one")),
            },
        };
        Ok([end(1, self.low, T::lowest())?, end(2, self.high, T::highest())?])
    }
}

#[inline(always)]
fn between<T: Number>(x: &mut [T], low: T, high: T) {
    // Where the ends are the wrong way round, all become the upper one. What is no number stays.
    x.iter_mut().for_each(|x| {
        let raised = if *x < low { low } else { *x };
        *x = if raised > high { high } else { raised };
    });
}

stamp! {
    fn clip = clip_body(x: &mut [f32], low: f32, high: f32) -> ();
}
#[inline(always)]
fn clip_body(x: &mut [f32], low: f32, high: f32) {
    between(x, low, high);
}

impl Operator for Several {
    fn name(&self) -> &'static str {
        match self.choice {
            Choice::Max => "Max",
            Choice::Min => "Min",
            Choice::Sum => "Sum",
            Choice::Mean => "Mean",
        }
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        if let Some(half) = Half::among(inputs) {
            return half.run(inputs, 1, |inputs| self.run(inputs, context));
        }
        let operation = match self.choice {
            Choice::Max => Operation::Max,
            Choice::Min => Operation::Min,
            Choice::Sum | Choice::Mean => Operation::Add,
        };
        let count = inputs.len();
        let mut all = inputs.take(0)?;
        for at in 1..count {
            all = combine(operation, all, inputs.take(at)?, context)?;
        }
        if self.choice == Choice::Mean {
            all = own(all, context)?;
            match all.data_mut() {
                Data::F32(x) => {
                    parts::each(x.to_mut(), 1, |_, x| lanes::affine(Level::best(), x, 1.0 / count as f32, 0.0));
                }
                Data::F64(x) => x.to_mut().iter_mut().for_each(|x| *x /= count as f64),
                _ => return Err(Fault::dtype(0, &all, "a float")),
            }
        }
        Ok(vec![all])
    }

    fn reverse(&self) -> Reverse<'_> {
        match self.choice {
            Choice::Sum | Choice::Mean => Reverse::Flows(self),
            Choice::Max | Choice::Min => Reverse::Missing,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::attributes::Attribute;
    use crate::ops::trial::{definition, elements, run, simple, tensor};

    fn truth(shape: &[usize], x: &[u8]) -> Tensor {
        Tensor::new(shape, Data::Bool(Buffer::from(x.to_vec()))).unwrap()
    }

    #[test]
    fn elements_are_chosen_from_any_shapes() {
        let (a, b) = (tensor(&[2, 2], &[1i64, 2, 3, 4]), tensor(&[], &[-1i64]));
        let y = simple("Where", &[truth(&[2], &[1, 0]), a.clone(), b.clone()]).unwrap();
        assert_eq!(elements::<i64>(&y), [1, -1, 3, -1]);
        let y = simple("Where", &[truth(&[2, 1], &[0, 1]), a.clone(), tensor(&[2], &[7i64, 8])]).unwrap();
        assert_eq!(elements::<i64>(&y), [7, 8, 3, 4]);
        let y = simple("Where", &[truth(&[3, 1, 1], &[0, 1, 0]), b.clone(), a.clone()]).unwrap();
        assert_eq!(elements::<i64>(&y), [1, 2, 3, 4, -1, -1, -1, -1, 1, 2, 3, 4]);
        assert!(simple("Where", &[a.clone(), a, b]).is_err());
    }

    #[test]
    fn numbers_are_clipped_at_ends_of_either_kind() {
        let x = tensor(&[3], &[-2.0f32, 0.5, 2.0]);
        let old = definition("Clip", &[("min", Attribute::Float(-1.0)), ("max", Attribute::Float(1.0))]);
        assert_eq!(elements::<f32>(&run(&old, &[Some(x.clone())]).unwrap()[0]), [-1.0, 0.5, 1.0]);
        let new = definition("Clip", &[]);
        let y = run(&new, &[Some(x.clone()), None, Some(Tensor::scalar(1.0f32))]).unwrap();
        assert_eq!(elements::<f32>(&y[0]), [-2.0, 0.5, 1.0]);
        let y = run(&new, &[Some(tensor(&[2], &[-5i8, 5])), Some(Tensor::scalar(0i8))]).unwrap();
        assert_eq!(elements::<i8>(&y[0]), [0, 5]);
        let refused = run(&new, &[Some(x), Some(Tensor::scalar(1i64))]).unwrap_err().to_string();
        assert_eq!(refused, "input 1 is I64, the type of the numbers expected");
    }

    #[test]
    fn several_tensors_become_one() {
        let all = [tensor(&[2], &[1.0f32, 5.0]), tensor(&[1], &[3.0f32]), tensor(&[2], &[2.0f32, 4.0])];
        for (op, y) in [("Max", [3.0, 5.0]), ("Min", [1.0, 3.0]), ("Sum", [6.0, 12.0]), ("Mean", [2.0, 4.0])] {
            assert_eq!(elements::<f32>(&simple(op, &all).unwrap()), y, "{op}");
        }
    }
}
