//! What elements of every type can do.

use half::{bf16, f16};

use crate::tensor::Element;

/// A number that others can be made of and that has arithmetic; whole numbers wrap around.
pub(crate) trait Number: Element {
    /// The nearest; whole numbers are cut off, and stop at their ends.
    fn from_float(x: f64) -> Self;
    /// The nearest; whole numbers keep their low bits.
    fn from_signed(x: i64) -> Self;
    /// The same.
    fn from_unsigned(x: u64) -> Self;
    /// The number as one of another type.
    fn cast<T: Number>(self) -> T;
    fn one() -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// The quotient, cut off for whole numbers; the divisor is not 0 there.
    fn div(self, other: Self) -> Self;
    /// The remainder, which has the divisor's sign, or the dividend's where `floored` is false.
    fn rem(self, other: Self, floored: bool) -> Self;
    fn abs(self) -> Self;
    fn neg(self) -> Self;
    /// -1, 0 or 1.
    fn sign(self) -> Self;
    /// The least of all.
    fn lowest() -> Self;
    /// The greatest of all.
    fn highest() -> Self;

    /// The larger; what is no number stays.
    #[allow(clippy::eq_op, reason = "what is no number does not equal itself")]
    fn larger(self, other: Self) -> Self {
        if self > other || self != self { self } else { other }
    }

    /// The smaller; what is no number stays.
    #[allow(clippy::eq_op, reason = "what is no number does not equal itself")]
    fn smaller(self, other: Self) -> Self {
        if self < other || self != self { self } else { other }
    }
}

macro_rules! whole {
    ($($type:ty, $from:ident, $wide:ty, $abs:expr, $sign:expr;)*) => {
        $(impl Number for $type {
            fn from_float(x: f64) -> Self { x as $type }
            fn from_signed(x: i64) -> Self { x as $type }
            fn from_unsigned(x: u64) -> Self { x as $type }
            fn cast<T: Number>(self) -> T { T::$from(<$wide>::from(self)) }
            fn one() -> Self { 1 }
            fn add(self, other: Self) -> Self { self.wrapping_add(other) }
            fn sub(self, other: Self) -> Self { self.wrapping_sub(other) }
            fn mul(self, other: Self) -> Self { self.wrapping_mul(other) }
            fn div(self, other: Self) -> Self { self.wrapping_div(other) }
            #[allow(unused_comparisons, reason = "some have no sign")]
            fn rem(self, other: Self, floored: bool) -> Self {
                let rem = self.wrapping_rem(other);
                if floored && rem != 0 && (rem < 0) != (other < 0) { rem.wrapping_add(other) } else { rem }
            }
            fn abs(self) -> Self { ($abs)(self) }
            fn neg(self) -> Self { self.wrapping_neg() }
            fn sign(self) -> Self { ($sign)(self) }
            fn lowest() -> Self { <$type>::MIN }
            fn highest() -> Self { <$type>::MAX }
        })*
    };
}

whole! {
    i64, from_signed, i64, i64::wrapping_abs, i64::signum;
    i32, from_signed, i64, i32::wrapping_abs, i32::signum;
    i16, from_signed, i64, i16::wrapping_abs, i16::signum;
    i8, from_signed, i64, i8::wrapping_abs, i8::signum;
    u64, from_unsigned, u64, |x| x, |x: u64| x.min(1);
    u32, from_unsigned, u64, |x| x, |x: u32| x.min(1);
    u16, from_unsigned, u64, |x| x, |x: u16| x.min(1);
    u8, from_unsigned, u64, |x| x, |x: u8| x.min(1);
}

macro_rules! float {
    ($($type:ty, $of:expr, $to:expr;)*) => {
        $(impl Number for $type {
            fn from_float(x: f64) -> Self { ($of)(x) }
            fn from_signed(x: i64) -> Self { ($of)(x as f64) }
            fn from_unsigned(x: u64) -> Self { ($of)(x as f64) }
            fn cast<T: Number>(self) -> T { T::from_float(($to)(self)) }
            fn one() -> Self { ($of)(1.0) }
            fn add(self, other: Self) -> Self { self + other }
            fn sub(self, other: Self) -> Self { self - other }
            fn mul(self, other: Self) -> Self { self * other }
            fn div(self, other: Self) -> Self { self / other }
            fn rem(self, other: Self, floored: bool) -> Self {
                let rem = self % other;
                let zero = Self::default();
                if floored && rem != zero && (rem < zero) != (other < zero) { rem + other } else { rem }
            }
            fn abs(self) -> Self { if self < Self::default() { -self } else { self + Self::default() } }
            fn neg(self) -> Self { -self }
            fn sign(self) -> Self {
                let zero = Self::default();
                if self > zero { Self::one() } else if self < zero { -Self::one() } else { self }
            }
            fn lowest() -> Self { <$type>::NEG_INFINITY }
            fn highest() -> Self { <$type>::INFINITY }
        })*
    };
}

float! {
    f64, |x: f64| x, |x: f64| x;
    f32, |x: f64| x as f32, |x: f32| f64::from(x);
    f16, f16::from_f64, |x: f16| f64::from(x);
    bf16, bf16::from_f64, |x: bf16| f64::from(x);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders_have_the_sign_that_is_asked_for() {
        assert_eq!(((-4i32).rem(3, true), (-4i32).rem(3, false), 5i8.rem(-3, true)), (2, -1, -1));
        assert_eq!(((-4f32).rem(3.0, true), (-4f32).rem(3.0, false)), (2.0, -1.0));
        assert_eq!((7u8.rem(4, true), i64::MIN.rem(-1, true), i64::MIN.div(-1)), (3, 0, i64::MIN));
    }

    #[test]
    fn casts_cut_off_and_stop() {
        assert_eq!((2.9f32.cast::<i32>(), (-2.9f32).cast::<i32>(), 3e9f32.cast::<i32>()), (2, -2, i32::MAX));
        assert_eq!((300i64.cast::<u8>(), (-1i32).cast::<u64>(), u64::MAX.cast::<i64>()), (44, u64::MAX, -1));
        assert_eq!((f32::NAN.cast::<i16>(), 1.5f32.cast::<f16>().cast::<f64>()), (0, 1.5));
    }
}
