//! How well a gated network does, what it saves, and what its heads know.

use std::collections::BTreeMap;

use niwaki_model::{Run, Tensor, ValueId};
use niwaki_prune::dynamic::Watch;
use serde::Serialize;

use super::costs::{Costs, Macs, Sums};
use super::file::Network;
use crate::dataset::Dataset;
use crate::error::{Blame, Error, ErrorKind};
use crate::eval::{self, Evaluation};
use crate::progress::Progress;

/// Images that go through the network together.
const BATCH: usize = 64;

/// What the head of a layer does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OfHead {
    /// The weight of its convolution.
    pub layer: String,
    /// Channels of its mask.
    pub channels: usize,
    /// What it does.
    #[serde(flatten)]
    pub does: Doing,
}

/// What heads do, of one layer or the mean over all channels of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Doing {
    /// The share of channels that they let through.
    pub active: f64,
    /// The share of their decisions that are those of the targets.
    pub head_accuracy: f64,
    /// The share that would be, if all of a layer were the same one.
    pub majority: f64,
    /// The share that would be, if all of a channel were the same one: what the best fixed mask has.
    pub majority_by_channel: f64,
    /// The share of channels in which the masks of two images differ.
    pub variation: f64,
}

impl Doing {
    fn of(watch: &Watch) -> Self {
        Self {
            active: watch.active(),
            head_accuracy: watch.accuracy(),
            majority: watch.majority(),
            majority_by_channel: watch.majority_by_channel(),
            variation: watch.variation(),
        }
    }

    /// The mean over layers, each counted by its channels.
    fn mean(all: &[OfHead]) -> Self {
        let channels: usize = all.iter().map(|layer| layer.channels).sum();
        let of = |what: fn(&Self) -> f64| {
            all.iter().map(|layer| what(&layer.does) * layer.channels as f64).sum::<f64>() / channels.max(1) as f64
        };
        Self {
            active: of(|does| does.active),
            head_accuracy: of(|does| does.head_accuracy),
            majority: of(|does| does.majority),
            majority_by_channel: of(|does| does.majority_by_channel),
            variation: of(|does| does.variation),
        }
    }
}

/// What was measured of a gated network.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// How well it does.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// Its multiplications.
    pub macs: Macs,
    /// What its heads do.
    #[serde(flatten)]
    pub does: Doing,
    /// The same by layer.
    pub layers: Vec<OfHead>,
}

impl Network {
    /// How well it does on images, or on the first of them, and what its masks leave of its multiplications.
    ///
    /// # Errors
    ///
    /// Images that do not fit the model; numbers of heads, and of what fires, that are none; those of reading and running.
    pub fn measure(&self, data: &Dataset, limit: Option<usize>, progress: Progress<'_>) -> Result<Measured, Error> {
        let examples = data.len().min(limit.unwrap_or(usize::MAX)) as u64;
        let half = |done: u64, _: u64| progress(done, 2 * examples);
        let evaluation = eval::images(&self.gated(), None, data, limit, &half)?;
        let rest = |done: u64| progress(examples + done, 2 * examples);
        let (watches, macs) = self.watch(data, examples as usize, &rest)?;
        let of = |(site, watch): (&super::sites::Site, &Watch)| OfHead {
            layer: site.name.clone(),
            channels: site.outputs,
            does: Doing::of(watch),
        };
        let layers: Vec<OfHead> = self.sites.iter().zip(&watches).map(of).collect();
        Ok(Measured { evaluation, macs, does: Doing::mean(&layers), layers })
    }

    /// What heads tell of images, and the multiplications that this leaves.
    fn watch(
        &self,
        data: &Dataset,
        examples: usize,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(Vec<Watch>, Macs), Error> {
        let path = self.model.path();
        let unlike = |what: String| Error::from(ErrorKind::Unlike { what }).at(path);
        if eval::check_images(&self.model, data)?.is_some() {
            return Err(
                unlike("a model of a fixed number of images".to_owned()).hinting("export it with a dynamic batch")
            );
        }
        let (model, watched) = self.watched();
        let executor = model.executor()?;
        let costs = Costs::of(&self.model, &self.sites, data)?;
        let mut watches: Vec<Watch> = self.sites.iter().map(|site| Watch::new(site.outputs)).collect();
        let mut sums = Sums::default();
        for start in (0..examples).step_by(BATCH) {
            let end = (start + BATCH).min(examples);
            let mut seen: BTreeMap<ValueId, Vec<f32>> = BTreeMap::new();
            let mut look = |value: ValueId, tensor: &Tensor| {
                if watched.iter().any(|(numbers, targets)| value == *numbers || value == *targets) {
                    seen.insert(value, tensor.get::<f32>().unwrap_or_default().to_vec());
                }
            };
            let how = Run { observe: Some(&mut look), ..Run::default() };
            executor.run(vec![data.tensor(start..end)?], how).map_err(|e| Error::from(e.at(path)))?;
            let masks = self.marks(&seen, &watched, end - start)?;
            for nth in 0..end - start {
                let mut of_image = Vec::with_capacity(masks.len());
                for (([marks, wanted], site), watch) in masks.iter().zip(&self.sites).zip(&mut watches) {
                    let row = nth * site.outputs..(nth + 1) * site.outputs;
                    watch.add(&marks[row.clone()], &wanted[row.clone()]).map_err(|e| Error::below(e, Blame::Caller))?;
                    of_image.push(&marks[row]);
                }
                costs.add(&of_image, &mut sums)?;
            }
            progress(end as u64);
        }
        Ok((watches, costs.mean(sums)))
    }

    /// Masks and targets of each site, of all images of a batch.
    fn marks(
        &self,
        seen: &BTreeMap<ValueId, Vec<f32>>,
        watched: &[(ValueId, ValueId)],
        images: usize,
    ) -> Result<Vec<[Vec<bool>; 2]>, Error> {
        let of = |(site, (numbers, targets)): (&super::sites::Site, &(ValueId, ValueId))| {
            let wrong = |what: String| Error::from(ErrorKind::Unlike { what }).of(&site.name).at(self.model.path());
            let all = [numbers, targets].map(|value| seen.get(value).map(Vec::as_slice).unwrap_or_default());
            for (all, what) in all.iter().zip(["its head tells", "fires"]) {
                if all.len() != images * site.outputs || all.iter().any(|x| !x.is_finite()) {
                    return Err(wrong(format!("what {what} is not always a finite number")));
                }
            }
            Ok(all.map(|all| all.iter().map(|x| *x > 0.0).collect()))
        };
        self.sites.iter().zip(watched).map(of).collect()
    }
}
