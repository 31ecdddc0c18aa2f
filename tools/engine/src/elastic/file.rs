//! Networks that run in many forms, as files.

use std::path::{Path, PathBuf};

use niwaki_codes::{Bits, GroupSize, Widths};
use niwaki_model::{Tensor, ValueId};
use niwaki_quant::forms::{Form, LayerSize, Space};
use niwaki_tensors::{Checkpoint, Limits, Overwrite};
use serde::{Deserialize, Serialize};

use super::begin::Tables;
use super::nested::Nested;
use super::quantizer::SET;
use super::sites::{Site, sites};
use super::{Elastic, Grid, Supernet, space};
use crate::dataset::Augment;
use crate::described::{self, finite, floats};
use crate::error::{Error, ErrorKind};
use crate::model::Model;
use crate::train::{take, write_trained};

/// The key of the metadata.
const KEY: &str = "niwaki.elastic";

/// The tensor that has the grids of a weight.
pub(super) fn table_name(weight: &str) -> String {
    format!("{weight}.grids")
}

/// The tensor that has the grids of what flows into the layer of a weight.
pub(super) fn input_table_name(weight: &str) -> String {
    format!("{weight}.input_grids")
}

/// What a file says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    version: u32,
    widths: Vec<u32>,
    /// The size of groups, where grids of weights are nested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nested: Option<usize>,
    activations: bool,
    /// What was done to images: the pixels around them that they were cut from, and whether some were mirrored.
    #[serde(default)]
    crop: usize,
    #[serde(default)]
    flip: bool,
    layers: Vec<AboutLayer>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AboutLayer {
    weight: String,
    /// Elements of its input, of one example.
    inputs: u64,
    /// Whether codes of the input have a sign.
    signed: bool,
}

/// Writes the weights of a model, its running statistics and the tables.
pub(super) fn write(
    supernet: &Supernet,
    model: &Model,
    table: &dyn Fn(ValueId) -> Option<Tensor>,
    epoch: u64,
    (path, overwrite): (&Path, Overwrite),
) -> Result<(), Error> {
    let mut graph = model.graph().clone();
    let mut layers = Vec::new();
    for (layer, size) in supernet.layers.iter().zip(supernet.space.layers()) {
        let mut add = |value: ValueId, name: String| {
            if let Some(table) = table(value) {
                graph.weight(name, table);
            }
        };
        layer.weights.iter().for_each(|weights| add(weights.table, table_name(&layer.name)));
        layer.input.iter().for_each(|input| add(input.table, input_table_name(&layer.name)));
        let signed = layer.input.is_none_or(|input| input.how.signed);
        layers.push(AboutLayer { weight: layer.name.clone(), inputs: size.inputs, signed });
    }
    let widths = supernet.how.widths.iter().map(Bits::get).collect();
    let Augment { crop, flip, .. } = supernet.augment;
    let nested = match supernet.how.grid {
        Grid::Learned => None,
        Grid::Nested(group) => Some(group.get()),
    };
    let about = About { version: 1, widths, nested, activations: supernet.how.activations, crop, flip, layers };
    let text = described::text(&about).map_err(|e| e.at(path))?;
    write_trained(&model.with(graph), Some(epoch), Some((KEY, &text)), (path, overwrite))
}

/// A file of weights that run in many forms: the weights in floats, and for each layer the steps and offsets of its forms
/// (`FORMAT.md`, *Elastic networks*).
#[derive(Debug)]
pub struct ElasticFile {
    path: PathBuf,
    checkpoint: Checkpoint,
    about: About,
    widths: Widths,
    grid: Grid,
}

