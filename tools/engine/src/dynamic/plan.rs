//! Multiplications before anything is trained: what targets of some share would leave of a model as it is.
//!
//! ```text
//! heat [images, channels of all sites] = the model on some images
//! for each share r: masks = targets(heat, r), multiplications = their mean over images
//! budget: the largest r, in thousandths, that leaves no more
//! ```

use niwaki_model::{Executor, Run, Tensor, ValueId};
use niwaki_prune::Ratio;
use niwaki_prune::dynamic::{Target, active, heat};
use serde::Serialize;

use super::costs::{Costs, Macs, Sums};
use super::sites::{Site, sites};
use crate::dataset::{Dataset, shuffled};
use crate::error::{Blame, Error, ErrorKind};
use crate::eval::check_images;
use crate::model::Model;
use crate::progress::Progress;

/// Images that go through the model together.
const BATCH: usize = 64;

/// Steps of shares among which that of a budget is found.
const STEPS: u32 = 1000;

/// How multiplications are planned.
#[derive(Clone, Copy, Debug)]
pub struct Planning<'p> {
    /// What the model is looked at on.
    pub data: &'p Dataset,
    /// How many of its images, drawn by the seed; of fewer all.
    pub examples: usize,
    /// The seed.
    pub seed: u64,
    /// Makes a target of a share.
    pub target: fn(Ratio) -> Target,
    /// The shares that are listed.
    pub shares: &'p [f64],
    /// The share of the model's multiplications that may be left.
    pub budget: Option<f64>,
}

/// What targets of a share leave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The share.
    pub mass: f64,
    /// The share of channels that are computed.
    pub channels: f64,
    /// Multiplications.
    #[serde(flatten)]
    pub macs: Macs,
}

/// What came of planning.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    /// Convolutions that are gated.
    pub layers: usize,
    /// Images that the model was looked at on.
    pub examples: usize,
    /// What the listed shares leave.
    pub table: Vec<Row>,
    /// What the share that meets the budget leaves; none without a budget, or where none meets it.
    pub picked: Option<Row>,
    /// What the least share leaves, where a budget is not met.
    pub least: Option<Row>,
}

/// How much the channels of all sites fire for each image.
struct Heats {
    sites: Vec<Site>,
    costs: Costs,
    /// For each image those of all sites, one after the other.
    all: Vec<f32>,
}

impl Heats {
    fn seen(model: &Model, how: &Planning<'_>, progress: Progress<'_>) -> Result<Self, Error> {
        let at = |e: niwaki_model::Error| Error::from(e.at(model.path()));
        let data = how.data;
        if let Some(fixed) = check_images(model, data)? {
            let what = format!("a model of {fixed} images at a time, always");
            let e = Error::from(ErrorKind::Unlike { what }).at(model.path());
            return Err(e.hinting("export it with a dynamic batch"));
        }
        let sites = sites(model)?;
        let costs = Costs::of(model, &sites, data)?;
        let mut graph = model.graph().clone();
        graph.norms(None);
        graph.fold().map_err(at)?;
        let executor = Executor::new(graph).map_err(at)?;
        let mut items = shuffled(data.len(), how.seed, 0);
        items.truncate(how.examples.clamp(1, data.len().max(1)));
        let width: usize = sites.iter().map(|site| site.outputs).sum();
        let mut all = Vec::with_capacity(items.len() * width);
        for (nth, items) in items.chunks(BATCH).enumerate() {
            let mut some = vec![0.0; items.len() * width];
            look(&executor, &sites, (data, items), &mut some).map_err(|e| e.at(model.path()))?;
            all.extend(some);
            progress((nth * BATCH + items.len()) as u64, how.examples.min(data.len()) as u64);
        }
        Ok(Self { sites, costs, all })
    }

    /// Channels of all sites.
    fn width(&self) -> usize {
        self.sites.iter().map(|site| site.outputs).sum::<usize>().max(1)
    }

