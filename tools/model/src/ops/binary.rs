//! Arithmetic of two tensors that broadcast.

mod back;

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use crate::attributes::Definition;
use crate::fault::Fault;
use crate::kernels::{math, parts};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::cast::cast;
use crate::ops::halves::Half;
use crate::ops::number::Number;
use crate::ops::spread::Spread;
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::{Buffer, Data, Dtype, Element, Tensor};

/// What is done with two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// a + b.
    Add,
    /// a - b.
    Sub,
    /// a b.
    Mul,
    /// a / b; cut off for whole numbers.
    Div,
    /// The larger; what is no number stays.
    Max,
    /// The smaller; what is no number stays.
    Min,
    /// a, or a b where a is negative.
    PRelu,
    /// a to the power of b.
    Pow,
    /// The remainder of a / b, with the sign of b.
    Mod,
    /// The remainder of a / b, with the sign of a.
    Fmod,
}

/// Arithmetic of two tensors that broadcast.
#[derive(Clone, Copy, Debug)]
pub struct Binary {
    /// What is done.
    pub operation: Operation,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    if definition.opset < 7 && definition.attributes.contains_key("broadcast") {
        return Err(Fault::Unsupported("the attribute `broadcast` of opsets before 7".to_owned()));
    }
    let operation = match definition.op.as_str() {
        "Add" => Operation::Add,
        "Sub" => Operation::Sub,
        "Mul" => Operation::Mul,
        "Div" => Operation::Div,
        "PRelu" => Operation::PRelu,
        "Pow" => Operation::Pow,
        "Mod" if definition.flag("fmod")? => Operation::Fmod,
        "Mod" => Operation::Mod,
        _ => return Ok(None),
    };
    some(Binary { operation })
}

impl Operator for Binary {
    fn name(&self) -> &'static str {
        match self.operation {
            Operation::Add => "Add",
            Operation::Sub => "Sub",
            Operation::Mul => "Mul",
            Operation::Div => "Div",
            Operation::Max => "Max",
            Operation::Min => "Min",
            Operation::PRelu => "PRelu",
            Operation::Pow => "Pow",
            Operation::Mod | Operation::Fmod => "Mod",
        }
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        if self.operation == Operation::Pow {
            return power(inputs, context).map(|y| vec![y]);
        }
        let (a, b) = (inputs.take(0)?, inputs.take(1)?);
        combine(self.operation, a, b, context).map(|y| vec![y])
    }

    fn reverse(&self) -> Reverse<'_> {
        match self.operation {
            Operation::Mod | Operation::Fmod => Reverse::Missing,
            _ => Reverse::Flows(self),
        }
    }
}

