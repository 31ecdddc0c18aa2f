//! Where the largest or the smallest number along an axis is, and running sums and products.

use crate::attributes::Definition;
use crate::each;
use crate::fault::Fault;
use crate::kernels::parts;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::binary::made;
use crate::ops::halves::Half;
use crate::ops::number::Number;
use crate::ops::shape::axis;
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::{Buffer, Data, Tensor};

/// Where the largest or the smallest number along an axis is.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    /// Whether it is the largest.
    pub largest: bool,
    /// Along which axis.
    pub axis: i64,
    /// Whether that axis stays, with one element.
    pub keep: bool,
    /// Whether the last of several counts, not the first.
    pub last: bool,
}

/// Sums or products of all numbers before each, along an axis.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// Whether they are products.
    pub product: bool,
    /// Whether a number itself is left out.
    pub exclusive: bool,
    /// Whether it is the numbers behind each that count.
    pub reverse: bool,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    let largest = match definition.op.as_str() {
        "ArgMax" => true,
        "ArgMin" => false,
        "CumSum" | "CumProd" => {
            return some(Running {
                product: definition.op == "CumProd",
                exclusive: definition.flag("exclusive")?,
                reverse: definition.flag("reverse")?,
            });
        }
        _ => return Ok(None),
    };
    some(Arg {
        largest,
        axis: definition.int("axis")?.unwrap_or(0),
        keep: definition.int("keepdims")?.unwrap_or(1) != 0,
        last: definition.flag("select_last_index")?,
    })
}

/// Numbers outside of an axis, along it, and within.
fn around(shape: &[usize], axis: usize) -> [usize; 3] {
    [shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product()]
}

impl Operator for Arg {
    fn name(&self) -> &'static str {
        if self.largest { "ArgMax" } else { "ArgMin" }
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let x = inputs.get(0)?;
        let at = axis(self.axis, x.rank())?;
        if x.shape()[at] == 0 {
            return Err(Fault::shape(format!("axis {} of no elements", self.axis), "at least one"));
        }
        let mut shape = x.shape().to_vec();
        if self.keep {
            shape[at] = 1;
        } else {
            shape.remove(at);
        }
        let mut places = vec![0i64; context.len::<i64>(&shape)?];
        let around = around(x.shape(), at);
        each!(x.data(), data => self.find(data.as_slice(), around, &mut places));
        Ok(vec![made(shape, Data::I64(Buffer::from(places)))?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}

impl Arg {
    fn find<T: Number>(&self, x: &[T], [_, long, inner]: [usize; 3], places: &mut [i64]) {
        if inner == 0 {
            return;
        }
        parts::of(places, (parts::PART / long).max(1), |start, places| {
            for (result, place) in places.iter_mut().enumerate() {
                let (row, column) = ((start + result) / inner, (start + result) % inner);
                let mut numbers = x[row * long * inner + column..].iter().step_by(inner).take(long);
                let Some(mut best) = numbers.next() else { return };
                for (k, x) in numbers.enumerate() {
                    let better = if self.largest { x > best } else { x < best };
                    if better || (self.last && x == best) {
                        (best, *place) = (x, k as i64 + 1);
                    }
                }
            }
        });
    }
}

impl Operator for Running {
    fn name(&self) -> &'static str {
        if self.product { "CumProd" } else { "CumSum" }
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        if let Some(half) = Half::among(inputs) {
            return half.run(inputs, 1, |inputs| self.along(inputs));
        }
        self.along(inputs)
    }
}

impl Running {
    fn along(&self, inputs: &mut Inputs) -> Result<Vec<Tensor>, Fault> {
        let [along] = inputs.integers(1)?[..] else { return Err(Fault::shape("several axes", "one")) };
        let mut tensor = inputs.take(0)?;
        let around = around(tensor.shape(), axis(along, tensor.rank())?);
        match tensor.data_mut() {
            Data::F32(x) => self.all(x.to_mut(), around),
            Data::F64(x) => self.all(x.to_mut(), around),
            Data::I64(x) => self.all(x.to_mut(), around),
            Data::I32(x) => self.all(x.to_mut(), around),
            Data::U64(x) => self.all(x.to_mut(), around),
            Data::U32(x) => self.all(x.to_mut(), around),
            _ => return Err(Fault::dtype(0, &tensor, "a float, or a whole number of 32 or 64 bits")),
        }
        Ok(vec![tensor])
    }

