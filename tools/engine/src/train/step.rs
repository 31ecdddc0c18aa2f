//! One step: images, forward, back, weights.

use std::path::Path;

use niwaki_model::loss::{Loss, Target, cross_entropy, divergence};
use niwaki_model::optimizer::{Step, norm};
use niwaki_model::{Data, Run, Running, Tensor, ValueId};
use rayon::prelude::*;

use super::{Teacher, Training};
use crate::error::{Error, ErrorKind};
use crate::model::Model;

impl Training<'_> {
    /// One step.
    pub(super) fn step(&mut self, items: &[usize]) -> Result<(), Error> {
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
            let name = first.map(|at| self.tape.graph().name(self.tape.wanted()[at]));
            let what = name.map_or("the norm of the gradients".to_owned(), |name| format!("the gradient of `{name}`"));
            return Err(self.diverged(&what, &images));
        }
        let scale = self.settings.clip.filter(|most| all > *most).map_or(1.0, |most| most / all);
        self.rate = self.schedule.at(self.optimizer.steps);
        self.optimizer.steps += 1;
        let wanted = self.tape.wanted().to_vec();
        for (nth, (value, gradient)) in wanted.into_iter().zip(gradients).enumerate() {
            let Some(gradient) = gradient else { continue };
            let decay = if self.decays[nth] { self.settings.decay as f32 } else { 0.0 };
            let step = Step { rate: self.rate as f32, decay, scale: scale as f32 };
            if let Some(Data::F32(weights)) = self.tape.weight_mut(value).map(Tensor::data_mut) {
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
}