/// One tensor of two of the same type.
///
/// # Errors
///
/// Types that differ, and shapes that do not broadcast.
pub(crate) fn combine(operation: Operation, a: Tensor, b: Tensor, context: &Context<'_>) -> Result<Tensor, Fault> {
    if a.dtype() != b.dtype() {
        return Err(Fault::shape(format!("{} and {}", a.dtype(), b.dtype()), "the same type"));
    }
    if let Some(half) = Half::of(a.dtype()) {
        let run = |inputs: &mut Inputs| combine(operation, inputs.take(0)?, inputs.take(1)?, context).map(|y| vec![y]);
        let mut outputs = half.run(&mut Inputs::new(vec![Some(a), Some(b)]), 1, run)?;
        return outputs.pop().ok_or(Fault::Missing { input: 0 });
    }
    let spread = Spread::new([a.shape(), b.shape()])?;
    let alone = (a.is_alone() && a.shape() == spread.shape, b.is_alone() && b.shape() == spread.shape);
    let shape = spread.shape.clone();
    let data = match (a.into_data(), b.into_data()) {
        (Data::F32(a), Data::F32(b)) => {
            let kernel = kernel(operation);
            let (sides, out) = match alone {
                (true, _) => (Sides::Left(b.as_slice()), a.into_vec()),
                (_, true) => (Sides::Right(a.as_slice()), b.into_vec()),
                _ => (Sides::Both(a.as_slice(), b.as_slice()), context.buffer(&shape)?),
            };
            Data::F32(Buffer::from(single(&spread, sides, out, kernel)))
        }
        (Data::F64(a), Data::F64(b)) => general(operation, &spread, &a, &b, context)?,
        (Data::I64(a), Data::I64(b)) => general(operation, &spread, &a, &b, context)?,
        (Data::I32(a), Data::I32(b)) => general(operation, &spread, &a, &b, context)?,
        (Data::I16(a), Data::I16(b)) => general(operation, &spread, &a, &b, context)?,
        (Data::I8(a), Data::I8(b)) => general(operation, &spread, &a, &b, context)?,
        (Data::U64(a), Data::U64(b)) => general(operation, &spread, &a, &b, context)?,
        (Data::U32(a), Data::U32(b)) => general(operation, &spread, &a, &b, context)?,
        (Data::U16(a), Data::U16(b)) => general(operation, &spread, &a, &b, context)?,
        (Data::U8(a), Data::U8(b)) => general(operation, &spread, &a, &b, context)?,
        (a, _) => return Err(Fault::Dtype { input: 0, found: a.dtype(), needs: "a number" }),
    };
    made(shape, data)
}

/// A tensor of as many elements as its shape was found to have.
pub(crate) fn made(shape: Vec<usize>, data: Data) -> Result<Tensor, Fault> {
    let found = data.len();
    Tensor::new(shape, data).ok_or_else(|| Fault::shape(format!("{found} elements"), "as many as the shape says"))
}

/// One operand along a row.
#[derive(Clone, Copy)]
pub(crate) enum Side<'r, T> {
    /// Its elements.
    Row(&'r [T]),
    /// One for all.
    One(T),
    /// What the result's place holds.
    Here,
}

/// Where the operands of a whole tensor are.
#[derive(Clone, Copy)]
enum Sides<'r, T> {
    /// Both elsewhere.
    Both(&'r [T], &'r [T]),
    /// The left one in the result's place, the right one here.
    Left(&'r [T]),
    /// The right one in the result's place, the left one here.
    Right(&'r [T]),
}

/// Makes a row of two.
#[inline(always)]
fn row<T: Copy>(a: Side<'_, T>, b: Side<'_, T>, out: &mut [T], of: impl Fn(T, T) -> T) {
    match (a, b) {
        (Side::Row(a), Side::Row(b)) => out.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (a, b))| *y = of(*a, *b)),
        (Side::Row(a), Side::One(b)) => out.iter_mut().zip(a).for_each(|(y, a)| *y = of(*a, b)),
        (Side::One(a), Side::Row(b)) => out.iter_mut().zip(b).for_each(|(y, b)| *y = of(a, *b)),
        (Side::One(a), Side::One(b)) => out.fill(of(a, b)),
        (Side::Here, Side::Row(b)) => out.iter_mut().zip(b).for_each(|(y, b)| *y = of(*y, *b)),
        (Side::Here, Side::One(b)) => out.iter_mut().for_each(|y| *y = of(*y, b)),
        (Side::Row(a), Side::Here) => out.iter_mut().zip(a).for_each(|(y, a)| *y = of(*a, *y)),
        (Side::One(a), Side::Here) => out.iter_mut().for_each(|y| *y = of(a, *y)),
        (Side::Here, Side::Here) => out.iter_mut().for_each(|y| *y = of(*y, *y)),
    }
}

/// A row of single floats, made by one CPU level.
type Kernel = fn(Level, Side<'_, f32>, Side<'_, f32>, &mut [f32]);

