//! Dimensions in another order.

use super::bits::{Bits, moved, tensor};
use super::view::{View, signed};
use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::strides;
use crate::ops::{Built, some};
use crate::reverse::{Keeps, Pass, Pullback, Reverse};
use crate::tensor::Tensor;

/// Dimensions in another order.
#[derive(Clone, Debug)]
pub(crate) struct Transpose {
    /// For each dimension of the result the input's; none for the reverse order.
    pub(crate) order: Option<Vec<usize>>,
}

pub(super) fn build(definition: &Definition) -> Built {
    match definition.op.as_str() {
        "Transpose" => some(Transpose { order: definition.sizes("perm")? }),
        _ => Ok(None),
    }
}

impl Operator for Transpose {
    fn name(&self) -> &'static str {
        "Transpose"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let input = inputs.take(0)?;
        let order = match &self.order {
            Some(order) => order.clone(),
            None => (0..input.rank()).rev().collect(),
        };
        let mut all = order.clone();
        all.sort_unstable();
        if !all.into_iter().eq(0..input.rank()) {
            return Err(Fault::shape(format!("order {order:?} of {}", dims(input.shape())), "each dimension once"));
        }
        transposed(input, &order, context).map(|tensor| vec![tensor])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

/// A tensor with its dimensions in another order, in which each is once.
pub(super) fn transposed(input: Tensor, order: &[usize], context: &Context<'_>) -> Result<Tensor, Fault> {
    let shape: Vec<usize> = order.iter().map(|from| input.shape()[*from]).collect();
    // Where only dimensions of size 1 change places, nothing moves.
    let long: Vec<usize> = order.iter().copied().filter(|from| input.shape()[*from] != 1).collect();
    if long.is_sorted() {
        return tensor(shape, input.into_data());
    }
    let own = signed(&strides(input.shape()));
    let apart: Vec<isize> = order.iter().map(|from| own[*from]).collect();
    let view = View::new(&shape, &apart, 0);
    let data = moved!(input.data(), x => {
        let mut out = Bits::room(context, &shape)?;
        view.copy(x, &mut out);
        out
    });
    tensor(shape, data)
}

impl Pullback for Transpose {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let gradient = pass.take_gradient(0)?;
        let rank = gradient.rank();
        let mut back = vec![0; rank];
        for at in 0..rank {
            let from = self.order.as_ref().map_or(rank - 1 - at, |order| order[at]);
            back[from] = at;
        }
        transposed(gradient, &back, context).map(|gradient| vec![Some(gradient)])
    }
}

#[cfg(test)]
mod tests {
    use super::Transpose;
    use crate::reverse::check::{gradients, random};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for order in [None, Some(vec![1, 2, 0]), Some(vec![2, 0, 1]), Some(vec![0, 2, 1])] {
            gradients(&Transpose { order }, &[random(&[2, 3, 4], 1)], &[0]);
        }
    }
}
