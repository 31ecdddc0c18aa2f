//! One error for this crate: a kind whose variants carry the numbers.

use core::fmt;

use niwaki_codes::BlockType;

use crate::forms::{Side, WINDOW};

/// Why weights could not be encoded, or codes not be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    kind: ErrorKind,
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A weight that is infinite or not a number.
    NotFinite {
        /// Its flat index in the values handed over.
        index: usize,
    },
    /// A scale beyond the largest number of its type, F16 but for what is rescaled; where the
    /// scheme has them, F32 scales would hold one beyond F16.
    ScaleOverflow {
        /// Flat index of the group in the values handed over.
        group: usize,
    },
    /// An elastic group whose middle or half is beyond the largest F16.
    RangeOverflow {
        /// Flat index of the group in the values handed over.
        group: usize,
    },
    /// A buffer of the wrong length.
    Length {
        /// Which buffer.
        buffer: &'static str,
        /// Bytes or elements needed.
        needs: usize,
        /// Bytes or elements found.
        has: usize,
    },
    /// More values than can be counted.
    Counts,
    /// One scale for the whole tensor, asked of a function that sees only rows.
    WholeTensor,
    /// A row that is not a whole number of blocks.
    BlockRow {
        /// The blocks.
        kind: BlockType,
        /// Weights of the row.
        cols: usize,
    },
    /// A name that is no fit.
    FitText,
    /// A name that is no criterion for scales.
    CriterionText,
    /// A fit that needs the inputs of a layer, asked of a function that sees only its weights.
    NeedsInputs,
    /// What the inputs of a layer have to say, of another number of inputs than its rows have, or no numbers.
    Inverse {
        /// Inputs needed.
        needs: usize,
        /// Inputs found.
        has: usize,
    },
    /// A rank that no approximation of a matrix has: none, or one beyond its smaller side.
    Rank {
        /// The rank.
        rank: usize,
        /// Rows of the matrix.
        rows: usize,
        /// Its columns.
        cols: usize,
    },
    /// A text that is no form.
    FormText,
    /// A network in which no layer may take another width.
    NoFreeLayer,
    /// A layer without weights or without inputs.
    EmptyLayer {
        /// The layer.
        layer: usize,
    },
    /// Layers of 2^48 weights or inputs, or more.
    SpaceSize,
    /// An average width that no configuration of a network has.
    Average {
        /// Of what.
        side: Side,
        /// The average that was asked for, in bits.
        asked: f64,
        /// The least that there is.
        least: f64,
        /// The greatest.
        most: f64,
    },
    /// A tensor without a choice.
    NoChoices {
        /// The tensor.
        tensor: usize,
    },
    /// A loss that is infinite or not a number.
    Loss {
        /// The tensor.
        tensor: usize,
        /// The choice.
        choice: usize,
    },
    /// A budget below what the cheapest choices cost.
    Budget {
        /// The budget.
        budget: u64,
        /// What the cheapest choices cost together.
        least: u64,
    },
    /// A number of a search or a training that it cannot have.
    Setting {
        /// Which.
        name: &'static str,
        /// The number.
        found: f64,
        /// The least that it can be.
        low: f64,
        /// The greatest.
        high: f64,
    },
    /// A score that is not a number.
    Score {
        /// Which configuration, counted from the first that was scored.
        configuration: usize,
    },
    /// Inputs of a layer of which one is infinite or not a number, or too large to be squared.
    Input {
        /// Which of the layer's inputs.
        index: usize,
    },
    /// Damping that is negative, infinite or not a number.
    Damping,
    /// A Gram matrix that has no inverse, however much it is damped.
    Singular,
}

