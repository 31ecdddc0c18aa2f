//! How the grid of a group is chosen.
//!
//! Signal to noise of normal weights in `int4/g32/sym` (4.5 bits a weight), and the time
//! of one thread for 58.7 million weights on a Xeon with AVX-512, from
//! `cargo bench -p niwaki-benches --bench uniform -- "int4/g32/sym"`:
//!
//! | fit | decibels | CPU time |
//! |---|---|---|
//! | `min_max` | 21.32 | 0.03 s |
//! | `clip` | 21.80 | 0.28 s |
//! | `lsq` | 21.84 | 0.34 s |
//!
//! Trying 160 scales a group, with least squares on each, gains less than 0.01 dB on
//! `lsq`: more takes another scheme.

use core::fmt;
use core::str::FromStr;

use crate::{Error, ErrorKind};

/// How scale and zero point of a group are chosen. Of those that need nothing but the weights
/// each is at least as close to them, in squared error, as the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fit {
    /// The range of the group: its smallest and largest weight lie on the grid.
    MinMax,
    /// A searched range: outliers are clipped where that costs least.
    Clip,
    /// A searched range, then scale and codes by least squares in turn.
    Lsq,
    /// Codes one column after the other, each making up for the errors of those before it
    /// ([`encode_gptq_rows`](crate::encode_gptq_rows)): it needs what the layer's inputs have to say.
    Gptq,
    /// The same with the columns of the largest inputs first.
    GptqOrder,
}

impl Fit {
    /// All fits that need nothing but the weights, cheapest first.
    pub const ALL: [Self; 3] = [Self::MinMax, Self::Clip, Self::Lsq];

    /// All fits.
    pub const KNOWN: [Self; 5] = [Self::MinMax, Self::Clip, Self::Lsq, Self::Gptq, Self::GptqOrder];

    /// Whether it needs the inputs of a layer besides its weights.
    pub const fn needs_inputs(self) -> bool {
        matches!(self, Self::Gptq | Self::GptqOrder)
    }

    /// The word for it in flags and recipes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MinMax => "min_max",
            Self::Clip => "clip",
            Self::Lsq => "lsq",
            Self::Gptq => "gptq",
            Self::GptqOrder => "gptq_order",
        }
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fit {
    type Err = Error;

    /// Reads the text form; [`ErrorKind::FitText`] for anything else.
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::KNOWN.into_iter().find(|fit| fit.name() == text).ok_or_else(|| ErrorKind::FitText.into())
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn text_goes_there_and_back() {
        for fit in Fit::KNOWN {
            assert_eq!(fit.to_string().parse::<Fit>().unwrap(), fit);
        }
        assert_eq!("minmax".parse::<Fit>().unwrap_err().kind(), ErrorKind::FitText);
    }
}
