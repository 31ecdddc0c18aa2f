//! Convolutions by their definition, and the gradients: for three-dimensional images, and in doubles.

use rayon::prelude::*;

use super::{Conv, ONE, Shapes};
use crate::fault::Fault;
use crate::operator::{Context, Inputs};
use crate::ops::window::Span;
use crate::real::{Real, made};
use crate::tensor::{Buffer, Element, Tensor};

/// The windows along three dimensions, those that images lack in front.
fn three(spans: &[Span]) -> Result<[Span; 3], Fault> {
    match spans {
        [cols] => Ok([ONE, ONE, *cols]),
        [rows, cols] => Ok([ONE, *rows, *cols]),
        [deep, rows, cols] => Ok([*deep, *rows, *cols]),
        _ => Err(Fault::Unsupported(format!("a kernel of {} dimensions", spans.len()))),
    }
}

/// A convolution, and where its numbers stand.
pub(super) struct Deep {
    spans: [Span; 3],
    groups: usize,
    images: usize,
    /// Input channels, and output channels.
    channels: [usize; 2],
}

impl Deep {
    pub(super) fn new(conv: &Conv, shapes: &Shapes, kernel: &[usize]) -> Result<Self, Fault> {
        let spans = three(&conv.spans(shapes, kernel)?)?;
        Ok(Self { spans, groups: conv.groups, images: shapes.images, channels: [shapes.channels, shapes.out] })
    }

    fn product(&self, of: fn(&Span) -> usize) -> usize {
        self.spans.iter().map(of).product()
    }

    fn taps(&self) -> usize {
        self.product(|span| span.kernel)
    }

    /// Channels of a group, in and out.
    fn each(&self) -> [usize; 2] {
        self.channels.map(|channels| channels / self.groups)
    }

    /// Calls `row` for every row of outputs of a plane under which the kernel's place `tap` has a row of
    /// inputs: where either begins.
    fn rows(&self, tap: usize, mut row: impl FnMut(usize, usize)) {
        let [deep, rows, cols] = &self.spans;
        let (i, j) = (tap / (rows.kernel * cols.kernel), tap / cols.kernel % rows.kernel);
        for d in 0..deep.output {
            let Some(from_d) = deep.under(d, i) else { continue };
            for h in 0..rows.output {
                let Some(from_h) = rows.under(h, j) else { continue };
                row((d * rows.output + h) * cols.output, (from_d * rows.input + from_h) * cols.input);
            }
        }
    }

    /// The outputs.
    pub(super) fn forward<T: Real>(&self, x: &[T], w: &[T], bias: Option<&[T]>, out: &mut [T]) {
        let (size, image, taps) = (self.product(|s| s.output), self.product(|s| s.input), self.taps());
        let ([each, per_group], [channels, all]) = (self.each(), self.channels);
        let cols = self.spans[2];
        out.par_chunks_exact_mut(size.max(1)).enumerate().for_each(|(nth, out)| {
            let (n, o) = (nth / all, nth % all);
            out.fill(bias.map_or(T::ZERO, |bias| bias[o]));
            for c in 0..each {
                let x = &x[(n * channels + o / per_group * each + c) * image..][..image];
                let w = &w[(o * each + c) * taps..][..taps];
                for (tap, w) in w.iter().enumerate() {
                    self.rows(tap, |to, from| {
                        for (at, out) in out[to..to + cols.output].iter_mut().enumerate() {
                            *out += cols.under(at, tap % cols.kernel).map_or(T::ZERO, |at| *w * x[from + at]);
                        }
                    });
                }
            }
        });
    }

    /// The gradient of the images.
    pub(super) fn of_images<T: Real>(&self, g: &[T], w: &[T], out: &mut [T]) {
        let (size, image, taps) = (self.product(|s| s.output), self.product(|s| s.input), self.taps());
        let ([each, per_group], [channels, all]) = (self.each(), self.channels);
        let cols = self.spans[2];
        out.par_chunks_exact_mut(image.max(1)).enumerate().for_each(|(nth, out)| {
            let (n, c) = (nth / channels, nth % channels);
            out.fill(T::ZERO);
            for o in c / each * per_group..(c / each + 1) * per_group {
                let g = &g[(n * all + o) * size..][..size];
                let w = &w[(o * each + c % each) * taps..][..taps];
                for (tap, w) in w.iter().enumerate() {
                    self.rows(tap, |from, to| {
                        for (at, g) in g[from..from + cols.output].iter().enumerate() {
                            if let Some(at) = cols.under(at, tap % cols.kernel) {
                                out[to + at] += *w * *g;
                            }
                        }
                    });
                }
            }
        });
    }

    /// The gradient of the weights.
    pub(super) fn of_weights<T: Real>(&self, g: &[T], x: &[T], out: &mut [T]) {
        let (size, image, taps) = (self.product(|s| s.output), self.product(|s| s.input), self.taps());
        let ([each, per_group], [channels, all]) = (self.each(), self.channels);
        let cols = self.spans[2];
        out.par_chunks_exact_mut(taps.max(1)).enumerate().for_each(|(nth, out)| {
            let (o, c) = (nth / each, nth % each);
            for (tap, out) in out.iter_mut().enumerate() {
                let mut sum = 0.0;
                for n in 0..self.images {
                    let g = &g[(n * all + o) * size..][..size];
                    let x = &x[(n * channels + o / per_group * each + c) * image..][..image];
                    self.rows(tap, |to, from| {
                        for (at, g) in g[to..to + cols.output].iter().enumerate() {
                            let x = cols.under(at, tap % cols.kernel).map_or(T::ZERO, |at| x[from + at]);
                            sum += g.wide() * x.wide();
                        }
                    });
                }
                *out = T::near(sum);
            }
        });
    }
}

pub(super) fn convolve<T: Real>(
    conv: &Conv,
    inputs: &Inputs,
    shapes: &Shapes,
    context: &Context<'_>,
) -> Result<Tensor, Fault> {
    let (x, w) = (numbers::<T>(inputs, 0)?, numbers::<T>(inputs, 1)?);
    let bias = inputs.optional(2).map(|_| numbers::<T>(inputs, 2)).transpose()?;
    let kernel = inputs.get(1)?.shape().get(2..).unwrap_or_default();
    let deep = Deep::new(conv, shapes, kernel)?;
    let mut shape = vec![shapes.images, shapes.out];
    shape.extend(deep.spans.iter().skip(3 - shapes.image.len()).map(|span| span.output));
    let mut out = T::buffer(context, &shape)?;
    if let Some(bias) = bias.filter(|bias| bias.len() != shapes.out) {
        return Err(Fault::shape(format!("a bias of {}", bias.len()), format!("one of {}", shapes.out)));
    }
    deep.forward(x, w, bias, &mut out);
    let len = out.len();
    made(shape, T::wrap(Buffer::from(out)), len)
}

fn numbers<T: Element>(inputs: &Inputs, at: usize) -> Result<&[T], Fault> {
    inputs.elements::<T>(at, if T::DTYPE == crate::tensor::Dtype::F64 { "double" } else { "float" })
}
