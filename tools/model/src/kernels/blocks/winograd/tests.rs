use super::packed::spread;
use super::slopes::Slopes;
use super::*;
use crate::kernels::blocks::layout;
use crate::kernels::numbers;

/// Images, and where windows lie on them.
#[derive(Clone, Copy, Debug)]
struct Scene {
    images: usize,
    size: [usize; 2],
    /// Above and to the left, below and to the right.
    pads: [usize; 2],
    /// In, and out.
    channels: [usize; 2],
}

impl Scene {
    fn spans(&self) -> [Span; 2] {
        let [before, after] = self.pads;
        self.size.map(|input| Span {
            input,
            output: input + before + after - 2,
            kernel: 3,
            stride: 1,
            dilation: 1,
            before,
            after,
        })
    }

    fn pixels(&self) -> usize {
        self.size[0] * self.size[1]
    }

    fn outputs(&self) -> usize {
        self.spans().iter().map(|span| span.output).product()
    }

    fn weights(&self) -> Vec<f32> {
        numbers(self.channels[0] * self.channels[1] * 9, 2)
    }

    fn x(&self) -> Vec<f32> {
        numbers(self.images * self.channels[0] * self.pixels(), 1)
    }

    /// Sums and sums of sizes, in double precision, channels apart, with bias and addend.
    fn defined(&self) -> Vec<[f64; 2]> {
        let ([inputs, outputs], [rows, cols], weights, x) = (self.channels, self.spans(), self.weights(), self.x());
        let (bias, add) = (numbers(outputs, 3), numbers(self.images * outputs * self.outputs(), 4));
        let mut all = Vec::new();
        for (image, o) in (0..self.images).flat_map(|image| (0..outputs).map(move |o| (image, o))) {
            for (p, q) in (0..rows.output).flat_map(|p| (0..cols.output).map(move |q| (p, q))) {
                let start = [f64::from(bias[o]), f64::from(add[all.len()])];
                let mut sums = [start[0] + start[1], start[0].abs() + start[1].abs()];
                for (c, i) in (0..inputs).flat_map(|c| rows.taps(p).map(move |i| (c, i))) {
                    for j in cols.taps(q) {
                        let from = (p + i - rows.before) * cols.input + q + j - cols.before;
                        let pixel = x[(image * inputs + c) * self.pixels() + from];
                        let product = f64::from(weights[(o * inputs + c) * 9 + i * 3 + j]) * f64::from(pixel);
                        sums = [sums[0] + product, sums[1] + product.abs()];
                    }
                }
                all.push(sums);
            }
        }
        all
    }

    /// The gradient of outputs.
    fn g(&self) -> Vec<f32> {
        numbers(self.images * self.channels[1] * self.outputs(), 5)
    }

    /// Gradients of weights and sums of sizes, in double precision.
    fn defined_slopes(&self) -> Vec<[f64; 2]> {
        let ([inputs, outputs], [rows, cols], x, g) = (self.channels, self.spans(), self.x(), self.g());
        let mut all = vec![[0.0; 2]; outputs * inputs * 9];
        for (image, p) in (0..self.images).flat_map(|image| (0..rows.output).map(move |p| (image, p))) {
            for (q, o) in (0..cols.output).flat_map(|q| (0..outputs).map(move |o| (q, o))) {
                let gradient = f64::from(g[(image * outputs + o) * self.outputs() + p * cols.output + q]);
                for (c, i) in (0..inputs).flat_map(|c| rows.taps(p).map(move |i| (c, i))) {
                    for j in cols.taps(q) {
                        let from = (p + i - rows.before) * cols.input + q + j - cols.before;
                        let product = f64::from(x[(image * inputs + c) * self.pixels() + from]) * gradient;
                        let sums = &mut all[(o * inputs + c) * 9 + i * 3 + j];
                        *sums = [sums[0] + product, sums[1] + product.abs()];
                    }
                }
            }
        }
        all
    }

    /// So many images at a time.
    fn slopes(&self, level: Level, part: usize) -> Vec<f32> {
        let plan = Plan::new(self.spans());
        let slopes = Slopes::at(level, &plan, self.channels);
        let [x, g] = [self.gathered(level, &self.x(), 0), self.gathered(level, &self.g(), 1)];
        let [of_x, of_g] = [x.len(), g.len()].map(|len| len / self.images);
        let mut sums = vec![0.0; slopes.sums()];
        for (x, g) in x.chunks(part * of_x).zip(g.chunks(part * of_g)) {
            let tiles = x.len() / of_x * plan.tiles();
            slopes.add([x, g], tiles, &mut vec![f32::NAN; slopes.room(tiles)], &mut sums);
        }
        let mut out = vec![f32::NAN; self.channels[0] * self.channels[1] * 9];
        slopes.leave(&sums, self.channels[0], &mut out);
        out
    }

    /// All inputs, or outputs, in blocks.
    fn gathered(&self, level: Level, all: &[f32], side: usize) -> Vec<f32> {
        let (channels, size) = (self.channels[side], [self.pixels(), self.outputs()][side]);
        let filled = channels.next_multiple_of(BLOCK);
        let mut blocks = vec![f32::NAN; self.images * filled * size];
        let images = blocks.chunks_exact_mut(filled * size).zip(all.chunks_exact(channels * size));
        images.for_each(|(to, from)| layout::gather(level, from, size, to));
        blocks
    }

