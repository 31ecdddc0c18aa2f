//! Weights of a matrix as codes of a few bits, which products read as they are stored.

use std::ops::Range;

use niwaki_codes::product::{Form, Inputs, Kernel};
use niwaki_codes::simd::Level;
use niwaki_codes::{
    Bits, BlockType, BlockView, Elastic, ElasticParts, ElasticView, Error, GroupSize, Grouping, Symmetry, Uniform,
    UniformView, pack_row, unpack_blocks,
};

/// The weights of a matrix `[rows, cols]`, as stored.
///
/// ```
/// use niwaki_codes::Scheme;
/// use niwaki_model::{Codes, Packed};
///
/// let Scheme::Uniform(scheme) = "int4/row/sym".parse()? else { unreachable!() };
/// let (codes, scales) = (vec![0x91, 0x0F], 0.5f32.to_le_bytes().to_vec());
/// let weights = Packed::new(1, 3, Codes::Uniform { scheme, codes, scales, zeros: None })?; // -3.5 0.5 3.5
/// assert_eq!((weights.rows(), weights.cols(), weights.bytes()), (1, 3, 6));
/// # Ok::<(), niwaki_codes::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Packed {
    rows: usize,
    cols: usize,
    codes: Codes,
    activations: Activations,
}

/// What packed weights are multiplied with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// Single floats.
    #[default]
    Float,
    /// Codes of 8 bits, each 32 of an input with a scale of their own. Blocks and elastic codes take floats.
    Dynamic,
}

/// The bytes of weights, and what they mean.
#[derive(Clone, Debug)]
pub enum Codes {
    /// Evenly spaced codes.
    Uniform {
        /// Their width, grid and groups.
        scheme: Uniform,
        /// The codes, row after row.
        codes: Vec<u8>,
        /// A scale for each group.
        scales: Vec<u8>,
        /// A zero point for each group, on affine grids.
        zeros: Option<Vec<u8>>,
    },
    /// Blocks of ggml.
    Blocks(BlockType, Vec<u8>),
    /// Bit-planes, of which those of a width are read.
    Elastic(Box<Planes>),
}

/// The parts of elastic codes.
#[derive(Clone, Debug)]
pub struct Planes {
    /// Their groups and the widths they serve.
    pub scheme: Elastic,
    /// The width that is read.
    pub width: Bits,
    /// Middle and half of each group.
    pub base: Vec<u8>,
    /// Corrections by width.
    pub fixes: [Option<Vec<u8>>; 9],
    /// Planes by number.
    pub planes: [Option<Vec<u8>>; 8],
}

impl Codes {
    /// Blocks of ggml; those of one scale as evenly spaced codes in groups of 32, which stand for the
    /// same numbers and are faster to multiply.
    ///
    /// # Errors
    ///
    /// Bytes that are no whole number of blocks.
    pub fn of_blocks(kind: BlockType, blocks: Vec<u8>) -> Result<Self, Error> {
        if !matches!(kind, BlockType::Q4_0 | BlockType::Q5_0 | BlockType::Q8_0) {
            return Ok(Self::Blocks(kind, blocks));
        }
        let (each, bits) = (kind.elements(), kind.code_bits());
        let scheme = Uniform::new(bits, Grouping::Group(GroupSize::new(each)?), Symmetry::Symmetric);
        let count = blocks.len().div_ceil(kind.bytes());
        let (mut codes, mut scales) = (vec![0; count * each * bits.get() as usize / 8], Vec::with_capacity(2 * count));
        let mut all = vec![0; each];
        for (block, codes) in blocks.chunks(kind.bytes()).zip(codes.chunks_mut(each * bits.get() as usize / 8)) {
            unpack_blocks(Level::best(), kind, block, &mut all)?;
            pack_row(Level::best(), bits, &all, codes)?;
            scales.extend(block.iter().take(2));
        }
        Ok(Self::Uniform { scheme, codes, scales, zeros: None })
    }
}

