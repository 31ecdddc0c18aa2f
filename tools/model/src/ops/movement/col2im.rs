//! Blocks added up to an image: Col2Im.

use super::reduce::Reduce;
use super::size;
use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::strides;
use crate::ops::{Built, some};
use crate::same;
use crate::tensor::{Tensor, elements};

/// Puts blocks where they were cut from, and adds what overlaps.
#[derive(Clone, Debug)]
struct Col2Im {
    dilations: Option<Vec<usize>>,
    pads: Option<Vec<usize>>,
    strides: Option<Vec<usize>>,
}

pub(super) fn build(definition: &Definition) -> Built {
    match definition.op.as_str() {
        "Col2Im" => some(Col2Im {
            dilations: definition.sizes("dilations")?,
            pads: definition.sizes("pads")?,
            strides: definition.sizes("strides")?,
        }),
        _ => Ok(None),
    }
}

/// Blocks along one dimension.
#[derive(Clone, Copy)]
struct Along {
    image: usize,
    block: usize,
    before: usize,
    stride: usize,
    dilation: usize,
    /// How many blocks there are.
    count: usize,
}

impl Along {
    fn new(image: usize, block: usize, [before, after]: [usize; 2], stride: usize, dilation: usize) -> Option<Self> {
        let padded = image.checked_add(before)?.checked_add(after)?;
        let reach = block.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
        let count = padded.checked_sub(reach)?.checked_div(stride)? + 1;
        Some(Self { image, block, before, stride, dilation, count })
    }

    /// Where element `place` of block `at` belongs; none where that is outside.
    fn target(&self, at: usize, place: usize) -> Option<usize> {
        (at * self.stride + place * self.dilation).checked_sub(self.before).filter(|to| *to < self.image)
    }
}

impl Col2Im {
    fn dimensions(&self, image: &[usize], block: &[usize]) -> Option<Vec<Along>> {
        let rank = image.len();
        let given = |all: &Option<Vec<usize>>, len: usize, default: usize| match all {
            Some(all) => (all.len() == len).then(|| all.clone()),
            None => Some(vec![default; len]),
        };
        let (dilations, strides) = (given(&self.dilations, rank, 1)?, given(&self.strides, rank, 1)?);
        let pads = given(&self.pads, 2 * rank, 0)?;
        let along =
            |at: usize| Along::new(image[at], block[at], [pads[at], pads[rank + at]], strides[at], dilations[at]);
        (0..rank).map(along).collect()
    }
}

impl Operator for Col2Im {
    fn name(&self) -> &'static str {
        "Col2Im"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let sizes = |at: usize| inputs.integers(at)?.into_iter().map(size).collect::<Result<Vec<_>, _>>();
        let (image, block) = (sizes(1)?, sizes(2)?);
        let input = inputs.get(0)?;
        let wrong = || {
            let found = format!("{} for blocks of {} in {}", dims(input.shape()), dims(&block), dims(&image));
            Fault::shape(found, "batch x channels and block x blocks")
        };
        let [batch, rows, count] = *input.shape() else { return Err(wrong()) };
        if image.len() != block.len() || image.is_empty() {
            return Err(wrong());
        }
        let all = self.dimensions(&image, &block).ok_or_else(wrong)?;
        let counts: Vec<usize> = all.iter().map(|one| one.count).collect();
        let area = elements(&block).filter(|area| *area > 0 && rows % area == 0).ok_or_else(wrong)?;
        if elements(&counts) != Some(count) {
            return Err(wrong());
        }
        let shape = [&[batch, rows / area], &image[..]].concat();
        context.len::<u64>(&shape)?;
        let data = same!(input.data(), x => added(x.as_slice(), &all, area, &shape));
        Tensor::new(shape, data).ok_or_else(wrong).map(|tensor| vec![tensor])
    }
}

/// The place of number `at` in dimensions of these sizes.
fn place(mut at: usize, sizes: impl DoubleEndedIterator<Item = usize>) -> Vec<usize> {
    let mut places: Vec<usize> = sizes
        .rev()
        .map(|size| {
            let place = at % size;
            at /= size;
            place
        })
        .collect();
    places.reverse();
    places
}

fn added<T: Reduce>(x: &[T], all: &[Along], area: usize, shape: &[usize]) -> Vec<T> {
    let pixels: usize = all.iter().map(|one| one.image).product();
    let count: usize = all.iter().map(|one| one.count).product();
    let mut out = vec![T::default(); shape.iter().product()];
    if out.is_empty() {
        return out;
    }
    let apart = strides(&all.iter().map(|one| one.image).collect::<Vec<_>>());
    for within in 0..area {
        let within_block = place(within, all.iter().map(|one| one.block));
        for block in 0..count {
            let at = place(block, all.iter().map(|one| one.count));
            let target =
                (0..all.len()).map(|d| Some(all[d].target(at[d], within_block[d])? * apart[d])).sum::<Option<usize>>();
            let Some(target) = target else { continue };
            for (plane, out) in out.chunks_exact_mut(pixels).enumerate() {
                out[target] = out[target].plus(x[(plane * area + within) * count + block]);
            }
        }
    }
    out
}
