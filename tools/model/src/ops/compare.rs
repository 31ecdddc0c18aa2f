//! Comparisons, and operations on truth values and bits.

use crate::attributes::Definition;
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::binary::{made, zip};
use crate::ops::spread::Spread;
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::{Buffer, Data, Element, Tensor};

/// How two elements are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// a = b.
    Equal,
    /// a > b.
    Greater,
    /// a >= b.
    GreaterOrEqual,
    /// a < b.
    Less,
    /// a <= b.
    LessOrEqual,
}

/// A comparison of two tensors that broadcast.
#[derive(Clone, Copy, Debug)]
pub struct Compare {
    /// Which.
    pub relation: Relation,
}

/// What is done with the bits of two numbers, or with two truth values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Both.
    And,
    /// Either.
    Or,
    /// One of them alone.
    Xor,
}

/// An operation on the bits of two tensors that broadcast; truth values are one bit.
#[derive(Clone, Copy, Debug)]
pub struct Bits {
    /// Which.
    pub gate: Gate,
    /// Whether it is one on numbers.
    pub of_numbers: bool,
}

/// Other bits: those that are not set, of truth values and of numbers.
#[derive(Clone, Copy, Debug)]
pub struct Not;

/// Moves the bits of one tensor by as many places as another says.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    /// Whether towards the higher ones.
    pub left: bool,
}

/// Which floats are no number.
#[derive(Clone, Copy, Debug)]
pub struct IsNan;

/// Which floats are infinite.
#[derive(Clone, Copy, Debug)]
pub struct IsInf {
    /// Whether those above all numbers count.
    pub positive: bool,
    /// Whether those below all numbers count.
    pub negative: bool,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    let bits = |gate, of_numbers| some(Bits { gate, of_numbers });
    match definition.op.as_str() {
        "Equal" => some(Compare { relation: Relation::Equal }),
        "Greater" => some(Compare { relation: Relation::Greater }),
        "GreaterOrEqual" => some(Compare { relation: Relation::GreaterOrEqual }),
        "Less" => some(Compare { relation: Relation::Less }),
        "LessOrEqual" => some(Compare { relation: Relation::LessOrEqual }),
        "And" => bits(Gate::And, false),
        "Or" => bits(Gate::Or, false),
        "Xor" => bits(Gate::Xor, false),
        "BitwiseAnd" => bits(Gate::And, true),
        "BitwiseOr" => bits(Gate::Or, true),
        "BitwiseXor" => bits(Gate::Xor, true),
        "Not" | "BitwiseNot" => some(Not),
        "BitShift" => match definition.text("direction")?.as_deref() {
            Some("LEFT") => some(Shift { left: true }),
            Some("RIGHT") => some(Shift { left: false }),
            other => Err(Fault::shape(format!("direction {other:?}"), "`LEFT` or `RIGHT`")),
        },
        "IsNaN" => some(IsNan),
        "IsInf" => some(IsInf {
            positive: definition.int("detect_positive")?.unwrap_or(1) != 0,
            negative: definition.int("detect_negative")?.unwrap_or(1) != 0,
        }),
        _ => Ok(None),
    }
}

/// The same for two tensors of one type, whichever it is: an expression that sees both buffers.
macro_rules! alike {
    ($a:expr, $b:expr, [$($variant:ident)*], |$x:ident, $y:ident| $body:expr) => {
        match ($a.data(), $b.data()) {
            $((Data::$variant($x), Data::$variant($y)) => Ok($body),)*
            (found, other) if found.dtype() == other.dtype() => Err(Fault::dtype(0, $a, "another type")),
            (found, other) => Err(Fault::shape(format!("{} and {}", found.dtype(), other.dtype()), "the same type")),
        }
    };
}

