//! Products of rows of which only the weights that a mask keeps are stored.

use super::{SUMS, total};
#[cfg(target_arch = "x86_64")]
use crate::simd::Avx512;
use crate::simd::Level;

/// The product of a row of kept weights with inputs, on its way.
///
/// ```
/// use niwaki_codes::{product::KeptSums, simd::Level};
///
/// let mut sums = KeptSums::default();
/// // Columns 0, 2 and 3 of 4 are kept: 3 * 1 + 0.5 * 10 - 1 * 100.
/// sums.add(Level::best(), &[0b1101], &[3.0, 0.5, -1.0], &[1.0, 7.0, 10.0, 100.0]);
/// assert_eq!(sums.total(), -92.0);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct KeptSums([f32; SUMS]);

impl KeptSums {
    /// Adds the products of the kept weights of some columns, in order, with the inputs `x` of these
    /// columns, of which `bits` tell those kept. Stops where there are no more values.
    pub fn add(&mut self, level: Level, bits: &[u8], values: &[f32], x: &[f32]) {
        #[cfg(target_arch = "x86_64")]
        if let Level::Avx512(proof) = level {
            return add_avx512(proof, (bits, values), x, &mut self.0);
        }
        let _ = level;
        add_scalar((bits, values), x, &mut self.0);
    }

    /// Adds the products of kept weights with the inputs of their columns; those of columns that are
    /// not in `x` are left out.
    ///
    /// ```
    /// use niwaki_codes::{product::KeptSums, simd::Level};
    ///
    /// let mut sums = KeptSums::default();
    /// sums.add_at(Level::best(), &[0, 2, 9], &[3.0, 0.5, 1.0], &[1.0, 7.0, 10.0]);
    /// assert_eq!(sums.total(), 8.0);
    /// ```
    pub fn add_at(&mut self, level: Level, columns: &[u32], values: &[f32], x: &[f32]) {
        #[cfg(target_arch = "x86_64")]
        if let Level::Avx512(proof) = level
            && x.len() <= i32::MAX as usize
        {
            return add_at_avx512(proof, (columns, values), x, &mut self.0);
        }
        let _ = level;
        add_at_scalar((columns, values), x, &mut self.0);
    }

    /// The product.
    pub fn total(self) -> f32 {
        total(self.0)
    }
}

/// Goes from one set bit to the next: dropped weights cost a word of 64 of them.
fn add_scalar((bits, values): (&[u8], &[f32]), x: &[f32], sums: &mut [f32; SUMS]) {
    let mut values = values.iter();
    for (bits, x) in bits.chunks(8).zip(x.chunks(64)) {
        let mut word = [0; 8];
        word.iter_mut().zip(bits).for_each(|(to, from)| *to = *from);
        let mut left = u64::from_le_bytes(word);
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            let (Some(x), Some(value)) = (x.get(at), values.next()) else { return };
            sums[at % SUMS] += value * x;
            left &= left - 1;
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn add_avx512(_: Avx512, (bits, values): (&[u8], &[f32]), x: &[f32], sums: &mut [f32; SUMS]) {
    // SAFETY: an `Avx512` is only made by `Avx512::detect`, which saw the features.
    unsafe { spread(bits, values, x, sums) }
}

/// Sixteen columns at a time: the next values go to the lanes of the set bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
fn spread(bits: &[u8], mut values: &[f32], x: &[f32], sums: &mut [f32; SUMS]) {
    use core::arch::x86_64::*;

    // Two sums by turns hide how long an addition takes. SAFETY: there are sixteen floats.
    let (mut all, mut next) = (unsafe { _mm512_loadu_ps(sums.as_ptr()) }, _mm512_setzero_ps());
    let (pairs, blocks) = (bits.as_chunks::<2>().0, x.as_chunks::<SUMS>().0);
    for (pair, x) in pairs.iter().zip(blocks) {
        let keep = u16::from_le_bytes(*pair);
        let count = keep.count_ones() as usize;
        // SAFETY: sixteen values are read where there are as many, else as many as there are.
        let (some, x) = unsafe {
            let some = match values.len() {
                SUMS.. => _mm512_loadu_ps(values.as_ptr()),
                few => _mm512_maskz_loadu_ps((1u16 << few) - 1, values.as_ptr()),
            };
            (some, _mm512_loadu_ps(x.as_ptr()))
        };
        (all, next) = (next, _mm512_fmadd_ps(_mm512_maskz_expand_ps(keep, some), x, all));
        values = values.get(count..).unwrap_or(&[]);
    }
    // SAFETY: there are sixteen floats.
    unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), _mm512_add_ps(all, next)) }
    let done = pairs.len().min(blocks.len());
    add_scalar((bits.get(2 * done..).unwrap_or(&[]), values), x.get(done * SUMS..).unwrap_or(&[]), sums);
}

