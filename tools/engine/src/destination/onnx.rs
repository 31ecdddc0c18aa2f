//! An ONNX model to be written: the graph that carries the weights, and how each of them stands in
//! it.

mod form;
mod uses;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use niwaki_codes::{BlockType, Scheme, Uniform};
use niwaki_container::Layout;
use niwaki_onnx::proto::ModelProto;
use niwaki_onnx::{DataType, Initializer, Limits, Model};
use niwaki_quant::Fit;
use niwaki_tensors::Dtype;

use super::{Settings, Settled, even_codes};
use crate::block_rows::even;
use crate::error::{Error, ErrorKind};
use crate::source::{Opened, Source, SourceTensor, of_onnx};

pub(crate) use form::{Form, Node, Weight};
pub(crate) use uses::names;

/// An ONNX model to be written.
#[derive(Debug)]
pub(crate) struct OnnxSeats {
    /// The model as it was, whose weights are replaced.
    pub(crate) proto: ModelProto,
    /// The folder of its external data.
    pub(crate) folder: Option<PathBuf>,
    /// The model, where it is another file than the checkpoint.
    pub(crate) apart: Option<Model>,
    /// One for each tensor of the source; none for those that the graph does not have.
    weights: Vec<Option<Weight>>,
    opset: i64,
}

impl OnnxSeats {
    /// The model, and what is worth saying of it.
    pub(super) fn new(source: &Source<'_>, settings: &Settings) -> Result<(Self, Vec<String>), Error> {
        let apart = match &settings.model {
            Some(path) => Some(Model::open(path, &Limits::default())?),
            None => None,
        };
        let model = match (&apart, source.opened()) {
            (Some(model), _) => model,
            (None, Opened::Onnx(onnx)) => onnx.model(),
            (None, opened) => {
                let what = "has no graph, and an ONNX model is one".to_owned();
                let error = Error::from(ErrorKind::Usage { what }).at(opened.path());
                return Err(error.hinting("`--model MODEL.onnx` gives the graph whose weights it has"));
            }
        };
        let known = weights_of(model);
        let mut weights = Vec::with_capacity(source.tensors().len());
        for tensor in source.tensors() {
            let weight = known.get(tensor.name()).cloned();
            if let Some(weight) = &weight {
                check(weight, tensor).map_err(|e| e.of(tensor.name()).at(source.opened().path()))?;
            }
            weights.push(weight);
        }
        let mut warnings = Vec::new();
        if apart.is_some() {
            let path = model.path().unwrap_or(Path::new("")).display();
            if weights.iter().all(Option::is_none) {
                let what = format!("none of the weights of {path}");
                return Err(Error::from(ErrorKind::Unlike { what }).at(source.opened().path()));
            }
            let has: BTreeSet<&str> = source.tensors().iter().map(SourceTensor::name).collect();
            let float = |weight: &Weight| plain_float(weight.dtype).is_some();
            let missing = known.iter().filter(|(name, weight)| float(weight) && !has.contains(*name)).count();
            if missing > 0 {
                warnings
                    .push(format!("{missing} float tensors of {path} are not in the checkpoint, and stay as they are"));
            }
        }
        let (proto, opset) = (model.proto().clone(), model.opset("").unwrap_or(0));
        let folder = model.path().map(|path| path.parent().unwrap_or(Path::new("")).to_owned());
        Ok((Self { proto, folder, weights, opset, apart }, warnings))
    }

    /// The weight that tensor number `index` is; none where the graph has no such.
    pub(crate) fn weight(&self, index: usize) -> Option<&Weight> {
        self.weights.get(index)?.as_ref()
    }

    /// How codes of tensor number `index` stand in the graph, or why they cannot.
    pub(crate) fn form(&self, index: usize, tensor: &SourceTensor<'_>, scheme: &Uniform) -> Result<Form, String> {
        let weight = self.weight(index).ok_or("the model has no such weight")?;
        // Codes that are there already lie along the rows of the weight, whatever these are.
        let across = weight.outputs_last() && tensor.coding().is_none();
        weight.form(scheme, across, self.opset)
    }

