//! The way back.

use super::{Back, Forward, Meter, Saved, Tape, Way};
use crate::error::Error;
use crate::execute::place;
use crate::fault::{Fault, dims};
use crate::graph::ValueId;
use crate::kernels::{lanes, parts};
use crate::operator::Context;
use crate::reverse::{Pass, Reverse};
use crate::tensor::{Data, Tensor};

impl Tape {
    /// Takes gradients of the outputs back; those that are none count as 0.
    ///
    /// # Errors
    ///
    /// Gradients of other shapes than the outputs, and whatever a node refuses.
    pub fn backward(&self, forward: Forward, outputs: Vec<Option<Tensor>>) -> Result<Back, Error> {
        let Forward { outputs: results, saved, entries, meter, .. } = forward;
        drop(results);
        let mut way = Way { values: Vec::new(), saved: Some(saved), observe: None, meter, macs: 0 };
        let mut gradients: Vec<Option<Tensor>> = vec![None; self.graph.values()];
        for (value, gradient) in self.graph.outputs().iter().zip(outputs) {
            let Some(gradient) = gradient.filter(|_| self.needs[value.index()]) else { continue };
            self.add(&mut gradients[value.index()], gradient, &mut way.meter)?;
        }
        let mut found: Vec<Option<Tensor>> = vec![None; self.wanted.len()];
        for (nth, kept) in entries.into_iter().enumerate().rev() {
            let nodes = self.bounds[nth]..self.bounds[nth + 1];
            if nth + 1 < self.entries.len() {
                // Held since the way there.
                way.values = vec![None; self.graph.values()];
                for (value, tensor) in self.entries[nth].iter().zip(kept) {
                    way.values[value.index()] = Some(tensor);
                }
                self.run(nodes.clone(), &mut way)?;
                self.clear(&mut way);
            }
            for at in nodes.rev() {
                let saved = way.saved.as_mut().and_then(|saved| saved[at].take());
                self.pull(at, saved, (&mut gradients, &mut found), &mut way.meter)?;
            }
        }
        for (value, found) in self.wanted.iter().zip(&mut found) {
            if found.is_none() {
                *found = gradients[value.index()].take();
            }
        }
        Ok(Back { gradients: found, peak_bytes: way.meter.peak() })
    }

    /// Takes gradients back through one node.
    fn pull(
        &self,
        at: usize,
        saved: Option<Saved>,
        (gradients, found): (&mut [Option<Tensor>], &mut [Option<Tensor>]),
        meter: &mut Meter,
    ) -> Result<(), Error> {
        let (node, op) = (&self.graph.nodes()[at], &self.ready[at]);
        let Some(Saved { inputs, outputs }) = saved else { return Ok(()) };
        let Reverse::Flows(back) = op.reverse() else { return Ok(()) };
        let fail = |fault: Fault| Error::from(fault).of(&node.name);
        let mut own = Vec::with_capacity(outputs.len());
        for nth in 0..outputs.len() {
            let value = node.outputs.get(nth).copied().flatten();
            let gradient = value.and_then(|value| gradients[value.index()].take());
            if let (Some(value), Some(gradient)) = (value, &gradient)
                && let Some(nth) = self.wanted.iter().position(|wanted| *wanted == value)
            {
                meter.hold(gradient);
                found[nth] = Some(gradient.clone());
            }
            own.push(gradient);
        }
        let places: Vec<_> = own.iter().flatten().map(place).collect();
        let mut pass = Pass {
            wanted: node.inputs.iter().map(|v| v.is_some_and(|v| self.needs[v.index()])).collect(),
            inputs,
            outputs,
            gradients: own,
        };
        if !places.is_empty() {
            let context = Context::new(self.limit, &self.pool);
            let made = back.pull(&mut pass, &context).map_err(fail)?;
            for (nth, gradient) in made.into_iter().enumerate() {
                let value = node.inputs.get(nth).copied().flatten().filter(|value| self.needs[value.index()]);
                let (Some(value), Some(gradient)) = (value, gradient) else { continue };
                if pass.shape(nth).is_ok_and(|shape| shape != gradient.shape()) {
                    let needs = pass.shape(nth).map(dims).map_err(fail)?;
                    let wrong =
                        Fault::shape(format!("a gradient of {} for input {nth}", dims(gradient.shape())), needs);
                    return Err(fail(wrong));
                }
                self.add(&mut gradients[value.index()], gradient, meter).map_err(|e| e.of(&node.name))?;
            }
        }
        places.into_iter().for_each(|place| meter.release_place(place));
        pass.gradients.into_iter().flatten().for_each(|tensor| self.pool.free(tensor));
        let constant = |value: &Option<ValueId>| value.is_some_and(|value| self.graph.constant(value).is_some());
        let of_inputs = node.inputs.iter().zip(pass.inputs).filter(|(value, _)| !constant(value));
        let of_inputs = of_inputs.filter_map(|(_, seen)| seen);
        for tensor in of_inputs.chain(pass.outputs).filter_map(|seen| seen.value) {
            meter.release(&tensor);
            self.pool.free(tensor);
        }
        Ok(())
    }

    /// Adds a gradient to what there is.
    fn add(&self, sum: &mut Option<Tensor>, gradient: Tensor, meter: &mut Meter) -> Result<(), Error> {
        let Some(sum) = sum else {
            meter.hold(&gradient);
            *sum = Some(gradient);
            return Ok(());
        };
        let before = place(sum);
        let (found, needs) = (dims(gradient.shape()), dims(sum.shape()));
        let shapes_fit = gradient.shape() == sum.shape();
        match (sum.data_mut(), gradient.data()) {
            (Data::F32(sum), Data::F32(more)) if shapes_fit => {
                let (level, more) = (niwaki_codes::simd::Level::best(), more.as_slice());
                parts::each(sum.to_mut(), 1, |at, sum| lanes::add(level, sum, &more[at..at + sum.len()]));
            }
            (Data::F64(sum), Data::F64(more)) if shapes_fit => {
                sum.to_mut().iter_mut().zip(more.as_slice()).for_each(|(sum, x)| *sum += x);
            }
            _ => return Err(Fault::shape(format!("a gradient of {found}"), format!("another of {needs}")).into()),
        }
        if place(sum) != before {
            meter.hold(sum);
            meter.release_place(before);
        }
        self.pool.free(gradient);
        Ok(())
    }
}
