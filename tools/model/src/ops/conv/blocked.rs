//! Convolutions of images whose channels stand in blocks of sixteen, `[N, C / 16, H, W, 16]`, and the way in and out of them.
//!
//! Those of windows of three by three that move by one pixel are made from fewer products, see
//! [`winograd`](crate::kernels::blocks::winograd); the others are the same to the bit as a [`Conv`], see
//! [`blocks`](crate::kernels::blocks).

pub(crate) mod between;
pub(crate) mod pair;

use std::ops::Range;

use niwaki_codes::simd::Level;
use rayon::prelude::*;

use super::{Activation, Conv, SHARES, Shapes, Span, geometry, images, spread, threads_for};
use crate::fault::{Fault, dims};
use crate::kernels::blocks::{BLOCK, End, FEW, Job, Out, Packed, Plan, each, layout, winograd};
use crate::operator::{Context, Inputs, Operator};
use crate::tensor::Tensor;

/// Puts the channels of images `[N, C, H, W]` into blocks; what is left of the last block is 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToBlocks;

/// Takes so many channels of images out of blocks: `[N, C, H, W]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FromBlocks {
    pub(crate) channels: usize,
}

/// A convolution whose weights and bias never change, of images in blocks, to images in blocks. Its second input, where
/// there is one, is added: in blocks, or with its channels apart.
#[derive(Clone, Debug)]
pub(crate) struct BlockedConv {
    conv: Conv,
    /// `[O, C / groups, rows, columns]`.
    shape: [usize; 4],
    weights: Weights,
    /// Filled up to whole blocks.
    bias: Vec<f32>,
    /// Whether images come with their channels apart, of which there are at most [`FEW`].
    apart: bool,
}

#[derive(Clone, Debug)]
enum Weights {
    Dense(Packed),
    /// Of windows of three by three that move by one pixel.
    Tiles(winograd::Packed),
    /// Every channel by itself.
    Each(each::Packed),
}

/// Tiles below which a part takes other groups of output channels rather than other tiles.
const FEW_TILES: usize = 14;

/// How many channels in blocks are worth it: at most half as many again as there are.
pub(super) fn fills(channels: usize) -> bool {
    channels.next_multiple_of(BLOCK) * 2 <= channels * 3
}

impl Conv {
    /// The channels that come in and go out, `[C, O]`, where images may be in blocks; none where that is not done.
    pub(crate) fn block_channels(&self, weights: &[usize]) -> Option<[usize; 2]> {
        let &[outputs, inputs, ..] = weights else { return None };
        let each = inputs == 1 && outputs == self.groups;
        let whole = weights.len() == 4 && !weights.contains(&0) && !self.window.ceil;
        let fits = whole && (self.groups == 1 || each) && fills(outputs);
        fits.then_some([inputs * self.groups, outputs])
    }

    /// The same convolution of images in blocks, or, where `apart`, of a few channels that are apart.
    pub(crate) fn blocked(&self, weights: &Tensor, bias: Option<&Tensor>, apart: bool) -> Option<BlockedConv> {
        let [inputs, outputs] = self.block_channels(weights.shape())?;
        let shape: [usize; 4] = weights.shape().try_into().ok()?;
        let all = weights.get::<f32>()?;
        let mut padded = match bias {
            Some(bias) => bias.get::<f32>().filter(|bias| bias.len() == outputs)?.to_vec(),
            None => vec![0.0; outputs],
        };
        padded.resize(outputs.next_multiple_of(BLOCK), 0.0);
        let weights = match self.groups {
            1 if !apart && self.window.is_three_by_three(&shape[2..]) => {
                Weights::Tiles(winograd::Packed::new(all, [outputs, inputs]))
            }
            1 => Weights::Dense(Packed::new(all, [outputs, inputs])),
            _ => Weights::Each(each::Packed::new(all, outputs)),
        };
        let fits = !apart || inputs <= FEW && matches!(weights, Weights::Dense(_));
        fits.then(|| BlockedConv { conv: self.clone(), shape, weights, bias: padded, apart })
    }
}

