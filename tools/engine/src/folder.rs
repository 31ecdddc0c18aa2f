//! Hugging Face folders as models, with their own weights or those of another checkpoint.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use niwaki_model::hf::{self, Blueprint, Config, Weight};
pub use niwaki_model::{Activations, Decoder, Encoder};
use niwaki_model::{Data, Tensor};
use niwaki_tensors::{Checkpoint, Dtype, Limits};
use rayon::prelude::*;

use crate::error::{Error, ErrorKind};
use crate::given::Given;
use crate::model::Replaced;
use crate::source::{Names, Opened, Origin, Source, SourceTensor};

/// Elements that one thread decodes at a time, about.
const PART: usize = 1 << 16;

/// A model that is ready to run.
#[derive(Debug)]
pub enum Language {
    /// Text in, the next token out.
    Decoder(Decoder),
    /// Text in, a vector a token out.
    Encoder(Encoder),
}

/// The graph of the model in a folder; and what became of its weights, where others are given.
///
/// Weights that are stored as floats stay in their files; others, and those that are patched, are
/// decoded.
///
/// # Errors
///
/// Those of [`hf::build`], of [`overlaid`](crate::signature::overlaid) and of reading; other weights
/// of which the model has none.
pub fn blueprint<'g>(folder: &Path, given: impl Into<Given<'g>>) -> Result<(Blueprint, Replaced), Error> {
    whole(folder, given.into(), |weights, name| weights.floats(name))
}

/// The same, of weights as `form` gives them.
fn whole<'g>(
    folder: &Path,
    given: Given<'g>,
    form: impl Fn(&Weights<'_>, &str) -> Result<Option<Weight>, Error>,
) -> Result<(Blueprint, Replaced), Error> {
    let config = Config::open(folder)?;
    let own = Opened::open(folder, &Limits::default())?;
    let other = given.weights.map(|path| Opened::open(path, &Limits::default())).transpose()?;
    let own = Weights::new(&own, given.own())?;
    let other = other.as_ref().map(|opened| Weights::new(opened, given)).transpose()?;
    let blueprint = build(folder, &config, |name| {
        match other.as_ref().map(|weights| form(weights, name)).transpose()?.flatten() {
            Some(weight) => Ok(Some(weight)),
            None => form(&own, name),
        }
    })?;
    let replaced = other.as_ref().map(Weights::replaced).unwrap_or_default();
    if other.is_some() && replaced.weights == 0 {
        let what = format!("none of the weights of {}", folder.display());
        return Err(Error::from(ErrorKind::Unlike { what }).at(given.weights.unwrap_or(folder)));
    }
    Ok((blueprint, replaced))
}

/// The model in a folder, whichever kind it is, to be run: matrices that are stored as codes stay codes,
/// unless they are patched, sparse or seen through a transposition.
///
/// # Errors
///
/// Those of [`blueprint`], and thresholds of another model.
pub fn language<'g>(folder: &Path, given: impl Into<Given<'g>>) -> Result<(Language, Replaced), Error> {
    let given = given.into();
    let (mut blueprint, replaced) = whole(folder, given, |weights, name| weights.packed(name, given.activations))?;
    if let Some(thresholds) = given.thresholds {
        thresholds.skip(match &mut blueprint {
            Blueprint::Decoder(decoder) => &mut decoder.graph,
            Blueprint::Encoder(encoder) => &mut encoder.graph,
        })?;
    }
    let model = match blueprint {
        Blueprint::Decoder(graph) => Decoder::new(graph).map(Language::Decoder),
        Blueprint::Encoder(graph) => Encoder::new(graph).map(Language::Encoder),
    };
    Ok((model.map_err(|e| e.at(folder))?, replaced))
}

/// What the model in a folder says of itself, and its weights by name, as they went into its graph.
pub(crate) struct Recorded {
    pub(crate) config: Config,
    pub(crate) weights: BTreeMap<String, Tensor>,
}

impl Recorded {
    /// Builds the model in a folder, and keeps what it was built of: the tensors are shared.
    ///
    /// # Errors
    ///
    /// Those of [`blueprint`].
    pub(crate) fn open(folder: &Path) -> Result<(Blueprint, Self), Error> {
        let config = Config::open(folder)?;
        let opened = Opened::open(folder, &Limits::default())?;
        let source = Weights::new(&opened, Given::default())?;
        let weights = RefCell::new(BTreeMap::new());
        let blueprint = build(folder, &config, |name| {
            let found = source.get(name)?;
            weights.borrow_mut().extend(found.clone().map(|tensor| (name.to_owned(), tensor)));
            Ok(found.map(Weight::from))
        })?;
        Ok((blueprint, Self { config, weights: weights.into_inner() }))
    }
}

/// The decoder in a folder.
///
/// # Errors
///
/// Those of [`blueprint`], and a model that is none.
pub fn decoder<'g>(folder: &Path, given: impl Into<Given<'g>>) -> Result<(Decoder, Replaced), Error> {
    match language(folder, given)? {
        (Language::Decoder(decoder), replaced) => Ok((decoder, replaced)),
        (Language::Encoder(_), _) => Err(unlike("an encoder; a decoder expected", folder)),
    }
}

