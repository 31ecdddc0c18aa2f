//! Gradients of a convolution.

use rayon::prelude::*;

use niwaki_codes::simd::Level;

use super::deep::Deep;
use super::{Conv, ONE, Shapes, Tiles, Work, geometry};
use crate::fault::{Fault, dims};
use crate::kernels::conv::slopes::Slopes;
use crate::kernels::conv::{Activation, Packed, Plan};
use crate::kernels::lanes;
use crate::operator::Context;
use crate::ops::window::Span;
use crate::real::Real;
use crate::reverse::{Keeps, Pass, Pullback};
use crate::tensor::{Dtype, Tensor};

impl Pullback for Conv {
    fn keeps(&self, wanted: &[bool]) -> Keeps {
        Keeps::crosswise(wanted)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let shapes = self.shapes(pass.shape(0)?, pass.shape(1)?)?;
        let kernel = pass.shape(1)?.get(2..).unwrap_or_default().to_vec();
        match pass.dtype(0)? {
            Dtype::F64 => self.by_definition::<f64>(pass, &shapes, &kernel, context),
            _ if shapes.image.len() < 3 => self.planes_back(pass, &shapes, &kernel, context),
            _ => self.by_definition::<f32>(pass, &shapes, &kernel, context),
        }
    }
}

impl Conv {
    fn by_definition<T: Real>(
        &self,
        pass: &Pass,
        shapes: &Shapes,
        kernel: &[usize],
        context: &Context<'_>,
    ) -> Result<Vec<Option<Tensor>>, Fault> {
        let deep = Deep::new(self, shapes, kernel)?;
        let g = pass.gradient_elements::<T>(0)?;
        let mut all = vec![None; 3];
        if pass.wants(0) {
            let mut out = T::buffer(context, pass.shape(0)?)?;
            deep.of_images(g, pass.elements::<T>(1)?, &mut out);
            all[0] = Some(pass.of_input(0, out)?);
        }
        if pass.wants(1) {
            let mut out = T::buffer(context, pass.shape(1)?)?;
            deep.of_weights(g, pass.elements::<T>(0)?, &mut out);
            all[1] = Some(pass.of_input(1, out)?);
        }
        if pass.wants(2) {
            let size = g.len() / (shapes.images * shapes.out).max(1);
            let sum = |o: usize| {
                let planes = g.chunks_exact(size.max(1)).skip(o).step_by(shapes.out.max(1));
                T::near(planes.flatten().map(|x| x.wide()).sum())
            };
            all[2] = Some(pass.of_input(2, (0..shapes.out).map(sum).collect())?);
        }
        Ok(all)
    }

    /// Two-dimensional images, and those of one dimension as images of one row.
    fn planes_back(
        &self,
        pass: &Pass,
        shapes: &Shapes,
        kernel: &[usize],
        context: &Context<'_>,
    ) -> Result<Vec<Option<Tensor>>, Fault> {
        let spans = match self.spans(shapes, kernel)?.as_slice() {
            [cols] => [ONE, *cols],
            [rows, cols] => [*rows, *cols],
            _ => return Err(Fault::Unsupported(format!("a kernel {}", dims(kernel)))),
        };
        let g = pass.gradient_elements::<f32>(0)?;
        let back = Back { spans, groups: self.groups, shapes, context };
        let mut all = vec![None; 3];
        if pass.wants(0) {
            let mut out = context.buffer(pass.shape(0)?)?;
            if !back.of_images(g, pass.elements(1)?, &mut out)? {
                Deep::new(self, shapes, kernel)?.of_images(g, pass.elements(1)?, &mut out);
            }
            all[0] = Some(pass.of_input(0, out)?);
        }
        if pass.wants(1) {
            let mut out = context.buffer(pass.shape(1)?)?;
            back.of_weights(g, pass.elements(0)?, &mut out)?;
            all[1] = Some(pass.of_input(1, out)?);
        }
        if pass.wants(2) {
            all[2] = Some(pass.of_input(2, sums(g, shapes))?);
        }
        Ok(all)
    }
}

/// The sum of each channel.
fn sums(g: &[f32], shapes: &Shapes) -> Vec<f32> {
    let (size, level) = (g.len() / (shapes.images * shapes.out).max(1), Level::best());
    let sum = |o: usize| {
        let planes = g.chunks_exact(size.max(1)).skip(o).step_by(shapes.out.max(1));
        planes.map(|plane| f64::from(lanes::sum(level, plane))).sum::<f64>() as f32
    };
    (0..shapes.out).into_par_iter().map(sum).collect()
}

/// The way back of a convolution of planes.
struct Back<'b> {
    spans: [Span; 2],
    groups: usize,
    shapes: &'b Shapes,
    context: &'b Context<'b>,
}

