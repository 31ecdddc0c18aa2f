//! From flags to a recipe, and from a recipe to a plan.

use std::path::Path;

use niwaki_engine::plan::{Plan, Tail};
use niwaki_engine::recipe::{self, Preset, Recipe};
use niwaki_quant::Fit;
use niwaki_tensors::{Checkpoint, Limits};

use crate::args::{self, Selection};
use crate::failure::{Failure, Stop};
use crate::session::Session;

/// The scheme of a preset where none is given.
const PRESET_SCHEME: &str = "int8/row/sym";

/// The checkpoint to work on and the recipe that the flags amount to.
pub(super) fn resolve(ckpt: &Path, selection: &Selection, session: &Session<'_>) -> Result<(Checkpoint, Recipe), Stop> {
    let recipe = match &selection.recipe {
        Some(path) => written(path, selection)?,
        None => preset(ckpt, selection)?,
    };
    let mut recipe = recipe.restricted(&selection.only).keeping(&selection.keep);
    if let Some(seed) = session.global.seed {
        recipe.seed = seed;
    }
    let checkpoint = Checkpoint::open(ckpt, &Limits::default())?;
    Ok((checkpoint, recipe))
}

/// What becomes of every tensor of the checkpoint.
pub(super) fn plan(checkpoint: &Checkpoint, recipe: Recipe, tail: args::Tail) -> Result<Plan, Stop> {
    let tail = match tail {
        args::Tail::Short => Tail::Short,
        args::Tail::Error => Tail::Refuse,
    };
    Ok(Plan::new(checkpoint, recipe, tail)?)
}

fn written(path: &Path, selection: &Selection) -> Result<Recipe, Stop> {
    let others = [("--preset", &selection.preset), ("--scheme", &selection.scheme), ("--fit", &selection.fit)];
    if let Some((flag, _)) = others.iter().find(|(_, value)| value.is_some()) {
        let failure = Failure::usage(format!("`--recipe` and `{flag}` both say how tensors are encoded"));
        return Err(failure.hinting("a recipe holds scheme and fit in its rules").into());
    }
    let text = std::fs::read_to_string(path).map_err(|e| Failure::reading(path, &e))?;
    let mut failure = match Recipe::parse(&text) {
        Ok(recipe) => return Ok(recipe),
        Err(error) => Failure::from(error),
    };
    failure.message = format!("`{}`: {}", path.display(), failure.message);
    failure.path = Some(path.display().to_string());
    Err(failure.into())
}

fn preset(ckpt: &Path, selection: &Selection) -> Result<Recipe, Stop> {
    let named = selection.preset.as_deref().map(str::parse::<Preset>).transpose()?;
    let scheme = match (&selection.scheme, named) {
        (Some(text), _) => text,
        (None, Some(_)) => PRESET_SCHEME,
        (None, None) => {
            let failure = Failure::usage("one of `--scheme`, `--preset` and `--recipe` is needed");
            return Err(failure.hinting("`--scheme int4/g32/sym` is a start").into());
        }
    };
    let scheme = recipe::scheme(scheme)?;
    let fit = match &selection.fit {
        Some(text) => fit(text)?,
        None => Fit::MinMax,
    };
    let language_model = ckpt.is_dir() && ckpt.join("config.json").is_file();
    let preset = named.unwrap_or(if language_model { Preset::Llm } else { Preset::Weights });
    Ok(preset.recipe(scheme, fit)?)
}

fn fit(text: &str) -> Result<Fit, Stop> {
    text.parse().map_err(|_| {
        let known = Fit::ALL.map(|f| f.to_string());
        let failure = Failure::usage(format!("`--fit {text}`: expected one of {}", known.join(", ")));
        match recipe::nearest(text, known.iter().map(String::as_str)) {
            Some(near) => failure.hinting(format!("did you mean `{near}`?")).into(),
            None => failure.into(),
        }
    })
}
