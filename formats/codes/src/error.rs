//! One error for this crate: a kind whose variants carry the numbers.

use core::fmt;

use crate::{Bits, BlockType, Widths};

/// What was wrong with bytes, text or sizes handed to this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A bit-width outside 2..=8.
    Bits(u32),
    /// A group size of zero or beyond `u32`.
    GroupSize(u64),
    /// A list of widths that is empty.
    NoWidths,
    /// A scheme text that nothing understands.
    SchemeText,
    /// More dimensions than a shape may have.
    Depth(usize),
    /// A shape whose element or byte count does not fit into `usize`.
    Overflow,
    /// A part of a compressed tensor has the wrong length in bytes.
    PartLength {
        /// Which part.
        part: &'static str,
        /// Bytes that the scheme and shape ask for.
        needs: usize,
        /// Bytes found.
        has: usize,
    },
    /// A zero point outside the codes of its width.
    ZeroPoint {
        /// Index of the group.
        group: usize,
        /// The zero point found.
        zero: u8,
        /// The width of the codes.
        bits: Bits,
    },
    /// A row that is not a whole number of blocks.
    BlockRow {
        /// The blocks.
        kind: BlockType,
        /// Weights of the row.
        cols: usize,
    },
    /// A scale that is infinite or not a number.
    Scale {
        /// Index of the group.
        group: usize,
    },
    /// A factor above the scales that is not finite, or not above 0.
    Factor,
    /// A float among the codes that is not a number.
    NotANumber {
        /// Which part.
        part: &'static str,
        /// Row in which it stands.
        row: usize,
    },
    /// Bits that belong to no code, plane or mask entry are set.
    StrayBits {
        /// Which part.
        part: &'static str,
        /// Row in which they stand.
        row: usize,
    },
    /// A list of positions that is shorter or longer than the kept weights.
    PositionCount {
        /// Kept weights.
        needs: usize,
        /// Positions found.
        has: usize,
    },
    /// A position that is not above the one before it, or lies past the last weight.
    Position {
        /// Number of the kept weight.
        kept: usize,
        /// Its position.
        has: usize,
        /// The first position that it may have.
        least: usize,
        /// The first one past the last weight.
        end: usize,
    },
    /// A width that an elastic tensor does not serve.
    Width {
        /// The width asked for.
        asked: Bits,
        /// The widths served.
        served: Widths,
    },
    /// A range of rows or a buffer that does not fit the tensor.
    Range {
        /// Elements or rows that were needed.
        needs: usize,
        /// Elements or rows that there are.
        has: usize,
    },
}

impl Error {
    pub(crate) const fn of(kind: ErrorKind) -> Self {
        Self { kind }
    }

    /// What was wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ErrorKind::Bits(b) => write!(f, "bit-width {b}; served: 2 to 8"),
            ErrorKind::GroupSize(g) => write!(f, "group size {g}; a group holds 1 to {} weights", u32::MAX),
            ErrorKind::NoWidths => write!(f, "a list of widths needs at least one of 2 to 8"),
            ErrorKind::SchemeText => {
                write!(
                    f,
                    "text is no scheme; known: int{{2..8}}/{{tensor|row|gN}}/{{sym|affine}}, elastic/gN[/WIDTHS]"
                )?;
                BlockType::ALL.into_iter().try_for_each(|kind| write!(f, ", {kind}"))?;
                f.write_str(", fp8_e4m3/{tensor|row|bN}, nvfp4, nf4/gN")
            }
            ErrorKind::Depth(d) => write!(f, "{d} dimensions; the limit is {}", crate::shape::MAX_DIMS),
            ErrorKind::Overflow => write!(f, "element count does not fit into the address space"),
            ErrorKind::PartLength { part, needs, has } => write!(f, "`{part}` needs {needs} bytes, has {has}"),
            ErrorKind::ZeroPoint { group, zero, bits } => {
                write!(f, "zero point {zero} of group {group} is outside the {} codes of int{bits}", bits.levels())
            }
            ErrorKind::BlockRow { kind, cols } => {
                write!(f, "a row of {cols} weights is no whole number of {kind} blocks of {}", kind.elements())
            }
            ErrorKind::Scale { group } => write!(f, "scale of group {group} is not finite"),
            ErrorKind::Factor => f.write_str("the factor of the scales is not finite and above 0"),
            ErrorKind::NotANumber { part, row } => write!(f, "`{part}` has a NaN in row {row}"),
            ErrorKind::StrayBits { part, row } => write!(f, "`{part}` has bits set past the end of row {row}"),
            ErrorKind::PositionCount { needs, has } => write!(f, "`positions` holds {has} positions, needs {needs}"),
            ErrorKind::Position { kept, has, least, end } => {
                write!(f, "`positions` puts kept weight {kept} at {has}, not at one of {least}..{end}")
            }
            ErrorKind::Width { asked, served } => write!(f, "width {asked} is not served; served: {served}"),
            ErrorKind::Range { needs, has } => write!(f, "{needs} elements needed, {has} there"),
        }
    }
}

impl core::error::Error for Error {}
