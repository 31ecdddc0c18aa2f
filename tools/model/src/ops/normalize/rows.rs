//! Normalization of rows: all that is behind an axis.

mod back;

use niwaki_codes::simd::Level;
use rayon::prelude::*;

use crate::attributes::Definition;
use crate::fault::Fault;
use crate::kernels::{lanes, parts};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::binary::{Operation, combine, made};
use crate::ops::halves::Half;
use crate::ops::shape::axis;
use crate::ops::unary::own;
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::{Buffer, Data, Tensor};

/// What is normalized, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// LayerNormalization: (x - mean) / deviation, scaled and moved; then the means, and 1 / deviation.
    Layer,
    /// RMSNormalization, and SimplifiedLayerNormalization: x / √ mean x², scaled.
    Rms,
    /// SkipLayerNormalization: that of the sum of two; the sum is the fourth output.
    SkipLayer,
    /// SkipSimplifiedLayerNormalization: likewise.
    SkipRms,
}

/// Normalization of rows.
#[derive(Clone, Copy, Debug)]
pub struct RowNormalization {
    /// What is normalized, and how.
    pub rows: Rows,
    /// The axis at which rows begin.
    pub axis: i64,
    /// Added to variances.
    pub epsilon: f32,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    let (rows, epsilon) = match definition.op.as_str() {
        "LayerNormalization" => (Rows::Layer, 1e-5),
        "RMSNormalization" | "SimplifiedLayerNormalization" => (Rows::Rms, 1e-5),
        "SkipLayerNormalization" => (Rows::SkipLayer, 1e-12),
        "SkipSimplifiedLayerNormalization" => (Rows::SkipRms, 1e-12),
        _ => return Ok(None),
    };
    let epsilon = definition.float("epsilon")?.unwrap_or(epsilon);
    some(RowNormalization { rows, axis: definition.int("axis")?.unwrap_or(-1), epsilon })
}

impl Operator for RowNormalization {
    fn name(&self) -> &'static str {
        match self.rows {
            Rows::Layer => "LayerNormalization",
            Rows::Rms => "RMSNormalization",
            Rows::SkipLayer => "SkipLayerNormalization",
            Rows::SkipRms => "SkipSimplifiedLayerNormalization",
        }
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        if let Some(half) = Half::among(inputs) {
            let mut outputs = half.run(inputs, 1, |inputs| self.run(inputs, context))?;
            // Statistics stay single floats; the sum is of the inputs' type.
            if let Some(sum) = outputs.get_mut(3)
                && let Data::F32(x) = sum.data()
            {
                *sum.data_mut() = half.round(x.as_slice());
            }
            return Ok(outputs);
        }
        match self.rows {
            Rows::Layer | Rows::Rms => {
                let (x, bias) = (inputs.take(0)?, (self.rows == Rows::Layer).then_some(2));
                let (y, [means, scales]) = self.normalized(x, inputs, 1, bias, context)?;
                // The simplified kind has no means.
                Ok(if self.rows == Rows::Layer { vec![y, means, scales] } else { vec![y, scales] })
            }
            Rows::SkipLayer | Rows::SkipRms => {
                let layer = self.rows == Rows::SkipLayer;
                let mut sum = combine(Operation::Add, inputs.take(0)?, inputs.take(1)?, context)?;
                let moved = if layer { 4 } else { 3 };
                if inputs.optional(moved).is_some() {
                    sum = combine(Operation::Add, sum, inputs.take(moved)?, context)?;
                }
                let bias = layer.then_some(3);
                let (y, [means, scales]) = self.normalized(sum.clone(), inputs, 2, bias, context)?;
                Ok(vec![y, means, scales, sum])
            }
        }
    }

    fn reverse(&self) -> Reverse<'_> {
        if self.flows() { Reverse::Flows(self) } else { Reverse::Missing }
    }
}

