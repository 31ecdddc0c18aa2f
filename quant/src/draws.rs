//! Random numbers that are the same on every machine: splitmix64 (Steele, Lea and Flood, *Fast splittable pseudorandom
//! number generators*, 2014).
//!
//! A stream hangs on a seed, on what is drawn for and on the item's number, so no item's numbers depend on which others
//! are drawn.

/// The golden ratio's fraction as a 64-bit number: the step of splitmix64.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// The output function of splitmix64.
pub fn mixed(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    /// The stream of `item`; `purpose` tells apart what numbers are drawn for.
    pub fn new(seed: u64, purpose: u64, item: u64) -> Self {
        Self(mixed(mixed(mixed(seed.wrapping_add(STEP)) ^ purpose.wrapping_mul(STEP)) ^ item.wrapping_mul(STEP)))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mixed(self.0)
    }

    /// A number between 0 and 1, never either: 53 random bits and a half.
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) * (1.0 / 9_007_199_254_740_992.0)
    }

    /// A whole number below `n`, all equally likely (Lemire, *Fast random integer generation in an interval*, 2019); 0
    /// for an `n` of 0.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        loop {
            let product = u128::from(self.bits()) * u128::from(n);
            if product as u64 >= n.wrapping_neg().checked_rem(n).unwrap_or(0) {
                return (product >> 64) as usize;
            }
        }
    }

    /// Yes or no, as likely.
    pub fn coin(&mut self) -> bool {
        self.bits() >> 63 == 1
    }

    /// Puts items into a random order (Fisher and Yates, as Durstenfeld wrote it in 1964).
    #[cfg(feature = "std")]
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_repeat() {
        let first = |seed, purpose, item| Draws::new(seed, purpose, item).bits();
        assert_eq!(first(1, 2, 3), first(1, 2, 3));
        let mut seen: alloc::vec::Vec<u64> =
            (0..10).flat_map(|i| [first(i, 0, 0), first(0, i + 1, 0), first(0, 0, i + 1)]).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!((seen.len(), Draws::new(0, 0, 0).below(0)), (30, 0));
    }

    #[cfg(feature = "std")]
    #[test]
    fn every_order_is_as_likely() {
        let mut counts = [0u32; 27];
        for item in 0..6000 {
            let mut order = [0, 1, 2];
            Draws::new(0, 0, item).shuffle(&mut order);
            counts[order[0] * 9 + order[1] * 3 + order[2]] += 1;
        }
        let seen = counts.iter().filter(|count| **count > 0);
        // Six orders, 1000 each; five standard deviations are 144.
        assert!(seen.clone().count() == 6 && seen.clone().all(|count| count.abs_diff(1000) < 144), "{counts:?}");
    }
}
