//! Tiles spread over their 16 places.

use std::ops::Range;

use niwaki_codes::simd::Level;

use super::{BLOCK, PLACES, Plan, Row, SIDE, STEP};
use crate::kernels::vector::{LANES, Lanes};

/// Images of blocks of channels.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'b> {
    pub(super) plan: &'b Plan,
    pub(super) images: &'b [f32],
    /// Blocks of them.
    pub(super) channels: usize,
}

impl Blocks<'_> {
    /// `B' d B` of tiles: `[16, C / 16, tiles, 16]`.
    pub(super) fn enter(self, level: Level, strip: Range<usize>, pixels: &mut [f32]) {
        self.check(self.plan.input, &strip, pixels);
        match level {
            // SAFETY: images and room are as large as was checked.
            Level::Scalar => unsafe { self.enter_at::<[f32; LANES]>(strip, pixels) },
            // SAFETY: likewise, and the level proves the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => unsafe { x86_64::enter_avx2(self, strip, pixels) },
            // SAFETY: likewise.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => unsafe { x86_64::enter_avx512(self, strip, pixels) },
        }
    }

    /// `A y A'` of tiles of outputs, the images here: `[16, O / 16, tiles, 16]`.
    pub(super) fn enter_outputs(self, level: Level, strip: Range<usize>, places: &mut [f32]) {
        self.check(self.plan.output, &strip, places);
        match level {
            // SAFETY: images and room are as large as was checked.
            Level::Scalar => unsafe { self.outputs_at::<[f32; LANES]>(strip, places) },
            // SAFETY: likewise, and the level proves the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => unsafe { x86_64::outputs_avx2(self, strip, places) },
            // SAFETY: likewise.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => unsafe { x86_64::outputs_avx512(self, strip, places) },
        }
    }

    /// Panics where images of this size or the room are not as large as the tiles take.
    fn check(&self, [height, width]: [usize; 2], strip: &Range<usize>, room: &[f32]) {
        let images = strip.end.div_ceil(self.plan.tiles().max(1));
        assert!(self.images.len() >= images * self.channels * height * width * BLOCK, "an image that is too small");
        assert!(room.len() == PLACES * self.channels * strip.len() * BLOCK, "room for other tiles");
    }

    /// # Safety
    ///
    /// There are all images of these tiles, and room for as many; this CPU has what `S` needs.
    #[inline(always)]
    unsafe fn enter_at<S: Lanes>(self, strip: Range<usize>, pixels: &mut [f32]) {
        let ([height, width], tiles) = (self.plan.input, strip.len());
        let place = self.channels * tiles * BLOCK;
        for Row { nth, image, row, cols } in self.plan.rows(strip) {
            let top = (row * STEP).wrapping_sub(self.plan.before[0]);
            for block in 0..self.channels {
                let plane = (image * self.channels + block) * height * width;
                for lane in (0..BLOCK).step_by(LANES * S::PARTS) {
                    // SAFETY: rows and columns are only taken within the image, and the tiles have room.
                    unsafe {
                        let plane = self.images.as_ptr().add(plane * BLOCK + lane);
                        let rows = [0, 1, 2, 3].map(|row| {
                            let row = top.wrapping_add(row);
                            (row < height).then(|| plane.add(row * width * BLOCK))
                        });
                        let mut to = pixels.as_mut_ptr().add((block * tiles + nth) * BLOCK + lane);
                        let left = (cols.start * STEP).wrapping_sub(self.plan.before[1]);
                        let mut before = columns::<S>(rows, left, width);
                        for col in 0..cols.len() {
                            let after = columns::<S>(rows, left.wrapping_add((col + 1) * STEP), width);
                            put(before, after, place, to);
                            before = after;
                            to = to.add(BLOCK);
                        }
                    }
                }
            }
        }
    }

    /// # Safety
    ///
    /// As [`enter_at`](Self::enter_at).
    #[inline(always)]
    unsafe fn outputs_at<S: Lanes>(self, strip: Range<usize>, places: &mut [f32]) {
        let ([height, width], tiles) = (self.plan.output, strip.len());
        let place = self.channels * tiles * BLOCK;
        for Row { nth, image, row, cols } in self.plan.rows(strip) {
            let below = row * STEP + 1 < height;
            for block in 0..self.channels {
                let first = ((image * self.channels + block) * height + row * STEP) * width;
                for lane in (0..BLOCK).step_by(LANES * S::PARTS) {
                    // SAFETY: outputs are those within the image, and the tiles have room.
                    unsafe {
                        let from = self.images.as_ptr().add(first * BLOCK + lane);
                        let rows = [Some(from), below.then(|| from.add(width * BLOCK))];
                        let mut to = places.as_mut_ptr().add((block * tiles + nth) * BLOCK + lane);
                        for col in cols.clone() {
                            let left = output_column::<S>(rows, col * STEP, width);
                            let right = output_column::<S>(rows, col * STEP + 1, width);
                            put_outputs(left, right, place, to);
                            to = to.add(BLOCK);
                        }
                    }
                }
            }
        }
    }
}