    /// What a target leaves.
    fn row(&self, target: Target) -> Result<Row, Error> {
        let (mut sums, mut kept) = (Sums::default(), 0);
        let mut marks = vec![false; self.width()];
        let mut order = vec![0; self.width()];
        for heats in self.all.chunks_exact(self.width()) {
            let mut first = 0;
            for site in &self.sites {
                let channels = first..first + site.outputs;
                let (order, marks) = (&mut order[channels.clone()], &mut marks[channels.clone()]);
                let marked = target.mark(&heats[channels], order, marks);
                marked.map_err(|e| Error::below(e, Blame::Input).of(&site.name))?;
                first += site.outputs;
            }
            kept += active(&marks);
            let mut rest = marks.as_slice();
            let of_site = |site: &Site| {
                let (own, after) = rest.split_at(site.outputs);
                rest = after;
                own
            };
            let each: Vec<&[bool]> = self.sites.iter().map(of_site).collect();
            self.costs.add(&each, &mut sums)?;
        }
        let channels = kept as f64 / self.all.len().max(1) as f64;
        Ok(Row { mass: target.share().get(), channels, macs: self.costs.mean(sums) })
    }
}

/// Runs images through the model, and says how much the channels of its sites fire.
fn look(
    executor: &Executor,
    sites: &[Site],
    (data, items): (&Dataset, &[usize]),
    out: &mut [f32],
) -> Result<(), Error> {
    let width = out.len() / items.len().max(1);
    let mut observe = |value: ValueId, tensor: &Tensor| {
        let mut first = 0;
        for site in sites {
            let found = tensor.get::<f32>().filter(|_| site.place == value);
            let each = found.map_or(0, |all| all.len() / items.len().max(1));
            for (nth, image) in found.into_iter().flat_map(|all| all.chunks_exact(each.max(1))).enumerate() {
                heat(image, &mut out[nth * width + first..][..site.outputs]);
            }
            first += site.outputs;
        }
    };
    let how = Run { observe: Some(&mut observe), ..Run::default() };
    executor.run(vec![data.tensor(items.iter().copied())?], how)?;
    Ok(())
}

/// Targets of these shares.
pub(super) fn targets(shares: &[f64], target: fn(Ratio) -> Target) -> Result<Vec<Target>, Error> {
    shares.iter().map(|of| ratio(*of).map(target)).collect()
}

fn ratio(share: f64) -> Result<Ratio, Error> {
    Ratio::new(share).map_err(|e| Error::below(e, Blame::Caller))
}

/// What the target of the largest share within a budget leaves, of which `left` is compared with it; where there is none,
/// second, what that of the least share leaves.
pub(super) fn within<T>(
    budget: f64,
    target: fn(Ratio) -> Target,
    row: impl Fn(Target) -> Result<T, Error>,
    left: impl Fn(&T) -> f64,
) -> Result<(Option<T>, Option<T>), Error> {
    let of_step = |step: u32| ratio(f64::from(step) / f64::from(STEPS)).and_then(|of| row(target(of)));
    // What is left grows with the share.
    let (mut low, mut high, mut picked) = (0, STEPS + 1, None);
    while high - low > 1 {
        let middle = low.midpoint(high);
        let row = of_step(middle)?;
        match left(&row) <= budget {
            true => (low, picked) = (middle, Some(row)),
            false => high = middle,
        }
    }
    let least = if picked.is_none() { Some(of_step(1)?) } else { None };
    Ok((picked, least))
}

/// Says what targets of shares leave of a model's multiplications.
///
/// # Errors
///
/// A model without convolutions, or one that takes other images; shares that are none; what fires and is no finite number;
/// those of reading and running.
pub fn plan(model: &Model, how: &Planning<'_>, progress: Progress<'_>) -> Result<Planned, Error> {
    let targets = targets(how.shares, how.target)?;
    let heats = Heats::seen(model, how, progress)?;
    let table = targets.into_iter().map(|target| heats.row(target)).collect::<Result<Vec<_>, _>>()?;
    let found = how.budget.map(|budget| within(budget, how.target, |of| heats.row(of), |row| row.macs.share));
    let (picked, least) = found.transpose()?.unwrap_or_default();
    let examples = heats.all.len() / heats.width();
    Ok(Planned { layers: heats.sites.len(), examples, table, picked, least })
}
