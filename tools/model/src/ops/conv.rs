//! Convolutions of one, two or three dimensions (ONNX `Conv`).

mod back;
pub(crate) mod blocked;
mod deep;
mod skip;
mod tiles;
mod transpose;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use rayon::prelude::*;

use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::kernels::conv::{Activation, End, Geometry, Packed, Plan, convolve};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::binary::{Binary, Operation};
use crate::ops::select::Clip;
pub use crate::ops::window::Span;
use crate::ops::window::Window;
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::{Dtype, Tensor};
pub use skip::SkipConv;
use tiles::Tiles;

/// A convolution: inputs are the images `[N, C, ...]`, the weights `[O, C / groups, ...]`, and, where
/// there is one, a bias `[O]`.
#[derive(Clone, Debug)]
pub struct Conv {
    window: Window,
    groups: usize,
    /// Whether a fourth input of the output's shape is added.
    add: bool,
    activation: Activation,
    /// Weights of each group, where they never change.
    packed: Option<Arc<Vec<Packed>>>,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    if !definition.domain.is_empty() {
        return Ok(None);
    }
    match definition.op.as_str() {
        "Conv" => some(Conv {
            window: Window::read(definition)?,
            groups: groups(definition)?,
            add: false,
            activation: Activation::None,
            packed: None,
        }),
        "ConvTranspose" => transpose::build(definition),
        _ => Ok(None),
    }
}

/// How many parts the channels are cut into.
fn groups(definition: &Definition) -> Result<usize, Fault> {
    let groups = usize::try_from(definition.int("group")?.unwrap_or(1)).ok().filter(|groups| *groups > 0);
    groups.ok_or_else(|| Fault::shape("no groups", "1 or more"))
}

/// What a convolution works on.
struct Shapes {
    images: usize,
    /// Input channels.
    channels: usize,
    /// Output channels.
    out: usize,
    /// Places of an image, along each dimension.
    image: Vec<usize>,
}

impl Conv {
    /// Whether its sums are stored as they are.
    pub(crate) fn is_plain(&self) -> bool {
        !self.add && self.activation == Activation::None
    }

    /// The same with results held between two bounds; none where something comes after its sums already.
    pub(crate) fn clipped(&self, low: f32, high: f32) -> Option<Self> {
        (self.activation == Activation::None && low <= high)
            .then(|| Self { activation: Activation::Clip(low, high), ..self.clone() })
    }

    /// The same with a fourth input that is added; none where something comes after its sums already.
    pub(crate) fn adding(&self) -> Option<Self> {
        self.is_plain().then(|| Self { add: true, ..self.clone() })
    }

    /// How many parts channels are cut into.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// How its windows lie on images of this shape, along each dimension behind the channels.
    ///
    /// # Errors
    ///
    /// Shapes of images and weights that do not fit each other.
    pub fn windows(&self, images: &[usize], weights: &[usize]) -> Result<Vec<Span>, Fault> {
        let shapes = self.shapes(images, weights)?;
        self.spans(&shapes, weights.get(2..).unwrap_or_default())
    }

    fn shapes(&self, x: &[usize], w: &[usize]) -> Result<Shapes, Fault> {
        let wrong = || {
            let needs = format!("images [N, C, ..] and weights [O, C/{}, ..]", self.groups);
            Fault::shape(format!("images {} and weights {}", dims(x), dims(w)), needs)
        };
        let ([images, channels, image @ ..], [out, each, kernel @ ..]) = (x, w) else { return Err(wrong()) };
        let fits = image.len() == kernel.len()
            && (1..=3).contains(&image.len())
            && each.checked_mul(self.groups) == Some(*channels)
            && out.is_multiple_of(self.groups)
            && !kernel.contains(&0);
        if !fits {
            return Err(wrong());
        }
        Ok(Shapes { images: *images, channels: *channels, out: *out, image: image.to_vec() })
    }

