//! Gradients of operators that move elements: each element of a result is one of the input, or none of
//! them. Which one the operator itself says, when it is given the numbers of the elements in their place.

use super::join::{Concat, Split};
use super::{depth, expand, gather, pad, reverse, slice, trilu};
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::axis;
use crate::real::{Real, in_reals};
use crate::reverse::{Keeps, Pass, Pullback};
use crate::tensor::Tensor;

/// The gradient of the first input of an operator that moves its elements.
fn moved(op: &dyn Operator, pass: &Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
    let shape = pass.shape(0)?;
    let len: usize = shape.iter().product();
    let large = || Fault::Unsupported(format!("the gradient of {len} elements that move"));
    let last = u32::try_from(len).map_err(|_| large())?;
    // From 1 on: 0 is what comes from nowhere.
    let numbers = Tensor::of(shape, (1..=last).collect::<Vec<u32>>()).ok_or_else(large)?;
    let mut inputs = vec![Some(numbers)];
    inputs.extend((1..pass.inputs()).map(|at| pass.input(at).ok().cloned()));
    let places = op.run(&mut Inputs::new(inputs), context)?;
    in_reals!(pass.dtype(0)?, T => gathered::<T>(pass, &places, context))
}

fn gathered<T: Real>(pass: &Pass, places: &[Tensor], context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
    let mut out = T::buffer(context, pass.shape(0)?)?;
    out.fill(T::ZERO);
    for (at, places) in places.iter().enumerate().filter(|(at, _)| pass.gradient(*at).is_some()) {
        let places = places.get::<u32>().ok_or_else(|| Fault::dtype(at, places, "numbers of elements"))?;
        for (g, place) in pass.gradient_elements::<T>(at)?.iter().zip(places) {
            if let Some(out) = (*place as usize).checked_sub(1).and_then(|place| out.get_mut(place)) {
                *out += *g;
            }
        }
    }
    Ok(vec![Some(pass.of_input(0, out)?)])
}

macro_rules! moves {
    ($($type:ty),* $(,)?) => {
        $(impl Pullback for $type {
            fn keeps(&self, _: &[bool]) -> Keeps {
                PLACES
            }

            fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
                moved(self, pass, context)
            }
        })*
    };
}

/// The inputs that say where elements go.
const PLACES: Keeps = Keeps::NOTHING.input(1).input(2).input(3).input(4);

moves!(
    Split,
    depth::DepthToSpace,
    depth::SpaceToDepth,
    expand::Expand,
    expand::Tile,
    gather::GatherElements,
    gather::GatherNd,
    gather::Compress,
    reverse::ReverseSequence,
    slice::CenterCropPad,
    slice::Slice,
    trilu::Trilu,
);

impl Pullback for pad::Pad {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING.input(1).input(3)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        moved(&self.without_value(), pass, context)
    }
}

impl Pullback for gather::Gather {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING.input(1)
    }

    /// Rows of a table are added where they came from, one after the other.
    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        in_reals!(pass.dtype(0)?, T => rows::<T>(self, pass, context))
    }
}

fn rows<T: Real>(op: &gather::Gather, pass: &Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
    let shape = pass.shape(0)?;
    let mut out = T::buffer(context, shape)?;
    out.fill(T::ZERO);
    let g = pass.gradient_elements::<T>(0)?;
    if !g.is_empty() {
        let (len, from) = op.blocks(shape, pass.input(1)?)?;
        for (g, from) in g.chunks_exact(len.max(1)).zip(from) {
            out[from..from + len].iter_mut().zip(g).for_each(|(out, g)| *out += *g);
        }
    }
    Ok(vec![Some(pass.of_input(0, out)?)])
}

impl Pullback for Concat {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let at = axis(self.axis, pass.output_shape(0)?.len())?;
        in_reals!(pass.gradient(0).ok_or(Fault::Missing { input: 0 })?.dtype(), T => pieces::<T>(at, pass, context))
    }
}