    /// How tensor number `index` stands in the model.
    pub(super) fn settle(
        &self,
        index: usize,
        tensor: &SourceTensor<'_>,
        rule: Option<(Scheme, Fit)>,
    ) -> Result<Settled, Error> {
        let plain = self.plain(index, tensor)?;
        let dtype = plain.layout.dtype;
        let (scheme, coding) = match (rule, tensor.coding()) {
            (Some((Scheme::Uniform(uniform), _)), coding) => (Some(uniform), coding),
            (Some((other, _)), _) => return Err(held(other)),
            (None, None) => return Ok(plain),
            (None, coding) => (taken_over(tensor), coding),
        };
        let decoded = coding.as_ref().map(|coding| format!("{coding} is decoded to {dtype}"));
        if decoded.is_some() {
            tensor.check_decodes()?;
        }
        let form = match scheme {
            Some(scheme) => self.form(index, tensor, &scheme),
            None => return Ok(Settled { note: decoded, ..plain }),
        };
        match form {
            Ok(form) => {
                let rank = tensor.shape().dims().len();
                let layout = Layout { scheme: Some(Scheme::Uniform(form.scheme)), ..plain.layout };
                let text = Scheme::Uniform(form.scheme).to_string();
                let becomes = coding.filter(|coding| rule.is_none() && *coding != text);
                let note = becomes.map(|coding| format!("{coding} becomes {text}"));
                let bytes = form
                    .bytes(rank)
                    .ok_or_else(|| Error::from(ErrorKind::Unsupported { what: "codes of so many bytes".to_owned() }))?;
                Ok(Settled { bytes: Some(bytes), ..Settled::new(layout, note) })
            }
            Err(why) => {
                let note = match decoded {
                    Some(decoded) => format!("{decoded}: {why}"),
                    None => format!("kept as floats: {why}"),
                };
                Ok(Settled { note: Some(note), ..plain })
            }
        }
    }

    /// Tensor number `index` as elements of the type that the graph has for it.
    pub(super) fn plain(&self, index: usize, tensor: &SourceTensor<'_>) -> Result<Settled, Error> {
        let dtype = self.weight(index).and_then(|weight| of_onnx(weight.dtype)).unwrap_or(tensor.dtype());
        let narrow = tensor.coding().is_none() && dtype != tensor.dtype();
        let note = narrow.then(|| format!("{} becomes {dtype}, as the model has it", tensor.dtype()));
        Ok(Settled::new(Layout::plain(dtype, *tensor.shape()), note))
    }

    /// Weights of a row of the transpose, where codes of tensor number `index` are codes of that.
    pub(super) fn across(&self, index: usize, coded: bool) -> Option<usize> {
        let weight = self.weight(index).filter(|weight| weight.outputs_last() && !coded)?;
        weight.dims.first().copied()
    }
}

/// The scheme that codes are taken over in, where that can be.
fn taken_over(tensor: &SourceTensor<'_>) -> Option<Uniform> {
    match tensor.scheme()? {
        Scheme::Uniform(uniform) => Some(uniform),
        Scheme::Block(kind @ (BlockType::Q4_0 | BlockType::Q5_0 | BlockType::Q8_0)) => Some(even(kind)),
        _ => None,
    }
}

fn held(scheme: Scheme) -> Error {
    let error = Error::from(ErrorKind::Held { format: "onnx", scheme: scheme.to_string() });
    error.hinting(format!(
        "the nearest that it holds is `{}`; `export` decodes others to floats",
        Scheme::Uniform(even_codes(scheme, None))
    ))
}

/// Our type of floats that weights are computed with.
fn plain_float(dtype: DataType) -> Option<Dtype> {
    match dtype {
        DataType::Float | DataType::Float16 | DataType::Bfloat16 | DataType::Double => of_onnx(dtype),
        _ => None,
    }
}

/// The weights of products of which each column belongs to one output, and how many dimensions they have.
pub(crate) fn inputs_first(model: &Model) -> BTreeMap<String, usize> {
    let all = weights_of(model).into_iter();
    let first = all.filter(|(_, weight)| matches!(weight.uses, uses::Use::Product { outputs_first: false, .. }));
    first.map(|(name, weight)| (name.to_owned(), weight.dims.len())).filter(|(_, rank)| *rank > 1).collect()
}

fn weights_of(model: &Model) -> BTreeMap<&str, Weight> {
    let uses = uses::uses(model.graph());
    let mut all = BTreeMap::new();
    for initializer in model.initializers() {
        let (dims, dtype) = match initializer {
            Initializer::Dense(proto) => (&proto.dims, proto.data_type()),
            Initializer::Sparse(proto) => (&proto.dims, proto.values.as_ref().map_or(0, |values| values.data_type())),
        };
        let dims = dims.iter().map(|dim| usize::try_from(*dim).ok()).collect::<Option<Vec<_>>>();
        if let (Some(dims), Some(dtype)) = (dims, DataType::from_i32(dtype)) {
            let uses = uses.get(initializer.name()).copied().unwrap_or(uses::Use::Other);
            all.insert(initializer.name(), Weight { dims, dtype, uses });
        }
    }
    all
}

/// Refuses a tensor that cannot take the place of a weight.
fn check(weight: &Weight, tensor: &SourceTensor<'_>) -> Result<(), Error> {
    let unlike = |what: String| Err(Error::from(ErrorKind::Unlike { what }));
    if tensor.shape().dims() != weight.dims {
        return unlike(format!("shape {}, the model has {:?}", tensor.shape(), weight.dims));
    }
    let same = of_onnx(weight.dtype) == Some(tensor.dtype());
    match same || tensor.is_float() && plain_float(weight.dtype).is_some() {
        true => Ok(()),
        false => unlike(format!("elements of {}, the model has {}", tensor.dtype(), weight.dtype)),
    }
}
