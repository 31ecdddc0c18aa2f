//! Models: a graph, and the weights that it runs with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use half::{bf16, f16};
use niwaki_model::hf::{Blueprint, DecoderGraph, EncoderGraph};
use niwaki_model::{Data, Decoder, Dim, Dtype, Encoder, Executor, Graph, Kind, Outcome, Run, Tensor, Value, ValueId};
use niwaki_tensors::{Checkpoint, Limits, Overwrite, TensorView, write_file};

use crate::compress::Options;
use crate::error::{Error, ErrorKind};
use crate::folder::{self, Language};
use crate::given::Given;
use crate::source::{Names, Opened, Source, SourceTensor};

/// A graph as a file has it, and where it came from.
#[derive(Clone, Debug)]
pub struct Model {
    path: PathBuf,
    graph: Graph,
    /// What a Hugging Face folder says of it, without the graph.
    language: Option<Blueprint>,
}

/// What became of a model's weights when others took their place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Weights that others took the place of.
    pub weights: usize,
    /// Tensors of the checkpoint that the model has no weight for.
    pub unknown: Vec<String>,
}

impl Model {
    /// Opens an ONNX file.
    ///
    /// # Errors
    ///
    /// Those of [`niwaki_model::onnx::open`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let graph = niwaki_model::onnx::open(path)?;
        Ok(Self { path: path.to_owned(), graph, language: None })
    }

    /// Opens an ONNX file, and puts what is given in the place of its weights or over them.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), [`set_weights`](Self::set_weights) and
    /// [`overlaid`](crate::signature::overlaid).
    pub fn of_file<'g>(path: &Path, given: impl Into<Given<'g>>) -> Result<(Self, Replaced), Error> {
        let given = given.into();
        let mut model = Self::open(path)?;
        let replaced = match given.weights {
            Some(weights) => {
                let opened = Opened::open(weights, &Limits::default())?;
                model.replace(&given.seen(&opened, Names::Own)?, |_| true)?
            }
            None if given.patches.is_empty() && given.bits.is_none() => Replaced::default(),
            None => {
                let opened = Opened::open(path, &Limits::default())?;
                // Those that no patch touches have their elements in the file.
                model.replace(&given.seen(&opened, Names::Own)?, |tensor| tensor.elements().is_none())?;
                Replaced::default()
            }
        };
        Ok((model, replaced))
    }

    /// Opens a Hugging Face folder, and puts what is given in the place of its weights or over them.
    ///
    /// # Errors
    ///
    /// Those of [`folder::blueprint`].
    pub fn of_folder<'g>(path: &Path, given: impl Into<Given<'g>>) -> Result<(Self, Replaced), Error> {
        let (mut blueprint, replaced) = folder::blueprint(path, given)?;
        let graph = std::mem::take(match &mut blueprint {
            Blueprint::Decoder(decoder) => &mut decoder.graph,
            Blueprint::Encoder(encoder) => &mut encoder.graph,
        });
        Ok((Self { path: path.to_owned(), graph, language: Some(blueprint) }, replaced))
    }

    /// That of a graph that is in no file.
    #[cfg(test)]
    pub(crate) fn of_graph(path: &Path, graph: Graph) -> Self {
        Self { path: path.to_owned(), graph, language: None }
    }

    /// The same model with another graph.
    pub(crate) fn with(&self, graph: Graph) -> Self {
        Self { path: self.path.clone(), graph, language: self.language.clone() }
    }

    /// What a Hugging Face folder says of it, without the graph; none of an ONNX model.
    pub fn language(&self) -> Option<&Blueprint> {
        self.language.as_ref()
    }

    /// The model of a Hugging Face folder, ready to run; none of an ONNX model.
    pub(crate) fn ready(&self) -> Result<Option<Language>, Error> {
        let ready = self.language.clone().map(|blueprint| match blueprint {
            Blueprint::Decoder(of) => {
                Decoder::new(DecoderGraph { graph: self.graph.clone(), ..of }).map(Language::Decoder)
            }
            Blueprint::Encoder(of) => {
                Encoder::new(EncoderGraph { graph: self.graph.clone(), ..of }).map(Language::Encoder)
            }
        });
        Ok(ready.transpose().map_err(|e| e.at(&self.path))?)
    }

    /// The same, with what an encoder has behind it that only its pretraining took.
    fn whole(&self) -> Result<Self, Error> {
        let mut graph = self.graph.clone();
        if let Some(Blueprint::Encoder(EncoderGraph { pooler: Some(pooler), .. })) = &self.language {
            pooler.add(&mut graph).map_err(|e| e.at(&self.path))?;
        }
        Ok(self.with(graph))
    }

    /// The file, or the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The graph, as it stands in the file.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Puts the tensors of a checkpoint in the place of the weights of the same names, decoded.
    ///
    /// # Errors
    ///
    /// A checkpoint that has none of the model's weights, or one of another shape; those of reading.
    pub fn set_weights(&mut self, opened: &Opened) -> Result<Replaced, Error> {
        self.replace(&opened.source(None, Names::Own)?, |_| true)
    }

    /// Puts tensors of a checkpoint in the place of weights.
    pub(crate) fn replace(
        &mut self,
        source: &Source<'_>,
        which: fn(&SourceTensor<'_>) -> bool,
    ) -> Result<Replaced, Error> {
        let opened = source.opened();
        let weights: BTreeMap<String, ValueId> =
            self.graph.weights().map(|(value, _)| (self.graph.name(value).to_owned(), value)).collect();
        let mut replaced = Replaced::default();
        for tensor in source.tensors().iter().filter(|tensor| which(tensor)) {
            let Some(value) = weights.get(tensor.name()) else {
                replaced.unknown.push(tensor.name().to_owned());
                continue;
            };
            let at = |e: Error| e.of(tensor.name()).at(opened.path());
            let Some(old) = self.graph.constant(*value) else { continue };
            if old.shape() != tensor.shape().dims() {
                let has = niwaki_model::dims_text(&old.shape().iter().map(|dim| Dim::Fixed(*dim)).collect::<Vec<_>>());
                let what = format!("shape {}, the model has {has}", tensor.shape());
                return Err(at(ErrorKind::Unlike { what }.into()));
            }
            if !matches!(old.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64) {
                // Counters and tables are no weights.
                continue;
            }
            let mut decoded = vec![0.0; old.len()];
            tensor.decode(0..old.len(), &mut decoded).map_err(at)?;
            let (shape, dtype) = (old.shape().to_vec(), old.dtype());
            if let Some(new) = Tensor::new(shape, floats(dtype, decoded)) {
                self.graph.set_weight(*value, new);
                replaced.weights += 1;
            }
        }
        if replaced.weights == 0 {
            let what = format!("none of the weights of {}", self.path.display());
            return Err(Error::from(ErrorKind::Unlike { what }).at(opened.path()));
        }
        Ok(replaced)
    }

    /// Makes it ready to run forward: what never changes is computed, and nodes are fused.
    ///
    /// # Errors
    ///
    /// Weights that do not fit their nodes.
    pub fn executor(&self) -> Result<Executor, Error> {
        let at = |e: niwaki_model::Error| Error::from(e.at(&self.path));
        let mut graph = self.graph.clone();
        graph.fold().map_err(at)?;
        graph.fuse().map_err(at)?;
        graph.block().map_err(at)?;
        Executor::new(graph).map_err(at)
    }
}

