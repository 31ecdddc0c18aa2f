//! Block types: codes and scales of 32 or 256 weights in one run of bytes, as ggml
//! defines them and GGUF files hold them.

mod codes;
mod decode;
mod grid;

use core::fmt;
use core::ops::Range;

pub use codes::{pack_blocks, unpack_blocks};
#[cfg(target_arch = "x86_64")]
pub(crate) use decode::{part, six_bits};
pub use grid::BlockGrid;

use crate::half_floats::f16_to_f32;
use crate::rows::{check_cols, check_rows};
use crate::simd::Level;
use crate::{Error, ErrorKind};

/// A layout of weights in blocks; a row is a whole number of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockType {
    /// 4 bits, one scale for 32 weights.
    Q4_0,
    /// 4 bits, one scale and one minimum for 32 weights.
    Q4_1,
    /// 5 bits, one scale for 32 weights.
    Q5_0,
    /// 5 bits, one scale and one minimum for 32 weights.
    Q5_1,
    /// 8 bits, one scale for 32 weights.
    Q8_0,
    /// 2 bits, a 4-bit scale and minimum for 16 of 256 weights.
    Q2K,
    /// 3 bits, a 6-bit scale for 16 of 256 weights.
    Q3K,
    /// 4 bits, a 6-bit scale and minimum for 32 of 256 weights.
    Q4K,
    /// 5 bits, a 6-bit scale and minimum for 32 of 256 weights.
    Q5K,
    /// 6 bits, an 8-bit scale for 16 of 256 weights.
    Q6K,
    /// 4 bits into a table of uneven steps, one scale for 32 weights.
    Iq4Nl,
    /// 4 bits into the same table, a 6-bit scale for 32 of 256 weights.
    Iq4Xs,
    /// Floats of 4 bits (E2M1), one power of two (E8M0) for 32 weights.
    Mxfp4,
}

impl BlockType {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
        Self::Mxfp4,
    ];

    /// Weights of one block.
    pub const fn elements(self) -> usize {
        match self {
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K | Self::Iq4Xs => 256,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Iq4Nl | Self::Mxfp4 => 32,
        }
    }

    /// Bytes of one block.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Q4_0 | Self::Iq4Nl => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
            Self::Iq4Xs => 136,
            Self::Mxfp4 => 17,
        }
    }

    /// The text form, as in a scheme.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q8_0 => "q8_0",
            Self::Q2K => "q2_k",
            Self::Q3K => "q3_k",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
            Self::Iq4Nl => "iq4_nl",
            Self::Iq4Xs => "iq4_xs",
            Self::Mxfp4 => "mxfp4",
        }
    }

    /// The type of that text form.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Bytes of a row of `cols` weights.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BlockRow`] for a row that is not a whole number of blocks,
    /// [`ErrorKind::Overflow`] where the count does not fit into `usize`.
    pub fn row_bytes(self, cols: usize) -> Result<usize, Error> {
        if !cols.is_multiple_of(self.elements()) {
            return Err(ErrorKind::BlockRow { kind: self, cols }.into());
        }
        let bytes = (cols / self.elements()).checked_mul(self.bytes());
        bytes.ok_or_else(|| ErrorKind::Overflow.into())
    }

    /// Where the F16 scales of a block begin; none for powers of two.
    pub const fn halves(self) -> &'static [usize] {
        match self {
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 | Self::Iq4Nl | Self::Iq4Xs => &[0],
            Self::Q4_1 | Self::Q5_1 | Self::Q4K | Self::Q5K => &[0, 2],
            Self::Q2K => &[80, 82],
            Self::Q3K => &[108],
            Self::Q6K => &[208],
            Self::Mxfp4 => &[],
        }
    }
}