macro_rules! kernels {
    ($($module:ident, $operation:pat, |$a:ident, $b:ident| $body:expr;)*) => {
        fn kernel(operation: Operation) -> Kernel {
            match operation {
                $($operation => $module::run,)*
            }
        }

        $(mod $module {
            use super::*;

            stamp! {
                pub(super) fn run = body(a: Side<'_, f32>, b: Side<'_, f32>, out: &mut [f32]) -> ();
            }

            #[inline(always)]
            fn body(a: Side<'_, f32>, b: Side<'_, f32>, out: &mut [f32]) {
                row(a, b, out, |$a, $b| $body);
            }
        })*
    };
}

kernels! {
    add, Operation::Add, |a, b| a + b;
    sub, Operation::Sub, |a, b| a - b;
    mul, Operation::Mul, |a, b| a * b;
    div, Operation::Div, |a, b| a / b;
    max, Operation::Max, |a, b| math::larger(a, b);
    min, Operation::Min, |a, b| math::smaller(a, b);
    prelu, Operation::PRelu, |a, b| if a < 0.0 { a * b } else { a };
    pow, Operation::Pow, |a, b| a.powf(b);
    floored, Operation::Mod, |a, b| Number::rem(a, b, true);
    cut, Operation::Fmod, |a, b| a % b;
}

/// Results that differ from row to row are computed in parts.
fn single(spread: &Spread<2>, sides: Sides<'_, f32>, mut out: Vec<f32>, kernel: Kernel) -> Vec<f32> {
    let level = Level::best();
    parts::each(&mut out, 1, |start, out| {
        spread.stretches(start, out.len(), |at, len, offsets| {
            let out = &mut out[at..at + len];
            match sides {
                Sides::Both(a, b) => {
                    kernel(level, stretch(spread, 0, a, offsets, len), stretch(spread, 1, b, offsets, len), out);
                }
                Sides::Left(b) => kernel(level, Side::Here, stretch(spread, 1, b, offsets, len), out),
                Sides::Right(a) => kernel(level, stretch(spread, 0, a, offsets, len), Side::Here, out),
            }
        });
    });
    out
}

/// A stretch of one of the tensors of a spread.
#[inline(always)]
pub(crate) fn stretch<'r, T: Copy, const N: usize>(
    spread: &Spread<N>,
    tensor: usize,
    x: &'r [T],
    offsets: [usize; N],
    len: usize,
) -> Side<'r, T> {
    let at = offsets[tensor];
    if spread.still[tensor] { Side::One(x[at]) } else { Side::Row(&x[at..at + len]) }
}

/// Elements of any type, made of two of any type.
pub(crate) fn zip<T: Copy + Sync, U: Element>(
    spread: &Spread<2>,
    a: &[T],
    b: &[T],
    context: &Context<'_>,
    of: impl Fn(T, T) -> U + Sync,
) -> Result<Vec<U>, Fault> {
    let mut out = vec![U::default(); context.len::<U>(&spread.shape)?];
    parts::each(&mut out, 1, |start, out| {
        spread.stretches(start, out.len(), |at, len, offsets| {
            let out = &mut out[at..at + len];
            match (stretch(spread, 0, a, offsets, len), stretch(spread, 1, b, offsets, len)) {
                (Side::Row(a), Side::Row(b)) => {
                    out.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (a, b))| *y = of(*a, *b));
                }
                (Side::Row(a), Side::One(b)) => out.iter_mut().zip(a).for_each(|(y, a)| *y = of(*a, b)),
                (Side::One(a), Side::Row(b)) => out.iter_mut().zip(b).for_each(|(y, b)| *y = of(a, *b)),
                (Side::One(a), Side::One(b)) => out.fill(of(a, b)),
                (Side::Here, _) | (_, Side::Here) => {}
            }
        });
    });
    Ok(out)
}

