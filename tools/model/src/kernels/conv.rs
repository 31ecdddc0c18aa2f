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

use niwaki_codes::simd::Level;

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

/// Channels of one tile: as many as registers hold with what they need, or fewer, where that
/// leaves less of the last tile empty.
const ROWS: usize = 6;
const FEWER: usize = 4;

/// Channels that are a whole number of tiles of any size.
pub(crate) const CHUNK: usize = 12;

/// Vectors of one tile: of several channels, and of one.
const WIDE: usize = 2;
const LONG: usize = 8;

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
    vectors: Vec<Vector>,
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
    /// How many there are, where the row is shorter than a vector.
    len: usize,
}

impl Plan {
    /// None where the kernel is larger than the image with its padding, or sizes overflow.
    pub(crate) fn new(geometry: Geometry, input: [usize; 2]) -> Option<Self> {
        let Geometry { kernel, stride, dilation, pads } = geometry;
        let mut output = [0; 2];
        let mut padded = [0; 2];
        for at in 0..2 {
            let reach = kernel[at].checked_sub(1)?.checked_mul(dilation[at])?.checked_add(1)?;
            padded[at] = input[at].checked_add(pads[at])?.checked_add(pads[at + 2])?;
            output[at] = padded[at].checked_sub(reach)? / stride[at] + 1;
        }
        let one = kernel == [1, 1] && stride == [1, 1] && pads == [0; 4];
        let all = input[0].checked_mul(input[1])?;
        if one && all >= LANES {
            // All pixels are one row.
            let vectors = vectors(1, all, (0, 0));
            return Some(Self {
                geometry,
                input,
                output,
                rows: 1,
                width: all,
                plane: all,
                taps: vec![0],
                vectors,
                direct: true,
            });
        }
        let (rows, width) = (padded[0], padded[1].div_ceil(stride[1]));
        let phase = rows.checked_mul(width)?;
        let plane = phase.checked_mul(stride[1].min(padded[1]))?;
        let tap = |i: usize, j: usize| {
            let (row, col) = (i * dilation[0], j * dilation[1]);
            col % stride[1] * phase + row * width + col / stride[1]
        };
        let taps = (0..kernel[0]).flat_map(|i| (0..kernel[1]).map(move |j| (i, j))).map(|(i, j)| tap(i, j)).collect();
        let vectors = vectors(output[0], output[1], (stride[0] * width, output[1]));
        Some(Self { geometry, input, output, rows, width, plane, taps, vectors, direct: false })
    }

    /// Elements that `channels` channels of an image take with their padding, none where they are
    /// taken as they lie.
    pub(crate) fn padded(&self, channels: usize) -> Option<usize> {
        // A vector may read past the last row.
        (!self.direct).then(|| channels * self.plane + LANES)
    }

