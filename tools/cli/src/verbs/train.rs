//! `train`: weights that fit data.

use std::path::Path;
use std::time::Instant;

use niwaki_engine::dataset::Augment;
use niwaki_engine::model::Model;
use niwaki_engine::train::{self, At, Epoch, Lessons, Method, Settings, Task, Teacher, Trained};
use niwaki_engine::{Error, Given};
use serde::Serialize;

use super::{check_output, has_graph, load, on_threads};
use crate::args::Output;
use crate::args::train::{Course, Norms, Optimizer, Steps, Train, Way};
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::size::human;

/// What came of a training, and how fast it was.
#[derive(Serialize)]
pub(super) struct Done {
    #[serde(flatten)]
    pub(super) trained: Trained,
    pub(super) items_per_second: f64,
    seconds: f64,
}

/// Trains a model.
pub(crate) fn run(args: &Train, session: &mut Session<'_>) -> Result<Answer, Stop> {
    check_output(&args.output)?;
    if args.epochs == 0 {
        return Err(Failure::usage("`--epochs 0`: at least one pass is needed").into());
    }
    let at = Lesson::open(
        (&args.model, args.weights.as_deref()),
        (&args.data, args.eval_data.as_deref()),
        &args.way,
        session,
    )?;
    let settings = Settings {
        fresh: args.init.is_some(),
        only: args.only.clone(),
        freeze: args.freeze.clone(),
        keep: args.keep_epoch.clone(),
        best: args.best,
        ..settings(args.epochs, &args.way, &at.data, session.global.seed.unwrap_or(0))?
    };
    let task = Task { rewind: args.rewind.as_deref(), ..at.task(&args.output) };
    let work = |tell: &mut dyn FnMut(At<'_>)| train::train(&task, &settings, tell);
    let done = watched(args.epochs, session, work)?;
    say(args, at.data.name(), &done, session)
}

/// What goes over data again and again: a model, what it learns from, is measured on and is taught by.
pub(super) struct Lesson {
    pub(super) model: Model,
    pub(super) data: Lessons,
    eval: Option<Lessons>,
    teacher: Option<Model>,
}

impl Lesson {
    /// Opens them: a model with weights in the place of its own, its data, and what it is measured on.
    pub(super) fn open(
        (model, weights): (&Path, Option<&Path>),
        (data, eval): (&Path, Option<&Path>),
        way: &Way,
        session: &mut Session<'_>,
    ) -> Result<Self, Stop> {
        let opened = load(model, weights.into(), session)?;
        let teacher = way.teaching.teacher.as_deref().map(|path| teacher(path, model, session)).transpose()?;
        let data = Lessons::open(data, &opened)?;
        let eval = eval.map(|eval| Lessons::open(eval, &opened)).transpose()?;
        Ok(Self { model: opened, data, eval, teacher })
    }

    /// The task that they are, with a result at that place.
    pub(super) fn task<'t>(&'t self, output: &'t Output) -> Task<'t> {
        Task {
            model: &self.model,
            data: &self.data,
            eval: self.eval.as_ref(),
            teacher: self.teacher.as_ref(),
            rewind: None,
            output: &output.output,
            overwrite: output.overwrite(),
        }
    }
}

/// Does what goes over data again and again, and shows how far it is.
pub(super) fn watched(
    epochs: u64,
    session: &Session<'_>,
    work: impl FnOnce(&mut dyn FnMut(At<'_>)) -> Result<Trained, Error> + Send,
) -> Result<Done, Stop> {
    let bar = Progress::training(session);
    let start = Instant::now();
    let mut items = 0;
    let mut tell = |at: At<'_>| {
        items = at.done;
        bar.at(at.done, at.all);
        bar.say(format!("pass {} of {epochs}, loss {:.4}, {:.2} %", at.epoch, at.loss, at.accuracy * 100.0));
        if let Some(epoch) = at.ended {
            let (epoch, loss, percent, eval) = (epoch.epoch, epoch.loss, epoch.accuracy * 100.0, measured(epoch));
            bar.line(format!("pass {epoch}: loss {loss:.4}, {percent:.2} %{eval}"));
        }
    };
    let trained = on_threads(session, || work(&mut tell))?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Done { trained, items_per_second: items as f64 / seconds, seconds })
}

/// A model of its own, or this one with other weights.
fn teacher(path: &Path, model: &Path, session: &mut Session<'_>) -> Result<Model, Stop> {
    if has_graph(path) {
        return load(path, Given::default(), session);
    }
    load(model, Given::from(Some(path)), session)
}

/// The answer.
fn say(args: &Train, items: &str, done: &Done, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let Done { trained, items_per_second, .. } = done;
    for (node, op) in &trained.stops {
        session.detail(&format!("gradients end at `{node}` ({op})"));
    }
    if session.global.json {
        session.json(done)?;
        return Ok(Answer::Yes);
    }
    session.say_all(passes(trained))?;
    let Trained { weights, tensors, steps, peak_bytes, .. } = *trained;
    session.say(format!("{weights} weights in {tensors} tensors trained in {steps} steps"))?;
    let most = human(peak_bytes as u64);
    // Windows of text take a while: a rate of less than ten needs its fraction.
    let digits = if *items_per_second < 10.0 { 2 } else { 0 };
    session.say(format!("{items_per_second:.digits$} {items} a second, values took {most} at most"))?;
    let which = if args.best { format!(", the weights of pass {}", trained.written_epoch) } else { String::new() };
    session.say(format!("wrote {}{which}", args.output.output.display()))?;
    Ok(Answer::Yes)
}

/// A line for each pass of a training.
pub(super) fn passes(trained: &Trained) -> impl Iterator<Item = String> {
    trained.epochs.iter().map(|epoch| {
        let (eval, percent) = (measured(epoch).replace(", ", "   "), epoch.accuracy * 100.0);
        format!("pass {:<4} loss {:.4}   accuracy {percent:.2} %{eval}", epoch.epoch, epoch.loss)
    })
}

/// What is said of a pass that was measured.
pub(super) fn measured(epoch: &Epoch) -> String {
    let accuracy = epoch.eval_accuracy.map(|share| format!(", measured {:.2} %", share * 100.0));
    let cosine = epoch.eval_cosine.map(|cosine| format!(", measured cosine {cosine:.6}"));
    accuracy.or(cosine).unwrap_or_default()
}

/// Where the rate is multiplied, as shares of all passes.
fn milestones(epochs: u64, steps: &Steps) -> Result<Vec<f64>, Stop> {
    let given = &steps.milestones;
    if let Some(wrong) = given.iter().find(|milestone| **milestone >= epochs as f64) {
        let what = format!("`--milestones {wrong}`: expected passes before the end, {}", epochs);
        return Err(Failure::usage(what).into());
    }
    let share = |milestone: &f64| milestone / epochs as f64;
    Ok(if given.is_empty() { vec![1.0 / 3.0, 2.0 / 3.0] } else { given.iter().map(share).collect() })
}

/// How data is gone over, as the flags say it that trainings and searches share.
pub(super) fn settings(epochs: u64, way: &Way, data: &Lessons, seed: u64) -> Result<Settings, Stop> {
    let Way { steps, images, teaching, save_every, memory } = way;
    let adam = |decoupled| Method::Adam { betas: [0.9, 0.999], epsilon: 1e-8, decoupled };
    let (batch, optimizer, rates) = match data {
        Lessons::Images(_) => (128, Optimizer::Sgd, [0.1, 0.001]),
        Lessons::Windows(_) => (8, Optimizer::Adamw, [0.1, 5e-5]),
        Lessons::Texts(_) => (32, Optimizer::Adamw, [0.1, 5e-5]),
    };
    let optimizer = steps.optimizer.unwrap_or(optimizer);
    let method = match optimizer {
        Optimizer::Sgd => Method::Sgd { momentum: steps.momentum as f32, nesterov: !steps.no_nesterov },
        Optimizer::Adam => adam(false),
        Optimizer::Adamw => adam(true),
    };
    if steps.schedule != Course::Step && !steps.milestones.is_empty() {
        return Err(Failure::usage("`--milestones` means nothing without `--schedule step`").into());
    }
    Ok(Settings {
        epochs,
        // What nobody asked for fits a small dataset too.
        batch: steps.batch.unwrap_or_else(|| batch.min(data.len())),
        method,
        rate: steps.lr.unwrap_or(rates[usize::from(optimizer != Optimizer::Sgd)]),
        course: match steps.schedule {
            Course::Constant => train::Course::Constant,
            Course::Cosine => train::Course::Cosine,
            Course::Step => train::Course::Step { factor: steps.gamma, milestones: milestones(epochs, steps)? },
            Course::OneCycle => train::Course::OneCycle,
        },
        warmup: steps.warmup,
        decay: steps.weight_decay.unwrap_or(5e-4),
        decay_all: steps.decay_all,
        smoothing: images.label_smoothing,
        augment: Augment { crop: images.crop, flip: images.flip, mixup: images.mixup },
        norms: (steps.norms == Norms::Train).then_some(0.9),
        clip: steps.clip,
        teacher: Teacher { temperature: teaching.temperature, share: teaching.teacher_share },
        seed,
        memory: *memory,
        save_every: *save_every,
        ..Settings::default()
    })
}
