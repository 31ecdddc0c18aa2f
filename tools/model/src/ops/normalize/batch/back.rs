//! Gradients of normalization over a batch.
//!
//! With the statistics of the batch, m elements in each channel, s = 1 / √(variance + epsilon):
//!
//! ```text
//! dx = scale s (dy - Σ dy / m - (x - mean) s² Σ dy (x - mean) / m)
//! dscale = s Σ dy (x - mean)
//! dbias = Σ dy
//! ```
//!
//! With statistics that are given, dx = scale s dy. The running statistics that come out are no way back.

use niwaki_codes::simd::Level;
use rayon::prelude::*;

use super::{BatchNormalization, by_planes};
use crate::fault::{Fault, dims};
use crate::kernels::lanes;
use crate::operator::Context;
use crate::ops::unary::own;
use crate::reverse::{Keeps, Pass, Pullback};
use crate::tensor::{Data, Dtype, Element, Tensor};

impl Pullback for BatchNormalization {
    fn keeps(&self, wanted: &[bool]) -> Keeps {
        let wants = |at: usize| wanted.get(at).copied().unwrap_or(false);
        let trains = self.training.is_some();
        let statistics = match trains {
            true => Keeps::NOTHING.output(3).output(4),
            false => Keeps::NOTHING.input(3).input(4),
        };
        statistics.input(1).input_if(0, wants(1) || wants(4) || (trains && wants(0)))
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let mut gradient = own(pass.take_gradient(0)?, context)?;
        let [_, channels, plane @ ..] = pass.shape(0)? else {
            return Err(Fault::shape(dims(pass.shape(0)?), "at least two dimensions"));
        };
        let (channels, plane) = (*channels, plane.iter().product::<usize>());
        let sums = match gradient.data_mut() {
            Data::F32(g) => self.singles_back(pass, g.to_mut(), channels, plane)?,
            Data::F64(g) => self.doubles_back(pass, g.to_mut(), channels, plane)?,
            _ => return Err(Fault::dtype(0, &gradient, "a float")),
        };
        let dtype = gradient.dtype();
        let vector = |at: usize| {
            let all: Vec<f64> = sums.iter().map(|sums| sums[at]).collect();
            match dtype {
                Dtype::F32 => Tensor::vector(all.into_iter().map(|x| x as f32).collect::<Vec<_>>()),
                _ => Tensor::vector(all),
            }
        };
        let fixed = self.training.is_none();
        Ok(vec![
            pass.wants(0).then_some(gradient),
            pass.wants(1).then(|| vector(0)),
            pass.wants(2).then(|| vector(1)),
            (fixed && pass.wants(3)).then(|| vector(2)),
            (fixed && pass.wants(4)).then(|| vector(3)),
        ])
    }
}

/// What the way back knows of a channel.
#[derive(Clone, Copy)]
struct Channel {
    scale: f64,
    mean: f64,
    /// 1 / √(variance + epsilon).
    over: f64,
}

impl Channel {
    /// What makes the gradient of x of that of y, x, and 1; `None` for x where it is not looked at.
    fn factors(&self, [sum, with_x]: [f64; 2], count: f64, trains: bool) -> [f64; 3] {
        let a = self.scale * self.over;
        if !trains {
            return [a, 0.0, 0.0];
        }
        let b = -a * self.over * self.over * with_x / count;
        [a, b, -a * sum / count - b * self.mean]
    }

    /// The gradients of scale, bias, mean and variance.
    fn parameters(&self, [sum, with_x]: [f64; 2]) -> [f64; 4] {
        let a = self.scale * self.over;
        [self.over * with_x, sum, -a * sum, -0.5 * a * self.over * self.over * with_x]
    }
}

impl BatchNormalization {
    fn channels<T: Element + Into<f64>>(&self, pass: &Pass, channels: usize) -> Result<Vec<Channel>, Fault> {
        let scale = pass.elements::<T>(1)?;
        let (mean, spread) = match self.training {
            Some(_) => (pass.output_elements::<T>(3)?, pass.output_elements::<T>(4)?),
            None => (pass.elements::<T>(3)?, pass.elements::<T>(4)?),
        };
        if [scale, mean, spread].iter().any(|all| all.len() != channels) {
            return Err(Fault::shape("statistics of another size", format!("{channels} channels")));
        }
        let channel = |c: usize| Channel {
            scale: scale[c].into(),
            mean: mean[c].into(),
            over: if self.training.is_some() { spread[c].into() } else { self.over(spread[c].into()) },
        };
        Ok((0..channels).map(channel).collect())
    }

