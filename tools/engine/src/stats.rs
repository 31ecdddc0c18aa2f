//! What is known of the inputs of a model's layers, as a file.
//!
//! A file is safetensors (`FORMAT.md`, *Statistics of inputs*): for each layer, under the name of its weight,
//!
//! ```text
//! NAME.mean_square  NAME.low  NAME.high     F32 [inputs]                      of each input, or channel
//! gram.N                                    F32 [groups, n (n + 1) / 2]       means of products, where they were asked for
//! NAME.mean                                 F32 [inputs]                      of each input, beside a histogram
//! histogram.N                               U64 [8193]                        counts of all values, where they were asked for
//! ```
//!
//! and under the key `niwaki.stats` of the metadata which layers those are, and the digests of the weights that they saw.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use niwaki_container::Digest;
use niwaki_quant::observe::{BINS, Gram, Histogram, importances};
use niwaki_tensors::{Checkpoint, Dtype, Limits, TensorView};
use serde::{Deserialize, Serialize};

use crate::described::{self, finite, floats};
use crate::error::{Error, ErrorKind};
use crate::imatrix;
use crate::mask::matrix;
use crate::signature::tensor_digest;
use crate::source::{Source, SourceTensor};
use crate::train::of_checkpoint;

/// The key of the metadata.
pub(crate) const KEY: &str = "niwaki.stats";

/// What the names of a layer's tensors end in.
pub(crate) const ENDINGS: [&str; 3] = [SQUARE, "low", "high"];

/// What the name of a layer's mean squares ends in.
const SQUARE: &str = "mean_square";

/// What the name of a layer's means ends in.
pub(crate) const MEAN: &str = "mean";

/// The tensor of a number of a layer's inputs.
pub(crate) fn tensor_name(weight: &str, ending: &str) -> String {
    format!("{weight}.{ending}")
}

/// The tensor of Gram matrix number `at`.
pub(crate) fn gram_name(at: usize) -> String {
    format!("gram.{at}")
}

/// The tensor of histogram number `at`.
pub(crate) fn histogram_name(at: usize) -> String {
    format!("histogram.{at}")
}

/// What a file says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct About {
    pub(crate) version: u32,
    /// The digest of the whole checkpoint.
    pub(crate) digest: String,
    /// Examples that were seen.
    pub(crate) examples: u64,
    pub(crate) layers: BTreeMap<String, AboutLayer>,
    /// The least and the greatest of each value of the graph, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) values: BTreeMap<String, [f32; 2]>,
}

/// What it says of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AboutLayer {
    /// The digest of the weight.
    pub(crate) digest: String,
    /// Its shape.
    pub(crate) shape: Vec<usize>,
    /// Inputs, or channels of images.
    pub(crate) inputs: usize,
    /// Groups of channels, each of which a part of the rows sees.
    pub(crate) groups: usize,
    /// Whether the weight is a kernel, and inputs are channels.
    pub(crate) kernel: bool,
    /// Whether rows of the weight are inputs, and columns outputs.
    pub(crate) turned: bool,
    /// Values that each input had.
    pub(crate) values: u64,
    /// Which Gram matrix is that of its inputs, where there is one.
    pub(crate) gram: Option<usize>,
    /// Which histogram is that of its inputs, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) histogram: Option<usize>,
}

impl AboutLayer {
    /// Inputs of an output: what a Gram matrix has rows of.
    pub(crate) fn columns(&self) -> usize {
        let (rows, cols) = matrix(&self.shape);
        if self.turned { rows } else { cols }
    }

    /// Whether its numbers go together.
    fn fits(&self) -> bool {
        let elements = self.shape.iter().try_fold(1usize, |all, dim| all.checked_mul(*dim));
        let divides = self.groups > 0 && self.shape.first().is_some_and(|rows| rows.is_multiple_of(self.groups));
        let channels = self.shape.get(1).and_then(|channels| channels.checked_mul(self.groups));
        elements.is_some_and(|elements| elements > 0)
            && match self.kernel {
                true => self.shape.len() > 2 && divides && !self.turned && channels == Some(self.inputs),
                false => self.shape.len() == 2 && self.groups == 1 && self.inputs == self.columns(),
            }
    }
}