/// The same, borrowed.
#[derive(Clone, Copy)]
#[expect(clippy::large_enum_variant, reason = "a view is made for one call, on the stack")]
enum View<'a> {
    Uniform(UniformView<'a>),
    Blocks(BlockView<'a>),
    Elastic(ElasticView<'a>, Bits),
}

impl Packed {
    /// Weights of `rows` by `cols`.
    ///
    /// # Errors
    ///
    /// Parts of another length than these ask for, and a width that is not served.
    pub fn new(rows: usize, cols: usize, codes: Codes) -> Result<Self, Error> {
        let packed = Self { rows, cols, codes, activations: Activations::Float };
        if let View::Elastic(view, width) = packed.view()? {
            view.scheme().widths.up_to(width)?;
        }
        Ok(packed)
    }

    /// The same weights, multiplied with such activations.
    #[must_use]
    pub fn with(self, activations: Activations) -> Self {
        Self { activations, ..self }
    }

    /// Whether inputs are rounded, however many there are.
    pub(crate) fn rounds(&self) -> bool {
        self.activations == Activations::Dynamic && matches!(self.codes, Codes::Uniform { .. })
    }

    /// How many rows there are: outputs of a linear layer.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Weights of one row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> usize {
        let some = |parts: &[Option<Vec<u8>>]| parts.iter().flatten().map(Vec::len).sum::<usize>();
        match &self.codes {
            Codes::Uniform { codes, scales, zeros, .. } => {
                codes.len() + scales.len() + zeros.as_ref().map_or(0, Vec::len)
            }
            Codes::Blocks(_, codes) => codes.len(),
            Codes::Elastic(of) => of.base.len() + some(&of.fixes) + some(&of.planes),
        }
    }

    /// The form of inputs that products are fastest with.
    pub(crate) fn form(&self, kernel: Kernel) -> Form {
        match self.view() {
            Ok(View::Uniform(view)) => view.form(kernel, self.rounds()),
            _ => Form::Plain,
        }
    }

    /// The products of some rows with inputs.
    pub(crate) fn products(
        &self,
        kernel: Kernel,
        rows: Range<usize>,
        x: &Inputs<'_>,
        out: &mut [f32],
    ) -> Result<(), Error> {
        match self.view()? {
            View::Uniform(view) => view.products(kernel, rows, x, out),
            View::Blocks(view) => view.products(kernel, rows, x, out),
            View::Elastic(view, width) => view.products(kernel, width, rows, x, out),
        }
    }

    /// Decodes some rows.
    pub(crate) fn dequantize_rows(&self, kernel: Kernel, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        match self.view()? {
            View::Uniform(view) => view.dequantize_rows(kernel.level(), rows, out),
            View::Blocks(view) => view.dequantize_rows(kernel.level(), rows, out),
            View::Elastic(view, width) => view.dequantize_rows(kernel.level(), width, rows, out),
        }
    }

    fn view(&self) -> Result<View<'_>, Error> {
        let (rows, cols) = (self.rows, self.cols);
        Ok(match &self.codes {
            Codes::Uniform { scheme, codes, scales, zeros } => {
                View::Uniform(UniformView::new(*scheme, rows, cols, codes, scales, zeros.as_deref())?)
            }
            Codes::Blocks(kind, codes) => View::Blocks(BlockView::new(*kind, rows, cols, codes)?),
            Codes::Elastic(of) => {
                let fixes = of.fixes.each_ref().map(|fix| fix.as_deref());
                let planes = of.planes.each_ref().map(|plane| plane.as_deref());
                let parts = ElasticParts { base: &of.base, fixes, planes };
                View::Elastic(ElasticView::new(of.scheme, rows, cols, parts)?, of.width)
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_one_scale_are_the_same_numbers_in_groups() {
        let mut state = 7u32;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for kind in [BlockType::Q4_0, BlockType::Q5_0, BlockType::Q8_0, BlockType::Q4_1] {
            let (rows, cols) = (3, 96);
            let mut bytes: Vec<u8> = (0..rows * kind.row_bytes(cols).unwrap()).map(|_| byte()).collect();
            // Finite scales and minima.
            bytes.chunks_mut(kind.bytes()).for_each(|block| (block[1], block[3]) = (0x31, 0x2d));
            let mut expected = vec![0.0; rows * cols];
            let view = BlockView::new(kind, rows, cols, &bytes).unwrap();
            view.dequantize_rows(Level::Scalar, 0..rows, &mut expected).unwrap();
            let packed = Packed::new(rows, cols, Codes::of_blocks(kind, bytes.clone()).unwrap()).unwrap();
            assert_eq!(matches!(packed.codes, Codes::Blocks(..)), kind == BlockType::Q4_1);
            let mut found = vec![1.0; rows * cols];
            packed.dequantize_rows(Kernel::best(), 0..rows, &mut found).unwrap();
            assert_eq!(found, expected, "{kind}");
        }
        assert!(Codes::of_blocks(BlockType::Q4_0, vec![0; 17]).is_err());
    }
}
