//! The convolution that goes the other way (ONNX `ConvTranspose`): each input is spread over a window
//! of outputs.
//!
//! It is a convolution of the inputs set apart by the stride, zeros between them, with the kernel
//! turned around:
//!
//! ```text
//! y[o, p, q] = b[o] + sum over c, i, j of w[c, o, i, j] x[c, (p + top - i dh) / sh, (q + left - j dw) / sw]
//! ```
//!
//! over the places where the divisions leave no rest.

use std::sync::Arc;

use rayon::prelude::*;

use super::{Shapes, Work};
use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::kernels::conv::{Activation, Geometry, Packed, Plan};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::{Built, some};
use crate::tensor::Tensor;

/// A transposed convolution: inputs are the images `[N, C, ...]`, the weights `[C, O / groups, ...]`, and,
/// where there is one, a bias `[O]`.
#[derive(Clone, Debug)]
pub(super) struct ConvTranspose {
    groups: usize,
    strides: Option<Vec<usize>>,
    dilations: Option<Vec<usize>>,
    pads: Option<Vec<usize>>,
    output_padding: Option<Vec<usize>>,
    output_shape: Option<Vec<usize>>,
    same: Same,
    /// Weights of each group, where they never change.
    packed: Option<Arc<Vec<Packed>>>,
}

/// How much is cut off where the outputs are to be as many as strides make of the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Same {
    /// What the padding says.
    No,
    /// An odd rest at the end.
    Upper,
    /// An odd rest at the beginning.
    Lower,
}

/// The numbers of one dimension.
#[derive(Clone, Copy)]
struct Span {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    /// Where the first input stands among those set apart; outputs may be cut off before it.
    first: isize,
}

impl Span {
    /// Places of the inputs set apart, with what is around them.
    fn places(&self) -> usize {
        self.output + (self.kernel - 1) * self.dilation
    }

    /// The input that stands at a place.
    fn input_at(&self, place: usize) -> Option<usize> {
        let from = usize::try_from(place as isize - self.first).ok()?;
        (from.is_multiple_of(self.stride) && from / self.stride < self.input).then_some(from / self.stride)
    }
}

pub(super) fn build(definition: &Definition) -> Built {
    let groups = super::groups(definition)?;
    let same = match definition.text("auto_pad")?.as_deref() {
        None | Some("" | "NOTSET" | "VALID") => Same::No,
        Some("SAME_UPPER") => Same::Upper,
        Some("SAME_LOWER") => Same::Lower,
        Some(other) => return Err(Fault::Unsupported(format!("auto_pad `{other}`"))),
    };
    let (strides, dilations) = (definition.sizes("strides")?, definition.sizes("dilations")?);
    if strides.iter().chain(&dilations).flatten().any(|step| *step == 0) {
        return Err(Fault::shape("a stride or a dilation of 0", "1 or more"));
    }
    some(ConvTranspose {
        groups,
        strides,
        dilations,
        pads: definition.sizes("pads")?,
        output_padding: definition.sizes("output_padding")?,
        output_shape: definition.sizes("output_shape")?,
        same,
        packed: None,
    })
}

impl ConvTranspose {
    /// The numbers of dimension `at` of `rank`.
    fn span(&self, at: usize, rank: usize, input: usize, kernel: usize) -> Result<Span, Fault> {
        let each = |all: &Option<Vec<usize>>, at: usize, none: usize| match all {
            None => Ok(none),
            Some(all) => {
                all.get(at).copied().ok_or_else(|| Fault::shape(format!("{all:?}"), format!("{rank} or more")))
            }
        };
        let wrong = || Fault::shape(format!("images of {input}, a kernel of {kernel}"), "outputs that are there");
        let (stride, dilation) = (each(&self.strides, at, 1)?, each(&self.dilations, at, 1)?);
        let reach = kernel.checked_sub(1).and_then(|k| k.checked_mul(dilation)).ok_or_else(wrong)?;
        let more = each(&self.output_padding, at, 0)?;
        let all =
            input.checked_sub(1).and_then(|x| x.checked_mul(stride)).and_then(|x| x.checked_add(reach + 1 + more));
        let all = all.ok_or_else(wrong)?;
        let wanted = match &self.output_shape {
            // The dimensions of images alone, or of all.
            Some(shape) => Some(each(&self.output_shape, at + shape.len().saturating_sub(rank), 0)?),
            None if self.same != Same::No => Some(input.saturating_mul(stride)),
            None => None,
        };
        let signed = |x: usize| isize::try_from(x).map_err(|_| wrong());
        let (before, output) = match wanted {
            None => {
                let (before, after) = (each(&self.pads, at, 0)?, each(&self.pads, at + rank, 0)?);
                let output = all.checked_sub(before).and_then(|x| x.checked_sub(after)).ok_or_else(wrong)?;
                (signed(before)?, output)
            }
            Some(wanted) => {
                // Where more is wanted than there is, less than nothing is cut off.
                let total = signed(all)? - signed(wanted)?;
                let half = total.div_euclid(2);
                (if self.same == Same::Upper { half } else { total - half }, wanted)
            }
        };
        let places = output.checked_add(reach).filter(|_| output > 0).ok_or_else(wrong)?;
        signed(places)?;
        Ok(Span { input, output, kernel, stride, dilation, first: signed(reach)? - before })
    }