    /// In blocks, tiles and groups done in parts of at most so many.
    fn tiled(&self, level: Level, part: usize) -> Vec<f32> {
        let outputs = self.channels[1].next_multiple_of(BLOCK);
        let images = self.gathered(level, &self.x(), 0);
        let add = self.gathered(level, &numbers(self.images * self.channels[1] * self.outputs(), 4), 1);
        let mut bias = numbers(self.channels[1], 3);
        bias.resize(outputs, 0.0);
        let packed = Packed::at(level, &self.weights(), [self.channels[1], self.channels[0]]);
        let plan = Plan::new(self.spans());
        let end = End { bias: &bias, add: Some(&add), activation: Activation::None };
        let work = Work { plan: &plan, packed: &packed, images: &images, end };
        let mut out = vec![f32::NAN; self.images * outputs * self.outputs()];
        let tiles = self.images * plan.tiles();
        for group in 0..packed.groups() {
            for start in (0..tiles).step_by(part) {
                let tiles = start..(start + part).min(tiles);
                let mut room = vec![f32::NAN; work.room(tiles.len())];
                // SAFETY: the outputs are this function's own.
                unsafe { work.run(group..group + 1, tiles, &mut room, Out::new(&mut out)) };
            }
        }
        let mut apart = vec![f32::NAN; self.images * self.channels[1] * self.outputs()];
        let of = [outputs, self.channels[1]].map(|channels| channels * self.outputs());
        let all = apart.chunks_exact_mut(of[1]).zip(out.chunks_exact(of[0]));
        all.for_each(|(to, from)| layout::scatter(level, from, self.outputs(), to));
        apart
    }
}

/// Of levels whose sums are rounded once.
fn fused() -> impl Iterator<Item = Level> {
    Level::all().filter(|level| (*level == Level::Scalar) == (Level::best() == Level::Scalar))
}

fn scenes() -> impl Iterator<Item = Scene> {
    let sizes = [[9, 32], [7, 7], [4, 3], [2, 1], [1, 1], [3, 95]];
    let channels = [[16, 16], [17, 9], [24, 40]];
    let all = sizes.into_iter().flat_map(move |size| channels.map(|channels| (size, channels)));
    all.flat_map(|(size, channels)| {
        let pads = [[1, 1], [2, 0], [0, 2], [2, 3]];
        [(1, pads[0]), (3, pads[1]), (2, pads[2]), (1, pads[3])].map(|(images, pads)| Scene {
            images,
            size,
            pads,
            channels,
        })
    })
}

#[test]
fn sums_are_those_of_windows() {
    for scene in scenes() {
        let (defined, made) = (scene.defined(), scene.tiled(Level::best(), usize::MAX));
        assert_eq!(defined.len(), made.len());
        // Transforms add up pixels of the whole tile: a bound of the windows about it holds for all.
        let most = defined.iter().fold(0.0, |most: f64, [_, size]| most.max(*size));
        let far = |([sum, _], y): (&[f64; 2], &f32)| (f64::from(*y) - sum).abs() > 4.0 * f64::from(f32::EPSILON) * most;
        assert!(!defined.iter().zip(&made).any(far), "{scene:?}");
    }
}

#[test]
fn levels_and_parts_change_no_bit() {
    let bits = |all: Vec<f32>| all.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    for scene in scenes() {
        let whole = bits(scene.tiled(Level::best(), usize::MAX));
        for level in fused() {
            for part in [1, 5, 64] {
                assert!(bits(scene.tiled(level, part)) == whole, "{scene:?} {level:?} in parts of {part}");
            }
        }
    }
}

#[test]
fn gradients_of_weights_are_those_of_windows() {
    for scene in scenes() {
        let (defined, made) = (scene.defined_slopes(), scene.slopes(Level::best(), scene.images));
        assert_eq!(defined.len(), made.len());
        // A tap that meets no pixel is a difference of places that others meet.
        let most = defined.iter().fold(0.0, |most: f64, [_, size]| most.max(*size));
        let bound = 16.0 * f64::from(f32::EPSILON) * most;
        let far = |([sum, _], slope): (&[f64; 2], &f32)| (f64::from(*slope) - sum).abs() > bound;
        assert!(!defined.iter().zip(&made).any(far), "{scene:?}");
        let bits = |all: Vec<f32>| all.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let whole = bits(made);
        for level in fused() {
            assert!(bits(scene.slopes(level, 1)) == whole, "{scene:?} {level:?}: parts change the sum");
        }
    }
}

#[test]
fn weights_are_spread_as_the_paper_says() {
    let g = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
    let kernel = std::array::from_fn(|at| (at * at) as f32 - 7.0);
    let spread = spread(&kernel);
    for (row, col) in (0..4).flat_map(|row| (0..4).map(move |col| (row, col))) {
        let at = |i: usize, j: usize| g[row][i] * f64::from(kernel[3 * i + j]) * g[col][j];
        let sum: f64 = (0..3).map(|i| (0..3).map(|j| at(i, j)).sum::<f64>()).sum();
        assert!((spread[row][col] - sum).abs() < 1e-12, "{row} {col}");
    }
}
