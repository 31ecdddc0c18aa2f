//! Convolution of two-dimensional images, channel planes apart (NCHW).
//!
//! ```text
//! y[o, p, q] = b[o] + sum over c, i, j of w[o, c, i, j] x[c, p sh + i dh - top, q sw + j dw - left]
//! ```
//!
//! An image is first copied into planes with its padding around it, columns that are `sw` apart
//! next to each other. Every tap of the kernel is then a fixed distance away from the place of an
//! output, and neighbouring outputs are neighbours in memory: a tile of `R` channels by `V` vectors
//! of outputs stays in registers while all taps of all input channels are added, in this order:
//! the sum of an output does not hang on where in a tile it stands, nor on threads.

pub(crate) mod slopes;
pub(crate) mod some;

use std::ops::Range;

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use super::vector::{LANES, Lanes};

/// The attributes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// Above, to the left, below, to the right.
    pub(crate) pads: [usize; 4],
}

/// An image with its padding, columns that are a stride apart next to each other: phase after phase of columns.
pub(crate) struct Padded {
    pub(crate) output: [usize; 2],
    /// Rows of a phase, and pixels of such a row.
    pub(crate) rows: usize,
    pub(crate) width: usize,
    /// Pixels of all phases.
    pub(crate) plane: usize,
    /// How far from an output's place each tap is, in pixels.
    pub(crate) taps: Vec<usize>,
}

impl Geometry {
    /// None where the kernel is larger than the image with its padding, or sizes overflow.
    pub(crate) fn padded(&self, input: [usize; 2]) -> Option<Padded> {
        let Self { kernel, stride, dilation, pads } = *self;
        let (mut output, mut padded) = ([0; 2], [0; 2]);
        for at in 0..2 {
            let reach = kernel[at].checked_sub(1)?.checked_mul(dilation[at])?.checked_add(1)?;
            padded[at] = input[at].checked_add(pads[at])?.checked_add(pads[at + 2])?;
            output[at] = padded[at].checked_sub(reach)? / stride[at] + 1;
        }
        let (rows, width) = (padded[0], padded[1].div_ceil(stride[1]));
        let phase = rows.checked_mul(width)?;
        let plane = phase.checked_mul(stride[1].min(padded[1]))?;
        let tap = |i: usize, j: usize| {
            let (row, col) = (i * dilation[0], j * dilation[1]);
            col % stride[1] * phase + row * width + col / stride[1]
        };
        let taps = (0..kernel[0]).flat_map(|i| (0..kernel[1]).map(move |j| (i, j))).map(|(i, j)| tap(i, j)).collect();
        Some(Padded { output, rows, width, plane, taps })
    }
}

/// The shape of tiles of several channels, and of fewer, where that leaves less of the last tile
/// empty: as many sums as registers hold with what they need.
#[derive(Clone, Copy)]
struct Heights {
    most: usize,
    fewer: usize,
}

/// With registers of eight numbers, and with more and longer ones.
const SHORT: Heights = Heights { most: 6, fewer: 4 };
#[cfg(target_arch = "x86_64")]
const LONG: Heights = Heights { most: 8, fewer: 4 };

fn heights(level: Level) -> Heights {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(_) => LONG,
        _ => SHORT,
    }
}

/// Elements of an image that a strip of tiles takes: 24 KiB, most of a first-level cache.
const STRIP: usize = 6 << 10;

/// How an image lies in memory for one convolution.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    geometry: Geometry,
    input: [usize; 2],
    pub(crate) output: [usize; 2],
    /// Rows of a plane with padding, elements of such a row for one phase of columns.
    rows: usize,
    width: usize,
    /// Elements of one channel.
    plane: usize,
    /// How far from an output's place each tap is.
    taps: Vec<usize>,
    /// An even number of them.
    vectors: Vec<Vector>,
    /// Elements of a channel that vectors reach with all taps.
    reach: usize,
    /// Outputs of a channel.
    size: usize,
    /// Whether the image is taken as it lies.
    direct: bool,
}

