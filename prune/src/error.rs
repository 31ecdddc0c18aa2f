//! One error for this crate: a kind whose variants carry the numbers.

use core::fmt;

/// What was wrong with a pattern, with the weights that it is to choose from, or with a choice of
/// blocks or channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    kind: ErrorKind,
}

/// The kinds of [`Error`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A ratio that is not above 0 and at most 1.
    Ratio(f64),
    /// An N:M pattern without 1 <= n <= m <= 256.
    NofM {
        /// How many are kept.
        n: u32,
        /// Of how many.
        m: u32,
    },
    /// A weight that has no magnitude to compare.
    NotFinite {
        /// Where it stands in the tensor.
        index: u64,
        /// The weight.
        value: f32,
    },
    /// More or fewer weights than the tensor has.
    Count {
        /// Weights that the tensor has.
        needs: u64,
        /// Weights found.
        has: u64,
    },
    /// A buffer of mask bits of the wrong length.
    Bits {
        /// Bytes that the row asks for.
        needs: usize,
        /// Bytes found.
        has: usize,
    },
    /// Counts of two different passes.
    Passes,
    /// The weights were others in the pass before.
    Changed,
    /// A mask that does not keep as many weights as it has to.
    Slots,
    /// The factor of a Gram matrix of another size, or that is none; or factors that rows cannot be shared among.
    Factor {
        /// Which of them; their number, where it is that.
        factor: usize,
    },
    /// A size that no mask can have.
    Mask(niwaki_codes::Error),
    /// Hidden states before and after a block that do not correspond.
    States {
        /// Numbers that the block takes.
        before: usize,
        /// Numbers that it gives.
        after: usize,
        /// Numbers of one token.
        width: usize,
    },
    /// A score that has no place in an order.
    Score {
        /// The block.
        block: usize,
        /// Its score.
        score: f64,
    },
    /// Nothing to remove.
    NoBlocks,
    /// A block that is not there.
    Block {
        /// Its number.
        block: usize,
        /// How many there are.
        blocks: usize,
    },
    /// A block that is to be removed twice.
    BlockTwice {
        /// Its number.
        block: usize,
    },
    /// Slices that are not of as many channels.
    Channels {
        /// How many there are.
        needs: usize,
        /// How many were given.
        has: usize,
    },
    /// A channel that fires as nothing does.
    Heat {
        /// The channel.
        channel: usize,
        /// How much it fires.
        value: f32,
    },
    /// No block would be left.
    AllBlocks {
        /// How many there are.
        blocks: usize,
        /// How many are to be removed.
        removed: usize,
    },
    /// More blocks than can be removed.
    Removable {
        /// How many are to be removed.
        removed: usize,
        /// How many can be.
        most: usize,
    },
    /// A block that may not go.
    Stays {
        /// Its number.
        block: usize,
    },
    /// Too few blocks of a stage would be left.
    Stage {
        /// One that is to be removed.
        block: usize,
        /// How many of its stage have to stay.
        stays: usize,
    },
}

impl Error {
    pub(crate) const fn of(kind: ErrorKind) -> Self {
        Self { kind }
    }

    /// What was wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind }
    }
}

impl From<niwaki_codes::Error> for Error {
    fn from(source: niwaki_codes::Error) -> Self {
        ErrorKind::Mask(source).into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::Ratio(r) => write!(f, "a share of {r} to keep; it lies above 0 and is at most 1"),
            ErrorKind::NofM { n, m } => write!(f, "pattern {n}:{m}; an N:M pattern has 1 <= n <= m <= 256"),
            ErrorKind::NotFinite { index, value } => write!(f, "weight {index} is {value}, which has no magnitude"),
            ErrorKind::Count { needs, has } => write!(f, "tensor has {needs} weights, {has} were seen"),
            ErrorKind::Bits { needs, has } => write!(f, "mask row needs {needs} bytes, has {has}"),
            ErrorKind::Passes => write!(f, "counts belong to different passes over the tensor"),
            ErrorKind::Changed => write!(f, "weights changed between two passes over the tensor"),
            ErrorKind::Slots => write!(f, "the mask does not keep as many weights as it has to"),
            ErrorKind::Factor { factor } => write!(
                f,
                "factor {factor} of the inputs; expected one for each equal part of the rows, its diagonal above 0"
            ),
            ErrorKind::Mask(_) => write!(f, "size fits no mask"),
            ErrorKind::States { before, after, width } => {
                write!(f, "hidden states of {before} and {after} numbers; expected as many, in rows of {width}")
            }
            ErrorKind::Score { block, score } => {
                write!(f, "block {block} has the score {score}; expected a finite number")
            }
            ErrorKind::NoBlocks => write!(f, "no block to remove; expected one or more"),
            ErrorKind::Block { block, blocks: 0 } => write!(f, "no block {block}; there are none"),
            ErrorKind::Block { block, blocks } => write!(f, "no block {block}; there are 0 to {}", blocks - 1),
            ErrorKind::BlockTwice { block } => write!(f, "block {block} is named twice"),
            ErrorKind::Channels { needs, has } => write!(f, "{has} channels; expected {needs}"),
            ErrorKind::Heat { channel, value } => {
                write!(f, "channel {channel} fires {value}; expected a finite number from 0 on")
            }
            ErrorKind::AllBlocks { blocks, removed } => {
                write!(f, "{removed} of {blocks} blocks to remove; at least one has to stay")
            }
            ErrorKind::Removable { removed, most } => write!(f, "{removed} blocks to remove; {most} can be at most"),
            ErrorKind::Stays { block } => write!(f, "block {block} is none that may be removed"),
            ErrorKind::Stage { block, stays } => {
                write!(f, "block {block} is one too many of its stage to remove; {stays} have to stay")
            }
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.kind {
            ErrorKind::Mask(source) => Some(source),
            _ => None,
        }
    }
}
