//! One error for this crate: a kind whose variants carry the numbers, and which entry it is of.

use core::fmt;

/// Why bytes are no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    spot: Spot,
}

/// What of an image an error is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// The header, or the file as a whole.
    Header,
    /// A step, by number.
    Step(usize),
    /// A tensor, by number.
    Tensor(usize),
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another number of bytes than the header says, or too few for one.
    Length {
        /// Bytes that there should be.
        needs: u64,
        /// Bytes found.
        has: u64,
    },
    /// It does not begin as images do.
    Magic,
    /// An image of a later version.
    Version {
        /// The version found; this crate reads 1.
        major: u16,
    },
    /// Bytes that changed since the image was written.
    Checksum {
        /// What the header says.
        says: u32,
        /// What the bytes amount to.
        has: u32,
    },
    /// A step that nothing understands.
    Operation(u8),
    /// A tensor that nothing understands, or not what the step takes.
    Kind(u8),
    /// A number of a field that must be otherwise.
    Field {
        /// The field.
        field: &'static str,
        /// What it is.
        has: i64,
    },
    /// Values that reach beyond the arena, or beyond the file.
    Beyond {
        /// What does.
        what: &'static str,
        /// Where it ends.
        end: u64,
        /// Where the arena or the file does.
        limit: u64,
    },
    /// Two of the ranges that a step uses share bytes.
    Overlap,
    /// Two numbers that should be the same.
    Unlike {
        /// What they count.
        what: &'static str,
        /// The one expected.
        needs: u64,
        /// The one found.
        has: u64,
    },
    /// A number that is to be written and that its field does not hold.
    Narrow,
    /// A row whose sum could leave 32 bits.
    Sum {
        /// The row.
        row: usize,
    },
}

impl Error {
    pub(crate) const fn new(kind: ErrorKind, spot: Spot) -> Self {
        Self { kind, spot }
    }

    /// What was wrong.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where.
    pub const fn spot(&self) -> Spot {
        self.spot
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.spot {
            Spot::Header => {}
            Spot::Step(at) => write!(f, "step {at}: ")?,
            Spot::Tensor(at) => write!(f, "tensor {at}: ")?,
        }
        match self.kind {
            ErrorKind::Length { needs, has } => write!(f, "an image of {needs} bytes expected, has {has}"),
            ErrorKind::Magic => write!(f, "no device image: it does not begin with `niwk`"),
            ErrorKind::Version { major } => write!(f, "a device image of version {major}, 1 expected"),
            ErrorKind::Checksum { says, has } => write!(f, "checksum {has:08x}, {says:08x} expected"),
            ErrorKind::Operation(code) => write!(f, "operation {code} is unknown"),
            ErrorKind::Kind(kind) => write!(f, "a tensor of kind {kind} is unknown here"),
            ErrorKind::Field { field, has } => write!(f, "{field} is {has}, which it cannot be"),
            ErrorKind::Beyond { what, end, limit } => write!(f, "{what} ends at byte {end} of {limit}"),
            ErrorKind::Overlap => write!(f, "it reads and writes the same bytes"),
            ErrorKind::Unlike { what, needs, has } => write!(f, "{has} {what}, {needs} expected"),
            ErrorKind::Narrow => write!(f, "a number does not fit its field"),
            ErrorKind::Sum { row } => write!(f, "sums of row {row} can leave 32 bits"),
        }
    }
}

impl core::error::Error for Error {}