/// An open file of statistics.
#[derive(Debug)]
pub struct Stats {
    path: PathBuf,
    checkpoint: Checkpoint,
    about: About,
    /// Whether ends of inputs are known.
    ranges: bool,
    /// By weight, what each input is divided by.
    divisors: BTreeMap<String, Vec<f32>>,
}

/// What is known of the inputs of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'s> {
    stats: &'s Stats,
    name: &'s str,
    about: &'s AboutLayer,
}

impl Stats {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// Those of [`Checkpoint::open`], and a file that holds none, or such that contradict themselves.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::of_checkpoint(Checkpoint::open(path, &Limits::default())?)
    }

    /// Opens a file that is of a checkpoint, or an importance matrix of llama.cpp, `.gguf` or `.dat`, that is taken for one.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open); of an importance matrix one that says nothing of the checkpoint.
    pub fn of(path: &Path, source: &Source<'_>) -> Result<Self, Error> {
        if imatrix::is_one(path) { imatrix::open(path, source) } else { Self::open(path) }
    }

    /// What is in an open file, but for the ends of inputs.
    pub(crate) fn without_ranges(checkpoint: Checkpoint) -> Result<Self, Error> {
        Ok(Self { ranges: false, ..Self::of_checkpoint(checkpoint)? })
    }

    /// The same of inputs that are divided: by weight, by what each.
    pub(crate) fn divided(self, divisors: BTreeMap<String, Vec<f32>>) -> Self {
        Self { divisors, ..self }
    }

    /// What is in an open file.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open) that are of the file's contents.
    pub fn of_checkpoint(checkpoint: Checkpoint) -> Result<Self, Error> {
        let path = checkpoint.path().to_owned();
        let wrong = |what: String| Error::from(ErrorKind::Unlike { what }).at(&path);
        let made = (KEY, "`calibrate` makes files of statistics");
        let about: About = described::about(&checkpoint, made, |about: &About| about.version)?;
        about.digest.parse::<Digest>().map_err(|e| wrong(format!("its digest: {e}")))?;
        let upside_down =
            about.values.iter().find(|(_, [low, high])| low.partial_cmp(high).is_none_or(|order| order.is_gt()));
        if let Some((name, [low, high])) = upside_down {
            return Err(wrong(format!("value `{name}` ends at {high}, below {low} where it begins")));
        }
        let stats = Self { path, checkpoint, about, ranges: true, divisors: BTreeMap::new() };
        stats.about.layers.iter().try_for_each(|(name, about)| stats.check_layer(name, about))?;
        Ok(stats)
    }

    /// Refuses a layer whose tensors are not as they should be.
    fn check_layer(&self, name: &str, about: &AboutLayer) -> Result<(), Error> {
        let wrong = |what: String| Error::from(ErrorKind::Unlike { what }).of(name).at(&self.path);
        if !about.fits() {
            return Err(wrong(format!("{} inputs do not fit a weight of {:?}", about.inputs, about.shape)));
        }
        about.digest.parse::<Digest>().map_err(|e| wrong(format!("its digest: {e}")))?;
        let layer = Layer { stats: self, name, about };
        let [squares, low, high] = ENDINGS.map(|ending| layer.numbers(ending));
        let (low, high) = (low?, high?);
        if let Some(at) = squares?.iter().position(|x| *x < 0.0) {
            return Err(wrong(format!("the mean square of input {at} is negative")));
        }
        if let Some(at) = low.iter().zip(&high).position(|(low, high)| low > high) {
            return Err(wrong(format!("input {at} ends at {}, below {} where it begins", high[at], low[at])));
        }
        if about.histogram.is_some() {
            layer.numbers(MEAN)?;
            layer.histogram()?;
        }
        about.gram.map_or(Ok(()), |at| self.gram(at, about).map(drop).map_err(|e| e.of(name)))
    }

    /// The tensor of a layer's Gram matrices.
    fn gram(&self, at: usize, about: &AboutLayer) -> Result<TensorView<'_>, Error> {
        let name = gram_name(at);
        let n = about.columns();
        let half = n.checked_add(1).and_then(|more| n.checked_mul(more)).map(|twice| twice / 2);
        self.tensor(&name, &[about.groups, half.unwrap_or(usize::MAX)])
    }

    /// A tensor of floats of the file.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<TensorView<'_>, Error> {
        floats(&self.checkpoint, name, |has| has == shape, format_args!("{shape:?}"))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A digest of all that there is to it.
    pub(crate) fn digest(&self) -> Digest {
        of_checkpoint(&self.checkpoint)
    }

    /// Examples that were seen.
    pub fn examples(&self) -> u64 {
        self.about.examples
    }

    /// The weights of its layers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.about.layers.keys().map(String::as_str)
    }

    /// What is known of the inputs of the layer with this weight.
    pub fn layer(&self, weight: &str) -> Option<Layer<'_>> {
        let (name, about) = self.about.layers.get_key_value(weight)?;
        Some(Layer { stats: self, name, about })
    }

    /// The least and the greatest number of a value of the graph, where the file knows it.
    pub fn value(&self, name: &str) -> Option<[f32; 2]> {
        self.about.values.get(name).copied()
    }

    /// Refuses a checkpoint that has another weight than one that was seen.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unlike`] with the first of them; a checkpoint that has none of them.
    pub fn check(&self, source: &Source<'_>) -> Result<(), Error> {
        let found = source.tensors().iter().filter_map(|tensor| Some((tensor, self.layer(tensor.name())?)));
        let mut any = false;
        for (tensor, layer) in found {
            layer.check(source, tensor)?;
            any = true;
        }
        if any || self.about.layers.is_empty() {
            return Ok(());
        }
        let what = format!("statistics of another checkpoint: none of the layers of `{}`", self.path.display());
        Err(Error::from(ErrorKind::Unlike { what }).at(source.opened().path()))
    }
}