impl Error {
    /// What was wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same error for a slice that starts at `elements` and `groups` of a larger
    /// tensor: places count from the start of that tensor.
    pub fn offset(self, elements: usize, groups: usize) -> Self {
        let kind = match self.kind {
            ErrorKind::NotFinite { index } => ErrorKind::NotFinite { index: index.saturating_add(elements) },
            ErrorKind::ScaleOverflow { group } => ErrorKind::ScaleOverflow { group: group.saturating_add(groups) },
            ErrorKind::RangeOverflow { group } => ErrorKind::RangeOverflow { group: group.saturating_add(groups) },
            other => other,
        };
        Self { kind }
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
            ErrorKind::NotFinite { index } => write!(f, "weight {index} is infinite or not a number"),
            ErrorKind::ScaleOverflow { group } => {
                write!(f, "scale of group {group} is beyond the largest number of its type")
            }
            ErrorKind::RangeOverflow { group } => {
                write!(f, "middle or half of group {group} is beyond 65504, the largest F16")
            }
            ErrorKind::Length { buffer, needs, has } => write!(f, "`{buffer}` needs {needs}, has {has}"),
            ErrorKind::Counts => write!(f, "counts of more values than can be counted"),
            ErrorKind::WholeTensor => write!(f, "one scale for a whole tensor needs a pass over all of it first"),
            ErrorKind::BlockRow { kind, cols } => {
                write!(f, "a row of {cols} weights is no whole number of {kind} blocks of {}", kind.elements())
            }
            ErrorKind::FitText => write!(f, "text is no fit; known: min_max, clip, lsq, gptq, gptq_order"),
            ErrorKind::CriterionText => write!(f, "text is no criterion for scales; known: awq, smoothquant"),
            ErrorKind::NeedsInputs => write!(f, "this fit needs what is known of the layer's inputs"),
            ErrorKind::Inverse { needs, has } => {
                write!(f, "rows of {needs} weights need the inverse of as many finite inputs; there is one of {has}")
            }
            ErrorKind::Rank { rank, rows, cols } => {
                write!(f, "rank {rank}; a matrix of {rows}x{cols} has ranks from 1 to {}", rows.min(cols))
            }
            ErrorKind::FormText => {
                write!(f, "text is no form; one is `w4a8/row/sym` or `w2/tensor/affine`, of 2 to 8 bits each")
            }
            ErrorKind::NoFreeLayer => write!(f, "no layer may take another width"),
            ErrorKind::EmptyLayer { layer } => write!(f, "layer {layer} has no weights or no inputs"),
            ErrorKind::SpaceSize => write!(f, "layers have 2^48 weights or inputs or more"),
            ErrorKind::Average { side, asked, least, most } if asked >= least && asked - WINDOW < most => write!(
                f,
                "no widths of {side} average above {} and at most {asked} bits; averages lie between {least} and {most}, \
                 and here is a gap",
                asked - WINDOW
            ),
            ErrorKind::Average { side, asked, least, most } => {
                write!(f, "{side} cannot average {asked} bits; averages lie between {least} and {most}")
            }
            ErrorKind::NoChoices { tensor } => write!(f, "tensor {tensor} has no choice"),
            ErrorKind::Loss { tensor, choice } => {
                write!(f, "loss of choice {choice} of tensor {tensor} is infinite or not a number")
            }
            ErrorKind::Budget { budget, least } => {
                write!(f, "a budget of {budget}; the cheapest choices cost {least} together")
            }
            ErrorKind::Setting { name, found, low, high } => {
                write!(f, "`{name}` is {found}; it lies between {low} and {high}")
            }
            ErrorKind::Score { configuration } => write!(f, "score of configuration {configuration} is not a number"),
            ErrorKind::Input { index } => write!(f, "input {index} of the layer is infinite or not a number"),
            ErrorKind::Damping => write!(f, "damping is a finite number, 0 or more"),
            ErrorKind::Singular => write!(f, "the Gram matrix of the inputs has no inverse, however much it is damped"),
        }
    }
}

impl core::error::Error for Error {}

/// Refuses a buffer that is not exactly as long as needed.
pub(crate) fn exactly(buffer: &'static str, needs: usize, has: usize) -> Result<(), Error> {
    if needs == has { Ok(()) } else { Err(ErrorKind::Length { buffer, needs, has }.into()) }
}
