//! Makes one node of several, where nobody looks at what is between them.
//!
//! ```text
//! Conv, BatchNormalization      weights and bias take the scale and the shift
//! Conv, Add                     the sum is made before the output is stored
//! Conv, Relu or Clip            likewise
//! Div, Erf, Add, Mul, Mul       x (1 + erf(x / √2)) / 2, as exporters write Gelu
//! ```
//!
//! A normalization is folded in f64: results differ from those of the nodes by rounding.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Error;
use crate::graph::{Graph, Node, ValueId};
use crate::operator::Operator;
use crate::ops::binary::{Binary, Operation};
use crate::ops::conv::Conv;
use crate::ops::normalize::BatchNormalization;
use crate::ops::select::Clip;
use crate::ops::unary::{Function, Relu, Unary};
use crate::tensor::Tensor;

/// Whether a constant is a number, as single floats round it.
fn near(found: f32, number: f32) -> bool {
    (found - number).abs() <= 1e-6
}

/// An operator as one of a type.
pub(crate) fn as_a<T: Operator>(op: &Arc<dyn Operator>) -> Option<&T> {
    let op: &dyn Any = &**op;
    op.downcast_ref()
}

impl Graph {
    /// Fuses all that can be, for running forward. The graph is sorted then.
    ///
    /// # Errors
    ///
    /// Those of [`sort`](Self::sort).
    pub fn fuse(&mut self) -> Result<(), Error> {
        self.sort()?;
        self.gelus();
        self.sort()?;
        let mut gone = vec![false; self.nodes().len()];
        for at in 0..self.nodes().len() {
            if as_a::<Conv>(&self.nodes()[at].op).is_none() {
                continue;
            }
            let users = self.users();
            while let Some(next) = self.only_user(at, &users) {
                if gone[next] || !self.absorb(at, next) {
                    break;
                }
                gone[next] = true;
                // What the next node made is now made by this one.
                let outputs = self.nodes()[next].outputs.clone();
                self.node_mut(at).outputs = outputs;
            }
        }
        let keep: Vec<bool> = gone.iter().map(|gone| !gone).collect();
        self.keep_nodes(&keep);
        self.sort()
    }

    /// Gives the weights of convolutions the normalizations over fixed statistics that alone take what they make. The graph is
    /// sorted then.
    ///
    /// # Errors
    ///
    /// Those of [`sort`](Self::sort).
    pub fn fold_norms(&mut self) -> Result<(), Error> {
        self.sort()?;
        let users = self.users();
        let mut gone = vec![false; self.nodes().len()];
        for at in 0..self.nodes().len() {
            let plain = as_a::<Conv>(&self.nodes()[at].op).is_some_and(Conv::is_plain);
            let Some(next) = self.only_user(at, &users).filter(|_| plain) else { continue };
            let norm = as_a::<BatchNormalization>(&self.nodes()[next].op).filter(|norm| norm.training.is_none());
            let Some(epsilon) = norm.map(|norm| norm.epsilon) else { continue };
            if self.fold_norm(at, next, epsilon) {
                gone[next] = true;
                self.node_mut(at).outputs = self.nodes()[next].outputs.clone();
            }
        }
        let keep: Vec<bool> = gone.iter().map(|gone| !gone).collect();
        self.keep_nodes(&keep);
        self.sort()
    }

    /// Makes one node of those that exporters write for Gelu; the last of them computes it, and nothing needs the
    /// others.
    fn gelus(&mut self) {
        let users = self.users();
        let mut makers: BTreeMap<ValueId, usize> = BTreeMap::new();
        for (at, node) in self.nodes().iter().enumerate() {
            makers.extend(node.outputs.iter().flatten().map(|value| (*value, at)));
        }
        for at in 0..self.nodes().len() {
            let is_erf = |op| matches!(as_a::<Unary>(op), Some(Unary { function: Function::Erf, .. }));
            if is_erf(&self.nodes()[at].op)
                && let Some((x, last)) = self.gelu_around(at, &users, &makers)
            {
                let node = self.node_mut(last);
                node.op = Arc::new(Unary { function: Function::Gelu, parameters: [0.0; 2] });
                node.inputs = vec![Some(x)];
            }
        }
    }