/// Images on their way through a convolution.
struct Work<'w> {
    of: &'w BlockedConv,
    way: Way<'w>,
    /// Elements of an image, in and out.
    image: usize,
    of_out: usize,
    add: Option<&'w [f32]>,
    activation: Activation,
}

/// Weights, and where windows lie on images.
enum Way<'w> {
    Dense(&'w Packed, Plan),
    Tiles(&'w winograd::Packed, winograd::Plan),
    Each(&'w each::Packed, [Span; 2]),
}

/// What comes in, and where windows lie on it.
struct Placed {
    /// As if channels were apart.
    shapes: Shapes,
    spans: [Span; 2],
}

impl Placed {
    /// The shape of what goes out.
    fn blocks(&self) -> [usize; 5] {
        let [images, channels, rows, cols] = self.apart();
        [images, channels.div_ceil(BLOCK), rows, cols, BLOCK]
    }

    /// The same with channels apart.
    fn apart(&self) -> [usize; 4] {
        [self.shapes.images, self.shapes.out, self.spans[0].output, self.spans[1].output]
    }
}

impl BlockedConv {
    fn placed(&self, x: &[usize]) -> Result<Placed, Fault> {
        let channels = self.shape[1] * self.conv.groups;
        let apart = match *x {
            _ if self.apart => x.to_vec(),
            [images, blocks, height, width, BLOCK] if blocks == channels.div_ceil(BLOCK) => {
                vec![images, channels, height, width]
            }
            _ => return Err(Fault::shape(format!("images {}", dims(x)), format!("{channels} channels in blocks"))),
        };
        let shapes = self.conv.shapes(&apart, &self.shape)?;
        match self.conv.spans(&shapes, &self.shape[2..])?.as_slice() {
            &[rows, cols] => Ok(Placed { shapes, spans: [rows, cols] }),
            other => Err(Fault::Unsupported(format!("images of {} dimensions", other.len()))),
        }
    }

    fn way(&self, placed: &Placed, context: &Context<'_>) -> Result<Way<'_>, Fault> {
        let spans = placed.spans;
        let packed = match &self.weights {
            Weights::Each(packed) => return Ok(Way::Each(packed, spans)),
            Weights::Tiles(packed) => return Ok(Way::Tiles(packed, winograd::Plan::new(spans))),
            Weights::Dense(packed) => packed,
        };
        let pitch = if self.apart { FEW } else { BLOCK };
        let plan = Plan::new(geometry(&spans[0], &spans[1]), spans.map(|span| span.input), pitch);
        let plan = plan.filter(|plan| plan.output == spans.map(|span| span.output));
        let image = dims(&placed.shapes.image);
        let wrong = || Fault::shape(format!("images {image} with their padding"), "room for the kernel");
        let plan = plan.ok_or_else(wrong)?;
        context.len::<f32>(&[self.shape[1].div_ceil(pitch), plan.plane])?;
        Ok(Way::Dense(packed, plan))
    }

    /// Sums in blocks, with what is added to them, and what becomes of them.
    fn sums(
        &self,
        x: &[f32],
        placed: &Placed,
        (add, activation): (Option<&Tensor>, Activation),
        context: &Context<'_>,
    ) -> Result<Tensor, Fault> {
        let shape = placed.blocks();
        // Before anything is as large as the output.
        context.len::<f32>(&shape)?;
        let way = self.way(placed, context)?;
        let mut out = context.buffer(&shape)?;
        let (image, of_out) = (x.len() / shape[0].max(1), out.len() / shape[0].max(1));
        let add = add.and_then(Tensor::get::<f32>);
        Work { of: self, way, image, of_out, add, activation }.run(x, context, &mut out);
        let len = out.len();
        Tensor::of(shape, out).ok_or_else(|| Fault::shape(format!("{len} results"), dims(&shape)))
    }
}

impl Operator for BlockedConv {
    fn name(&self) -> &'static str {
        "Conv"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let placed = self.placed(inputs.get(0)?.shape())?;
        let x = inputs.elements::<f32>(0, "float")?;
        let end = self.conv.activation;
        let done = match inputs.optional(1) {
            None => self.sums(x, &placed, (None, end), context),
            Some(add) if add.shape() == placed.blocks() => self.sums(x, &placed, (Some(add), end), context),
            Some(add) if add.shape() == placed.apart() => {
                let add = to_blocks(add, context)?;
                self.sums(x, &placed, (Some(&add), end), context)
            }
            // What is repeated along the output is added by a node of its own.
            Some(add) => {
                let sums = self.sums(x, &placed, (None, Activation::None), context)?;
                let inputs = Inputs::new(vec![None, None, None, Some(add.clone())]);
                let sums = from_blocks(&sums, placed.shapes.out, context)?;
                to_blocks(&self.conv.after(sums, &inputs, context)?, context)
            }
        };
        done.map(|done| vec![done])
    }

    fn macs(&self, _: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        let [[images, _, rows, cols, _]] = outputs else { return 0 };
        [images, rows, cols].into_iter().chain(&self.shape).fold(1, |macs: u64, dim| macs.saturating_mul(*dim as u64))
    }
}

impl Work<'_> {
    fn run(&self, x: &[f32], context: &Context<'_>, out: &mut [f32]) {
        if self.image == 0 || self.of_out == 0 {
            return out.fill(0.0);
        }
        if let Way::Tiles(packed, plan) = &self.way {
            return self.tiles(packed, plan, (x, out.len() / self.of_out), context, out);
        }
        images((x, self.image), (out, self.of_out), self.products(self.of_out), |nth, x, threads, out| {
            self.image((nth, x), context, threads, out);
        });
    }

    fn image(&self, (nth, x): (usize, &[f32]), context: &Context<'_>, threads: usize, out: &mut [f32]) {
        let end = End {
            bias: &self.of.bias,
            add: self.add.map(|add| &add[nth * self.of_out..][..self.of_out]),
            activation: self.activation,
        };
        let out = Out::new(out);
        match &self.way {
            Way::Dense(packed, plan) => {
                // A thread goes through its own part of the image, or else of the weights.
                let all = parts([plan.tiles(), packed.groups()], threads, packed.are_heavy());
                spread(all, threads, |[tiles, groups]| {
                    let padded = (!plan.direct).then(|| self.padded(plan, x, plan.rows_of(tiles.clone()), context));
                    let job = Job { plan, packed, image: padded.as_deref().map_or(x, aligned), end, first: 0 };
                    // SAFETY: parts are other groups or other tiles, and the outputs outlive them.
                    unsafe { job.run(groups, tiles, out) };
                    padded.into_iter().for_each(|padded| context.put(padded));
                });
            }
            Way::Each(packed, [rows, cols]) => {
                let job = each::Job { rows: *rows, cols: *cols, packed, image: x, end, held: None };
                let all = parts([rows.output, self.of.bias.len() / BLOCK], threads, false);
                // SAFETY: parts are other blocks or other rows, and the outputs outlive them.
                spread(all, threads, |[rows, blocks]| unsafe { job.run(blocks, rows, out) });
            }
            Way::Tiles(..) => {}
        }
    }

    /// All images at once: weights are gone through once for tiles of several.
    fn tiles(
        &self,
        packed: &winograd::Packed,
        plan: &winograd::Plan,
        (x, images): (&[f32], usize),
        context: &Context<'_>,
        out: &mut [f32],
    ) {
        let end = End { bias: &self.of.bias, add: self.add, activation: self.activation };
        let tiles = images * plan.tiles();
        let threads = threads_for(self.products(out.len()));
        let work = winograd::Work { plan, packed, images: x, end };
        let out = Out::new(out);
        // A part of few tiles would take all weights for little.
        let by_groups = packed.are_heavy() || tiles < FEW_TILES * threads * SHARES;
        spread(parts([tiles, packed.groups()], threads, by_groups), threads, |[tiles, groups]| {
            let mut room = context.scratch(work.room(tiles.len()));
            // SAFETY: parts are other groups or other tiles, and the outputs outlive them.
            unsafe { work.run(groups, tiles, &mut room, out) };
            context.put(room);
        });
    }

    /// Products of so many outputs.
    fn products(&self, outputs: usize) -> usize {
        outputs.saturating_mul(self.of.shape[1..].iter().product())
    }

    /// Rows of an image with its padding, from the place on that is [`aligned`].
    fn padded(&self, plan: &Plan, x: &[f32], rows: Range<usize>, context: &Context<'_>) -> Vec<f32> {
        let len = plan.padded(self.of.shape[1]);
        let mut room = context.scratch(len + BLOCK);
        let skipped = room.len() - aligned(&room).len();
        let padded = &mut room[skipped..][..len];
        if self.of.apart {
            layout::pad_few(Level::best(), plan, x, rows, padded);
        } else {
            let of_block = plan.input[0] * plan.input[1] * BLOCK;
            for (to, from) in padded.chunks_exact_mut(plan.plane).zip(x.chunks_exact(of_block)) {
                layout::pad(Level::best(), plan, from, rows.clone(), to);
            }
        }
        room
    }
}

/// Numbers from the first one on that is the start of a line of a cache.
fn aligned(all: &[f32]) -> &[f32] {
    &all[all.as_ptr().align_offset(64).min(all.len())..]
}

/// Cuts work on so many places and groups of channels into about as many parts as threads can share: along places, or along
/// groups first, and along the other where that is not enough.
fn parts([places, groups]: [usize; 2], threads: usize, by_groups: bool) -> Vec<[Range<usize>; 2]> {
    let wanted = if threads == 1 { 1 } else { threads * SHARES };
    let (first, second) = if by_groups { (groups, places) } else { (places, groups) };
    let pieces = wanted.min(first).max(1);
    let cut = |all: usize, pieces: usize| {
        let pieces = pieces.min(all);
        (0..pieces).map(move |nth| all * nth / pieces..all * (nth + 1) / pieces)
    };
    let others = wanted.div_ceil(pieces);
    let both = cut(first, pieces).flat_map(|a| cut(second, others).map(move |b| (a.clone(), b)));
    both.map(|(a, b)| if by_groups { [b, a] } else { [a, b] }).collect()
}

/// Puts the channels of images `[N, C, H, W]` into blocks.
fn to_blocks(x: &Tensor, context: &Context<'_>) -> Result<Tensor, Fault> {
    let wrong = || Fault::shape(format!("{} {}", x.dtype(), dims(x.shape())), "float images [N, C, H, W]");
    let (Some(all), &[images, channels, height, width]) = (x.get::<f32>(), x.shape()) else { return Err(wrong()) };
    let shape = [images, channels.div_ceil(BLOCK), height, width, BLOCK];
    let mut out = context.buffer(&shape)?;
    let (from, to) = (channels * height * width, shape[1..].iter().product::<usize>());
    let images = out.par_chunks_exact_mut(to.max(1)).zip(all.par_chunks_exact(from.max(1)));
    images.for_each(|(out, x)| layout::gather(Level::best(), x, height * width, out));
    Tensor::of(shape, out).ok_or_else(wrong)
}

/// Takes so many channels out of blocks.
fn from_blocks(x: &Tensor, channels: usize, context: &Context<'_>) -> Result<Tensor, Fault> {
    let wrong = || Fault::shape(format!("{} {}", x.dtype(), dims(x.shape())), format!("{channels} channels in blocks"));
    let (Some(all), &[images, blocks, height, width, BLOCK]) = (x.get::<f32>(), x.shape()) else { return Err(wrong()) };
    if blocks != channels.div_ceil(BLOCK) {
        return Err(wrong());
    }
    let shape = [images, channels, height, width];
    let mut out = context.buffer(&shape)?;
    let (from, to) = (blocks * height * width * BLOCK, channels * height * width);
    let images = out.par_chunks_exact_mut(to.max(1)).zip(all.par_chunks_exact(from.max(1)));
    images.for_each(|(out, x)| layout::scatter(Level::best(), x, height * width, out));
    Tensor::of(shape, out).ok_or_else(wrong)
}

impl Operator for ToBlocks {
    fn name(&self) -> &'static str {
        "ToBlocks"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        to_blocks(inputs.get(0)?, context).map(|x| vec![x])
    }
}

impl Operator for FromBlocks {
    fn name(&self) -> &'static str {
        "FromBlocks"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        from_blocks(inputs.get(0)?, self.channels, context).map(|x| vec![x])
    }
}
