//! A form of a network as ONNX that any engine runs.
//!
//! ```text
//! weights   int8 codes -> DequantizeLinear -> the layer            on nested grids: the floats that they decode to
//! input     [Clip ->] QuantizeLinear -> DequantizeLinear -> the layer
//! ```
//!
//! Zero points are whole numbers, and 0 lies on every grid: what a convolution pads with is what it padded with when it was
//! trained. Codes narrower than 8 bits stand in int8 or uint8; of an input, `Clip` keeps them as narrow as they are.

use std::path::Path;

use niwaki_model::{Graph, Tensor};
use niwaki_onnx::DataType;
use niwaki_onnx::build::{attr_int, initializer, node};
use niwaki_onnx::proto::{GraphProto, NodeProto, TensorProto};
use niwaki_quant::fake_quant::{Learned, codes};
use niwaki_quant::forms::Form;
use niwaki_tensors::Overwrite;

use super::begin::Tables;
use super::eval::Recalibrate;
use super::file::Network;
use super::quantizer::{Choice, Quantizer};
use super::sites::Site;
use crate::error::{Error, ErrorKind};
use crate::matrix::transposed;
use crate::progress::Progress;
use crate::train::Filled;

/// The first opset whose scales lie along an axis.
const OPSET: i64 = 13;

/// Nodes and tensors that a layer gets.
#[derive(Default)]
struct Added {
    nodes: Vec<NodeProto>,
    tensors: Vec<TensorProto>,
}

impl Network {
    /// Writes the network in these forms as an ONNX model, with running statistics measured anew where it is said on what.
    ///
    /// # Errors
    ///
    /// Those of [`ready`](Self::ready); a model that is no ONNX file, or one of an opset before 13; those of writing.
    pub fn export(
        &self,
        forms: &[Form],
        recalibrate: Recalibrate<'_>,
        (out, overwrite): (&Path, Overwrite),
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let unlike = |what: String| Error::from(ErrorKind::Unlike { what }).at(self.model().path());
        if self.model().language().is_some() {
            return Err(unlike(
                "a Hugging Face folder: only the graph of an ONNX file can be written as ONNX".to_owned(),
            ));
        }
        let ready = self.ready(forms, (recalibrate, true), progress)?;
        let mut file = Filled::of(&self.model().with(self.with_statistics(ready.graph())))?;
        let plain = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        let opset =
            file.proto.opset_import.iter().find(|import| plain(import.domain())).map_or(0, |import| import.version());
        if opset < OPSET {
            let e = unlike(format!("a model of opset {opset}: quantized weights of rows need {OPSET}"));
            return Err(e.hinting("export the model with a later opset"));
        }
        let graph = file.proto.graph.as_mut().ok_or_else(|| unlike("a file without a graph".to_owned()))?;
        for ((site, tables), form) in self.sites().iter().zip(self.tables()).zip(forms) {
            let at = |e: Error| e.of(&site.name).at(self.model().path());
            let weights = ready.graph().constant(site.weight).ok_or_else(|| unlike("a weight less".to_owned()))?;
            if let Some(nested) = self.nested(site) {
                let weights = nested.at(form.weights, weights).map_err(|e| at(unlike(e.to_string())))?;
                set(graph, &site.name, &weights);
            }
            quantize(graph, (site, &tables.with_whole_zeros()), form, weights).map_err(at)?;
        }
        file.save(out, overwrite)
    }

    /// The model's graph with the running statistics of another.
    fn with_statistics(&self, other: &Graph) -> Graph {
        let mut graph = self.model().graph().clone();
        for running in self.model().graph().clone().norms(None) {
            let found = other.constant(running.weight).cloned();
            found.into_iter().for_each(|tensor| graph.set_weight(running.weight, tensor));
        }
        graph
    }
}

/// Gives a weight of a file other elements.
fn set(graph: &mut GraphProto, name: &str, weights: &Tensor) {
    for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.name() == name) {
        *tensor = initializer(name, DataType::Float, weights.shape(), weights.data().to_bytes());
    }
}

