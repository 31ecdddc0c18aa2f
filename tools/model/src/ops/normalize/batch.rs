//! Normalization by channel over a batch (ONNX `BatchNormalization`).

mod back;

use niwaki_codes::simd::Level;
use rayon::prelude::*;

use super::channels::{by_channel, factors, planes};
use crate::fault::Fault;
use crate::kernels::{lanes, parts};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::halves::Half;
use crate::ops::unary::own;
use crate::reverse::Reverse;
use crate::tensor::{Data, Dtype, Tensor};

/// (x - mean) / √(variance + epsilon), scaled and moved, by channel: inputs are x `[N, C, ..]`, and of `[C]`
/// scale, bias, mean and variance.
///
/// Where it trains, its outputs after the first are the running mean and variance, as ONNX has them, and,
/// for the way back, mean and 1 / √(variance + epsilon) of the batch. The running variance takes that of
/// the batch as it is, divided by the number of elements (PyTorch: one less).
#[derive(Clone, Copy, Debug)]
pub struct BatchNormalization {
    /// Added to variances.
    pub epsilon: f32,
    /// Where means and variances are those of the batch, not those given: how much of the given
    /// ones stays.
    pub training: Option<f32>,
}

/// Makes each x a x + b, with a and b of its channel.
fn affine(x: &mut [f32], plane: usize, a: &[f32], b: &[f32]) {
    let level = Level::best();
    let channels = a.len();
    if plane == 1 {
        parts::each(x, channels, |_, x| {
            x.chunks_mut(channels.max(1)).for_each(|x| lanes::affine_each(level, x, a, b));
        });
        return;
    }
    parts::each(x, plane, |start, x| {
        for (at, x) in x.chunks_mut(plane.max(1)).enumerate() {
            let channel = (start / plane + at) % channels;
            lanes::affine(level, x, a[channel], b[channel]);
        }
    });
}

/// The planes of each channel.
fn by_planes(x: &mut [f32], channels: usize, plane: usize) -> Vec<Vec<&mut [f32]>> {
    let mut all: Vec<Vec<&mut [f32]>> = (0..channels).map(|_| Vec::new()).collect();
    for (at, x) in x.chunks_exact_mut(plane.max(1)).enumerate() {
        all[at % channels].push(x);
    }
    all
}

impl BatchNormalization {
    fn over(&self, variance: f64) -> f64 {
        1.0 / (variance + f64::from(self.epsilon)).sqrt()
    }

    /// What each x of a channel is multiplied with, and what is then added, where statistics are fixed: of scale, bias, mean and
    /// variance, which are as many.
    pub(crate) fn fixed(&self, [scale, bias, mean, variance]: [&[f32]; 4]) -> (Vec<f32>, Vec<f32>) {
        let over = |c: usize| 1.0 / (variance[c] + self.epsilon).sqrt();
        (0..scale.len()).map(|c| factors([mean[c], over(c)], scale[c], bias[c])).map(|[a, b]| (a, b)).unzip()
    }

    /// Normalizes by the batch, all planes of a channel together, while they are in cache; mean, variance,
    /// and 1 / √(variance + epsilon) of each channel.
    fn train(&self, x: &mut [f32], plane: usize, scale: &[f32], bias: &[f32]) -> [Vec<f32>; 3] {
        let (level, channels) = (Level::best(), scale.len());
        let count = (x.len() / channels.max(1)).max(1) as f64;
        let each = |(channel, mut planes): (usize, Vec<&mut [f32]>)| {
            let sum: f64 = planes.iter().map(|x| f64::from(lanes::sum(level, x))).sum();
            let mean = (sum / count) as f32;
            let sum: f64 = planes.iter().map(|x| f64::from(lanes::deviations(level, x, mean))).sum();
            let (variance, over) = ((sum / count) as f32, self.over(sum / count) as f32);
            let [a, b] = factors([mean, over], scale[channel], bias[channel]);
            planes.iter_mut().for_each(|x| lanes::affine(level, x, a, b));
            [mean, variance, over]
        };
        let found: Vec<[f32; 3]> = by_planes(x, channels, plane).into_par_iter().enumerate().map(each).collect();
        [0, 1, 2].map(|at| found.iter().map(|each| each[at]).collect())
    }