    /// Weights of each group in the order of a convolution: output channels first, the kernel turned.
    fn pack(&self, weights: &[f32], [channels, each, size]: [usize; 3]) -> Vec<Packed> {
        let per_group = channels / self.groups;
        let turn = |group: usize| {
            let mut turned = Vec::with_capacity(each * per_group * size);
            for o in 0..each {
                for c in group * per_group..(group + 1) * per_group {
                    turned.extend(weights[(c * each + o) * size..][..size].iter().rev());
                }
            }
            Packed::new(&turned, each)
        };
        (0..self.groups).map(turn).collect()
    }

    fn planes(&self, inputs: &Inputs, context: &Context<'_>, spans: [Span; 2]) -> Result<Vec<f32>, Fault> {
        let (x, w) = (inputs.elements::<f32>(0, "float")?, inputs.elements::<f32>(1, "float")?);
        let (of_x, of_w) = (inputs.get(0)?.shape(), inputs.get(1)?.shape());
        let (images, channels, each) = (of_x[0], of_x[1], of_w[1]);
        let [rows, cols] = spans.map(|span| span.places());
        let mut apart = vec![0.0; context.len::<f32>(&[images, channels, rows, cols])?];
        let size = spans[0].input * spans[1].input;
        apart.par_chunks_exact_mut(rows * cols).zip(x.par_chunks_exact(size)).for_each(|(apart, x)| {
            for (row, apart) in apart.chunks_exact_mut(cols).enumerate() {
                let Some(from) = spans[0].input_at(row) else { continue };
                let x = &x[from * spans[1].input..][..spans[1].input];
                apart.iter_mut().enumerate().for_each(|(col, apart)| {
                    *apart = spans[1].input_at(col).map_or(0.0, |from| x[from]);
                });
            }
        });
        let geometry = Geometry {
            kernel: spans.map(|span| span.kernel),
            stride: [1, 1],
            dilation: spans.map(|span| span.dilation),
            pads: [0; 4],
        };
        let plan = Plan::new(geometry, [rows, cols]).ok_or_else(|| Fault::shape("a kernel", "room for it"))?;
        let shapes = Shapes { images, channels, out: each * self.groups, image: vec![rows, cols] };
        let mut out = context.buffer(&[images, shapes.out, plan.output[0], plan.output[1]])?;
        let bias = inputs.optional(2).map(|_| inputs.elements::<f32>(2, "float")).transpose()?;
        if let Some(bias) = bias.filter(|bias| bias.len() != shapes.out) {
            return Err(Fault::shape(format!("a bias of {}", bias.len()), format!("one of {}", shapes.out)));
        }
        let fresh;
        let packed = match &self.packed {
            Some(packed) => packed.as_slice(),
            None => {
                fresh = self.pack(w, [channels, each, geometry.kernel[0] * geometry.kernel[1]]);
                fresh.as_slice()
            }
        };
        let activation = Activation::None;
        let work = Work { plan: &plan, packed, shapes: &shapes, groups: self.groups, bias, add: None, activation };
        work.run(&apart, context, &mut out);
        Ok(out)
    }

