//! Convolution of windows of three by three that move by one pixel, from fewer products: Winograd's F(2x2, 3x3).
//!
//! ```text
//! Y = A' [sum over c of (G g G') * (B' d B)] A
//!
//!      1   0   0            1  0 -1  0            1  1  1  0
//! G =  .5  .5  .5      B' = 0  1  1  0       A' = 0  1 -1 -1
//!      .5 -.5  .5           0 -1  1  0
//!      0   0   1            0  1  0 -1
//! ```
//!
//! Four outputs `Y`, two by two, take four by four pixels `d` of each channel, and 16 products instead of 36 (Lavin and Gray,
//! "Fast Algorithms for Convolutional Neural Networks", 2015, section 4.1). For each of the 16 places the products are a
//! convolution of one by one, over tiles instead of pixels. Sums are made in another order than those of
//! [`blocks`](super), so that results differ in their last digits; they do not hang on the strips that tiles are taken in.

mod enter;
mod packed;
pub(crate) mod slopes;

use std::ops::Range;

use niwaki_codes::simd::Level;

use super::{BLOCK, End, Job, Out, finish};
use crate::kernels::conv::Activation;
use crate::kernels::vector::{LANES, Lanes};
use crate::ops::conv::Span;
use enter::Blocks;
pub(crate) use packed::Packed;

/// Pixels of a tile along a side, places of all of them, and outputs along a side.
const SIDE: usize = 4;
pub(crate) const PLACES: usize = SIDE * SIDE;
const STEP: usize = SIDE - 2;

/// What tiles that are taken at once may hold, in elements: 256 KiB, a part of a second-level cache.
const ROOM: usize = 1 << 16;

/// The longest row of tiles for which sums stay in registers, see [`plan`](super::plan), whatever the level.
const ROW: usize = 42;

/// How tiles lie on images.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    input: [usize; 2],
    output: [usize; 2],
    /// Rows of padding above, and columns to the left.
    before: [usize; 2],
    /// Tiles of an image, down and along.
    tiles: [usize; 2],
}

impl Plan {
    /// Of windows of three by three that move by one pixel.
    pub(crate) fn new(spans: [Span; 2]) -> Self {
        let output = spans.map(|span| span.output);
        let tiles = output.map(|size| size.div_ceil(STEP));
        Self { input: spans.map(|span| span.input), output, before: spans.map(|span| span.before), tiles }
    }

    /// Tiles of an image.
    pub(crate) fn tiles(&self) -> usize {
        self.tiles[0] * self.tiles[1]
    }

    /// Tiles, row by row.
    fn rows(&self, strip: Range<usize>) -> impl Iterator<Item = Row> {
        let ([down, along], start) = (self.tiles, strip.start);
        (start / along..strip.end.div_ceil(along)).map(move |row| {
            let cols = strip.start.max(row * along)..strip.end.min((row + 1) * along);
            let nth = cols.start - start;
            Row { nth, image: row / down, row: row % down, cols: cols.start - row * along..cols.end - row * along }
        })
    }
}

/// A convolution of images.
#[derive(Clone, Copy)]
pub(crate) struct Work<'w> {
    pub(crate) plan: &'w Plan,
    pub(crate) packed: &'w Packed,
    /// Blocks of channels.
    pub(crate) images: &'w [f32],
    pub(crate) end: End<'w>,
}

/// Tiles of a row that are taken at once.
struct Row {
    /// Place of the first one in its strip.
    nth: usize,
    image: usize,
    row: usize,
    cols: Range<usize>,
}