fn add_at_scalar((columns, values): (&[u32], &[f32]), x: &[f32], sums: &mut [f32; SUMS]) {
    for (columns, values) in columns.chunks(SUMS).zip(values.chunks(SUMS)) {
        for (sum, (column, value)) in sums.iter_mut().zip(columns.iter().zip(values)) {
            if let Some(x) = x.get(*column as usize) {
                *sum += value * x;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn add_at_avx512(_: Avx512, kept: (&[u32], &[f32]), x: &[f32], sums: &mut [f32; SUMS]) {
    // SAFETY: an `Avx512` is only made by `Avx512::detect`, which saw the features; no input has a number
    // that an `i32` does not hold.
    unsafe { collect(kept, x, sums) }
}

/// Sixteen kept weights at a time, their inputs gathered.
///
/// # Safety
///
/// The CPU has these features, and there are at most `i32::MAX` inputs.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
unsafe fn collect((columns, values): (&[u32], &[f32]), x: &[f32], sums: &mut [f32; SUMS]) {
    use core::arch::x86_64::*;

    // SAFETY: there are sixteen floats.
    let mut all = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
    let end = _mm512_set1_epi32(x.len() as i32);
    for (columns, values) in columns.chunks(SUMS).zip(values.chunks(SUMS)) {
        let some = u16::MAX >> (SUMS - columns.len().min(values.len()));
        // SAFETY: the mask lets only elements be read that are there: those of the chunks, and inputs
        // before the end.
        unsafe {
            let at = _mm512_maskz_loadu_epi32(some, columns.as_ptr().cast());
            let values = _mm512_maskz_loadu_ps(some, values.as_ptr());
            let there = _mm512_mask_cmplt_epu32_mask(some, at, end);
            let x = _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), there, at, x.as_ptr());
            all = _mm512_mask3_fmadd_ps(values, x, all, there);
        }
    }
    // SAFETY: there are sixteen floats.
    unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), all) }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn kept_weights_meet_the_inputs_of_their_columns_on_every_level() {
        let mut state = 9u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        for cols in [1usize, 7, 16, 63, 64, 65, 200, 512] {
            for share in [0, 1, 8, 9] {
                let bits: Vec<bool> = (0..cols).map(|_| next() % 9 < share).collect();
                let mut bytes = std::vec![0u8; cols.div_ceil(8)];
                bits.iter().enumerate().for_each(|(at, bit)| bytes[at / 8] |= u8::from(*bit) << (at % 8));
                // Small whole numbers: every sum is exact.
                let x: Vec<f32> = (0..cols).map(|_| (next() % 17) as f32 - 8.0).collect();
                let values: Vec<f32> = bits.iter().filter(|bit| **bit).map(|_| (next() % 9) as f32 - 4.0).collect();
                let mut values_left = values.iter();
                let expected: f32 =
                    bits.iter().zip(&x).filter(|(bit, _)| **bit).map(|(_, x)| x * values_left.next().unwrap()).sum();
                for level in Level::all() {
                    let mut sums = KeptSums::default();
                    // In two pieces, the first of whole words.
                    let half = cols / 2 / 64 * 64;
                    let before = bits[..half].iter().filter(|bit| **bit).count();
                    sums.add(level, &bytes[..half / 8], &values[..before], &x[..half]);
                    sums.add(level, &bytes[half / 8..], &values[before..], &x[half..]);
                    assert_eq!(sums.total(), expected, "{cols} {share} {}", level.name());
                }
                // Fewer values than bits.
                let mut sums = KeptSums::default();
                sums.add(Level::best(), &bytes, values.get(1..).unwrap_or(&[]), &x);
            }
        }
    }

    #[test]
    fn kept_weights_meet_the_inputs_of_the_columns_that_are_told_on_every_level() {
        let mut state = 5u32;
        let mut next = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        for count in [0usize, 1, 15, 16, 17, 50, 200] {
            // Small whole numbers: every sum is exact. Some columns are not there.
            let x: Vec<f32> = (0..60).map(|_| next(17) as f32 - 8.0).collect();
            let values: Vec<f32> = (0..count).map(|_| next(9) as f32 - 4.0).collect();
            let columns: Vec<u32> =
                (0..count).map(|_| if next(9) == 0 { u32::MAX - next(60) } else { next(64) }).collect();
            let of = |column: &u32| x.get(*column as usize).copied().unwrap_or(0.0);
            let expected: f32 = columns.iter().zip(&values).map(|(column, value)| of(column) * value).sum();
            for level in Level::all() {
                let (mut sums, half) = (KeptSums::default(), count / 2);
                sums.add_at(level, &columns[..half], &values[..half], &x);
                sums.add_at(level, &columns[half..], &values[half..], &x);
                assert_eq!(sums.total(), expected, "{count} {}", level.name());
                // A value that is not finite counts only where its column is there.
                let mut sums = KeptSums::default();
                sums.add_at(level, &[60, 1], &[f32::INFINITY, 2.0], &x);
                assert_eq!(sums.total(), 2.0 * x[1], "{}", level.name());
            }
        }
    }
}
