//! Cuts the nodes into segments so that what is kept fits in memory.

use std::collections::{BTreeMap, BTreeSet};

use super::{Meter, Tape, Way};
use crate::error::{Error, ErrorKind};
use crate::execute::check;
use crate::graph::ValueId;
use crate::tensor::Tensor;

impl Tape {
    /// Cuts the nodes into as few segments as let values and gradients of inputs of these shapes fit in
    /// `limit` bytes, weights aside. The results are the same.
    ///
    /// # Errors
    ///
    /// Inputs that do not fit; [`ErrorKind::Memory`] where no cut is enough.
    pub fn fit(&mut self, inputs: Vec<Tensor>, limit: u64) -> Result<(), Error> {
        let bytes = self.sizes(inputs)?;
        let nodes = self.graph.nodes().len();
        let size = |value: &ValueId| bytes.get(value).copied().unwrap_or(0);
        let kept: Vec<u64> = (0..nodes).map(|at| self.kept_values(at).iter().map(size).sum()).collect();
        let mut least = u64::MAX;
        let more = |count: &usize| Some(count + (count / 8).max(1)).filter(|count| *count <= nodes);
        for count in std::iter::successors(Some(1), more) {
            let bounds = cut(&kept, count);
            let entries = self.entries_of(&bounds);
            let needs = self.most(&bounds, &entries, &bytes);
            least = least.min(needs);
            if needs <= limit {
                (self.bounds, self.entries) = (bounds, entries);
                return Ok(());
            }
        }
        Err(ErrorKind::Memory { needs: least, limit }.into())
    }

    /// The number of segments.
    pub fn segments(&self) -> usize {
        self.entries.len()
    }

    /// The bytes of each value.
    fn sizes(&self, inputs: Vec<Tensor>) -> Result<BTreeMap<ValueId, u64>, Error> {
        check(&self.graph, &inputs)?;
        let mut bytes = BTreeMap::new();
        for (input, tensor) in self.graph.inputs().iter().zip(&inputs) {
            bytes.insert(input.value, tensor.data().bytes() as u64);
        }
        let mut observe = |value: ValueId, tensor: &Tensor| {
            bytes.insert(value, tensor.data().bytes() as u64);
        };
        let values = self.start(inputs);
        let mut way = Way { values, saved: None, observe: Some(&mut observe), meter: Meter::default(), macs: 0 };
        self.run(0..self.graph.nodes().len(), &mut way)?;
        self.clear(&mut way);
        Ok(bytes)
    }

    /// For each segment the values made before it that it takes.
    fn entries_of(&self, bounds: &[usize]) -> Vec<Vec<ValueId>> {
        let segment = |range: &[usize]| {
            let nodes = &self.graph.nodes()[range[0]..range[1]];
            let made: BTreeSet<ValueId> =
                nodes.iter().flat_map(|node| node.outputs.iter().flatten().copied()).collect();
            let taken: BTreeSet<ValueId> =
                nodes.iter().flat_map(|node| node.inputs.iter().flatten().copied()).collect();
            let from_before = |value: &ValueId| !made.contains(value) && self.graph.constant(*value).is_none();
            taken.into_iter().filter(from_before).collect()
        };
        bounds.windows(2).map(segment).collect()
    }

