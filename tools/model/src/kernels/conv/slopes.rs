//! The gradient of a convolution's weights, from that of its outputs.
//!
//! ```text
//! dw[o, c, i, j] = sum over n, p, q of dy[n, o, p, q] x[n, c, p sh + i dh - top, q sw + j dw - left]
//! ```
//!
//! Images lie in memory as for the way there ([`Plan`]): under every tap, neighbouring outputs have
//! neighbouring numbers. A tile of `R` output channels by `T` taps stays in registers, each sum spread
//! over the lanes of one, while the outputs of a group of images go by; the lanes are put together at
//! the end of the group, and the groups in order: the sums do not hang on threads.

use std::ops::Range;

use niwaki_codes::simd::Level;

use super::super::vector::{LANES, Lanes};
use super::Plan;

/// Outputs that a group of images has at least, where there are so many: putting lanes together costs
/// about as much as a hundred.
const GROUP: usize = 2048;

/// How the outputs of a convolution's images lie in memory for the gradient of its weights.
#[derive(Clone, Debug)]
pub(crate) struct Slopes<'p> {
    plan: &'p Plan,
    /// Where the first tap of each vector of outputs is; an even number of them.
    from: Vec<usize>,
    /// Vectors of a row of outputs.
    across: usize,
    rows: usize,
    columns: usize,
    /// Input channels of a group.
    channels: usize,
    /// Output channels of a group, and what they are rounded up to.
    out: usize,
    tall: usize,
    height: usize,
    level: Level,
}

impl<'p> Slopes<'p> {
    /// For so many input and output channels.
    pub(crate) fn new(plan: &'p Plan, channels: usize, out: usize) -> Self {
        Self::at(Level::best(), plan, channels, out)
    }