/// A named value of a run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
}

/// What came of [`run`].
#[derive(Clone, Debug, serde::Serialize)]
pub struct Ran {
    /// What it was given.
    pub inputs: Vec<Named>,
    /// What it made.
    pub outputs: Vec<Named>,
    /// Multiplications that are followed by an addition, of convolutions and linear layers.
    pub macs: u64,
    /// The most bytes that values took at any time, weights aside.
    pub peak_bytes: u64,
    /// The median time of the passes after the first, in seconds, where there were any.
    pub median_seconds: Option<f64>,
}

/// Runs a model on the named tensors of a file, and writes every output under its name; of an encoder in a Hugging Face
/// folder these are the names of transformers, with `pooler_output` where the folder has its weights. It is run
/// `repeat` times more to be timed. Of a list `x`, in and out, the tensors are `x.0`, `x.1` and so on; an input that may
/// be nothing is nothing where the file has none of it, and an output that is nothing is not written.
///
/// # Errors
///
/// Inputs that are missing, of other types or shapes; whatever the model refuses; those of reading
/// and writing. The output is then as it was before.
pub fn run(model: &Model, input: &Path, repeat: usize, out: &Path, overwrite: Overwrite) -> Result<Ran, Error> {
    let checkpoint = Checkpoint::open(input, &Limits::default())?;
    let executor = model.whole()?.executor()?;
    let graph = executor.graph();
    let (mut given, mut inputs) = (Vec::new(), Vec::with_capacity(graph.inputs().len()));
    for wanted in graph.inputs() {
        let name = graph.name(wanted.value);
        let value = brought(&checkpoint, name, wanted.kind.unwrap_or_default()).map_err(|e| e.at(input))?;
        given.extend(parts(name, &value).into_iter().map(|(name, tensor)| named(&name, tensor)));
        inputs.push(value);
    }
    let pass = || executor.run_values(inputs.clone(), Run::default()).map_err(|e| Error::from(e.at(&model.path)));
    let Outcome { outputs, peak_bytes, macs } = pass()?;
    let mut seconds = Vec::with_capacity(repeat);
    for _ in 0..repeat {
        let start = Instant::now();
        pass()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let median_seconds = seconds.get(repeat / 2).copied();
    let made = graph.outputs().iter().zip(&outputs);
    let made: Vec<(String, &Tensor)> = made.flat_map(|(id, value)| parts(graph.name(*id), value)).collect();
    let data: Vec<Vec<u8>> = made.iter().map(|(_, tensor)| tensor.data().to_bytes()).collect();
    let tensors: Vec<_> = made
        .iter()
        .zip(&data)
        .map(|((name, tensor), bytes)| (name.as_str(), tensor.dtype(), tensor.shape(), bytes.as_slice()))
        .collect();
    write_file(out, &tensors, &[], overwrite)?;
    let outputs = made.iter().map(|(name, tensor)| named(name, tensor)).collect();
    Ok(Ran { inputs: given, outputs, macs, peak_bytes: peak_bytes as u64, median_seconds })
}

/// The tensors of a value, with their names.
fn parts<'v>(name: &str, value: &'v Value) -> Vec<(String, &'v Tensor)> {
    match value {
        Value::Tensor(tensor) => vec![(name.to_owned(), tensor)],
        Value::List(all) => all.iter().enumerate().map(|(at, tensor)| (format!("{name}.{at}"), tensor)).collect(),
        Value::Nothing => Vec::new(),
    }
}

