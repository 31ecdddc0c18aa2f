//! Bit-widths, one and several.

use core::fmt;

use crate::{Error, ErrorKind};

/// The width of an integer code: 2 to 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bits(u8);

impl Bits {
    /// The narrowest width.
    pub const MIN: Self = Self(2);
    /// The widest width.
    pub const MAX: Self = Self(8);

    /// A width of `bits`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Bits`] outside 2..=8.
    pub const fn new(bits: u32) -> Result<Self, Error> {
        match bits {
            2..=8 => Ok(Self(bits as u8)),
            _ => Err(Error::of(ErrorKind::Bits(bits))),
        }
    }

    /// The width as a number.
    pub const fn get(self) -> u32 {
        self.0 as u32
    }

    /// How many codes there are: 2^bits.
    pub const fn levels(self) -> u32 {
        1 << self.0
    }

    /// Half the codes: 2^(bits-1), the code that stands for 0 in a symmetric grid.
    pub const fn half(self) -> u32 {
        1 << (self.0 - 1)
    }

    /// All widths, narrowest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + Clone {
        (2..=8).map(Self)
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of widths that is never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Widths(u16);

impl Widths {
    /// Every width from 2 to 8.
    pub const ALL: Self = Self(0b1_1111_1100);

    /// The set of the given widths; order and repetition do not matter.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoWidths`] for none.
    pub fn new(widths: impl IntoIterator<Item = Bits>) -> Result<Self, Error> {
        match widths.into_iter().fold(0, |set, b| set | 1 << b.get()) {
            0 => Err(ErrorKind::NoWidths.into()),
            set => Ok(Self(set)),
        }
    }

    /// Whether `bits` is in the set.
    pub const fn contains(self, bits: Bits) -> bool {
        self.0 >> bits.get() & 1 == 1
    }

    /// The members, narrowest first.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Bits> + Clone {
        Bits::all().filter(move |b| self.contains(*b))
    }

    /// The widest member.
    pub const fn widest(self) -> Bits {
        Bits(15 - self.0.leading_zeros() as u8)
    }

    /// The narrowest member.
    pub const fn narrowest(self) -> Bits {
        Bits(self.0.trailing_zeros() as u8)
    }

    /// The members up to and including `bits`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Width`] if `bits` is not a member.
    pub fn up_to(self, bits: Bits) -> Result<Self, Error> {
        if self.contains(bits) {
            Ok(Self(self.0 & ((2 << bits.get()) - 1)))
        } else {
            Err(ErrorKind::Width { asked: bits, served: self }.into())
        }
    }
}

impl fmt::Display for Widths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, b) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            b.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn b(bits: u32) -> Bits {
        Bits::new(bits).unwrap()
    }

    #[test]
    fn widths_outside_two_to_eight_are_refused() {
        assert_eq!(Bits::new(1).unwrap_err().kind(), ErrorKind::Bits(1));
        assert_eq!(Bits::new(9).unwrap_err().kind(), ErrorKind::Bits(9));
    }

    #[test]
    fn a_set_lists_its_members_narrowest_first() {
        let set = Widths::new([b(8), b(2), b(4), b(2)]).unwrap();
        assert_eq!((set.widest(), set.narrowest()), (b(8), b(2)));
        assert!(set.iter().eq([b(2), b(4), b(8)]));
        assert!(set.up_to(b(4)).unwrap().iter().eq([b(2), b(4)]));
        assert!(set.up_to(b(3)).is_err());
        assert!(Widths::ALL.iter().eq(Bits::all()));
    }
}
