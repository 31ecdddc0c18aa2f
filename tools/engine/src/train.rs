//! Training of classifiers of images: forward, back, a step; again.
//!
//! ```text
//! for each pass over the data, in an order of its own:
//!     for each batch: images, shifted, mirrored, mixed
//!         outputs          = forward(images)
//!         loss, dloss      = cross entropy(outputs, classes), and KL(teacher || outputs)
//!         gradients        = backward(dloss)
//!         weights          = step(weights, gradients, rate)
//!         running statistics of normalizations = what the batch made of them
//! ```
//!
//! The same settings give the same bits, for any number of threads on one machine, and whether or not the training was
//! interrupted: what it needs to go on stands beside the output, in `OUT.state`.

mod init;
mod state;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use niwaki_model::loss::{Loss, Target, cross_entropy, divergence};

pub use niwaki_model::optimizer::Method;
use niwaki_model::optimizer::{Optimizer, Step, norm};
pub use niwaki_model::schedule::Course;
use niwaki_model::schedule::Schedule;
use niwaki_model::{Dim, Dtype, Executor, Graph, Run, Running, Tape, Tensor, ValueId};
use niwaki_tensors::{Checkpoint, Limits, Overwrite, write_file};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::dataset::{Augment, Dataset, shuffled};
use crate::error::{Error, ErrorKind};
use crate::eval;
use crate::model::Model;
use crate::plan::glob;
use crate::target::file_error;
use state::{State, Sums};

/// How a model is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Passes over the data.
    pub epochs: u64,
    /// Images of a step.
    pub batch: usize,
    /// How weights follow their gradients.
    pub method: Method,
    /// The highest learning rate.
    pub rate: f64,
    /// How the rate goes.
    pub course: Course,
    /// Passes at the beginning in which the rate rises from 0.
    pub warmup: f64,
    /// Weight decay; biases and normalizations have none where [`decay_all`](Self::decay_all) is not set.
    pub decay: f64,
    /// Whether all weights decay.
    pub decay_all: bool,
    /// The share of each class that is spread over all.
    pub smoothing: f64,
    /// What is done to images.
    pub augment: Augment,
    /// Whether batch normalizations use the statistics of the batch: how much of the running ones stays in a step. None
    /// where those that are there are used, and stay.
    pub norms: Option<f32>,
    /// The largest norm of all gradients together; larger ones are scaled down.
    pub clip: Option<f64>,
    /// The temperature of a teacher's outputs, and the share of the loss that it has.
    pub teacher: Teacher,
    /// Seed of orders, shifts and mixtures, and of fresh weights.
    pub seed: u64,
    /// Whether weights are made anew.
    pub fresh: bool,
    /// Weights that train, by glob; all where there is none.
    pub only: Vec<String>,
    /// Weights that stay as they are, by glob.
    pub freeze: Vec<String>,
    /// The most bytes that values and gradients of a step may take, weights aside.
    pub memory: Option<u64>,
    /// Passes after which the weights are kept, beside the output.
    pub keep: Vec<u64>,
    /// Steps after which the state is saved, besides at the end of each pass.
    pub save_every: Option<u64>,
}

/// How much a teacher says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Teacher {
    /// What outputs are divided by.
    pub temperature: f64,
    /// The share of the loss that is the distance from the teacher.
    pub share: f64,
}

impl Default for Settings {
    /// SGD with Nesterov's momentum along a cosine, as small networks like it.
    fn default() -> Self {
        Self {
            epochs: 1,
            batch: 128,
            method: Method::Sgd { momentum: 0.9, nesterov: true },
            rate: 0.1,
            course: Course::Cosine,
            warmup: 0.0,
            decay: 5e-4,
            decay_all: false,
            smoothing: 0.0,
            augment: Augment::default(),
            norms: Some(0.9),
            clip: None,
            teacher: Teacher { temperature: 4.0, share: 0.5 },
            seed: 0,
            fresh: false,
            only: Vec::new(),
            freeze: Vec::new(),
            memory: None,
            keep: Vec::new(),
            save_every: None,
        }
    }
}

/// What a training takes besides its settings.
#[derive(Clone, Copy)]
pub struct Task<'t> {
    /// What is trained.
    pub model: &'t Model,
    /// Images with their classes.
    pub data: &'t Dataset,
    /// Images to measure it on after each pass.
    pub eval: Option<&'t Dataset>,
    /// What its outputs are to be like.
    pub teacher: Option<&'t Model>,
    /// Weights to begin with, and the pass at which they were kept.
    pub rewind: Option<&'t Path>,
    /// Where the weights go.
    pub output: &'t Path,
    /// Whether something may be there.
    pub overwrite: Overwrite,
}

