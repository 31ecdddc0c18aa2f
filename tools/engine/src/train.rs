//! Training: forward, back, a step; again.
//!
//! ```text
//! for each pass over the data, in an order of its own:
//!     for each batch: images, shifted, mirrored, mixed; windows of tokens, one after the other; or texts
//!         outputs          = forward(inputs)
//!         loss, dloss      = cross entropy(outputs, classes or next tokens), and KL(teacher || outputs);
//!                            of texts 1 - cosine(their vectors, the teacher's)
//!         gradients        = backward(dloss)
//!         weights          = step(weights, gradients, rate)
//!         running statistics of normalizations = what the batch made of them
//! ```
//!
//! The same settings give the same bits, for any number of threads on one machine, and whether or not the training was
//! interrupted: what it needs to go on stands beside the output, in `OUT.state`.

mod choice;
mod init;
mod inputs;
mod kind;
mod learner;
mod lessons;
mod output;
mod sample;
mod settings;
mod state;
mod step;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub use niwaki_model::optimizer::Method;
pub use niwaki_model::schedule::Course;
use niwaki_model::schedule::Schedule;
use niwaki_model::{Executor, Graph, Running, Tape, Tensor, ValueId};
use niwaki_tensors::{Overwrite, check_output};

use crate::dataset::shuffled;
use crate::error::Error;
use crate::model::Model;
use crate::target::file_error;
pub(crate) use choice::{Named, own_statistics};
pub(crate) use inputs::{take, widen};
pub(crate) use kind::Kind;
use kind::{Begun, Beside};
use learner::Learner;
pub(crate) use learner::{Found, Pace};
use lessons::Draw;
pub use lessons::Lessons;
pub(crate) use lessons::of_checkpoint;
pub(crate) use output::{Filled, check_onnx, write as write_trained};
pub(crate) use sample::{Sample, gradients};
pub use settings::{At, Epoch, Settings, Task, Teacher, Trained};
pub use state::check_state;
use state::{State, Sums};

/// Trains a model, and writes its weights.
///
/// # Errors
///
/// Settings, data and models that do not fit each other; operators that gradients do not pass; a loss or a gradient
/// that is no number, with the step and the first node whose values are none; memory that is not enough; those of
/// reading and writing.
pub fn train(task: &Task<'_>, settings: &Settings, progress: &mut dyn FnMut(At<'_>)) -> Result<Trained, Error> {
    run(task, settings, Kind::Weights, progress)
}

/// Trains weights, or something else of a model.
pub(crate) fn run(
    task: &Task<'_>,
    settings: &Settings,
    kind: Kind<'_>,
    progress: &mut dyn FnMut(At<'_>),
) -> Result<Trained, Error> {
    let mut training = Training::new(task, settings, kind)?;
    let state = State::path(task.output);
    let _alone = state::alone(&state, task)?;
    let began = training.begin(&state)?;
    let all = settings.epochs * task.data.len() as u64;
    let before = (training.epoch * task.data.len() as u64 + training.step * settings.batch as u64).min(all);
    let mut done = 0;
    while training.epoch < settings.epochs {
        let order = shuffled(task.data.len(), settings.seed, training.epoch);
        let batches: Vec<&[usize]> = order.chunks(settings.batch).collect();
        for (at, items) in batches.iter().enumerate().skip(training.step as usize) {
            training.step(items)?;
            training.step = at as u64 + 1;
            done += items.len() as u64;
            let sums = &training.sums;
            progress(At {
                done,
                all: all - before,
                epoch: training.epoch + 1,
                loss: sums.loss(),
                accuracy: sums.accuracy(),
                ended: None,
            });
            if settings.save_every.is_some_and(|every| every > 0 && training.step % every == 0)
                && at + 1 < batches.len()
            {
                training.save(&state)?;
            }
        }
        let ended = training.end()?;
        progress(At {
            done,
            all: all - before,
            epoch: ended.epoch,
            loss: ended.loss,
            accuracy: ended.accuracy,
            ended: Some(&ended),
        });
        training.save(&state)?;
        training.keep()?;
    }
    let written_epoch = training.write_last()?;
    if settings.epochs > 0 {
        std::fs::remove_file(&state).map_err(|e| file_error(&e, &state))?;
    }
    Ok(Trained {
        steps: training.steps,
        tensors: training.tape.wanted().len(),
        weights: training.weights,
        peak_bytes: training.peak,
        segments: training.tape.segments(),
        written_epoch,
        resumed: began,
        stops: training.tape.stops().iter().map(|stop| (stop.node.clone(), stop.op.to_owned())).collect(),
        guarded: training.learner.guarded(),
        epochs: training.epochs,
    })
}

/// Writes the weights of a model: into its graph where the output is named `.onnx`, else as a checkpoint of all floats.
pub(crate) fn write_weights(model: &Model, path: &Path, overwrite: Overwrite) -> Result<(), Error> {
    output::write(model, None, None, (path, overwrite))
}

/// Where the weights after a pass are kept.
fn kept(output: &Path, epoch: u64) -> PathBuf {
    let stem = output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    output.with_file_name(format!("{stem}.epoch{epoch}.safetensors"))
}

/// A training under way.
struct Training<'t> {
    task: &'t Task<'t>,
    settings: &'t Settings,
    tape: Tape,
    /// The model with the weights that the training began with.
    base: Graph,
    /// What it is of.
    described: Vec<(String, String)>,
    running: Vec<Running>,
    learner: Learner,
    beside: Beside,
    schedule: Schedule,
    /// Weights whose gradients are added up.
    weights: usize,
    teacher: Option<Executor>,
    /// What a black pixel of each channel is.
    black: Vec<f32>,
    /// Passes that are done, steps of the one under way, and of all.
    epoch: u64,
    step: u64,
    steps: u64,
    sums: Sums,
    epochs: Vec<Epoch>,
    best: Option<Best>,
    rate: f64,
    peak: usize,
}

