//! Values of a graph: a shape and elements of one type, shared without copying.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use half::{bf16, f16};
pub use niwaki_tensors::Dtype;

/// An n-dimensional array, row-major. Copies share the elements.
#[derive(Clone)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

/// The elements of a [`Tensor`].
#[derive(Clone, Debug)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is the type that it is called")]
pub enum Data {
    F32(Buffer<f32>),
    F64(Buffer<f64>),
    F16(Buffer<f16>),
    Bf16(Buffer<bf16>),
    I64(Buffer<i64>),
    I32(Buffer<i32>),
    I16(Buffer<i16>),
    I8(Buffer<i8>),
    U64(Buffer<u64>),
    U32(Buffer<u32>),
    U16(Buffer<u16>),
    U8(Buffer<u8>),
    /// Each 0 or 1.
    Bool(Buffer<u8>),
}

/// Elements: owned and shared, or a view into a file that is mapped.
#[derive(Clone)]
pub struct Buffer<T>(Repr<T>);

#[derive(Clone)]
enum Repr<T> {
    Owned(Arc<Vec<T>>),
    /// Aligned for `T`, and of a whole number of them.
    Mapped(Bytes),
}

/// A type that elements have. Truth values are no type of their own: see [`Data::Bool`].
pub trait Element: bytemuck::Pod + Default + PartialOrd + fmt::Debug + Send + Sync {
    /// Its name.
    const DTYPE: Dtype;

    /// The elements, where they are of this type.
    fn of(data: &Data) -> Option<&Buffer<Self>>;

    /// The same, to be changed.
    fn of_mut(data: &mut Data) -> Option<&mut Buffer<Self>>;

    /// Elements of this type.
    fn wrap(buffer: Buffer<Self>) -> Data;
}

macro_rules! elements {
    ($($type:ty, $variant:ident, $dtype:ident;)*) => {
        $(impl Element for $type {
            const DTYPE: Dtype = Dtype::$dtype;

            fn of(data: &Data) -> Option<&Buffer<Self>> {
                match data { Data::$variant(buffer) => Some(buffer), _ => None }
            }

            fn of_mut(data: &mut Data) -> Option<&mut Buffer<Self>> {
                match data { Data::$variant(buffer) => Some(buffer), _ => None }
            }

            fn wrap(buffer: Buffer<Self>) -> Data {
                Data::$variant(buffer)
            }
        })*
    };
}

elements! {
    f32, F32, F32;
    f64, F64, F64;
    f16, F16, F16;
    bf16, Bf16, BF16;
    i64, I64, I64;
    i32, I32, I32;
    i16, I16, I16;
    i8, I8, I8;
    u64, U64, U64;
    u32, U32, U32;
    u16, U16, U16;
    u8, U8, U8;
}

/// Does the same for elements of every type: `each!(data, buffer => expression)`. The expression
/// sees a [`Buffer`]; truth values come as `u8`.
#[macro_export]
macro_rules! each {
    ($data:expr, $buffer:ident => $body:expr) => {
        match $data {
            $crate::Data::F32($buffer) => $body,
            $crate::Data::F64($buffer) => $body,
            $crate::Data::F16($buffer) => $body,
            $crate::Data::Bf16($buffer) => $body,
            $crate::Data::I64($buffer) => $body,
            $crate::Data::I32($buffer) => $body,
            $crate::Data::I16($buffer) => $body,
            $crate::Data::I8($buffer) => $body,
            $crate::Data::U64($buffer) => $body,
            $crate::Data::U32($buffer) => $body,
            $crate::Data::U16($buffer) => $body,
            $crate::Data::U8($buffer) | $crate::Data::Bool($buffer) => $body,
        }
    };
}

/// Makes elements of the same type: `same!(data, buffer => expression)`, where the expression is a
/// `Vec` of the elements' type; the result is [`Data`] of the variant that was given.
#[macro_export]
macro_rules! same {
    ($data:expr, $buffer:ident => $body:expr) => {
        match $data {
            $crate::Data::F32($buffer) => $crate::Data::F32($crate::Buffer::from($body)),
            $crate::Data::F64($buffer) => $crate::Data::F64($crate::Buffer::from($body)),
            $crate::Data::F16($buffer) => $crate::Data::F16($crate::Buffer::from($body)),
            $crate::Data::Bf16($buffer) => $crate::Data::Bf16($crate::Buffer::from($body)),
            $crate::Data::I64($buffer) => $crate::Data::I64($crate::Buffer::from($body)),
            $crate::Data::I32($buffer) => $crate::Data::I32($crate::Buffer::from($body)),
            $crate::Data::I16($buffer) => $crate::Data::I16($crate::Buffer::from($body)),
            $crate::Data::I8($buffer) => $crate::Data::I8($crate::Buffer::from($body)),
            $crate::Data::U64($buffer) => $crate::Data::U64($crate::Buffer::from($body)),
            $crate::Data::U32($buffer) => $crate::Data::U32($crate::Buffer::from($body)),
            $crate::Data::U16($buffer) => $crate::Data::U16($crate::Buffer::from($body)),
            $crate::Data::U8($buffer) => $crate::Data::U8($crate::Buffer::from($body)),
            $crate::Data::Bool($buffer) => $crate::Data::Bool($crate::Buffer::from($body)),
        }
    };
}