/// What came of one pass over the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Its number, from 1 on.
    pub epoch: u64,
    /// The mean loss of its steps.
    pub loss: f64,
    /// The share of images whose class had the largest output, of 1; mixed images count for the larger share.
    pub accuracy: f64,
    /// The share of the images to measure on.
    pub eval_accuracy: Option<f64>,
    /// Their mean cross entropy.
    pub eval_loss: Option<f64>,
    /// The learning rate of the last step.
    pub rate: f64,
}

/// How far a training is.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// Images done since it began, or went on.
    pub done: u64,
    /// Images of all passes that were left then.
    pub all: u64,
    /// The pass, from 1 on.
    pub epoch: u64,
    /// The mean loss of the pass so far.
    pub loss: f64,
    /// The accuracy of the pass so far.
    pub accuracy: f64,
    /// A pass that has just ended.
    pub ended: Option<&'a Epoch>,
}

/// What came of a training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trained {
    /// The passes, in order.
    pub epochs: Vec<Epoch>,
    /// Steps that were done.
    pub steps: u64,
    /// Tensors of weights that were trained.
    pub tensors: usize,
    /// Weights that were trained.
    pub weights: usize,
    /// The most bytes that values and gradients of a step took.
    pub peak_bytes: usize,
    /// Segments whose values were computed twice to save memory, and one; 1 where none were.
    pub segments: usize,
    /// Whether it went on where it had been interrupted.
    pub resumed: bool,
}

/// Trains a model, and writes its weights.
///
/// # Errors
///
/// Settings, data and models that do not fit each other; operators that gradients do not pass; a loss or a gradient
/// that is no number, with the step and the first node whose values are none; memory that is not enough; those of
/// reading and writing.
pub fn train(task: &Task<'_>, settings: &Settings, progress: &mut dyn FnMut(At<'_>)) -> Result<Trained, Error> {
    let mut training = Training::new(task, settings)?;
    let state = State::path(task.output);
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
        if settings.keep.contains(&ended.epoch) {
            training.write(&kept(task.output, ended.epoch), Overwrite::Replace)?;
        }
        training.save(&state)?;
    }
    training.write(task.output, task.overwrite)?;
    std::fs::remove_file(&state).map_err(|e| file_error(&e, &state))?;
    Ok(Trained {
        steps: training.optimizer.steps,
        tensors: training.tape.wanted().len(),
        weights: training.sizes.iter().sum(),
        peak_bytes: training.peak,
        segments: training.tape.segments(),
        resumed: began,
        epochs: training.epochs,
    })
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
    running: Vec<Running>,
    optimizer: Optimizer,
    schedule: Schedule,
    /// The number of weights of each tensor that trains, and whether it decays.
    sizes: Vec<usize>,
    decays: Vec<bool>,
    teacher: Option<Executor>,
    /// What a black pixel of each channel is.
    black: Vec<f32>,
    /// Passes that are done, and steps of the one under way.
    epoch: u64,
    step: u64,
    sums: Sums,
    epochs: Vec<Epoch>,
    rate: f64,
    peak: usize,
}

