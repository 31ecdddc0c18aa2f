//! Whether a training can be done, and which weights train.

use std::collections::BTreeSet;
use std::path::Path;

use niwaki_model::{Dim, Dtype, Graph, Node, Running, ValueId};

use super::{Settings, Task};
use crate::dataset::Dataset;
use crate::error::{Error, ErrorKind};
use crate::plan::glob;

/// Refuses settings, data and models that do not go together.
pub(super) fn check(task: &Task<'_>, settings: &Settings) -> Result<(), Error> {
    let usage = |what: String| Error::from(ErrorKind::Usage { what });
    let (model, data) = (task.model, task.data);
    if !data.labelled() {
        return Err(usage("images without labels".to_owned()).at(data.path()));
    }
    if settings.batch == 0 || settings.batch > data.len() {
        let what = format!("batches of {}: the dataset has {} images", settings.batch, data.len());
        return Err(usage(what).at(data.path()).hinting("`--batch` sets the images of a step"));
    }
    if settings.best && !task.eval.is_some_and(Dataset::labelled) {
        let e = usage("the best pass, without images with labels to measure it on".to_owned());
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

/// The weights that train: single floats of at least one dimension that nodes take, running statistics aside.
pub(super) fn trainable(
    graph: &Graph,
    running: &[Running],
    settings: &Settings,
    path: &Path,
) -> Result<Vec<ValueId>, Error> {
    check_globs(graph, settings, path)?;
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
            let train = tensor.dtype() == Dtype::F32 && tensor.rank() > 0 && named;
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
