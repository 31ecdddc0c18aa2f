//! Which share of a tensor is kept, and in which shape.

use core::fmt;

use crate::{Error, ErrorKind};

/// A share of weights to keep: above 0, at most 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Ratio(f64);

impl Ratio {
    /// A share of `keep`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Ratio`] for anything that is not above 0 and at most 1.
    pub fn new(keep: f64) -> Result<Self, Error> {
        if keep > 0.0 && keep <= 1.0 { Ok(Self(keep)) } else { Err(ErrorKind::Ratio(keep).into()) }
    }

    /// The share as a number.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// How many of `elements` that is: the nearest count, halves upwards, but never
    /// none of some.
    pub fn of(self, elements: u64) -> u64 {
        let share = self.0 * elements as f64;
        let whole = share as u64;
        let count = if share - whole as f64 >= 0.5 { whole + 1 } else { whole };
        count.max(1).min(elements)
    }
}

/// In every run of m weights of a row, n are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NofM {
    n: u16,
    m: u16,
}

impl NofM {
    /// The longest run.
    pub(crate) const MAX: usize = 256;

    /// `n` of every `m`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NofM`] unless 1 <= n <= m <= 256.
    pub const fn new(n: u32, m: u32) -> Result<Self, Error> {
        match 1 <= n && n <= m && m <= Self::MAX as u32 {
            true => Ok(Self { n: n as u16, m: m as u16 }),
            false => Err(Error::of(ErrorKind::NofM { n, m })),
        }
    }

    /// How many are kept.
    pub const fn n(self) -> usize {
        self.n as usize
    }

    /// Of how many.
    pub const fn m(self) -> usize {
        self.m as usize
    }

    /// How many weights of a row of `cols` are kept. A short last run of r keeps n too,
    /// or all r.
    pub fn of_row(self, cols: usize) -> usize {
        cols / self.m() * self.n() + (cols % self.m()).min(self.n())
    }
}

/// How a mask by magnitude looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pattern {
    /// The largest share of a whole tensor.
    Keep(Ratio),
    /// The largest n of every m weights along a row.
    NofM(NofM),
}

impl Pattern {
    /// How many weights of a tensor of `rows` by `cols` are kept, whatever they are.
    pub fn kept_count(&self, rows: usize, cols: usize) -> u64 {
        match self {
            Self::Keep(ratio) => ratio.of((rows as u64).saturating_mul(cols as u64)),
            Self::NofM(run) => (rows as u64).saturating_mul(run.of_row(cols) as u64),
        }
    }
}

impl fmt::Display for Pattern {
    /// `keep 0.1` or `2:4`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep(ratio) => write!(f, "keep {}", ratio.get()),
            Self::NofM(run) => write!(f, "{}:{}", run.n, run.m),
        }
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_ratio_lies_above_zero_and_is_at_most_one() {
        for bad in [0.0, -0.0, -1.0, 1.0 + f64::EPSILON, f64::NAN, f64::INFINITY] {
            assert!(Ratio::new(bad).is_err(), "{bad}");
        }
        assert_eq!(
            Ratio::new(1.5).unwrap_err().to_string(),
            "a share of 1.5 to keep; it lies above 0 and is at most 1"
        );
        assert_eq!(Ratio::new(1.0).unwrap().get(), 1.0);
    }

    #[test]
    fn counts_round_to_nearest_but_never_to_none() {
        let of = |r, n| Ratio::new(r).unwrap().of(n);
        assert_eq!([of(0.5, 4), of(0.5, 5), of(0.1, 14), of(0.1, 15), of(0.1, 16)], [2, 3, 1, 2, 2]);
        assert_eq!([of(f64::MIN_POSITIVE, 7), of(0.1, 0), of(1.0, u64::MAX)], [1, 0, u64::MAX]);
        assert_eq!(of(0.499_999_999_999_999_94, 1), 1);
    }

    #[test]
    fn short_runs_keep_what_they_have() {
        let run = NofM::new(2, 4).unwrap();
        assert_eq!([0, 1, 2, 3, 4, 5, 8].map(|cols| run.of_row(cols)), [0, 1, 2, 2, 2, 3, 4]);
        assert_eq!(Pattern::NofM(run).kept_count(3, 5), 9);
        for (n, m) in [(0, 4), (5, 4), (1, 257), (0, 0)] {
            assert_eq!(*NofM::new(n, m).unwrap_err().kind(), ErrorKind::NofM { n, m });
        }
    }

    #[test]
    fn patterns_say_what_they_are() {
        assert_eq!(Pattern::Keep(Ratio::new(0.1).unwrap()).to_string(), "keep 0.1");
        assert_eq!(Pattern::NofM(NofM::new(2, 4).unwrap()).to_string(), "2:4");
    }
}