/// The encoder in a folder.
///
/// # Errors
///
/// Those of [`blueprint`], and a model that is none.
pub fn encoder<'g>(folder: &Path, given: impl Into<Given<'g>>) -> Result<(Encoder, Replaced), Error> {
    match language(folder, given)? {
        (Language::Encoder(encoder), replaced) => Ok((encoder, replaced)),
        (Language::Decoder(_), _) => Err(unlike("a decoder; an encoder expected", folder)),
    }
}

fn unlike(what: &str, folder: &Path) -> Error {
    Error::from(ErrorKind::Unlike { what: what.to_owned() }).at(folder)
}

/// Builds the model of a folder of weights by name. What `weight` fails with is what this fails with:
/// the builder only hands through that something did.
fn build(
    folder: &Path,
    config: &Config,
    weight: impl Fn(&str) -> Result<Option<Weight>, Error>,
) -> Result<Blueprint, Error> {
    let failed = Cell::new(None);
    let found = hf::build(config, &|name| {
        weight(name).map_err(|error| {
            let stands_for = niwaki_model::ErrorKind::Model(error.to_string()).into();
            failed.set(Some(error));
            stands_for
        })
    });
    match failed.into_inner() {
        Some(error) => Err(error),
        None => found.map_err(|e| Error::from(e.at(folder))),
    }
}

/// The weights of a checkpoint by name.
struct Weights<'w> {
    /// Where they are floats as they are.
    plain: Option<Arc<Checkpoint>>,
    source: Source<'w>,
    places: BTreeMap<String, usize>,
    used: RefCell<BTreeSet<String>>,
}

impl<'w> Weights<'w> {
    fn new<'g: 'w>(opened: &'w Opened, given: Given<'g>) -> Result<Self, Error> {
        let source = given.seen(opened, Names::HuggingFace)?;
        let plain = match source.origin() {
            Origin::Plain => Some(Arc::new(Checkpoint::open(opened.path(), &Limits::default())?)),
            _ => None,
        };
        let names = source.tensors().iter().enumerate();
        let places = names.map(|(at, tensor)| (tensor.name().to_owned(), at)).collect();
        Ok(Self { plain, source, places, used: RefCell::default() })
    }

    fn get(&self, name: &str) -> Result<Option<Tensor>, Error> {
        let Some(tensor) = self.places.get(name).and_then(|at| self.source.tensors().get(*at)) else {
            return Ok(None);
        };
        self.used.borrow_mut().insert(name.to_owned());
        // Those that are seen through patches have no elements in a file.
        match self.plain.as_ref().filter(|_| tensor.elements().is_some()) {
            Some(checkpoint) => Ok(hf::stored(checkpoint, name)?),
            None => decoded(tensor).map(Some).map_err(|e| e.of(name).at(self.source.opened().path())),
        }
    }

    /// A weight as floats.
    fn floats(&self, name: &str) -> Result<Option<Weight>, Error> {
        Ok(self.get(name)?.map(Weight::from))
    }

    /// A weight as it is stored: codes of a matrix as codes.
    fn packed(&self, name: &str, activations: Activations) -> Result<Option<Weight>, Error> {
        let tensor = self.places.get(name).and_then(|at| self.source.tensors().get(*at));
        let Some(packed) = tensor.map(SourceTensor::packed).transpose()?.flatten() else { return self.floats(name) };
        self.used.borrow_mut().insert(name.to_owned());
        Ok(Some(Weight::Packed(Arc::new(packed.with(activations)))))
    }

    /// What became of them.
    fn replaced(&self) -> Replaced {
        let used = self.used.borrow();
        let unknown = self.places.keys().filter(|name| !used.contains(*name)).cloned().collect();
        Replaced { weights: used.len(), unknown }
    }
}

/// A tensor as floats: in the type of its elements where that is all that it takes.
fn decoded(tensor: &SourceTensor<'_>) -> Result<Tensor, Error> {
    let shape = tensor.shape().dims().to_vec();
    let wrong = || Error::from(ErrorKind::Unsupported { what: format!("a weight of {} elements", tensor.dtype()) });
    if let (Some(bytes), dtype @ (Dtype::F32 | Dtype::F16 | Dtype::BF16)) = (tensor.elements(), tensor.dtype()) {
        let data = Data::from_bytes(dtype, bytes::Bytes::copy_from_slice(bytes));
        return data.and_then(|data| Tensor::new(shape, data)).ok_or_else(wrong);
    }
    let (rows, columns) = tensor.matrix();
    let part = (PART / columns.max(1)).max(1) * columns.max(1);
    let mut all = vec![0.0f32; rows * columns];
    let parts = all.par_chunks_mut(part).enumerate();
    parts.try_for_each(|(at, out)| tensor.decode(at * part..at * part + out.len(), out))?;
    Tensor::of(shape, all).ok_or_else(wrong)
}
