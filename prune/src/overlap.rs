//! What two masks have in common.

use core::ops::AddAssign;

use niwaki_codes::Mask;

use crate::{Error, ErrorKind};

/// How many weights two masks keep, each and both.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overlap {
    /// Weights of the tensor.
    pub elements: u64,
    /// Those that the first keeps.
    pub first: u64,
    /// Those that the second keeps.
    pub second: u64,
    /// Those that both keep.
    pub both: u64,
    /// Those that both would keep, were the second drawn anew, of each tensor as many.
    pub expected: f64,
}

impl Overlap {
    /// Of two masks.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Count`] for masks of tensors of different sizes.
    pub fn of(first: &Mask, second: &Mask) -> Result<Self, Error> {
        let size = |mask: &Mask| (mask.rows(), mask.cols());
        let elements = |mask: &Mask| mask.rows() as u64 * mask.cols() as u64;
        if size(first) != size(second) {
            return Err(ErrorKind::Count { needs: elements(first), has: elements(second) }.into());
        }
        let count = |bytes: &mut dyn Iterator<Item = u8>| bytes.map(|byte| u64::from(byte.count_ones())).sum();
        let (elements, first_kept, second_kept): (u64, u64, u64) =
            (elements(first), count(&mut first.bytes().iter().copied()), count(&mut second.bytes().iter().copied()));
        Ok(Self {
            elements,
            first: first_kept,
            second: second_kept,
            both: count(&mut first.bytes().iter().zip(second.bytes()).map(|(a, b)| a & b)),
            expected: first_kept as f64 * second_kept as f64 / elements.max(1) as f64,
        })
    }

    /// The share of the first that the second keeps too, of 1.
    pub fn share(&self) -> f64 {
        self.both as f64 / self.first.max(1) as f64
    }

    /// What both keep of what one of them keeps, of 1.
    pub fn iou(&self) -> f64 {
        self.both as f64 / (self.first + self.second - self.both).max(1) as f64
    }

    /// [`share`](Self::share) of a second mask that keeps as many of each tensor at random.
    pub fn chance(&self) -> f64 {
        self.expected / self.first.max(1) as f64
    }

    /// [`iou`](Self::iou) of such a mask, about.
    pub fn iou_by_chance(&self) -> f64 {
        let one = self.first as f64 + self.second as f64 - self.expected;
        if one > 0.0 { self.expected / one } else { 0.0 }
    }
}

impl AddAssign for Overlap {
    fn add_assign(&mut self, other: Self) {
        self.elements += other.elements;
        self.first += other.first;
        self.second += other.second;
        self.both += other.both;
        self.expected += other.expected;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn masks_are_counted_bit_by_bit() {
        let a = Mask::from_fn(2, 9, |row, col| row == 0 && col < 6).unwrap();
        let b = Mask::from_fn(2, 9, |_, col| col >= 4).unwrap();
        let mut found = Overlap::of(&a, &b).unwrap();
        assert_eq!(found, Overlap { elements: 18, first: 6, second: 10, both: 2, expected: 60.0 / 18.0 });
        let near = |x: f64, y: f64| assert!((x - y).abs() < 1e-15, "{x} {y}");
        near(found.share(), 2.0 / 6.0);
        near(found.iou(), 2.0 / 14.0);
        near(found.chance(), 10.0 / 18.0);
        // As many at random: 6 * 10 / 18 of both.
        near(found.iou_by_chance(), (60.0 / 18.0) / (16.0 - 60.0 / 18.0));
        // Tensors that are kept whole are no merit.
        let whole = Mask::from_fn(2, 9, |_, _| true).unwrap();
        found += Overlap::of(&whole, &whole).unwrap();
        near(found.chance(), (60.0 / 18.0 + 18.0) / 24.0);
        assert_eq!((found.both, found.elements), (20, 36));
        assert!(Overlap::of(&a, &Mask::from_fn(9, 2, |_, _| true).unwrap()).is_err());
        assert_eq!(Overlap::default().share(), 0.0);
    }
}