/// The inputs that are a stride apart, along one dimension: which taps lead to them, and how.
struct Phase {
    /// How many inputs there are.
    len: usize,
    /// The last tap that leads to them; the others are a stride apart before it.
    last: usize,
    taps: usize,
    before: usize,
    after: usize,
}

impl Phase {
    /// Of the inputs `first`, `first + stride` …; none where it is no plain convolution.
    fn new(span: &Span, first: usize) -> Option<Self> {
        let Span { input, output, kernel, stride, dilation, before, .. } = *span;
        let len = (input - first.min(input)).div_ceil(stride);
        if stride > 1 && dilation > 1 {
            return None;
        }
        let start = (first + before) % stride;
        if start >= kernel {
            return Some(Self { len, last: 0, taps: 0, before: 0, after: 0 });
        }
        let taps = (kernel - start).div_ceil(stride);
        // An output further on for each tap further back.
        let reach = (taps - 1) * dilation;
        let top = (first + before) / stride;
        let before = reach.checked_sub(top)?;
        let after = (len + reach).saturating_sub(output + before);
        Some(Self { len, last: start + (taps - 1) * stride, taps, before, after })
    }

    /// The window that leads to them from outputs of `span`.
    fn turned(&self, span: &Span) -> Span {
        let Self { len, taps, before, after, .. } = *self;
        Span { input: span.output, output: len, kernel: taps, stride: 1, dilation: span.dilation, before, after }
    }
}

impl Back<'_> {
    /// The gradient of the images: a convolution of that of the outputs with the kernel turned around, one
    /// for every place of an input between strides. Whether that can be done.
    fn of_images(&self, g: &[f32], w: &[f32], out: &mut [f32]) -> Result<bool, Fault> {
        let [rows, cols] = &self.spans;
        let phases = |span: &Span| (0..span.stride).map(|first| Phase::new(span, first)).collect::<Option<Vec<_>>>();
        let (Some(down), Some(across)) = (phases(rows), phases(cols)) else { return Ok(false) };
        let whole = rows.stride == 1 && cols.stride == 1;
        if !whole {
            out.fill(0.0);
        }
        for (first_row, row) in down.iter().enumerate() {
            for (first_col, col) in across.iter().enumerate() {
                if row.taps == 0 || col.taps == 0 || row.len == 0 || col.len == 0 {
                    continue;
                }
                let spans = [row.turned(rows), col.turned(cols)];
                let plan = Plan::new(geometry(&spans[0], &spans[1]), [rows.output, cols.output]);
                let Some(plan) = plan else { return Ok(false) };
                let shapes = Shapes {
                    images: self.shapes.images,
                    channels: self.shapes.out,
                    out: self.shapes.channels,
                    image: vec![rows.output, cols.output],
                };
                let turned = |group| self.turned(w, group, row, col);
                let alike = whole && plan.output == [rows.input, cols.input];
                if let Some(tiles) = alike.then(|| Tiles::new(spans, &shapes, self.groups)).flatten() {
                    tiles.run((g, &turned(0)), (None, Activation::None), self.context, out);
                    continue;
                }
                let each = self.shapes.channels / self.groups;
                let packed =
                    (0..self.groups).into_par_iter().map(|group| Packed::new(&turned(group), each)).collect::<Vec<_>>();
                let work = Work {
                    plan: &plan,
                    packed: &packed,
                    shapes: &shapes,
                    groups: self.groups,
                    bias: None,
                    add: None,
                    activation: Activation::None,
                };
                if alike {
                    work.run(g, self.context, out);
                    continue;
                }
                let size = plan.output[0] * plan.output[1];
                let mut phase = self.context.buffer(&[shapes.images, shapes.out, size])?;
                work.run(g, self.context, &mut phase);
                let planes = out.par_chunks_exact_mut((rows.input * cols.input).max(1));
                planes.zip(phase.par_chunks_exact(size)).for_each(|(out, phase)| {
                    let rows_out = out.chunks_exact_mut(cols.input).skip(first_row).step_by(rows.stride);
                    for (out, phase) in rows_out.zip(phase.chunks_exact(plan.output[1])).take(row.len) {
                        place(&mut out[first_col..], cols.stride, &phase[..col.len]);
                    }
                });
                self.context.put(phase);
            }
        }
        Ok(true)
    }

    /// The weights of a group for a phase, channels exchanged, the taps turned around.
    fn turned(&self, w: &[f32], group: usize, row: &Phase, col: &Phase) -> Vec<f32> {
        let [rows, cols] = &self.spans;
        let (each, per_group) = (self.shapes.channels / self.groups, self.shapes.out / self.groups);
        let size = rows.kernel * cols.kernel;
        let mut turned = Vec::with_capacity(each * per_group * row.taps * col.taps);
        for c in 0..each {
            for o in group * per_group..(group + 1) * per_group {
                let w = &w[(o * each + c) * size..][..size];
                for i in 0..row.taps {
                    let w = &w[(row.last - i * rows.stride) * cols.kernel..];
                    turned.extend((0..col.taps).map(|j| w[col.last - j * cols.stride]));
                }
            }
        }
        turned
    }

    /// The gradient of the weights.
    fn of_weights(&self, g: &[f32], x: &[f32], out: &mut [f32]) -> Result<(), Fault> {
        out.fill(0.0);
        let [rows, cols] = &self.spans;
        let plan = Plan::new(geometry(rows, cols), [rows.input, cols.input])
            .ok_or_else(|| Fault::shape(format!("images {}", dims(&self.shapes.image)), "room for the kernel"))?;
        let (each, per_group) = (self.shapes.channels / self.groups, self.shapes.out / self.groups);
        if out.is_empty() || g.is_empty() || x.is_empty() {
            return Ok(());
        }
        if Tiles::new(self.spans, self.shapes, self.groups)
            .is_some_and(|tiles| tiles.of_weights([x, g], self.context, out))
        {
            return Ok(());
        }
        let slopes = Slopes::new(&plan, each, per_group);
        let (group, len) = (slopes.group(), out.len());
        let work = Weights { slopes: &slopes, back: self, x, g };
        if self.groups > 1 {
            let parts = out.par_chunks_exact_mut(len / self.groups).enumerate();
            parts.for_each(|(at, out)| {
                for first in (0..self.shapes.images).step_by(group) {
                    work.group(at, first..(first + group).min(self.shapes.images), out);
                }
            });
            return Ok(());
        }
        let firsts: Vec<usize> = (0..self.shapes.images).step_by(group).collect();
        if firsts.len().saturating_mul(len) > PARTIAL {
            for first in firsts {
                work.group(0, first..(first + group).min(self.shapes.images), out);
            }
            return Ok(());
        }
        // Each group of images on its own; their sums are added in order.
        let part = |first: &usize| {
            let mut part = self.context.scratch(len);
            part.fill(0.0);
            work.group(0, *first..(first + group).min(self.shapes.images), &mut part);
            part
        };
        let all: Vec<Vec<f32>> = firsts.par_iter().map(part).collect();
        for part in all {
            lanes::add(Level::best(), out, &part);
            self.context.put(part);
        }
        Ok(())
    }
}

