//! What a training begins with, and what tells it from others.

use blake3::Hasher;
use niwaki_container::Digest;
use niwaki_model::hf::Blueprint;
use niwaki_model::{Data, Dtype, Graph, Tensor, ValueId};
use niwaki_tensors::{Checkpoint, Limits};

use super::{Settings, Task, choice, init};
use crate::error::{Error, ErrorKind};
use crate::model::Model;

/// The key of the metadata of weights that says after which pass they were kept.
pub(super) const EPOCH: &str = "niwaki.train.epoch";

/// The model's graph with the weights that the training begins with, and how many passes those are from the beginning.
pub(super) fn beginning(task: &Task<'_>, settings: &Settings) -> Result<(Graph, u64), Error> {
    let mut graph = task.model.graph().clone();
    // Graphs that were exported to train are measured with running statistics too.
    graph.norms(None);
    widen(task.model, &mut graph, settings)?;
    if settings.fresh {
        init::fresh(&mut graph, settings.seed);
    }
    let Some(path) = task.rewind else { return Ok((graph, 0)) };
    let checkpoint = Checkpoint::open(path, &Limits::default())?;
    let epoch = checkpoint.metadata().get(EPOCH).and_then(|text| text.parse().ok()).unwrap_or(0);
    if epoch >= settings.epochs {
        let what = format!("weights of pass {epoch}: a training of {} is at its end", settings.epochs);
        return Err(Error::from(ErrorKind::Usage { what }).at(path));
    }
    take(task.model, &mut graph, &checkpoint)?;
    Ok((graph, epoch))
}

/// Whether weights of the kind are written by a training.
pub(super) fn written(tensor: &Tensor) -> bool {
    matches!(tensor.dtype(), Dtype::F32 | Dtype::F64 | Dtype::F16 | Dtype::BF16) && tensor.rank() > 0
}

/// Makes single floats of the halves that train, or whose masks are made.
pub(crate) fn widen(model: &Model, graph: &mut Graph, settings: &Settings) -> Result<(), Error> {
    if model.language().is_none() {
        return Ok(());
    }
    for value in choice::trainable(model, graph, &[], settings)? {
        if let Some(tensor) = graph.constant(value).filter(|tensor| tensor.dtype() != Dtype::F32).cloned() {
            graph.set_weight(value, tensor.widened());
        }
    }
    Ok(())
}

/// Adds a number to a weight that stands one higher in the graph than in its file; others stay as they are.
pub(super) fn shifted(model: &Model, value: ValueId, tensor: Tensor, by: f32) -> Tensor {
    let raised = matches!(model.language(), Some(Blueprint::Decoder(decoder)) if decoder.raised.contains(&value));
    match tensor.get::<f32>().filter(|_| raised) {
        Some(all) => Tensor::of(tensor.shape(), all.iter().map(|x| x + by).collect()).unwrap_or(tensor),
        None => tensor,
    }
}

/// Takes all weights of a checkpoint that a training wrote: those that were frozen then, too.
pub(crate) fn take(model: &Model, graph: &mut Graph, checkpoint: &Checkpoint) -> Result<(), Error> {
    let wanted: Vec<_> =
        graph.weights().filter(|(_, tensor)| written(tensor)).map(|(value, t)| (value, t.clone())).collect();
    for (value, tensor) in wanted {
        let name = graph.name(value).to_owned();
        let wrong = |what: String| Error::from(ErrorKind::Unlike { what }).of(&name).at(checkpoint.path());
        let view = checkpoint.get(&name).ok_or_else(|| wrong("is not there".to_owned()))?;
        let (found, needs) = ((view.dtype(), view.shape()), (tensor.dtype(), tensor.shape()));
        if found != needs {
            return Err(wrong(format!("{} {:?}, the model has {} {:?}", found.0, found.1, needs.0, needs.1)));
        }
        let data = Data::from_bytes(view.dtype(), bytes::Bytes::copy_from_slice(view.bytes()));
        if let Some(tensor) = data.and_then(|data| Tensor::new(view.shape(), data)) {
            graph.set_weight(value, shifted(model, value, tensor, 1.0));
        }
    }
    Ok(())
}

/// What a training is of, by the first digits of digests of all that there is to each.
pub(super) fn described(task: &Task<'_>, graph: &Graph) -> Vec<(String, String)> {
    let list = [
        ("model", Some(of_graph(graph))),
        ("data", Some(task.data.digest())),
        ("eval-data", task.eval.map(|data| data.digest())),
        ("teacher", task.teacher.map(|teacher| of_graph(teacher.graph()))),
    ];
    let text = |digest: Option<Digest>| digest.map_or("none".to_owned(), |digest| digest.to_string()[..16].to_owned());
    list.into_iter().map(|(key, digest)| (key.to_owned(), text(digest))).collect()
}

/// Nodes and weights.
fn of_graph(graph: &Graph) -> Digest {
    let mut hasher = Hasher::new();
    for node in graph.nodes() {
        hasher.update(format!("{} {:?} {:?} {:?}\n", node.name, node.op, node.inputs, node.outputs).as_bytes());
    }
    for (value, tensor) in graph.weights() {
        hasher.update(format!("{} {} {:?}\n", graph.name(value), tensor.dtype(), tensor.shape()).as_bytes());
        hasher.update(&tensor.data().to_bytes());
    }
    hasher.finalize().into()
}
