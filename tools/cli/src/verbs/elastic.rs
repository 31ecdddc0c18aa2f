//! `elastic`: one set of weights at many widths.

use std::path::PathBuf;
use std::time::Instant;

use niwaki_codes::{Bits, GroupSize, Widths};
use niwaki_engine::Recipe;
use niwaki_engine::dataset::Dataset;
use niwaki_engine::elastic::{
    self, ElasticFile, Form, Grid, Measured, Measuring, Network, Searched, Searching, Style, Way,
};
use niwaki_engine::train::{At, Lessons, Method, Settings, Trained};
use niwaki_tensors::write_small;
use serde::Serialize;

use super::train::{Done, Lesson, passes, settings, watched};
use super::{check_output, load, on_threads, selection};
use crate::args::elastic as args;
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::size::human;
use crate::table::{Side, Table};

/// Does what was asked.
pub(crate) fn run(args: &args::Elastic, session: &mut Session<'_>) -> Result<Answer, Stop> {
    match args {
        args::Elastic::Train(args) => train(args, session),
        args::Elastic::Eval(args) => eval(args, session),
        args::Elastic::Search(args) => search(args, session),
        args::Elastic::Export(args) => export(args, session),
    }
}

/// Widths as they were typed.
fn widths(typed: &[u32]) -> Result<Widths, Stop> {
    let bits = typed.iter().map(|bits| Bits::new(*bits)).collect::<Result<Vec<_>, _>>();
    bits.and_then(Widths::new).map_err(|e| Failure::usage(format!("`--widths`: {e}")).into())
}