/// Puts the quantizers of a layer into a file's graph.
fn quantize(
    graph: &mut GraphProto,
    (site, tables): (&Site, &Tables),
    form: &Form,
    weights: &Tensor,
) -> Result<(), Error> {
    let takes = |node: &NodeProto| node.input.get(1).is_some_and(|name| *name == site.name);
    let unlike = |what: &str| Error::from(ErrorKind::Unlike { what: what.to_owned() });
    let at = graph.node.iter().position(takes).ok_or_else(|| unlike("no node of the file has it as its weight"))?;
    let mut added = Added::default();
    let weight = match &tables.weights {
        Some(table) => Some(added.weights(site, table, Choice::of_weights(form), weights)?),
        None => None,
    };
    let input = match (&tables.input, Choice::of_input(form)) {
        (Some((table, signed)), Some(choice)) => {
            let from = graph.node[at].input.first().cloned().unwrap_or_default();
            Some(added.input((site, &from), table, *signed, choice)?)
        }
        _ => None,
    };
    if let Some(weight) = weight {
        graph.initializer.retain(|tensor| tensor.name() != site.name);
        graph.input.retain(|input| input.name() != site.name);
        graph.node[at].input[1] = weight;
    }
    input.into_iter().for_each(|input| graph.node[at].input[0] = input);
    graph.initializer.extend(added.tensors);
    graph.node.splice(at..at, added.nodes);
    Ok(())
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
    fn weights(&mut self, site: &Site, table: &Tensor, choice: Choice, weights: &Tensor) -> Result<String, Error> {
        let unlike = |what: &str| Error::from(ErrorKind::Unlike { what: what.to_owned() });
        let how = Quantizer { signed: true, turned: site.turned };
        let table = table.get::<f32>().unwrap_or_default();
        let grids = choice.grids(table, how).map_err(|e| unlike(&e.to_string()))?;
        let (shape, all) = (weights.shape(), weights.get::<f32>().unwrap_or_default());
        let cols = shape.last().copied().unwrap_or(1);
        let swap = site.turned && choice.row;
        let by_row = if swap { transposed(all, cols) } else { all.to_vec() };
        let row = (by_row.len() / grids.len().max(1)).max(1);
        let bytes: Vec<i8> = by_row.chunks(row).zip(&grids).flat_map(|(row, grid)| codes(*grid, row)).collect();
        let bytes = if swap { transposed(&bytes, all.len() / cols.max(1)) } else { bytes };
        let name = &site.name;
        let codes =
            self.tensor(format!("{name}.codes"), DataType::Int8, shape, bytes.iter().map(|code| *code as u8).collect());
        let [scale, zero] = self.grid(name, &grids, DataType::Int8, choice.row);
        let axis = if site.turned { shape.len() as i64 - 1 } else { 0 };
        let attributes = if choice.row { vec![attr_int("axis", axis)] } else { Vec::new() };
        let made = format!("{name}.dequantized");
        self.nodes.push(node("DequantizeLinear", &[&codes, &scale, &zero], &[&made], attributes));
        Ok(made)
    }

    /// What quantizes the input of a layer, and makes floats of it again; the name of these.
    fn input(
        &mut self,
        (site, from): (&Site, &str),
        table: &Tensor,
        signed: bool,
        choice: Choice,
    ) -> Result<String, Error> {
        let how = Quantizer { signed, turned: false };
        let grids = choice.grids(table.get::<f32>().unwrap_or_default(), how);
        let grids = grids.map_err(|e| Error::from(ErrorKind::Unlike { what: e.to_string() }))?;
        let of = if signed { DataType::Int8 } else { DataType::Uint8 };
        let name = format!("{}.input", site.name);
        let [scale, zero] = self.grid(&name, &grids, of, false);
        let mut from = from.to_owned();
        for grid in grids.iter().filter(|_| choice.bits.get() < 8) {
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
        Ok(made)
    }
}