impl<'t> Training<'t> {
    fn new(task: &'t Task<'t>, settings: &'t Settings) -> Result<Self, Error> {
        let usage = |what: String| Error::from(ErrorKind::Usage { what });
        let (model, data) = (task.model, task.data);
        if !data.labelled() {
            return Err(usage("images without labels".to_owned()).at(data.path()));
        }
        if settings.batch == 0 || settings.batch > data.len() {
            let what = format!("batches of {}: the dataset has {} images", settings.batch, data.len());
            return Err(usage(what).at(data.path()).hinting("`--batch` sets the images of a step"));
        }
        if let Some(Dim::Fixed(fixed)) = model.graph().inputs().first().and_then(|x| x.dims.as_ref()?.first()) {
            let what = format!("a model of {fixed} images at a time, always");
            return Err(Error::from(ErrorKind::Unlike { what })
                .at(model.path())
                .hinting("export it with a dynamic batch"));
        }
        let mut graph = model.graph().clone();
        if settings.fresh {
            init::fresh(&mut graph, settings.seed);
        }
        let at = |e: niwaki_model::Error| Error::from(e.at(model.path()));
        let running = graph.norms(settings.norms);
        own_statistics(&graph, &running).map_err(|e| e.at(model.path()))?;
        let wanted = trainable(&graph, &running, settings, model.path())?;
        // Where no gradient goes, nothing is trained.
        let tape = Tape::new(graph, wanted).map_err(at)?;
        let size = |value: &ValueId| tape.graph().constant(*value).map_or(0, Tensor::len);
        let sizes: Vec<usize> = tape.wanted().iter().map(size).collect();
        let rank = |value: &ValueId| tape.graph().constant(*value).map_or(0, Tensor::rank);
        let decays = tape.wanted().iter().map(|value| settings.decay_all || rank(value) > 1).collect();
        let steps = data.len().div_ceil(settings.batch) as u64;
        let schedule = Schedule {
            course: settings.course,
            rate: settings.rate,
            warmup: (settings.warmup * steps as f64).round() as u64,
            steps: steps * settings.epochs,
        };
        let optimizer = Optimizer::new(settings.method, &sizes);
        let teacher = task.teacher.map(Model::executor).transpose()?;
        let black = (0..data.shape()[0]).map(|channel| data.preprocessing().value(0.0, channel)).collect();
        Ok(Self {
            task,
            settings,
            tape,
            running,
            optimizer,
            schedule,
            sizes,
            decays,
            teacher,
            black,
            epoch: 0,
            step: 0,
            sums: Sums::default(),
            epochs: Vec::new(),
            rate: settings.rate,
            peak: 0,
        })
    }

    /// Takes up where an interrupted training was, or rewinds; whether the former.
    fn begin(&mut self, state: &Path) -> Result<bool, Error> {
        if state.exists() {
            self.resume(state)?;
            self.fit()?;
            return Ok(true);
        }
        if let Some(path) = self.task.rewind {
            let checkpoint = Checkpoint::open(path, &Limits::default())?;
            let epoch = checkpoint.metadata().get("niwaki.train.epoch").and_then(|text| text.parse().ok());
            self.epoch = epoch.unwrap_or(0);
            if self.epoch >= self.settings.epochs {
                let what =
                    format!("weights of pass {}: a training of {} is at its end", self.epoch, self.settings.epochs);
                return Err(Error::from(ErrorKind::Usage { what }).at(path));
            }
            let steps = self.task.data.len().div_ceil(self.settings.batch) as u64;
            // The rate goes back together with the weights.
            self.optimizer.steps = self.epoch * steps;
            self.take_weights(&checkpoint)?;
        }
        self.fit()?;
        Ok(false)
    }

    /// Cuts the nodes into segments, where memory is limited.
    fn fit(&mut self) -> Result<(), Error> {
        let Some(limit) = self.settings.memory else { return Ok(()) };
        let [c, h, w] = self.task.data.shape();
        let images = Tensor::of([self.settings.batch, c, h, w], vec![0.0f32; self.settings.batch * c * h * w]);
        let at = |e: niwaki_model::Error| Error::from(e.at(self.task.model.path()));
        self.tape.fit(images.into_iter().collect(), limit).map_err(at)
    }