    /// The window along each dimension.
    fn spans(&self, shapes: &Shapes, kernel: &[usize]) -> Result<Vec<Span>, Fault> {
        if let Some(said) = self.window.kernel.as_deref().filter(|said| *said != kernel) {
            return Err(Fault::shape(format!("weights {}", dims(kernel)), format!("kernel_shape {}", dims(said))));
        }
        self.window.spans(&shapes.image, Some(kernel))
    }

    fn pack(&self, weights: &[f32], out: usize) -> Vec<Packed> {
        let each = weights.len() / self.groups;
        if each == 0 {
            return Vec::new();
        }
        weights.chunks_exact(each).map(|weights| Packed::new(weights, out / self.groups)).collect()
    }

    /// Two-dimensional images, and those of one dimension as images of one row.
    fn planes(&self, inputs: &Inputs, shapes: &Shapes, context: &Context<'_>) -> Result<Tensor, Fault> {
        let (x, w) = (inputs.elements::<f32>(0, "float")?, inputs.elements::<f32>(1, "float")?);
        let kernel = inputs.get(1)?.shape().get(2..).unwrap_or_default();
        let spans = self.spans(shapes, kernel)?;
        // Before anything is as large as the output.
        let outputs: Vec<usize> =
            [shapes.images, shapes.out].into_iter().chain(spans.iter().map(|at| at.output)).collect();
        context.len::<f32>(&outputs)?;
        let (geometry, size) = match spans.as_slice() {
            [cols] => (geometry(&ONE, cols), [1, cols.input]),
            [rows, cols] => (geometry(rows, cols), [rows.input, cols.input]),
            _ => return Err(Fault::Unsupported(format!("a kernel {}", dims(kernel)))),
        };
        let plan = Plan::new(geometry, size).ok_or_else(|| {
            Fault::shape(format!("images {} with their padding", dims(&shapes.image)), "room for the kernel")
        })?;
        // Far more than the image may be around it, of which hardly anything is an output's.
        context.len::<f32>(&[shapes.channels / self.groups, plan.plane()])?;
        let mut shape = vec![shapes.images, shapes.out];
        shape.extend(plan.output.iter().skip(2 - shapes.image.len()));
        let mut out = context.buffer(&shape)?;
        let bias = inputs.optional(2).map(|_| inputs.elements::<f32>(2, "float")).transpose()?;
        if let Some(bias) = bias.filter(|bias| bias.len() != shapes.out) {
            return Err(Fault::shape(format!("a bias of {}", bias.len()), format!("one of {}", shapes.out)));
        }
        // What is added is mostly of the output's shape, but may be repeated along it.
        let at_once = self.add && inputs.get(3)?.shape() == shape;
        let add = if at_once { Some(inputs.elements::<f32>(3, "float")?) } else { None };
        let activation = if self.add && !at_once { Activation::None } else { self.activation };
        let tiles = match spans.as_slice() {
            &[rows, cols] if self.packed.is_none() && add.is_none() => Tiles::new([rows, cols], shapes, self.groups),
            _ => None,
        };
        if let Some(tiles) = tiles {
            tiles.run((x, w), (bias, activation), context, &mut out);
        } else {
            let packed = self.packed.as_deref().map_or_else(|| self.pack(w, shapes.out).into(), Cow::from);
            let work = Work { plan: &plan, packed: &packed, shapes, groups: self.groups, bias, add, activation };
            work.run(x, context, &mut out);
        }
        let len = out.len();
        let wrong = || Fault::shape(format!("{len} results"), "as many as the shape has");
        let y = Tensor::of(shape, out).ok_or_else(wrong)?;
        if self.add && !at_once { self.after(y, inputs, context) } else { Ok(y) }
    }

    /// What comes after the sums, in nodes of its own.
    fn after(&self, mut y: Tensor, inputs: &Inputs, context: &Context<'_>) -> Result<Tensor, Fault> {
        if self.add {
            let sum = Binary { operation: Operation::Add };
            y = sum.run(&mut Inputs::new(vec![Some(y), Some(inputs.get(3)?.clone())]), context)?.remove(0);
        }
        if let Activation::Clip(low, high) = self.activation {
            let clip = Clip { low: Some(low), high: Some(high) };
            y = clip.run(&mut Inputs::new(vec![Some(y)]), context)?.remove(0);
        }
        Ok(y)
    }
}