impl<T> From<Vec<T>> for Buffer<T> {
    fn from(elements: Vec<T>) -> Self {
        Self(Repr::Owned(Arc::new(elements)))
    }
}

impl<T: Element> Buffer<T> {
    /// Elements in little-endian bytes: a view where they are aligned, else a copy. None where the
    /// bytes are no whole number of them.
    pub fn from_bytes(bytes: Bytes) -> Option<Self> {
        if !bytes.len().is_multiple_of(size_of::<T>()) {
            return None;
        }
        if cfg!(target_endian = "little") && bytemuck::try_cast_slice::<u8, T>(&bytes).is_ok() {
            return Some(Self(Repr::Mapped(bytes)));
        }
        let mut elements = vec![T::default(); bytes.len() / size_of::<T>()];
        for (element, bytes) in elements.iter_mut().zip(bytes.chunks_exact(size_of::<T>())) {
            let target = bytemuck::bytes_of_mut(element);
            target.copy_from_slice(bytes);
            if cfg!(target_endian = "big") {
                target.reverse();
            }
        }
        Some(Self::from(elements))
    }

    /// The elements.
    pub fn as_slice(&self) -> &[T] {
        match &self.0 {
            Repr::Owned(elements) => elements,
            Repr::Mapped(bytes) => bytemuck::cast_slice(bytes),
        }
    }

    /// The elements, to be changed: in place where nobody shares them.
    pub fn to_mut(&mut self) -> &mut Vec<T> {
        if let Repr::Mapped(bytes) = &self.0 {
            self.0 = Repr::Owned(Arc::new(bytemuck::cast_slice(bytes).to_vec()));
        }
        match &mut self.0 {
            Repr::Owned(elements) => Arc::make_mut(elements),
            Repr::Mapped(_) => unreachable!("it was just made an owned one"),
        }
    }

    /// Whether nobody else sees these elements.
    pub fn is_alone(&self) -> bool {
        matches!(&self.0, Repr::Owned(elements) if Arc::strong_count(elements) == 1)
    }

    /// The elements, copied where somebody shares them.
    pub fn into_vec(self) -> Vec<T> {
        match self.0 {
            Repr::Owned(elements) => Arc::try_unwrap(elements).unwrap_or_else(|shared| (*shared).clone()),
            Repr::Mapped(bytes) => bytemuck::cast_slice(&bytes).to_vec(),
        }
    }

    /// Bytes that are in memory of our own.
    fn owned_bytes(&self) -> usize {
        match &self.0 {
            Repr::Owned(elements) => elements.len() * size_of::<T>(),
            Repr::Mapped(_) => 0,
        }
    }
}

impl<T: Element> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.as_slice();
        let few = all.get(..all.len().min(8)).unwrap_or_default();
        write!(f, "{few:?}{}", if all.len() > 8 { ".." } else { "" })
    }
}

impl Data {
    /// Their type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F64(_) => Dtype::F64,
            Self::F16(_) => Dtype::F16,
            Self::Bf16(_) => Dtype::BF16,
            Self::I64(_) => Dtype::I64,
            Self::I32(_) => Dtype::I32,
            Self::I16(_) => Dtype::I16,
            Self::I8(_) => Dtype::I8,
            Self::U64(_) => Dtype::U64,
            Self::U32(_) => Dtype::U32,
            Self::U16(_) => Dtype::U16,
            Self::U8(_) => Dtype::U8,
            Self::Bool(_) => Dtype::BOOL,
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        each!(self, buffer => buffer.as_slice().len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        each!(self, buffer => size_of_val(buffer.as_slice()))
    }

