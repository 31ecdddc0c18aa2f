//! Whether a training can be done, and which weights train.

use std::collections::BTreeSet;
use std::path::Path;

use niwaki_model::{Dim, Dtype, Graph, Node, Running, ValueId};

use super::{Lessons, Settings, Task, lessons};
use crate::error::{Error, ErrorKind};
use crate::model::Model;
use crate::plan::glob;

/// Refuses settings, data and models that do not go together.
pub(super) fn check(task: &Task<'_>, settings: &Settings) -> Result<(), Error> {
    let usage = |what: String| Error::from(ErrorKind::Usage { what });
    let (model, data) = (task.model, task.data);
    lessons::check(task, settings)?;
    if settings.batch == 0 || settings.batch > data.len() {
        let (name, what) = (data.name(), settings.batch);
        let e = usage(format!("batches of {what}: the dataset has {} {name}", data.len()));
        return Err(data.at(e).hinting(format!("`--batch` sets the {name} of a step")));
    }
    let measures = match task.eval {
        Some(Lessons::Images(data)) => data.labelled(),
        other => other.is_some(),
    };
    if settings.best && !measures {
        let e = usage(format!("the best pass, without {} to measure it on", data.name()));
        return Err(e.hinting("`--eval-data` takes them"));
    }
    if let Some(epoch) = settings.keep.iter().find(|epoch| **epoch > settings.epochs) {
        return Err(usage(format!("pass {epoch} is to be kept, of {}", settings.epochs)));
    }
    if let Some(Dim::Fixed(fixed)) = model.graph().inputs().first().and_then(|x| x.dims.as_ref()?.first()) {
        let what = format!("a model of {fixed} images at a time, always");
        return Err(Error::from(ErrorKind::Unlike { what }).at(model.path()).hinting("export it with a dynamic batch"));
    }
    Ok(())
}

/// Refuses running statistics that something else takes too, as exporters leave them that make one of equal tensors.
pub(crate) fn own_statistics(graph: &Graph, running: &[Running]) -> Result<(), Error> {
    for statistic in running {
        let takes = |node: &Node| node.inputs.iter().filter(|input| **input == Some(statistic.weight)).count();
        let users: Vec<&str> =
            graph.nodes().iter().flat_map(|node| std::iter::repeat_n(node.name.as_str(), takes(node))).collect();
        if let [first, second, ..] = users[..] {
            let what = format!("a running statistic of `{first}`, and at once a weight of `{second}`");
            let e = Error::from(ErrorKind::Unlike { what }).of(graph.name(statistic.weight));
            return Err(e.hinting("exporters make one of tensors that are equal: export it with weights that differ"));
        }
    }
    Ok(())
}

/// The weights that train: single floats of at least one dimension that nodes take, running statistics aside; in models
/// of Hugging Face halves too.
pub(super) fn trainable(
    model: &Model,
    graph: &Graph,
    running: &[Running],
    settings: &Settings,
) -> Result<Vec<ValueId>, Error> {
    let path = model.path();
    check_globs(graph, settings, path)?;
    let halves = model.language().is_some();
    let globs = |all: &[String]| all.iter().map(|text| glob(text)).collect::<Result<Vec<_>, Error>>();
    let (only, freeze) = (globs(&settings.only)?, globs(&settings.freeze)?);
    let taken: BTreeSet<ValueId> =
        graph.nodes().iter().flat_map(|node| node.inputs.iter().flatten().copied()).collect();
    let statistics: BTreeSet<ValueId> = running.iter().map(|running| running.weight).collect();
    let all: Vec<ValueId> = graph
        .weights()
        .filter(|(value, tensor)| {
            let name = graph.name(*value);
            let named = only.is_empty() || only.iter().any(|glob| glob.is_match(name));
            let float = tensor.dtype() == Dtype::F32 || halves && matches!(tensor.dtype(), Dtype::F16 | Dtype::BF16);
            let train = float && tensor.rank() > 0 && named;
            train
                && taken.contains(value)
                && !statistics.contains(value)
                && !freeze.iter().any(|glob| glob.is_match(name))
        })
        .map(|(value, _)| value)
        .collect();
    if all.is_empty() {
        let rule = if settings.only.is_empty() {
            "the model".to_owned()
        } else {
            format!("`--only {}`", settings.only.join(" "))
        };
        return Err(Error::from(ErrorKind::NoMatch { rule: format!("{rule}, with F32 weights to train,") }).at(path));
    }
    Ok(all)
}

/// Refuses globs that match no weight: a typing error must not train what should stay.
fn check_globs(graph: &Graph, settings: &Settings, path: &Path) -> Result<(), Error> {
    for (flag, globs) in [("--only", &settings.only), ("--freeze", &settings.freeze)] {
        for text in globs {
            let matcher = glob(text)?;
            if !graph.weights().any(|(value, _)| matcher.is_match(graph.name(value))) {
                return Err(Error::from(ErrorKind::NoMatch { rule: format!("`{flag} {text}`") }).at(path));
            }
        }
    }
    Ok(())
}