/// Trains.
fn train(args: &args::Train, session: &mut Session<'_>) -> Result<Answer, Stop> {
    check_output(&args.output)?;
    let grid = match args.grid {
        args::Grid::Paper => Grid::Learned,
        args::Grid::Nested => {
            let group =
                GroupSize::new(args.group).map_err(|e| Failure::usage(format!("`--group {}`: {e}", args.group)))?;
            Grid::Nested(group)
        }
    };
    let how = elastic::Elastic {
        grid,
        activations: !args.weights_only,
        distill: !args.no_guide,
        examples: args.fit_examples,
        ..elastic::Elastic::new(widths(&args.widths)?)
    };
    let how = elastic::Elastic { shape: how.shape.filter(|_| !args.no_shape), ..how };
    let at = Lesson::open(
        (&args.model, args.weights.as_deref()),
        (&args.data, args.eval_data.as_deref()),
        &args.way,
        session,
    )?;
    let steps = &args.way.steps;
    let mut settings: Settings = settings(args.epochs, &args.way, &at.data, session.global.seed.unwrap_or(0))?;
    if steps.optimizer.is_none() {
        settings.method = Method::Adam { betas: [0.9, 0.999], epsilon: 1e-8, decoupled: false };
        settings.rate = steps.lr.unwrap_or(if matches!(at.data, Lessons::Images(_)) { 1e-3 } else { settings.rate });
    }
    settings.decay = steps.weight_decay.unwrap_or(0.0);
    let task = at.task(&args.output);
    let work = |tell: &mut dyn FnMut(At<'_>)| elastic::train(&task, &settings, &how, tell);
    let done = watched(args.epochs, session, work)?;
    say_trained(args, at.data.name(), &done, session)
}

fn say_trained(args: &args::Train, items: &str, done: &Done, session: &mut Session<'_>) -> Result<Answer, Stop> {
    if session.global.json {
        session.json(done)?;
        return Ok(Answer::Yes);
    }
    let Done { trained, items_per_second, .. } = done;
    session.say_all(passes(trained))?;
    let Trained { weights, tensors, steps, peak_bytes, .. } = *trained;
    if steps == 0 {
        session
            .say("steps and offsets fitted to the weights and to what flows through them, which stay as they are")?;
    } else {
        session.say(format!("{weights} weights, steps and offsets in {tensors} tensors trained in {steps} steps"))?;
        let most = human(peak_bytes as u64);
        session.say(format!("{items_per_second:.0} {items} a second, values took {most} at most"))?;
    }
    session.say(format!("wrote {}", args.output.output.display()))?;
    Ok(Answer::Yes)
}

/// What was typed as a form.
enum Typed {
    /// The same of all layers.
    Form(Form),
    /// What a recipe has for each.
    Recipe(Recipe, PathBuf),
}

impl Typed {
    /// The forms of a network's layers.
    fn of(&self, network: &Network) -> Result<Vec<Form>, Stop> {
        Ok(match self {
            Self::Form(form) => network.uniform(*form)?,
            Self::Recipe(recipe, path) => network.forms_by(recipe).map_err(|e| e.at(path))?,
        })
    }
}

/// A form as it was typed, or the recipe of that name.
fn form(text: &str) -> Result<Typed, Stop> {
    if text.ends_with(".toml") {
        let path = PathBuf::from(text);
        return Ok(Typed::Recipe(selection::read(&path)?, path));
    }
    let form = text.parse().map_err(|e| Failure::usage(format!("`--form {text}`: {e}")))?;
    Ok(Typed::Form(form))
}

#[derive(Serialize)]
struct EvalJson {
    forms: Vec<Measured>,
    seconds: f64,
}

/// Measures forms.
fn eval(args: &args::Eval, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let start = Instant::now();
    let parsed = args.form.iter().map(|text| form(text)).collect::<Result<Vec<_>, _>>()?;
    let model = load(&args.model, None.into(), session)?;
    let network = ElasticFile::open(&args.weights)?.network(&model)?;
    let forms = args.form.iter().zip(&parsed).map(|(text, form)| Ok((text.clone(), form.of(&network)?)));
    let forms = forms.collect::<Result<Vec<_>, Stop>>()?;
    let on = &args.measured;
    let data = Lessons::open(&on.data, &model)?;
    let other = on.recalibrate.as_deref().map(Dataset::open).transpose()?;
    let images = match (&other, &data) {
        (Some(other), _) => Some(other),
        (None, Lessons::Images(own)) => Some(own),
        (None, _) => None,
    };
    let recalibrate = images.filter(|_| on.recalibrate_examples > 0).map(|images| (images, on.recalibrate_examples));
    let how = Measuring {
        data: &data,
        reference: Some(&model),
        limit: on.limit,
        recalibrate,
        whole_zeros: !on.float_offsets,
    };
    let bar = Progress::examples(session);
    let mut done = 0;
    let mut each = |_: &Measured| {
        done += 1;
        bar.at(done, forms.len() as u64);
    };
    let all = on_threads(session, || elastic::eval(&network, &forms, &how, &mut each))?;
    drop(bar);
    if session.global.json {
        session.json(&EvalJson { forms: all, seconds: start.elapsed().as_secs_f64() })?;
        return Ok(Answer::Yes);
    }
    say_measured(&all, session)
}

fn say_measured(all: &[Measured], session: &mut Session<'_>) -> Result<Answer, Stop> {
    let columns = [
        ("form", Side::Left),
        ("measured", Side::Right),
        ("loss", Side::Right),
        ("weights", Side::Right),
        ("inputs", Side::Right),
    ];
    let mut table = Table::new(&columns);
    for one in all {
        let (by, loss) = (&one.evaluation, one.evaluation.loss);
        let how_well = by.accuracy.map(|share| format!("{:.2} %", share * 100.0));
        let how_well = how_well.or(by.cosine.map(|cosine| format!("{cosine:.6}"))).unwrap_or_default();
        let times = |ratio: f64| format!("{ratio:.2}x smaller");
        table.row([
            one.form.clone(),
            how_well,
            loss.map(|loss| format!("{loss:.4}")).unwrap_or_default(),
            times(one.weight_ratio),
            one.input_ratio.map(times).unwrap_or_default(),
        ]);
    }
    session.say_all(table.lines())?;
    Ok(Answer::Yes)
}

/// Granularity and symmetry as they were typed.
fn style(text: &str) -> Result<Style, Stop> {
    let whole: Result<Form, _> = format!("w8/{text}").parse();
    let wrong = |_| Failure::usage(format!("`--style {text}`: expected row or tensor, sym or affine: row/sym"));
    Ok(whole.map_err(wrong)?.style)
}

#[derive(Serialize)]
struct SearchJson {
    #[serde(flatten)]
    searched: Searched,
    recipe: String,
    seconds: f64,
}

/// Searches widths.
fn search(args: &args::Search, session: &mut Session<'_>) -> Result<Answer, Stop> {
    check_output(&args.output)?;
    let (start, style) = (Instant::now(), style(&args.style)?);
    let model = load(&args.model, None.into(), session)?;
    let network = ElasticFile::open(&args.weights)?.network(&model)?;
    let least = f64::from(network.space().widths().narrowest().get());
    if args.budget < least {
        return unmet(args.budget, least, session);
    }
    let data = Lessons::open(&args.data, &model)?;
    let recalibrate = match &data {
        Lessons::Images(images) if args.recalibrate_examples > 0 => Some((images, args.recalibrate_examples)),
        _ => None,
    };
    let beside = || {
        let mut name = args.output.output.file_name().unwrap_or_default().to_os_string();
        name.push(".pairs");
        args.output.output.with_file_name(name)
    };
    let kept = args.pairs_file.clone().unwrap_or_else(beside);
    let how = Searching {
        style,
        average: args.budget,
        pairs: args.pairs,
        measuring: Measuring {
            data: &data,
            reference: Some(&model),
            limit: Some(args.examples),
            recalibrate,
            whole_zeros: true,
        },
        kept: &kept,
        generations: args.generations,
        seed: session.global.seed.unwrap_or(0),
    };
    let bar = Progress::examples(session);
    let progress = |done, total| bar.at(done, total);
    let searched = on_threads(session, || elastic::search(&network, &how, &progress))?;
    drop(bar);
    let by = match args.method {
        args::Method::Genetic => Way::Genetic,
        args::Method::Allocate => Way::Allocate,
    };
    let found = searched.candidates.iter().find(|candidate| candidate.by == by);
    let recipe = found.map(|found| network.recipe(found, style)).transpose()?.unwrap_or_default();
    write_small(&args.output.output, recipe.as_bytes(), args.output.overwrite(), args.output.durable)?;
    if session.global.json {
        session.json(&SearchJson { searched, recipe, seconds: start.elapsed().as_secs_f64() })?;
        return Ok(Answer::Yes);
    }
    say_searched(args, &searched, session)
}

/// Says that no widths have the average that was asked for.
fn unmet(budget: f64, least: f64, session: &mut Session<'_>) -> Result<Answer, Stop> {
    if session.global.json {
        session.json(&serde_json::json!({"met": false, "least": least}))?;
    } else {
        session.say(format!("no widths average {budget} bits: the narrowest have {least}"))?;
    }
    Ok(Answer::No)
}

fn say_searched(args: &args::Search, searched: &Searched, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let tau = searched.tau.map_or("unknown".to_owned(), |tau| format!("{tau:.3}"));
    session.say(format!("{} configurations measured; of those held out Kendall's tau is {tau}", searched.pairs))?;
    session.say("")?;
    let columns = [
        ("search", Side::Left),
        ("measured", Side::Right),
        ("predicted", Side::Right),
        ("weights", Side::Right),
        ("inputs", Side::Right),
    ];
    let mut table = Table::new(&columns);
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    for one in &searched.candidates {
        let [weights, inputs] = one.average.map(|bits| format!("{bits:.2} bits"));
        table.row([one.by.name().to_owned(), percent(one.accuracy), percent(one.predicted.into()), weights, inputs]);
    }
    session.say_all(table.lines())?;
    session.say("")?;
    session.say(format!("wrote {}", args.output.output.display()))?;
    Ok(Answer::Yes)
}

#[derive(Serialize)]
struct ExportJson {
    form: String,
    weight_ratio: f64,
    input_ratio: Option<f64>,
    seconds: f64,
}

/// Writes a form as ONNX.
fn export(args: &args::Export, session: &mut Session<'_>) -> Result<Answer, Stop> {
    check_output(&args.output)?;
    let (start, typed) = (Instant::now(), form(&args.form)?);
    let model = load(&args.model, None.into(), session)?;
    let network = ElasticFile::open(&args.weights)?.network(&model)?;
    let (form, forms) = (&args.form, typed.of(&network)?);
    let images = args.recalibrate.as_deref().map(Dataset::open).transpose()?;
    let recalibrate = images.as_ref().map(|images| (images, args.recalibrate_examples));
    let bar = Progress::examples(session);
    let progress = |done, total| bar.at(done, total);
    let out = (args.output.output.as_path(), args.output.overwrite());
    on_threads(session, || network.export(&forms, recalibrate, out, &progress))?;
    drop(bar);
    let (weight_ratio, input_ratio) = network.ratios(&forms)?;
    if session.global.json {
        let seconds = start.elapsed().as_secs_f64();
        session.json(&ExportJson { form: form.clone(), weight_ratio, input_ratio, seconds })?;
        return Ok(Answer::Yes);
    }
    session.say(format!("{form}: codes of the weights are {weight_ratio:.2} times smaller than floats"))?;
    session.say(format!("wrote {}", args.output.output.display()))?;
    Ok(Answer::Yes)
}
