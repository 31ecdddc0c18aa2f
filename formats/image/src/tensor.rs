//! Tensors: codes of weights with the numbers of their rows, and tables.

use crate::fields::Fields;
use crate::step::Times;

/// What a tensor holds. Kinds of later versions have other numbers: bit-planes, sparse codes, mask heads, signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A code of 8 bits a weight, and a [`Row`] for each row.
    Int8,
    /// A code of 4 bits a weight, the first of two in the low half of a byte; rows begin at a byte.
    Int4,
    /// 256 numbers of 32 bits: [`ONE`](crate::ONE) times e to the power of minus 0, 1, .. 255 steps.
    Exponentials,
}

impl Kind {
    pub(crate) const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Int8),
            2 => Some(Self::Int4),
            3 => Some(Self::Exponentials),
            _ => None,
        }
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Int8 => 1,
            Self::Int4 => 2,
            Self::Exponentials => 3,
        }
    }

    /// Bytes of a row of `cols`.
    pub const fn row_bytes(self, cols: usize) -> usize {
        match self {
            Self::Int8 => cols,
            Self::Int4 => cols.div_ceil(2),
            Self::Exponentials => cols.saturating_mul(4),
        }
    }
}

/// An entry of the table of tensors: 32 bytes.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) kind: u8,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Where codes begin, from the start of the file.
    pub(crate) codes: usize,
    /// Where the numbers of rows begin.
    pub(crate) numbers: usize,
}

impl Entry {
    pub(crate) fn read(bytes: &[u8; 32]) -> Self {
        let mut fields = Fields(bytes);
        let kind = fields.u8();
        fields.skip::<3>();
        let [rows, cols, codes, numbers] = [(); 4].map(|()| fields.count());
        Self { kind, rows, cols, codes, numbers }
    }
}

/// A tensor of an image, checked.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// What it holds.
    pub kind: Kind,
    /// Rows: output channels.
    pub rows: usize,
    /// Weights of a row: places of the window, row by row, of each the channels.
    pub cols: usize,
    pub(crate) codes: &'a [u8],
    pub(crate) numbers: &'a [[u8; 12]],
}

impl<'a> Tensor<'a> {
    /// All codes, row after row.
    pub fn codes(&self) -> &'a [u8] {
        self.codes
    }

    /// The bytes of a row's codes; none beyond the last.
    pub fn row(&self, at: usize) -> &'a [u8] {
        let bytes = self.kind.row_bytes(self.cols);
        let from = at.saturating_mul(bytes);
        self.codes.get(from..from.saturating_add(bytes)).unwrap_or(&[])
    }

    /// The numbers of each row; none of tables.
    pub fn numbers(&self) -> impl Iterator<Item = Row> + 'a {
        self.numbers.iter().map(Row::read)
    }

    /// The entries of a table.
    pub fn table(&self) -> &'a [[u8; 4]] {
        self.codes.as_chunks().0
    }
}

/// The numbers of a row of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What sums start from: the bias in steps of the sum, less the zero point of the input times the row's codes.
    pub bias: i32,
    /// Steps of the output in one of the sum.
    pub times: Times,
}

impl Row {
    fn read(bytes: &[u8; 12]) -> Self {
        let mut fields = Fields(bytes);
        let (bias, multiplier) = (fields.i32(), fields.i32());
        Self { bias, times: Times { multiplier, shift: fields.u8() } }
    }
}
