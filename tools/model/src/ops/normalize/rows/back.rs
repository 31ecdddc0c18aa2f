//! Gradients of normalized rows. With s = 1 / deviation, n = (x - mean) s, g = scale dy, means over a row:
//!
//! ```text
//! dx = s (g - mean g - n mean (g n))        without the first mean where nothing is centred
//! dscale = Σ dy n
//! dbias = Σ dy
//! ```

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;
use rayon::prelude::*;

use super::{RowNormalization, Rows, moments};
use crate::fault::{Fault, dims};
use crate::kernels::parts;
use crate::operator::Context;
use crate::ops::shape::axis;
use crate::ops::unary::own;
use crate::real::Real;
use crate::reverse::{Keeps, Pass, Pullback};
use crate::tensor::{Data, Tensor};

/// What one row gives to the gradients of scale and bias.
type Sums<T> = [Vec<T>; 2];

stamp! {
    /// Makes g the gradient of a row x, and adds to those of scale and bias.
    fn row = row_body(g: &mut [f32], x: &[f32], scale: &[f32], statistics: [f32; 2], centred: bool, sums: [&mut [f32]; 2]) -> ();
}
#[inline(always)]
fn row_body(
    g: &mut [f32],
    x: &[f32],
    scale: &[f32],
    [mean, s]: [f32; 2],
    centred: bool,
    [of_scale, of_bias]: [&mut [f32]; 2],
) {
    const LANES: usize = 16;
    let mut lanes = [[0f32; LANES]; 2];
    for (((g, x), scale), (of_scale, of_bias)) in g
        .chunks_mut(LANES)
        .zip(x.chunks(LANES))
        .zip(scale.chunks(LANES))
        .zip(of_scale.chunks_mut(LANES).zip(of_bias.chunks_mut(LANES)))
    {
        for k in 0..g.len() {
            let n = (x[k] - mean) * s;
            of_scale[k] += g[k] * n;
            of_bias[k] += g[k];
            g[k] *= scale[k];
            lanes[0][k] += g[k];
            lanes[1][k] += g[k] * n;
        }
    }
    let count = x.len() as f32;
    let mut means = [0f32; 2];
    for (mean, lanes) in means.iter_mut().zip(lanes) {
        let mut sum = 0f64;
        for x in lanes {
            sum += f64::from(x);
        }
        *mean = sum as f32 / count;
    }
    let first = if centred { means[0] } else { 0.0 };
    for (g, x) in g.iter_mut().zip(x) {
        *g = s * (*g - first - (*x - mean) * s * means[1]);
    }
}

fn row_of_doubles(
    g: &mut [f64],
    x: &[f64],
    scale: &[f64],
    [mean, s]: [f64; 2],
    centred: bool,
    [of_scale, of_bias]: [&mut [f64]; 2],
) {
    let count = x.len() as f64;
    let mut means = [0f64; 2];
    for k in 0..g.len() {
        let n = (x[k] - mean) * s;
        of_scale[k] += g[k] * n;
        of_bias[k] += g[k];
        g[k] *= scale[k];
        means[0] += g[k] / count;
        means[1] += g[k] * n / count;
    }
    let first = if centred { means[0] } else { 0.0 };
    for (g, x) in g.iter_mut().zip(x) {
        *g = s * (*g - first - (x - mean) * s * means[1]);
    }
}

impl RowNormalization {
    /// Whether the way back is done: not for those that add first.
    pub(super) fn flows(&self) -> bool {
        matches!(self.rows, Rows::Layer | Rows::Rms)
    }

    fn back<T: Real>(
        &self,
        pass: &Pass,
        g: &mut [T],
        row: impl Fn(&mut [T], &[T], &[T], [&mut [T]; 2]) + Sync,
    ) -> Result<Vec<Option<Tensor>>, Fault> {
        let shape = pass.shape(0)?;
        let at = axis(self.axis, shape.len())?;
        let long: usize = shape[at..].iter().product();
        let scale = pass.elements::<T>(1)?;
        let fits = |shape_of: &[usize]| shape_of.iter().product::<usize>() == long && shape.ends_with(shape_of);
        if !fits(pass.shape(1)?) || (pass.has(2) && !fits(pass.shape(2)?)) {
            return Err(Fault::Unsupported(format!("the gradient of a scale of {}", dims(pass.shape(1)?))));
        }
        let x = pass.elements::<T>(0)?;
        let some = (parts::PART / long.max(1)).max(1) * long.max(1);
        // Each part has sums of its own, which are added in order.
        let part = |(g, x): (&mut [T], &[T])| -> Sums<T> {
            let mut sums = [vec![T::ZERO; long], vec![T::ZERO; long]];
            for (g, x) in g.chunks_exact_mut(long.max(1)).zip(x.chunks_exact(long.max(1))) {
                let [of_scale, of_bias] = &mut sums;
                row(g, x, scale, [of_scale, of_bias]);
            }
            sums
        };
        let all: Vec<Sums<T>> = g.par_chunks_mut(some).zip(x.par_chunks(some)).map(part).collect();
        let sum = |of: usize| {
            let mut sums = vec![0f64; long];
            for part in &all {
                sums.iter_mut().zip(&part[of]).for_each(|(sum, x)| *sum += x.wide());
            }
            let sums: Vec<T> = sums.into_iter().map(T::near).collect();
            pass.of_input(of + 1, sums)
        };
        let mut found = vec![None; 3];
        for of in 0..2 {
            if pass.wants(of + 1) {
                found[of + 1] = Some(sum(of)?);
            }
        }
        Ok(found)
    }
}

impl Pullback for RowNormalization {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING.input(0).input(1)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let mut gradient = own(pass.take_gradient(0)?, context)?;
        let (centred, epsilon, level) = (self.rows == Rows::Layer, self.epsilon, Level::best());
        let mut found = match gradient.data_mut() {
            Data::F32(g) => self.back::<f32>(pass, g.to_mut(), |g, x, scale, sums| {
                row(level, g, x, scale, moments(level, x, centred, epsilon), centred, sums);
            })?,
            Data::F64(g) => self.back::<f64>(pass, g.to_mut(), |g, x, scale, sums| {
                row_of_doubles(g, x, scale, super::moments_of_doubles(x, centred, epsilon), centred, sums);
            })?,
            _ => return Err(Fault::dtype(0, &gradient, "a float")),
        };
        found[0] = Some(gradient);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reverse::check::{gradients_of_first, random};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for (axis, of) in [(-1, &[19][..]), (1, &[3, 19]), (2, &[19])] {
            let inputs = [random(&[2, 3, 19], 1), random(of, 2), random(of, 3)];
            gradients_of_first(&RowNormalization { rows: Rows::Layer, axis, epsilon: 1e-3 }, &inputs, &[0, 1, 2]);
            gradients_of_first(&RowNormalization { rows: Rows::Layer, axis, epsilon: 1e-3 }, &inputs[..2], &[0]);
            gradients_of_first(&RowNormalization { rows: Rows::Rms, axis, epsilon: 1e-3 }, &inputs[..2], &[0, 1]);
        }
    }
}
