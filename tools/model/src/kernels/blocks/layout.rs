//! Channels apart, `[C, H, W]`, and in blocks, `[C / 16, H, W, 16]`; and padding around the latter.

use std::ops::Range;

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use super::transpose::transpose;
use super::{BLOCK, FEW, Plan};

/// Puts the channels of an image, each of `size` pixels, into blocks; what is left of the last block is 0.
pub(crate) fn gather(level: Level, image: &[f32], size: usize, out: &mut [f32]) {
    let size = size.max(1);
    for (block, planes) in out.chunks_exact_mut(size * BLOCK).zip(image.chunks(size * BLOCK)) {
        if planes.len() == block.len() {
            transpose(level, planes, [BLOCK, size], block);
            continue;
        }
        let (pixels, _) = block.as_chunks_mut::<BLOCK>();
        for (at, pixel) in pixels.iter_mut().enumerate() {
            *pixel = [0.0; BLOCK];
            pixel.iter_mut().zip(planes.chunks_exact(size)).for_each(|(to, plane)| *to = plane[at]);
        }
    }
}

/// Takes the channels of an image, each of `size` pixels, out of blocks.
pub(crate) fn scatter(level: Level, blocks: &[f32], size: usize, out: &mut [f32]) {
    let size = size.max(1);
    for (block, planes) in blocks.chunks_exact(size * BLOCK).zip(out.chunks_mut(size * BLOCK)) {
        if planes.len() == block.len() {
            transpose(level, block, [size, BLOCK], planes);
            continue;
        }
        let (pixels, _) = block.as_chunks::<BLOCK>();
        for (lane, plane) in planes.chunks_exact_mut(size).enumerate() {
            plane.iter_mut().zip(pixels).for_each(|(to, from)| *to = from[lane]);
        }
    }
}

/// Makes a row 0 in every phase of columns.
#[inline(always)]
fn clear<const N: usize>(plan: &Plan, row: usize, out: &mut [[f32; N]]) {
    for start in (row * plan.width..out.len()).step_by(plan.rows * plan.width) {
        out[start..][..plan.width].fill([0.0; N]);
    }
}

stamp! {
    /// Copies a block of an image with its padding: these of its rows, padding counted; `out` may hold anything.
    pub(crate) fn pad = pad_body(plan: &Plan, block: &[f32], rows: Range<usize>, out: &mut [f32]) -> ();
}
#[inline(always)]
fn pad_body(plan: &Plan, block: &[f32], rows: Range<usize>, out: &mut [f32]) {
    let (width, left, step) = (plan.input[1], plan.geometry.pads[1], plan.geometry.stride[1]);
    let (pixels, _) = block.as_chunks::<BLOCK>();
    let (out, _) = out.as_chunks_mut::<BLOCK>();
    for row in rows {
        let from = row.checked_sub(plan.geometry.pads[0]).filter(|row| *row < plan.input[0]);
        let from = from.map(|row| &pixels[row * width..][..width]);
        if let (Some(from), 1) = (from, step) {
            let (before, rest) = out[row * plan.width..][..plan.width].split_at_mut(left);
            let (to, after) = rest.split_at_mut(width);
            before.fill([0.0; BLOCK]);
            to.copy_from_slice(from);
            after.fill([0.0; BLOCK]);
            continue;
        }
        clear(plan, row, out);
        for (col, pixel) in (left..).zip(from.unwrap_or_default()) {
            out[plan.pixel(row, col)] = *pixel;
        }
    }
}

stamp! {
    /// Puts the channels of an image of at most [`FEW`], that stand apart, next to each other, with padding: these of its rows,
    /// padding counted; `out` may hold anything.
    pub(crate) fn pad_few = pad_few_body(plan: &Plan, image: &[f32], rows: Range<usize>, out: &mut [f32]) -> ();
}
#[inline(always)]
fn pad_few_body(plan: &Plan, image: &[f32], rows: Range<usize>, out: &mut [f32]) {
    let ([height, width], [top, left, ..]) = (plan.input, plan.geometry.pads);
    let (out, _) = out.as_chunks_mut::<FEW>();
    for row in rows {
        clear(plan, row, out);
        let Some(from) = row.checked_sub(top).filter(|row| *row < height) else { continue };
        for (lane, plane) in image.chunks_exact((height * width).max(1)).enumerate() {
            for (col, x) in (left..).zip(&plane[from * width..][..width]) {
                out[plan.pixel(row, col)][lane] = *x;
            }
        }
    }
}
