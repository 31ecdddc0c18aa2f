//! The loops that take the time.

pub(crate) mod blocks;
pub(crate) mod conv;
pub(crate) mod lanes;
pub(crate) mod math;
pub(crate) mod mm;
pub(crate) mod parts;
pub(crate) mod product;
mod vector;
pub(crate) mod weights;

/// Numbers from -1 to 1 for tests, the same every time.
#[cfg(test)]
pub(crate) fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let number = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    (0..len as u32).map(number).collect()
}