/// A weight among some.
fn of(weights: &[(ValueId, Tensor)], value: ValueId) -> Option<Tensor> {
    weights.iter().find(|(other, _)| *other == value).map(|(_, tensor)| tensor.clone())
}

/// The weights of the pass that was measured best so far.
struct Best {
    epoch: u64,
    weights: Vec<(ValueId, Tensor)>,
}

impl<'t> Training<'t> {
    fn new(task: &'t Task<'t>, settings: &'t Settings, kind: Kind<'_>) -> Result<Self, Error> {
        let (model, data) = (task.model, task.data);
        choice::check(task, settings)?;
        let (base, epoch) = inputs::beginning(task, settings)?;
        let mut described = inputs::described(task, &base);
        described.extend(kind.described());
        let mut graph = base.clone();
        let at = |e: niwaki_model::Error| Error::from(e.at(model.path()));
        let running = graph.norms(settings.norms);
        own_statistics(&graph, &running).map_err(|e| e.at(model.path()))?;
        let Begun { learner, wanted, beside } = kind.begin(task, settings, (&base, &mut graph), &running)?;
        // Where no gradient goes, nothing is trained.
        let tape = Tape::new(graph, wanted).map_err(at)?;
        let weights = tape.wanted().iter().filter_map(|value| tape.graph().constant(*value)).map(Tensor::len).sum();
        let steps = task.data.steps(settings.batch);
        let schedule = Schedule {
            course: settings.course.clone(),
            rate: settings.rate,
            warmup: (settings.warmup * steps as f64).round() as u64,
            steps: steps * settings.epochs,
        };
        let teacher = task.teacher.map(Model::executor).transpose()?;
        let black = data.black();
        Ok(Self {
            task,
            settings,
            tape,
            base,
            described,
            running,
            learner,
            beside,
            schedule,
            weights,
            teacher,
            black,
            epoch,
            step: 0,
            steps: 0,
            sums: Sums::default(),
            epochs: Vec::new(),
            best: None,
            rate: settings.rate,
            peak: 0,
        })
    }

    /// Takes up where an interrupted training was; whether there was one.
    fn begin(&mut self, state: &Path) -> Result<bool, Error> {
        let resumes = state.exists();
        if resumes {
            self.resume(state)?;
        } else {
            // The rate goes back together with the weights.
            self.steps = self.epoch * self.task.data.steps(self.settings.batch);
            for epoch in &self.settings.keep {
                check_output(&kept(self.task.output, *epoch), self.task.overwrite)?;
            }
        }
        self.fit()?;
        if !resumes && !self.settings.keep.is_empty() {
            // From here on what is kept may be there, and the state says why.
            self.save(state)?;
        }
        self.keep()?;
        Ok(resumes)
    }

    /// Keeps the weights, where those after this pass are wanted.
    fn keep(&self) -> Result<(), Error> {
        match self.step == 0 && self.settings.keep.contains(&self.epoch) {
            true => self.write(&kept(self.task.output, self.epoch), Overwrite::Replace),
            false => Ok(()),
        }
    }

    /// Cuts the nodes into segments, where memory is limited.
    fn fit(&mut self) -> Result<(), Error> {
        let Some(limit) = self.settings.memory else { return Ok(()) };
        let items = self.task.data.largest(self.settings.batch);
        let shares = self.task.data.shares(self.task.model, &items, &self.draw())?;
        let at = |e: niwaki_model::Error| Error::from(e.at(self.task.model.path()));
        // Of several shares gradients are added up.
        let sums = if shares.len() > 1 { self.weights as u64 * 4 } else { 0 };
        let inputs = shares.into_iter().next().map(|share| share.inputs).unwrap_or_default();
        self.tape.fit(inputs, limit.saturating_sub(sums)).map_err(at)
    }

