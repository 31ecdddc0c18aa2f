//! What can be wrong with a dataset, or with what is to become one.

use std::fmt;

use niwaki_tensors::Dtype;

use crate::error::Blame;

/// Why data cannot be read, imported or corrupted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DataFault {
    /// A tensor or file that is not there.
    Missing {
        /// What was looked for.
        expected: String,
    },
    /// A tensor of another shape.
    Shape {
        /// Its shape.
        found: Vec<usize>,
        /// What it should be.
        expected: String,
    },
    /// A tensor of another type.
    Type {
        /// Its type.
        found: Dtype,
        /// What it should be.
        expected: &'static str,
    },
    /// No items at all.
    Empty,
    /// So many of a thing where another number is needed.
    Count {
        /// What is counted, in the plural.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many there should be.
        expected: u64,
    },
    /// A label that names no class.
    Label {
        /// The item, counted from 0.
        item: usize,
        /// Its label.
        found: i64,
        /// How many classes there are.
        classes: usize,
    },
    /// A token that the vocabulary does not have.
    Token {
        /// The item, counted from 0.
        item: usize,
        /// The position in it, counted from 0.
        position: usize,
        /// The token.
        found: i64,
        /// How many tokens there are.
        vocabulary: u64,
    },
    /// Preprocessing, or names of classes, that mean nothing.
    Setting {
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A pixel that is NaN or infinite.
    NotFinite {
        /// The item, counted from 0.
        item: usize,
        /// Flat index in the item.
        index: usize,
    },
    /// An item beyond the last.
    Item {
        /// The item asked for, counted from 0.
        found: usize,
        /// How many there are.
        items: usize,
    },
    /// A buffer of the wrong length.
    Buffer {
        /// Elements that it has.
        found: usize,
        /// Elements that are needed.
        expected: usize,
    },
    /// A file that is something else.
    File {
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A file that ends too early or too late.
    Length {
        /// Bytes that it has, unpacked; none where nobody counted to the end.
        found: Option<u64>,
        /// Bytes that it should have.
        expected: u64,
    },
    /// A line of a text file that means nothing; lines count from 1.
    Line {
        /// The line.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// A picture that its decoder refuses.
    Picture {
        /// What the decoder says.
        why: String,
    },
    /// A picture of another size than the first.
    Size {
        /// Its height and width.
        found: (usize, usize),
        /// Height and width of the first.
        expected: (usize, usize),
    },
    /// More than is dealt with.
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much is allowed.
        max: u64,
    },
    /// A corruption of colours for pictures without any.
    Grey {
        /// The corruption.
        kind: &'static str,
    },
    /// A tokenizer that cannot be used, or text that it cannot read.
    Tokenizer {
        /// What it says.
        why: String,
    },
}

impl DataFault {
    pub(crate) fn blame(&self) -> Blame {
        match self {
            Self::Item { .. } | Self::Buffer { .. } | Self::Grey { .. } => Blame::Caller,
            Self::Limit { .. } => Blame::Limit,
            _ => Blame::Input,
        }
    }
}

/// `2x3` for a shape, `scalar` without dimensions.
fn dims(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "scalar".to_owned();
    }
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}

impl fmt::Display for DataFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { expected } => write!(f, "has no {expected}"),
            Self::Shape { found, expected } => write!(f, "is {}; expected {expected}", dims(found)),
            Self::Type { found, expected } => write!(f, "is {found}; expected {expected}"),
            Self::Empty => f.write_str("has no items; expected at least one"),
            Self::Count { what, found, expected } => write!(f, "has {found} {what}; expected {expected}"),
            Self::Label { item, found, classes } => {
                write!(f, "the label of item {item} is {found}; expected 0 to {}", classes.saturating_sub(1))
            }
            Self::Token { item, position, found, vocabulary } => {
                let last = vocabulary.saturating_sub(1);
                write!(f, "token {position} of item {item} is {found}; expected 0 to {last}")
            }
            Self::Setting { key, found, expected } => write!(f, "`{key}` is `{found}`; expected {expected}"),
            Self::NotFinite { item, index } => {
                write!(f, "pixel {index} of item {item} is NaN or infinite; expected a finite number")
            }
            Self::Item { found, items } => write!(f, "no item {found}; expected 0 to {}", items.saturating_sub(1)),
            Self::Buffer { found, expected } => write!(f, "a buffer of {found} elements; expected {expected}"),
            Self::File { found, expected } => write!(f, "{found}; expected {expected}"),
            Self::Length { found: Some(found), expected } => write!(f, "has {found} bytes; expected {expected}"),
            Self::Length { found: None, expected } => write!(f, "has more bytes than expected: {expected}"),
            Self::Line { line, what } => write!(f, "line {line}: {what}"),
            Self::Picture { why } => write!(f, "cannot be decoded: {why}"),
            Self::Size { found, expected } => {
                write!(f, "is {}x{}; expected {}x{}", found.0, found.1, expected.0, expected.1)
            }
            Self::Limit { what, found, max } => write!(f, "{found} {what}; at most {max} are dealt with"),
            Self::Grey { kind } => write!(f, "`{kind}` changes colours; expected images of 3 channels, found 1"),
            Self::Tokenizer { why } => write!(f, "tokenizer: {why}"),
        }
    }
}

impl std::error::Error for DataFault {}