    /// Elements of a type in little-endian bytes. None for types that graphs do not compute with,
    /// and bytes that are no whole number of elements; truth values become 0 and 1.
    pub fn from_bytes(dtype: Dtype, bytes: Bytes) -> Option<Self> {
        Some(match dtype {
            Dtype::F32 => Self::F32(Buffer::from_bytes(bytes)?),
            Dtype::F64 => Self::F64(Buffer::from_bytes(bytes)?),
            Dtype::F16 => Self::F16(Buffer::from_bytes(bytes)?),
            Dtype::BF16 => Self::Bf16(Buffer::from_bytes(bytes)?),
            Dtype::I64 => Self::I64(Buffer::from_bytes(bytes)?),
            Dtype::I32 => Self::I32(Buffer::from_bytes(bytes)?),
            Dtype::I16 => Self::I16(Buffer::from_bytes(bytes)?),
            Dtype::I8 => Self::I8(Buffer::from_bytes(bytes)?),
            Dtype::U64 => Self::U64(Buffer::from_bytes(bytes)?),
            Dtype::U32 => Self::U32(Buffer::from_bytes(bytes)?),
            Dtype::U16 => Self::U16(Buffer::from_bytes(bytes)?),
            Dtype::U8 => Self::U8(Buffer::from_bytes(bytes)?),
            Dtype::BOOL => Self::Bool(Buffer::from(bytes.iter().map(|byte| u8::from(*byte != 0)).collect::<Vec<_>>())),
            _ => return None,
        })
    }

    /// The elements in little-endian bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        each!(self, buffer => {
            let mut bytes = bytemuck::cast_slice::<_, u8>(buffer.as_slice()).to_vec();
            if cfg!(target_endian = "big") {
                let size = bytes.len() / buffer.as_slice().len().max(1);
                bytes.chunks_exact_mut(size.max(1)).for_each(<[u8]>::reverse);
            }
            bytes
        })
    }
}

impl Tensor {
    /// A tensor of that shape. None where the elements are not as many, and for shapes without
    /// [`elements`].
    pub fn new(shape: impl Into<Vec<usize>>, data: Data) -> Option<Self> {
        let shape = shape.into();
        (elements(&shape)? == data.len()).then_some(Self { shape, data })
    }

    /// A tensor of elements of one type. None where they are not as many as the shape says.
    pub fn of<T: Element>(shape: impl Into<Vec<usize>>, elements: Vec<T>) -> Option<Self> {
        Self::new(shape, T::wrap(Buffer::from(elements)))
    }

    /// A tensor without dimensions.
    pub fn scalar<T: Element>(value: T) -> Self {
        Self { shape: Vec::new(), data: T::wrap(Buffer::from(vec![value])) }
    }

    /// A vector.
    pub fn vector<T: Element>(elements: Vec<T>) -> Self {
        Self { shape: vec![elements.len()], data: T::wrap(Buffer::from(elements)) }
    }

    /// Its dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many dimensions it has.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The type of its elements.
    pub fn dtype(&self) -> Dtype {
        self.data.dtype()
    }

    /// Its elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Its elements, to be changed, but not in number.
    pub fn data_mut(&mut self) -> &mut Data {
        &mut self.data
    }

    /// Its elements, on their own.
    pub fn into_data(self) -> Data {
        self.data
    }

    /// Its elements as that type; none where they are of another.
    pub fn get<T: Element>(&self) -> Option<&[T]> {
        T::of(&self.data).map(Buffer::as_slice)
    }

    /// The same elements in another shape. None where that has not as many.
    pub fn reshaped(self, shape: impl Into<Vec<usize>>) -> Option<Self> {
        Self::new(shape, self.data)
    }

    /// Whether nobody else sees its elements.
    pub fn is_alone(&self) -> bool {
        each!(&self.data, buffer => buffer.is_alone())
    }

    /// Bytes of memory that it holds for itself or together with others.
    pub fn owned_bytes(&self) -> usize {
        each!(&self.data, buffer => buffer.owned_bytes())
    }
}

/// Elements of a shape; none where the product of its dimensions, those of 0 aside, does not fit: so
/// the product of any dimensions of a tensor does.
pub fn elements(shape: &[usize]) -> Option<usize> {
    let all = shape.iter().try_fold(1usize, |all, dim| all.checked_mul((*dim).max(1)))?;
    Some(if shape.contains(&0) { 0 } else { all })
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?}", self.dtype(), self.shape, self.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_nothing_have_sizes_that_fit() {
        let of = |shape: &[usize]| Tensor::of::<f32>(shape, Vec::new());
        assert!(of(&[0, 1 << 40]).is_some_and(|tensor| tensor.is_empty()));
        for shape in [[0, 1 << 40, 1 << 40], [1 << 40, 0, 1 << 40], [1 << 40, 1 << 40, 0]] {
            assert!(of(&shape).is_none(), "{shape:?}");
        }
        assert_eq!((elements(&[]), elements(&[3, 0]), elements(&[2, 3])), (Some(1), Some(0), Some(6)));
    }
}
