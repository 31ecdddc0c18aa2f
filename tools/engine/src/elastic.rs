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
mod nested;
mod quantizer;
mod search;
mod sites;

use std::path::Path;

use niwaki_codes::simd::Level;
use niwaki_codes::{self as codes, Bits, GroupSize, Symmetry, Widths};
use niwaki_model::{Data, Graph, Tape, Tensor, ValueId};
use niwaki_quant::forms::{LayerSize, Pick, Space};
use niwaki_quant::wdr::Wdr;
use niwaki_tensors::Overwrite;

use crate::dataset::Augment;
use crate::error::{Blame, Error};
use crate::model::Model;
use crate::train::{At, Kind, Lessons, Settings, Task, Trained, run};
pub use eval::{Measured, Measuring, Recalibrate, eval};
pub use file::{ElasticFile, Network};
use nested::Nested;
pub use niwaki_quant::forms::{Form, Granularity, Style};
use quantizer::{Choice, Quantizer};
pub use search::{Candidate, Searched, Searching, Way, search};
use sites::{Site, sites};

/// Images on which running statistics are measured for the widest form while it trains.
const MEASURED: usize = 2048;

/// The grids of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// Steps and offsets that are learned, for each width, granularity and symmetry by itself, as the paper has them.
    Learned,
    /// Those of elastic tensors of groups of that size: codes of narrower widths are the top bits of wider ones, so that what
    /// was trained is packed into planes without loss.
    Nested(GroupSize),
}

impl Grid {
    /// The scheme of weights of nested codes for these widths.
    fn scheme(self, widths: Widths) -> Option<codes::Elastic> {
        match self {
            Self::Learned => None,
            Self::Nested(group) => Some(codes::Elastic { group, widths }),
        }
    }
}

/// How a network learns to run at several widths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elastic {
    /// The widths.
    pub widths: Widths,
    /// The grids of weights.
    pub grid: Grid,
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
        Self {
            widths,
            grid: Grid::Learned,
            activations: true,
            shape: Some(Wdr::default()),
            distill: true,
            clip: 1.0,
            examples: 256,
        }
    }

    /// The widths, and that of the first and the last layer.
    fn served(&self) -> Widths {
        Widths::new(self.widths.iter().chain([Bits::MAX])).unwrap_or(self.widths)
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

/// The quantizer of an input in a graph, or of weights whose grids are learned.
#[derive(Clone, Copy, Debug)]
struct Placed {
    /// The table of its grids.
    table: ValueId,
    how: Quantizer,
}

/// A layer of a network that runs in many forms.
#[derive(Clone, Debug)]
struct Layer {
    weight: ValueId,
    name: String,
    /// The weights that say which grids count: of its weights, and of its input.
    choices: [ValueId; 2],
    weights: Option<Placed>,
    input: Option<Placed>,
}

/// The widths that layers of these sizes may take.
fn space(model: &Model, (sites, tables): (&[Site], &[begin::Tables]), widths: Widths) -> Result<Space, Error> {
    let last = sites.len().saturating_sub(1);
    let sizes = sites.iter().zip(tables).enumerate().map(|(nth, (site, tables))| LayerSize {
        weights: site.len as u64,
        inputs: tables.inputs.max(1),
        fixed: nth == 0 || nth == last,
    });
    Space::new(sizes.collect(), widths).map_err(|e| Error::below(e, Blame::Input).at(model.path()))
}

/// The quantizers of a network.
#[derive(Debug)]
pub(crate) struct Supernet {
    layers: Vec<Layer>,
    space: Space,
    how: Elastic,
    seed: u64,
    augment: Augment,
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
        let placed = Self::place(model, graph, (&sites, fitted), *how)?;
        Ok(Self { seed: settings.seed, augment: settings.augment, ..placed })
    }

    /// Puts quantizers of these tables into a graph.
    fn place(
        model: &Model,
        graph: &mut Graph,
        (sites, tables): (&[Site], Vec<begin::Tables>),
        how: Elastic,
    ) -> Result<Self, Error> {
        let space = space(model, (sites, &tables), how.widths)?;
        let widest = Choice { bits: how.widths.widest(), row: false, affine: false };
        let place = |graph: &mut Graph,
                     place: (usize, usize),
                     choice: ValueId,
                     (name, table, how): (String, Tensor, Quantizer)| {
            let table = graph.weight(name.clone(), table);
            graph.transform_input(place, format!("{name}/fake_quantize"), how, &[choice, table]);
            Placed { table, how }
        };
        let nested = how.grid.scheme(how.served());
        let mut layers = Vec::new();
        for (site, tables) in sites.iter().zip(tables) {
            let name = |what: &str| format!("{}.{what}", site.name);
            let choices = ["choice", "input_choice"].map(|what| graph.weight(name(what), widest.tensor()));
            if let Some(scheme) = nested {
                let op = Nested { scheme, turned: site.turned };
                graph.transform_input((site.node, 1), name("nested"), op, &choices[..1]);
            }
            let how = Quantizer { signed: true, turned: site.turned };
            let of_weights = tables.weights.map(|table| (file::table_name(&site.name), table, how));
            let of_input = tables.input.map(|(table, signed)| {
                (file::input_table_name(&site.name), table, Quantizer { signed, turned: false })
            });
            layers.push(Layer {
                weight: site.weight,
                name: site.name.clone(),
                choices,
                weights: of_weights.map(|of| place(graph, (site.node, 1), choices[0], of)),
                input: of_input.map(|of| place(graph, (site.node, 0), choices[1], of)),
            });
        }
        Ok(Self { layers, space, how, seed: 0, augment: Augment::default() })
    }

    /// The forms of a pass of a step.
    pub(crate) fn forms(&self, pick: Pick, step: u64) -> Vec<Form> {
        self.space.forms(pick, self.seed, step)
    }

    /// The weights that say which grids count, for layers of these forms.
    fn choices(&self, forms: &[Form]) -> Vec<(ValueId, Tensor)> {
        let mut all = Vec::new();
        for (layer, form) in self.layers.iter().zip(forms) {
            all.push((layer.choices[0], Choice::of_weights(form).tensor()));
            all.extend(Choice::of_input(form).map(|choice| (layer.choices[1], choice.tensor())));
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
        self.layers.iter().flat_map(|layer| [layer.weights, layer.input]).flatten().map(|placed| placed.table)
    }

    /// The model in its widest form, with running statistics of its own.
    pub(crate) fn widest(&self, model: &Model, graph: &Graph, data: &Lessons) -> Result<Model, Error> {
        let of = |placed: Placed| graph.constant(placed.table).cloned();
        let tables = self.layers.iter().zip(self.space.layers()).map(|(layer, size)| {
            let input = layer.input.and_then(|input| Some((of(input)?, input.how.signed)));
            begin::Tables { weights: layer.weights.and_then(of), input, inputs: size.inputs }
        });
        let network =
            Network::new(model.clone(), sites(model, model.graph())?, tables.collect(), (self.how, self.augment))?;
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