    /// What the examples of the next step are drawn with.
    fn draw(&self) -> Draw<'_> {
        Draw { settings: self.settings, black: &self.black, epoch: self.epoch, step: self.steps }
    }

    /// Ends a pass.
    fn end(&mut self) -> Result<Epoch, Error> {
        let measured = match self.task.eval {
            None => None,
            Some(data) => Some(data.measure(&self.measured()?, self.task.teacher, None, &|_, _| {})?),
        };
        self.epoch += 1;
        self.step = 0;
        let sums = std::mem::take(&mut self.sums);
        let epoch = Epoch {
            epoch: self.epoch,
            loss: sums.loss(),
            accuracy: sums.accuracy(),
            eval_accuracy: measured.as_ref().and_then(|found| found.accuracy),
            eval_loss: measured.as_ref().and_then(|found| found.loss),
            eval_cosine: measured.as_ref().and_then(|found| found.cosine),
            rate: self.rate,
            flips: self.learner.flips(),
        };
        // The first of equals.
        let better = self.epochs.iter().all(|before| match self.task.data {
            Lessons::Images(_) => epoch.eval_accuracy > before.eval_accuracy,
            Lessons::Windows(_) => epoch.eval_loss < before.eval_loss,
            Lessons::Texts(texts) if texts.labelled() => epoch.eval_accuracy > before.eval_accuracy,
            Lessons::Texts(_) => epoch.eval_cosine > before.eval_cosine,
        });
        if self.settings.best && better {
            let weights = self.weights().into_iter().map(|(value, tensor)| (value, tensor.clone())).collect();
            self.best = Some(Best { epoch: self.epoch, weights });
        }
        self.epochs.push(epoch.clone());
        Ok(epoch)
    }

    /// The model with the weights as they are.
    fn model(&self) -> Model {
        self.model_with(self.weights().into_iter().map(|(value, tensor)| (value, tensor.clone())))
    }

    fn model_with(&self, weights: impl Iterator<Item = (ValueId, Tensor)>) -> Model {
        let mut graph = self.base.clone();
        // Quantizers and heads have weights that the model does not have.
        let own = weights.filter(|(value, _)| value.index() < self.base.values());
        own.for_each(|(value, tensor)| graph.set_weight(value, tensor));
        self.task.model.with(graph)
    }

    /// The model as it is measured: of one that runs in many forms the widest, and with the gates that it has.
    fn measured(&self) -> Result<Model, Error> {
        match &self.beside {
            Beside::Nothing => Ok(self.model()),
            Beside::Heads(gates) => Ok(gates.gated(&self.model(), self.tape.graph())),
            Beside::Quantizers(supernet) => supernet.widest(&self.model(), self.tape.graph(), self.task.data),
        }
    }

    /// The weights that change: those that train, and running statistics.
    fn weights(&self) -> Vec<(ValueId, &Tensor)> {
        let statistics = self.running.iter().map(|running| running.weight);
        let all: BTreeSet<ValueId> = self.tape.wanted().iter().copied().chain(statistics).collect();
        all.into_iter().filter_map(|value| Some((value, self.tape.graph().constant(value)?))).collect()
    }

    /// Writes the weights that were asked for; after which pass they were so.
    fn write_last(&self) -> Result<u64, Error> {
        let (out, overwrite) = (self.task.output, self.task.overwrite);
        match &self.best {
            Some(Best { epoch, weights }) => {
                let model = self.model_with(weights.iter().cloned());
                self.write_of(&model, &|value| of(weights, value), *epoch, (out, overwrite))?;
                Ok(*epoch)
            }
            None => self.write(out, overwrite).map(|()| self.epoch),
        }
    }

    /// Writes the weights as they are, or masks.
    fn write(&self, path: &Path, overwrite: Overwrite) -> Result<(), Error> {
        if let Learner::Masks(masks) = &self.learner {
            let statistics = self.running.iter().map(|running| running.weight);
            return masks.write(self.tape.graph(), &statistics.collect::<Vec<_>>(), path, overwrite);
        }
        let number = |value: ValueId| self.tape.graph().constant(value).cloned();
        self.write_of(&self.model(), &number, self.epoch, (path, overwrite))
    }

    /// Writes a model, with the tables or the heads that it has, whose numbers `number` has.
    fn write_of(
        &self,
        model: &Model,
        number: &dyn Fn(ValueId) -> Option<Tensor>,
        epoch: u64,
        out: (&Path, Overwrite),
    ) -> Result<(), Error> {
        match &self.beside {
            Beside::Nothing => output::write(model, Some(epoch), None, out),
            Beside::Heads(gates) => gates.write(model, number, epoch, out),
            Beside::Quantizers(supernet) => supernet.write(model, number, epoch, out),
        }
    }
}