impl RowNormalization {
    /// The normalized tensor, and each row's mean and 1 / deviation. `scale` and `bias` say which
    /// inputs are those.
    fn normalized(
        &self,
        x: Tensor,
        inputs: &mut Inputs,
        scale: usize,
        bias: Option<usize>,
        context: &Context<'_>,
    ) -> Result<(Tensor, [Tensor; 2]), Fault> {
        let at = axis(self.axis, x.rank())?;
        let mut y = own(x, context)?;
        let shape = y.shape().to_vec();
        let long: usize = shape[at..].iter().product();
        let count: usize = shape[..at].iter().product();
        let scale = inputs.take(scale)?;
        let bias = bias.and_then(|at| inputs.take(at).ok());
        let fits = |tensor: &Tensor| tensor.len() == long && shape.ends_with(tensor.shape());
        let at_once = fits(&scale) && bias.as_ref().is_none_or(fits);
        if let Data::F64(x) = y.data_mut() {
            return self.doubles(x.to_mut(), &shape[at..], &scale, bias.as_ref()).map(|[means, scales]| {
                let of_rows: Vec<usize> = (0..shape.len()).map(|k| if k < at { shape[k] } else { 1 }).collect();
                let one = |all: Vec<f64>| made(of_rows.clone(), Data::F64(Buffer::from(all)));
                Ok((y, [one(means)?, one(scales)?]))
            })?;
        }
        let factors = match (scale.get::<f32>(), bias.as_ref().map(Tensor::get::<f32>)) {
            _ if !at_once => None,
            (Some(scale), None) => Some((scale, None)),
            (Some(scale), Some(Some(bias))) => Some((scale, Some(bias))),
            _ => return Err(Fault::dtype(1, &scale, "float, as all others")),
        };
        let centred = matches!(self.rows, Rows::Layer | Rows::SkipLayer);
        let how = How { centred, epsilon: self.epsilon, factors };
        let statistics = match y.data_mut() {
            Data::F32(x) => how.rows(x.to_mut(), count, long),
            _ => return Err(Fault::dtype(0, &y, "float")),
        };
        if !at_once {
            y = combine(Operation::Mul, y, scale, context)?;
            if let Some(bias) = bias {
                y = combine(Operation::Add, y, bias, context)?;
            }
        }
        let of_rows: Vec<usize> = (0..shape.len()).map(|k| if k < at { shape[k] } else { 1 }).collect();
        let one = |k: usize| {
            made(of_rows.clone(), Data::F32(Buffer::from(statistics.iter().map(|s| s[k]).collect::<Vec<_>>())))
        };
        Ok((y, [one(0)?, one(1)?]))
    }
}

impl RowNormalization {
    /// Rows of doubles; each one's mean and 1 / deviation.
    fn doubles(
        &self,
        x: &mut [f64],
        row: &[usize],
        scale: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<[Vec<f64>; 2], Fault> {
        let long = row.iter().product::<usize>().max(1);
        let numbers = |tensor: &Tensor| match tensor.get::<f64>() {
            Some(all) if all.len() == long && row.ends_with(tensor.shape()) => Ok(all.to_vec()),
            _ => Err(Fault::shape(format!("a factor of {}", crate::fault::dims(tensor.shape())), "doubles for a row")),
        };
        let (scale, bias) = (numbers(scale)?, bias.map(numbers).transpose()?);
        let mut statistics = [Vec::new(), Vec::new()];
        for x in x.chunks_exact_mut(long) {
            let [mean, over] = moments_of_doubles(x, matches!(self.rows, Rows::Layer | Rows::SkipLayer), self.epsilon);
            for (k, x) in x.iter_mut().enumerate() {
                *x = (*x - mean) * over * scale[k] + bias.as_ref().map_or(0.0, |bias| bias[k]);
            }
            statistics[0].push(mean);
            statistics[1].push(over);
        }
        Ok(statistics)
    }
}

/// [`moments`] of doubles.
fn moments_of_doubles(x: &[f64], centred: bool, epsilon: f32) -> [f64; 2] {
    let count = x.len() as f64;
    let mean = if centred { x.iter().sum::<f64>() / count } else { 0.0 };
    let square = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
    [mean, 1.0 / (square + f64::from(epsilon)).sqrt()]
}

/// How rows are normalized.
struct How<'n> {
    centred: bool,
    epsilon: f32,
    /// What each place of a row is multiplied by, and what is added to it.
    factors: Option<(&'n [f32], Option<&'n [f32]>)>,
}

impl How<'_> {
    /// Each row's mean and 1 / deviation.
    fn rows(&self, x: &mut [f32], count: usize, long: usize) -> Vec<[f32; 2]> {
        let mut statistics = vec![[0.0, 1.0 / self.epsilon.sqrt()]; count];
        if long == 0 {
            return statistics;
        }
        let level = Level::best();
        let rows = (parts::PART / long).max(1);
        x.par_chunks_mut(rows * long).zip(statistics.par_chunks_mut(rows)).for_each(|(x, statistics)| {
            for (x, statistics) in x.chunks_exact_mut(long).zip(statistics) {
                *statistics = moments(level, x, self.centred, self.epsilon);
                let [mean, scale] = *statistics;
                match self.factors {
                    None => lanes::standardize(level, x, mean, scale),
                    Some((factors, None)) => lanes::standardize_by(level, x, [mean, scale], factors),
                    Some((factors, Some(bias))) => lanes::standardize_and_move(level, x, [mean, scale], factors, bias),
                }
            }
        });
        statistics
    }
}

/// The mean of numbers, where it is asked for, else 0; and 1 / √(mean square around it + epsilon).
pub(super) fn moments(level: Level, x: &[f32], centred: bool, epsilon: f32) -> [f32; 2] {
    let count = x.len() as f32;
    let (mean, square) = match centred {
        true => {
            let mean = lanes::sum(level, x) / count;
            (mean, lanes::deviations(level, x, mean) / count)
        }
        false => (0.0, lanes::squares(level, x) / count),
    };
    [mean, 1.0 / (square + epsilon).sqrt()]
}
