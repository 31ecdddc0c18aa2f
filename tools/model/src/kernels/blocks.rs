//! Convolution of two-dimensional images whose channels stand in blocks of sixteen: `[C / 16, H, W, 16]`.
//!
//! ```text
//! y[o, p, q] = b[o] + sum over c, i, j of w[o, c, i, j] x[c, p sh + i dh - top, q sw + j dw - left]
//! ```
//!
//! Channels of an output are neighbours in memory: a tile of `R` pixels by some registers of channels stays in registers,
//! while one number of each pixel and the weights of all these channels for one tap of one input channel are taken at a time.
//! Sums are made in the order of [`conv`](super::conv), and are the same to the bit. What a last block has too much of is
//! never taken by anyone; it holds what it may.

pub(crate) mod each;
pub(crate) mod layout;
mod packed;
mod plan;
pub(crate) mod winograd;

use std::ops::Range;

use niwaki_codes::simd::Level;

use super::conv::Activation;
use super::vector::{LANES, Lanes};
pub(crate) use packed::Packed;
use packed::wide;
pub(crate) use plan::Plan;
use plan::Tile;

/// Channels of a block.
pub(crate) const BLOCK: usize = 16;

/// Channels that stand next to each other where an image has hardly any.
pub(crate) const FEW: usize = 4;

/// Elements of an image that a strip of tiles takes: 24 KiB, most of a first-level cache.
const STRIP: usize = 6 << 10;

/// What is added to a sum, and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'e> {
    /// For each output channel, filled up to whole blocks.
    pub(crate) bias: &'e [f32],
    /// For each output, in blocks.
    pub(crate) add: Option<&'e [f32]>,
    pub(crate) activation: Activation,
}

/// A convolution of one image.
#[derive(Clone, Copy)]
pub(crate) struct Job<'j> {
    pub(crate) plan: &'j Plan,
    pub(crate) packed: &'j Packed,
    /// The input channels, with their padding unless they are taken as they lie.
    pub(crate) image: &'j [f32],
    pub(crate) end: End<'j>,
}

/// Outputs of an image, of which threads write other ones each.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    start: *mut f32,
    len: usize,
}

// SAFETY: whoever writes promises to write what no one else does.
unsafe impl Send for Out {}
// SAFETY: likewise.
unsafe impl Sync for Out {}

impl Out {
    pub(crate) fn new(out: &mut [f32]) -> Self {
        Self { start: out.as_mut_ptr(), len: out.len() }
    }
}

