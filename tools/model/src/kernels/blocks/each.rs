//! Convolution of each channel by itself (depthwise), channels in blocks, without a copy of the image.
//!
//! ```text
//! y[c, p, q] = b[c] + sum over i, j of w[c, i, j] x[c, p sh + i dh - top, q sw + j dw - left]     within the image
//! ```

use std::ops::Range;

use niwaki_codes::simd::Level;

use super::packed::Line;
use super::plan::{cut, lens};
use super::{BLOCK, End, Out, finish};
use crate::kernels::vector::{LANES, Lanes};
use crate::ops::conv::Span;

/// Pixels that are computed at once where a block is two registers, of which there are few.
const SHORT: &[usize] = &[4, 2, 1];

/// Weights of each channel, in blocks: `[C / 16, taps, 16]`.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    weights: Vec<Line>,
    taps: usize,
    level: Level,
}

impl Packed {
    /// Of `[channels, taps]` weights.
    pub(crate) fn new(weights: &[f32], channels: usize) -> Self {
        Self::at(Level::best(), weights, channels)
    }

    pub(super) fn at(level: Level, weights: &[f32], channels: usize) -> Self {
        let taps = weights.len() / channels.max(1);
        let mut packed = vec![Line([0.0; BLOCK]); channels.div_ceil(BLOCK) * taps];
        for (channel, weights) in weights.chunks_exact(taps.max(1)).enumerate() {
            let block = &mut packed[channel / BLOCK * taps..];
            block.iter_mut().zip(weights).for_each(|(to, from)| to.0[channel % BLOCK] = *from);
        }
        Self { weights: packed, taps, level }
    }
}

/// A convolution of one image.
#[derive(Clone, Copy)]
pub(crate) struct Job<'j> {
    pub(crate) rows: Span,
    pub(crate) cols: Span,
    pub(crate) packed: &'j Packed,
    /// Blocks of channels.
    pub(crate) image: &'j [f32],
    pub(crate) end: End<'j>,
    /// The part of the input that the image is; none for all of it.
    pub(crate) held: Option<Held>,
}

/// Rows of some blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// The first block.
    pub(crate) block: usize,
    /// The first row, and how many there are of each block.
    pub(crate) row: usize,
    pub(crate) rows: usize,
}