    /// What goes into a Gelu of which node `erf` is a part, and the node that makes its result.
    fn gelu_around(
        &self,
        erf: usize,
        users: &BTreeMap<ValueId, Vec<usize>>,
        makers: &BTreeMap<ValueId, usize>,
    ) -> Option<(ValueId, usize)> {
        let inner = self.nodes()[erf].inputs.first().copied().flatten()?;
        let scaled = *makers.get(&inner)?;
        let x = match self.by_number(scaled)? {
            (Operation::Div, x, by) if near(by, std::f32::consts::SQRT_2) => x,
            (Operation::Mul, x, by) if near(by, std::f32::consts::FRAC_1_SQRT_2) => x,
            _ => return None,
        };
        let sum = self.only_user(erf, users)?;
        let (Operation::Add, _, by) = self.by_number(sum)? else { return None };
        let product = self.only_user(sum, users).filter(|_| near(by, 1.0))?;
        let halves = |node: usize| {
            self.by_number(node).filter(|(operation, _, by)| *operation == Operation::Mul && near(*by, 0.5))
        };
        if !matches!(as_a::<Binary>(&self.nodes()[product].op), Some(Binary { operation: Operation::Mul })) {
            return None;
        }
        let takes = |node: usize, value: ValueId| self.nodes()[node].inputs.contains(&Some(value));
        if takes(product, x) {
            // (1 + erf) x, halved.
            return self.only_user(product, users).filter(|last| halves(*last).is_some()).map(|last| (x, last));
        }
        if halves(product).is_some() {
            // (1 + erf) / 2, times x.
            let last = self.only_user(product, users)?;
            let times = matches!(as_a::<Binary>(&self.nodes()[last].op), Some(Binary { operation: Operation::Mul }));
            return (times && takes(last, x)).then_some((x, last));
        }
        // (1 + erf) times x / 2.
        let half = |value: &ValueId| makers.get(value).is_some_and(|at| halves(*at).is_some_and(|(_, of, _)| of == x));
        self.nodes()[product].inputs.iter().flatten().any(half).then_some((x, product))
    }

    /// The arithmetic of a node of a value and one constant number: what, the value, the number. For what is not
    /// symmetric the number is on the right.
    fn by_number(&self, at: usize) -> Option<(Operation, ValueId, f32)> {
        let node = &self.nodes()[at];
        let Binary { operation } = *as_a::<Binary>(&node.op)?;
        let [Some(a), Some(b)] = node.inputs[..] else { return None };
        let number = |value: ValueId| match self.constant(value)?.get::<f32>()? {
            [one] => Some(*one),
            _ => None,
        };
        match (number(a), number(b)) {
            (None, Some(by)) => Some((operation, a, by)),
            (Some(by), None) if matches!(operation, Operation::Add | Operation::Mul) => Some((operation, b, by)),
            _ => None,
        }
    }

    /// The fixed numbers between which a node keeps what it takes, where it does that alone.
    pub fn clamp(&self, node: &Node) -> Option<(f32, f32)> {
        if as_a::<Relu>(&node.op).is_some() {
            return Some((0.0, f32::INFINITY));
        }
        let clip = as_a::<Clip>(&node.op)?;
        let end = |input: usize, own: Option<f32>| match node.inputs.get(input).copied().flatten() {
            None => Some(own),
            Some(value) => Some(self.constant(value)?.get::<f32>()?.first().copied()).filter(Option::is_some),
        };
        let (low, high) = (end(1, clip.low)?, end(2, clip.high)?);
        Some((low.unwrap_or(f32::NEG_INFINITY), high.unwrap_or(f32::INFINITY)))
    }

    /// The node that takes what a node makes, where it is the only one and takes it once.
    pub(crate) fn only_user(&self, at: usize, users: &BTreeMap<ValueId, Vec<usize>>) -> Option<usize> {
        let [Some(output)] = self.nodes()[at].outputs[..] else { return None };
        match users.get(&output).map(Vec::as_slice) {
            Some([user]) if *user != usize::MAX => Some(*user),
            _ => None,
        }
    }

