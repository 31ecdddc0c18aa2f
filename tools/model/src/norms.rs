//! How the batch normalizations of a graph behave while it trains.

use std::any::Any;
use std::sync::Arc;

use crate::graph::{Graph, ValueId};
use crate::ops::normalize::BatchNormalization;

/// A running statistic: the weight that holds it, and the value that a step makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// The weight.
    pub weight: ValueId,
    /// What takes its place after a step, where the batch's statistics are used.
    pub next: Option<ValueId>,
}

impl Graph {
    /// Lets every batch normalization use the statistics of the batch, and make running ones of which `momentum` stays;
    /// or, where there is none, those that are there, which stay as they are, also in a graph that was exported to train.
    /// All running statistics are said; what steps make of them are results of the graph, behind those that it has.
    pub fn norms(&mut self, momentum: Option<f32>) -> Vec<Running> {
        let mut all = Vec::new();
        for at in 0..self.nodes().len() {
            let op: &dyn Any = &*self.nodes()[at].op;
            let Some(norm) = op.downcast_ref::<BatchNormalization>().copied() else { continue };
            self.node_mut(at).op = Arc::new(BatchNormalization { training: momentum, ..norm });
            if momentum.is_none() {
                self.node_mut(at).outputs.truncate(1);
            }
            let name = self.nodes()[at].name.clone();
            let statistics = [(3, 1, "mean"), (4, 2, "variance")];
            for (input, output, what) in statistics {
                let Some(weight) = self.nodes()[at].inputs.get(input).copied().flatten() else { continue };
                if self.constant(weight).is_none() {
                    continue;
                }
                let next = momentum.map(|_| {
                    let next = self.value(format!("{name}/{what}"));
                    let outputs = &mut self.node_mut(at).outputs;
                    outputs.resize(outputs.len().max(3), None);
                    outputs[output] = Some(next);
                    self.output(next);
                    next
                });
                all.push(Running { weight, next });
            }
        }
        all
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::tensor::Tensor;
    use crate::{Executor, Run};

    #[test]
    fn statistics_run_or_stay() {
        let mut graph = Graph::default();
        let x = graph.input("x", None, None);
        let of = |graph: &mut Graph, name: &str, x: f32| graph.weight(name, Tensor::vector(vec![x]));
        let all = [("scale", 1.0), ("bias", 0.0), ("mean", 0.0), ("variance", 1.0)].map(|(n, x)| of(&mut graph, n, x));
        let op = BatchNormalization { epsilon: 0.0, training: None };
        let y = graph.node("norm", op, &[x, all[0], all[1], all[2], all[3]]);
        graph.output(y);
        let mut trains = graph.clone();
        let running = trains.norms(Some(0.9));
        assert_eq!(running.iter().map(|one| one.weight).collect::<Vec<_>>(), [all[2], all[3]]);
        let input = || vec![Tensor::of([2, 1], vec![1.0f32, 3.0]).unwrap()];
        let made = Executor::new(trains.clone()).unwrap().run(input(), Run::default()).unwrap().outputs;
        let of = |at: usize| made[at].get::<f32>().unwrap().to_vec();
        assert_eq!(of(0), [-1.0, 1.0]);
        assert!((of(1)[0] - 0.2).abs() < 1e-6 && (of(2)[0] - 1.0).abs() < 1e-6);
        let mut exported = graph.clone();
        let more = [exported.value("mean'"), exported.value("variance'")].map(Some);
        exported.node_mut(0).op = Arc::new(BatchNormalization { epsilon: 0.0, training: Some(0.9) });
        exported.node_mut(0).outputs.extend(more);
        exported.norms(None);
        let made = Executor::new(exported).unwrap().run(input(), Run::default()).unwrap().outputs;
        assert_eq!(made[0].get::<f32>().unwrap(), [1.0, 3.0], "a graph that was exported to train");
        let frozen = graph.norms(None);
        assert!(frozen.iter().all(|one| one.next.is_none()));
        let made = Executor::new(graph).unwrap().run(input(), Run::default()).unwrap().outputs;
        assert_eq!(made[0].get::<f32>().unwrap(), [1.0, 3.0]);
    }
}