/// What a file has for an input.
fn brought(checkpoint: &Checkpoint, name: &str, kind: Kind) -> Result<Value, Error> {
    let one = |name: &str| checkpoint.get(name).map(|view| tensor_of(name, &view));
    let list = || (0..).map_while(|at| one(&format!("{name}.{at}"))).collect::<Result<Vec<_>, _>>();
    let missing = |what: String| {
        let known: Vec<_> = checkpoint.tensors().map(|t| format!("`{}`", t.name())).collect();
        let what = format!("no tensor `{what}`, an input of the model; there is {}", known.join(", "));
        Error::from(ErrorKind::Usage { what })
    };
    match kind {
        Kind::Tensor => one(name).ok_or_else(|| missing(name.to_owned()))?.map(Value::Tensor),
        Kind::MaybeTensor => one(name).map_or(Ok(Value::Nothing), |tensor| tensor.map(Value::Tensor)),
        Kind::List | Kind::MaybeList => match list()? {
            all if !all.is_empty() => Ok(Value::List(all)),
            _ if kind == Kind::MaybeList => Ok(Value::Nothing),
            _ => Err(missing(format!("{name}.0"))),
        },
    }
}

/// A tensor of a file as one to compute with.
fn tensor_of(name: &str, view: &TensorView<'_>) -> Result<Tensor, Error> {
    let data = Data::from_bytes(view.dtype(), bytes(view.bytes()));
    data.and_then(|data| Tensor::new(view.shape(), data)).ok_or_else(|| {
        let what = format!("{} elements", view.dtype());
        Error::from(ErrorKind::Unsupported { what }).of(name)
    })
}

/// Does something on so many threads.
///
/// # Errors
///
/// Threads that the system does not give, and those of the work.
pub fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    Options { threads, ..Options::default() }.pool()?.install(|| niwaki_model::awake(work))
}

/// Whether a path is named as ONNX models are.
pub(crate) fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// Numbers in the type of floats that a graph computes in.
pub(crate) fn floats(dtype: Dtype, all: Vec<f32>) -> Data {
    match dtype {
        Dtype::F16 => Data::F16(all.into_iter().map(f16::from_f32).collect::<Vec<_>>().into()),
        Dtype::BF16 => Data::Bf16(all.into_iter().map(bf16::from_f32).collect::<Vec<_>>().into()),
        Dtype::F64 => Data::F64(all.into_iter().map(f64::from).collect::<Vec<_>>().into()),
        _ => Data::F32(all.into()),
    }
}

fn bytes(of: &[u8]) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(of)
}

fn named(name: &str, tensor: &Tensor) -> Named {
    Named { name: name.to_owned(), dtype: tensor.dtype().to_string(), shape: tensor.shape().to_vec() }
}