    /// Copies channels with their padding; `out` may hold anything.
    pub(crate) fn pad(&self, image: &[f32], out: &mut [f32]) {
        let [height, width] = self.input;
        let [top, left, ..] = self.geometry.pads;
        let step = self.geometry.stride[1];
        let phase = self.rows * self.width;
        out.fill(0.0);
        for (image, plane) in image.chunks_exact((height * width).max(1)).zip(out.chunks_exact_mut(self.plane)) {
            for (row, pixels) in image.chunks_exact(width).enumerate() {
                let start = (row + top) * self.width;
                if step == 1 {
                    plane[start + left..][..width].copy_from_slice(pixels);
                    continue;
                }
                for first in 0..step.min(width) {
                    let col = first + left;
                    let at = col % step * phase + start + col / step;
                    let pixels = pixels.iter().skip(first).step_by(step);
                    plane[at..].iter_mut().zip(pixels).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
}

/// Vectors over rows of outputs: `(step, out)` from row to row, in the image and in the output. The
/// last of a row begins earlier, where the row is long enough: it makes some outputs again.
fn vectors(rows: usize, cols: usize, (step, out): (usize, usize)) -> Vec<Vector> {
    let mut all = Vec::with_capacity(rows * cols.div_ceil(LANES));
    for row in 0..rows {
        for col in (0..cols).step_by(LANES) {
            let col = if col + LANES > cols { cols.saturating_sub(LANES) } else { col };
            all.push(Vector { from: row * step + col, to: row * out + col, len: LANES.min(cols) });
        }
    }
    all
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
}

impl Packed {
    /// Of `channels` output channels.
    pub(crate) fn new(weights: &[f32], channels: usize) -> Self {
        let each = weights.len() / channels.max(1);
        let empty = channels.next_multiple_of(ROWS) - channels;
        let rows = match channels {
            1 => 1,
            // A sixteenth more work costs about what smaller tiles do.
            _ if empty * 16 > channels => FEWER,
            _ => ROWS,
        };
        let mut packed = vec![0.0; channels.div_ceil(rows) * rows * each];
        for (channel, weights) in weights.chunks_exact(each.max(1)).enumerate() {
            let block = &mut packed[channel / rows * rows * each..];
            block.iter_mut().skip(channel % rows).step_by(rows).zip(weights).for_each(|(to, from)| *to = *from);
        }
        Self { weights: packed, channels, rows, each }
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

/// Computes output channels `first..` of one group of one image, as many as `out` holds. `image`
/// has the group's input channels, padded by [`Plan::pad`] unless they are taken as they lie; `first`
/// is a multiple of [`CHUNK`]; `end` is of the channels computed.
pub(crate) fn convolve(plan: &Plan, packed: &Packed, image: &[f32], first: usize, end: End<'_>, out: &mut [f32]) {
    let size = plan.output[0] * plan.output[1];
    let count = out.len() / size.max(1);
    let channels = packed.each / plan.taps.len().max(1);
    let reach = plan.taps.iter().max().copied().unwrap_or(0);
    let last = plan.vectors.iter().map(|vector| vector.from).max().unwrap_or(0);
    assert!(first.is_multiple_of(packed.rows) && first + count <= packed.channels, "channels that are not there");
    assert!(out.len() == count * size, "part of a channel");
    if count == 0 || size == 0 || channels == 0 {
        return out.fill(0.0);
    }
    assert!((channels - 1) * plan.plane + reach + last + LANES <= image.len(), "an image that is too small");
    assert!(end.bias.is_none_or(|bias| bias.len() == count) && end.add.is_none_or(|add| add.len() == out.len()));
    let job = Job { plan, packed, image, first, channels, end };
    #[cfg(target_arch = "x86_64")]
    if !matches!(Level::best(), Level::Scalar) {
        // SAFETY: the level proves the features; `run` asks what was asserted above.
        return unsafe { run_avx2(&job, out) };
    }
    // SAFETY: as asserted above.
    unsafe { job.run::<[f32; LANES]>(out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2(job: &Job<'_>, out: &mut [f32]) {
    // SAFETY: the caller keeps the contract of `Job::run`.
    unsafe { job.run::<std::arch::x86_64::__m256>(out) }
}

struct Job<'j> {
    plan: &'j Plan,
    packed: &'j Packed,
    image: &'j [f32],
    first: usize,
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
        let wide = if self.packed.rows == 1 { LONG } else { WIDE };
        for vectors in self.plan.vectors.chunks(wide) {
            // SAFETY: the caller's promise.
            unsafe {
                match (self.packed.rows, vectors.len()) {
                    (1, LONG) => self.tiles::<S, 1, LONG>(vectors, out),
                    (1, _) => {
                        for vector in vectors.chunks(1) {
                            self.tiles::<S, 1, 1>(vector, out);
                        }
                    }
                    (FEWER, WIDE) => self.tiles::<S, FEWER, WIDE>(vectors, out),
                    (FEWER, _) => self.tiles::<S, FEWER, 1>(vectors, out),
                    (_, WIDE) => self.tiles::<S, ROWS, WIDE>(vectors, out),
                    _ => self.tiles::<S, ROWS, 1>(vectors, out),
                }
            }
        }
    }

    /// All channels of some vectors.
    ///
    /// # Safety
    ///
    /// As [`run`](Self::run); there are `V` vectors.
    #[inline(always)]
    unsafe fn tiles<S: Lanes, const R: usize, const V: usize>(&self, vectors: &[Vector], out: &mut [f32]) {
        let size = self.plan.output[0] * self.plan.output[1];
        let mut from = [0; V];
        for (from, vector) in from.iter_mut().zip(vectors) {
            *from = vector.from;
        }
        let count = out.len() / size;
        for channel in (0..count).step_by(R) {
            let weights = &self.packed.weights[(self.first + channel) * self.packed.each..][..R * self.packed.each];
            // SAFETY: the caller's promise, and as many weights as channels times taps times `R`.
            let sums = unsafe { self.tile::<S, R, V>(from, weights) };
            for (row, sums) in sums.iter().enumerate().take(count - channel) {
                let bias = self.end.bias.map_or(0.0, |bias| bias[channel + row]);
                for (vector, sums) in vectors.iter().zip(sums) {
                    // SAFETY: the caller's promise.
                    let sums = unsafe { sums.to_array() };
                    self.store((channel + row) * size + vector.to, vector.len, (&sums, bias), out);
                }
            }
        }
    }

    /// # Safety
    ///
    /// As [`run`](Self::run); `weights` are `R` for each tap of each channel.
    #[inline(always)]
    unsafe fn tile<S: Lanes, const R: usize, const V: usize>(&self, from: [usize; V], weights: &[f32]) -> [[S; V]; R] {
        // SAFETY: the caller promises that vectors and weights are there, and that the CPU has `S`.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; R];
            let mut x = [S::splat(0.0); V];
            let mut weight = weights.as_ptr();
            let mut plane = self.image.as_ptr();
            for _ in 0..self.channels {
                for tap in &self.plan.taps {
                    for v in 0..V {
                        x[v] = S::load(plane.add(tap + from[v]));
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

    #[inline(always)]
    fn store(&self, at: usize, len: usize, (sums, bias): (&[f32; LANES], f32), out: &mut [f32]) {
        let mut sums = *sums;
        sums.iter_mut().for_each(|sum| *sum += bias);
        if let Some(add) = self.end.add {
            sums.iter_mut().zip(&add[at..at + len]).for_each(|(sum, add)| *sum += add);
        }
        if let Activation::Clip(low, high) = self.end.activation {
            // What is no number stays none.
            sums.iter_mut().for_each(|sum| *sum = if *sum < low { low } else { *sum });
            sums.iter_mut().for_each(|sum| *sum = if *sum > high { high } else { *sum });
        }
        match out[at..].first_chunk_mut::<LANES>().filter(|_| len == LANES) {
            Some(out) => *out = sums,
            None => out[at..at + len].iter_mut().zip(&sums).for_each(|(out, sum)| *out = *sum),
        }
    }
}