    /// Makes gradients of x of those of y; those of the parameters of each channel.
    fn singles_back(&self, pass: &Pass, g: &mut [f32], channels: usize, plane: usize) -> Result<Vec<[f64; 4]>, Fault> {
        let known = self.channels::<f32>(pass, channels)?;
        let (level, trains, count) = (Level::best(), self.training.is_some(), g.len() / channels.max(1));
        // Where x is not there, nothing is asked for that it takes.
        let looks = trains || pass.wants(1) || pass.wants(4);
        let x = if looks { Some(pass.elements::<f32>(0)?) } else { None };
        let each = |(c, mut planes): (usize, Vec<&mut [f32]>)| {
            let of_x = |nth: usize| x.map(|x| &x[(nth * channels + c) * plane..][..plane]);
            let mut sums = [0f64; 2];
            for (nth, g) in planes.iter().enumerate() {
                let [sum, with_x] = lanes::moments_of(level, g, of_x(nth).unwrap_or(g), known[c].mean as f32);
                sums[0] += sum;
                sums[1] += with_x;
            }
            let factors = known[c].factors(sums, count as f64, trains).map(|x| x as f32);
            for (nth, g) in planes.iter_mut().enumerate().filter(|_| pass.wants(0)) {
                match of_x(nth).filter(|_| trains) {
                    Some(x) => lanes::blend(level, g, x, factors),
                    None => lanes::affine(level, g, factors[0], 0.0),
                }
            }
            known[c].parameters(sums)
        };
        Ok(by_planes(g, channels, plane).into_par_iter().enumerate().map(each).collect())
    }

    fn doubles_back(&self, pass: &Pass, g: &mut [f64], channels: usize, plane: usize) -> Result<Vec<[f64; 4]>, Fault> {
        let known = self.channels::<f64>(pass, channels)?;
        let (trains, count) = (self.training.is_some(), (g.len() / channels.max(1)) as f64);
        let looks = trains || pass.wants(1) || pass.wants(4);
        let none = vec![0.0; if looks { 0 } else { g.len() }];
        let x = if looks { pass.elements::<f64>(0)? } else { &none };
        let channel = |at: usize| at / plane.max(1) % channels.max(1);
        let mut sums = vec![[0f64; 2]; channels];
        for (at, (g, x)) in g.iter().zip(x).enumerate() {
            let sums = &mut sums[channel(at)];
            sums[0] += g;
            sums[1] += g * (x - known[channel(at)].mean);
        }
        let factors: Vec<_> = known.iter().zip(&sums).map(|(c, sums)| c.factors(*sums, count, trains)).collect();
        for (at, (g, x)) in g.iter_mut().zip(x).enumerate() {
            let [a, b, c] = factors[channel(at)];
            *g = *g * a + (x * b + c);
        }
        Ok(known.iter().zip(sums).map(|(c, sums)| c.parameters(sums)).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::reverse::check::{gradients, gradients_of_first, numbers, random};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for shape in [&[3, 2, 4, 5][..], &[4, 3], &[2, 1, 17], &[2, 3, 1, 2, 3]] {
            let of_channels = |seed| random(&shape[1..2], seed);
            let variance = numbers(shape[1], 5).into_iter().map(|x| 1.0 + x / 2.0).collect();
            let inputs =
                [random(shape, 1), of_channels(2), of_channels(3), of_channels(4), Tensor::of([shape[1]], variance)];
            let given = BatchNormalization { epsilon: 1e-3, training: None };
            gradients(&given, &inputs, &[0, 1, 2, 3, 4]);
            gradients(&given, &inputs, &[0, 2]);
            let trains = BatchNormalization { epsilon: 1e-3, training: Some(0.9) };
            gradients_of_first(&trains, &inputs, &[0, 1, 2]);
            gradients_of_first(&trains, &inputs, &[0]);
        }
    }
}
