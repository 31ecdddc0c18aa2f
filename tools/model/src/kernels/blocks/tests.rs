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
            let x = &image[group * each_in * self.size[0] * self.size[1]..][..each_in * self.size[0] * self.size[1]];
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
        let job =
            Job { plan: &plan, packed: &packed, image: if plan.direct { &image } else { &padded }, end, first: 0 };
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
        let job = each::Job { rows: span(0), cols: span(1), packed: &packed, image: &image, end, held: None };
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

#[test]
fn channels_go_into_blocks_and_out_of_them() {
    for (channels, size) in [(1, 1), (16, 16), (16, 40), (17, 33), (32, 15), (40, 64)] {
        let image = numbers(channels * size, 1);
        let channel = |place: usize| place / (size * BLOCK) * BLOCK + place % BLOCK;
        let pixel = |place: usize| place / BLOCK % size;
        let defined =
            |place: usize| if channel(place) < channels { image[channel(place) * size + pixel(place)] } else { 0.0 };
        let defined: Vec<f32> = (0..channels.next_multiple_of(BLOCK) * size).map(defined).collect();
        for level in Level::all() {
            let (mut blocks, mut back) = (vec![f32::NAN; defined.len()], vec![f32::NAN; image.len()]);
            layout::gather(level, &image, size, &mut blocks);
            assert!(bits(&blocks) == bits(&defined), "{channels} channels of {size} pixels: {level:?}");
            layout::scatter(level, &blocks, size, &mut back);
            assert!(bits(&back) == bits(&image), "{channels} channels of {size} pixels: {level:?}");
        }
    }
}
