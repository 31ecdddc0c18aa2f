//! Looks at what flows into the layers of a model.
//!
//! ```text
//! without Gram matrices:  each batch goes through the model; of what layers take, sums are kept
//! with them:              all batches stand still before the next layer, its matrix is made and written, they go on
//! ```
//!
//! So of the matrices, which are large, there is one at a time; what the examples stand with, the values between two
//! layers, is in memory for all of them. Sums are of doubles, in the order of the examples: neither threads nor batches of
//! other layers change them.

mod look;
mod sites;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use niwaki_container::checkpoint_digest;
use niwaki_model::{Executor, Graph, Paused, Run};
use niwaki_quant::observe::BINS;
use niwaki_tensors::{Dtype, Entry, Layout, Limits, Overwrite, Writer, metadata_len};
use serde::Serialize;

use crate::described;
use crate::device::Device;
use crate::error::{Error, ErrorKind};
use crate::inputs::{Takes, grams};
use crate::model::Model;
use crate::progress::Progress;
use crate::signature::tensor_digests;
use crate::source::{Names, Opened};
use crate::stats::{About, ENDINGS, KEY, MEAN, gram_name, histogram_name, tensor_name};
use crate::train::{Lessons, Sample, Settings};
use look::Look;
use sites::{Site, share_histograms, sites};

/// Images that go through the model together.
const BATCH: usize = 32;

/// What is looked at, and how.
#[derive(Clone, Copy)]
pub struct Calibration<'c> {
    /// The model.
    pub model: &'c Model,
    /// The checkpoint that its weights are of.
    pub checkpoint: &'c Path,
    /// What goes through it.
    pub data: &'c Lessons,
    /// How many examples: images, windows or texts, drawn by the seed; of fewer all.
    pub limit: usize,
    /// What draws them.
    pub seed: u64,
    /// Whether Gram matrices are kept.
    pub gram: bool,
    /// Whether histograms and means are kept.
    pub histogram: bool,
    /// What adds up beside the processor.
    pub device: &'c Device,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibrated {
    /// Examples that went through the model.
    pub examples: usize,
    /// Layers whose inputs were seen.
    pub layers: usize,
    /// Gram matrices; layers that take the same share one.
    pub grams: usize,
    /// Layers that could have none: their inputs are columns, or images of three dimensions.
    pub without_gram: Vec<String>,
    /// Weights of two dimensions or more whose inputs nobody saw: no convolution or linear layer takes them as they are.
    pub unreached: Vec<String>,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes the statistics of a model's layers.
