//! Makes one node of several, where nobody looks at what is between them.
//!
//! ```text
//! Conv, BatchNormalization      weights and bias take the scale and the shift
//! Conv, Add                     the sum is made before the output is stored
//! Conv, Relu or Clip            likewise
//! ```
//!
//! A normalization is folded in f64: results differ from those of the nodes by rounding.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Error;
use crate::graph::{Graph, ValueId};
use crate::operator::Operator;
use crate::ops::binary::{Binary, Operation};
use crate::ops::conv::Conv;
use crate::ops::normalize::BatchNormalization;
use crate::ops::select::Clip;
use crate::ops::unary::Relu;
use crate::tensor::Tensor;

/// An operator as one of a type.
fn as_a<T: Operator>(op: &Arc<dyn Operator>) -> Option<&T> {
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

    /// The nodes that take each value, a result counting as one more.
    fn users(&self) -> BTreeMap<ValueId, Vec<usize>> {
        let mut users: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
        for (at, node) in self.nodes().iter().enumerate() {
            node.inputs.iter().flatten().for_each(|value| users.entry(*value).or_default().push(at));
        }
        for output in self.outputs() {
            users.entry(*output).or_default().push(usize::MAX);
        }
        users
    }

    /// The node that takes what a node makes, where it is the only one and takes it once.
    fn only_user(&self, at: usize, users: &BTreeMap<ValueId, Vec<usize>>) -> Option<usize> {
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
            return conv.is_plain() && self.fold_norm(at, next, norm.epsilon);
        } else if as_a::<Relu>(&user.op).is_some() {
            conv.clipped(0.0, f32::INFINITY)
        } else if let Some(clip) = as_a::<Clip>(&user.op) {
            let end = |input: usize, own: Option<f32>| match user.inputs.get(input).copied().flatten() {
                None => Some(own),
                Some(value) => self.constant(value).and_then(|end| end.get::<f32>()?.first().copied()).map(Some),
            };
            match (end(1, clip.low), end(2, clip.high)) {
                (Some(low), Some(high)) => {
                    conv.clipped(low.unwrap_or(f32::NEG_INFINITY), high.unwrap_or(f32::INFINITY))
                }
                _ => None,
            }
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
    fn depends(&self, value: ValueId, at: usize) -> bool {
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
