//! What can go wrong on a device.

use std::fmt;

use crate::Unavailable;

/// Why something was not computed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// There is no device to compute on.
    Unavailable(Unavailable),
    /// The driver refused.
    Driver {
        /// What it was asked.
        doing: &'static str,
        /// What it says.
        said: String,
    },
    /// Slices that do not fit each other.
    Length {
        /// Which one.
        what: &'static str,
        /// Elements that it should have.
        needs: usize,
        /// Elements that it has.
        has: usize,
    },
    /// More than kernels count to.
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many at most.
        most: usize,
        /// How many there are.
        has: usize,
    },
    /// An infinity or NaN among numbers that have to be finite.
    NotFinite,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => why.fmt(f),
            Self::Driver { doing, said } => write!(f, "the CUDA driver refused {doing}: {said}"),
            Self::Length { what, needs, has } => write!(f, "{what}: {needs} elements expected, found {has}"),
            Self::TooMany { what, most, has } => write!(f, "{what}: at most {most} on a CUDA device, found {has}"),
            Self::NotFinite => f.write_str("an infinity or NaN; finite numbers expected"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Unavailable> for Error {
    fn from(why: Unavailable) -> Self {
        Self::Unavailable(why)
    }
}

/// Makes an error of what the driver says to something.
pub(crate) fn refused(doing: &'static str) -> impl Fn(cudarc::driver::DriverError) -> Error {
    move |e| {
        let said = e.error_string().map_or_else(|_| format!("{e:?}"), |text| text.to_string_lossy().into_owned());
        Error::Driver { doing, said: format!("{said} (code {})", e.0 as u32) }
    }
}

/// Refuses a slice of another length.
pub(crate) fn exactly(what: &'static str, needs: usize, has: usize) -> Result<(), Error> {
    if needs == has { Ok(()) } else { Err(Error::Length { what, needs, has }) }
}

/// A number that kernels take as 32 bits, of which none has the first.
pub(crate) fn small(what: &'static str, has: usize) -> Result<u32, Error> {
    const MOST: usize = (1 << 31) - 1;
    match u32::try_from(has) {
        Ok(n) if has <= MOST => Ok(n),
        _ => Err(Error::TooMany { what, most: MOST, has }),
    }
}
