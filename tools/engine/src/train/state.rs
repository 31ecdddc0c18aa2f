//! What a training needs to go on: weights, what the optimizer keeps, and how far it is.

use std::path::{Path, PathBuf};

use niwaki_model::{Data, Tensor, ValueId};
use niwaki_tensors::{Checkpoint, Dtype, Limits, Overwrite, PartialFile, TensorView, write_file};
use serde::{Deserialize, Serialize};

use super::{Best, Epoch, Task, Training};
use crate::error::{Error, ErrorKind};

/// Sums over the steps of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    /// The sum of losses by the bits of the number, so that it comes back exactly.
    loss: u64,
    count: u64,
    right: u64,
}

impl Sums {
    pub(super) fn add(&mut self, mean: f64, count: usize, right: usize) {
        self.loss = (f64::from_bits(self.loss) + mean * count as f64).to_bits();
        self.count += count as u64;
        self.right += right as u64;
    }

    pub(super) fn loss(&self) -> f64 {
        f64::from_bits(self.loss) / self.count.max(1) as f64
    }

    pub(super) fn accuracy(&self) -> f64 {
        self.right as f64 / self.count.max(1) as f64
    }
}

/// What stands in a state's metadata.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    settings: Vec<(String, String)>,
    epoch: u64,
    step: u64,
    steps: u64,
    sums: Sums,
    epochs: Vec<Epoch>,
    best: Option<u64>,
}

/// The key of the metadata.
const KEY: &str = "niwaki.train.state";

/// Refuses what no state of a training of so many passes, of so many steps each, says of itself: the text under
/// `niwaki.train.state` in the metadata of its file.
///
/// # Errors
///
/// Text that is no such JSON, passes and steps beyond the end, and sums that contradict each other.
pub fn check_state(text: &str, passes: u64, steps: u64) -> Result<(), Error> {
    let found = State::parse(text).and_then(|state| state.check(passes, steps));
    found.map_err(|why| ErrorKind::Journal { why }.into())
}

impl State {
    fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    /// Whether it is of a training of so many passes, of so many steps each.
    fn check(&self, passes: u64, steps: u64) -> Result<(), String> {
        let Self { epoch, step, .. } = *self;
        if epoch > passes || step >= steps.max(1) || epoch == passes && step > 0 {
            return Err(format!("at step {step} of pass {epoch}: {passes} passes of {steps} steps expected"));
        }
        let before = epoch.checked_mul(steps).and_then(|done| done.checked_add(step));
        if before != Some(self.steps) {
            return Err(format!(
                "{} steps were done, at step {step} of pass {epoch} of {steps} steps each",
                self.steps
            ));
        }
        let passed = self.epochs.iter().map(|pass| pass.epoch).chain(self.best);
        match passed.into_iter().find(|pass| !(1..=epoch).contains(pass)) {
            Some(pass) => Err(format!("a pass {pass} that has ended, of {epoch}")),
            None => Ok(()),
        }
    }

    /// Where the state of a training with that output stands.
    pub(super) fn path(output: &Path) -> PathBuf {
        let mut name = output.file_name().unwrap_or_default().to_os_string();
        name.push(".state");
        output.with_file_name(name)
    }
}

/// Takes an output for this training alone, as long as what is given back is held: two trainings would each take the
/// other's state for their own.
///
/// # Errors
///
/// Another training of that output, and an output that is there by now.
pub(super) fn alone(state: &Path, task: &Task<'_>) -> Result<PartialFile, Error> {
    let mut name = state.file_name().unwrap_or_default().to_os_string();
    name.push(".lock");
    let lock = crate::target::alone(&state.with_file_name(name), task.output, "another process is training it")?;
    // The other one may have ended since the output was looked at.
    niwaki_tensors::check_output(task.output, task.overwrite)?;
    Ok(lock)
}

/// All numbers of a tensor.
fn decoded(view: &TensorView<'_>) -> Result<Vec<f32>, Error> {
    let mut all = vec![0.0; view.elements()];
    view.decode_f32(0..all.len(), &mut all)?;
    Ok(all)
}

