//! Whether a training can be done, and which weights train.

use std::collections::BTreeSet;

use globset::GlobMatcher;
use niwaki_model::{Dim, Dtype, Graph, Node, Running, ValueId};

use super::{Lessons, Settings, Task, lessons};
use crate::error::{Error, ErrorKind};
use crate::model::Model;
use crate::plan::glob;
use crate::recipe::unmatched;

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
    let names = graph.weights().map(|(value, _)| graph.name(value));
    let named = Named::new(settings, "--freeze", names).map_err(|e| e.at(path))?;
    let halves = model.language().is_some();
    let taken: BTreeSet<ValueId> =
        graph.nodes().iter().flat_map(|node| node.inputs.iter().flatten().copied()).collect();
    let statistics: BTreeSet<ValueId> = running.iter().map(|running| running.weight).collect();
    let all: Vec<ValueId> = graph
        .weights()
        .filter(|(value, tensor)| {
            let float = tensor.dtype() == Dtype::F32 || halves && matches!(tensor.dtype(), Dtype::F16 | Dtype::BF16);
            let train = float && tensor.rank() > 0 && named.takes(graph.name(*value));
            train && taken.contains(value) && !statistics.contains(value)
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

/// Weights by name: those that globs choose, all where none does, but for those that others leave as they are.
pub(crate) struct Named {
    only: Vec<GlobMatcher>,
    but: Vec<GlobMatcher>,
}

impl Named {
    /// As `only` and `freeze` of the settings say it; the second has the flag `but`.
    ///
    /// # Errors
    ///
    /// Globs that match no name: a typing error must not change what should stay.
    pub(crate) fn new<'n>(settings: &Settings, but: &str, names: impl Iterator<Item = &'n str>) -> Result<Self, Error> {
        let names: Vec<&str> = names.collect();
        let globs = |flag: &str, all: &[String]| {
            let one = |text: &String| {
                let glob = glob(text)?;
                match names.iter().any(|name| glob.is_match(name)) {
                    true => Ok(glob),
                    false => Err(unmatched(format!("`{flag} {text}`"), text, names.iter().copied())),
                }
            };
            all.iter().map(one).collect::<Result<Vec<_>, Error>>()
        };
        Ok(Self { only: globs("--only", &settings.only)?, but: globs(but, &settings.freeze)? })
    }

    /// Whether some were chosen by name.
    pub(crate) fn chosen(&self) -> bool {
        !self.only.is_empty()
    }

    /// Whether a weight of that name is among them.
    pub(crate) fn takes(&self, name: &str) -> bool {
        let any = |globs: &[GlobMatcher]| globs.iter().any(|glob| glob.is_match(name));
        (self.only.is_empty() || any(&self.only)) && !any(&self.but)
    }
}
