//! File to file: compress, and patches that are merged.

use std::path::{Path, PathBuf};

use niwaki_engine::layers::Fewer;
use niwaki_engine::recipe::{Preset, scheme};
use niwaki_engine::signature::{self, Application, Patch, Signature};
use niwaki_engine::{Destination, Error, Names, Opened, Options, Plan, Recipe, Tail};
use niwaki_quant::Fit;
use niwaki_tensors::Limits;
use pyo3::prelude::*;

use crate::error::Told;

/// How a run goes about its work.
fn options(threads: Option<usize>, force: bool) -> Options {
    let default = Options::default();
    Options { threads: threads.unwrap_or(default.threads), replace: force, ..default }
}

/// What a run says of itself, as Python's own values.
fn said<'py>(py: Python<'py>, json: Result<String, serde_json::Error>) -> PyResult<Bound<'py, PyAny>> {
    let json = json.map_err(|why| Told::caller(why.to_string()))?;
    py.import("json")?.call_method1("loads", (json,))
}

/// The recipe that the arguments amount to.
fn recipe(opened: &Opened, (text, recipe, fit): (Option<&str>, Option<&str>, Option<&str>)) -> Result<Recipe, Told> {
    let (text, recipe) = match (text, recipe) {
        (None, Some(recipe)) if fit.is_none() => return Ok(Recipe::parse(recipe)?),
        (Some(text), None) => (text, fit),
        (None, Some(_)) => return Err(Told::caller("`recipe` and `fit` both say how tensors are encoded")),
        _ => return Err(Told::caller("one of `scheme` and `recipe` is needed, and not both")),
    };
    let known = || Fit::KNOWN.map(|fit| fit.to_string()).join(", ");
    let fit =
        recipe.map(|text| text.parse().map_err(|_| Told::caller(format!("fit `{text}`: expected one of {}", known()))));
    let path = opened.path();
    let language_model = path.is_dir() && path.join("config.json").is_file();
    let preset = if language_model { Preset::Llm } else { Preset::Weights };
    Ok(preset.recipe(scheme(text)?, fit.transpose()?.unwrap_or(Fit::MinMax))?)
}

/// Compresses a checkpoint by one scheme for all weights, or by the text of a recipe; what became of each tensor.
#[pyfunction]
#[pyo3(signature = (source, out, *, scheme = None, recipe = None, fit = None, threads = None, force = false))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn compress<'py>(
    py: Python<'py>,
    source: PathBuf,
    out: PathBuf,
    scheme: Option<String>,
    recipe: Option<String>,
    fit: Option<String>,
    threads: Option<usize>,
    force: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let how = (scheme.as_deref(), recipe.as_deref(), fit.as_deref());
    let report = py.detach(|| -> Result<_, Told> {
        let opened = Opened::open(&source, &Limits::default())?;
        let recipe = self::recipe(&opened, how)?;
        let fewer = recipe.layers.as_ref().map(|rule| Fewer::new(&opened, rule)).transpose()?;
        let rules = recipe.patches.iter().map(|rule| (rule.signature.clone(), rule.alpha));
        let signatures = self::signatures(&rules.collect::<Vec<_>>())?;
        let transfers = recipe.patches.iter().map(|rule| rule.transfer);
        let patches: Vec<_> = signatures.iter().zip(transfers).map(|(of, transfer)| patch(of, transfer)).collect();
        let source = signature::overlaid(&opened, None, Names::HuggingFace, &patches)?;
        let source = match &fewer {
            Some(fewer) => fewer.over(source)?,
            None => source,
        };
        let mut plan = Plan::new(&source, recipe, Tail::Short, Destination::default())?;
        Ok(niwaki_engine::compress(&source, &mut plan, &out, &options(threads, force), &|_, _| {})?)
    })?;
    said(py, serde_json::to_string(&report))
}

/// Writes a checkpoint with signatures merged into it, and what takes them off again.
#[pyfunction]
#[pyo3(signature = (checkpoint, signatures, out, *, transfer = false, allow_loss = false, threads = None, force = false))]
#[allow(clippy::too_many_arguments, reason = "Python names them")]
pub(crate) fn apply<'py>(
    py: Python<'py>,
    checkpoint: PathBuf,
    signatures: Vec<(PathBuf, f64)>,
    out: PathBuf,
    transfer: bool,
    allow_loss: bool,
    threads: Option<usize>,
    force: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let applied = py.detach(|| -> Result<_, Told> {
        let opened = open(&checkpoint)?;
        let signatures = self::signatures(&signatures)?;
        let patches: Vec<_> = signatures.iter().map(|of| patch(of, transfer)).collect();
        let how = Application { out: Some(&out), allow_loss };
        Ok(signature::apply(&opened, &patches, how, &options(threads, force), &|_, _| {})?)
    })?;
    said(py, serde_json::to_string(&applied))
}

/// Writes a checkpoint without one of the signatures merged into it, bit for bit as if it had never been added.
#[pyfunction]
#[pyo3(signature = (checkpoint, name, out, *, threads = None, force = false))]
pub(crate) fn remove<'py>(
    py: Python<'py>,
    checkpoint: PathBuf,
    name: &str,
    out: PathBuf,
    threads: Option<usize>,
    force: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let removed = py.detach(|| -> Result<_, Told> {
        Ok(signature::remove(&open(&checkpoint)?, name, &out, &options(threads, force), &|_, _| {})?)
    })?;
    said(py, serde_json::to_string(&removed))
}

/// The signatures that are merged into a checkpoint, oldest first.
#[pyfunction]
pub(crate) fn patches(py: Python<'_>, checkpoint: PathBuf) -> PyResult<Bound<'_, PyAny>> {
    let listed = py.detach(|| -> Result<_, Told> { Ok(signature::list(&open(&checkpoint)?, &Options::default())?) })?;
    said(py, serde_json::to_string(&listed))
}

fn open(path: &Path) -> Result<Opened, Error> {
    Opened::open(path, &Limits::default())
}

/// Signatures with their alphas.
fn signatures(paths: &[(PathBuf, f64)]) -> Result<Vec<(Signature, f64)>, Error> {
    paths.iter().map(|(path, alpha)| Ok((Signature::open(path, &Limits::default())?, *alpha))).collect()
}

fn patch((signature, alpha): &(Signature, f64), transfer: bool) -> Patch<'_> {
    Patch { signature, alpha: *alpha, transfer }
}