    /// One step.
    fn step(&mut self, items: &[usize]) -> Result<(), Error> {
        let (images, targets) = self.batch(items)?;
        let at = |e: niwaki_model::Error| Error::from(e.at(self.task.model.path()));
        let forward = self.tape.forward(vec![images.clone()], None).map_err(at)?;
        let outputs =
            forward.outputs.first().cloned().ok_or_else(|| self.unlike("a model without outputs".to_owned()))?;
        let loss = self.loss(&outputs, &targets, &images)?;
        if !loss.mean.is_finite() {
            return Err(self.diverged("the loss", &images));
        }
        let statistics: Vec<(ValueId, Tensor)> = self.statistics(&forward.outputs);
        let mut seeds = vec![None; forward.outputs.len()];
        seeds[0] = Some(loss.gradient);
        drop(outputs);
        let back = self.tape.backward(forward, seeds).map_err(at)?;
        self.peak = self.peak.max(back.peak_bytes);
        let gradients: Vec<Option<&[f32]>> =
            back.gradients.iter().map(|g| g.as_ref().and_then(Tensor::get::<f32>)).collect();
        let all = norm(gradients.iter().copied().flatten());
        if !all.is_finite() {
            let first = gradients.iter().position(|g| g.is_some_and(|g| g.iter().any(|x| !x.is_finite())));
            let name = first.map_or("", |at| self.tape.graph().name(self.tape.wanted()[at]));
            return Err(self.diverged(&format!("the gradient of `{name}`"), &images));
        }
        let scale = self.settings.clip.filter(|most| all > *most).map_or(1.0, |most| most / all);
        self.rate = self.schedule.at(self.optimizer.steps);
        self.optimizer.steps += 1;
        let wanted = self.tape.wanted().to_vec();
        for (nth, (value, gradient)) in wanted.into_iter().zip(gradients).enumerate() {
            let Some(gradient) = gradient else { continue };
            let decay = if self.decays[nth] { self.settings.decay as f32 } else { 0.0 };
            let step = Step { rate: self.rate as f32, decay, scale: scale as f32 };
            if let Some(niwaki_model::Data::F32(weights)) = self.tape.weight_mut(value).map(Tensor::data_mut) {
                self.optimizer.update(nth, weights.to_mut(), gradient, step);
            }
        }
        for (weight, tensor) in statistics {
            self.tape.set_weight(weight, tensor);
        }
        self.sums.add(loss.mean, loss.count, loss.right);
        Ok(())
    }

    /// Images and what they are of.
    fn batch(&self, items: &[usize]) -> Result<(Tensor, Vec<Target>), Error> {
        let (data, augment, seed) = (self.task.data, self.settings.augment, self.settings.seed);
        let [c, h, w] = data.shape();
        let each = data.item_len();
        let mut images = vec![0.0f32; items.len() * each];
        images.par_chunks_mut(each).zip(items).try_for_each(|(image, item)| {
            data.batch([*item], image)?;
            augment.places([c, h, w], &self.black, [seed, self.epoch, *item as u64], image);
            Ok::<(), Error>(())
        })?;
        let classes = items.iter().map(|item| data.label(*item)).collect::<Result<Vec<_>, _>>()?;
        let targets = match augment.mixture(seed, self.optimizer.steps, items.len()) {
            None => classes.into_iter().map(Target::Class).collect(),
            Some((share, others)) => {
                let own = images.clone();
                images.par_chunks_mut(each).zip(&others).for_each(|(image, other)| {
                    let other = &own[other * each..][..each];
                    image.iter_mut().zip(other).for_each(|(x, y)| *x = share as f32 * *x + (1.0 - share as f32) * y);
                });
                let mixed =
                    |(at, other): (usize, &usize)| Target::Mixed { first: classes[at], second: classes[*other], share };
                others.iter().enumerate().map(mixed).collect()
            }
        };
        let tensor = Tensor::of([items.len(), c, h, w], images);
        Ok((tensor.ok_or_else(|| self.unlike(format!("images of {c}x{h}x{w}")))?, targets))
    }

    fn loss(&self, outputs: &Tensor, targets: &[Target], images: &Tensor) -> Result<Loss, Error> {
        let fault = |e: niwaki_model::Fault| self.unlike(e.to_string());
        let loss = cross_entropy(outputs, targets, self.settings.smoothing).map_err(fault)?;
        let Some(teacher) = &self.teacher else { return Ok(loss) };
        let at = |e: niwaki_model::Error| Error::from(e.at(self.task.teacher.map_or(Path::new(""), Model::path)));
        let theirs = teacher.run(vec![images.clone()], Run::default()).map_err(at)?.outputs;
        let theirs = theirs.first().ok_or_else(|| self.unlike("a teacher without outputs".to_owned()))?;
        let Teacher { temperature, share } = self.settings.teacher;
        let apart = divergence(outputs, theirs, temperature).map_err(fault)?;
        let both = |a: &Tensor, b: &Tensor| {
            let (a, b) = (a.get::<f32>()?, b.get::<f32>()?);
            let sum = a.iter().zip(b).map(|(a, b)| (1.0 - share as f32) * a + share as f32 * b).collect();
            Tensor::of(outputs.shape(), sum)
        };
        let gradient = both(&loss.gradient, &apart.gradient)
            .ok_or_else(|| self.unlike("outputs that are no floats".to_owned()))?;
        Ok(Loss { mean: (1.0 - share) * loss.mean + share * apart.mean, gradient, ..loss })
    }