/// The most elements of gradients of weights that are held at once before they are added.
pub(super) const PARTIAL: usize = 4 << 20;

/// What the gradient of weights is made of.
struct Weights<'w> {
    slopes: &'w Slopes<'w>,
    back: &'w Back<'w>,
    x: &'w [f32],
    g: &'w [f32],
}

impl Weights<'_> {
    /// Adds what some images give to the weights of one group of channels.
    fn group(&self, at: usize, images: std::ops::Range<usize>, out: &mut [f32]) {
        let (slopes, context, shapes) = (self.slopes, self.back.context, self.back.shapes);
        let count = images.len();
        let (of_x, of_g) = (self.x.len() / shapes.images, self.g.len() / shapes.images);
        let (x_each, g_each) = (of_x / self.back.groups, of_g / self.back.groups);
        let mut padded = context.scratch(count * slopes.padded());
        let mut laid = context.scratch(count * slopes.spread());
        let both = padded.chunks_exact_mut(slopes.padded()).zip(laid.chunks_exact_mut(slopes.spread()));
        for (image, (padded, laid)) in images.zip(both) {
            slopes.pad(&self.x[image * of_x + at * x_each..][..x_each], padded);
            slopes.lay(&self.g[image * of_g + at * g_each..][..g_each], laid);
        }
        let tiles = slopes.tiles();
        let threads = if self.back.groups == 1 && out.len() >= PARTIAL / 8 { tiles } else { 1 };
        if threads == 1 {
            slopes.add(&padded, &laid, 0..tiles, out);
        } else {
            // Large weights: output channels on all threads.
            let one = slopes.len(&(0..1));
            out.par_chunks_mut(one).enumerate().for_each(|(nth, out)| slopes.add(&padded, &laid, nth..nth + 1, out));
        }
        context.put(padded);
        context.put(laid);
    }
}

/// Puts numbers a stride apart.
fn place(out: &mut [f32], stride: usize, from: &[f32]) {
    if stride == 2 {
        let (pairs, last) = out.as_chunks_mut::<2>();
        let whole = pairs.len().min(from.len());
        pairs.iter_mut().zip(from).for_each(|(out, x)| out[0] = *x);
        last.iter_mut().zip(&from[whole..]).for_each(|(out, x)| *out = *x);
    } else {
        out.iter_mut().step_by(stride).zip(from).for_each(|(out, x)| *out = *x);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
