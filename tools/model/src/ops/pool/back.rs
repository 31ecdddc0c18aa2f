//! Gradients of pooling.

use rayon::prelude::*;

use super::{AveragePool, GlobalPool, MaxPool, Planes, row_under, step};
use crate::fault::{Fault, dims};
use crate::operator::Context;
use crate::ops::window::Window;
use crate::real::{Real, in_reals};
use crate::reverse::{Keeps, Pass, Pullback};
use crate::tensor::Tensor;

/// The planes of the input of a pass, and those of its output.
fn planes(pass: &Pass, window: &Window) -> Result<Planes, Fault> {
    let planes = Planes::of(pass.shape(0)?, window)?;
    super::refuse_deep(&planes)?;
    Ok(planes)
}

/// Calls `each` for every place of every window of a row of results that has inputs under it: the first
/// result, where its input is, how far those of the next results are, and how many there are.
fn taps(planes: &Planes, row: &[usize; 8], mut each: impl FnMut(usize, usize, usize, usize)) {
    let Some((last, outer)) = planes.spans.split_last() else { return };
    let mut tap = [0usize; 8];
    loop {
        if let Some(under) = row_under(outer, row, &tap) {
            for tap in 0..last.kernel {
                let (from, to) = last.results(tap);
                if from < to {
                    let first = under * last.input + from * last.stride + tap * last.dilation - last.before;
                    each(from, first, last.stride, to - from);
                }
            }
        }
        if !step(outer.iter().map(|span| span.kernel), &mut tap) {
            return;
        }
    }
}

/// Calls `row` for every row of results of a plane: its number, and its place along the other dimensions.
fn rows(planes: &Planes, mut row: impl FnMut(usize, &[usize; 8])) {
    let Some((last, outer)) = planes.spans.split_last() else { return };
    let mut at = [0usize; 8];
    for nth in 0..planes.output / last.output.max(1) {
        row(nth, &at);
        step(outer.iter().map(|span| span.output), &mut at);
    }
}

impl MaxPool {
    /// The gradient goes to the first of the largest elements under each window.
    fn back<T: Real>(&self, pass: &Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let planes = planes(pass, &self.window)?;
        let (x, g) = (pass.elements::<T>(0)?, pass.gradient_elements::<T>(0)?);
        let mut out = T::buffer(context, pass.shape(0)?)?;
        let width = planes.spans.last().map_or(0, |span| span.output);
        if planes.input > 0 && planes.output > 0 {
            let all = out.par_chunks_exact_mut(planes.input).zip(x.par_chunks_exact(planes.input));
            all.zip(g.par_chunks_exact(planes.output)).for_each(|((out, x), g)| {
                out.fill(T::ZERO);
                let (mut best, mut places) = (vec![T::LOWEST; width], vec![usize::MAX; width]);
                rows(&planes, |nth, row| {
                    best.fill(T::LOWEST);
                    places.fill(usize::MAX);
                    taps(&planes, row, |from, first, stride, count| {
                        let both = best[from..from + count].iter_mut().zip(&mut places[from..from + count]);
                        for (k, (best, place)) in both.enumerate() {
                            let at = first + k * stride;
                            if x[at] > *best || *place == usize::MAX {
                                (*best, *place) = (x[at], at);
                            }
                        }
                    });
                    for (g, place) in g[nth * width..][..width].iter().zip(&places) {
                        if let Some(out) = out.get_mut(*place) {
                            *out += *g;
                        }
                    }
                });
            });
        }
        Ok(vec![Some(pass.of_input(0, out)?)])
    }
}

impl Pullback for MaxPool {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING.input(0)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        in_reals!(pass.dtype(0)?, T => self.back::<T>(pass, context))
    }
}

