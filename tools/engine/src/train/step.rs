//! One step: examples, forward, back, weights.

use std::path::Path;

use niwaki_model::loss::{Loss, cross_entropy, directions, divergence};
use niwaki_model::optimizer::norm;
use niwaki_model::{Data, Executor, Pooling, Run, Running, Tensor, ValueId};
use niwaki_quant::forms::Pick;
use rayon::prelude::*;

use super::kind::Beside;
use super::learner::Pace;
use super::lessons::{Aim, Share};
use super::{Teacher, Training};
use crate::error::{Error, ErrorKind};
use crate::model::Model;

/// How much wider forms say to narrower ones (EQ-Net, section 3.3, and its code).
const WIDER: Teacher = Teacher { temperature: 1.0, share: 0.5 };

/// Gradients that one thread adds up at a time.
const PART: usize = 1 << 16;

/// Gradients that are added up, of each weight.
type Sum = Option<Vec<Option<Tensor>>>;

/// What becomes of running statistics.
type Statistics = Vec<(ValueId, Tensor)>;

/// What came of a share of a step.
struct Passed {
    loss: Loss,
    outputs: Tensor,
    gradients: Vec<Option<Tensor>>,
    statistics: Statistics,
    /// The most bytes that values and gradients took.
    peak: usize,
}

