//! The gradient of the weights of windows of three by three that move by one pixel, from fewer products.
//!
//! ```text
//! dW = G' [sum over tiles of (B' d B) * (A dY A')] G
//! ```
//!
//! What [`winograd`](super) makes of an image is linear in the weights; this is its adjoint: 16 products instead of 36 for four
//! outputs. For each place, input channel, and output channel, sums over tiles stay in registers, output channels in lanes;
//! they do not hang on the strips that tiles are taken in.

use niwaki_codes::simd::Level;

use super::{BLOCK, Blocks, PLACES, Plan, ROOM, SIDE};
use crate::kernels::vector::{LANES, Lanes};

/// Gradients of weights, in the making.
#[derive(Clone, Copy)]
pub(crate) struct Slopes<'s> {
    plan: &'s Plan,
    level: Level,
    /// Blocks of input channels, and of output channels.
    inputs: usize,
    outputs: usize,
}

impl<'s> Slopes<'s> {
    /// For so many input and output channels.
    pub(crate) fn new(plan: &'s Plan, channels: [usize; 2]) -> Self {
        Self::at(Level::best(), plan, channels)
    }

    pub(super) fn at(level: Level, plan: &'s Plan, channels: [usize; 2]) -> Self {
        let [inputs, outputs] = channels.map(|channels| channels.div_ceil(BLOCK));
        Self { plan, level, inputs, outputs }
    }

    /// Elements of the sums: `[16, O / 16, C / 16, 16, 16]`, output channels innermost.
    pub(crate) fn sums(&self) -> usize {
        PLACES * self.outputs * self.inputs * BLOCK * BLOCK
    }

    /// Tiles that are taken at once, of so many.
    fn strip(&self, tiles: usize) -> usize {
        (ROOM / ((self.inputs + self.outputs) * BLOCK * PLACES)).max(LONG).min(tiles)
    }

    /// Elements that so many tiles take on their way.
    pub(crate) fn room(&self, tiles: usize) -> usize {
        self.strip(tiles) * PLACES * (self.inputs + self.outputs) * BLOCK
    }

    /// Adds what tiles of images give; `images` and `gradients` stand in blocks of channels, and tiles of all of them count.
    pub(crate) fn add(&self, [images, gradients]: [&[f32]; 2], tiles: usize, room: &mut [f32], sums: &mut [f32]) {
        let long = self.strip(tiles);
        for start in (0..tiles).step_by(long.max(1)) {
            let strip = start..(start + long).min(tiles);
            let (pixels, rest) = room.split_at_mut(strip.len() * PLACES * self.inputs * BLOCK);
            let outputs = &mut rest[..strip.len() * PLACES * self.outputs * BLOCK];
            let blocks = |images, channels| Blocks { plan: self.plan, images, channels };
            blocks(images, self.inputs).enter(self.level, strip.clone(), pixels);
            blocks(gradients, self.outputs).enter_outputs(self.level, strip.clone(), outputs);
            self.multiply(strip.len(), [pixels, outputs], sums);
        }
    }

    /// Adds the products of so many tiles.
    fn multiply(&self, tiles: usize, [pixels, outputs]: [&[f32]; 2], sums: &mut [f32]) {
        let block = tiles * BLOCK;
        assert!(sums.len() == self.sums() && pixels.len() == PLACES * self.inputs * block, "other channels");
        assert!(outputs.len() == PLACES * self.outputs * block, "other outputs");
        let places = pixels.chunks_exact(self.inputs * block).zip(outputs.chunks_exact(self.outputs * block));
        let of_place = sums.chunks_exact_mut(self.outputs * self.inputs * BLOCK * BLOCK);
        for ((pixels, outputs), sums) in places.zip(of_place) {
            let pairs = outputs.chunks_exact(block).flat_map(|g| pixels.chunks_exact(block).map(move |x| [x, g]));
            for (pair, sums) in pairs.zip(sums.chunks_exact_mut(BLOCK * BLOCK)) {
                match self.level {
                    // SAFETY: both have as many tiles, and there is a sum for every two channels.
                    Level::Scalar => unsafe { products::<[f32; LANES], 8>(pair, sums) },
                    // SAFETY: likewise, and the level proves the features.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2(_) => unsafe { x86_64::products_avx2(pair, sums) },
                    // SAFETY: likewise.
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512(_) => unsafe { x86_64::products_avx512(pair, sums) },
                }
            }
        }
    }

    /// `G' m G` of the sums: weights `[O, C, 3, 3]` of so many input channels.
    pub(crate) fn leave(&self, sums: &[f32], channels: usize, out: &mut [f32]) {
        let place = self.outputs * self.inputs * BLOCK * BLOCK;
        let (kernels, _) = out.as_chunks_mut::<9>();
        for (nth, kernel) in kernels.iter_mut().enumerate() {
            let (o, c) = (nth / channels, nth % channels);
            let at = (o / BLOCK * self.inputs + c / BLOCK) * BLOCK * BLOCK + c % BLOCK * BLOCK + o % BLOCK;
            *kernel = gathered(|row, col| sums[(row * SIDE + col) * place + at]);
        }
    }
}

/// Tiles that are worth it to take sums out of memory and back.
const LONG: usize = 32;

/// `G' m G`.
pub(super) fn gathered(m: impl Fn(usize, usize) -> f32) -> [f32; 9] {
    let three = |[a, b, c, d]: [f32; SIDE]| [a + (b + c) * 0.5, (b - c) * 0.5, (b + c) * 0.5 + d];
    let rows = [0, 1, 2, 3].map(|row| three([0, 1, 2, 3].map(|col| m(row, col))));
    let columns = [0, 1, 2].map(|col| three(rows.map(|row| row[col])));
    std::array::from_fn(|at| columns[at % 3][at / 3])
}

/// Adds the products of each of 16 channels with each of 16 others, `R` by `S` at once.
///
/// # Safety
///
/// Both have as many tiles, `sums` is 16 by 16, and this CPU has what `S` needs.
#[inline(always)]
unsafe fn products<S: Lanes, const R: usize>([x, g]: [&[f32]; 2], sums: &mut [f32]) {
    for first in (0..BLOCK).step_by(R) {
        for lane in (0..BLOCK).step_by(LANES * S::PARTS) {
            // SAFETY: the caller's promise.
            unsafe {
                let place = sums.as_mut_ptr().add(first * BLOCK + lane);
                let mut all = [S::splat(0.0); R];
                for (row, sum) in all.iter_mut().enumerate() {
                    *sum = S::load(place.add(row * BLOCK));
                }
                for tile in (0..x.len()).step_by(BLOCK) {
                    let g = S::load(g.as_ptr().add(tile + lane));
                    let x = x.as_ptr().add(tile + first);
                    for (row, sum) in all.iter_mut().enumerate() {
                        *sum = sum.add_product(S::splat(*x.add(row)), g);
                    }
                }
                for (row, sum) in all.into_iter().enumerate() {
                    sum.store(place.add(row * BLOCK));
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{__m256, __m512};

    use super::products;

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn products_avx2(pair: [&[f32]; 2], sums: &mut [f32]) {
        // SAFETY: the caller keeps the contract of `products`.
        unsafe { products::<__m256, 8>(pair, sums) }
    }

    #[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512vl")]
    pub(super) unsafe fn products_avx512(pair: [&[f32]; 2], sums: &mut [f32]) {
        // SAFETY: the caller keeps the contract of `products`.
        unsafe { products::<__m512, 16>(pair, sums) }
    }
}