impl AveragePool {
    fn back<T: Real>(&self, pass: &Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let planes = planes(pass, &self.window)?;
        let g = pass.gradient_elements::<T>(0)?;
        let mut out = T::buffer(context, pass.shape(0)?)?;
        let shares = self.shares::<T>(&planes);
        let width = planes.spans.last().map_or(0, |span| span.output);
        if planes.input > 0 && planes.output > 0 {
            let all = out.par_chunks_exact_mut(planes.input).zip(g.par_chunks_exact(planes.output));
            all.for_each(|(out, g)| {
                out.fill(T::ZERO);
                rows(&planes, |nth, row| {
                    let (g, shares) = (&g[nth * width..][..width], &shares[nth * width..][..width]);
                    taps(&planes, row, |from, first, stride, count| {
                        for k in 0..count {
                            out[first + k * stride] += g[from + k] / shares[from + k];
                        }
                    });
                });
            });
        }
        Ok(vec![Some(pass.of_input(0, out)?)])
    }
}

impl Pullback for AveragePool {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        in_reals!(pass.dtype(0)?, T => self.back::<T>(pass, context))
    }
}

impl GlobalPool {
    fn back<T: Real>(self, pass: &Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let [_, _, image @ ..] = pass.shape(0)? else {
            return Err(Fault::shape(dims(pass.shape(0)?), "batch, channels and an image"));
        };
        let size = image.iter().product::<usize>().max(1);
        let g = pass.gradient_elements::<T>(0)?;
        let x = if self == Self::Average { None } else { Some(pass.elements::<T>(0)?) };
        let mut out = T::buffer(context, pass.shape(0)?)?;
        out.par_chunks_mut(size).enumerate().for_each(|(at, out)| match x.map(|x| &x[at * size..][..size]) {
            None => out.fill(g[at] / T::near(size as f64)),
            Some(x) => {
                out.fill(T::ZERO);
                // The first of the largest.
                let largest = (1..size).fold(0, |best, at| if x[at] > x[best] { at } else { best });
                out[largest] = g[at];
            }
        });
        Ok(vec![Some(pass.of_input(0, out)?)])
    }
}

impl Pullback for GlobalPool {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING.input_if(0, *self != Self::Average)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        in_reals!(pass.dtype(0)?, T => self.back::<T>(pass, context))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use crate::attributes::Attribute;
    use crate::ops::trial::definition;
    use crate::reverse::check::{gradients, random};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let ints = |all: &[i64]| Attribute::Ints(all.to_vec());
        for op in ["MaxPool", "AveragePool"] {
            for (shape, kernel, strides, pads) in [
                (&[2, 3, 6, 6][..], &[2i64, 2][..], &[2i64, 2][..], &[0i64, 0, 0, 0][..]),
                (&[1, 2, 7, 8], &[3, 3], &[2, 2], &[1, 1, 1, 1]),
                (&[1, 2, 5, 5], &[3, 2], &[1, 1], &[1, 0, 0, 1]),
                (&[2, 2, 9], &[3], &[2], &[1, 1]),
                (&[1, 1, 4, 4, 5], &[2, 2, 3], &[2, 1, 2], &[0, 0, 1, 0, 1, 1]),
            ] {
                for more in [&[][..], &[("ceil_mode", Attribute::Int(1))], &[("count_include_pad", Attribute::Int(1))]]
                {
                    let mut all =
                        vec![("kernel_shape", ints(kernel)), ("strides", ints(strides)), ("pads", ints(pads))];
                    all.extend(more.iter().cloned());
                    let op = crate::ops::build(&definition(op, &all)).unwrap().unwrap();
                    gradients(&*op, &[random(shape, 1)], &[0]);
                }
            }
        }
        for op in ["GlobalAveragePool", "GlobalMaxPool"] {
            let op = crate::ops::build(&definition(op, &[])).unwrap().unwrap();
            gradients(&*op, &[random(&[2, 3, 4, 5], 1)], &[0]);
            gradients(&*op, &[random(&[2, 3, 7], 2)], &[0]);
        }
    }
}