/// `B'` times two columns of four pixels next to each other, from `col` on, 0 where there is none.
///
/// # Safety
///
/// Each row has `width` pixels, and this CPU has what `S` needs.
#[inline(always)]
unsafe fn columns<S: Lanes>(rows: [Option<*const f32>; SIDE], col: usize, width: usize) -> [[S; SIDE]; STEP] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut both = [[S::splat(0.0); SIDE]; STEP];
        for (nth, column) in both.iter_mut().enumerate() {
            let col = col.wrapping_add(nth);
            if col >= width {
                continue;
            }
            let mut d = [S::splat(0.0); SIDE];
            for (d, row) in d.iter_mut().zip(rows) {
                if let Some(row) = row {
                    *d = S::load(row.add(col * BLOCK));
                }
            }
            *column = [d[0].subtract(d[2]), d[1].add(d[2]), d[2].subtract(d[1]), d[1].subtract(d[3])];
        }
        both
    }
}

/// Four columns times `B`, stored in 16 places.
///
/// # Safety
///
/// There is room for them, and this CPU has what `S` needs.
#[inline(always)]
unsafe fn put<S: Lanes>(before: [[S; SIDE]; STEP], after: [[S; SIDE]; STEP], place: usize, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        for row in 0..SIDE {
            let [a, b, c, d] = [before[0][row], before[1][row], after[0][row], after[1][row]];
            let to = to.add(row * SIDE * place);
            a.subtract(c).store(to);
            b.add(c).store(to.add(place));
            c.subtract(b).store(to.add(2 * place));
            b.subtract(d).store(to.add(3 * place));
        }
    }
}

/// `A` times a column of two outputs, 0 where there is none.
///
/// # Safety
///
/// Each row has `width` outputs, and this CPU has what `S` needs.
#[inline(always)]
unsafe fn output_column<S: Lanes>(rows: [Option<*const f32>; STEP], col: usize, width: usize) -> [S; SIDE] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut y = [S::splat(0.0); STEP];
        for (y, row) in y.iter_mut().zip(rows) {
            if let (Some(row), true) = (row, col < width) {
                *y = S::load(row.add(col * BLOCK));
            }
        }
        spread_pair(y)
    }
}

/// Two columns times `A'`, stored in 16 places.
///
/// # Safety
///
/// There is room for them, and this CPU has what `S` needs.
#[inline(always)]
unsafe fn put_outputs<S: Lanes>(left: [S; SIDE], right: [S; SIDE], place: usize, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        for row in 0..SIDE {
            let all = spread_pair([left[row], right[row]]);
            for (col, sum) in all.into_iter().enumerate() {
                sum.store(to.add((row * SIDE + col) * place));
            }
        }
    }
}

/// `A` times two.
///
/// # Safety
///
/// This CPU has what `S` needs.
#[inline(always)]
unsafe fn spread_pair<S: Lanes>([a, b]: [S; STEP]) -> [S; SIDE] {
    // SAFETY: the caller's promise.
    unsafe { [a, a.add(b), a.subtract(b), S::splat(0.0).subtract(b)] }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{__m256, __m512};

    use super::{Blocks, Range};

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn enter_avx2(blocks: Blocks<'_>, strip: Range<usize>, pixels: &mut [f32]) {
        // SAFETY: the caller keeps the contract of `Blocks::enter_at`.
        unsafe { blocks.enter_at::<__m256>(strip, pixels) }
    }

    #[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512vl")]
    pub(super) unsafe fn enter_avx512(blocks: Blocks<'_>, strip: Range<usize>, pixels: &mut [f32]) {
        // SAFETY: the caller keeps the contract of `Blocks::enter_at`.
        unsafe { blocks.enter_at::<__m512>(strip, pixels) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn outputs_avx2(blocks: Blocks<'_>, strip: Range<usize>, places: &mut [f32]) {
        // SAFETY: the caller keeps the contract of `Blocks::outputs_at`.
        unsafe { blocks.outputs_at::<__m256>(strip, places) }
    }

    #[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512vl")]
    pub(super) unsafe fn outputs_avx512(blocks: Blocks<'_>, strip: Range<usize>, places: &mut [f32]) {
        // SAFETY: the caller keeps the contract of `Blocks::outputs_at`.
        unsafe { blocks.outputs_at::<__m512>(strip, places) }
    }
}
