//! What is kept of the values that layers take.

use std::collections::BTreeMap;

use niwaki_model::{Graph, Tensor, ValueId};
use niwaki_quant::observe::{Extremes, Histogram, Means, SecondMoments};
use rayon::prelude::*;

use super::sites::Site;
use crate::device::Device;
use crate::error::{Error, ErrorKind};
use crate::model::Model;

/// Values that a thread counts at a time, about.
const PART: usize = 1 << 16;

/// Sums of one value, as rows or as planes of channels.
struct Seen {
    inputs: usize,
    kernel: bool,
    moments: SecondMoments,
    extremes: Extremes,
    means: Means,
}

/// A value that is no number.
struct Fault {
    value: ValueId,
    example: usize,
    found: f32,
}

/// Sums of all values that layers take, and the ends of all values of single floats.
pub(super) struct Look<'g> {
    graph: &'g Graph,
    device: &'g Device,
    seen: BTreeMap<ValueId, Vec<Seen>>,
    /// How often which value came, of those of which that is counted.
    counted: BTreeMap<ValueId, Histogram>,
    /// The least and the greatest of each, where that is kept; none of a value that is not always finite.
    ends: Option<BTreeMap<ValueId, Option<[f32; 2]>>>,
    fault: Option<Fault>,
    /// What a device said that gave up.
    failed: Option<Error>,
}

impl<'g> Look<'g> {
    /// Of these layers, before anything was seen; of the values `counted` there are histograms, and of all values `ends` where
    /// these are asked for.
    pub(super) fn new(
        (graph, device): (&'g Graph, &'g Device),
        sites: &[Site],
        counted: &[ValueId],
        ends: bool,
    ) -> Self {
        let mut seen: BTreeMap<ValueId, Vec<Seen>> = BTreeMap::new();
        for site in sites {
            let (inputs, kernel) = (site.about.inputs, site.about.kernel);
            let of = seen.entry(site.product.input).or_default();
            if !of.iter().any(|seen| (seen.inputs, seen.kernel) == (inputs, kernel)) {
                let (moments, extremes) = (SecondMoments::new(inputs), Extremes::new(inputs));
                of.push(Seen { inputs, kernel, moments, extremes, means: Means::new(inputs) });
            }
        }
        let counted = counted.iter().map(|value| (*value, Histogram::default())).collect();
        Self { graph, device, seen, counted, ends: ends.then(BTreeMap::new), fault: None, failed: None }
    }

    /// Sees a value of some examples.
    pub(super) fn see(&mut self, value: ValueId, tensor: &Tensor, items: &[usize]) {
        let Some(all) = tensor.get::<f32>() else { return };
        self.reach(value, all);
        let Some(seen) = self.seen.get_mut(&value) else { return };
        if let Some(at) = all.iter().position(|x| !x.is_finite()) {
            let example = items.get(at * items.len() / all.len()).copied().unwrap_or(0);
            self.fault.get_or_insert(Fault { value, example, found: all[at] });
            return;
        }
        let histogram = self.counted.get_mut(&value);
        let failed = &mut self.failed;
        let mut tried = |done: Result<bool, Error>| {
            done.unwrap_or_else(|e| {
                failed.get_or_insert(e);
                true
            })
        };
        for Seen { kernel, moments, extremes, means, .. } in seen {
            if *kernel {
                let plane = tensor.shape().iter().skip(2).product();
                moments.planes(all, plane);
                if !tried(self.device.extremes(all, Some(plane), extremes)) {
                    extremes.planes(all, plane);
                }
                histogram.iter().for_each(|_| means.planes(all, plane));
            } else {
                moments.rows(all);
                if !tried(self.device.extremes(all, None, extremes)) {
                    extremes.rows(all);
                }
                histogram.iter().for_each(|_| means.rows(all));
            }
        }
        if let Some(histogram) = histogram
            && !tried(self.device.histogram(all, histogram))
        {
            // Counts are whole: in whichever order they are added, they are the same.
            let parts = all.par_chunks(PART).fold(Histogram::default, |mut part, values| {
                part.see(values);
                part
            });
            histogram.merge(&parts.reduce(Histogram::default, |mut all, part| {
                all.merge(&part);
                all
            }));
        }
    }

    /// Widens the ends of a value.
    fn reach(&mut self, value: ValueId, all: &[f32]) {
        let Some(ends) = &mut self.ends else { return };
        let ends = ends.entry(value).or_insert(Some([f32::INFINITY, f32::NEG_INFINITY]));
        let wider = |[low, high]: [f32; 2], x: &f32| x.is_finite().then(|| [low.min(*x), high.max(*x)]);
        *ends = ends.and_then(|ends| all.iter().try_fold(ends, wider));
    }

    /// The least and the greatest of each value of single floats, by name; those of the same name together.
    pub(super) fn ends(&self) -> BTreeMap<String, [f32; 2]> {
        let mut all: BTreeMap<String, [f32; 2]> = BTreeMap::new();
        for (value, ends) in self.ends.iter().flatten() {
            let Some([low, high]) = ends.filter(|[low, high]| low <= high) else { continue };
            let known = all.entry(self.graph.name(*value).to_owned()).or_insert([low, high]);
            *known = [known[0].min(low), known[1].max(high)];
        }
        all
    }

    /// Refuses what is no number, naming the node that made it and the example.
    ///
    /// # Errors
    ///
    /// That, and what a device said that gave up.
    pub(super) fn fault(&mut self, model: &Model) -> Result<(), Error> {
        if let Some(e) = self.failed.take() {
            return Err(e);
        }
        let Some(Fault { value, example, found }) = &self.fault else { return Ok(()) };
        let maker = self.graph.nodes().iter().find(|node| node.outputs.contains(&Some(*value)));
        let name = self.graph.name(*value);
        let whence = maker.map_or_else(|| format!("input `{name}`"), |node| format!("node `{}`", node.name));
        let what = format!("{whence} makes {found} of example {example}; finite numbers expected");
        Err(Error::from(ErrorKind::Unlike { what }).at(model.path()))
    }

    /// How often which value came.
    pub(super) fn histogram(&self, value: ValueId) -> Option<&Histogram> {
        self.counted.get(&value)
    }

    /// The mean of each input of a layer.
    pub(super) fn means(&self, site: &Site) -> Vec<f32> {
        let seen = self.one(site).map(|seen| seen.means.means()).unwrap_or_default();
        seen.into_iter().map(|x| x as f32).collect()
    }

    /// What was seen of the inputs of a layer.
    fn one(&self, site: &Site) -> Option<&Seen> {
        let (inputs, kernel) = (site.about.inputs, site.about.kernel);
        let seen = self.seen.get(&site.product.input)?;
        seen.iter().find(|seen| (seen.inputs, seen.kernel) == (inputs, kernel))
    }

    /// How many values each input of a layer had; their mean squares, the least and the greatest.
    pub(super) fn of(&self, site: &Site) -> (u64, [Vec<f32>; 3]) {
        let Some(seen) = self.one(site) else { return (0, [0.0; 3].map(|x| vec![x; site.about.inputs])) };
        let means = seen.moments.means().iter().map(|x| *x as f32).collect();
        // Of what was never seen there are no ends.
        // Of zeros of both signs the least is either: adding 0 makes them one.
        let ends = |of: &[f32]| of.iter().map(|x| if x.is_finite() { *x + 0.0 } else { 0.0 }).collect();
        (seen.moments.count(), [means, ends(seen.extremes.low()), ends(seen.extremes.high())])
    }
}
