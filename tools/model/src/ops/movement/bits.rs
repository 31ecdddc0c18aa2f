//! Elements by their width alone: what moves them need not know what they mean.

use crate::fault::Fault;
use crate::operator::Context;
use crate::tensor::{Data, Tensor};

/// Elements of one width.
pub(super) trait Bits: bytemuck::Pod + Default + Send + Sync {
    /// Room for a result of that shape, all of which has to be written.
    fn room(context: &Context<'_>, shape: &[usize]) -> Result<Vec<Self>, Fault>;
}

macro_rules! bits {
    ($($type:ty)*) => {
        $(impl Bits for $type {
            fn room(context: &Context<'_>, shape: &[usize]) -> Result<Vec<Self>, Fault> {
                Ok(vec![0; context.len::<Self>(shape)?])
            }
        })*
    };
}

bits! { u8 u16 u64 }

impl Bits for u32 {
    fn room(context: &Context<'_>, shape: &[usize]) -> Result<Vec<Self>, Fault> {
        // The pool's buffers are of f32, which is as wide.
        context.buffer(shape).map(bytemuck::cast_vec)
    }
}

/// `moved!(data, x => expression)`: data of the same type, from its elements as unsigned numbers of
/// their width. The expression is a `Vec` of those.
macro_rules! moved {
    ($data:expr, $x:ident => $body:expr) => {{
        use $crate::tensor::Data;
        macro_rules! with {
            ($variant:ident, $buffer:expr, $bits:ty) => {{
                let $x: &[$bits] = bytemuck::cast_slice($buffer.as_slice());
                Data::$variant($crate::Buffer::from(bytemuck::cast_vec::<$bits, _>($body)))
            }};
        }
        match $data {
            Data::F32(buffer) => with!(F32, buffer, u32),
            Data::F64(buffer) => with!(F64, buffer, u64),
            Data::F16(buffer) => with!(F16, buffer, u16),
            Data::Bf16(buffer) => with!(Bf16, buffer, u16),
            Data::I64(buffer) => with!(I64, buffer, u64),
            Data::I32(buffer) => with!(I32, buffer, u32),
            Data::I16(buffer) => with!(I16, buffer, u16),
            Data::I8(buffer) => with!(I8, buffer, u8),
            Data::U64(buffer) => with!(U64, buffer, u64),
            Data::U32(buffer) => with!(U32, buffer, u32),
            Data::U16(buffer) => with!(U16, buffer, u16),
            Data::U8(buffer) => with!(U8, buffer, u8),
            Data::Bool(buffer) => with!(Bool, buffer, u8),
        }
    }};
}

pub(super) use moved;

/// The elements of a tensor as others of their width; none where they are of another.
pub(super) fn bits<T: bytemuck::Pod>(tensor: &Tensor) -> Option<&[T]> {
    crate::each!(tensor.data(), buffer => bytemuck::try_cast_slice(buffer.as_slice()).ok())
}

/// A tensor of a shape that its elements were made for.
pub(super) fn tensor(shape: Vec<usize>, data: Data) -> Result<Tensor, Fault> {
    let len = data.len();
    let found = || Fault::shape(format!("{len} elements"), crate::fault::dims(&shape));
    Tensor::new(shape.clone(), data).ok_or_else(found)
}