/// The dimension that images of one dimension lack.
const ONE: Span = Span { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, before: 0, after: 0 };

fn geometry(rows: &Span, cols: &Span) -> Geometry {
    Geometry {
        kernel: [rows.kernel, cols.kernel],
        stride: [rows.stride, cols.stride],
        dilation: [rows.dilation, cols.dilation],
        pads: [rows.before, cols.before, rows.after, cols.after],
    }
}

/// Images on their way through a convolution.
struct Work<'w> {
    plan: &'w Plan,
    packed: &'w [Packed],
    shapes: &'w Shapes,
    groups: usize,
    bias: Option<&'w [f32]>,
    add: Option<&'w [f32]>,
    activation: Activation,
}

/// Images from which on each is done by one thread.
const MANY: usize = 8;

/// Parts for each thread, so that all end at about the same time.
const SHARES: usize = 2;

/// Products below which threads are not worth their start.
const SMALL: usize = 1 << 18;

/// Elements below which an image is padded by one thread.
const FEW: usize = 1 << 16;

impl Work<'_> {
    fn run(&self, x: &[f32], context: &Context<'_>, out: &mut [f32]) {
        let image = self.shapes.channels * self.shapes.image.iter().product::<usize>();
        let of_image = self.shapes.out * self.plan.size();
        if image == 0 || of_image == 0 {
            return out.fill(0.0);
        }
        let products = of_image.saturating_mul(self.packed.first().map_or(0, Packed::each));
        images((x, image), (out, of_image), products, |nth, x, threads, out| {
            self.image((nth, x), context, threads, out)
        });
    }

    fn image(&self, (nth, x): (usize, &[f32]), context: &Context<'_>, threads: usize, out: &mut [f32]) {
        let Some(len) = self.plan.padded(self.shapes.channels / self.groups) else {
            let each = x.len() / self.groups;
            spread(self.parts(nth, out, threads), threads, |(part, out)| {
                self.part(&part, &x[part.group * each..][..each], out);
            });
            return;
        };
        if self.groups == 1 {
            let mut padded = context.scratch(len);
            self.pad(x, threads, &mut padded);
            spread(self.parts(nth, out, threads), threads, |(part, out)| self.part(&part, &padded, out));
            context.put(padded);
            return;
        }
        // A group is padded just before it is needed.
        let (of_x, of_out) = (x.len() / self.groups, out.len() / self.groups);
        let channels = self.shapes.out / self.groups;
        let some = self.groups.div_ceil(threads * SHARES);
        let all: Vec<_> = x.chunks(some * of_x).zip(out.chunks_mut(some * of_out)).enumerate().collect();
        spread(all, threads, |(at, (x, out))| {
            let mut padded = context.scratch(len);
            for (group, (x, out)) in x.chunks_exact(of_x).zip(out.chunks_exact_mut(of_out)).enumerate() {
                self.plan.pad(x, &mut padded);
                let group = at * some + group;
                self.part(
                    &Part { image: nth, group, first: 0, count: channels, before: group * channels },
                    &padded,
                    out,
                );
            }
            context.put(padded);
        });
    }

    /// Pads an image, on threads where it is large.
    fn pad(&self, x: &[f32], threads: usize, padded: &mut [f32]) {
        if threads == 1 || padded.len() < FEW {
            return self.plan.pad(x, padded);
        }
        let size = x.len() / self.shapes.channels;
        let planes = padded.par_chunks_mut(self.plan.plane()).zip(x.par_chunks_exact(size));
        planes.for_each(|(padded, x)| self.plan.pad(x, padded));
    }

    /// An image's output in about as many parts as threads can share, and where each goes.
    fn parts<'o>(&self, image: usize, out: &'o mut [f32], threads: usize) -> Vec<(Part, &'o mut [f32])> {
        let (of_group, size) = (self.shapes.out / self.groups, self.plan.size());
        let rows = self.packed.first().map_or(1, Packed::rows);
        let wanted = if threads == 1 { 1 } else { (threads * SHARES).div_ceil(self.groups) };
        let some = of_group.div_ceil(rows).div_ceil(wanted) * rows;
        let mut all = Vec::with_capacity(self.groups * wanted);
        for (group, out) in out.chunks_exact_mut(of_group * size).enumerate() {
            for (nth, out) in out.chunks_mut(size * some).enumerate() {
                let first = nth * some;
                let (count, before) = (some.min(of_group - first), group * of_group + first);
                all.push((Part { image, group, first, count, before }, out));
            }
        }
        all
    }

    /// Computes a part from the group's input channels, which have their padding.
    fn part(&self, part: &Part, input: &[f32], out: &mut [f32]) {
        let at = (part.image * self.shapes.out + part.before) * self.plan.size();
        let end = End {
            bias: self.bias.map(|bias| &bias[part.before..part.before + part.count]),
            add: self.add.map(|add| &add[at..at + out.len()]),
            activation: self.activation,
        };
        convolve(self.plan, &self.packed[part.group], input, part.first..part.first + part.count, end, out);
    }
}

