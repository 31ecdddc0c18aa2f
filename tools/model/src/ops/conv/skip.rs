//! Convolutions that compute only the channels that are asked for, from those that are there.
//!
//! ```text
//! out = channels whose number is above 0, in = planes of the input that are not all 0        of each image by itself
//! y[out] = activation(b[out] + Σ over in of w[out, in] x[in]), y = 0 elsewhere
//! ```
//!
//! Of groups each by itself: of a depth-wise convolution a channel is computed that is asked for and whose plane is there.
//!
//! The same to the bit as a [`Conv`] with a [`ChannelGate`](crate::ops::channels::ChannelGate) behind it, where all weights
//! are finite.

use std::sync::Arc;

use rayon::prelude::*;

use super::{Conv, Shapes};
use crate::fault::{Fault, dims};
use crate::kernels::conv::some::{Turned, present};
use crate::kernels::conv::{Activation, End, Packed, Plan, convolve};
use crate::operator::{Context, Inputs, Operator};
use crate::tensor::{Dtype, Tensor};

/// A convolution of two-dimensional images that takes a number for each output channel as its fourth input,
/// `[N, O]`: where it is not above 0, the channel is 0.
#[derive(Clone, Debug)]
pub struct SkipConv {
    conv: Conv,
    /// Weights of each group, where they never change.
    turned: Option<Arc<[Turned]>>,
}

/// The share of all products from which on gathering weights costs more than it saves.
const ENOUGH: (usize, usize) = (4, 5);

/// Images of a group on their way.
struct Work<'w> {
    plan: &'w Plan,
    turned: &'w Turned,
    packed: Option<&'w Packed>,
    /// Channels that go in, and that come out.
    channels: [usize; 2],
    bias: Option<&'w [f32]>,
    activation: Activation,
}

impl Conv {
    /// The same, where channels that are not asked for are not computed; none where that is not done: where a sum follows, for images of other than two dimensions.
    pub(crate) fn skipping(&self, weights: &[usize]) -> Option<SkipConv> {
        let fits = !self.add && weights.len() == 4;
        fits.then(|| SkipConv { conv: self.clone(), turned: None })
    }
}

impl SkipConv {
    fn turned(&self, weights: &Tensor) -> Result<Arc<[Turned]>, Fault> {
        let wrong = || Fault::shape(format!("weights {}", dims(weights.shape())), "some of [O, C, rows, columns]");
        let all = weights.get::<f32>().ok_or_else(|| Fault::dtype(1, weights, "float"))?;
        let &[outputs, inputs, rows, cols] = weights.shape() else { return Err(wrong()) };
        let groups = self.conv.groups;
        if all.is_empty() || !outputs.is_multiple_of(groups) {
            return Err(wrong());
        }
        let of_group = |weights| Turned::new(weights, [outputs / groups, inputs, rows * cols]).ok_or_else(wrong);
        all.chunks_exact(all.len() / groups).map(of_group).collect()
    }

    /// The plan of images of that shape.
    fn plan(&self, shapes: &Shapes, kernel: &[usize]) -> Result<Plan, Fault> {
        let spans = self.conv.spans(shapes, kernel)?;
        let [rows, cols] = spans.as_slice() else {
            return Err(Fault::Unsupported(format!("a kernel {}", dims(kernel))));
        };
        Plan::new(super::geometry(rows, cols), [rows.input, cols.input]).ok_or_else(|| {
            Fault::shape(format!("images {} with their padding", dims(&shapes.image)), "room for the kernel")
        })
    }
}

impl Work<'_> {
    /// A group of one image, whose output channels have these numbers.
    fn image(&self, x: &[f32], numbers: &[f32], context: &Context<'_>, out: &mut [f32]) {
        let size = self.plan.size();
        let outputs: Vec<usize> = (0..numbers.len()).filter(|at| numbers[*at] > 0.0).collect();
        let [channels, out_channels] = self.channels;
        let mut inputs = Vec::with_capacity(channels);
        present(x, channels, &mut inputs);
        if inputs.is_empty() || outputs.is_empty() {
            return self.biases(numbers, out);
        }
        let all = channels * out_channels;
        let most = inputs.len() * outputs.len() * ENOUGH.1 >= all * ENOUGH.0;
        if let Some(packed) = self.packed.filter(|_| most) {
            return self.all(x, numbers, packed, context, out);
        }
        let planes = self.planes(x, &inputs, context);
        let bias: Option<Vec<f32>> = self.bias.map(|bias| outputs.iter().map(|at| bias[*at]).collect());
        let end = End { bias: bias.as_deref(), add: None, activation: self.activation };
        // Buffers are those of all channels: of one size for all images, they are found again.
        let packed = self.turned.some(&inputs, &outputs, context.scratch(self.turned.room(out_channels)));
        let mut sums = context.scratch(out.len());
        convolve(self.plan, &packed, &planes, 0..outputs.len(), end, &mut sums[..outputs.len() * size]);
        context.put(packed.into_buffer());
        let mut from = sums.chunks_exact(size);
        for (out, number) in out.chunks_exact_mut(size).zip(numbers) {
            match (*number > 0.0).then(|| from.next()).flatten() {
                Some(from) => out.copy_from_slice(from),
                None => out.fill(0.0),
            }
        }
        context.put(sums);
        context.put(planes);
    }

    /// Computes all channels of an image of which most are there, and makes those 0 that are not asked for.
    fn all(&self, x: &[f32], numbers: &[f32], packed: &Packed, context: &Context<'_>, out: &mut [f32]) {
        let end = End { bias: self.bias, add: None, activation: self.activation };
        match self.plan.padded(self.channels[0]) {
            None => convolve(self.plan, packed, x, 0..numbers.len(), end, out),
            Some(len) => {
                let mut planes = context.scratch(len);
                self.plan.pad(x, &mut planes);
                convolve(self.plan, packed, &planes, 0..numbers.len(), end, out);
                context.put(planes);
            }
        }
        let planes = out.chunks_exact_mut(self.plan.size()).zip(numbers);
        planes.filter(|(_, number)| **number <= 0.0 || number.is_nan()).for_each(|(out, _)| out.fill(0.0));
    }

    /// The planes of the channels that are there, with their padding.
    fn planes(&self, x: &[f32], inputs: &[usize], context: &Context<'_>) -> Vec<f32> {
        let size = x.len() / self.channels[0];
        let plane = self.plan.plane();
        let mut planes = context.scratch(self.plan.padded(self.channels[0]).unwrap_or(x.len()));
        for (to, input) in planes.chunks_mut(plane).zip(inputs) {
            let from = &x[input * size..][..size];
            match self.plan.padded(1) {
                Some(_) => self.plan.pad(from, to),
                None => to.copy_from_slice(from),
            }
        }
        planes
    }

    /// What comes out where nothing goes in.
    fn biases(&self, numbers: &[f32], out: &mut [f32]) {
        for (nth, (out, number)) in out.chunks_exact_mut(self.plan.size()).zip(numbers).enumerate() {
            let bias = if *number > 0.0 { self.bias.map_or(0.0, |bias| bias[nth]) } else { 0.0 };
            out.fill(match self.activation {
                Activation::Clip(low, high) if *number > 0.0 => {
                    let bias = if bias < low { low } else { bias };
                    if bias > high { high } else { bias }
                }
                _ => bias,
            });
        }
    }
}