impl fmt::Display for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor of blocks, borrowed.
///
/// # Invariants
///
/// - every row is a whole number of blocks, and all of them are there
///
/// Opening costs nothing; [`check`](Self::check) reads all scales. Decoding is safe
/// without it.
///
/// # Examples
///
/// ```
/// use niwaki_codes::{BlockType, BlockView, simd::Level};
///
/// // A scale of 0.5, then 32 bytes.
/// let mut block = [0; 34];
/// (block[1], block[2], block[33]) = (0x38, 3, 0xFF);
/// let view = BlockView::new(BlockType::Q8_0, 1, 32, &block)?;
/// view.check()?;
/// let mut row = [9.0; 32];
/// view.dequantize_rows(Level::best(), 0..1, &mut row)?;
/// assert_eq!((row[0], row[1], row[31]), (1.5, 0.0, -0.5));
/// # Ok::<(), niwaki_codes::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BlockView<'a> {
    kind: BlockType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    codes: &'a [u8],
}

impl<'a> BlockView<'a> {
    /// A view of `rows` by `cols` weights over their blocks.
    ///
    /// # Errors
    ///
    /// Those of [`BlockType::row_bytes`]; [`ErrorKind::PartLength`] for blocks of another
    /// length, [`ErrorKind::Overflow`] where the element count does not fit into `usize`.
    pub fn new(kind: BlockType, rows: usize, cols: usize, codes: &'a [u8]) -> Result<Self, Error> {
        let row_bytes = kind.row_bytes(cols)?;
        rows.checked_mul(cols).ok_or(ErrorKind::Overflow)?;
        let (needs, has) = (rows.checked_mul(row_bytes).ok_or(ErrorKind::Overflow)?, codes.len());
        if needs != has {
            return Err(ErrorKind::PartLength { part: "codes", needs, has }.into());
        }
        Ok(Self { kind, rows, cols, row_bytes, codes })
    }

    /// The layout of its blocks.
    pub fn block_type(&self) -> BlockType {
        self.kind
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Weights of one row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The blocks of one row; none past the last row.
    pub fn row_codes(&self, row: usize) -> &'a [u8] {
        let start = row.saturating_mul(self.row_bytes);
        self.codes.get(start..start.saturating_add(self.row_bytes)).unwrap_or(&[])
    }

    /// Reads every scale and refuses what no encoder writes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Scale`] for an infinity or NaN, with the number of the block.
    pub fn check(&self) -> Result<(), Error> {
        let finite = |block: &[u8]| {
            let half = |at: &usize| {
                let bytes = block.get(*at..).and_then(|rest| rest.first_chunk());
                bytes.is_none_or(|bytes| f16_to_f32(u16::from_le_bytes(*bytes)).is_finite())
            };
            // The largest E8M0 is its NaN.
            let power = self.kind != BlockType::Mxfp4 || block.first().is_none_or(|e| *e != u8::MAX);
            power && self.kind.halves().iter().all(half)
        };
        let mut blocks = self.codes.chunks(self.kind.bytes().max(1));
        match blocks.position(|block| !finite(block)) {
            Some(group) => Err(ErrorKind::Scale { group }.into()),
            None => Ok(()),
        }
    }

    /// Decodes whole rows into `out`, row by row.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Range`] for rows that are not there or an `out` of another length.
    pub fn dequantize_rows(&self, level: Level, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        check_rows(&rows, (self.rows, self.cols), out.len())?;
        let bytes = rows.start.saturating_mul(self.row_bytes)..rows.end.saturating_mul(self.row_bytes);
        decode::blocks(level, self.kind, self.codes.get(bytes).unwrap_or(&[]), out);
        Ok(())
    }

    /// Decodes the columns `first..first + out.len()` of one row, `first` that of a block.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Range`] for a row or columns that are not there, and for another `first`.
    pub fn dequantize_cols(&self, level: Level, row: usize, first: usize, out: &mut [f32]) -> Result<(), Error> {
        check_cols((row, first, self.kind.elements()), (self.rows, self.cols), out.len())?;
        let from = first / self.kind.elements() * self.kind.bytes();
        decode::blocks(level, self.kind, self.row_codes(row).get(from..).unwrap_or(&[]), out);
        Ok(())
    }
}

#[cfg(all(test, feature = "std"))]
mod tests;
