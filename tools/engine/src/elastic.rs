//! Elastic quantization: one set of weights that runs at any width, granularity and symmetry (Xu et al., *EQ-Net: Elastic
//! Quantization Neural Networks*, 2023).
//!
//! ```text
//! steps and offsets of all forms = least error to the power 2.4, over some images
//! for each batch:
//!     gradients = those of the shape of the weights' distribution          (first layer aside)
//!     for widths in (the widest, any by layer, the narrowest):             granularity, symmetry: any by layer
//!         outputs    = net(forms(widths), images)
//!         gradients += (1 - 1/2) cross entropy(outputs, classes) + 1/2 KL(outputs of the pass before || outputs)
//!     weights, steps, offsets = Adam(each gradient within -1..1)
//! ```
//!
//! The first and the last layer have 8 bits in all forms. A trained file holds the weights in floats and a table of steps and
//! offsets for each layer ([`ElasticFile`]); every form is made from them, with the running statistics of its own.

mod begin;
mod eval;
mod export;
mod file;
mod quantizer;
mod search;
mod sites;

use std::path::Path;

use niwaki_codes::simd::Level;
use niwaki_codes::{Symmetry, Widths};
use niwaki_model::{Data, Graph, Tape, Tensor, ValueId};
use niwaki_quant::forms::{LayerSize, Pick, Space};
use niwaki_quant::wdr::Wdr;
use niwaki_tensors::Overwrite;

use crate::error::{Blame, Error, ErrorKind};
use crate::model::Model;
use crate::train::{At, Kind, Lessons, Settings, Task, Trained, run};
pub use eval::{Measured, Measuring, Recalibrate, eval};
pub use file::{ElasticFile, Network};
pub use niwaki_quant::forms::{Form, Granularity, Style};
use quantizer::{Choice, Quantizer};
pub use search::{Candidate, Searched, Searching, search};
use sites::{Site, sites};

/// Images on which running statistics are measured for the widest form while it trains.
const MEASURED: usize = 2048;

/// How a network learns to run at several widths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elastic {
    /// The widths.
    pub widths: Widths,
    /// Whether inputs of layers are quantized too, or weights alone.
    pub activations: bool,
    /// What pulls weights towards an even distribution.
    pub shape: Option<Wdr>,
    /// Whether narrower forms learn from wider ones too, or from classes alone.
    pub distill: bool,
    /// The largest magnitude of a gradient's element; larger ones are cut.
    pub clip: f32,
    /// Examples that steps and offsets are first fitted to.
    pub examples: usize,
}

impl Elastic {
    /// As the paper and its code have it.
    pub fn new(widths: Widths) -> Self {
        Self { widths, activations: true, shape: Some(Wdr::default()), distill: true, clip: 1.0, examples: 256 }
    }
}