    /// The same in doubles, with the statistics that are given where it does not train.
    fn doubles(&self, mut y: Tensor, inputs: &Inputs) -> Result<Vec<Tensor>, Fault> {
        let [channels, plane] = planes(&y)?;
        let numbers = |at: usize| {
            let all = inputs.elements::<f64>(at, "double")?;
            let wrong = || Fault::shape(format!("input {at} of {}", all.len()), format!("{channels} channels"));
            if all.len() == channels { Ok(all) } else { Err(wrong()) }
        };
        let (scale, bias, mean, variance) = (numbers(1)?, numbers(2)?, numbers(3)?, numbers(4)?);
        let (mut means, mut variances) = (mean.to_vec(), variance.to_vec());
        let Data::F64(x) = y.data_mut() else { return Err(Fault::dtype(0, &y, "double")) };
        let x = x.to_mut();
        let channel = |at: usize| at / plane.max(1) % channels.max(1);
        if self.training.is_some() {
            let count = (x.len() / channels.max(1)).max(1) as f64;
            (means, variances) = (vec![0.0; channels], vec![0.0; channels]);
            x.iter().enumerate().for_each(|(at, x)| means[channel(at)] += x / count);
            x.iter().enumerate().for_each(|(at, x)| variances[channel(at)] += (x - means[channel(at)]).powi(2) / count);
        }
        let over: Vec<f64> = variances.iter().map(|variance| self.over(*variance)).collect();
        for (at, x) in x.iter_mut().enumerate() {
            let c = channel(at);
            *x = (*x - means[c]) * over[c] * scale[c] + bias[c];
        }
        let mut outputs = vec![y];
        if let Some(momentum) = self.training {
            let (stays, comes) = (f64::from(momentum), 1.0 - f64::from(momentum));
            for (old, new) in [(mean, &means), (variance, &variances)] {
                outputs.push(Tensor::vector(old.iter().zip(new).map(|(old, new)| old * stays + new * comes).collect()));
            }
            outputs.extend([Tensor::vector(means), Tensor::vector(over)]);
        }
        Ok(outputs)
    }
}

impl Operator for BatchNormalization {
    fn name(&self) -> &'static str {
        "BatchNormalization"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        if let Some(half) = Half::among(inputs) {
            return half.run(inputs, 3, |inputs| self.run(inputs, context));
        }
        let mut y = own(inputs.take(0)?, context)?;
        if y.dtype() == Dtype::F64 {
            return self.doubles(y, inputs);
        }
        let [channels, plane] = planes(&y)?;
        let all = [1, 2, 3, 4].map(|at| by_channel(inputs, at, channels));
        let [scale, bias, mean, variance] = all;
        let (scale, bias, mean, variance) = (scale?, bias?, mean?, variance?);
        let Data::F32(x) = y.data_mut() else { return Err(Fault::dtype(0, &y, "float")) };
        let x = x.to_mut();
        let Some(momentum) = self.training else {
            let (a, b) = self.fixed([scale, bias, mean, variance]);
            affine(x, plane, &a, &b);
            return Ok(vec![y]);
        };
        let [means, variances, over] = self.train(x, plane, scale, bias);
        let mut outputs = vec![y];
        for (old, new) in [(mean, &means), (variance, &variances)] {
            let running = old.iter().zip(new).map(|(old, new)| old * momentum + new * (1.0 - momentum));
            outputs.push(Tensor::vector(running.collect::<Vec<f32>>()));
        }
        outputs.extend([means, over].map(|all| Tensor::of([channels], all)).into_iter().flatten());
        Ok(outputs)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}
