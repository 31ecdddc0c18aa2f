//! From flags to a recipe, and from a recipe to a plan.

use std::path::Path;

use niwaki_codes::Bits;
use niwaki_engine::destination::Activations;
use niwaki_engine::layers::Fewer;
use niwaki_engine::plan::{Plan, Tail};
use niwaki_engine::recipe::{self, Mix, PatchRule, Preset, Recipe};
use niwaki_engine::signature::path_and_alpha;
use niwaki_engine::{Destination, Folded, Format, Names, Opened, Settings, Source, Stats};
use niwaki_quant::Fit;

use super::{counted, on_threads};
use crate::args::{self, ForEngine, Selection};
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::Session;

/// The scheme of a preset where none is given.
const PRESET_SCHEME: &str = "int8/row/sym";

/// The recipe that the flags name, where they name one.
pub(super) fn given(selection: &Selection) -> Result<Option<Recipe>, Stop> {
    selection.recipe.as_deref().map(|path| written(path, selection)).transpose()
}

/// The model of a checkpoint without the blocks that go by a recipe, where some do.
pub(super) fn fewer(opened: &Opened, recipe: Option<&Recipe>) -> Result<Option<Fewer>, Stop> {
    let rule = recipe.and_then(|recipe| recipe.layers.as_ref());
    Ok(rule.map(|rule| Fewer::new(opened, rule)).transpose()?)
}

/// The checkpoint as that of the model without them.
pub(super) fn without<'a>(fewer: Option<&'a Fewer>, source: Source<'a>) -> Result<Source<'a>, Stop> {
    match fewer {
        Some(fewer) => Ok(fewer.over(source)?),
        None => Ok(source),
    }
}

/// The scales that a recipe folds into the weights of a checkpoint, where it does.
pub(super) fn folded(
    source: &Source<'_>,
    recipe: &Recipe,
    (selection, destination): (&Selection, &Destination),
    session: &mut Session<'_>,
) -> Result<Option<Folded>, Stop> {
    if recipe.folds.is_empty() {
        return Ok(None);
    }
    let progress = Progress::examples(session);
    let folded = on_threads(session, || {
        let stats = selection.stats.as_ref().map(|path| Stats::of(path, source)).transpose()?;
        Folded::new(source, recipe, stats.as_ref(), destination, &|done, all| progress.at(done, all))
    })?;
    drop(progress);
    let mut left: Vec<(&str, &str, usize)> = Vec::new();
    for place in folded.left() {
        match left.iter_mut().find(|(_, why, _)| *why == place.why) {
            Some((.., count)) => *count += 1,
            None => left.push((place.takers.first().map_or("", String::as_str), place.why, 1)),
        }
    }
    for (name, why, count) in left {
        let others = if count > 1 { format!(" and at {} other places", count - 1) } else { String::new() };
        session.note(&format!("no scales go into `{name}`{others}: {why}"));
    }
    Ok(Some(folded))
}

/// The checkpoint with scales in its weights.
pub(super) fn over<'a>(folded: Option<&'a Folded>, source: Source<'a>) -> Source<'a> {
    match folded {
        Some(folded) => folded.over(source),
        None => source,
    }
}

/// What a plan is made of: where it leads, and the recipe that is given or that the flags amount to.
pub(super) fn resolve(
    source: &Source<'_>,
    selection: &Selection,
    given: Option<Recipe>,
    session: &mut Session<'_>,
) -> Result<(Destination, Recipe), Stop> {
    let format: Format = selection.to.parse()?;
    let settings = settings(format, None, &selection.engine)?;
    let destination = Destination::new(format, source, &settings)?;
    let recipe = match given {
        Some(recipe) => recipe,
        None => preset(source, selection, &destination)?,
    };
    let mut recipe = recipe.restricted(&selection.only).keeping(&selection.keep);
    if let Some(seed) = session.global.seed {
        recipe.seed = seed;
    }
    recipe.damping = selection.damping.or(recipe.damping);
    let transfer = selection.patches.transfer;
    for text in &selection.patches.patch {
        let (path, alpha) = path_and_alpha(text)?;
        recipe.patches.push(PatchRule { signature: path.to_owned(), alpha, transfer });
    }
    Ok((destination, recipe))
}

/// What engines are told.
pub(super) fn settings(format: Format, bits: Option<Bits>, engine: &ForEngine) -> Result<Settings, Stop> {
    let activations = match engine.activations {
        args::Activations::Float => Activations::Float,
        args::Activations::Dynamic if format == Format::CompressedTensors => Activations::Dynamic,
        args::Activations::Static => {
            let failure = Failure::usage("`--activations static` is for `export MODEL.onnx --to onnx`");
            return Err(failure.hinting("`--stats` takes the ranges, as `calibrate` writes them").into());
        }
        args::Activations::Dynamic => {
            return Err(Failure::usage("`--activations dynamic` is for `--to compressed-tensors`").into());
        }
    };
    if engine.pre_tokenizer.is_some() && format != Format::Gguf {
        return Err(Failure::usage("`--pre-tokenizer` is for `--to gguf`").into());
    }
    if engine.model.is_some() && format != Format::Onnx {
        return Err(Failure::usage("`--model` is for `--to onnx`").into());
    }
    let (pre_tokenizer, model) = (engine.pre_tokenizer.clone(), engine.model.clone());
    Ok(Settings { activations, bits, pre_tokenizer, model })
}

