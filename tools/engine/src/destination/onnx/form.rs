//! How codes of a weight stand in a graph.
//!
//! ```text
//! one scale for all      DequantizeLinear                      from opset 10
//! one a row              DequantizeLinear, along an axis       from opset 13
//! one a group            com.microsoft's MatMulNBits           of products, in any opset
//!                        DequantizeLinear, in blocks           of anything else, from opset 21
//! ```

use niwaki_codes::{GroupSize, Grouping, ScaleType, Symmetry, Uniform};
use niwaki_onnx::DataType;

use super::uses::Use;

/// The first opset with `DequantizeLinear`.
const LINEAR: i64 = 10;
/// That with scales along an axis.
const AXIS: i64 = 13;
/// That with scales of blocks, and with codes of 4 bits.
const BLOCKS: i64 = 21;

/// Blocks that the kernels of onnxruntime have.
const NBITS_BLOCKS: [usize; 5] = [16, 32, 64, 128, 256];

/// A weight of a graph.
#[derive(Clone, Debug)]
pub(crate) struct Weight {
    pub(crate) dims: Vec<usize>,
    pub(crate) dtype: DataType,
    pub(crate) uses: Use,
}

/// How the codes of one weight stand in the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) scheme: Uniform,
    /// Rows and columns as codes have them: those of the weight, or, where each of its columns
    /// belongs to one output, those of its transpose.
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) across: bool,
    pub(crate) node: Node,
}

/// The node that reads the codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// `DequantizeLinear` makes the weight.
    Linear {
        codes: DataType,
        /// The shape of the codes.
        dims: Vec<usize>,
        /// The dimension along which scales differ; none for one scale.
        axis: Option<usize>,
        /// Whether a `Reshape` gives the weight its dimensions.
        reshape: bool,
        /// Whether a `Cast` gives it its type.
        cast: bool,
    },
    /// `MatMulNBits` stands for the product.
    NBits { scales: DataType },
}

impl Weight {
    /// Whether each column of it belongs to one output.
    pub(super) fn outputs_last(&self) -> bool {
        matches!(self.uses, Use::Product { outputs_first: false, .. }) && self.dims.len() == 2
    }

    fn matrix(&self) -> (usize, usize) {
        match self.dims.as_slice() {
            [] => (1, 1),
            [n] => (1, *n),
            [rows, rest @ ..] => (*rows, rest.iter().product()),
        }
    }

    /// How codes of a scheme stand in a graph of opset `opset`, or why they cannot. `across` says
    /// that they are codes of the transpose.
    pub(super) fn form(&self, scheme: &Uniform, across: bool, opset: i64) -> Result<Form, String> {
        let (rows, cols) = match (across, self.matrix()) {
            (true, (rows, cols)) => (cols, rows),
            (false, matrix) => matrix,
        };
        let node = match scheme.grouping {
            Grouping::Group(group) => match self.nbits(scheme, group, across) {
                Some(node) => node,
                None => self.blocks((scheme, group), (rows, cols), across, opset)?,
            },
            Grouping::Row if rows > 1 => {
                since(opset, AXIS, "a scale for each row")?;
                self.linear(scheme, opset, Some(usize::from(across)))
            }
            _ => {
                since(opset, LINEAR, "DequantizeLinear")?;
                self.linear(scheme, opset, None)
            }
        };
        Ok(Form { scheme: *scheme, rows, cols, across, node })
    }

    fn linear(&self, scheme: &Uniform, opset: i64, axis: Option<usize>) -> Node {
        let cast = self.dtype != DataType::Float;
        Node::Linear { codes: code_type(scheme, opset), dims: self.dims.clone(), axis, reshape: false, cast }
    }

    fn nbits(&self, scheme: &Uniform, group: GroupSize, across: bool) -> Option<Node> {
        let fits = matches!(self.uses, Use::Product { outputs_first, plain: true } if outputs_first != across);
        let kernels = matches!(scheme.bits.get(), 2 | 4 | 8) && NBITS_BLOCKS.contains(&group.get());
        let scales = match (self.dtype, scheme.scale_type()) {
            (DataType::Float, _) => DataType::Float,
            (DataType::Float16, ScaleType::F16) => DataType::Float16,
            _ => return None,
        };
        (fits && kernels && self.dims.len() == 2).then_some(Node::NBits { scales })
    }

    fn blocks(
        &self,
        (scheme, group): (&Uniform, GroupSize),
        (rows, cols): (usize, usize),
        across: bool,
        opset: i64,
    ) -> Result<Node, String> {
        since(opset, BLOCKS, &format!("groups of {group} outside of plain products", group = group.get()))?;
        let cast = self.dtype != DataType::Float;
        let (reshape, axis) = (self.dims.len() != 2, usize::from(!across));
        let dims = if reshape { vec![rows, cols] } else { self.dims.clone() };
        Ok(Node::Linear { codes: code_type(scheme, opset), dims, axis: Some(axis), reshape, cast })
    }
}

impl Form {
    /// Weights that share a scale, along a row.
    pub(crate) fn group(&self) -> Option<usize> {
        match self.scheme.grouping {
            Grouping::Group(group) => Some(group.get()),
            Grouping::Row | Grouping::Tensor => None,
        }
    }

    /// Groups of one row.
    pub(crate) fn blocks(&self) -> usize {
        self.group().map_or(1, |group| self.cols.div_ceil(group))
    }

    /// Bytes of the initializers, for a weight of `rank` dimensions; none where that is more than an
    /// address can say.
    pub(crate) fn bytes(&self, rank: usize) -> Option<u64> {
        let groups = self.scheme.groups(self.rows, self.cols);
        let affine = self.scheme.symmetry == Symmetry::Affine;
        let bits = self.scheme.bits.get() as usize;
        let all = match &self.node {
            Node::Linear { codes, reshape, .. } => {
                let zeros = if affine { codes.byte_len(groups)? } else { 0 };
                let shape = if *reshape { rank.checked_mul(8)? } else { 0 };
                codes.byte_len(self.rows.checked_mul(self.cols)?)?.checked_add(zeros + shape)?
            }
            Node::NBits { .. } => {
                let zeros = if affine { self.rows.checked_mul((self.blocks() * bits).div_ceil(8))? } else { 0 };
                groups.checked_mul(self.group()? * bits / 8)?.checked_add(zeros)?
            }
        };
        let scale = match self.node {
            Node::NBits { scales } => scales.bits() / 8,
            Node::Linear { .. } => 4,
        };
        Some(all.checked_add(groups.checked_mul(scale)?)? as u64)
    }
}

fn since(opset: i64, needs: i64, what: &str) -> Result<(), String> {
    match opset >= needs {
        true => Ok(()),
        false => Err(format!("{what} needs opset {needs}, and the model's is {opset}")),
    }
}

/// The type of codes: signed around 0, or unsigned beside zero points.
fn code_type(scheme: &Uniform, opset: i64) -> DataType {
    match (scheme.bits.get() <= 4 && opset >= BLOCKS, scheme.symmetry) {
        (true, Symmetry::Symmetric) => DataType::Int4,
        (true, Symmetry::Affine) => DataType::Uint4,
        (false, Symmetry::Symmetric) => DataType::Int8,
        (false, Symmetry::Affine) => DataType::Uint8,
    }
}
