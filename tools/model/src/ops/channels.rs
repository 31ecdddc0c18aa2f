//! Channels that are there or not, as numbers say it that were made from the input.
//!
//! ```text
//! P [N, C]    -> M = 1 where P > 0, else 0
//! y [N, C, ..]-> M y
//!
//! dy = M dM y                                         the way back keeps to the channels that are there
//! dP = weight / N (σ(P) - g)                          where it is said what P should tell: the slope of the cross entropy
//! ```
//!
//! What a mask lets through says nothing of P: of all that comes back, P has none. It learns from targets g alone
//! (Elkerdawy et al., *Fire Together Wire Together*, 2022), whose loss is no output of the graph.

use crate::fault::{Fault, dims};
use crate::kernels::parts;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::unary::own;
use crate::real::{Real, in_reals};
use crate::reverse::{Keeps, Pass, Pullback, Reverse};
use crate::tensor::{Data, Tensor};

/// Makes channels 0 whose number is not above 0. Inputs are y `[N, C, ..]`, the numbers P `[N, C]`, and, where P learns,
/// targets `[N, C]` between 0 and 1 and the weight of their loss, one number.
#[derive(Clone, Copy, Debug)]
pub struct ChannelGate;

/// The planes of images `[N, C, ..]` whose channels have numbers `[N, C]`: the elements of one.
pub(crate) fn plane(images: &[usize], numbers: &[usize]) -> Result<usize, Fault> {
    match (images, numbers) {
        ([n, c, image @ ..], [of_n, of_c]) if (n, c) == (of_n, of_c) => Ok(image.iter().product()),
        _ => {
            let found = format!("numbers {} for images {}", dims(numbers), dims(images));
            Err(Fault::shape(found, "one for each channel: [N, C] and [N, C, ..]"))
        }
    }
}

/// Makes planes 0 whose number is not above 0: also one that is no number.
fn gated<T: Real>(y: &mut [T], numbers: &[T], plane: usize) {
    parts::each(y, plane, |at, y| {
        for (y, number) in y.chunks_mut(plane.max(1)).zip(&numbers[at / plane.max(1)..]) {
            if number.partial_cmp(&T::ZERO) != Some(std::cmp::Ordering::Greater) {
                y.fill(T::ZERO);
            }
        }
    });
}

/// Gates a tensor of images in place.
fn gate(images: Tensor, numbers: &Tensor, plane: usize, context: &Context<'_>) -> Result<Tensor, Fault> {
    let mut images = own(images, context)?;
    let wrong = || Fault::dtype(1, numbers, "the type of the images");
    match images.data_mut() {
        Data::F32(y) => gated(y.to_mut(), numbers.get::<f32>().ok_or_else(wrong)?, plane),
        Data::F64(y) => gated(y.to_mut(), numbers.get::<f64>().ok_or_else(wrong)?, plane),
        _ => return Err(Fault::dtype(0, &images, "float or double")),
    }
    Ok(images)
}