impl Job<'_> {
    /// Computes tiles of outputs of groups of blocks.
    ///
    /// # Safety
    ///
    /// `out` is still there, and no one else uses these outputs.
    pub(crate) unsafe fn run(&self, groups: Range<usize>, tiles: Range<usize>, out: Out) {
        let (plan, packed) = (self.plan, self.packed);
        let outputs = packed.blocks * BLOCK;
        assert!(groups.end <= packed.groups() && tiles.end <= plan.tiles.len(), "outputs that are not there");
        assert!(out.len == outputs * plan.size(), "part of the outputs");
        assert!(packed.each == packed.inputs * plan.taps.len(), "weights of another kernel");
        assert!(self.image.len() >= plan.padded(packed.inputs), "an image that is too small");
        assert!(self.end.bias.len() == outputs && self.end.add.is_none_or(|add| add.len() == out.len));
        match packed.level {
            // SAFETY: `sweep` asks what was asserted above; tiles and taps stand within the image by their making.
            Level::Scalar => unsafe { self.sweep::<[f32; LANES]>(groups, tiles, out.start) },
            // SAFETY: likewise, and the level proves the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => unsafe { avx2(self, groups, tiles, out.start) },
            // SAFETY: likewise.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => unsafe { avx512(self, groups, tiles, out.start) },
        }
    }

    /// # Safety
    ///
    /// Image, weights and outputs are as large as [`run`](Self::run) asserts, and this CPU has what `S` needs.
    #[inline(always)]
    unsafe fn sweep<S: Lanes>(&self, groups: Range<usize>, tiles: Range<usize>, out: *mut f32) {
        let all = &self.plan.tiles[tiles];
        let of_tile = self.plan.tiles[0].len * self.packed.inputs;
        let strip = if self.packed.are_heavy() { all.len() } else { STRIP / of_tile.max(1) };
        let wide = wide(self.packed.level);
        for strip in all.chunks(strip.max(1)) {
            for group in groups.clone() {
                let block = group * wide;
                // SAFETY: the caller's promise.
                unsafe {
                    match (S::PARTS, self.packed.blocks - block) {
                        (1, _) => self.strip::<S, 2>(strip, block, out),
                        (_, 1) => self.strip::<S, 1>(strip, block, out),
                        _ => self.strip::<S, 2>(strip, block, out),
                    }
                }
            }
        }
    }

    /// Tiles of `B` registers of channels, from that block on.
    ///
    /// # Safety
    ///
    /// As [`sweep`](Self::sweep).
    #[inline(always)]
    unsafe fn strip<S: Lanes, const B: usize>(&self, tiles: &[Tile], block: usize, out: *mut f32) {
        for tile in tiles {
            // SAFETY: the caller's promise.
            unsafe {
                match (tile.len, self.plan.pitch) {
                    (14, BLOCK) if S::PARTS == 2 => self.tile::<S, B, 14, BLOCK>(*tile, block, out),
                    (8, BLOCK) if S::PARTS == 2 => self.tile::<S, B, 8, BLOCK>(*tile, block, out),
                    (7, BLOCK) if S::PARTS == 2 => self.tile::<S, B, 7, BLOCK>(*tile, block, out),
                    (6, BLOCK) if S::PARTS == 1 => self.tile::<S, B, 6, BLOCK>(*tile, block, out),
                    (4, BLOCK) => self.tile::<S, B, 4, BLOCK>(*tile, block, out),
                    (2, BLOCK) => self.tile::<S, B, 2, BLOCK>(*tile, block, out),
                    (1, BLOCK) => self.tile::<S, B, 1, BLOCK>(*tile, block, out),
                    (14, _) if S::PARTS == 2 => self.tile::<S, B, 14, FEW>(*tile, block, out),
                    (8, _) if S::PARTS == 2 => self.tile::<S, B, 8, FEW>(*tile, block, out),
                    (7, _) if S::PARTS == 2 => self.tile::<S, B, 7, FEW>(*tile, block, out),
                    (6, _) if S::PARTS == 1 => self.tile::<S, B, 6, FEW>(*tile, block, out),
                    (4, _) => self.tile::<S, B, 4, FEW>(*tile, block, out),
                    (2, _) => self.tile::<S, B, 2, FEW>(*tile, block, out),
                    _ => self.tile::<S, B, 1, FEW>(*tile, block, out),
                }
            }
        }
    }

    /// `R` pixels of `B` registers of channels; pixels of the image are `P` elements apart.
    ///
    /// # Safety
    ///
    /// As [`sweep`](Self::sweep); the tile has so many pixels.
    #[inline(always)]
    unsafe fn tile<S: Lanes, const B: usize, const R: usize, const P: usize>(
        &self,
        tile: Tile,
        block: usize,
        out: *mut f32,
    ) {
        let (step, size) = (LANES * S::PARTS, self.plan.size() * BLOCK);
        // SAFETY: the caller's promise.
        unsafe {
            let sums = self.sums::<S, B, R, P>(tile, block);
            for (pixel, sums) in sums.iter().enumerate() {
                for (at, sum) in sums.iter().enumerate() {
                    let channel = block * BLOCK + at * step;
                    let place = channel / BLOCK * size + (tile.to + pixel) * BLOCK + channel % BLOCK;
                    finish(*sum, self.end, [channel, place], out);
                }
            }
        }
    }

    /// The sums of a tile; apart from what becomes of them, so that they stay in registers.
    ///
    /// # Safety
    ///
    /// As [`tile`](Self::tile).
    #[inline(always)]
    unsafe fn sums<S: Lanes, const B: usize, const R: usize, const P: usize>(
        &self,
        tile: Tile,
        block: usize,
    ) -> [[S; B]; R] {
        let step = LANES * S::PARTS;
        // SAFETY: the caller's promise: weights of all channels and taps from that block on, and pixels with all taps.
        unsafe {
            let mut sums = [[S::splat(0.0); B]; R];
            let mut weight = self.packed.weights.as_ptr().cast::<f32>().add(block * self.packed.each * BLOCK);
            let mut plane = self.image.as_ptr().add(tile.from);
            let mut inputs = self.packed.inputs;
            while inputs > 0 {
                for channel in 0..inputs.min(P) {
                    for tap in &self.plan.taps {
                        let x = plane.add(*tap + channel);
                        let mut w = [S::splat(0.0); B];
                        for (at, w) in w.iter_mut().enumerate() {
                            *w = S::load(weight.add(at * step));
                        }
                        for (pixel, sums) in sums.iter_mut().enumerate() {
                            let x = S::splat(*x.add(pixel * P));
                            for (sum, w) in sums.iter_mut().zip(w) {
                                *sum = sum.add_product(x, w);
                            }
                        }
                        weight = weight.add(B * step);
                    }
                }
                inputs -= inputs.min(P);
                plane = plane.wrapping_add(self.plan.plane);
            }
            sums
        }
    }
}

