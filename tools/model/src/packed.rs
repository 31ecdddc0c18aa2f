//! Weights of a matrix as codes of a few bits, which products read as they are stored.

use std::ops::Range;

use niwaki_codes::product::{Form, Inputs, Kernel};
use niwaki_codes::{Bits, BlockType, BlockView, Elastic, ElasticParts, ElasticView, Error, Uniform, UniformView};

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
    Elastic {
        /// Its groups and the widths it serves.
        scheme: Elastic,
        /// The width that is read.
        width: Bits,
        /// Middle and half of each group.
        base: Vec<u8>,
        /// Corrections by width.
        fixes: [Option<Vec<u8>>; 9],
        /// Planes by number.
        planes: [Option<Vec<u8>>; 8],
    },
}

/// The same, borrowed.
#[derive(Clone, Copy)]
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
        let packed = Self { rows, cols, codes };
        if let View::Elastic(view, width) = packed.view()? {
            view.scheme().widths.up_to(width)?;
        }
        Ok(packed)
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
            Codes::Elastic { base, fixes, planes, .. } => base.len() + some(fixes) + some(planes),
        }
    }

    /// The form of inputs that products are fastest with.
    pub(crate) fn form(&self, kernel: Kernel) -> Form {
        match self.view() {
            Ok(View::Uniform(view)) => view.form(kernel, false),
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
            Codes::Elastic { scheme, width, base, fixes, planes } => {
                let fixes = fixes.each_ref().map(|fix| fix.as_deref());
                let parts = ElasticParts { base, fixes, planes: planes.each_ref().map(|plane| plane.as_deref()) };
                View::Elastic(ElasticView::new(*scheme, rows, cols, parts)?, *width)
            }
        })
    }
}
