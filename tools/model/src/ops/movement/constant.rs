//! Tensors from little or nothing: Constant, ConstantOfShape, Range, EyeLike; Shape and Size.

use bytes::Bytes;

use super::bits::{Bits, moved, tensor};
use super::size;
use crate::attributes::{Attribute, Definition};
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::element_type::dtype;
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::{Data, Dtype, Element, Tensor};

/// Always the same tensor.
#[derive(Clone, Debug)]
struct Constant {
    tensor: Tensor,
}

/// The same element in every place.
#[derive(Clone, Debug)]
struct ConstantOfShape {
    value: Tensor,
}

/// Numbers from a start, a step apart, as long as they are before the end.
#[derive(Clone, Copy, Debug)]
struct Range;

/// Ones on a diagonal, zeros elsewhere.
#[derive(Clone, Copy, Debug)]
struct EyeLike {
    dtype: Option<Dtype>,
    diagonal: i64,
}

/// The dimensions of a tensor.
#[derive(Clone, Copy, Debug)]
struct Shape {
    start: i64,
    end: Option<i64>,
}

/// The number of elements of a tensor.
#[derive(Clone, Copy, Debug)]
struct Size;

pub(super) fn build(definition: &Definition) -> Built {
    match definition.op.as_str() {
        "Constant" => some(Constant { tensor: value(definition)? }),
        "ConstantOfShape" => {
            let value = definition.tensor("value")?.unwrap_or_else(|| Tensor::vector(vec![0f32]));
            match value.len() {
                1 => some(ConstantOfShape { value }),
                len => Err(Fault::shape(format!("a value of {len} elements"), "one")),
            }
        }
        "Range" => some(Range),
        "EyeLike" => {
            let dtype = definition.int("dtype")?.map(dtype).transpose()?;
            some(EyeLike { dtype, diagonal: definition.int("k")?.unwrap_or(0) })
        }
        "Shape" => some(Shape { start: definition.int("start")?.unwrap_or(0), end: definition.int("end")? }),
        "Size" => some(Size),
        _ => Ok(None),
    }
}

fn value(definition: &Definition) -> Result<Tensor, Fault> {
    let mut all = definition.attributes.iter().filter(|(name, _)| name.starts_with("value") || *name == "sparse_value");
    match (all.next(), all.next()) {
        (Some((name, value)), None) => match (name.as_str(), value) {
            ("value", Attribute::Tensor(value)) => Ok(value.clone()),
            ("value_float", Attribute::Float(value)) => Ok(Tensor::scalar(*value)),
            ("value_floats", Attribute::Floats(value)) => Ok(Tensor::vector(value.clone())),
            ("value_int", Attribute::Int(value)) => Ok(Tensor::scalar(*value)),
            ("value_ints", Attribute::Ints(value)) => Ok(Tensor::vector(value.clone())),
            _ => Err(Fault::Unsupported(format!("a constant by `{name}`"))),
        },
        _ => Err(Fault::shape("not one attribute `value`", "one")),
    }
}

impl Operator for Constant {
    fn name(&self) -> &'static str {
        "Constant"
    }

    fn run(&self, _: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        Ok(vec![self.tensor.clone()])
    }
}