/// Adds what is to be added to sums, and stores them.
///
/// # Safety
///
/// The channel is one of the outputs, the place stands within them, and this CPU has what `S` needs.
#[inline(always)]
unsafe fn finish<S: Lanes>(sum: S, end: End<'_>, [channel, place]: [usize; 2], out: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sum = sum.add(S::load(end.bias.as_ptr().add(channel)));
        if let Some(add) = end.add {
            sum = sum.add(S::load(add.as_ptr().add(place)));
        }
        if let Activation::Clip(low, high) = end.activation {
            sum = sum.clip(S::splat(low), S::splat(high));
        }
        sum.store(out.add(place));
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(job: &Job<'_>, groups: Range<usize>, tiles: Range<usize>, out: *mut f32) {
    // SAFETY: the caller keeps the contract of `Job::sweep`.
    unsafe { job.sweep::<std::arch::x86_64::__m256>(groups, tiles, out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512vl")]
unsafe fn avx512(job: &Job<'_>, groups: Range<usize>, tiles: Range<usize>, out: *mut f32) {
    // SAFETY: the caller keeps the contract of `Job::sweep`.
    unsafe { job.sweep::<std::arch::x86_64::__m512>(groups, tiles, out) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::kernels::conv::{self, Geometry, convolve};
    use crate::kernels::numbers;
    use crate::ops::conv::Span;

    /// An image, and the geometry of a kernel.
    struct Scene {
        geometry: Geometry,
        size: [usize; 2],
        /// In, and out.
        channels: [usize; 2],
    }

    impl Scene {
        fn weights(&self, each: usize) -> Vec<f32> {
            numbers(self.channels[1] * each * self.geometry.kernel.iter().product::<usize>(), 2)
        }

        /// What the convolution of channels that stand apart makes, in blocks.
        fn defined(&self, groups: usize) -> (Vec<f32>, usize) {
            let plan = conv::Plan::new(self.geometry, self.size).unwrap();
            let ([inputs, outputs], size) = (self.channels, plan.size());
            let (image, bias) = (numbers(inputs * self.size[0] * self.size[1], 1), numbers(outputs, 3));
            let (add, weights) = (numbers(outputs * size, 4), self.weights(inputs / groups));
            let mut out = vec![f32::NAN; outputs * size];
            let (each_in, each_out) = (inputs / groups, outputs / groups);
            for group in 0..groups {
                let x =
                    &image[group * each_in * self.size[0] * self.size[1]..][..each_in * self.size[0] * self.size[1]];
                let padded = plan.padded(each_in).map(|len| {
                    let mut padded = vec![f32::NAN; len];
                    plan.pad(x, &mut padded);
                    padded
                });
                let weights = &weights[group * weights.len() / groups..][..weights.len() / groups];
                let at = group * each_out * size..(group + 1) * each_out * size;
                let end = conv::End {
                    bias: Some(&bias[group * each_out..][..each_out]),
                    add: Some(&add[at.clone()]),
                    activation: Activation::Clip(-0.5, 3.0),
                };
                let packed = conv::Packed::new(weights, each_out);
                convolve(&plan, &packed, padded.as_deref().unwrap_or(x), 0..each_out, end, &mut out[at]);
            }
            (out, size)
        }

        /// The same image, bias and addend in blocks, and where results go.
        fn blocks(&self, size: usize) -> [Vec<f32>; 4] {
            let [inputs, outputs] = self.channels.map(|channels| channels.next_multiple_of(BLOCK));
            let pixels = self.size[0] * self.size[1];
            let (mut image, mut add) = (vec![f32::NAN; inputs * pixels], vec![f32::NAN; outputs * size]);
            layout::gather(Level::best(), &numbers(self.channels[0] * pixels, 1), pixels, &mut image);
            layout::gather(Level::best(), &numbers(self.channels[1] * size, 4), size, &mut add);
            let mut bias = numbers(self.channels[1], 3);
            bias.resize(outputs, 0.0);
            let out = vec![f32::NAN; outputs * size];
            [image, bias, add, out]
        }

        fn apart(&self, blocks: &[f32], size: usize) -> Vec<u32> {
            let mut out = vec![f32::NAN; self.channels[1] * size];
            layout::scatter(Level::best(), blocks, size, &mut out);
            out.iter().map(|x| x.to_bits()).collect()
        }

        fn dense(&self, level: Level, few: bool, size: usize) -> Vec<u32> {
            let [image, bias, add, mut out] = self.blocks(size);
            let plan = Plan::at(level, self.geometry, self.size, if few { FEW } else { BLOCK }).unwrap();
            let mut padded = vec![f32::NAN; plan.padded(self.channels[0])];
            if few {
                let image = numbers(self.channels[0] * self.size[0] * self.size[1], 1);
                layout::pad_few(level, &plan, &image, 0..plan.rows, &mut padded);
            } else if !plan.direct {
                let of_block = self.size[0] * self.size[1] * BLOCK;
                let all = padded.chunks_exact_mut(plan.plane).zip(image.chunks_exact(of_block));
                all.for_each(|(to, from)| layout::pad(level, &plan, from, 0..plan.rows, to));
            }
            let packed = Packed::at(level, &self.weights(self.channels[0]), [self.channels[1], self.channels[0]]);
            let end = End { bias: &bias, add: Some(&add), activation: Activation::Clip(-0.5, 3.0) };
            let job = Job { plan: &plan, packed: &packed, image: if plan.direct { &image } else { &padded }, end };
            // SAFETY: the outputs are this function's own.
            unsafe { job.run(0..packed.groups(), 0..plan.tiles(), Out::new(&mut out)) };
            self.apart(&out, size)
        }

        fn each(&self, level: Level, size: usize) -> Vec<u32> {
            let [image, bias, add, mut out] = self.blocks(size);
            let plan = conv::Plan::new(self.geometry, self.size).unwrap();
            let span = |at: usize| Span {
                input: self.size[at],
                output: plan.output[at],
                kernel: self.geometry.kernel[at],
                stride: self.geometry.stride[at],
                dilation: self.geometry.dilation[at],
                before: self.geometry.pads[at],
                after: self.geometry.pads[at + 2],
            };
            let packed = each::Packed::at(level, &self.weights(1), self.channels[1]);
            let end = End { bias: &bias, add: Some(&add), activation: Activation::Clip(-0.5, 3.0) };
            let job = each::Job { rows: span(0), cols: span(1), packed: &packed, image: &image, end };
            // SAFETY: the outputs are this function's own.
            unsafe { job.run(0..bias.len() / BLOCK, 0..plan.output[0], Out::new(&mut out)) };
            self.apart(&out, size)
        }
    }

    fn bits(all: &[f32]) -> Vec<u32> {
        all.iter().map(|x| x.to_bits()).collect()
    }

    /// Of levels whose sums are rounded once.
    fn fused() -> impl Iterator<Item = Level> {
        let best = Level::best();
        Level::all().filter(move |level| (*level == Level::Scalar) == (best == Level::Scalar))
    }

    #[test]
    fn the_same_as_with_channels_apart() {
        for size in [[17, 33], [14, 14], [7, 7], [5, 3], [2, 1], [3, 40]] {
            for (kernel, stride, dilation) in [(3, 1, 1), (3, 2, 1), (1, 1, 1), (1, 2, 1), (5, 1, 1), (3, 3, 2)] {
                let geometry = Geometry {
                    kernel: [kernel; 2],
                    stride: [stride; 2],
                    dilation: [dilation; 2],
                    pads: [kernel / 2 * dilation; 4],
                };
                for channels in [[3, 16], [4, 40], [2, 5], [17, 9], [33, 64]] {
                    let scene = Scene { geometry, size, channels };
                    let (defined, pixels) = scene.defined(1);
                    for level in fused() {
                        for few in [false, true].into_iter().filter(|few| !few || channels[0] <= FEW) {
                            let same = scene.dense(level, few, pixels) == bits(&defined);
                            assert!(same, "{size:?} {channels:?} {kernel}/{stride} {level:?} {few}");
                        }
                    }
                }
                for channels in [1, 16, 24, 33] {
                    let scene = Scene { geometry, size, channels: [channels; 2] };
                    let (defined, pixels) = scene.defined(channels);
                    for level in fused() {
                        let same = scene.each(level, pixels) == bits(&defined);
                        assert!(same, "{size:?} {channels} {kernel}/{stride} {level:?}");
                    }
                }
            }
        }
    }
}