    /// Three dimensions: each output gathers its inputs.
    fn deep(&self, inputs: &Inputs, context: &Context<'_>, spans: &[Span]) -> Result<Vec<f32>, Fault> {
        let (x, w) = (inputs.elements::<f32>(0, "float")?, inputs.elements::<f32>(1, "float")?);
        let (of_x, of_w) = (inputs.get(0)?.shape(), inputs.get(1)?.shape());
        let (channels, each, out_channels) = (of_x[1], of_w[1], of_w[1] * self.groups);
        let bias = inputs.optional(2).map(|_| inputs.elements::<f32>(2, "float")).transpose()?;
        if bias.is_some_and(|bias| bias.len() != out_channels) {
            return Err(Fault::shape("a bias of another size", format!("one of {out_channels}")));
        }
        let product = |of: fn(&Span) -> usize| spans.iter().map(of).product::<usize>();
        let (size, image, taps) = (product(|s| s.output), product(|s| s.input), product(|s| s.kernel));
        let mut out = context.buffer(&[of_x[0], out_channels, size])?;
        let per_group = channels / self.groups;
        out.par_chunks_exact_mut(size.max(1)).enumerate().for_each(|(nth, out)| {
            let (n, o) = (nth / out_channels, nth % out_channels);
            for (at, out) in out.iter_mut().enumerate() {
                let mut sum = bias.map_or(0.0, |bias| bias[o]);
                for tap in 0..taps {
                    let (mut at, mut tap_at, mut from, mut stride) = (at, tap, Some(0), 1);
                    for span in spans.iter().rev() {
                        let (place, i) = (at % span.output, tap_at % span.kernel);
                        (at, tap_at) = (at / span.output, tap_at / span.kernel);
                        let input = span.input_at(place + (span.kernel - 1 - i) * span.dilation);
                        from = from.zip(input).map(|(from, input)| from + input * stride);
                        stride *= span.input;
                    }
                    let Some(from) = from else { continue };
                    for c in o / each * per_group..(o / each + 1) * per_group {
                        sum += w[(c * each + o % each) * taps + tap] * x[(n * channels + c) * image + from];
                    }
                }
                *out = sum;
            }
        });
        Ok(out)
    }
}

impl Operator for ConvTranspose {
    fn name(&self) -> &'static str {
        "ConvTranspose"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let (x, w) = (inputs.get(0)?.shape().to_vec(), inputs.get(1)?.shape().to_vec());
        let wrong = || {
            let needs = format!("images [N, C, ..] and weights [C, O/{}, ..]", self.groups);
            Fault::shape(format!("images {} and weights {}", dims(&x), dims(&w)), needs)
        };
        let ([images, channels, image @ ..], [from, each, kernel @ ..]) = (x.as_slice(), w.as_slice()) else {
            return Err(wrong());
        };
        let fits = image.len() == kernel.len()
            && (1..=3).contains(&image.len())
            && from == channels
            && *each > 0
            && channels.is_multiple_of(self.groups);
        if !fits {
            return Err(wrong());
        }
        let span = |at: usize| self.span(at, image.len(), image[at], kernel[at]);
        let spans = (0..image.len()).map(span).collect::<Result<Vec<_>, _>>()?;
        let mut shape = vec![*images, each * self.groups];
        shape.extend(spans.iter().map(|span| span.output));
        context.len::<f32>(&shape)?;
        let one = Span { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, first: 0 };
        let out = match spans.as_slice() {
            [cols] => self.planes(inputs, context, [one, *cols])?,
            [rows, cols] => self.planes(inputs, context, [*rows, *cols])?,
            _ => self.deep(inputs, context, &spans)?,
        };
        let y = Tensor::of(shape, out).ok_or_else(wrong)?;
        Ok(vec![y])
    }

    fn macs(&self, inputs: &[Option<&[usize]>], _: &[&[usize]]) -> u64 {
        let [Some(x), Some([_, weights @ ..]), ..] = inputs else { return 0 };
        x.iter().chain(weights).fold(1, |macs: u64, dim| macs.saturating_mul(*dim as u64))
    }

    fn prepare(&self, constants: &[Option<&Tensor>]) -> Result<Option<Arc<dyn Operator>>, Fault> {
        let Some(Some(weights)) = constants.get(1) else { return Ok(None) };
        let (Some(all), [channels, each, kernel @ ..]) = (weights.get::<f32>(), weights.shape()) else {
            return Ok(None);
        };
        if kernel.len() > 2 || !channels.is_multiple_of(self.groups) || all.is_empty() {
            return Ok(None);
        }
        let packed = self.pack(all, [*channels, *each, kernel.iter().product()]);
        Ok(Some(Arc::new(Self { packed: Some(Arc::new(packed)), ..self.clone() })))
    }
}