impl ElasticFile {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// Those of [`Checkpoint::open`], and metadata that are of no such file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::of_checkpoint(Checkpoint::open(path, &Limits::default())?)
    }

    /// What is in an open file.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open) that are of the file's contents.
    pub fn of_checkpoint(checkpoint: Checkpoint) -> Result<Self, Error> {
        let path = checkpoint.path().to_owned();
        let wrong = |what: String| Error::from(ErrorKind::Unlike { what }).at(&path);
        let about: About =
            described::about(&checkpoint, (KEY, "`elastic train` makes such weights"), |about: &About| about.version)?;
        let bits = about.widths.iter().map(|bits| Bits::new(*bits)).collect::<Result<Vec<_>, _>>();
        let widths = bits.and_then(Widths::new).map_err(|e| wrong(format!("its widths: {e}")))?;
        let grid = match about.nested.map(GroupSize::new).transpose() {
            Ok(nested) => nested.map_or(Grid::Learned, Grid::Nested),
            Err(e) => return Err(wrong(format!("its groups: {e}"))),
        };
        let file = Self { path, checkpoint, about, widths, grid };
        for layer in &file.about.layers {
            if file.about.nested.is_none() {
                file.table(&table_name(&layer.weight), None)?;
            }
            if file.about.activations {
                file.table(&input_table_name(&layer.weight), Some(1))?;
            }
        }
        Ok(file)
    }

    /// The file.
    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The weights of its layers, by name.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &str> {
        self.about.layers.iter().map(|layer| layer.weight.as_str())
    }

    /// The widths that it was trained for.
    pub fn widths(&self) -> Widths {
        self.widths
    }

    /// A network that runs in these forms: the model with the weights of this file, and its tables.
    ///
    /// # Errors
    ///
    /// A file that is of another model.
    pub fn network(&self, model: &Model) -> Result<Network, Error> {
        let mut graph = model.graph().clone();
        graph.norms(None);
        take(model, &mut graph, &self.checkpoint)?;
        let sites = sites(model, &graph)?;
        if sites.len() != self.about.layers.len() {
            let what = format!("{} layers, the model has {}", self.about.layers.len(), sites.len());
            return Err(Error::from(ErrorKind::Unlike { what }).at(&self.path));
        }
        let tables = sites.iter().zip(&self.about.layers).map(|(site, about)| self.tables(site, about));
        let tables = tables.collect::<Result<Vec<_>, Error>>()?;
        let how = Elastic { activations: self.about.activations, grid: self.grid, ..Elastic::new(self.widths) };
        let augment = Augment { crop: self.about.crop, flip: self.about.flip, mixup: 0.0 };
        Network::new(model.with(graph), sites, tables, (how, augment))
    }

    /// The tables of a layer.
    fn tables(&self, site: &Site, about: &AboutLayer) -> Result<Tables, Error> {
        if site.name != about.weight {
            let what = format!("layer `{}`, the model has `{}` there", about.weight, site.name);
            return Err(Error::from(ErrorKind::Unlike { what }).at(&self.path));
        }
        let input = match self.about.activations {
            true => Some((self.table(&input_table_name(&site.name), Some(1))?, about.signed)),
            false => None,
        };
        let weights = match self.grid {
            Grid::Learned => Some(self.table(&table_name(&site.name), Some(1 + site.rows))?),
            Grid::Nested(_) => None,
        };
        Ok(Tables { weights, input, inputs: about.inputs })
    }

    /// A table of so many sets of grids, or of one for a tensor and at least one for its rows.
    fn table(&self, name: &str, sets: Option<usize>) -> Result<Tensor, Error> {
        let wrong = || Error::from(ErrorKind::Unlike { what: "another number of elements".to_owned() }).of(name);
        let found = self.checkpoint.get(name).and_then(|view| view.shape().first().copied()).unwrap_or(0);
        let shape = [sets.unwrap_or(found.max(2)), 3, SET / 3];
        let view = floats(&self.checkpoint, name, |has| has == shape, format_args!("{shape:?}"))?;
        Tensor::of(shape, finite(&self.checkpoint, &view)?).ok_or_else(|| wrong().at(&self.path))
    }
}

/// A network that runs in many forms.
#[derive(Clone, Debug)]
pub struct Network {
    model: Model,
    sites: Vec<Site>,
    tables: Vec<Tables>,
    how: Elastic,
    augment: Augment,
    space: Space,
}

