//! Single rows of weights, which are asked for one by one.

use half::{bf16, f16};
use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use super::{Stored, dot, dot_bf16, dot_f16, upper, wide};

/// Bytes of a line of memory.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

impl Stored<'_> {
    /// The product of `x` and the row of weights number `row`, which is as long and has to be there.
    pub(crate) fn dot(self, row: usize, x: &[f32]) -> f32 {
        let (level, part) = (Level::best(), row * x.len()..(row + 1) * x.len());
        match self {
            Self::F32(all) => dot(level, x, &all[part]),
            Self::F16(all) => dot_f16(level, x, &all[part]),
            Self::Bf16(all) => dot_bf16(level, x, &all[part]),
            Self::Packed(_) => {
                let mut wide = vec![0.0; x.len()];
                self.widen(part.start, &mut wide);
                dot(level, x, &wide)
            }
        }
    }

    /// Adds to `sums` the row of weights number `row`, which is as long and has to be there, times a number.
    pub(crate) fn add_row(self, row: usize, by: f32, sums: &mut [f32]) {
        let (level, part) = (Level::best(), row * sums.len()..(row + 1) * sums.len());
        match self {
            Self::F32(all) => add(level, by, &all[part], sums),
            Self::F16(all) => add_f16(level, by, &all[part], sums),
            Self::Bf16(all) => add_bf16(level, by, &all[part], sums),
            Self::Packed(_) => {
                let mut wide = vec![0.0; sums.len()];
                self.widen(part.start, &mut wide);
                add(level, by, &wide, sums);
            }
        }
    }

    /// Tells the processor that a row of weights, of `width` elements, is looked at soon.
    pub(crate) fn soon(self, row: usize, width: usize) {
        let part = row * width..(row + 1) * width;
        match self {
            Self::F32(all) => soon(&all[part]),
            Self::F16(all) => soon(&all[part]),
            Self::Bf16(all) => soon(&all[part]),
            Self::Packed(_) => {}
        }
    }
}

/// Lets lines of memory come into the second cache while something else is done; elsewhere than on x86-64 nothing.
fn soon<T>(all: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in all.chunks((LINE / size_of::<T>()).max(1)) {
        // SAFETY: every x86-64 has the instruction; it is a hint, and reads nothing that the program sees.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = all;
}

stamp! {
    fn add = add_body(by: f32, w: &[f32], sums: &mut [f32]) -> ();
}
#[inline(always)]
fn add_body(by: f32, w: &[f32], sums: &mut [f32]) {
    sums.iter_mut().zip(w).for_each(|(sum, w)| *sum += by * *w);
}

stamp! {
    fn add_f16 = add_f16_body(by: f32, w: &[f16], sums: &mut [f32]) -> ();
}
#[inline(always)]
fn add_f16_body(by: f32, w: &[f16], sums: &mut [f32]) {
    sums.iter_mut().zip(w).for_each(|(sum, w)| *sum += by * wide(*w));
}

stamp! {
    fn add_bf16 = add_bf16_body(by: f32, w: &[bf16], sums: &mut [f32]) -> ();
}
#[inline(always)]
fn add_bf16_body(by: f32, w: &[bf16], sums: &mut [f32]) {
    sums.iter_mut().zip(w).for_each(|(sum, w)| *sum += by * upper(*w));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::kernels::numbers;
    use crate::kernels::weights::multiply;
    use crate::operator::{Context, Pool};

    #[test]
    fn rows_are_those_of_products() {
        let pool = Pool::default();
        let context = Context::new(1 << 20, &pool);
        for width in [1, 31, 32, 77] {
            let (x, w) = (numbers(width, 5), numbers(3 * width, 6));
            let halves: Vec<bf16> = w.iter().map(|w| bf16::from_f32(*w)).collect();
            let wide: Vec<f32> = halves.iter().map(|w| w.to_f32()).collect();
            let shorts: Vec<f16> = wide.iter().map(|w| f16::from_f32(*w)).collect();
            for stored in [Stored::F32(&wide), Stored::F16(&shorts), Stored::Bf16(&halves)] {
                let (mut wide, mut product) = (vec![0.0; 3 * width], [0.0; 3]);
                stored.widen(0, &mut wide);
                multiply(&x, width, stored, &mut product, &context).unwrap();
                let mut sums = x.clone();
                stored.soon(1, width);
                stored.add_row(1, 0.5, &mut sums);
                assert_eq!(stored.dot(1, &x), product[1]);
                assert!(sums.iter().zip(&x).zip(&wide[width..]).all(|((sum, x), w)| *sum == x + 0.5 * w));
            }
        }
    }
}
