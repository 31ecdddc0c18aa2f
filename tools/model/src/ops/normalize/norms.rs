//! Normalization by what is near, by norms, and by moments along axes.

use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::kernels::parts;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::binary::{Operation, combine};
use crate::ops::halves::Half;
use crate::ops::reduce::{Reduce, Reduction};
use crate::ops::{Built, some};
use crate::tensor::{Buffer, Data, Tensor};

/// x / (bias + alpha / size Σ x²)^beta, where the sum is over the `size` channels around.
#[derive(Clone, Copy, Debug)]
pub struct Lrn {
    /// The factor of the sum.
    pub alpha: f32,
    /// The exponent.
    pub beta: f32,
    /// What is added to the sum.
    pub bias: f32,
    /// How many channels are summed.
    pub size: usize,
}

/// x divided by the norm of the numbers along an axis; 0 where that is 0.
#[derive(Clone, Debug)]
pub struct LpNormalization {
    norm: Reduce,
}

/// (x - mean) / deviation, along axes.
#[derive(Clone, Debug)]
pub struct MeanVariance {
    mean: Reduce,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    let along = |reduction, axes: Vec<i64>| Reduce { reduction, axes: Some(axes), keep: true, none_is_none: false };
    match definition.op.as_str() {
        "LRN" => {
            let size = definition.int("size")?.unwrap_or(0);
            let size = usize::try_from(size).ok().filter(|size| *size > 0);
            let of = |name: &str, default: f32| Ok(definition.float(name)?.unwrap_or(default));
            some(Lrn {
                alpha: of("alpha", 1e-4)?,
                beta: of("beta", 0.75)?,
                bias: of("bias", 1.0)?,
                size: size.ok_or_else(|| Fault::shape("no positive `size`", "one"))?,
            })
        }
        "LpNormalization" => {
            let reduction = match definition.int("p")?.unwrap_or(2) {
                1 => Reduction::L1,
                2 => Reduction::L2,
                other => return Err(Fault::shape(format!("`p` of {other}"), "1 or 2")),
            };
            some(LpNormalization { norm: along(reduction, vec![definition.int("axis")?.unwrap_or(-1)]) })
        }
        "MeanVarianceNormalization" => {
            let axes = definition.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
            some(MeanVariance { mean: along(Reduction::Mean, axes) })
        }
        _ => Ok(None),
    }
}

impl Operator for Lrn {
    fn name(&self) -> &'static str {
        "LRN"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        if let Some(half) = Half::among(inputs) {
            return half.run(inputs, 1, |inputs| self.run(inputs, context));
        }
        let x = inputs.get(0)?;
        let [_, channels, plane @ ..] = x.shape() else {
            return Err(Fault::shape(dims(x.shape()), "at least two dimensions"));
        };
        let (channels, plane) = (*channels, plane.iter().product::<usize>());
        let numbers = inputs.elements::<f32>(0, "float")?;
        let mut y = context.buffer(x.shape())?;
        let (below, above) = ((self.size - 1) / 2, self.size / 2);
        parts::of(&mut y, plane, |start, y| {
            let channel = start / plane % channels;
            let image = &numbers[start - channel * plane..][..channels * plane];
            y.fill(0.0);
            for near in channel.saturating_sub(below)..=channel.saturating_add(above).min(channels - 1) {
                y.iter_mut().zip(&image[near * plane..]).for_each(|(y, x)| *y += x * x);
            }
            let factor = self.alpha / self.size as f32;
            let own = &image[channel * plane..];
            y.iter_mut().zip(own).for_each(|(y, x)| *y = x / (self.bias + factor * *y).powf(self.beta));
        });
        Ok(vec![crate::ops::binary::made(x.shape().to_vec(), Data::F32(Buffer::from(y)))?])
    }
}

/// Runs a reduction on one tensor.
fn reduced(reduce: &Reduce, x: &Tensor, context: &Context<'_>) -> Result<Tensor, Fault> {
    let mut outputs = reduce.run(&mut Inputs::new(vec![Some(x.clone())]), context)?;
    outputs.pop().ok_or(Fault::Missing { input: 0 })
}

/// Changes each float of a small tensor.
fn changed(mut tensor: Tensor, of: impl Fn(f64) -> f64) -> Result<Tensor, Fault> {
    match tensor.data_mut() {
        Data::F32(x) => x.to_mut().iter_mut().for_each(|x| *x = of(f64::from(*x)) as f32),
        Data::F64(x) => x.to_mut().iter_mut().for_each(|x| *x = of(*x)),
        _ => return Err(Fault::dtype(0, &tensor, "a float")),
    }
    Ok(tensor)
}

impl Operator for LpNormalization {
    fn name(&self) -> &'static str {
        "LpNormalization"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        if let Some(half) = Half::among(inputs) {
            return half.run(inputs, 1, |inputs| self.run(inputs, context));
        }
        let x = inputs.take(0)?;
        let norm = changed(reduced(&self.norm, &x, context)?, |x| if x == 0.0 { f64::INFINITY } else { x })?;
        combine(Operation::Div, x, norm, context).map(|y| vec![y])
    }
}

impl Operator for MeanVariance {
    fn name(&self) -> &'static str {
        "MeanVarianceNormalization"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        if let Some(half) = Half::among(inputs) {
            return half.run(inputs, 1, |inputs| self.run(inputs, context));
        }
        let x = inputs.take(0)?;
        let mean = reduced(&self.mean, &x, context)?;
        let centred = combine(Operation::Sub, x, mean, context)?;
        let squares = combine(Operation::Mul, centred.clone(), centred.clone(), context)?;
        let deviation = changed(reduced(&self.mean, &squares, context)?, |x| x.sqrt() + 1e-9)?;
        combine(Operation::Div, centred, deviation, context).map(|y| vec![y])
    }
}
