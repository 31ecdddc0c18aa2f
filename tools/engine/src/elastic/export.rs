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
use niwaki_onnx::build::initializer;
use niwaki_onnx::proto::GraphProto;
use niwaki_quant::forms::Form;
use niwaki_tensors::Overwrite;

use super::begin::Tables;
use super::eval::Recalibrate;
use super::file::Network;
use super::quantizer::{Choice, Quantizer};
use super::sites::Site;
use crate::error::{Error, ErrorKind};
use crate::progress::Progress;
use crate::qdq::{self, Input, Layer};
use crate::train::check_onnx;

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
        check_onnx(self.model())?;
        let ready = self.ready(forms, (recalibrate, true), progress)?;
        let mut file = qdq::file(&self.model().with(self.with_statistics(ready.graph())))?;
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
    let unlike = |what: String| Error::from(ErrorKind::Unlike { what });
    let grids = |choice: Choice, table: &Tensor, how| {
        choice.grids(table.get::<f32>().unwrap_or_default(), how).map_err(|e| unlike(e.to_string()))
    };
    let of_weights =
        |table: &Tensor| grids(Choice::of_weights(form), table, Quantizer { signed: true, turned: site.turned });
    let of_weights = tables.weights.as_ref().map(of_weights).transpose()?;
    let input = match (&tables.input, Choice::of_input(form)) {
        (Some((table, signed)), Some(choice)) => {
            let all = grids(choice, table, Quantizer { signed: *signed, turned: false })?;
            let narrow = choice.bits.get() < 8;
            all.first().map(|grid| Input { grid: *grid, signed: *signed, narrow })
        }
        _ => None,
    };
    let layer = Layer { weight: &site.name, turned: site.turned };
    qdq::quantize(graph, layer, of_weights.as_deref().map(|grids| (grids, weights)), input)
}