impl Operator for ConstantOfShape {
    fn name(&self) -> &'static str {
        "ConstantOfShape"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let shape = inputs.integers(0)?.into_iter().map(size).collect::<Result<Vec<_>, _>>()?;
        let data = moved!(self.value.data(), x => {
            let mut out = Bits::room(context, &shape)?;
            out.fill(x[0]);
            out
        });
        Ok(vec![tensor(shape, data)?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}

impl Operator for Range {
    fn name(&self) -> &'static str {
        "Range"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let made = match inputs.get(0)?.data() {
            Data::F32(_) => {
                let [start, end, step] = three::<f32>(inputs)?.map(f64::from);
                // In f32 as the reference has it: start + step * i.
                let at = |i: usize| start as f32 + step as f32 * i as f32;
                Tensor::vector(series(steps(start, end, step), at, context)?)
            }
            Data::F64(_) => {
                let [start, end, step] = three::<f64>(inputs)?;
                Tensor::vector(series(steps(start, end, step), |i| start + step * i as f64, context)?)
            }
            Data::I64(_) => {
                let all = three::<i64>(inputs)?;
                Tensor::vector(series(whole(all), |i| all[0].wrapping_add(all[2].wrapping_mul(i as i64)), context)?)
            }
            Data::I32(_) => {
                let all = three::<i32>(inputs)?;
                let at = |i: usize| all[0].wrapping_add(all[2].wrapping_mul(i as i32));
                Tensor::vector(series(whole(all.map(i64::from)), at, context)?)
            }
            Data::I16(_) => {
                let all = three::<i16>(inputs)?;
                let at = |i: usize| all[0].wrapping_add(all[2].wrapping_mul(i as i16));
                Tensor::vector(series(whole(all.map(i64::from)), at, context)?)
            }
            _ => return Err(Fault::dtype(0, inputs.get(0)?, "float, double, int16, int32 or int64")),
        };
        Ok(vec![made])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}

/// Start, end and step.
fn three<T: Element>(inputs: &Inputs) -> Result<[T; 3], Fault> {
    let one = |index| match inputs.elements::<T>(index, "the type of the start")? {
        [one] => Ok(*one),
        all => Err(Fault::shape(format!("input {index} of {} numbers", all.len()), "one")),
    };
    Ok([one(0)?, one(1)?, one(2)?])
}

/// How many numbers there are; none where that is no number.
fn steps(start: f64, end: f64, step: f64) -> Option<usize> {
    let count = ((end - start) / step).ceil().max(0.0);
    (step != 0.0 && count < 1e18).then_some(count as usize)
}

fn whole([start, end, step]: [i64; 3]) -> Option<usize> {
    let (way, step) = (i128::from(end) - i128::from(start), i128::from(step));
    let (way, step) = if step < 0 { (-way, -step) } else { (way, step) };
    let more = way.max(0).checked_add(step - 1)?;
    more.checked_div(step).and_then(|count| usize::try_from(count).ok())
}

fn series<T>(count: Option<usize>, at: impl Fn(usize) -> T, context: &Context<'_>) -> Result<Vec<T>, Fault> {
    let count = count.ok_or_else(|| Fault::shape("a range without end", "another step"))?;
    context.len::<T>(&[count])?;
    Ok((0..count).map(at).collect())
}

impl Operator for EyeLike {
    fn name(&self) -> &'static str {
        "EyeLike"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let input = inputs.get(0)?;
        let [height, width] = *input.shape() else {
            return Err(Fault::shape(dims(input.shape()), "2 dimensions"));
        };
        let dtype = self.dtype.unwrap_or(input.dtype());
        let one = one(dtype);
        let mut bytes = vec![0u8; context.len::<[u8; 8]>(&[height, width])? * one.len()];
        for y in 0..height {
            let x = usize::try_from(self.diagonal.saturating_add(y as i64)).unwrap_or(usize::MAX);
            if x < width {
                bytes[(y * width + x) * one.len()..][..one.len()].copy_from_slice(&one);
            }
        }
        let data = Data::from_bytes(dtype, Bytes::from(bytes));
        let data = data.ok_or_else(|| Fault::Unsupported(format!("elements of {dtype}")))?;
        Ok(vec![tensor(vec![height, width], data)?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}

/// The bytes of a 1.
fn one(dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F32 => 1f32.to_le_bytes().to_vec(),
        Dtype::F64 => 1f64.to_le_bytes().to_vec(),
        Dtype::F16 => half::f16::ONE.to_le_bytes().to_vec(),
        Dtype::BF16 => half::bf16::ONE.to_le_bytes().to_vec(),
        Dtype::I64 | Dtype::U64 => 1u64.to_le_bytes().to_vec(),
        Dtype::I32 | Dtype::U32 => 1u32.to_le_bytes().to_vec(),
        Dtype::I16 | Dtype::U16 => 1u16.to_le_bytes().to_vec(),
        _ => vec![1],
    }
}

impl Operator for Shape {
    fn name(&self) -> &'static str {
        "Shape"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let shape = inputs.get(0)?.shape();
        let rank = shape.len() as i64;
        let place = |at: i64| (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank) as usize;
        let (start, end) = (place(self.start), place(self.end.unwrap_or(rank)));
        let some = shape.get(start..end).unwrap_or_default();
        Ok(vec![Tensor::vector(some.iter().map(|dim| *dim as i64).collect())])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}

impl Operator for Size {
    fn name(&self) -> &'static str {
        "Size"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        Ok(vec![Tensor::scalar(inputs.get(0)?.len() as i64)])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}
