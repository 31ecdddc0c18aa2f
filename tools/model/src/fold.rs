//! Computes ahead what never changes.

use crate::error::Error;
use crate::graph::{Graph, ValueId};
use crate::operator::{Context, Inputs, Pool};

/// The largest value that is computed ahead, unless what it is made of is larger.
const MOST: usize = 1 << 20;

impl Graph {
    /// Replaces the nodes whose inputs never change by what they make, unless that takes more room
    /// than it saves. The graph is sorted then.
    ///
    /// # Errors
    ///
    /// Those of [`sort`](Self::sort), and of the nodes.
    pub fn fold(&mut self) -> Result<(), Error> {
        self.fold_around(&[])
    }

    /// The same, where these weights may change.
    ///
    /// # Errors
    ///
    /// Those of [`fold`](Self::fold).
    pub fn fold_around(&mut self, changing: &[ValueId]) -> Result<(), Error> {
        self.sort()?;
        let pool = Pool::default();
        for at in 0..self.nodes().len() {
            let node = self.nodes()[at].clone();
            let fixed = |value: ValueId| self.constant(value).filter(|_| !changing.contains(&value));
            let inputs: Vec<_> = node.inputs.iter().map(|value| value.map(fixed)).collect();
            if !node.op.is_pure() || inputs.iter().any(|input| matches!(input, Some(None))) {
                continue;
            }
            let inputs: Vec<_> = inputs.into_iter().map(|input| input.flatten().cloned()).collect();
            let bytes: usize = inputs.iter().flatten().map(|input| input.data().bytes()).sum();
            let limit = bytes.max(MOST) as u64;
            let Ok(outputs) = node.op.run(&mut Inputs::new(inputs), &Context::new(limit, &pool)) else {
                // Too large, or wrong: whoever runs it is told.
                continue;
            };
            for (value, tensor) in node.outputs.iter().zip(outputs) {
                if let Some(value) = value {
                    self.set_weight(*value, tensor);
                }
            }
        }
        let known = |graph: &Self, at: usize| {
            graph.nodes()[at].outputs.iter().flatten().all(|value| graph.constant(*value).is_some())
        };
        let keep: Vec<bool> = (0..self.nodes().len()).map(|at| !known(self, at)).collect();
        self.keep_nodes(&keep);
        self.sort()
    }
}

#[cfg(test)]
mod tests {
    use crate::graph::Graph;
    use crate::ops::unary::Relu;
    use crate::{Executor, Run, Tensor};

    #[test]
    fn what_never_changes_is_computed_ahead() {
        let mut graph = Graph::default();
        let w = graph.weight("w", Tensor::vector(vec![-1.0f32, 3.0]));
        let a = graph.node("a", Relu, &[w]);
        let x = graph.input("x", None, None);
        let y = graph.node("y", Relu, &[x]);
        graph.output(a);
        graph.output(y);
        graph.fold().unwrap();
        assert_eq!(graph.nodes().len(), 1);
        assert_eq!(graph.constant(a).unwrap().get::<f32>().unwrap(), [0.0, 3.0]);
        assert!(graph.constant(w).is_none(), "nothing needs it");
        let outcome = Executor::new(graph).unwrap().run(vec![Tensor::scalar(-2.0f32)], Run::default()).unwrap();
        assert_eq!(outcome.outputs[0].get::<f32>().unwrap(), [0.0, 3.0]);
    }
}