    fn all<T: Number>(&self, x: &mut [T], [_, long, inner]: [usize; 3]) {
        if long == 0 || inner == 0 {
            return;
        }
        let nothing = if self.product { T::one() } else { T::default() };
        let mut all = vec![nothing; inner];
        for x in x.chunks_exact_mut(long * inner) {
            all.fill(nothing);
            for k in 0..long {
                let k = if self.reverse { long - 1 - k } else { k };
                for (x, all) in x[k * inner..][..inner].iter_mut().zip(&mut all) {
                    let (before, after) = (*all, if self.product { all.mul(*x) } else { all.add(*x) });
                    (*x, *all) = (if self.exclusive { before } else { after }, after);
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::attributes::Attribute;
    use crate::ops::trial::{definition, elements, run, tensor};

    #[test]
    fn the_first_or_the_last_of_the_largest_is_found() {
        let x = tensor(&[2, 3], &[2.0f32, 7.0, 7.0, 1.0, 1.0, 0.0]);
        let of = |op: &str, axis: i64, last: i64, keep: i64| {
            let attributes = [("axis", axis), ("select_last_index", last), ("keepdims", keep)];
            let attributes = attributes.map(|(name, x)| (name, Attribute::Int(x)));
            run(&definition(op, &attributes), &[Some(x.clone())]).unwrap().remove(0)
        };
        assert_eq!(elements::<i64>(&of("ArgMax", -1, 0, 0)), [1, 0]);
        assert_eq!(elements::<i64>(&of("ArgMax", -1, 1, 0)), [2, 1]);
        assert_eq!(elements::<i64>(&of("ArgMin", 0, 0, 1)), [1, 1, 1]);
        assert_eq!((of("ArgMin", 0, 0, 1).shape(), of("ArgMin", 1, 0, 0).shape()), (&[1, 3][..], &[2][..]));
        let none = Tensor::of([0, 3], Vec::<f32>::new()).unwrap();
        let refused = run(&definition("ArgMax", &[]), &[Some(none)]).unwrap_err().to_string();
        assert_eq!(refused, "axis 0 of no elements, at least one expected");
    }

    #[test]
    fn sums_and_products_run_either_way() {
        let x = tensor(&[2, 3], &[1i32, 2, 3, 4, 5, 6]);
        let run_of = |op: &str, axis: i64, exclusive: i64, reverse: i64| {
            let attributes = [("exclusive", exclusive), ("reverse", reverse)].map(|(n, x)| (n, Attribute::Int(x)));
            let y = run(&definition(op, &attributes), &[Some(x.clone()), Some(Tensor::scalar(axis))]).unwrap();
            elements::<i32>(&y[0])
        };
        let of = |axis, exclusive, reverse| run_of("CumSum", axis, exclusive, reverse);
        assert_eq!(of(1, 0, 0), [1, 3, 6, 4, 9, 15]);
        assert_eq!(of(-1, 1, 0), [0, 1, 3, 0, 4, 9]);
        assert_eq!(of(0, 0, 1), [5, 7, 9, 4, 5, 6]);
        assert_eq!(of(1, 1, 1), [5, 3, 0, 11, 6, 0]);
        assert_eq!(run_of("CumProd", 1, 0, 0), [1, 2, 6, 4, 20, 120]);
        assert_eq!(run_of("CumProd", -1, 1, 1), [6, 3, 1, 30, 6, 1]);
    }
}