///
/// # Errors
///
/// Data for another kind of model, values that are no numbers, a model without layers; those of running and writing.
pub fn calibrate(
    how: &Calibration<'_>,
    (out, overwrite): (&Path, Overwrite),
    progress: Progress<'_>,
) -> Result<Calibrated, Error> {
    let at = |e: niwaki_model::Error| Error::from(e.at(how.model.path()));
    let mut graph = how.model.graph().clone();
    graph.norms(None);
    let opened = Opened::open(how.checkpoint, &Limits::default())?;
    let source = opened.source(None, Names::Own)?;
    let executor = Executor::new(graph).map_err(at)?;
    let digests = tensor_digests(&source)?;
    let mut sites = sites(executor.graph(), &digests);
    if sites.is_empty() {
        let rule = "the model, with weights of convolutions or linear layers that its checkpoint has,".to_owned();
        return Err(Error::from(ErrorKind::NoMatch { rule }).at(how.model.path()));
    }
    let many = source.tensors().iter().filter(|tensor| tensor.is_float() && tensor.shape().dims().len() > 1);
    let seen = |name: &str| sites.iter().any(|site| site.name == name);
    let unreached = many.map(|tensor| tensor.name().to_owned()).filter(|name| !seen(name)).collect();
    let without_gram = if how.gram { sites::share(executor.graph(), &mut sites) } else { Vec::new() };
    let counted = if how.histogram { share_histograms(&mut sites) } else { Vec::new() };
    let grams = sites.iter().filter_map(|site| site.about.gram).max().map_or(0, |last| last + 1);
    let whole = checkpoint_digest(digests.iter().map(|(name, digest)| (name.as_str(), *digest)));
    let mut about = About {
        version: 1,
        digest: whole.to_string(),
        examples: 0,
        layers: Default::default(),
        values: Default::default(),
    };
    // Of a graph that is a file: only there have values names of their own.
    let names = if how.model.language().is_none() { value_names(executor.graph()) } else { BTreeSet::new() };
    let layout = layout(&About { values: widest(&names), ..about.clone() }, &sites, counted.len())?;
    let bytes = layout.file_bytes();
    let writer = Writer::create(out, layout, overwrite)?;
    let mut look = Look::new((executor.graph(), how.device), &sites, &counted, !names.is_empty());
    let walk = Walk { how, executor: &executor, sites: &sites, writer: &writer };
    let examples =
        if how.gram { walk.layer_by_layer(&mut look, progress)? } else { walk.at_once(&mut look, progress)? };
    about.examples = examples as u64;
    about.values = look.ends();
    about.values.retain(|name, _| names.contains(name));
    for (nth, site) in sites.iter_mut().enumerate() {
        let (values, numbers) = look.of(site);
        if values == 0 {
            let what = "what it is multiplied with are no single floats".to_owned();
            return Err(Error::from(ErrorKind::Unlike { what }).of(&site.name).at(how.model.path()));
        }
        site.about.values = values;
        for (which, numbers) in numbers.iter().enumerate() {
            writer.write_at(ENDINGS.len() * nth + which, 0, bytemuck::cast_slice(numbers))?;
        }
    }
    let first = ENDINGS.len() * sites.len() + grams;
    for (nth, site) in sites.iter().enumerate().filter(|_| how.histogram) {
        writer.write_at(first + nth, 0, bytemuck::cast_slice(&look.means(site)))?;
    }
    for (nth, histogram) in counted.iter().filter_map(|value| look.histogram(*value)).enumerate() {
        writer.write_at(first + sites.len() + nth, 0, bytemuck::cast_slice(histogram.counts()))?;
    }
    let layers = sites.len();
    writer.finish(&[(KEY, &text(&about, &sites)?)], false)?;
    Ok(Calibrated { examples, layers, grams, without_gram, unreached, bytes })
}

/// The values of a graph that are no weights, by name.
fn value_names(graph: &Graph) -> BTreeSet<String> {
    let made = graph.nodes().iter().flat_map(|node| node.outputs.iter().flatten().copied());
    let given = graph.inputs().iter().map(|input| input.value);
    given.chain(made).map(|value| graph.name(value).to_owned()).collect()
}

/// Ends that take as much room as any: a float has at most 16 letters.
fn widest(names: &BTreeSet<String>) -> BTreeMap<String, [f32; 2]> {
    // These have 14 letters; longer names are for the other two of both.
    names.iter().map(|name| (format!("{name}    "), [-1.175_494_4e-38; 2])).collect()
}

/// What the file says of itself.
fn text(about: &About, sites: &[Site]) -> Result<String, Error> {
    let layers = sites.iter().map(|site| (site.name.clone(), site.about.clone())).collect();
    described::text(&About { layers, ..about.clone() })
}

/// Where everything stands in the file: numbers of the layers, the matrices, then means and the histograms.
fn layout(about: &About, sites: &[Site], histograms: usize) -> Result<Layout, Error> {
    let entry = |name: String, shape: Vec<usize>| Entry { name, dtype: Dtype::F32, shape };
    let numbers = |site: &Site| ENDINGS.map(|ending| entry(tensor_name(&site.name, ending), vec![site.about.inputs]));
    let mut entries: Vec<Entry> = sites.iter().flat_map(numbers).collect();
    let mut next = 0;
    for site in sites.iter().filter(|site| site.about.gram.is_some()) {
        if site.about.gram == Some(next) {
            let n = site.about.columns();
            entries.push(entry(gram_name(next), vec![site.about.groups, n * (n + 1) / 2]));
            next += 1;
        }
    }
    if histograms > 0 {
        entries.extend(sites.iter().map(|site| entry(tensor_name(&site.name, MEAN), vec![site.about.inputs])));
        let counts = |at| Entry { name: histogram_name(at), dtype: Dtype::U64, shape: vec![BINS] };
        entries.extend((0..histograms).map(counts));
    }
    // Counts are known in the end; these have as many digits as any.
    let mut longest = sites.to_vec();
    longest.iter_mut().for_each(|site| site.about.values = u64::MAX);
    let room = metadata_len(&[(KEY, &text(&About { examples: u64::MAX, ..about.clone() }, &longest)?)]);
    Ok(Layout::exact(entries, room)?)
}