impl Work<'_> {
    /// Tiles that are taken at once, of so many.
    fn strip(&self, tiles: usize) -> usize {
        let of_tile = (self.packed.inputs * BLOCK + self.packed.zeros.len()) * PLACES;
        (ROOM / of_tile / ROW).max(1).saturating_mul(ROW).min(tiles)
    }

    /// Elements that so many tiles take on their way.
    pub(crate) fn room(&self, tiles: usize) -> usize {
        self.strip(tiles) * PLACES * (self.packed.inputs * BLOCK + self.packed.zeros.len())
    }

    /// Computes the outputs of tiles of groups of blocks; tiles of all images count.
    ///
    /// # Safety
    ///
    /// `out` is still there, and no one else uses these outputs.
    pub(crate) unsafe fn run(&self, groups: Range<usize>, tiles: Range<usize>, room: &mut [f32], out: Out) {
        let (plan, packed) = (self.plan, self.packed);
        let images = tiles.end.div_ceil(plan.tiles().max(1));
        let outputs = packed.zeros.len();
        assert!(out.len >= images * outputs * plan.output[0] * plan.output[1], "part of the outputs");
        assert!(self.end.bias.len() == outputs && self.end.add.is_none_or(|add| add.len() == out.len));
        let blocks = packed.places[0].blocks_of(groups.clone());
        let long = self.strip(tiles.len());
        let mut products = super::Plan::pixels(packed.level, long);
        for start in tiles.clone().step_by(long.max(1)) {
            let strip = start..(start + long).min(tiles.end);
            if strip.len() < long {
                products = super::Plan::pixels(packed.level, strip.len());
            }
            let (pixels, rest) = room.split_at_mut(strip.len() * PLACES * packed.inputs * BLOCK);
            let sums = &mut rest[..strip.len() * PLACES * outputs];
            let images = Blocks { plan, images: self.images, channels: packed.inputs };
            images.enter(packed.level, strip.clone(), pixels);
            self.multiply(groups.clone(), &products, pixels, sums);
            // SAFETY: the caller's promise, and outputs are as many as asserted.
            unsafe { self.leave(strip, blocks.clone(), sums, out) };
        }
    }

    /// For each place, sums over the input channels.
    fn multiply(&self, groups: Range<usize>, plan: &super::Plan, pixels: &[f32], sums: &mut [f32]) {
        let end = End { bias: &self.packed.zeros, add: None, activation: Activation::None };
        let places = pixels.chunks_exact(pixels.len() / PLACES).zip(sums.chunks_exact_mut(sums.len() / PLACES));
        for (packed, (image, sums)) in self.packed.places.iter().zip(places) {
            let job = Job { plan, packed, image, end, first: 0 };
            // SAFETY: sums are borrowed, for all tiles.
            unsafe { job.run(groups.clone(), 0..plan.tiles(), Out::new(sums)) };
        }
    }

    /// `A' m A` of tiles of blocks of output channels, and what comes after.
    ///
    /// # Safety
    ///
    /// `out` has all images of these tiles, and no one else uses these outputs.
    unsafe fn leave(&self, strip: Range<usize>, blocks: Range<usize>, sums: &[f32], out: Out) {
        match self.packed.level {
            // SAFETY: the caller's promise.
            Level::Scalar => unsafe { self.leave_at::<[f32; LANES]>(strip, blocks, sums, out.start) },
            // SAFETY: likewise, and the level proves the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => unsafe { x86_64::leave_avx2(self, strip, blocks, sums, out.start) },
            // SAFETY: likewise.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => unsafe { x86_64::leave_avx512(self, strip, blocks, sums, out.start) },
        }
    }

    /// # Safety
    ///
    /// As [`leave`](Self::leave), and this CPU has what `S` needs.
    #[inline(always)]
    unsafe fn leave_at<S: Lanes>(&self, strip: Range<usize>, blocks: Range<usize>, sums: &[f32], out: *mut f32) {
        let ([height, width], tiles) = (self.plan.output, strip.len());
        let outputs = self.packed.zeros.len() / BLOCK;
        let place = outputs * tiles * BLOCK;
        assert!(sums.len() == place * PLACES && blocks.end <= outputs, "sums of other tiles");
        for Row { nth, image, row, cols } in self.plan.rows(strip) {
            for block in blocks.clone() {
                let first = ((image * outputs + block) * height + row * STEP) * width;
                let below = row * STEP + 1 < height;
                for lane in (0..BLOCK).step_by(LANES * S::PARTS) {
                    let channel = block * BLOCK + lane;
                    // SAFETY: the sums of these tiles are there; outputs are those within the image.
                    unsafe {
                        let mut from = sums.as_ptr().add((block * tiles + nth) * BLOCK + lane);
                        for col in cols.clone() {
                            let [upper, lower] = four::<S>(from, place);
                            let at = (first + col * STEP) * BLOCK + lane;
                            let beside = col * STEP + 1 < width;
                            for (row, sums) in [upper, lower].into_iter().enumerate().take(1 + usize::from(below)) {
                                let place = (channel, [at + row * width * BLOCK]);
                                if beside {
                                    finish(sums.map(|sum| [sum]), self.end, place, out);
                                } else {
                                    finish([[sums[0]]], self.end, place, out);
                                }
                            }
                            from = from.add(BLOCK);
                        }
                    }
                }
            }
        }
    }
}

/// `A' m A`, from 16 places.
///
/// # Safety
///
/// Sums stand there, and this CPU has what `S` needs.
#[inline(always)]
unsafe fn four<S: Lanes>(from: *const f32, place: usize) -> [[S; STEP]; STEP] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut halves = [[S::splat(0.0); STEP]; SIDE];
        for (row, half) in halves.iter_mut().enumerate() {
            let from = from.add(row * SIDE * place);
            let [a, b, c, d] =
                [S::load(from), S::load(from.add(place)), S::load(from.add(2 * place)), S::load(from.add(3 * place))];
            *half = [a.add(b).add(c), b.subtract(c).subtract(d)];
        }
        let [a, b, c, d] = halves;
        let upper = [a[0].add(b[0]).add(c[0]), a[1].add(b[1]).add(c[1])];
        let lower = [b[0].subtract(c[0]).subtract(d[0]), b[1].subtract(c[1]).subtract(d[1])];
        [upper, lower]
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{__m256, __m512};

    use super::{Range, Work};

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn leave_avx2(
        work: &Work<'_>,
        strip: Range<usize>,
        blocks: Range<usize>,
        sums: &[f32],
        out: *mut f32,
    ) {
        // SAFETY: the caller keeps the contract of `Work::leave_at`.
        unsafe { work.leave_at::<__m256>(strip, blocks, sums, out) }
    }

    #[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512vl")]
    pub(super) unsafe fn leave_avx512(
        work: &Work<'_>,
        strip: Range<usize>,
        blocks: Range<usize>,
        sums: &[f32],
        out: *mut f32,
    ) {
        // SAFETY: the caller keeps the contract of `Work::leave_at`.
        unsafe { work.leave_at::<__m512>(strip, blocks, sums, out) }
    }
}

#[cfg(test)]
mod tests;
