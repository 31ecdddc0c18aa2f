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
mod transpose;
pub(crate) mod winograd;

use std::ops::Range;

use niwaki_codes::simd::Level;

use super::conv::Activation;
use super::vector::{LANES, Lanes};
pub(crate) use packed::Packed;
use packed::wide;
use plan::Tile;
pub(crate) use plan::{Plan, Room};

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
    /// The block that outputs begin with: 0 unless only those of some groups are there.
    pub(crate) first: usize,
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
        let blocks = packed.blocks_of(groups.clone());
        assert!(groups.end <= packed.groups() && tiles.end <= plan.tiles.len(), "outputs that are not there");
        assert!(blocks.start >= self.first && out.len >= (blocks.end - self.first) * BLOCK * plan.size());
        assert!(packed.each == packed.inputs * plan.taps.len(), "weights of another kernel");
        assert!(self.image.len() >= plan.padded(packed.inputs), "an image that is too small");
        assert!(self.end.bias.len() == packed.blocks * BLOCK && self.end.add.is_none_or(|add| add.len() == out.len));
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
        let of_tile = self.plan.tiles.first().map_or(1, |tile| tile.len) * self.packed.inputs;
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
            let mut places = [0; B];
            for (at, place) in places.iter_mut().enumerate() {
                let channel = block * BLOCK + at * step;
                *place = (channel / BLOCK - self.first) * size + tile.to * BLOCK + channel % BLOCK;
            }
            finish(sums, self.end, (block * BLOCK, places), out);
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

/// Adds what is to be added to sums of pixels next to each other, and stores them: for each of the `B` registers from that
/// output channel on at its place.
///
/// # Safety
///
/// The channels are some of the outputs, the places of all pixels stand within them, and this CPU has what `S` needs.
#[inline(always)]
unsafe fn finish<S: Lanes, const B: usize, const R: usize>(
    mut sums: [[S; B]; R],
    end: End<'_>,
    (channel, places): (usize, [usize; B]),
    out: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut bias = [S::splat(0.0); B];
        for (at, bias) in bias.iter_mut().enumerate() {
            *bias = S::load(end.bias.as_ptr().add(channel + at * LANES * S::PARTS));
        }
        // Without bounds to compare with nothing changes; a branch for each sum would take it out of its register.
        let (low, high) = match end.activation {
            Activation::None => (f32::NEG_INFINITY, f32::INFINITY),
            Activation::Clip(low, high) => (low, high),
        };
        let (low, high) = (S::splat(low), S::splat(high));
        for sums in &mut sums {
            for (sum, bias) in sums.iter_mut().zip(bias) {
                *sum = sum.add(bias);
            }
        }
        if let Some(add) = end.add {
            for (pixel, sums) in sums.iter_mut().enumerate() {
                for (sum, place) in sums.iter_mut().zip(places) {
                    *sum = sum.add(S::load(add.as_ptr().add(place + pixel * BLOCK)));
                }
            }
        }
        for (pixel, sums) in sums.iter().enumerate() {
            for (sum, place) in sums.iter().zip(places) {
                sum.clip(low, high).store(out.add(place + pixel * BLOCK));
            }
        }
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
mod tests;