/// Examples on their way through a model.
struct Walk<'w> {
    how: &'w Calibration<'w>,
    executor: &'w Executor,
    sites: &'w [Site],
    writer: &'w Writer,
}

impl Walk<'_> {
    /// Hands on what goes through the model together, and which examples that are; how many all are.
    fn each(
        &self,
        mut of: impl FnMut(Vec<niwaki_model::Tensor>, &[usize]) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let Calibration { model, data, limit, seed, .. } = *self.how;
        // Texts one by one: none is filled up with what it does not say.
        let batch = if matches!(data, Lessons::Images(_)) { BATCH } else { 1 };
        let settings = Settings { seed, batch, ..Settings::default() };
        let sample = Sample { model, settings: &settings, data, examples: limit };
        sample.batches(|items, shares| shares.into_iter().try_for_each(|share| of(share.inputs, items)))?;
        Ok(sample.count())
    }

    fn graph(&self) -> &Graph {
        self.executor.graph()
    }

    /// An error of running.
    fn at(&self, e: niwaki_model::Error) -> Error {
        e.at(self.how.model.path()).into()
    }

    /// Looks at each batch on its own.
    fn at_once(&self, look: &mut Look<'_>, progress: Progress<'_>) -> Result<usize, Error> {
        let (mut done, all) = (0, self.how.limit.clamp(1, self.how.data.len()) as u64);
        self.each(|inputs, items| {
            let mut watch = |value, tensor: &_| look.see(value, tensor, items);
            self.executor.run(inputs, Run { observe: Some(&mut watch), ..Run::default() }).map_err(|e| self.at(e))?;
            look.fault(self.how.model)?;
            done += items.len() as u64;
            progress(done, all);
            Ok(())
        })
    }

    /// Goes on with all batches from layer to layer, and writes the matrix of each.
    fn layer_by_layer(&self, look: &mut Look<'_>, progress: Progress<'_>) -> Result<usize, Error> {
        let mut runs: Vec<(Paused, Vec<usize>)> = Vec::new();
        let examples = self.each(|inputs, items| {
            let mut watch = |value, tensor: &_| look.see(value, tensor, items);
            let mut run = Run { observe: Some(&mut watch), ..Run::default() };
            runs.push((self.executor.start(inputs, &mut run).map_err(|e| self.at(e))?, items.to_vec()));
            look.fault(self.how.model)
        })?;
        let mut order: Vec<&Site> = self.sites.iter().collect();
        order.sort_by_key(|site| site.node);
        let mut written = vec![false; order.len()];
        for (nth, site) in order.iter().enumerate() {
            self.go_on(&mut runs, site.node, look)?;
            if let Some(gram) = site.about.gram
                && !std::mem::replace(&mut written[gram], true)
            {
                self.write_gram(site, gram, &runs)?;
            }
            progress(nth as u64 + 1, order.len() as u64);
        }
        Ok(examples)
    }

    /// Goes on with all batches until they stand before a node.
    fn go_on(&self, runs: &mut [(Paused, Vec<usize>)], node: usize, look: &mut Look<'_>) -> Result<(), Error> {
        for (run, items) in runs {
            let mut watch = |value, tensor: &_| look.see(value, tensor, items);
            let mut how = Run { observe: Some(&mut watch), ..Run::default() };
            self.executor.go_on(run, node, &mut how).map_err(|e| self.at(e))?;
            look.fault(self.how.model)?;
        }
        Ok(())
    }

    /// Writes the matrix of a layer that all batches stand before.
    fn write_gram(&self, site: &Site, gram: usize, runs: &[(Paused, Vec<usize>)]) -> Result<(), Error> {
        let named = |e: Error| e.of(&site.name).at(self.how.model.path());
        let runs: Vec<&Paused> = runs.iter().map(|(run, _)| run).collect();
        let takes = Takes::new(self.graph(), &site.product, &runs).map_err(named)?;
        let entry = ENDINGS.len() * self.sites.len() + gram;
        let mut offset = 0;
        for gram in grams(self.how.device, &takes, site.product.input, &runs).map_err(named)? {
            let unlike = |e: niwaki_quant::Error| named(ErrorKind::Unlike { what: e.to_string() }.into());
            gram.check().map_err(unlike)?;
            let means = gram.means();
            self.writer.write_at(entry, offset, bytemuck::cast_slice(&means))?;
            offset += 4 * means.len() as u64;
        }
        Ok(())
    }
}