/// Settings that a training cannot go on without, as text.
fn described(training: &Training<'_>) -> Vec<(String, String)> {
    let s = training.settings;
    let list = [
        ("epochs", s.epochs.to_string()),
        ("batch", s.batch.to_string()),
        ("optimizer", format!("{:?}", s.method)),
        ("lr", s.rate.to_string()),
        ("schedule", format!("{:?}", s.course)),
        ("warmup", s.warmup.to_string()),
        ("weight-decay", format!("{} {}", s.decay, s.decay_all)),
        ("label-smoothing", s.smoothing.to_string()),
        ("images", format!("{:?}", s.augment)),
        ("norms", format!("{:?}", s.norms)),
        ("clip", format!("{:?}", s.clip)),
        ("teacher-share", format!("{:?}", s.teacher)),
        ("seed", s.seed.to_string()),
        ("init", s.fresh.to_string()),
        ("best", s.best.to_string()),
        ("only", s.only.join(" ")),
        ("freeze", s.freeze.join(" ")),
    ];
    let settings = list.into_iter().map(|(key, value)| (key.to_owned(), value));
    settings.chain(training.described.iter().cloned()).collect()
}

impl Training<'_> {
    /// Saves what is needed to go on; the old state is there until the new one is.
    pub(super) fn save(&self, path: &Path) -> Result<(), Error> {
        let state = State {
            settings: described(self),
            epoch: self.epoch,
            step: self.step,
            steps: self.steps,
            sums: self.sums,
            epochs: self.epochs.clone(),
            best: self.best.as_ref().map(|best| best.epoch),
        };
        let text = serde_json::to_string(&state)
            .map_err(|e| Error::from(ErrorKind::Journal { why: e.to_string() }).at(path))?;
        let mut all: Vec<(String, &[usize], Vec<u8>)> = Vec::new();
        let weights = self.weights();
        for (value, tensor) in &weights {
            all.push((format!("weights.{}", value.index()), tensor.shape(), tensor.data().to_bytes()));
        }
        for (value, tensor) in self.best.iter().flat_map(|best| &best.weights) {
            all.push((format!("best.{}", value.index()), tensor.shape(), tensor.data().to_bytes()));
        }
        let saved = self.learner.saved();
        let sizes: Vec<[usize; 1]> = saved.iter().map(|(_, numbers)| [numbers.len()]).collect();
        for ((name, numbers), size) in saved.into_iter().zip(&sizes) {
            all.push((name, size, Data::F32(numbers.into()).to_bytes()));
        }
        let tensors: Vec<_> =
            all.iter().map(|(name, shape, bytes)| (name.as_str(), Dtype::F32, *shape, bytes.as_slice())).collect();
        Ok(write_file(path, &tensors, &[(KEY, &text)], Overwrite::Replace)?)
    }

    /// Takes up what was saved.
    pub(super) fn resume(&mut self, path: &Path) -> Result<(), Error> {
        let journal = |why: String| {
            let e = Error::from(ErrorKind::Journal { why }).at(path);
            e.hinting("delete it to begin anew, or train with the settings that it was made with")
        };
        let checkpoint = Checkpoint::open(path, &Limits::default())?;
        let metadata = checkpoint.metadata();
        let text = metadata.get(KEY).ok_or_else(|| journal(format!("no `{KEY}` in its metadata")))?;
        let state = State::parse(text).map_err(journal)?;
        for ((key, now), (old_key, then)) in described(self).iter().zip(&state.settings) {
            if (key, now) != (old_key, then) {
                return Err(journal(format!("of another training: `{old_key}` was {then}, is {now}")));
            }
        }
        state.check(self.settings.epochs, self.task.data.steps(self.settings.batch)).map_err(journal)?;
        let floats = |name: &str, len: usize| {
            let view = checkpoint.get(name).ok_or_else(|| journal(format!("no tensor `{name}`")))?;
            let all = decoded(&view)?;
            if all.len() == len {
                Ok(all)
            } else {
                Err(journal(format!("tensor `{name}` of {} numbers, {len} expected", all.len())))
            }
        };
        let values: Vec<_> = self.weights().iter().map(|(value, tensor)| (*value, tensor.shape().to_vec())).collect();
        let of = |kind: &str, (value, shape): &(ValueId, Vec<usize>)| {
            let all = floats(&format!("{kind}.{}", value.index()), shape.iter().product())?;
            let tensor = Tensor::of(shape.as_slice(), all);
            tensor.map(|tensor| (*value, tensor)).ok_or_else(|| journal(format!("a tensor of {shape:?}")))
        };
        if let Some(epoch) = state.best {
            let weights = values.iter().map(|value| of("best", value)).collect::<Result<_, _>>()?;
            self.best = Some(Best { epoch, weights });
        }
        for value in &values {
            let (value, tensor) = of("weights", value)?;
            self.tape.set_weight(value, tensor);
        }
        self.learner.restore(&floats)?;
        self.steps = state.steps;
        (self.epoch, self.step, self.sums, self.epochs) = (state.epoch, state.step, state.sums, state.epochs);
        Ok(())
    }
}