fn pieces<T: Real>(at: usize, pass: &Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
    let whole = pass.output_shape(0)?;
    let inner: usize = whole[at + 1..].iter().product();
    let g = pass.gradient_elements::<T>(0)?;
    let (mut start, mut found) = (0, Vec::with_capacity(pass.inputs()));
    for input in 0..pass.inputs() {
        let shape = pass.shape(input)?;
        let own = shape[at] * inner;
        found.push(if pass.wants(input) {
            let mut out = T::buffer(context, shape)?;
            for (out, g) in out.chunks_exact_mut(own.max(1)).zip(g.chunks_exact((whole[at] * inner).max(1))) {
                out.copy_from_slice(&g[start..start + own]);
            }
            Some(pass.of_input(input, out)?)
        } else {
            None
        });
        start += own;
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use crate::attributes::Attribute;
    use crate::ops::trial::definition;
    use crate::reverse::check::{gradients, random};
    use crate::tensor::{Buffer, Data, Tensor};

    fn check(op: &str, attributes: &[(&str, Attribute)], inputs: &[Option<Tensor>], outputs: usize, wanted: &[usize]) {
        let mut definition = definition(op, attributes);
        (definition.inputs, definition.outputs) = (inputs.len(), outputs);
        gradients(&*crate::ops::build(&definition).unwrap().unwrap(), inputs, wanted);
    }

    fn whole(all: &[i64]) -> Option<Tensor> {
        Some(Tensor::vector(all.to_vec()))
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let int = Attribute::Int;
        let x = random(&[2, 4, 6], 1);
        check("Slice", &[], &[x.clone(), whole(&[1, -1]), whole(&[9, -5]), whole(&[1, 2]), whole(&[2, -2])], 1, &[0]);
        check("Pad", &[], &[x.clone(), whole(&[1, 0, 2, 0, 1, -1])], 1, &[0]);
        check("Pad", &[], &[x.clone(), whole(&[1, 0, 2, 0, 1, 0]), Some(Tensor::scalar(2.0f64))], 1, &[0]);
        for mode in ["reflect", "edge", "wrap"] {
            check("Pad", &[("mode", Attribute::Text(mode.into()))], &[x.clone(), whole(&[1, 2, 1, 0, 1, 3])], 1, &[0]);
        }
        check("Expand", &[], &[random(&[3, 1], 2), whole(&[2, 3, 4])], 1, &[0]);
        check("Tile", &[], &[x.clone(), whole(&[2, 1, 3])], 1, &[0]);
        check("Split", &[("axis", int(2))], &[x.clone(), whole(&[1, 2, 3])], 3, &[0]);
        check("Concat", &[("axis", int(1))], &[x.clone(), random(&[2, 1, 6], 2), random(&[2, 3, 6], 3)], 1, &[0, 1, 2]);
        check("Concat", &[("axis", int(-1))], &[x.clone(), random(&[2, 4, 2], 2)], 1, &[1]);
        let ids = Tensor::of([2, 3], vec![0i64, 3, 1, 1, -1, 1]);
        for axis in [0, 1, 2] {
            check("Gather", &[("axis", int(axis))], &[random(&[4, 4, 4], 3), ids.clone()], 1, &[0]);
        }
        check("GatherElements", &[("axis", int(1))], &[random(&[2, 4], 3), ids.clone()], 1, &[0]);
        check("GatherND", &[], &[random(&[4, 4, 3], 3), Tensor::of([2, 2], vec![0i64, 1, 3, 2])], 1, &[0]);
        let truth = Tensor::new([4], Data::Bool(Buffer::from(vec![1u8, 0, 1, 1])));
        check("Compress", &[("axis", int(1))], &[x.clone(), truth], 1, &[0]);
        check("Trilu", &[], &[random(&[4, 5], 1)], 1, &[0]);
        check("DepthToSpace", &[("blocksize", int(2))], &[random(&[1, 8, 2, 3], 1)], 1, &[0]);
        check("SpaceToDepth", &[("blocksize", int(2))], &[random(&[1, 2, 4, 6], 1)], 1, &[0]);
        check("CenterCropPad", &[], &[x.clone(), whole(&[3, 3, 6])], 1, &[0]);
        for (op, shape) in [("Reshape", whole(&[4, -1])), ("Unsqueeze", whole(&[0, 2]))] {
            check(op, &[], &[x.clone(), shape], 1, &[0]);
        }
        check("Flatten", &[], std::slice::from_ref(&x), 1, &[0]);
        check("Squeeze", &[], &[random(&[2, 1, 3, 1], 1)], 1, &[0]);
    }
}