/// Outputs next to each other.
#[derive(Clone, Copy, Debug, Default)]
struct Vector {
    /// Where their first tap is.
    from: usize,
    /// Where they go.
    to: usize,
    /// How many there are, where the channel ends before the vector.
    len: usize,
}

impl Plan {
    /// None where the kernel is larger than the image with its padding, or sizes overflow.
    pub(crate) fn new(geometry: Geometry, input: [usize; 2]) -> Option<Self> {
        let Padded { output, rows, width, plane, taps } = geometry.padded(input)?;
        let one = geometry.kernel == [1, 1] && geometry.stride == [1, 1] && geometry.pads == [0; 4];
        let all = input[0].checked_mul(input[1])?;
        if one && all >= LANES {
            // All pixels are one row.
            let (taps, vectors) = (vec![0], vectors(1, all, (0, 0)));
            let reach = reach(&taps, &vectors);
            let (rows, width, plane) = (1, all, all);
            return Some(Self {
                geometry,
                input,
                output,
                rows,
                width,
                plane,
                taps,
                vectors,
                reach,
                size: all,
                direct: true,
            });
        }
        let vectors = vectors(output[0], output[1], (geometry.stride[0] * width, output[1]));
        let reach = reach(&taps, &vectors);
        let size = output[0].checked_mul(output[1])?;
        Some(Self { geometry, input, output, rows, width, plane, taps, vectors, reach, size, direct: false })
    }

    /// Elements that `channels` channels of an image take with their padding, none where they are
    /// taken as they lie.
    pub(crate) fn padded(&self, channels: usize) -> Option<usize> {
        // A vector may read past the last row.
        (!self.direct).then(|| channels * self.plane + LANES)
    }

    /// Outputs of a channel.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Elements of one channel with its padding.
    pub(crate) fn plane(&self) -> usize {
        self.plane
    }

    /// Copies channels with their padding; `out` may hold anything.
    pub(crate) fn pad(&self, image: &[f32], out: &mut [f32]) {
        match self.geometry.stride[1] {
            1 => pad(Level::best(), self, image, out),
            _ => pad_apart(Level::best(), self, image, out),
        }
    }
}

stamp! {
    /// Neighbouring columns stay neighbours.
    fn pad = pad_body(plan: &Plan, image: &[f32], out: &mut [f32]) -> ();
}
#[inline(always)]
fn pad_body(plan: &Plan, image: &[f32], out: &mut [f32]) {
    let [height, width] = plan.input;
    let [top, left, ..] = plan.geometry.pads;
    for (image, plane) in image.chunks_exact((height * width).max(1)).zip(out.chunks_exact_mut(plan.plane.max(1))) {
        let (above, rest) = plane.split_at_mut(top * plan.width + left);
        zero(above);
        let mut at = 0;
        for row in 0..height {
            copy(&image[row * width..], &mut rest[at..], width);
            let end = (at + plan.width).min(rest.len());
            clear(&mut rest[at + width..], end - at - width);
            at = end;
        }
        zero(&mut rest[at..]);
    }
}

stamp! {
    /// Columns that are a stride apart become neighbours.
    fn pad_apart = pad_apart_body(plan: &Plan, image: &[f32], out: &mut [f32]) -> ();
}
#[inline(always)]
fn pad_apart_body(plan: &Plan, image: &[f32], out: &mut [f32]) {
    let [height, width] = plan.input;
    let [top, left, ..] = plan.geometry.pads;
    let step = plan.geometry.stride[1];
    let phase = plan.rows * plan.width;
    for (image, plane) in image.chunks_exact((height * width).max(1)).zip(out.chunks_exact_mut(plan.plane.max(1))) {
        zero(plane);
        for (row, pixels) in image.chunks_exact(width.max(1)).enumerate() {
            let start = (row + top) * plan.width;
            for first in 0..step.min(width) {
                let col = first + left;
                let to = &mut plane[col % step * phase + start + col / step..];
                let pixels = &pixels[first..];
                if step == 2 {
                    let (pairs, last) = pixels.as_chunks::<2>();
                    to.iter_mut().zip(pairs).for_each(|(to, [from, _])| *to = *from);
                    to[pairs.len()..].iter_mut().zip(last).for_each(|(to, from)| *to = *from);
                } else {
                    to.iter_mut().zip(pixels.chunks(step)).for_each(|(to, from)| *to = from[0]);
                }
            }
        }
    }
}

