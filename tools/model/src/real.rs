//! The float types that operators compute in, and those that they widen to them.

use std::borrow::Cow;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use gemm_common::Parallelism;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::fault::Fault;
use crate::operator::{Context, Inputs};
use crate::tensor::{Buffer, Data, Dtype, Element, Tensor};

/// `gemm` of the crate of that name: m, n, k; the target, its strides, whether it is added to;
/// left and right with theirs; the factors of target and product; what is conjugated; the threads.
/// Strides are of columns, then of rows.
pub(crate) type Product<T> = unsafe fn(
    usize,
    usize,
    usize,
    *mut T,
    isize,
    isize,
    bool,
    *const T,
    isize,
    isize,
    *const T,
    isize,
    isize,
    T,
    T,
    bool,
    bool,
    bool,
    Parallelism,
);

/// A type to compute in: f32, for halves too, and f64.
pub(crate) trait Real:
    Element
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + std::iter::Sum
{
    const ZERO: Self;
    const ONE: Self;
    const LOWEST: Self;

    /// The nearest to a number.
    fn near(x: f64) -> Self;

    /// The same number.
    fn wide(self) -> f64;

    /// Elements for a result of that shape.
    ///
    /// # Errors
    ///
    /// [`Fault::TooLarge`].
    fn buffer(context: &Context<'_>, shape: &[usize]) -> Result<Vec<Self>, Fault>;

    /// The numbers of any float type, as this one.
    fn widened(data: &Data) -> Option<Cow<'_, [Self]>>;

    /// What multiplies matrices of this type; none for those that we multiply ourselves.
    fn product() -> Option<Product<Self>>;

    fn exp(self) -> Self;
    fn tanh(self) -> Self;
    fn ln_1p(self) -> Self;
    fn abs(self) -> Self;
    fn sqrt(self) -> Self;
    fn powf(self, exponent: Self) -> Self;
    fn max(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;
}

macro_rules! functions {
    ($($name:ident),*) => {
        $(fn $name(self) -> Self {
            self.$name()
        })*
    };
}

macro_rules! pairs {
    ($($name:ident),*) => {
        $(fn $name(self, other: Self) -> Self {
            self.$name(other)
        })*
    };
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = Self::NEG_INFINITY;

    fn near(x: f64) -> Self {
        x as Self
    }

    fn wide(self) -> f64 {
        f64::from(self)
    }

    fn buffer(context: &Context<'_>, shape: &[usize]) -> Result<Vec<Self>, Fault> {
        context.buffer(shape)
    }

    fn widened(data: &Data) -> Option<Cow<'_, [Self]>> {
        Some(match data {
            Data::F32(all) => Cow::Borrowed(all.as_slice()),
            Data::F16(all) => Cow::Owned(all.as_slice().to_f32_vec()),
            Data::Bf16(all) => Cow::Owned(all.as_slice().to_f32_vec()),
            Data::F64(all) => Cow::Owned(all.as_slice().iter().map(|x| *x as Self).collect()),
            _ => return None,
        })
    }

    fn product() -> Option<Product<Self>> {
        None
    }

    functions!(exp, tanh, ln_1p, abs, sqrt);
    pairs!(powf, max, min);
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = Self::NEG_INFINITY;

    fn near(x: f64) -> Self {
        x
    }

    fn wide(self) -> f64 {
        self
    }

    fn buffer(context: &Context<'_>, shape: &[usize]) -> Result<Vec<Self>, Fault> {
        Ok(vec![0.0; context.len::<Self>(shape)?])
    }

    fn widened(data: &Data) -> Option<Cow<'_, [Self]>> {
        Some(match data {
            Data::F64(all) => Cow::Borrowed(all.as_slice()),
            Data::F32(all) => Cow::Owned(all.as_slice().iter().map(|x| Self::from(*x)).collect()),
            Data::F16(all) => Cow::Owned(all.as_slice().to_f64_vec()),
            Data::Bf16(all) => Cow::Owned(all.as_slice().to_f64_vec()),
            _ => return None,
        })
    }

    fn product() -> Option<Product<Self>> {
        Some(gemm_f64::gemm::f64::get_gemm_fn())
    }

    functions!(exp, tanh, ln_1p, abs, sqrt);
    pairs!(powf, max, min);
}

/// The numbers of input `index`, which are of a float type.
///
/// # Errors
///
/// An input that is not there, or of another type.
pub(crate) fn reals<T: Real>(inputs: &Inputs, index: usize) -> Result<Cow<'_, [T]>, Fault> {
    let tensor = inputs.get(index)?;
    T::widened(tensor.data()).ok_or_else(|| Fault::dtype(index, tensor, "a float type"))
}

/// A result of that float type, which its numbers are rounded to.
///
/// # Errors
///
/// Another type, and numbers that are not as many as the shape says.
pub(crate) fn rounded<T: Real>(dtype: Dtype, shape: Vec<usize>, all: Vec<T>) -> Result<Tensor, Fault> {
    let found = all.len();
    let data = match dtype {
        Dtype::F16 => Data::F16(Buffer::from(all.iter().map(|x| f16::from_f64(x.wide())).collect::<Vec<_>>())),
        Dtype::BF16 => Data::Bf16(Buffer::from(all.iter().map(|x| bf16::from_f64(x.wide())).collect::<Vec<_>>())),
        _ if dtype == T::DTYPE => T::wrap(Buffer::from(all)),
        Dtype::F32 => Data::F32(Buffer::from(all.iter().map(|x| x.wide() as f32).collect::<Vec<_>>())),
        Dtype::F64 => Data::F64(Buffer::from(all.iter().map(|x| x.wide()).collect::<Vec<_>>())),
        _ => return Err(Fault::Unsupported(format!("a result of type {dtype}"))),
    };
    made(shape, data, found)
}

/// A tensor of elements that an operator computed.
///
/// # Errors
///
/// Elements that are not as many as the shape says.
pub(crate) fn made(shape: Vec<usize>, data: Data, found: usize) -> Result<Tensor, Fault> {
    let needs = crate::fault::dims(&shape);
    Tensor::new(shape, data).ok_or_else(|| Fault::shape(format!("a result of {found} elements"), needs))
}

/// How many elements a shape has.
///
/// # Errors
///
/// More than there are numbers for.
pub(crate) fn count(shape: &[usize]) -> Result<usize, Fault> {
    let wrong = || Fault::shape(format!("a shape of {}", crate::fault::dims(shape)), "one that fits in memory");
    crate::tensor::elements(shape).ok_or_else(wrong)
}

/// Does the same in f64 for f64 and in f32 for the other float types:
/// `in_reals!(dtype, T => expression)`.
macro_rules! in_reals {
    ($dtype:expr, $real:ident => $body:expr) => {
        if $dtype == $crate::tensor::Dtype::F64 {
            type $real = f64;
            $body
        } else {
            type $real = f32;
            $body
        }
    };
}
pub(crate) use in_reals;