impl Job<'_> {
    /// Computes rows of outputs of blocks.
    ///
    /// # Safety
    ///
    /// `out` is still there, and no one else uses these outputs.
    pub(crate) unsafe fn run(&self, blocks: Range<usize>, rows: Range<usize>, out: Out) {
        let (packed, of_block) = (self.packed, self.rows.output * self.cols.output * BLOCK);
        assert!(packed.taps == self.rows.kernel * self.cols.kernel, "weights of another kernel");
        assert!(
            blocks.end * packed.taps <= packed.weights.len() && rows.end <= self.rows.output,
            "outputs that are not there"
        );
        assert!(blocks.end * of_block <= out.len && blocks.end * BLOCK <= self.end.bias.len(), "part of the outputs");
        let held = self.held();
        let taken = self.rows.reach(rows.clone());
        assert!(
            blocks.start >= held.block
                && (blocks.end - held.block) * held.rows * self.cols.input * BLOCK <= self.image.len()
                && (taken.is_empty() || taken.start >= held.row && taken.end <= held.row + held.rows),
            "an image that is too small"
        );
        assert!(self.end.add.is_none_or(|add| add.len() == out.len));
        match packed.level {
            // SAFETY: `sweep` asks what was asserted above.
            Level::Scalar => unsafe { self.sweep::<[f32; LANES], 2>(blocks, rows, out.start) },
            // SAFETY: likewise, and the level proves the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => unsafe { avx2(self, blocks, rows, out.start) },
            // SAFETY: likewise.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => unsafe { avx512(self, blocks, rows, out.start) },
        }
    }

    fn held(&self) -> Held {
        self.held.unwrap_or(Held { block: 0, row: 0, rows: self.rows.input })
    }

    /// `B` registers are a block.
    ///
    /// # Safety
    ///
    /// Image, weights and outputs are as large as [`run`](Self::run) asserts, and this CPU has what `S` needs.
    #[inline(always)]
    unsafe fn sweep<S: Lanes, const B: usize>(&self, blocks: Range<usize>, rows: Range<usize>, out: *mut f32) {
        let cols = &self.cols;
        let all = 0..cols.kernel;
        // Columns whose windows are within the image.
        let first = cols.before.div_ceil(cols.stride).min(cols.output);
        let end = (first..cols.output).rev().find(|col| cols.taps(*col) == all).map_or(first, |col| col + 1);
        let lens = match (B, cols.stride) {
            (1, 1 | 2) => cut(end - first, lens(self.packed.level)),
            (_, 1 | 2) => cut(end - first, SHORT),
            _ => vec![1; end - first],
        };
        for block in blocks {
            for row in rows.clone() {
                let line = Row { block, row, taps: self.rows.taps(row) };
                // SAFETY: the caller's promise; all places of these windows are within the image.
                unsafe {
                    for col in (0..first).chain(end..cols.output) {
                        self.pixels::<S, B, 1, 1>(&line, col, cols.taps(col), out);
                    }
                    match cols.stride {
                        2 => self.line::<S, B, 2>(&line, first, &lens, out),
                        _ => self.line::<S, B, 1>(&line, first, &lens, out),
                    }
                }
            }
        }
    }

    /// Pixels whose windows are within the image, so many at a time; `A` pixels of the image are between theirs where there are
    /// several.
    ///
    /// # Safety
    ///
    /// As [`sweep`](Self::sweep).
    #[inline(always)]
    unsafe fn line<S: Lanes, const B: usize, const A: usize>(
        &self,
        line: &Row,
        mut col: usize,
        lens: &[usize],
        out: *mut f32,
    ) {
        let all = || 0..self.cols.kernel;
        for len in lens {
            // SAFETY: the caller's promise.
            unsafe {
                match len {
                    14 if B == 1 => self.pixels::<S, B, 14, A>(line, col, all(), out),
                    8 if B == 1 => self.pixels::<S, B, 8, A>(line, col, all(), out),
                    7 if B == 1 => self.pixels::<S, B, 7, A>(line, col, all(), out),
                    4 => self.pixels::<S, B, 4, A>(line, col, all(), out),
                    2 => self.pixels::<S, B, 2, A>(line, col, all(), out),
                    _ => self.pixels::<S, B, 1, A>(line, col, all(), out),
                }
            }
            col += len;
        }
    }

    /// `R` pixels from that column on, whose windows are `A` pixels apart.
    ///
    /// # Safety
    ///
    /// As [`sweep`](Self::sweep); the taps are within the image.
    #[inline(always)]
    unsafe fn pixels<S: Lanes, const B: usize, const R: usize, const A: usize>(
        &self,
        line: &Row,
        col: usize,
        taps: Range<usize>,
        out: *mut f32,
    ) {
        let step = LANES * S::PARTS;
        // SAFETY: the caller's promise.
        unsafe {
            let sums = self.sums::<S, B, R, A>(line, col, taps);
            let place = ((line.block * self.rows.output + line.row) * self.cols.output + col) * BLOCK;
            let mut places = [place; B];
            places.iter_mut().enumerate().for_each(|(at, place)| *place += at * step);
            finish(sums, self.end, (line.block * BLOCK, places), out);
        }
    }

    /// The sums of pixels; apart from what becomes of them, so that they stay in registers.
    ///
    /// # Safety
    ///
    /// As [`pixels`](Self::pixels).
    #[inline(always)]
    unsafe fn sums<S: Lanes, const B: usize, const R: usize, const A: usize>(
        &self,
        line: &Row,
        col: usize,
        taps: Range<usize>,
    ) -> [[S; B]; R] {
        let (rows, cols, step) = (&self.rows, &self.cols, LANES * S::PARTS);
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[S::splat(0.0); B]; R];
            let held = self.held();
            let plane = self.image.as_ptr().add((line.block - held.block) * held.rows * cols.input * BLOCK);
            let weights = self.packed.weights.as_ptr().add(line.block * self.packed.taps);
            for i in line.taps.clone() {
                let y = line.row * rows.stride + i * rows.dilation - rows.before - held.row;
                for j in taps.clone() {
                    let x = plane.add((y * cols.input + (col * cols.stride + j * cols.dilation - cols.before)) * BLOCK);
                    let weight = weights.add(i * cols.kernel + j).cast::<f32>();
                    for at in 0..B {
                        let w = S::load(weight.add(at * step));
                        for (pixel, sums) in sums.iter_mut().enumerate() {
                            sums[at] = sums[at].add_product(S::load(x.add(pixel * A * BLOCK + at * step)), w);
                        }
                    }
                }
            }
            sums
        }
    }
}

/// A row of outputs of a block.
struct Row {
    block: usize,
    row: usize,
    /// Rows of the window that are within the image.
    taps: Range<usize>,
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(job: &Job<'_>, blocks: Range<usize>, rows: Range<usize>, out: *mut f32) {
    // SAFETY: the caller keeps the contract of `Job::sweep`.
    unsafe { job.sweep::<std::arch::x86_64::__m256, 2>(blocks, rows, out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512vl")]
unsafe fn avx512(job: &Job<'_>, blocks: Range<usize>, rows: Range<usize>, out: *mut f32) {
    // SAFETY: the caller keeps the contract of `Job::sweep`.
    unsafe { job.sweep::<std::arch::x86_64::__m512, 1>(blocks, rows, out) }
}