/// Copies a row of `len` numbers, which is mostly short, and a few of those after it, where there
/// are some: they are written later.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32], len: usize) {
    let mut at = 0;
    while at < len {
        match (from[at..].first_chunk::<LANES>(), to[at..].first_chunk_mut::<LANES>()) {
            (Some(from), Some(to)) => *to = *from,
            _ => to[at..len].iter_mut().zip(&from[at..len]).for_each(|(to, from)| *to = *from),
        }
        at += LANES;
    }
}

/// Makes a short row 0.
#[inline(always)]
fn zero(row: &mut [f32]) {
    let (many, rest) = row.as_chunks_mut::<LANES>();
    many.iter_mut().for_each(|x| *x = [0.0; LANES]);
    rest.fill(0.0);
}

/// Makes the first `len` numbers 0, or more of them: those after them are written later.
#[inline(always)]
fn clear(row: &mut [f32], len: usize) {
    match row.first_chunk_mut::<LANES>() {
        Some(row) if len <= LANES => *row = [0.0; LANES],
        _ => row[..len].fill(0.0),
    }
}

/// Vectors over rows of outputs: `(step, out)` from row to row, in the image and in the output. The
/// last of a row begins earlier, where the row is long enough: it makes some outputs again, and so
/// does the last of all, where the number of vectors is odd. A vector of a shorter row also fills
/// places of the rows after it, which are made later.
fn vectors(rows: usize, cols: usize, (step, out): (usize, usize)) -> Vec<Vector> {
    let mut all = Vec::with_capacity(rows * cols.div_ceil(LANES));
    for row in 0..rows {
        for col in (0..cols).step_by(LANES) {
            let col = if col + LANES > cols { cols.saturating_sub(LANES) } else { col };
            let to = row * out + col;
            all.push(Vector { from: row * step + col, to, len: LANES.min(rows * cols - to) });
        }
    }
    if !all.len().is_multiple_of(2) {
        all.extend(all.last().copied());
    }
    all
}

fn reach(taps: &[usize], vectors: &[Vector]) -> usize {
    let furthest = vectors.iter().map(|vector| vector.from).max().unwrap_or(0);
    furthest + taps.iter().max().copied().unwrap_or(0) + LANES
}

/// Channels of a tile, of so many.
fn tile_rows(level: Level, channels: usize) -> usize {
    let heights = heights(level);
    let empty = |rows: usize| channels.next_multiple_of(rows) - channels;
    match channels {
        1 => 1,
        // A sixteenth more work costs about what smaller tiles do.
        _ if empty(heights.most).saturating_sub(empty(heights.fewer)) * 16 > channels => heights.fewer,
        _ => heights.most,
    }
}

/// Weights in the order in which tiles take them: those of a tile's channels next to each other, the
/// last ones filled with 0; of one channel where the group has one.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    weights: Vec<f32>,
    /// Output channels.
    channels: usize,
    /// Channels of a tile.
    rows: usize,
    /// Weights of one output channel.
    each: usize,
    /// For whose registers.
    level: Level,
}

impl Packed {
    /// Of `channels` output channels.
    pub(crate) fn new(weights: &[f32], channels: usize) -> Self {
        Self::at(Level::best(), weights, channels)
    }

    fn at(level: Level, weights: &[f32], channels: usize) -> Self {
        let each = weights.len() / channels.max(1);
        let rows = tile_rows(level, channels);
        let mut packed = vec![0.0; channels.div_ceil(rows) * rows * each];
        for (channel, weights) in weights.chunks_exact(each.max(1)).enumerate() {
            let block = &mut packed[channel / rows * rows * each..];
            block.iter_mut().skip(channel % rows).step_by(rows).zip(weights).for_each(|(to, from)| *to = *from);
        }
        Self { weights: packed, channels, rows, each, level }
    }

    /// Weights of one output channel.
    pub(crate) fn each(&self) -> usize {
        self.each
    }