impl Operator for SkipConv {
    fn name(&self) -> &'static str {
        "SkipConv"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let (x, weights, numbers) = (inputs.get(0)?, inputs.get(1)?, inputs.get(3)?);
        if x.dtype() != Dtype::F32 {
            return Err(Fault::dtype(0, x, "float"));
        }
        let shapes = self.conv.shapes(x.shape(), weights.shape())?;
        let plan = self.plan(&shapes, weights.shape().get(2..).unwrap_or_default())?;
        if numbers.shape() != [shapes.images, shapes.out] {
            let needs = format!("{}x{}", shapes.images, shapes.out);
            return Err(Fault::shape(format!("numbers {}", dims(numbers.shape())), needs));
        }
        let bias = inputs.optional(2).map(|_| inputs.elements::<f32>(2, "float")).transpose()?;
        if let Some(bias) = bias.filter(|bias| bias.len() != shapes.out) {
            return Err(Fault::shape(format!("a bias of {}", bias.len()), format!("one of {}", shapes.out)));
        }
        let turned = self.turned.as_ref().map_or_else(|| self.turned(weights), |turned| Ok(Arc::clone(turned)))?;
        let shape = vec![shapes.images, shapes.out, plan.output[0], plan.output[1]];
        let mut out = context.buffer(&shape)?;
        let groups = self.conv.groups;
        let channels = [shapes.channels, shapes.out].map(|channels| channels / groups);
        let of_group = |(nth, turned)| Work {
            plan: &plan,
            turned,
            packed: self.conv.packed.as_ref().and_then(|packed| packed.get(nth)),
            channels,
            bias: bias.map(|bias| &bias[nth * channels[1]..][..channels[1]]),
            activation: self.conv.activation,
        };
        let works: Vec<Work<'_>> = turned.iter().enumerate().map(of_group).collect();
        let (x, numbers) = (inputs.elements::<f32>(0, "float")?, inputs.elements::<f32>(3, "float")?);
        let each = [x.len(), out.len()].map(|len| len / shapes.images.max(1));
        let image = |(out, x, numbers): (&mut [f32], &[f32], &[f32])| {
            let parts = x.chunks_exact(each[0] / groups).zip(numbers.chunks_exact(channels[1]));
            for ((work, out), (x, numbers)) in works.iter().zip(out.chunks_exact_mut(each[1] / groups)).zip(parts) {
                work.image(x, numbers, context, out);
            }
        };
        if each[0] == 0 || each[1] == 0 {
            out.fill(0.0);
        } else if shapes.images == 1 {
            image((&mut out, x, numbers));
        } else {
            let images = out.par_chunks_exact_mut(each[1]).zip(x.par_chunks_exact(each[0]));
            let all = images.zip(numbers.par_chunks_exact(shapes.out));
            all.for_each(|((out, x), numbers)| image((out, x, numbers)));
        }
        let len = out.len();
        let wrong = || Fault::shape(format!("{len} results"), "as many as the shape has");
        Ok(vec![Tensor::of(shape, out).ok_or_else(wrong)?])
    }

    fn macs(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        self.conv.macs(inputs, outputs)
    }

    fn prepare(&self, constants: &[Option<&Tensor>]) -> Result<Option<Arc<dyn Operator>>, Fault> {
        let Some(Some(weights)) = constants.get(1) else { return Ok(None) };
        let (Some(all), [out, ..]) = (weights.get::<f32>(), weights.shape()) else { return Ok(None) };
        let packed = Some(Arc::new(self.conv.pack(all, *out)));
        let conv = Conv { packed, ..self.conv.clone() };
        Ok(Some(Arc::new(Self { conv, turned: Some(self.turned(weights)?) })))
    }
}