    fn at(level: Level, plan: &'p Plan, channels: usize, out: usize) -> Self {
        // All pixels of a direct plan are one row.
        let [rows, columns] = if plan.direct { [1, plan.size] } else { plan.output };
        let across = columns.div_ceil(LANES);
        let step = plan.geometry.stride[0] * plan.width;
        let from = |row: usize| (0..across).map(move |at| row * step + at * LANES);
        let mut from: Vec<usize> = (0..rows).flat_map(from).collect();
        if !from.len().is_multiple_of(2) {
            from.extend(from.last().map(|last| last + LANES));
        }
        let most = match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => 8,
            _ => 4,
        };
        let height = if out == 1 {
            1
        } else if out <= 4 {
            4
        } else {
            most
        };
        let tall = out.next_multiple_of(height);
        Self { plan, from, across, rows, columns, channels, out, tall, height, level }
    }

    /// Images of a group.
    pub(crate) fn group(&self) -> usize {
        (GROUP / (self.rows * self.columns).max(1)).clamp(1, 16)
    }

    /// Elements that the gradient of one image's outputs takes.
    pub(crate) fn spread(&self) -> usize {
        self.tall * self.from.len() * LANES
    }

    /// Elements that an image takes with its padding, with what vectors reach past its end.
    pub(crate) fn padded(&self) -> usize {
        self.channels * self.plan.plane + 2 * LANES
    }

    /// Copies an image with its padding; `out` may hold anything.
    pub(crate) fn pad(&self, image: &[f32], out: &mut [f32]) {
        let end = self.channels * self.plan.plane;
        match self.plan.direct {
            true => out[..end].copy_from_slice(image),
            false => self.plan.pad(image, &mut out[..end]),
        }
        out[end..].fill(0.0);
    }

    /// Copies the gradient of an image's outputs into vectors, with zeros where rows and channels end;
    /// `out` may hold anything.
    pub(crate) fn lay(&self, gradient: &[f32], out: &mut [f32]) {
        let (width, last) = (self.across * LANES, self.from.len() * LANES);
        let mut channels = out.chunks_exact_mut(last.max(1));
        for (gradient, out) in gradient.chunks_exact((self.rows * self.columns).max(1)).zip(&mut channels) {
            if width == self.columns {
                out[..gradient.len()].copy_from_slice(gradient);
            } else {
                for (gradient, out) in gradient.chunks_exact(self.columns).zip(out.chunks_exact_mut(width)) {
                    out[..self.columns].copy_from_slice(gradient);
                    out[self.columns..].fill(0.0);
                }
            }
            out[self.rows * width..].fill(0.0);
        }
        channels.for_each(|out| out.fill(0.0));
    }

    /// Adds to the gradient of weights `[out, channels, taps]` what a group of images gives to it:
    /// `images` as [`pad`](Self::pad), `gradients` as [`lay`](Self::lay) makes them, one after the other.
    /// Only output channels of `tiles`, which are counted in [`tiles`](Self::tiles).
    pub(crate) fn add(&self, images: &[f32], gradients: &[f32], tiles: Range<usize>, out: &mut [f32]) {
        let count = images.len() / self.padded();
        assert!(images.len() == count * self.padded() && gradients.len() == count * self.spread(), "other images");
        assert!(tiles.end * self.height <= self.tall && out.len() >= self.len(&tiles), "channels that are not there");
        let furthest = self.from.iter().max().copied().unwrap_or(0) + self.plan.taps.iter().max().copied().unwrap_or(0);
        assert!(furthest + LANES <= self.plan.plane + 2 * LANES, "vectors past the end");
        let job = Job { slopes: self, images, gradients };
        match self.level {
            // SAFETY: `run` asks what was asserted above.
            Level::Scalar => unsafe { job.run::<[f32; LANES]>(tiles, out) },
            // SAFETY: likewise, and the level proves the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => unsafe { run_avx2(&job, tiles, out) },
            // SAFETY: likewise.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => unsafe { run_avx512(&job, tiles, out) },
        }
    }

    /// How many tiles there are.
    pub(crate) fn tiles(&self) -> usize {
        self.tall / self.height
    }

    /// Weights of the output channels of some tiles.
    pub(crate) fn len(&self, tiles: &Range<usize>) -> usize {
        let end = (tiles.end * self.height).min(self.out);
        (end - (tiles.start * self.height).min(end)) * self.channels * self.plan.taps.len()
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2(job: &Job<'_>, tiles: Range<usize>, out: &mut [f32]) {
    // SAFETY: the caller keeps the contract of `Job::run`.
    unsafe { job.run::<std::arch::x86_64::__m256>(tiles, out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512vl")]
unsafe fn run_avx512(job: &Job<'_>, tiles: Range<usize>, out: &mut [f32]) {
    // SAFETY: the caller keeps the contract of `Job::run`.
    unsafe { job.run::<std::arch::x86_64::__m512>(tiles, out) }
}

struct Job<'j> {
    slopes: &'j Slopes<'j>,
    images: &'j [f32],
    gradients: &'j [f32],
}

impl Job<'_> {
    /// # Safety
    ///
    /// Every vector with every tap of every channel stands within its image, and this CPU has what `S`
    /// needs.
    #[inline(always)]
    unsafe fn run<S: Lanes>(&self, tiles: Range<usize>, out: &mut [f32]) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.slopes.height {
                1 => self.sweep::<S, 1, 9>(tiles, out),
                4 => self.sweep::<S, 4, 3>(tiles, out),
                _ => self.sweep::<S, 8, 3>(tiles, out),
            }
        }
    }

    /// # Safety
    ///
    /// As [`run`](Self::run).
    #[inline(always)]
    unsafe fn sweep<S: Lanes, const R: usize, const T: usize>(&self, tiles: Range<usize>, out: &mut [f32]) {
        let slopes = self.slopes;
        let taps = &slopes.plan.taps;
        let each = slopes.channels * taps.len();
        let joined = slopes.from.chunks_exact(2).all(|pair| pair[0] + LANES == pair[1]);
        for (nth, tile) in tiles.enumerate() {
            let first = tile * R;
            let count = (slopes.out - first).min(R);
            for column in (0..each).step_by(T) {
                // The last tile has its last column several times.
                let mut offsets = [0; T];
                for (t, offset) in offsets.iter_mut().enumerate() {
                    let at = (column + t).min(each - 1);
                    *offset = at / taps.len() * slopes.plan.plane + taps[at % taps.len()];
                }
                // SAFETY: the caller's promise.
                let sums = unsafe {
                    if S::PARTS == 1 || joined {
                        self.tile::<S, R, T, true>(first, offsets)
                    } else {
                        self.tile::<S, R, T, false>(first, offsets)
                    }
                };
                for (row, sums) in sums.iter().take(count).enumerate() {
                    let out = &mut out[(nth * R + row) * each + column..];
                    out.iter_mut().zip(sums).take(each - column).for_each(|(out, sum)| *out += sum);
                }
            }
        }
    }

    /// The sums of a tile over all images.
    ///
    /// # Safety
    ///
    /// As [`run`](Self::run).
    #[inline(always)]
    unsafe fn tile<S: Lanes, const R: usize, const T: usize, const JOINED: bool>(
        &self,
        first: usize,
        offsets: [usize; T],
    ) -> [[f32; T]; R] {
        let slopes = self.slopes;
        let long = slopes.from.len() * LANES;
        // SAFETY: the caller promises that vectors and gradients are there, and that the CPU has `S`.
        unsafe {
            let mut sums = [[S::splat(0.0); T]; R];
            let images = self.images.chunks_exact(slopes.padded());
            for (image, gradients) in images.zip(self.gradients.chunks_exact(slopes.spread())) {
                let image = image.as_ptr();
                let mut gradient = gradients.as_ptr().add(first * long);
                for pair in slopes.from.chunks_exact(S::PARTS) {
                    let (one, two) = (pair[0], pair[S::PARTS - 1]);
                    let mut x = [S::splat(0.0); T];
                    for (x, offset) in x.iter_mut().zip(offsets) {
                        let place = image.add(offset);
                        *x = if JOINED {
                            S::load(place.add(one))
                        } else {
                            S::load_parts(place.add(one), place.add(two))
                        };
                    }
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let g = S::load(gradient.add(row * long));
                        for (sum, x) in sums.iter_mut().zip(x) {
                            *sum = sum.add_product(x, g);
                        }
                    }
                    gradient = gradient.add(S::PARTS * LANES);
                }
            }
            // A closure might not be inlined, and would then be compiled without the instructions of `S`.
            let mut totals = [[0.0; T]; R];
            for (totals, sums) in totals.iter_mut().zip(sums) {
                for (total, sum) in totals.iter_mut().zip(sums) {
                    *total = sum.total();
                }
            }
            totals
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::super::Geometry;
    use super::*;
    use crate::kernels::numbers;

    #[test]
    fn every_level_gives_the_same() {
        for (size, [channels, out], kernel, stride) in
            [([9, 7], [3, 5], 3, 1), ([8, 8], [2, 9], 3, 2), ([7, 7], [4, 3], 1, 1), ([6, 10], [1, 1], 5, 1)]
        {
            let geometry =
                Geometry { kernel: [kernel; 2], stride: [stride; 2], dilation: [1, 1], pads: [kernel / 2; 4] };
            let plan = Plan::new(geometry, size).unwrap();
            let image = numbers(channels * size[0] * size[1], 1);
            let gradient = numbers(out * plan.size, 2);
            let at = |level: Level| {
                let slopes = Slopes::at(level, &plan, channels, out);
                // What stood there before is no number.
                let (mut padded, mut laid) = (vec![f32::NAN; slopes.padded()], vec![f32::NAN; slopes.spread()]);
                slopes.pad(&image, &mut padded);
                slopes.lay(&gradient, &mut laid);
                let mut found = vec![0.0; out * channels * kernel * kernel];
                slopes.add(&padded, &laid, 0..slopes.tiles(), &mut found);
                found
            };
            let defined = at(Level::Scalar);
            for level in Level::all() {
                for (found, defined) in at(level).iter().zip(&defined) {
                    // At most 70 products of at most 1, each rounded: below 70 times 70 ulps of 1, halved.
                    assert!((found - defined).abs() <= 35.0 * 70.0 * f32::EPSILON, "{size:?} {level:?}");
                }
            }
        }
    }
}