    /// Output channels that are computed at once.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }
}

/// What becomes of a sum before it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Activation {
    #[default]
    None,
    /// Held between two bounds.
    Clip(f32, f32),
}

/// What is added to a sum, and what becomes of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct End<'e> {
    /// For each output channel.
    pub(crate) bias: Option<&'e [f32]>,
    /// For each output.
    pub(crate) add: Option<&'e [f32]>,
    pub(crate) activation: Activation,
}

/// Computes output channels of one group of one image: those of `channels`, whose start is a
/// multiple of [`Packed::rows`]. `image` has the group's input channels, padded by [`Plan::pad`]
/// unless they are taken as they lie; `end` is of the channels computed.
pub(crate) fn convolve(
    plan: &Plan,
    packed: &Packed,
    image: &[f32],
    channels: Range<usize>,
    end: End<'_>,
    out: &mut [f32],
) {
    let (first, count) = (channels.start, channels.len());
    assert!(first.is_multiple_of(packed.rows) && channels.end <= packed.channels, "channels that are not there");
    assert!(out.len() == count * plan.size, "part of a channel");
    // Divisions cost as much as a small channel.
    let channels = match plan.taps.len() {
        taps if taps == packed.each => 1,
        taps => packed.each / taps.max(1),
    };
    if out.is_empty() || channels == 0 {
        return out.fill(0.0);
    }
    assert!((channels - 1) * plan.plane + plan.reach <= image.len(), "an image that is too small");
    assert!(end.bias.is_none_or(|bias| bias.len() == count) && end.add.is_none_or(|add| add.len() == out.len()));
    let job = Job { plan, packed, image, first, count, channels, end };
    match packed.level {
        // SAFETY: `run` asks what was asserted above.
        Level::Scalar => unsafe { job.run::<[f32; LANES]>(out) },
        // SAFETY: likewise, and the level proves the features.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(_) => unsafe { run_avx2(&job, out) },
        // SAFETY: likewise.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(_) => unsafe { run_avx512(&job, out) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2(job: &Job<'_>, out: &mut [f32]) {
    // SAFETY: the caller keeps the contract of `Job::run`.
    unsafe { job.run::<std::arch::x86_64::__m256>(out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512vl")]
unsafe fn run_avx512(job: &Job<'_>, out: &mut [f32]) {
    // SAFETY: the caller keeps the contract of `Job::run`.
    unsafe { job.run::<std::arch::x86_64::__m512>(out) }
}

struct Job<'j> {
    plan: &'j Plan,
    packed: &'j Packed,
    image: &'j [f32],
    /// The first channel computed, and how many are.
    first: usize,
    count: usize,
    /// Input channels.
    channels: usize,
    end: End<'j>,
}

impl Job<'_> {
    /// # Safety
    ///
    /// Every vector with every tap of every channel stands within the image, and this CPU has what
    /// `S` needs.
    #[inline(always)]
    unsafe fn run<S: Lanes>(&self, out: &mut [f32]) {
        // SAFETY: the caller's promise.
        unsafe {
            match (S::PARTS, self.packed.rows) {
                (_, 1) => self.sweep::<S, 1, 8>(out),
                (1, 4) => self.sweep::<S, 4, 2>(out),
                (1, _) => self.sweep::<S, 6, 2>(out),
                (_, 4) => self.sweep::<S, 4, 5>(out),
                _ => self.sweep::<S, 8, 3>(out),
            }
        }
    }

    /// All outputs, in tiles of `R` channels and `V` registers, or fewer at the end. What a strip of
    /// tiles takes of the image stays in cache while all channels are computed.
    ///
    /// # Safety
    ///
    /// As [`run`](Self::run); weights are packed for `R` channels.
    #[inline(always)]
    unsafe fn sweep<S: Lanes, const R: usize, const V: usize>(&self, out: &mut [f32]) {
        let (all, tile) = (self.plan.vectors.as_slice(), V * S::PARTS);
        let strip = match all.len() * LANES * self.channels <= STRIP {
            true => all.len(),
            false => (STRIP / (self.channels * tile * LANES)).max(4) * tile,
        };
        for strip in all.chunks(strip) {
            for channel in (0..self.count).step_by(R) {
                let mut vectors = strip;
                while !vectors.is_empty() {
                    let left = vectors.len() / S::PARTS;
                    // SAFETY: the caller's promise.
                    unsafe {
                        match left {
                            // One alone costs almost as much as two: V + 1 are cut by halves, where that leaves none.
                            _ if left >= V && (left != V + 1 || V.is_multiple_of(2)) => {
                                self.outputs::<S, R, V>(&mut vectors, channel, out);
                            }
                            4.. if V > 4 => self.outputs::<S, R, 4>(&mut vectors, channel, out),
                            2.. => self.outputs::<S, R, 2>(&mut vectors, channel, out),
                            _ => self.outputs::<S, R, 1>(&mut vectors, channel, out),
                        }
                    }
                }
            }
        }
    }

    /// A tile: the next `V` registers' vectors of the channels from that one on.
    ///
    /// # Safety
    ///
    /// As [`sweep`](Self::sweep); there are so many.
    #[inline(always)]
    unsafe fn outputs<S: Lanes, const R: usize, const V: usize>(
        &self,
        vectors: &mut &[Vector],
        channel: usize,
        out: &mut [f32],
    ) {
        let (these, rest) = vectors.split_at(V * S::PARTS);
        *vectors = rest;
        let size = self.plan.size;
        let (mut from, mut to, mut whole) = ([[0; 2]; V], [[0; 2]; V], [true; V]);
        let mut joined = true;
        for v in 0..V {
            let (first, second) = (these[v * S::PARTS], these[v * S::PARTS + S::PARTS - 1]);
            from[v] = [first.from, second.from];
            to[v] = [first.to, second.to];
            whole[v] = first.len == LANES && second.len == LANES;
            joined &= S::PARTS == 1 || first.from + LANES == second.from;
        }
        let weights = &self.packed.weights[(self.first + channel) * self.packed.each..][..R * self.packed.each];
        let count = (self.count - channel).min(R);
        // SAFETY: the caller's promise, and as many weights as channels times taps times `R`; each
        // vector of outputs stands within its channel.
        unsafe {
            let sums = if joined {
                self.tile::<S, R, V, true>(from, weights)
            } else {
                self.tile::<S, R, V, false>(from, weights)
            };
            for (row, sums) in sums.iter().enumerate().take(count) {
                let channel = channel + row;
                let bias = S::splat(self.end.bias.map_or(0.0, |bias| *bias.get_unchecked(channel)));
                for (v, sum) in sums.iter().enumerate() {
                    let at = [channel * size + to[v][0], channel * size + to[v][1]];
                    let sum = sum.add(bias);
                    if whole[v] {
                        self.store(sum, at, out);
                    } else {
                        let mut parts = [[0.0; LANES]; 2];
                        let [first, second] = &mut parts;
                        sum.store_parts(first.as_mut_ptr(), second.as_mut_ptr());
                        for part in 0..S::PARTS {
                            self.short(&parts[part][..these[v * S::PARTS + part].len], at[part], out);
                        }
                    }
                }
            }
        }
    }

    /// Adds what is to be added to sums, and stores them.
    ///
    /// # Safety
    ///
    /// As [`run`](Self::run); the outputs stand within `out`.
    #[inline(always)]
    unsafe fn store<S: Lanes>(&self, mut sum: S, [first, second]: [usize; 2], out: &mut [f32]) {
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(add) = self.end.add {
                let add = add.as_ptr();
                sum = sum.add(S::load_parts(add.add(first), add.add(second)));
            }
            if let Activation::Clip(low, high) = self.end.activation {
                sum = sum.clip(S::splat(low), S::splat(high));
            }
            let out = out.as_mut_ptr();
            if first + LANES == second {
                sum.store(out.add(first));
            } else {
                sum.store_parts(out.add(first), out.add(second));
            }
        }
    }

    /// Sums of registers whose parts are taken from there, `JOINED` where the second follows the first.
    ///
    /// # Safety
    ///
    /// As [`run`](Self::run); `weights` are `R` for each tap of each channel.
    #[inline(always)]
    unsafe fn tile<S: Lanes, const R: usize, const V: usize, const JOINED: bool>(
        &self,
        from: [[usize; 2]; V],
        weights: &[f32],
    ) -> [[S; V]; R] {
        // SAFETY: the caller promises that vectors and weights are there, and that the CPU has `S`.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; R];
            let mut x = [S::splat(0.0); V];
            let mut weight = weights.as_ptr();
            let mut plane = self.image.as_ptr();
            for _ in 0..self.channels {
                for tap in &self.plan.taps {
                    let place = plane.add(*tap);
                    for (x, [first, second]) in x.iter_mut().zip(from) {
                        *x = if JOINED {
                            S::load(place.add(first))
                        } else {
                            S::load_parts(place.add(first), place.add(second))
                        };
                    }
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let w = S::splat(*weight.add(row));
                        for (sum, x) in sums.iter_mut().zip(x) {
                            *sum = sum.add_product(x, w);
                        }
                    }
                    weight = weight.add(R);
                }
                plane = plane.wrapping_add(self.plan.plane);
            }
            sums
        }
    }

    /// Stores outputs of a vector that the channel ends within.
    fn short(&self, sums: &[f32], at: usize, out: &mut [f32]) {
        for (nth, sum) in sums.iter().enumerate() {
            let mut sum = *sum + self.end.add.map_or(0.0, |add| add[at + nth]);
            if let Activation::Clip(low, high) = self.end.activation {
                // What is no number stays none.
                sum = if sum < low { low } else { sum };
                sum = if sum > high { high } else { sum };
            }
            out[at + nth] = sum;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::kernels::numbers;

    /// Planes of `size`, and so many channels in and out; a kernel of `kernel` with padding around it.
    fn outputs(level: Level, size: [usize; 2], channels: [usize; 2], kernel: usize, stride: usize) -> Vec<f32> {
        let geometry = Geometry { kernel: [kernel; 2], stride: [stride; 2], dilation: [1, 1], pads: [kernel / 2; 4] };
        let plan = Plan::new(geometry, size).unwrap();
        let image = numbers(channels[0] * size[0] * size[1], 1);
        let padded = plan.padded(channels[0]).map(|len| {
            // What stood there before is no number.
            let mut padded = vec![f32::NAN; len];
            plan.pad(&image, &mut padded);
            padded
        });
        let weights = numbers(channels[1] * channels[0] * kernel * kernel, 2);
        let (bias, add) = (numbers(channels[1], 3), numbers(channels[1] * plan.output[0] * plan.output[1], 4));
        let end = End { bias: Some(&bias), add: Some(&add), activation: Activation::Clip(-0.5, 3.0) };
        let mut out = vec![f32::NAN; add.len()];
        let packed = Packed::at(level, &weights, channels[1]);
        convolve(&plan, &packed, padded.as_deref().unwrap_or(&image), 0..channels[1], end, &mut out);
        out
    }

    #[test]
    fn every_level_gives_the_same() {
        for size in [[32, 32], [16, 16], [14, 14], [8, 8], [7, 7], [5, 3], [2, 1], [3, 20]] {
            for channels in [[3, 16], [1, 1], [2, 5], [4, 9], [1, 24]] {
                for (kernel, stride) in [(3, 1), (3, 2), (1, 1), (1, 2), (5, 1)] {
                    let defined = outputs(Level::Scalar, size, channels, kernel, stride);
                    let mut fused: Option<Vec<u32>> = None;
                    for level in Level::all().filter(|level| *level != Level::Scalar) {
                        let found = outputs(level, size, channels, kernel, stride);
                        for (found, defined) in found.iter().zip(&defined) {
                            assert!(
                                (found - defined).abs() < 1e-5,
                                "{size:?} {channels:?} {kernel}/{stride}: {level:?}"
                            );
                        }
                        let bits: Vec<u32> = found.iter().map(|x| x.to_bits()).collect();
                        assert_eq!(*fused.get_or_insert_with(|| bits.clone()), bits);
                    }
                }
            }
        }
    }
}
