//! Layers of an ONNX file whose weights and inputs are quantized.
//!
//! ```text
//! weights   int8 codes -> DequantizeLinear -> the layer
//! input     [Clip ->] QuantizeLinear -> DequantizeLinear -> the layer
//! ```
//!
//! Zero points are whole numbers, and 0 lies on every grid: what a convolution pads with is 0 exactly. Codes narrower than 8
//! bits stand in int8 or uint8; of an input, `Clip` keeps them as narrow as they are.

mod bias;
mod fixed;

use niwaki_model::Tensor;
use niwaki_onnx::DataType;
use niwaki_onnx::build::{attr_int, initializer, node};
use niwaki_onnx::proto::{GraphProto, NodeProto, TensorProto};
use niwaki_quant::fake_quant::{Learned, codes};

use crate::error::{Error, ErrorKind};
use crate::matrix::{by_row, transposed};
use crate::model::Model;
use crate::train::Filled;
pub use fixed::{Eight, Fixed, Range, fixed};

/// The first opset whose scales lie along an axis.
const OPSET: i64 = 13;

/// A layer, by the name of its weight.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'l> {
    pub(crate) weight: &'l str,
    /// Whether rows of the weight are inputs.
    pub(crate) turned: bool,
}

/// The grid of what flows into a layer.
#[derive(Clone, Copy)]
pub(crate) struct Input {
    pub(crate) grid: Learned,
    /// Whether its codes have a sign.
    pub(crate) signed: bool,
    /// Whether they have fewer than 8 bits.
    pub(crate) narrow: bool,
}

/// The file of a model, which is of an opset that has what quantized layers need.
///
/// # Errors
///
/// A model that is no ONNX file, or one of an opset before 13.
pub(crate) fn file(model: &Model) -> Result<Filled, Error> {
    Filled::of_opset(model, OPSET, "quantized weights of rows")
}

/// Puts the quantizers of a layer into a file's graph: of its weights one grid for all or one for each row, of its input one.
///
/// # Errors
///
/// No node that takes the weight.
pub(crate) fn quantize(
    graph: &mut GraphProto,
    layer: Layer<'_>,
    weights: Option<(&[Learned], &Tensor)>,
    input: Option<Input>,
) -> Result<(), Error> {
    let takes = |node: &NodeProto| node.input.get(1).is_some_and(|name| name == layer.weight);
    let unlike = |what: &str| Error::from(ErrorKind::Unlike { what: what.to_owned() });
    let at = graph.node.iter().position(takes).ok_or_else(|| unlike("no node of the file has it as its weight"))?;
    let mut added = Added::default();
    let weight = weights.map(|(grids, weights)| added.weights(layer, grids, weights));
    let from = graph.node[at].input.first().cloned().unwrap_or_default();
    let input = input.map(|input| added.input(layer, &from, input));
    if let Some(weight) = weight {
        graph.initializer.retain(|tensor| tensor.name() != layer.weight);
        graph.input.retain(|input| input.name() != layer.weight);
        graph.node[at].input[1] = weight;
    }
    input.into_iter().for_each(|input| graph.node[at].input[0] = input);
    graph.initializer.extend(added.tensors);
    graph.node.splice(at..at, added.nodes);
    Ok(())
}

/// Nodes and tensors that a layer gets.
#[derive(Default)]
struct Added {
    nodes: Vec<NodeProto>,
    tensors: Vec<TensorProto>,
}

/// Scales and zero points of grids.
fn numbers(grids: &[Learned]) -> (Vec<f32>, Vec<i32>) {
    grids.iter().map(|grid| (grid.step(), grid.with_zero().1)).unzip()
}

impl Added {
    /// A tensor; its name.
    fn tensor(&mut self, name: String, of: DataType, dims: &[usize], bytes: Vec<u8>) -> String {
        self.tensors.push(initializer(&name, of, dims, bytes));
        name
    }

    /// The scales and zero points of grids, along an axis where there are several; their names.
    fn grid(&mut self, name: &str, grids: &[Learned], of: DataType, rows: bool) -> [String; 2] {
        let (steps, zeros) = numbers(grids);
        let dims: &[usize] = if rows { &[grids.len()] } else { &[] };
        let steps = steps.iter().flat_map(|step| step.to_le_bytes()).collect();
        let zeros = zeros.iter().map(|zero| *zero as u8).collect();
        [
            self.tensor(format!("{name}.scale"), DataType::Float, dims, steps),
            self.tensor(format!("{name}.zero"), of, dims, zeros),
        ]
    }

    /// Codes of weights, and what makes weights of them; the name of these.
    fn weights(&mut self, layer: Layer<'_>, grids: &[Learned], weights: &Tensor) -> String {
        let (shape, all) = (weights.shape(), weights.get::<f32>().unwrap_or_default());
        let cols = shape.last().copied().unwrap_or(1);
        let rows = grids.len() > 1;
        let swap = layer.turned && rows;
        let by_row = by_row(all, cols, swap);
        let row = (by_row.len() / grids.len().max(1)).max(1);
        let bytes: Vec<i8> = by_row.chunks(row).zip(grids).flat_map(|(row, grid)| codes(*grid, row)).collect();
        let bytes = if swap { transposed(&bytes, all.len() / cols.max(1)) } else { bytes };
        let name = layer.weight;
        let codes =
            self.tensor(format!("{name}.codes"), DataType::Int8, shape, bytes.iter().map(|code| *code as u8).collect());
        let [scale, zero] = self.grid(name, grids, DataType::Int8, rows);
        let axis = if layer.turned { shape.len() as i64 - 1 } else { 0 };
        let attributes = if rows { vec![attr_int("axis", axis)] } else { Vec::new() };
        let made = format!("{name}.dequantized");
        self.nodes.push(node("DequantizeLinear", &[&codes, &scale, &zero], &[&made], attributes));
        made
    }

    /// What quantizes the input of a layer, and makes floats of it again; the name of these.
    fn input(&mut self, layer: Layer<'_>, from: &str, input: Input) -> String {
        let Input { grid, signed, narrow } = input;
        let of = if signed { DataType::Int8 } else { DataType::Uint8 };
        let name = format!("{}.input", layer.weight);
        let [scale, zero] = self.grid(&name, &[grid], of, false);
        let mut from = from.to_owned();
        if narrow {
            let ((low, high), zero) = (grid.codes(), grid.with_zero().1 as f32);
            let ends = [("low", low), ("high", high)].map(|(end, code)| {
                let bytes = (grid.step() * (code - zero)).to_le_bytes().to_vec();
                self.tensor(format!("{name}.{end}"), DataType::Float, &[], bytes)
            });
            let cut = format!("{name}.clipped");
            self.nodes.push(node("Clip", &[&from, &ends[0], &ends[1]], &[&cut], Vec::new()));
            from = cut;
        }
        let [coded, made] = [format!("{name}.codes"), format!("{name}.dequantized")];
        self.nodes.push(node("QuantizeLinear", &[&from, &scale, &zero], &[&coded], Vec::new()));
        self.nodes.push(node("DequantizeLinear", &[&coded, &scale, &zero], &[&made], Vec::new()));
        made
    }
}
