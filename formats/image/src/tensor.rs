//! Tensors: codes of weights with the numbers of their rows, and tables.

use crate::fields::Fields;
use crate::step::Times;

/// What a tensor holds. Kinds of later versions have other numbers: mask heads, signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A code of 8 bits a weight, and a [`Row`] for each row.
    Int8,
    /// A code of 4 bits a weight, the first of two in the low half of a byte; rows begin at a byte.
    Int4,
    /// 256 numbers of 32 bits: [`ONE`](crate::ONE) times e to the power of minus 0, 1, .. 255 steps.
    Exponentials,
    /// Bits of codes, the most significant of all weights first, then the next; rows of a plane begin at a byte. A [`Row`] for
    /// each row and each width that the image serves.
    ///
    /// The number of a code `q` of `b` bits is the odd one `2 q + 1 - 2^b`.
    Elastic,
    /// Codes of 8 bits of those weights that are kept, row after row; a bit for each weight says whether it is. The others are 0.
    Sparse8,
    /// The same of 4 bits; those of a row begin at a byte.
    Sparse4,
}

/// The most planes of a tensor.
pub(crate) const PLANES: usize = 8;

impl Kind {
    pub(crate) const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Int8),
            2 => Some(Self::Int4),
            3 => Some(Self::Exponentials),
            4 => Some(Self::Elastic),
            5 => Some(Self::Sparse8),
            6 => Some(Self::Sparse4),
            _ => None,
        }
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Int8 => 1,
            Self::Int4 => 2,
            Self::Exponentials => 3,
            Self::Elastic => 4,
            Self::Sparse8 => 5,
            Self::Sparse4 => 6,
        }
    }

    /// Whether weights are left out.
    pub const fn sparse(self) -> bool {
        matches!(self, Self::Sparse8 | Self::Sparse4)
    }

    /// Bytes of so many kept codes of a row.
    pub const fn kept_bytes(self, kept: usize) -> usize {
        if matches!(self, Self::Sparse4) { kept.div_ceil(2) } else { kept }
    }

    /// Bytes of a row of `cols`: of elastic ones in one plane, of sparse ones of the bits that say which are kept.
    pub const fn row_bytes(self, cols: usize) -> usize {
        match self {
            Self::Int8 => cols,
            Self::Int4 => cols.div_ceil(2),
            Self::Exponentials => cols.saturating_mul(4),
            Self::Elastic | Self::Sparse8 | Self::Sparse4 => cols.div_ceil(8),
        }
    }
}

/// An entry of the table of tensors: 32 bytes.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) kind: u8,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Where codes begin, from the start of the file; of elastic ones from that of a plane of all tensors.
    pub(crate) codes: usize,
    /// Where the numbers of rows begin; of elastic ones from where those of a width do.
    pub(crate) numbers: usize,
    /// Bytes of the kept codes of a sparse tensor.
    pub(crate) kept: usize,
}

impl Entry {
    pub(crate) fn read(bytes: &[u8; 32]) -> Self {
        let mut fields = Fields(bytes);
        let kind = fields.u8();
        fields.skip::<3>();
        let [rows, cols, codes, numbers, kept] = [(); 5].map(|()| fields.count());
        Self { kind, rows, cols, codes, numbers, kept }
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
    pub(crate) planes: [&'a [u8]; PLANES],
    pub(crate) width: u8,
    pub(crate) kept: &'a [u8],
}

impl<'a> Tensor<'a> {
    /// Bytes of the file that are its own.
    pub(crate) fn bytes(&self) -> u64 {
        let parts = [self.codes, self.kept, self.numbers.as_flattened()].into_iter().chain(self.planes());
        parts.map(|part| part.len() as u64).sum()
    }

    /// All codes, row after row; of sparse ones the bits that say which are kept; none of elastic ones.
    pub fn codes(&self) -> &'a [u8] {
        self.codes
    }

    /// The bytes of a row's codes, or of its bits where it is sparse; none beyond the last.
    pub fn row(&self, at: usize) -> &'a [u8] {
        self.codes.get(self.range(at)).unwrap_or(&[])
    }

    fn range(&self, at: usize) -> core::ops::Range<usize> {
        let bytes = self.row_bytes();
        let from = at.saturating_mul(bytes);
        from..from.saturating_add(bytes)
    }

    /// The planes of elastic codes, the most significant first: as many as the image has bits of a weight.
    pub fn planes(&self) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.planes.into_iter().take(self.width.into())
    }

    /// A row of each of them.
    pub fn plane_rows(&self, at: usize) -> impl Iterator<Item = &'a [u8]> + Clone {
        let range = self.range(at);
        self.planes().map(move |plane| plane.get(range.clone()).unwrap_or_default())
    }

    /// The kept codes of all rows of a sparse tensor.
    pub fn kept(&self) -> &'a [u8] {
        self.kept
    }

    /// Bits of a weight of elastic codes.
    pub fn width(&self) -> u8 {
        self.width
    }

    /// Bytes of a row's codes; see [`Kind::row_bytes`].
    pub fn row_bytes(&self) -> usize {
        self.kind.row_bytes(self.cols)
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