fn general<T: Number>(
    operation: Operation,
    spread: &Spread<2>,
    a: &Buffer<T>,
    b: &Buffer<T>,
    context: &Context<'_>,
) -> Result<Data, Fault> {
    let (a, b) = (a.as_slice(), b.as_slice());
    let divides = matches!(operation, Operation::Div | Operation::Mod | Operation::Fmod);
    if divides && !matches!(T::DTYPE, Dtype::F64) && b.contains(&T::default()) {
        return Err(Fault::shape("a divisor of 0", "another"));
    }
    let all = match operation {
        Operation::Add => zip(spread, a, b, context, T::add),
        Operation::Sub => zip(spread, a, b, context, T::sub),
        Operation::Mul => zip(spread, a, b, context, T::mul),
        Operation::Div => zip(spread, a, b, context, T::div),
        Operation::Max => zip(spread, a, b, context, T::larger),
        Operation::Min => zip(spread, a, b, context, T::smaller),
        Operation::PRelu => zip(spread, a, b, context, |a: T, b| if a < T::default() { a.mul(b) } else { a }),
        Operation::Mod => zip(spread, a, b, context, |a: T, b| a.rem(b, true)),
        Operation::Fmod => zip(spread, a, b, context, |a: T, b| a.rem(b, false)),
        Operation::Pow => zip(spread, a, b, context, raised),
    };
    all.map(|all| T::wrap(Buffer::from(all)))
}

/// A power; that of whole numbers is computed as one of whole numbers, where it is one.
fn raised<T: Number>(a: T, b: T) -> T {
    if matches!(T::DTYPE, Dtype::F64 | Dtype::F32) {
        return T::from_float(a.cast::<f64>().powf(b.cast()));
    }
    if b < T::default() {
        return T::from_float(a.cast::<f64>().powf(b.cast()));
    }
    let (mut base, mut power, mut result) = (a, b.cast::<u64>(), T::one());
    while power > 0 {
        if power & 1 == 1 {
            result = result.mul(base);
        }
        base = base.mul(base);
        power >>= 1;
    }
    result
}

/// Powers, whose exponents may be of another type. Frequent exponents that are one number are
/// multiplications or roots.
fn power(inputs: &mut Inputs, context: &Context<'_>) -> Result<Tensor, Fault> {
    let (base, exponent) = (inputs.take(0)?, inputs.take(1)?);
    let dtype = base.dtype();
    let float = |dtype| matches!(dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64);
    if float(exponent.dtype()) && !float(dtype) {
        // Such powers are computed as floats, and cut off.
        let powers =
            combine(Operation::Pow, cast(base, Dtype::F64, context)?, cast(exponent, Dtype::F64, context)?, context)?;
        return cast(powers, dtype, context);
    }
    let exponent = cast(exponent, dtype, context)?;
    let exponent_rank = exponent.rank();
    if let (Data::F32(_), Some([exponent])) = (base.data(), exponent.get::<f32>())
        && let Some(by) = shortcut(*exponent)
        && exponent_rank <= base.rank()
    {
        let mut base = crate::ops::unary::own(base, context)?;
        if let Data::F32(x) = base.data_mut() {
            parts::each(x.to_mut(), 1, |_, x| by(Level::best(), x));
        }
        return Ok(base);
    }
    combine(Operation::Pow, base, exponent, context)
}

/// What raises to a power that needs no logarithm.
fn shortcut(exponent: f32) -> Option<fn(Level, &mut [f32])> {
    match exponent {
        2.0 => Some(square),
        3.0 => Some(cube),
        -1.0 => Some(inverse),
        _ => None,
    }
}

stamp! {
    fn square = square_body(x: &mut [f32]) -> ();
}
#[inline(always)]
fn square_body(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x *= *x);
}

stamp! {
    fn cube = cube_body(x: &mut [f32]) -> ();
}
#[inline(always)]
fn cube_body(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = *x * *x * *x);
}

stamp! {
    fn inverse = inverse_body(x: &mut [f32]) -> ();
}
#[inline(always)]
fn inverse_body(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = 1.0 / *x);
}