/// What becomes of every tensor of the checkpoint.
pub(super) fn plan(
    source: &Source<'_>,
    recipe: Recipe,
    selection: &Selection,
    destination: Destination,
    session: &mut Session<'_>,
) -> Result<Plan, Stop> {
    let tail = match selection.tail {
        args::Tail::Short => Tail::Short,
        args::Tail::Error => Tail::Refuse,
    };
    let (folds, ours) = (!recipe.folds.is_empty(), destination.format() == Format::Safetensors);
    let mut plan = Plan::new(source, recipe, tail, destination)?;
    // On the way to other formats fits look at no statistics.
    if let Some(path) = selection.stats.as_ref().filter(|_| ours || !folds) {
        plan = plan.calibrated_by(Stats::of(path, source)?, source)?;
        for name in &plan.unknown {
            session.note(&format!("tensor `{name}`: no statistics of its inputs; it is fitted by {}", Fit::Lsq));
        }
    }
    for warning in plan.to.warnings() {
        session.note(warning);
    }
    let again: Vec<_> =
        plan.tensors.iter().filter(|t| t.coding.is_some() && t.rule.is_some() && t.layout.scheme.is_some()).collect();
    if let Some(coding) = again.first().and_then(|t| t.coding.as_ref()) {
        let (n, hold) = (counted(again.len()), if again.len() == 1 { "holds" } else { "hold" });
        session.note(&format!("{n} {hold} codes already ({coding}): SQNR is against what those decode to"));
    }
    Ok(plan)
}

/// The names by which tensors of a checkpoint go on their way to a format.
pub(super) fn names(to: &str) -> Names {
    if to == Format::Gguf.name() { Names::Own } else { Names::HuggingFace }
}

fn written(path: &Path, selection: &Selection) -> Result<Recipe, Stop> {
    let others = [("--preset", &selection.preset), ("--scheme", &selection.scheme), ("--fit", &selection.fit)];
    if let Some((flag, _)) = others.iter().find(|(_, value)| value.is_some()) {
        let failure = Failure::usage(format!("`--recipe` and `{flag}` both say how tensors are encoded"));
        return Err(failure.hinting("a recipe holds scheme and fit in its rules").into());
    }
    read(path)
}

/// The recipe in a file.
pub(super) fn read(path: &Path) -> Result<Recipe, Stop> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::reading(path, &e))?;
    let mut failure = match Recipe::parse(&text) {
        Ok(recipe) => return Ok(recipe),
        Err(error) => Failure::from(error),
    };
    failure.message = format!("`{}`: {}", path.display(), failure.message);
    failure.path = Some(path.display().to_string());
    Err(failure.into())
}

fn preset(source: &Source<'_>, selection: &Selection, destination: &Destination) -> Result<Recipe, Stop> {
    let fit = match &selection.fit {
        Some(text) => fit(text)?,
        None => Fit::MinMax,
    };
    // A mix of llama.cpp is named like a preset or like a scheme.
    let (named, text) = (selection.preset.as_deref(), selection.scheme.as_deref());
    let mix = named.or(text).and_then(Mix::from_name);
    match (mix, destination.facts()) {
        (Some(mix), Some(_)) if fit != Fit::MinMax || named.is_some() && text.is_some() => {
            let failure = Failure::usage(format!("the mix `{}` says scheme and fit of every tensor", mix.name()));
            return Err(failure.hinting("leave `--scheme` and `--fit` out, or change its recipe").into());
        }
        (Some(_), Some(facts)) if facts.architecture == "falcon" => {
            return Err(Failure::unsupported("the mix of types for falcon").hinting("write a recipe").into());
        }
        (Some(mix), Some(facts)) => return Ok(mix.recipe(&facts)),
        // Names of blocks are schemes of our containers, too.
        (Some(mix), None) if named.is_some() || text.is_some_and(|text| recipe::scheme(text).is_err()) => {
            let failure = Failure::usage(format!("`{}` is a mix of GGUF types", mix.name()));
            return Err(failure.hinting("add `--to gguf`").into());
        }
        _ => {}
    }
    let named = named.map(str::parse::<Preset>).transpose()?;
    let scheme = match (text, named) {
        (Some(text), _) => text,
        (None, Some(_)) => PRESET_SCHEME,
        (None, None) => {
            let failure = Failure::usage("one of `--scheme`, `--preset` and `--recipe` is needed");
            return Err(failure.hinting("`--scheme int4/g32/sym` is a start").into());
        }
    };
    let scheme = recipe::scheme(scheme)?;
    let path = source.opened().path();
    let language_model = path.is_dir() && path.join("config.json").is_file();
    let preset = named.unwrap_or(match destination.format() {
        Format::Safetensors if language_model => Preset::Llm,
        Format::Safetensors | Format::Gguf | Format::Onnx => Preset::Weights,
        _ => Preset::Linear,
    });
    Ok(preset.recipe(scheme, fit)?)
}

pub(super) fn fit(text: &str) -> Result<Fit, Stop> {
    text.parse().map_err(|_| {
        let known = Fit::KNOWN.map(|f| f.to_string());
        let failure = Failure::usage(format!("`--fit {text}`: expected one of {}", known.join(", ")));
        match recipe::nearest(text, known.iter().map(String::as_str)) {
            Some(near) => failure.hinting(format!("did you mean `{near}`?")).into(),
            None => failure.into(),
        }
    })
}