impl Operator for ChannelGate {
    fn name(&self) -> &'static str {
        "ChannelGate"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let images = inputs.take(0)?;
        let numbers = inputs.get(1)?;
        let plane = plane(images.shape(), numbers.shape())?;
        Ok(vec![gate(images, numbers, plane, context)?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

/// What targets say of numbers.
fn slopes<T: Real>(pass: &Pass) -> Result<Tensor, Fault> {
    let (numbers, targets) = (pass.elements::<T>(1)?, pass.elements::<T>(2)?);
    let weight = pass.elements::<T>(3)?.first().map_or(0.0, |weight| weight.wide());
    if targets.len() != numbers.len() {
        return Err(Fault::shape(format!("{} targets", targets.len()), format!("{}", numbers.len())));
    }
    let share = weight / pass.shape(1)?.first().copied().unwrap_or(1).max(1) as f64;
    let slope = |(p, g): (&T, &T)| T::near(share * (1.0 / (1.0 + (-p.wide()).exp()) - g.wide()));
    pass.of_input(1, numbers.iter().zip(targets).map(slope).collect())
}

impl Pullback for ChannelGate {
    fn keeps(&self, wanted: &[bool]) -> Keeps {
        let learns = wanted.len() > 3 && wanted[1];
        Keeps::NOTHING.input(1).input_if(2, learns).input_if(3, learns)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let mut found = vec![None; pass.inputs()];
        if pass.wants(1) && pass.has(2) && pass.has(3) {
            found[1] = Some(in_reals!(pass.dtype(1)?, T => slopes::<T>(pass))?);
        }
        if pass.wants(0) {
            let plane = plane(pass.shape(0)?, pass.shape(1)?)?;
            let gradient = pass.take_gradient(0)?;
            found[0] = Some(gate(gradient, pass.input(1)?, plane, context)?);
        }
        Ok(found)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::operator::Pool;
    use crate::ops::linear::Linear;
    use crate::ops::pass::Detach;
    use crate::ops::pool::GlobalPool;
    use crate::ops::softmax::{Kind, Softmax};
    use crate::reverse::check::{gradients, numbers, random};
    use crate::tape::Tape;

    #[test]
    fn channels_of_numbers_above_zero_stay() {
        let y = Tensor::of([2, 2, 1, 2], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let p = Tensor::of([2, 2], vec![0.1f32, 0.0, f32::NAN, 3.0]);
        let pool = Pool::default();
        let run = |p| ChannelGate.run(&mut Inputs::new(vec![y.clone(), p]), &Context::new(1 << 20, &pool));
        assert_eq!(run(p).unwrap()[0].get::<f32>().unwrap(), [1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 7.0, 8.0]);
        let e = run(Tensor::of([2, 3], vec![0.0f32; 6])).unwrap_err();
        assert_eq!(
            e.to_string(),
            "numbers 2x3 for images 2x2x1x2, one for each channel: [N, C] and [N, C, ..] expected"
        );
    }

    #[test]
    fn gradients_of_images_are_those_of_finite_differences() {
        let p = random(&[2, 5], 3);
        gradients(&ChannelGate, &[random(&[2, 5, 3, 2], 1), p.clone()], &[0]);
        gradients(&ChannelGate, &[random(&[2, 5, 3, 2], 1), p, random(&[2, 5], 4), random(&[1], 2)], &[0]);
    }

    /// The cross entropy of targets, the mean over examples of the sum over channels.
    fn entropy(p: &[f64], g: &[f64], examples: f64) -> f64 {
        let of = |p: f64, g: f64| (1.0 + p.exp()).ln() - g * p;
        p.iter().zip(g).map(|(p, g)| of(*p, *g)).sum::<f64>() / examples
    }

    /// A head before a gate: x through pooling, softmax and a linear layer; y is x.
    struct Net {
        tape: Tape,
        p: crate::ValueId,
    }

    fn net(pool: GlobalPool, joint: bool, weight: f64) -> Net {
        let mut graph = Graph::default();
        let x = graph.input("x", None, None);
        let w = graph.weight("w", random(&[3, 3], 5).unwrap());
        let b = graph.weight("b", Tensor::vector(vec![0.3f64, -0.2, 0.1]));
        let g = graph.weight("g", Tensor::of([2, 3], vec![1.0f64, 0.0, 1.0, 0.0, 0.0, 1.0]).unwrap());
        let weight = graph.weight("weight", Tensor::vector(vec![weight]));
        let from = if joint { x } else { graph.node("detach", Detach, &[x]) };
        let pooled = graph.node("pool", pool, &[from]);
        let flat = crate::Definition { op: "Flatten".into(), opset: 17, inputs: 1, outputs: 1, ..Default::default() };
        let op = crate::ops::build(&flat).unwrap().unwrap();
        let flat = graph.value("flat");
        graph.push(crate::Node { name: "flat".into(), op, inputs: vec![Some(pooled)], outputs: vec![Some(flat)] });
        let soft = graph.node("soft", Softmax { kind: Kind::Softmax, axis: 1, flat: false }, &[flat]);
        let p = graph.node("p", Linear { heads: None }, &[soft, w, b]);
        let y = graph.node("gate", ChannelGate, &[x, p, g, weight]);
        graph.output(y);
        Net { tape: Tape::new(graph, vec![w, b, x]).unwrap(), p }
    }

    /// Gradients of w, b and x; with a weight of 0 for what comes out, those of the targets alone.
    fn pulled(net: &Net, x: &Tensor, out: f64) -> [Vec<f64>; 3] {
        let forward = net.tape.forward(vec![x.clone()], None).unwrap();
        let seed = Tensor::of(forward.outputs[0].shape(), numbers(24, 9).iter().map(|s| s * out).collect::<Vec<_>>());
        let back = net.tape.backward(forward, vec![seed]).unwrap().gradients;
        [0, 1, 2].map(|at| back[at].as_ref().and_then(Tensor::get::<f64>).unwrap_or_default().to_vec())
    }

    /// The loss of the targets.
    fn loss(net: &Net, x: &Tensor) -> f64 {
        let mut found = 0.0;
        let mut look = |value, tensor: &Tensor| {
            if value == net.p {
                found = entropy(tensor.get::<f64>().unwrap(), &[1.0, 0.0, 1.0, 0.0, 0.0, 1.0], 2.0);
            }
        };
        net.tape.forward(vec![x.clone()], Some(&mut look)).unwrap();
        found
    }

    #[test]
    fn gradients_of_heads_are_those_of_finite_differences() {
        for (pool, joint) in [(GlobalPool::Max, true), (GlobalPool::Average, true), (GlobalPool::Max, false)] {
            let mut net = net(pool, joint, 1.0);
            let x = random(&[2, 3, 2, 2], 1).unwrap();
            let found = pulled(&net, &x, 0.0);
            let step = 1e-5;
            for (place, found) in found.iter().enumerate() {
                for (k, found) in found.iter().enumerate() {
                    let mut moved = |by: f64| {
                        let mut x = x.clone();
                        let of_net = net.tape.wanted()[place];
                        let tensor = if place == 2 { &mut x } else { net.tape.weight_mut(of_net).unwrap() };
                        let Data::F64(all) = tensor.data_mut() else { unreachable!() };
                        all.to_mut()[k] += by;
                        let loss = loss(&net, &x);
                        if place < 2
                            && let Data::F64(all) = net.tape.weight_mut(of_net).unwrap().data_mut()
                        {
                            all.to_mut()[k] -= by;
                        }
                        loss
                    };
                    let slope = (moved(step) - moved(-step)) / (2.0 * step);
                    // Without a way to x, the backbone has none of it.
                    let slope = if place == 2 && !joint { 0.0 } else { slope };
                    assert!((slope - found).abs() < 1e-8, "{pool:?} {joint} {place} {k}: {slope}");
                }
            }
        }
    }

    #[test]
    fn heads_learn_from_targets_alone_and_the_rest_from_them_only_where_it_is_joint() {
        let x = random(&[2, 3, 2, 2], 1).unwrap();
        for joint in [false, true] {
            let [with, without] = [1.0, 0.0].map(|weight| pulled(&net(GlobalPool::Max, joint, weight), &x, 1.0));
            assert_eq!(with[2] == without[2], !joint, "the gradient of x");
            assert!(without[0].iter().chain(&without[1]).all(|g| *g == 0.0), "without targets heads stay");
            let alone = pulled(&net(GlobalPool::Max, joint, 1.0), &x, 0.0);
            assert_eq!((&with[0], &with[1]), (&alone[0], &alone[1]), "what comes back does not change heads");
            assert!(with[0].iter().any(|g| *g != 0.0));
        }
    }
}