    /// The most bytes that are held at any time, rather too many than too few.
    fn most(&self, bounds: &[usize], entries: &[Vec<ValueId>], bytes: &BTreeMap<ValueId, u64>) -> u64 {
        let size = |value: &ValueId| bytes.get(value).copied().unwrap_or(0);
        let spans = self.spans();
        // Values that are there while a node runs, and gradients that are there while it is taken back.
        let alive =
            |at: usize| spans.iter().filter(move |(_, [from, to])| *from <= at && at <= *to).map(|(value, _)| *value);
        let gradients =
            |at: usize| -> u64 { alive(at).filter(|value| self.needs[value.index()]).map(|value| size(&value)).sum() };
        let of_weights = self.gradients_of_weights();
        let inputs: u64 = self.graph.inputs().iter().map(|input| size(&input.value)).sum();
        let mut most = 0;
        let mut before: BTreeSet<ValueId> = self.graph.inputs().iter().map(|input| input.value).collect();
        let mut held = inputs;
        for (segment, entries) in bounds.windows(2).zip(entries) {
            held += entries.iter().filter(|value| before.insert(**value)).map(size).sum::<u64>();
            let after = gradients(segment[1]) + of_weights[segment[1]];
            let mut kept: BTreeSet<ValueId> = BTreeSet::new();
            let mut all = 0u64;
            for (at, weights) in of_weights.iter().enumerate().take(segment[1]).skip(segment[0]) {
                for value in self.kept_values(at) {
                    if kept.insert(value) && !before.contains(&value) {
                        all += size(&value);
                    }
                }
                let own = alive(at).filter(|value| !before.contains(value) && !kept.contains(value));
                let own: u64 = own.map(|value| size(&value)).sum();
                // Computed once more, then taken back.
                most = most.max(held + all + (own + after).max(gradients(at) + weights));
            }
        }
        most
    }

    /// For each node the bytes of the gradients of weights that there are once it is taken back, and none behind the last.
    fn gradients_of_weights(&self) -> Vec<u64> {
        let nodes = self.graph.nodes();
        let mut bytes = vec![0; nodes.len() + 1];
        for weight in &self.wanted {
            let last = nodes.iter().rposition(|node| node.inputs.contains(&Some(*weight)));
            if let (Some(last), Some(tensor)) = (last, self.graph.constant(*weight)) {
                bytes[..=last].iter_mut().for_each(|sum| *sum += tensor.data().bytes() as u64);
            }
        }
        bytes
    }

    /// From which node to which each value is there; inputs aside.
    fn spans(&self) -> Vec<(ValueId, [usize; 2])> {
        let nodes = self.graph.nodes();
        let mut spans: BTreeMap<ValueId, [usize; 2]> = BTreeMap::new();
        for (at, node) in nodes.iter().enumerate() {
            for value in node.outputs.iter().flatten() {
                spans.insert(*value, [at, at]);
            }
            for value in node.inputs.iter().flatten() {
                if let Some([_, to]) = spans.get_mut(value) {
                    *to = at;
                }
            }
        }
        for value in self.graph.outputs() {
            if let Some([_, to]) = spans.get_mut(value) {
                *to = nodes.len();
            }
        }
        spans.into_iter().collect()
    }

    /// The values that are kept of one node.
    fn kept_values(&self, at: usize) -> Vec<ValueId> {
        let (Some(keeps), node) = (self.keeps[at], &self.graph.nodes()[at]) else { return Vec::new() };
        let inputs = node.inputs.iter().enumerate().filter(|(nth, _)| keeps.has_input(*nth));
        let outputs = node.outputs.iter().enumerate().filter(|(nth, _)| keeps.has_output(*nth));
        inputs.chain(outputs).filter_map(|(_, value)| *value).collect()
    }
}

/// Cuts nodes into `count` segments that keep about as much each.
fn cut(kept: &[u64], count: usize) -> Vec<usize> {
    let all: u64 = kept.iter().sum();
    let mut bounds = vec![0];
    let (mut sum, mut next) = (0u64, 1u64);
    for (at, bytes) in kept.iter().enumerate() {
        sum += bytes;
        if sum.saturating_mul(count as u64) >= all.saturating_mul(next) && next < count as u64 {
            bounds.push(at + 1);
            while next < count as u64 && sum.saturating_mul(count as u64) >= all.saturating_mul(next) {
                next += 1;
            }
        }
    }
    if bounds.last() != Some(&kept.len()) {
        bounds.push(kept.len());
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cover_all_nodes() {
        for kept in [vec![], vec![0, 0, 0], vec![5, 0, 5, 0, 5], vec![100, 1, 1, 1], vec![1; 17]] {
            for count in 1..=kept.len().max(1) {
                let bounds = cut(&kept, count);
                assert_eq!((bounds[0], *bounds.last().expect("never empty")), (0, kept.len()));
                assert!(
                    bounds.len() <= count + 1 && bounds.windows(2).all(|pair| pair[0] < pair[1] || kept.is_empty())
                );
            }
        }
    }
}