/// Output channels of an image.
struct Part {
    image: usize,
    group: usize,
    /// The first one, counted in the group, and how many there are.
    first: usize,
    count: usize,
    /// Channels before them.
    before: usize,
}

/// How many threads so many products are worth.
fn threads_for(products: usize) -> usize {
    if products < SMALL { 1 } else { rayon::current_num_threads() }
}

/// Images of these sizes in and out, numbered: each by one thread where there are many, else one after the other by as many
/// threads as its products are worth.
fn images(
    (x, of_x): (&[f32], usize),
    (out, of_out): (&mut [f32], usize),
    products: usize,
    each: impl Fn(usize, &[f32], usize, &mut [f32]) + Sync,
) {
    if out.len() / of_out >= MANY {
        let all = out.par_chunks_exact_mut(of_out).zip(x.par_chunks_exact(of_x)).enumerate();
        return all.for_each(|(nth, (out, x))| each(nth, x, 1, out));
    }
    let threads = threads_for(products);
    for (nth, (x, out)) in x.chunks_exact(of_x).zip(out.chunks_exact_mut(of_out)).enumerate() {
        each(nth, x, threads, out);
    }
}

/// Does work on threads, where there is more than one for it.
fn spread<T: Send>(all: Vec<T>, threads: usize, each: impl Fn(T) + Sync + Send) {
    if threads == 1 { all.into_iter().for_each(each) } else { all.into_par_iter().for_each(each) }
}

impl Operator for Conv {
    fn name(&self) -> &'static str {
        "Conv"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let shapes = self.shapes(inputs.get(0)?.shape(), inputs.get(1)?.shape())?;
        let sums = match inputs.get(0)?.dtype() {
            Dtype::F64 => deep::convolve::<f64>(self, inputs, &shapes, context)?,
            _ if shapes.image.len() < 3 => return Ok(vec![self.planes(inputs, &shapes, context)?]),
            _ => deep::convolve::<f32>(self, inputs, &shapes, context)?,
        };
        self.after(sums, inputs, context).map(|y| vec![y])
    }

    fn reverse(&self) -> Reverse<'_> {
        if self.is_plain() { Reverse::Flows(self) } else { Reverse::Missing }
    }

    fn macs(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        let (Some(Some([_, weights @ ..])), Some(output)) = (inputs.get(1), outputs.first()) else { return 0 };
        output.iter().chain(weights).fold(1, |macs: u64, dim| macs.saturating_mul(*dim as u64))
    }

    fn prepare(&self, constants: &[Option<&Tensor>]) -> Result<Option<Arc<dyn Operator>>, Fault> {
        let Some(Some(weights)) = constants.get(1) else { return Ok(None) };
        let (Some(all), [out, _, kernel @ ..]) = (weights.get::<f32>(), weights.shape()) else { return Ok(None) };
        if kernel.len() > 2 || !out.is_multiple_of(self.groups) {
            return Ok(None);
        }
        Ok(Some(Arc::new(Self { packed: Some(Arc::new(self.pack(all, *out))), ..self.clone() })))
    }
}
