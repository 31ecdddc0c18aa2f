//! What two elements for one place become.

use half::{bf16, f16};

use crate::tensor::Element;

/// How elements for one place are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reduction {
    /// The later one counts.
    None,
    Add,
    Multiply,
    Max,
    Min,
}

/// Elements that can be put together.
pub(super) trait Reduce: Element {
    /// The sum; of whole numbers what is left of it in so many bits.
    fn plus(self, other: Self) -> Self;

    /// The product, in the same way.
    fn times(self, other: Self) -> Self;

    /// Both as one.
    fn with(self, other: Self, reduction: Reduction) -> Self {
        match reduction {
            Reduction::None => other,
            Reduction::Add => self.plus(other),
            Reduction::Multiply => self.times(other),
            Reduction::Max if other > self => other,
            Reduction::Min if other < self => other,
            Reduction::Max | Reduction::Min => self,
        }
    }
}

macro_rules! whole {
    ($($type:ty)*) => {
        $(impl Reduce for $type {
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            fn times(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
        })*
    };
}

macro_rules! float {
    ($($type:ty)*) => {
        $(impl Reduce for $type {
            fn plus(self, other: Self) -> Self {
                self + other
            }

            fn times(self, other: Self) -> Self {
                self * other
            }
        })*
    };
}

whole! { i64 i32 i16 i8 u64 u32 u16 u8 }
float! { f32 f64 f16 bf16 }
