//! How often a layer's inputs have which value.
//!
//! ```text
//! value     … -2^-32   0   2^-32 … 2^e (1 + k / 64) … 2^32        k = 0..63
//! bin          4095  4096  4097     4097 + 64 (e + 32) + k        and its mirror image below 0
//! ```
//!
//! Bins are those of the floats themselves, sign, exponent and six bits of the mantissa, whatever comes: so counts of two
//! parts add up to those of the whole, in any order, and nobody has to know beforehand how far values reach. A bin is at most
//! 1/64 of its value wide. What is nearer to 0 than 2^-32 counts as 0, what is beyond 2^32 in the outermost bins.

use alloc::vec;
use alloc::vec::Vec;

use crate::error::{Error, ErrorKind};

/// Exponents of magnitudes that have bins.
const EXPONENTS: usize = 64;
/// The least of them.
const LEAST: i32 = -32;
/// Bins of an exponent.
const PARTS: usize = 64;
/// The bin of 0.
const ZERO: usize = EXPONENTS * PARTS;

/// Bins of a histogram.
pub const BINS: usize = 2 * ZERO + 1;

/// Counts by value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BINS], count: 0 }
    }
}

/// Of a magnitude the place of its bin among those of its sign, counted from 0 outwards; none where it is 0.
fn place(magnitude: f32) -> Option<usize> {
    let bits = magnitude.to_bits();
    let exponent = (bits >> 23) as i32 - 127 - LEAST;
    let part = (bits >> 17 & (PARTS as u32 - 1)) as usize;
    let exponent = usize::try_from(exponent).ok()?;
    Some(if exponent < EXPONENTS { exponent * PARTS + part } else { ZERO - 1 })
}

/// Where a bin of magnitudes begins.
fn begin(place: usize) -> f64 {
    // 2^e, e from -32 to 32: exact.
    let power = (place / PARTS) as i32 + LEAST;
    let power = f64::from_bits(((i64::from(power) + 1023) as u64) << 52);
    power * (1.0 + (place % PARTS) as f64 / PARTS as f64)
}

impl Histogram {
    /// Counts that were kept.
    ///
    /// # Errors
    ///
    /// Another number of bins than [`BINS`], and more values than can be counted.
    pub fn of_counts(counts: Vec<u64>) -> Result<Self, Error> {
        if counts.len() != BINS {
            return Err(ErrorKind::Length { buffer: "histogram", needs: BINS, has: counts.len() }.into());
        }
        let count = counts.iter().try_fold(0u64, |sum, count| sum.checked_add(*count));
        Ok(Self { count: count.ok_or(ErrorKind::Counts)?, counts })
    }

    /// Sees values; such as are not finite count nowhere.
    pub fn see(&mut self, values: &[f32]) {
        for x in values.iter().filter(|x| x.is_finite()) {
            let bin = match place(x.abs()) {
                None => ZERO,
                Some(place) if *x < 0.0 => ZERO - 1 - place,
                Some(place) => ZERO + 1 + place,
            };
            self.counts[bin] += 1;
            self.count += 1;
        }
    }

    /// Adds what another one saw.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.count += other.count;
    }

    /// The counts, by value from the least.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// How many values were seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The bins that have counts, by value from the least: begin, end, and count, within `low` and `high`, which were the
    /// least and the greatest value.
    pub(crate) fn bins(&self, (low, high): (f64, f64)) -> impl Iterator<Item = (f64, f64, u64)> {
        let ends = move |bin: usize| match bin.checked_sub(ZERO) {
            Some(0) => (0.0, 0.0),
            Some(above) => (begin(above - 1), begin(above)),
            None => (-begin(ZERO - bin), -begin(ZERO - 1 - bin)),
        };
        let counted = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(move |(bin, count)| {
            let (begin, end) = ends(bin);
            // The outermost bins reach as far as values do.
            let begin = if bin == 0 { begin.min(low) } else { begin.max(low) };
            let end = if bin == BINS - 1 { end.max(high) } else { end.min(high) };
            (begin.min(end), end, *count)
        })
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bin_that_holds_it() {
        for x in [1.0f32, -1.0, 0.999, 1.5, -2.75, 3e9, -4.2e9, 2.4e-10, -2.4e-10, 77.1] {
            let mut one = Histogram::default();
            one.see(&[x]);
            let all: Vec<_> = one.bins((-f64::MAX, f64::MAX)).collect();
            let [(begin, end, 1)] = all[..] else { panic!("{x}: {all:?}") };
            assert!(begin <= f64::from(x) && f64::from(x) <= end, "{x} in {begin} to {end}");
            let wide = (end - begin) / f64::from(x.abs());
            assert!(wide <= 1.0 / 64.0 + 1e-12 || x.abs() > 4e9, "{x}: {wide}");
        }
        let mut zeros = Histogram::default();
        zeros.see(&[0.0, -0.0, 1e-11, -1e-20, f32::NAN, f32::INFINITY]);
        assert_eq!((zeros.count(), zeros.counts()[ZERO]), (4, 4));
        assert_eq!(begin(ZERO), f64::from(2f32.powi(32)));
    }

    #[test]
    fn counts_of_parts_are_those_of_the_whole_in_any_order() {
        let all: Vec<f32> = (0..1000).map(|i| ((i * 7919 % 1000) as f32 - 400.0) * 0.37).collect();
        let of = |parts: &[&[f32]]| {
            let each = parts.iter().map(|part| {
                let mut one = Histogram::default();
                one.see(part);
                one
            });
            each.fold(Histogram::default(), |mut sum, one| {
                sum.merge(&one);
                sum
            })
        };
        let whole = of(&[&all]);
        assert_eq!(whole, of(&[&all[..10], &all[10..700], &all[700..]]));
        assert_eq!(whole, of(&[&all[700..], &all[..10], &all[10..700]]));
        assert_eq!(whole.count(), 1000);
        assert_eq!(Histogram::of_counts(whole.counts().to_vec()), Ok(whole));
    }

    #[test]
    fn counts_that_are_none_are_refused() {
        assert!(Histogram::of_counts(vec![0; 7]).is_err());
        let mut many = vec![0; BINS];
        many[3] = u64::MAX;
        assert!(Histogram::of_counts(many.clone()).is_ok());
        many[4] = 1;
        assert!(Histogram::of_counts(many).is_err());
    }
}