    /// Makes the convolution `at` do what the node `next`, which alone takes its output, does; whether
    /// it can.
    fn absorb(&mut self, at: usize, next: usize) -> bool {
        let (node, user) = (&self.nodes()[at], &self.nodes()[next]);
        let Some(conv) = as_a::<Conv>(&node.op) else { return false };
        let fused = if let Some(norm) = as_a::<BatchNormalization>(&user.op) {
            return conv.is_plain() && norm.training.is_none() && self.fold_norm(at, next, norm.epsilon);
        } else if let Some((low, high)) = self.clamp(user) {
            conv.clipped(low, high)
        } else if matches!(as_a::<Binary>(&user.op), Some(Binary { operation: Operation::Add })) {
            let own = node.outputs[0];
            let other = user.inputs.iter().flatten().copied().find(|value| Some(*value) != own);
            let Some((other, fused)) = other.zip(conv.adding()) else { return false };
            if self.constant(other).is_some() || self.depends(other, at) {
                return false;
            }
            let mut inputs = node.inputs.clone();
            inputs.resize(3, None);
            inputs.push(Some(other));
            let node = self.node_mut(at);
            (node.inputs, node.op) = (inputs, Arc::new(fused));
            return true;
        } else {
            None
        };
        let Some(fused) = fused else { return false };
        self.node_mut(at).op = Arc::new(fused);
        true
    }

    /// Whether a value is made from what node `at` makes.
    pub(crate) fn depends(&self, value: ValueId, at: usize) -> bool {
        let made_by = |value: ValueId| self.nodes().iter().position(|node| node.outputs.contains(&Some(value)));
        let mut seen = vec![false; self.nodes().len()];
        let mut stack: Vec<usize> = made_by(value).into_iter().collect();
        while let Some(node) = stack.pop() {
            if node == at {
                return true;
            }
            if !std::mem::replace(&mut seen[node], true) {
                stack.extend(self.nodes()[node].inputs.iter().flatten().filter_map(|value| made_by(*value)));
            }
        }
        false
    }