impl Network {
    /// That of a model, with tables for its layers.
    pub(super) fn new(
        model: Model,
        sites: Vec<Site>,
        tables: Vec<Tables>,
        (how, augment): (Elastic, Augment),
    ) -> Result<Self, Error> {
        let space = space(&model, (&sites, &tables), how.widths)?;
        Ok(Self { model, sites, tables, how, augment, space })
    }

    /// The model with the weights in floats.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The nested grid of a layer's weights, where that is theirs.
    pub(super) fn nested(&self, site: &Site) -> Option<Nested> {
        Some(Nested { scheme: self.how.grid.scheme(self.how.served())?, turned: site.turned })
    }

    /// Its layers, and their tables.
    pub(super) fn sites(&self) -> &[Site] {
        &self.sites
    }

    pub(super) fn tables(&self) -> &[Tables] {
        &self.tables
    }

    /// What was done to images while it was trained.
    pub(super) fn augment(&self) -> Augment {
        self.augment
    }

    /// The names of the weights of its layers.
    pub fn weights(&self) -> impl Iterator<Item = &str> {
        self.sites.iter().map(|site| site.name.as_str())
    }

    /// Whether what flows into layers is quantized too.
    pub fn quantizes_inputs(&self) -> bool {
        self.how.activations
    }

    /// Its layers, and the widths that they take.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The model whose layers run in these forms. With `whole_zeros` 0 lies on affine grids, as integers need it; else their
    /// offsets are as they were learned.
    ///
    /// # Errors
    ///
    /// Forms of another number of layers, or of other widths.
    pub fn at(&self, forms: &[Form], whole_zeros: bool) -> Result<Model, Error> {
        self.check_all(forms)?;
        let mut graph = self.model.graph().clone();
        let tables = match whole_zeros {
            true => self.tables.iter().map(Tables::with_whole_zeros).collect(),
            false => self.tables.clone(),
        };
        let supernet = Supernet::place(&self.model, &mut graph, (&self.sites, tables), self.how)?;
        supernet.choices(forms).into_iter().for_each(|(value, tensor)| graph.set_weight(value, tensor));
        Ok(self.model.with(graph))
    }

    /// The same form of all layers but those that always have 8 bits.
    ///
    /// # Errors
    ///
    /// Widths that it was not trained for, and a width of inputs where those are not quantized.
    pub fn uniform(&self, form: Form) -> Result<Vec<Form>, Error> {
        self.check(&form, false)?;
        let fixed = |size: &LayerSize| match size.fixed {
            true => Form { weights: Bits::MAX, activations: form.activations.map(|_| Bits::MAX), ..form },
            false => form,
        };
        Ok(self.space.layers().iter().map(fixed).collect())
    }

    /// Refuses forms that layers do not take.
    pub(super) fn check_all(&self, forms: &[Form]) -> Result<(), Error> {
        if forms.len() != self.sites.len() {
            let what = format!("forms of {} layers, the network has {}", forms.len(), self.sites.len());
            return Err(Error::from(ErrorKind::Usage { what }).at(self.model.path()));
        }
        forms.iter().zip(self.space.layers()).try_for_each(|(form, size)| self.check(form, size.fixed))
    }

    /// Refuses a form that layers do not take; one of those that always have 8 bits takes these.
    fn check(&self, form: &Form, fixed: bool) -> Result<(), Error> {
        let usage = |what: String| Error::from(ErrorKind::Usage { what }).at(self.model.path());
        if form.activations.is_some() != self.how.activations {
            let has = if self.how.activations { "has inputs of so many bits too" } else { "quantizes weights alone" };
            return Err(usage(format!("form {form}: the network {has}")));
        }
        let takes =
            |bits: Bits| if fixed { bits == Bits::MAX } else { self.how.widths.iter().any(|width| width == bits) };
        if !takes(form.weights) || !form.activations.is_none_or(takes) {
            let widths: Vec<String> = self.how.widths.iter().map(|bits| bits.to_string()).collect();
            return Err(usage(format!("form {form}: it was trained for {} bits", widths.join(", "))));
        }
        Ok(())
    }
}