impl Training<'_> {
    /// One step.
    pub(super) fn step(&mut self, items: &[usize]) -> Result<(), Error> {
        let shares = self.task.data.shares(self.task.model, items, &self.draw())?;
        let inputs: Vec<Vec<Tensor>> = shares.iter().map(|share| share.inputs.clone()).collect();
        if let Beside::Heads(gates) = &self.beside {
            gates.begin_step(&mut self.tape, self.steps, self.schedule.steps);
        }
        let mut sum = None;
        let statistics = match self.beside.quantizers().is_some() {
            true => self.sandwich(&shares, &mut sum)?,
            false => self.go(&shares, &mut sum, &[])?.0,
        };
        self.update(&sum.unwrap_or_default(), &inputs)?;
        self.set(statistics);
        Ok(())
    }

    /// Forward and back for all shares, whose gradients are added to the sum; what becomes of running statistics and, where
    /// others learn from them, the outputs. These learn from outputs of a `wider` form, where there are some.
    fn go(&mut self, shares: &[Share], sum: &mut Sum, wider: &[Tensor]) -> Result<(Statistics, Vec<Tensor>), Error> {
        let all: usize = shares.iter().map(|share| share.count).sum();
        let (mut changed, mut all_outputs) = (Vec::new(), Vec::new());
        for (nth, share) in shares.iter().enumerate() {
            let Passed { loss, outputs, gradients, statistics, peak } = self.pass(share, all, wider.get(nth))?;
            let sums = if sum.is_some() { self.weights * size_of::<f32>() } else { 0 };
            self.peak = self.peak.max(peak + sums);
            match sum {
                None => *sum = Some(gradients),
                Some(sum) => sum.iter_mut().zip(gradients).for_each(|(sum, more)| add(sum, more)),
            }
            changed.extend(statistics);
            self.sums.add(loss.mean, loss.count, loss.right);
            all_outputs.extend(self.beside.quantizers().is_some().then_some(outputs));
        }
        Ok((changed, all_outputs))
    }

    /// A step of a network that is to run in many forms: the widest, others, the narrowest, each of which learns from the
    /// one before.
    fn sandwich(&mut self, shares: &[Share], sum: &mut Sum) -> Result<Statistics, Error> {
        let Some(supernet) = self.beside.quantizers().cloned() else { return Ok(Vec::new()) };
        let mut wider = Vec::new();
        for pick in [Pick::Widest, Pick::Drawn, Pick::Narrowest] {
            supernet.choose(&mut self.tape, &supernet.forms(pick, self.steps));
            let (statistics, outputs) = self.go(shares, sum, &wider)?;
            self.set(statistics);
            if supernet.distills() {
                wider = outputs;
            }
        }
        sum.iter_mut().try_for_each(|sum| supernet.regularize(&self.tape, sum))?;
        Ok(Vec::new())
    }

    /// Sets running statistics.
    fn set(&mut self, statistics: Statistics) {
        statistics.into_iter().for_each(|(weight, tensor)| self.tape.set_weight(weight, tensor));
    }

    /// Forward and back for a share of the `all` examples of a step.
    fn pass(&self, share: &Share, all: usize, theirs: Option<&Tensor>) -> Result<Passed, Error> {
        let at = |e: niwaki_model::Error| Error::from(e.at(self.task.model.path()));
        let forward = self.tape.forward(share.inputs.clone(), None).map_err(at)?;
        let place = share.aim.output();
        let outputs = forward.outputs.get(place).cloned();
        let outputs = outputs.ok_or_else(|| self.unlike("a model without outputs".to_owned()))?;
        let mut loss = self.loss(&outputs, share, theirs)?;
        if !loss.mean.is_finite() {
            return Err(self.diverged("the loss", std::slice::from_ref(&share.inputs)));
        }
        let statistics = self.statistics(&forward.outputs);
        let mut seeds = vec![None; forward.outputs.len()];
        if share.count < all {
            let part = share.count as f32 / all as f32;
            if let Data::F32(gradient) = loss.gradient.data_mut() {
                gradient.to_mut().iter_mut().for_each(|x| *x *= part);
            }
        }
        seeds[place] = Some(loss.gradient.clone());
        let back = self.tape.backward(forward, seeds).map_err(at)?;
        Ok(Passed { loss, outputs, gradients: back.gradients, statistics, peak: back.peak_bytes })
    }

    /// Lets the weights follow their gradients.
    fn update(&mut self, gradients: &[Option<Tensor>], inputs: &[Vec<Tensor>]) -> Result<(), Error> {
        let gradients: Vec<Option<&[f32]>> =
            gradients.iter().map(|g| g.as_ref().and_then(Tensor::get::<f32>)).collect();
        let all = norm(gradients.iter().copied().flatten());
        if !all.is_finite() {
            let first = gradients.iter().position(|g| g.is_some_and(|g| g.iter().any(|x| !x.is_finite())));
            let name = first.map(|at| self.tape.graph().name(self.tape.wanted()[at]));
            let what = name.map_or("the norm of the gradients".to_owned(), |name| format!("the gradient of `{name}`"));
            return Err(self.diverged(&what, inputs));
        }
        let scale = self.settings.clip.filter(|most| all > *most).map_or(1.0, |most| most / all);
        self.rate = self.schedule.at(self.steps);
        self.steps += 1;
        let (settings, rate, steps) = (self.settings, self.rate, self.schedule.steps);
        let pace = Pace { settings, rate, scale, step: self.steps, steps };
        self.learner.update(&mut self.tape, &gradients, pace).map_err(|e| e.at(self.task.model.path()))
    }

    /// The loss of outputs, by classes and by a teacher's, or by those of a wider form of the same network.
    fn loss(&self, outputs: &Tensor, share: &Share, wider: Option<&Tensor>) -> Result<Loss, Error> {
        let fault = |e: niwaki_model::Fault| self.unlike(e.to_string());
        let (theirs, how) = match wider {
            Some(wider) => (Some(wider.clone()), WIDER),
            None => {
                let theirs = self.teacher.as_ref().map(|teacher| self.taught(teacher, share)).transpose()?;
                (theirs, self.settings.teacher)
            }
        };
        let targets = match (&share.aim, &theirs) {
            (Aim::Targets { all, .. }, _) => all,
            (Aim::Vectors(lengths), Some(theirs)) => {
                let aims = Pooling::default()
                    .of(theirs, lengths)
                    .ok_or_else(|| self.unlike("a teacher of another kind".to_owned()))?;
                return directions(outputs, lengths, &aims).map_err(fault);
            }
            (Aim::Vectors(_), None) => return Err(self.unlike("texts without a teacher".to_owned())),
        };
        let loss = cross_entropy(outputs, targets, self.settings.smoothing).map_err(fault)?;
        let Some(theirs) = theirs else { return Ok(loss) };
        let Teacher { temperature, share } = how;
        let apart = divergence(outputs, &theirs, temperature).map_err(fault)?;
        let both = |a: &Tensor, b: &Tensor| {
            let (a, b) = (a.get::<f32>()?, b.get::<f32>()?);
            let sum = a.iter().zip(b).map(|(a, b)| (1.0 - share as f32) * a + share as f32 * b).collect();
            Tensor::of(outputs.shape(), sum)
        };
        let gradient = both(&loss.gradient, &apart.gradient)
            .ok_or_else(|| self.unlike("outputs that are no floats".to_owned()))?;
        Ok(Loss { mean: (1.0 - share) * loss.mean + share * apart.mean, gradient, ..loss })
    }

    /// What a teacher makes of a share.
    fn taught(&self, teacher: &Executor, share: &Share) -> Result<Tensor, Error> {
        let at = |e: niwaki_model::Error| Error::from(e.at(self.task.teacher.map_or(Path::new(""), Model::path)));
        let theirs = teacher.run(share.inputs.clone(), Run::default()).map_err(at)?.outputs;
        theirs.into_iter().nth(share.aim.output()).ok_or_else(|| self.unlike("a teacher without outputs".to_owned()))
    }

    /// What becomes of running statistics.
    fn statistics(&self, outputs: &[Tensor]) -> Statistics {
        let places = self.tape.graph().outputs();
        let of = |running: &Running| {
            let at = places.iter().position(|value| Some(*value) == running.next)?;
            Some((running.weight, outputs.get(at)?.clone()))
        };
        self.running.iter().filter_map(of).collect()
    }

    /// The error of a training whose numbers are no longer any.
    fn diverged(&self, what: &str, inputs: &[Vec<Tensor>]) -> Error {
        let graph = self.tape.graph();
        let mut first: Option<ValueId> = None;
        let mut failed = None;
        for inputs in inputs {
            let mut look = |value: ValueId, tensor: &Tensor| {
                if first.is_none() && tensor.get::<f32>().is_some_and(|all| all.iter().any(|x| !x.is_finite())) {
                    first = Some(value);
                }
            };
            // Weights are still those that the step began with.
            failed = failed.or(self.tape.forward(inputs.clone(), Some(&mut look)).err());
        }
        let maker = |value: ValueId| graph.nodes().iter().find(|node| node.outputs.contains(&Some(value)));
        let place = match (failed, first) {
            (None, None) => "all values of the way forward are".to_owned(),
            (_, Some(value)) => match maker(value) {
                Some(node) => {
                    format!("the first node whose values are not all is `{}` ({})", node.name, node.op.name())
                }
                None => format!("input `{}` has some that are not", graph.name(value)),
            },
            (Some(e), None) => e.to_string(),
        };
        let what = format!("{what} is no finite number in step {} of pass {}; {place}", self.step + 1, self.epoch + 1);
        let e = Error::from(ErrorKind::Diverged { what }).at(self.task.model.path());
        e.hinting("a lower `--lr`, a `--warmup` or `--clip` may help; the last state saved is kept")
    }

    fn unlike(&self, what: String) -> Error {
        Error::from(ErrorKind::Unlike { what }).at(self.task.model.path())
    }
}

/// Adds gradients up.
fn add(sum: &mut Option<Tensor>, more: Option<Tensor>) {
    match (sum.as_mut().map(Tensor::data_mut), more) {
        (Some(Data::F32(sum)), Some(more)) => {
            let more = more.get::<f32>().unwrap_or_default();
            let parts = sum.to_mut().par_chunks_mut(PART).zip(more.par_chunks(PART));
            parts.for_each(|(sum, more)| sum.iter_mut().zip(more).for_each(|(sum, x)| *sum += x));
        }
        (None, more) => *sum = more,
        _ => {}
    }
}