/// Trains a model to run in many forms, and writes its weights with a table of grids for each layer.
///
/// # Errors
///
/// Those of [`train`](crate::train::train); a model without a layer between its first and its last one.
pub fn train(
    task: &Task<'_>,
    settings: &Settings,
    how: &Elastic,
    progress: &mut dyn FnMut(At<'_>),
) -> Result<Trained, Error> {
    run(task, settings, Kind::Elastic(how), progress)
}

/// A quantizer in a graph.
#[derive(Clone, Copy, Debug)]
struct Placed {
    /// The weight that says which of its grids count, and the table of them.
    choice: ValueId,
    table: ValueId,
    how: Quantizer,
}

/// A layer of a network that runs in many forms.
#[derive(Clone, Debug)]
struct Layer {
    weight: ValueId,
    name: String,
    weights: Placed,
    input: Option<Placed>,
}

/// The quantizers of a network.
#[derive(Clone, Debug)]
pub(crate) struct Supernet {
    layers: Vec<Layer>,
    space: Space,
    how: Elastic,
    seed: u64,
}

impl Supernet {
    /// Puts quantizers into a graph, with grids that fit its weights and what flows through `base`, the graph as it runs.
    pub(crate) fn begin(
        model: &Model,
        (base, graph): (&Graph, &mut Graph),
        settings: &Settings,
        (how, data): (&Elastic, &Lessons),
    ) -> Result<Self, Error> {
        let sites = sites(model, graph)?;
        let fitted = begin::fitted(model, base, &sites, settings, (how, data))?;
        Self::place(model, graph, &sites, fitted, *how, settings.seed)
    }

    /// Puts quantizers of these tables into a graph.
    fn place(
        model: &Model,
        graph: &mut Graph,
        sites: &[Site],
        tables: Vec<begin::Tables>,
        how: Elastic,
        seed: u64,
    ) -> Result<Self, Error> {
        let last = sites.len().saturating_sub(1);
        let sizes = sites.iter().zip(&tables).enumerate().map(|(nth, (site, tables))| LayerSize {
            weights: site.len as u64,
            inputs: tables.inputs.max(1),
            fixed: nth == 0 || nth == last,
        });
        let space =
            Space::new(sizes.collect(), how.widths).map_err(|e| Error::below(e, Blame::Input).at(model.path()))?;
        let widest = Choice { bits: how.widths.widest(), row: false, affine: false };
        let mut add = |place: (usize, usize), name: String, table: Tensor, how: Quantizer| {
            let choice = graph.weight(format!("{name}_choice"), widest.tensor());
            let table = graph.weight(name.clone(), table);
            graph.transform_input(place, format!("{name}/fake_quantize"), how, &[choice, table]);
            Placed { choice, table, how }
        };
        let layers = sites.iter().zip(tables).map(|(site, tables)| {
            let how = Quantizer { signed: true, turned: site.turned };
            let weights = add((site.node, 1), file::table_name(&site.name), tables.weights, how);
            let input = tables.input.map(|(table, signed)| {
                let how = Quantizer { signed, turned: false };
                add((site.node, 0), file::input_table_name(&site.name), table, how)
            });
            Layer { weight: site.weight, name: site.name.clone(), weights, input }
        });
        Ok(Self { layers: layers.collect(), space, how, seed })
    }

    /// The forms of a pass of a step.
    pub(crate) fn forms(&self, pick: Pick, step: u64) -> Vec<Form> {
        self.space.forms(pick, self.seed, step)
    }

    /// The weights that say which grids count, for layers of these forms.
    fn choices(&self, forms: &[Form]) -> Vec<(ValueId, Tensor)> {
        let mut all = Vec::new();
        for (layer, form) in self.layers.iter().zip(forms) {
            all.push((layer.weights.choice, Choice::of_weights(form).tensor()));
            if let (Some(input), Some(choice)) = (layer.input, Choice::of_input(form)) {
                all.push((input.choice, choice.tensor()));
            }
        }
        all
    }

    /// Lets the layers run in these forms.
    pub(crate) fn choose(&self, tape: &mut Tape, forms: &[Form]) {
        self.choices(forms).into_iter().for_each(|(value, tensor)| tape.set_weight(value, tensor));
    }

    /// Adds the gradients of the shape of the weights' distribution, and cuts those that are too large.
    ///
    /// # Errors
    ///
    /// Weights that are no numbers.
    pub(crate) fn regularize(&self, tape: &Tape, gradients: &mut [Option<Tensor>]) -> Result<(), Error> {
        let shaped = self.layers.iter().skip(1);
        let share = 1.0 / shaped.len().max(1) as f64;
        for layer in shaped {
            let Some(wdr) = self.how.shape else { break };
            let at = tape.wanted().iter().position(|value| *value == layer.weight);
            let Some(at) = at else { continue };
            let weights = tape.graph().constant(layer.weight).and_then(Tensor::get::<f32>).unwrap_or_default();
            let shape = tape.graph().constant(layer.weight).map(Tensor::shape).unwrap_or_default();
            let gradient = gradients[at].get_or_insert_with(|| {
                Tensor::of(shape, vec![0.0f32; weights.len()]).unwrap_or_else(|| Tensor::scalar(0.0f32))
            });
            if let Data::F32(gradient) = gradient.data_mut() {
                wdr.add_gradient(Level::best(), weights, share, gradient.to_mut())
                    .map_err(|e| Error::below(e, Blame::Input).of(&layer.name))?;
            }
        }
        let clip = self.how.clip;
        for gradient in gradients.iter_mut().flatten() {
            if let Data::F32(gradient) = gradient.data_mut() {
                // NaN stays NaN, and is found.
                gradient.to_mut().iter_mut().filter(|x| x.abs() > clip).for_each(|x| *x = clip.copysign(*x));
            }
        }
        Ok(())
    }

    /// Whether narrower forms learn from wider ones.
    pub(crate) fn distills(&self) -> bool {
        self.how.distill
    }

    /// The weights that are tables of grids.
    pub(crate) fn tables(&self) -> impl Iterator<Item = ValueId> {
        self.layers.iter().flat_map(|layer| [Some(layer.weights), layer.input]).flatten().map(|placed| placed.table)
    }

    /// The model in its widest form, with running statistics of its own.
    pub(crate) fn widest(&self, model: &Model, graph: &Graph, data: &Lessons) -> Result<Model, Error> {
        let of = |placed: Placed| graph.constant(placed.table).cloned();
        let tables = self.layers.iter().zip(self.space.layers()).map(|(layer, size)| {
            let input = layer.input.and_then(|input| Some((of(input)?, input.how.signed)));
            Some(begin::Tables { weights: of(layer.weights)?, input, inputs: size.inputs })
        });
        let unlike = || Error::from(ErrorKind::Unlike { what: "a table that is no longer there".to_owned() });
        let tables: Vec<_> = tables.collect::<Option<_>>().ok_or_else(unlike)?;
        let network = Network::new(model.clone(), sites(model, model.graph())?, tables, self.how)?;
        let widest = self.how.widths.widest();
        let style =
            Style { granularity: Granularity::Row, weights: Symmetry::Symmetric, activations: Symmetry::Symmetric };
        let form = Form { weights: widest, activations: self.how.activations.then_some(widest), style };
        let recalibrate = match data {
            Lessons::Images(data) => Some((data, MEASURED)),
            _ => None,
        };
        network.ready(&network.uniform(form)?, (recalibrate, true), &|_, _| {})
    }

    /// Writes weights, running statistics and tables, which `table` has.
    pub(crate) fn write(
        &self,
        model: &Model,
        table: &dyn Fn(ValueId) -> Option<Tensor>,
        epoch: u64,
        out: (&Path, Overwrite),
    ) -> Result<(), Error> {
        file::write(self, model, table, epoch, out)
    }
}
