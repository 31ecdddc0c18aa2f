//! Convolutions of windows of three by three whose weights change from one time to the next, as those of a training do: a few
//! images at a time go into blocks of channels and back, for what [`winograd`] saves of their products.

use niwaki_codes::simd::Level;
use rayon::prelude::*;

use super::back::PARTIAL;
use super::blocked::fills;
use super::{Activation, Shapes, Span};
use crate::kernels::blocks::winograd::{self, Packed, Plan, Work, slopes::Slopes};
use crate::kernels::blocks::{BLOCK, End, Out, layout};
use crate::kernels::lanes;
use crate::operator::Context;

/// Tiles of images that are in blocks at once, at least.
const TILES: usize = 84;

/// Tiles whose gradients of weights are added up at once, where no more than [`IMAGES`] have as many.
const ADDED: usize = 512;
const IMAGES: usize = 16;

/// How windows lie on images, of which there are enough.
pub(super) struct Tiles<'t> {
    plan: Plan,
    spans: [Span; 2],
    shapes: &'t Shapes,
}

impl<'t> Tiles<'t> {
    /// None where the windows are others, or where nothing is saved.
    pub(super) fn new(spans: [Span; 2], shapes: &'t Shapes, groups: usize) -> Option<Self> {
        let three = |span: &Span| span.kernel == 3 && span.stride == 1 && span.dilation == 1;
        if groups != 1 || !spans.iter().all(three) || !fills(shapes.channels) || !fills(shapes.out) {
            return None;
        }
        let plan = Plan::new(spans);
        let outputs = spans.iter().map(|span| span.output).product::<usize>();
        // Products of the tiles of an image, of which some reach beyond it, beside those of its windows.
        let fewer = plan.tiles() * winograd::PLACES * 3 <= outputs * 9 * 2;
        (fewer && shapes.images * plan.tiles() >= TILES).then_some(Self { plan, spans, shapes })
    }

    /// Computes all images; `weights` are `[O, C, 3, 3]`, and `out` may hold anything.
    pub(super) fn run(
        &self,
        (x, weights): (&[f32], &[f32]),
        (bias, activation): (Option<&[f32]>, Activation),
        context: &Context<'_>,
        out: &mut [f32],
    ) {
        let channels = [self.shapes.out, self.shapes.channels];
        let packed = Packed::new(weights, channels);
        let mut padded = bias.map_or_else(|| vec![0.0; self.shapes.out], <[f32]>::to_vec);
        padded.resize(self.shapes.out.next_multiple_of(BLOCK), 0.0);
        let end = End { bias: &padded, add: None, activation };
        let [of_x, of_out] = self.pixels();
        let out_blocks = padded.len();
        let some = TILES.div_ceil(self.plan.tiles());
        let parts = out.par_chunks_mut(some * of_out * self.shapes.out);
        parts.zip(x.par_chunks(some * of_x * self.shapes.channels)).for_each(|(out, x)| {
            let images = out.len() / (of_out * self.shapes.out);
            let pixels = gathered(x, [self.shapes.channels, of_x], context);
            let mut sums = context.scratch(images * of_out * out_blocks);
            let work = Work { plan: &self.plan, packed: &packed, images: &pixels, end };
            let tiles = images * self.plan.tiles();
            let mut room = context.scratch(work.room(tiles));
            // SAFETY: the sums are this part's alone.
            unsafe { work.run(0..packed.groups(), 0..tiles, &mut room, Out::new(&mut sums)) };
            let planes = out.chunks_exact_mut(of_out * self.shapes.out);
            for (planes, blocks) in planes.zip(sums.chunks_exact(of_out * out_blocks)) {
                layout::scatter(Level::best(), blocks, of_out, planes);
            }
            [pixels, sums, room].into_iter().for_each(|buffer| context.put(buffer));
        });
    }

    /// Pixels of an image, and of its outputs.
    fn pixels(&self) -> [usize; 2] {
        let [rows, cols] = &self.spans;
        [rows.input * cols.input, rows.output * cols.output]
    }

    /// The gradient of the weights, `[O, C, 3, 3]`, from images and the gradient of their outputs; false, and nothing done, where
    /// sums would take too much memory. `out` may hold anything.
    pub(super) fn of_weights(&self, [x, g]: [&[f32]; 2], context: &Context<'_>, out: &mut [f32]) -> bool {
        let [channels, outputs] = [self.shapes.channels, self.shapes.out];
        let slopes = Slopes::new(&self.plan, [channels, outputs]);
        let some = (ADDED / self.plan.tiles()).clamp(1, IMAGES);
        if self.shapes.images.div_ceil(some).saturating_mul(slopes.sums()) > PARTIAL {
            return false;
        }
        let [of_x, of_out] = self.pixels();
        let parts = x.par_chunks(some * of_x * channels).zip(g.par_chunks(some * of_out * outputs));
        // Each part on its own; they are added in order.
        let part = |(x, g): (&[f32], &[f32])| {
            let tiles = x.len() / (of_x * channels) * self.plan.tiles();
            let [x, g] = [gathered(x, [channels, of_x], context), gathered(g, [outputs, of_out], context)];
            let (mut room, mut sums) = (context.scratch(slopes.room(tiles)), context.scratch(slopes.sums()));
            sums.fill(0.0);
            slopes.add([&x, &g], tiles, &mut room, &mut sums);
            [x, g, room].into_iter().for_each(|buffer| context.put(buffer));
            sums
        };
        let mut all = parts.map(part).collect::<Vec<_>>().into_iter();
        let mut sums = all.next().unwrap_or_default();
        for part in all {
            lanes::add(Level::best(), &mut sums, &part);
            context.put(part);
        }
        slopes.leave(&sums, channels, out);
        context.put(sums);
        true
    }
}

/// Images of so many channels of so many pixels, in blocks.
fn gathered(planes: &[f32], [channels, size]: [usize; 2], context: &Context<'_>) -> Vec<f32> {
    let filled = channels.next_multiple_of(BLOCK) * size;
    let images = planes.chunks_exact(channels * size);
    let mut pixels = context.scratch(images.len() * filled);
    for (blocks, planes) in pixels.chunks_exact_mut(filled).zip(images) {
        layout::gather(Level::best(), planes, size, blocks);
    }
    pixels
}