    /// What becomes of running statistics.
    fn statistics(&self, outputs: &[Tensor]) -> Vec<(ValueId, Tensor)> {
        let places = self.tape.graph().outputs();
        let of = |running: &Running| {
            let at = places.iter().position(|value| Some(*value) == running.next)?;
            Some((running.weight, outputs.get(at)?.clone()))
        };
        self.running.iter().filter_map(of).collect()
    }

    /// The error of a training whose numbers are no longer any.
    fn diverged(&self, what: &str, images: &Tensor) -> Error {
        let graph = self.tape.graph();
        let mut first: Option<ValueId> = None;
        let mut look = |value: ValueId, tensor: &Tensor| {
            if first.is_none() && tensor.get::<f32>().is_some_and(|all| all.iter().any(|x| !x.is_finite())) {
                first = Some(value);
            }
        };
        // Weights are still those that the step began with.
        let ran = self.tape.forward(vec![images.clone()], Some(&mut look));
        let maker = |value: ValueId| graph.nodes().iter().find(|node| node.outputs.contains(&Some(value)));
        let place = match (ran, first) {
            (Ok(_), None) => "all values of the way forward are".to_owned(),
            (_, Some(value)) => match maker(value) {
                Some(node) => {
                    format!("the first node whose values are not all is `{}` ({})", node.name, node.op.name())
                }
                None => format!("input `{}` has some that are not", graph.name(value)),
            },
            (Err(e), None) => e.to_string(),
        };
        let what = format!("{what} is no finite number in step {} of pass {}; {place}", self.step + 1, self.epoch + 1);
        let e = Error::from(ErrorKind::Diverged { what }).at(self.task.model.path());
        e.hinting("a lower `--lr`, a `--warmup` or `--clip` may help; the last state saved is kept")
    }

    fn unlike(&self, what: String) -> Error {
        Error::from(ErrorKind::Unlike { what }).at(self.task.model.path())
    }

    /// Ends a pass.
    fn end(&mut self) -> Result<Epoch, Error> {
        let measured = match self.task.eval {
            None => None,
            Some(data) => Some(eval::images(&self.model(), None, data, None, &|_, _| {})?),
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
            rate: self.rate,
        };
        self.epochs.push(epoch.clone());
        Ok(epoch)
    }

    /// The model with the weights as they are.
    fn model(&self) -> Model {
        let mut graph = self.task.model.graph().clone();
        for (value, tensor) in self.weights() {
            graph.set_weight(value, tensor.clone());
        }
        self.task.model.with(graph)
    }

    /// The weights that change: those that train, and running statistics.
    fn weights(&self) -> Vec<(ValueId, &Tensor)> {
        let statistics = self.running.iter().map(|running| running.weight);
        let all: BTreeSet<ValueId> = self.tape.wanted().iter().copied().chain(statistics).collect();
        all.into_iter().filter_map(|value| Some((value, self.tape.graph().constant(value)?))).collect()
    }

    /// Writes all floats of the model under their names.
    fn write(&self, path: &Path, overwrite: Overwrite) -> Result<(), Error> {
        let model = self.model();
        let graph = model.graph();
        let floats = |tensor: &Tensor| matches!(tensor.dtype(), Dtype::F32 | Dtype::F64 | Dtype::F16 | Dtype::BF16);
        let all: Vec<(&str, &Tensor, Vec<u8>)> = graph
            .weights()
            .filter(|(_, tensor)| floats(tensor) && tensor.rank() > 0)
            .map(|(value, tensor)| (graph.name(value), tensor, tensor.data().to_bytes()))
            .collect();
        let tensors: Vec<_> =
            all.iter().map(|(name, tensor, bytes)| (*name, tensor.dtype(), tensor.shape(), bytes.as_slice())).collect();
        let epoch = self.epoch.to_string();
        Ok(write_file(path, &tensors, &[("format", "pt"), ("niwaki.train.epoch", &epoch)], overwrite)?)
    }
}

/// Refuses running statistics that something else takes too, as exporters leave them that make one of equal tensors.
fn own_statistics(graph: &Graph, running: &[Running]) -> Result<(), Error> {
    for statistic in running {
        let takes =
            |node: &niwaki_model::Node| node.inputs.iter().filter(|input| **input == Some(statistic.weight)).count();
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
fn trainable(graph: &Graph, running: &[Running], settings: &Settings, path: &Path) -> Result<Vec<ValueId>, Error> {
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