impl Operator for Compare {
    fn name(&self) -> &'static str {
        match self.relation {
            Relation::Equal => "Equal",
            Relation::Greater => "Greater",
            Relation::GreaterOrEqual => "GreaterOrEqual",
            Relation::Less => "Less",
            Relation::LessOrEqual => "LessOrEqual",
        }
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        let spread = Spread::new([a.shape(), b.shape()])?;
        let all = alike!(a, b, [F32 F64 F16 Bf16 I64 I32 I16 I8 U64 U32 U16 U8 Bool], |a, b| {
            self.elements(&spread, a.as_slice(), b.as_slice(), context)?
        })?;
        Ok(vec![made(spread.shape, Data::Bool(Buffer::from(all)))?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}

impl Compare {
    fn elements<T: Element>(
        &self,
        spread: &Spread<2>,
        a: &[T],
        b: &[T],
        context: &Context<'_>,
    ) -> Result<Vec<u8>, Fault> {
        match self.relation {
            Relation::Equal => zip(spread, a, b, context, |a, b| u8::from(a == b)),
            Relation::Greater => zip(spread, a, b, context, |a, b| u8::from(a > b)),
            Relation::GreaterOrEqual => zip(spread, a, b, context, |a, b| u8::from(a >= b)),
            Relation::Less => zip(spread, a, b, context, |a, b| u8::from(a < b)),
            Relation::LessOrEqual => zip(spread, a, b, context, |a, b| u8::from(a <= b)),
        }
    }
}

/// Whole numbers, bit by bit.
trait Word:
    Element + std::ops::BitAnd<Output = Self> + std::ops::BitOr<Output = Self> + std::ops::BitXor<Output = Self>
{
}

impl Word for i64 {}
impl Word for i32 {}
impl Word for i16 {}
impl Word for i8 {}
impl Word for u64 {}
impl Word for u32 {}
impl Word for u16 {}
impl Word for u8 {}

impl Operator for Bits {
    fn name(&self) -> &'static str {
        match (self.gate, self.of_numbers) {
            (Gate::And, false) => "And",
            (Gate::Or, false) => "Or",
            (Gate::Xor, false) => "Xor",
            (Gate::And, true) => "BitwiseAnd",
            (Gate::Or, true) => "BitwiseOr",
            (Gate::Xor, true) => "BitwiseXor",
        }
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        let spread = Spread::new([a.shape(), b.shape()])?;
        let data = match (a.data(), b.data()) {
            (Data::Bool(a), Data::Bool(b)) if !self.of_numbers => {
                Data::Bool(Buffer::from(self.elements(&spread, a.as_slice(), b.as_slice(), context)?))
            }
            _ if !self.of_numbers => {
                let input = usize::from(matches!(a.data(), Data::Bool(_)));
                return Err(Fault::dtype(input, inputs.get(input)?, "a truth value"));
            }
            _ => alike!(a, b, [I64 I32 I16 I8 U64 U32 U16 U8], |a, b| {
                Element::wrap(Buffer::from(self.elements(&spread, a.as_slice(), b.as_slice(), context)?))
            })?,
        };
        Ok(vec![made(spread.shape, data)?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}

impl Bits {
    fn elements<T: Word>(&self, spread: &Spread<2>, a: &[T], b: &[T], context: &Context<'_>) -> Result<Vec<T>, Fault> {
        match self.gate {
            Gate::And => zip(spread, a, b, context, |a, b| a & b),
            Gate::Or => zip(spread, a, b, context, |a, b| a | b),
            Gate::Xor => zip(spread, a, b, context, |a, b| a ^ b),
        }
    }
}

impl Operator for Not {
    fn name(&self) -> &'static str {
        "Not"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let mut tensor = inputs.take(0)?;
        match tensor.data_mut() {
            Data::Bool(x) => x.to_mut().iter_mut().for_each(|x| *x ^= 1),
            Data::I64(x) => x.to_mut().iter_mut().for_each(|x| *x = !*x),
            Data::I32(x) => x.to_mut().iter_mut().for_each(|x| *x = !*x),
            Data::I16(x) => x.to_mut().iter_mut().for_each(|x| *x = !*x),
            Data::I8(x) => x.to_mut().iter_mut().for_each(|x| *x = !*x),
            Data::U64(x) => x.to_mut().iter_mut().for_each(|x| *x = !*x),
            Data::U32(x) => x.to_mut().iter_mut().for_each(|x| *x = !*x),
            Data::U16(x) => x.to_mut().iter_mut().for_each(|x| *x = !*x),
            Data::U8(x) => x.to_mut().iter_mut().for_each(|x| *x = !*x),
            _ => return Err(Fault::dtype(0, &tensor, "a truth value or a whole number")),
        }
        Ok(vec![tensor])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}

impl Operator for Shift {
    fn name(&self) -> &'static str {
        "BitShift"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        let spread = Spread::new([a.shape(), b.shape()])?;
        let left = self.left;
        // Bits that are moved out are gone, and so are all of them where they are moved that far.
        macro_rules! moved {
            ($a:ident, $b:ident, $type:ty) => {
                zip(&spread, $a.as_slice(), $b.as_slice(), context, |a: $type, by: $type| {
                    let by = u32::try_from(by).unwrap_or(u32::MAX);
                    if left { a.checked_shl(by).unwrap_or(0) } else { a.checked_shr(by).unwrap_or(0) }
                })?
            };
        }
        let data = match (a.data(), b.data()) {
            (Data::U64(a), Data::U64(b)) => Data::U64(Buffer::from(moved!(a, b, u64))),
            (Data::U32(a), Data::U32(b)) => Data::U32(Buffer::from(moved!(a, b, u32))),
            (Data::U16(a), Data::U16(b)) => Data::U16(Buffer::from(moved!(a, b, u16))),
            (Data::U8(a), Data::U8(b)) => Data::U8(Buffer::from(moved!(a, b, u8))),
            (found, other) => {
                return Err(Fault::shape(format!("{} and {}", found.dtype(), other.dtype()), "the same unsigned type"));
            }
        };
        Ok(vec![made(spread.shape, data)?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}

/// Truth values, one of each float.
fn tested(inputs: &Inputs, single: impl Fn(f64) -> bool) -> Result<Vec<Tensor>, Fault> {
    let x = inputs.get(0)?;
    let truth: Vec<u8> = match x.data() {
        Data::F32(x) => x.as_slice().iter().map(|x| u8::from(single(f64::from(*x)))).collect(),
        Data::F64(x) => x.as_slice().iter().map(|x| u8::from(single(*x))).collect(),
        Data::F16(x) => x.as_slice().iter().map(|x| u8::from(single(x.to_f64()))).collect(),
        Data::Bf16(x) => x.as_slice().iter().map(|x| u8::from(single(x.to_f64()))).collect(),
        _ => return Err(Fault::dtype(0, x, "a float")),
    };
    Ok(vec![made(x.shape().to_vec(), Data::Bool(Buffer::from(truth)))?])
}

impl Operator for IsNan {
    fn name(&self) -> &'static str {
        "IsNaN"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        tested(inputs, f64::is_nan)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}

impl Operator for IsInf {
    fn name(&self) -> &'static str {
        "IsInf"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let counts = |x: f64| x.is_infinite() && if x > 0.0 { self.positive } else { self.negative };
        tested(inputs, counts)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::attributes::Attribute;
    use crate::ops::trial::{definition, elements, run, simple, tensor};

    fn truth(tensor: &Tensor) -> Vec<u8> {
        match tensor.data() {
            Data::Bool(x) => x.as_slice().to_vec(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn numbers_are_compared() {
        let a = tensor(&[2, 2], &[1.0f32, 2.0, f32::NAN, 4.0]);
        let b = tensor(&[2], &[1.0f32, 3.0]);
        for (op, expected) in [
            ("Equal", [1, 0, 0, 0]),
            ("Less", [0, 1, 0, 0]),
            ("LessOrEqual", [1, 1, 0, 0]),
            ("Greater", [0, 0, 0, 1]),
            ("GreaterOrEqual", [1, 0, 0, 1]),
        ] {
            assert_eq!(truth(&simple(op, &[a.clone(), b.clone()]).unwrap()), expected, "{op}");
        }
        let refused = simple("Less", &[a, tensor(&[1], &[1i64])]).unwrap_err().to_string();
        assert_eq!(refused, "F32 and I64, the same type expected");
    }

    #[test]
    fn bits_are_combined() {
        let (a, b) = (tensor(&[2], &[12i32, 10]), tensor(&[], &[10i32]));
        assert_eq!(elements::<i32>(&simple("BitwiseAnd", &[a.clone(), b.clone()]).unwrap()), [8, 10]);
        assert_eq!(elements::<i32>(&simple("BitwiseOr", &[a.clone(), b.clone()]).unwrap()), [14, 10]);
        assert_eq!(elements::<i32>(&simple("BitwiseXor", &[a.clone(), b]).unwrap()), [6, 0]);
        assert_eq!(elements::<i32>(&simple("BitwiseNot", std::slice::from_ref(&a)).unwrap()), [-13, -11]);
        let no = simple("Equal", &[a.clone(), tensor(&[2], &[12i32, 9])]).unwrap();
        assert_eq!(truth(&simple("Not", std::slice::from_ref(&no)).unwrap()), [0, 1]);
        assert_eq!(truth(&simple("Xor", &[no.clone(), no.clone()]).unwrap()), [0, 0]);
        assert_eq!(simple("And", &[no, a]).unwrap_err().to_string(), "input 1 is I32, a truth value expected");
        let (x, by) = (tensor(&[3], &[1u8, 200, 3]), tensor(&[3], &[7u8, 1, 9]));
        let shift = definition("BitShift", &[("direction", Attribute::Text("LEFT".into()))]);
        assert_eq!(elements::<u8>(&run(&shift, &[Some(x), Some(by)]).unwrap()[0]), [128, 144, 0]);
    }

    #[test]
    fn odd_floats_are_found() {
        let x = tensor(&[4], &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0]);
        assert_eq!(truth(&simple("IsNaN", std::slice::from_ref(&x)).unwrap()), [1, 0, 0, 0]);
        assert_eq!(truth(&simple("IsInf", std::slice::from_ref(&x)).unwrap()), [0, 1, 1, 0]);
        let above = definition("IsInf", &[("detect_negative", Attribute::Int(0))]);
        assert_eq!(truth(&run(&above, &[Some(x)]).unwrap()[0]), [0, 1, 0, 0]);
    }
}