impl Layer<'_> {
    /// Its weight.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Whether rows of the weight are inputs, and columns outputs.
    pub fn turned(&self) -> bool {
        self.about.turned
    }

    /// Whether it is a linear layer whose rows are outputs.
    pub(crate) fn is_linear(&self) -> bool {
        !self.about.kernel && !self.about.turned
    }

    /// Values that each input had.
    pub(crate) fn values(&self) -> u64 {
        self.about.values
    }

    /// Whether there are Gram matrices of its inputs.
    pub fn has_gram(&self) -> bool {
        self.about.gram.is_some()
    }

    /// The least and the greatest value of each input, or channel.
    ///
    /// # Errors
    ///
    /// A file that changed since it was opened; one that does not know.
    pub fn range(&self) -> Result<(Vec<f32>, Vec<f32>), Error> {
        if !self.stats.ranges {
            let what = "an importance matrix: it does not say how far inputs reach".to_owned();
            return Err(Error::from(ErrorKind::Unlike { what }).of(self.name).at(&self.stats.path));
        }
        Ok((self.numbers("low")?, self.numbers("high")?))
    }

    /// How often all its inputs had which value; none where that was not asked for, and of inputs that are divided.
    ///
    /// # Errors
    ///
    /// Counts of more or fewer values than its inputs had.
    pub fn histogram(&self) -> Result<Option<Histogram>, Error> {
        let Some(at) = self.about.histogram.filter(|_| self.divisors().is_none()) else { return Ok(None) };
        let name = histogram_name(at);
        let wrong = |what: String| Error::from(ErrorKind::Unlike { what }).of(&name).at(&self.stats.path);
        let view = self.stats.checkpoint.get(&name).ok_or_else(|| wrong("is not there".to_owned()))?;
        if (view.dtype(), view.shape()) != (Dtype::U64, &[BINS][..]) {
            return Err(wrong(format!("{} {:?}, U64 [{BINS}] expected", view.dtype(), view.shape())));
        }
        let counts = view.bytes().chunks_exact(8).filter_map(|count| Some(u64::from_le_bytes(count.try_into().ok()?)));
        let histogram = Histogram::of_counts(counts.collect()).map_err(|e| wrong(e.to_string()))?;
        let values = self.about.values.checked_mul(self.about.inputs as u64);
        match values == Some(histogram.count()) {
            true => Ok(Some(histogram)),
            false => {
                let (found, inputs, each) = (histogram.count(), self.about.inputs, self.about.values);
                Err(wrong(format!("counts {found} values; {inputs} inputs of `{}` had {each} each", self.name)))
            }
        }
    }

    /// The mean of each input, or channel; none where there is no histogram.
    ///
    /// # Errors
    ///
    /// Numbers that are not finite.
    pub fn means(&self) -> Result<Option<Vec<f32>>, Error> {
        self.about.histogram.map(|_| self.numbers(MEAN)).transpose()
    }

    /// For each group of channels, of rows one, how much the columns of a row matter: mean squares of what they are
    /// multiplied with, as shares of the largest.
    ///
    /// # Errors
    ///
    /// A file that changed since it was opened.
    pub fn importance(&self) -> Result<Vec<Vec<f32>>, Error> {
        Ok(self.mean_squares()?.iter().map(|of| importances(of)).collect())
    }

    /// The mean squares themselves, spread over the columns of a row.
    pub(crate) fn mean_squares(&self) -> Result<Vec<Vec<f64>>, Error> {
        self.numbers(SQUARE).map(|squares| self.spread(squares))
    }

    /// The means, spread over the columns of a row; none where there is no histogram.
    pub(crate) fn spread_means(&self) -> Result<Option<Vec<Vec<f64>>>, Error> {
        Ok(self.means()?.map(|means| self.spread(means)))
    }

    /// Numbers of inputs, spread over the columns of a row, for each group of channels.
    fn spread(&self, numbers: Vec<f32>) -> Vec<Vec<f64>> {
        let numbers: Vec<f64> = numbers.into_iter().map(f64::from).collect();
        let taps: usize = if self.about.kernel { self.about.shape.iter().skip(2).product() } else { 1 };
        let each = (self.about.inputs / self.about.groups).max(1);
        let spread = |of: &[f64]| of.iter().flat_map(|x| std::iter::repeat_n(*x, taps)).collect();
        numbers.chunks(each).map(spread).collect()
    }

    /// The Gram matrices of what a row is multiplied with, for each group of channels, of rows one; none where they were not
    /// asked for.
    ///
    /// # Errors
    ///
    /// Numbers that are not finite.
    pub fn grams(&self) -> Result<Option<Vec<Gram>>, Error> {
        let Some(at) = self.about.gram else { return Ok(None) };
        let wrong = |what: String| Error::from(ErrorKind::Unlike { what }).of(&gram_name(at)).at(&self.stats.path);
        let view = self.stats.gram(at, self.about)?;
        let all = finite(&self.stats.checkpoint, &view)?;
        let each = (all.len() / self.about.groups).max(1);
        let gram = |means: &[f32]| {
            let gram = Gram::of_means(self.about.columns(), means).map_err(|e| wrong(e.to_string()))?;
            match self.divisors() {
                Some(by) => gram.divided(by).map_err(|e| wrong(e.to_string())),
                None => Ok(gram),
            }
        };
        all.chunks(each).map(gram).collect::<Result<Vec<_>, _>>().map(Some)
    }

    /// Numbers of each input.
    fn numbers(&self, ending: &str) -> Result<Vec<f32>, Error> {
        let view = self.stats.tensor(&tensor_name(self.name, ending), &[self.about.inputs])?;
        let mut all = finite(&self.stats.checkpoint, &view)?;
        for (x, by) in all.iter_mut().zip(self.divisors().unwrap_or_default()) {
            *x /= if ending == SQUARE { by * by } else { *by };
        }
        Ok(all)
    }

    /// What its inputs are divided by.
    fn divisors(&self) -> Option<&[f32]> {
        self.stats.divisors.get(self.name).map(Vec::as_slice)
    }

    /// Refuses a tensor that is not the weight that was seen.
    fn check(&self, source: &Source<'_>, tensor: &SourceTensor<'_>) -> Result<(), Error> {
        let unlike =
            |what: String| Err(Error::from(ErrorKind::Unlike { what }).of(self.name).at(source.opened().path()));
        if tensor.is_patched() {
            return unlike("is patched: its statistics are of the weight without the patch".to_owned());
        }
        let (found, seen) = (tensor_digest(source, tensor)?.to_string(), &self.about.digest);
        if found != *seen || tensor.shape().dims() != self.about.shape {
            let [found, seen] = [found.as_str(), seen].map(|digest| digest.get(..12).unwrap_or(digest));
            return unlike(format!("statistics of another checkpoint: is {found}, they saw {seen}"));
        }
        Ok(())
    }
}
