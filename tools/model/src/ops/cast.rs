//! Changes of type.

use rayon::prelude::*;

use crate::attributes::Definition;
use crate::each;
use crate::fault::Fault;
use crate::kernels::parts::PART;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::binary::made;
use crate::ops::element_type::dtype;
use crate::ops::halves::Half;
use crate::ops::number::Number;
use crate::ops::{Built, some};
use crate::reverse::{Keeps, Pass, Pullback, Reverse};
use crate::tensor::{Buffer, Data, Dtype, Tensor};

/// Elements of another type.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    /// That type.
    pub to: Dtype,
}

/// Elements of the type of another tensor.
#[derive(Clone, Copy, Debug)]
pub struct CastLike;

/// The bits of elements as elements of another type of the same size.
#[derive(Clone, Copy, Debug)]
pub struct BitCast {
    /// That type.
    pub to: Dtype,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    let to = || dtype(definition.int("to")?.ok_or_else(|| Fault::shape("no attribute `to`", "a type"))?);
    match definition.op.as_str() {
        "Cast" => some(Cast { to: to()? }),
        "BitCast" if definition.domain.is_empty() => some(BitCast { to: to()? }),
        "CastLike" => some(CastLike),
        _ => Ok(None),
    }
}

impl Operator for Cast {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        cast(inputs.take(0)?, self.to, context).map(|y| vec![y])
    }

    fn reverse(&self) -> Reverse<'_> {
        if is_float(self.to) { Reverse::Flows(self) } else { Reverse::Stops }
    }
}

impl Operator for CastLike {
    fn name(&self) -> &'static str {
        "CastLike"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let to = inputs.get(1)?.dtype();
        cast(inputs.take(0)?, to, context).map(|y| vec![y])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl Operator for BitCast {
    fn name(&self) -> &'static str {
        "BitCast"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let x = inputs.get(0)?;
        if x.dtype() == self.to {
            return inputs.take(0).map(|x| vec![x]);
        }
        context.len::<u64>(x.shape())?;
        if x.dtype().bitsize() != self.to.bitsize() {
            return Err(Fault::shape(format!("{} as {}", x.dtype(), self.to), "types of the same size"));
        }
        let data = Data::from_bytes(self.to, x.data().to_bytes().into());
        let data = data.ok_or_else(|| Fault::Unsupported(self.to.to_string()))?;
        made(x.shape().to_vec(), data).map(|y| vec![y])
    }
}

/// The same tensor with elements of another type.
///
/// # Errors
///
/// [`Fault::TooLarge`], and types that are not computed with.
pub(crate) fn cast(tensor: Tensor, to: Dtype, context: &Context<'_>) -> Result<Tensor, Fault> {
    if tensor.dtype() == to {
        return Ok(tensor);
    }
    if to == Dtype::F32 && Half::of(tensor.dtype()).is_some() {
        context.len::<f32>(tensor.shape())?;
        return Ok(tensor.widened());
    }
    if let (Data::F32(x), Some(half)) = (tensor.data(), Half::of(to)) {
        return made(tensor.shape().to_vec(), half.round(x.as_slice()));
    }
    context.len::<u64>(tensor.shape())?;
    let data = each!(tensor.data(), x => all(x.as_slice(), to)).ok_or_else(|| Fault::Unsupported(to.to_string()))?;
    made(tensor.shape().to_vec(), data)
}

fn all<T: Number>(x: &[T], to: Dtype) -> Option<Data> {
    Some(match to {
        Dtype::F32 => Data::F32(of(x, T::cast)),
        Dtype::F64 => Data::F64(of(x, T::cast)),
        Dtype::F16 => Data::F16(of(x, T::cast)),
        Dtype::BF16 => Data::Bf16(of(x, T::cast)),
        Dtype::I64 => Data::I64(of(x, T::cast)),
        Dtype::I32 => Data::I32(of(x, T::cast)),
        Dtype::I16 => Data::I16(of(x, T::cast)),
        Dtype::I8 => Data::I8(of(x, T::cast)),
        Dtype::U64 => Data::U64(of(x, T::cast)),
        Dtype::U32 => Data::U32(of(x, T::cast)),
        Dtype::U16 => Data::U16(of(x, T::cast)),
        Dtype::U8 => Data::U8(of(x, T::cast)),
        Dtype::BOOL => Data::Bool(of(x, |x| u8::from(x != T::default()))),
        _ => return None,
    })
}

fn of<T: Number, U: Number>(x: &[T], change: impl Fn(T) -> U + Sync) -> Buffer<U> {
    let mut y = vec![U::default(); x.len()];
    y.par_chunks_mut(PART).zip(x.par_chunks(PART)).for_each(|(y, x)| {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = change(*x));
    });
    Buffer::from(y)
}

/// Whether gradients pass a change to that type: not to whole numbers.
fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
}

impl Pullback for Cast {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let gradient = pass.take_gradient(0)?;
        cast(gradient, pass.dtype(0)?, context).map(|gradient| vec![Some(gradient)])
    }
}

impl Pullback for CastLike {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let gradient = pass.take_gradient(0)?;
        cast(gradient, pass.dtype(0)?, context).map(|gradient| vec![Some(gradient), None])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::attributes::Attribute;
    use crate::ops::trial::{definition, elements, run, tensor};

    fn cast_to(code: i64, x: Tensor) -> Result<Tensor, Fault> {
        run(&definition("Cast", &[("to", Attribute::Int(code))]), &[Some(x)]).map(|y| y[0].clone())
    }

    #[test]
    fn elements_change_their_type() {
        let x = tensor(&[2, 2], &[-1.5f32, 0.0, 0.5, 300.0]);
        assert_eq!(elements::<i64>(&cast_to(7, x.clone()).unwrap()), [-1, 0, 0, 300]);
        assert_eq!(elements::<u8>(&cast_to(2, x.clone()).unwrap()), [0, 0, 0, 255]);
        let truth = cast_to(9, x.clone()).unwrap();
        assert!(matches!(truth.data(), Data::Bool(x) if x.as_slice() == [1, 0, 1, 1]));
        assert_eq!(elements::<f32>(&cast_to(1, truth).unwrap()), [1.0, 0.0, 1.0, 1.0]);
        let halves = cast_to(10, x.clone()).unwrap();
        assert_eq!(elements::<f16>(&halves)[3], f16::from_f32(300.0));
        assert_eq!(elements::<bf16>(&cast_to(16, halves.clone()).unwrap())[0], bf16::from_f32(-1.5));
        assert_eq!(elements::<f32>(&cast_to(1, halves).unwrap()), elements::<f32>(&x));
        let bits = |to: i64, x: &Tensor| {
            run(&definition("BitCast", &[("to", Attribute::Int(to))]), &[Some(x.clone())]).map(|y| y[0].clone())
        };
        assert_eq!(elements::<u32>(&bits(12, &x).unwrap())[0], (-1.5f32).to_bits());
        assert_eq!(elements::<f32>(&bits(1, &bits(6, &x).unwrap()).unwrap()), elements::<f32>(&x));
        assert_eq!(bits(10, &x).unwrap_err().to_string(), "F32 as F16, types of the same size expected");
        assert_eq!(cast_to(8, x).unwrap_err().to_string(), "an element type of number 8 is not supported");
    }
}