    /// Gives the weights and the bias of a convolution the scale and the shift of a normalization
    /// over fixed statistics.
    fn fold_norm(&mut self, at: usize, next: usize, epsilon: f32) -> bool {
        let (node, norm) = (&self.nodes()[at], &self.nodes()[next]);
        let constant = |value: Option<&Option<ValueId>>| self.constant(value.copied().flatten()?);
        let numbers = |place: usize| constant(norm.inputs.get(place))?.get::<f32>();
        let (Some(weight), [Some(scale), Some(shift), Some(mean), Some(var)]) =
            (constant(node.inputs.get(1)), [1, 2, 3, 4].map(numbers))
        else {
            return false;
        };
        let (Some(weights), channels) = (weight.get::<f32>(), scale.len()) else { return false };
        let bias = node.inputs.get(2).copied().flatten();
        let bias = match bias {
            Some(value) => match self.constant(value).and_then(Tensor::get::<f32>) {
                Some(bias) => bias.to_vec(),
                None => return false,
            },
            None => vec![0.0; channels],
        };
        let lens = [shift.len(), mean.len(), var.len(), bias.len(), weight.shape().first().copied().unwrap_or(0)];
        if channels == 0 || lens.iter().any(|len| *len != channels) {
            return false;
        }
        let factors: Vec<f64> =
            (0..channels).map(|c| f64::from(scale[c]) / (f64::from(var[c]) + f64::from(epsilon)).sqrt()).collect();
        let each = weights.len() / channels;
        let folded: Vec<f32> =
            weights.iter().enumerate().map(|(nth, w)| (f64::from(*w) * factors[nth / each]) as f32).collect();
        let bias: Vec<f32> = (0..channels)
            .map(|c| ((f64::from(bias[c]) - f64::from(mean[c])) * factors[c] + f64::from(shift[c])) as f32)
            .collect();
        let Some(folded) = Tensor::of(weight.shape(), folded) else { return false };
        let name = node.name.clone();
        let weight = self.weight(format!("{name}/weight"), folded);
        let bias = self.weight(format!("{name}/bias"), Tensor::vector(bias));
        let node = self.node_mut(at);
        node.inputs.truncate(1);
        node.inputs.extend([Some(weight), Some(bias)]);
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::{Executor, Run};

    /// Gelu in the words of exporters.
    fn written(way: usize, half: f32) -> Graph {
        let mut graph = Graph::default();
        let x = graph.input("x", None, None);
        let number = |graph: &mut Graph, x: f32| graph.weight("c", Tensor::scalar(x));
        let [root, one, half] = [std::f32::consts::SQRT_2, 1.0, half].map(|x| number(&mut graph, x));
        let binary = |graph: &mut Graph, operation, a, b| graph.node("n", Binary { operation }, &[a, b]);
        let scaled = binary(&mut graph, Operation::Div, x, root);
        let erf = graph.node("erf", Unary { function: Function::Erf, parameters: [0.0; 2] }, &[scaled]);
        let sum = binary(&mut graph, Operation::Add, one, erf);
        let [a, b] = match way {
            0 => [binary(&mut graph, Operation::Mul, x, sum), half],
            1 => [binary(&mut graph, Operation::Mul, sum, half), x],
            _ => [sum, binary(&mut graph, Operation::Mul, x, half)],
        };
        let y = binary(&mut graph, Operation::Mul, a, b);
        graph.output(y);
        graph
    }

    #[test]
    fn gelu_is_one_node_however_it_is_written() {
        let x = || vec![Tensor::vector(vec![-3.0f32, -0.5, 0.0, 1.0, 4.0])];
        for way in 0..3 {
            let plain = Executor::new(written(way, 0.5)).unwrap().run(x(), Run::default()).unwrap().outputs.remove(0);
            let mut graph = written(way, 0.5);
            graph.fuse().unwrap();
            assert_eq!(graph.nodes().len(), 1, "way {way}");
            let fused = Executor::new(graph).unwrap().run(x(), Run::default()).unwrap().outputs.remove(0);
            for (a, b) in plain.get::<f32>().unwrap().iter().zip(fused.get::<f32>().unwrap()) {
                // Five roundings, of numbers of at most 4.
                assert!((a - b).abs() <= 5.0 * 4.0 * f32::EPSILON, "way {way}: {a}, {b}");
            }
            let mut other = written(way, 0.25);
            other.fuse().unwrap();
            assert!(other.nodes().len() > 1, "way {way}: a quarter is no half");
        }
    }

    #[test]
    fn normalizations_by_the_batch_are_not_folded() {
        use crate::attributes::{Attribute, Definition};
        for (training, nodes) in [(None, 1), (Some(0.9), 2)] {
            let mut graph = Graph::default();
            let x = graph.input("x", None, None);
            let w = graph.weight("w", Tensor::of([1, 1, 1, 1], vec![2.0f32]).unwrap());
            let conv = Definition { op: "Conv".into(), opset: 17, inputs: 2, outputs: 1, ..Definition::default() };
            let conv = Definition { attributes: [("group".to_owned(), Attribute::Int(1))].into(), ..conv };
            let op = crate::ops::build(&conv).unwrap().unwrap();
            let y = graph.value("y");
            graph.push(crate::Node { name: "y".into(), op, inputs: vec![Some(x), Some(w)], outputs: vec![Some(y)] });
            let all = [1.0, 0.0, 0.0, 1.0].map(|x| graph.weight("c", Tensor::vector(vec![x as f32])));
            let norm = BatchNormalization { epsilon: 0.0, training };
            let z = graph.node("z", norm, &[y, all[0], all[1], all[2], all[3]]);
            graph.output(z);
            graph.fuse().unwrap();
            assert_eq!(graph.nodes().len(), nodes, "{training:?}");
        }
    }
}
