//! Normalization by channel: instances, groups.

use niwaki_codes::simd::Level;

use super::BatchNormalization;
use super::rows::moments;
use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::kernels::{lanes, parts};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::halves::Half;
use crate::ops::unary::own;
use crate::ops::{Built, some};
use crate::tensor::{Data, Tensor};

/// (x - mean) / √(variance + epsilon), scaled and moved, with mean and variance of each channel of each
/// image.
#[derive(Clone, Copy, Debug)]
pub struct InstanceNormalization {
    /// Added to variances.
    pub epsilon: f32,
}

/// The same, with mean and variance of groups of channels.
#[derive(Clone, Copy, Debug)]
pub struct GroupNormalization {
    /// Added to variances.
    pub epsilon: f32,
    /// How many groups there are.
    pub groups: usize,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    let epsilon = definition.float("epsilon");
    match definition.op.as_str() {
        "BatchNormalization" => {
            if definition.int("spatial")?.is_some_and(|spatial| spatial == 0) {
                return Err(Fault::Unsupported("`spatial` of 0".to_owned()));
            }
            let trains = definition.flag("training_mode")? || (definition.opset < 14 && definition.outputs > 1);
            if trains && definition.opset < 14 {
                return Err(Fault::Unsupported("training before opset 14".to_owned()));
            }
            let momentum = definition.float("momentum")?.unwrap_or(0.9);
            some(BatchNormalization { epsilon: epsilon?.unwrap_or(1e-5), training: trains.then_some(momentum) })
        }
        "InstanceNormalization" => some(InstanceNormalization { epsilon: epsilon?.unwrap_or(1e-5) }),
        "GroupNormalization" => {
            let groups = definition.int("num_groups")?.unwrap_or(0);
            let wrong = |_| Fault::shape(format!("{groups} groups"), "at least one");
            let groups = usize::try_from(groups).map_err(wrong)?;
            if groups == 0 {
                return Err(Fault::shape("no groups", "at least one"));
            }
            some(GroupNormalization { epsilon: epsilon?.unwrap_or(1e-5), groups })
        }
        _ => Ok(None),
    }
}

/// The channels of a tensor, and the elements of a plane of one.
pub(super) fn planes(x: &Tensor) -> Result<[usize; 2], Fault> {
    match x.shape() {
        [_, channels, plane @ ..] => Ok([*channels, plane.iter().product()]),
        other => Err(Fault::shape(dims(other), "at least two dimensions")),
    }
}

/// Numbers of input `at`, one for each channel.
pub(super) fn by_channel(inputs: &Inputs, at: usize, channels: usize) -> Result<&[f32], Fault> {
    let numbers = inputs.elements::<f32>(at, "float")?;
    match numbers.len() == channels {
        true => Ok(numbers),
        false => Err(Fault::shape(format!("input {at} of {}", numbers.len()), format!("{channels} channels"))),
    }
}

/// What turns a number into (x - mean) deviation scale + bias by one multiplication.
pub(super) fn factors([mean, over]: [f32; 2], scale: f32, bias: f32) -> [f32; 2] {
    let a = over * scale;
    [a, bias - mean * a]
}

impl Operator for InstanceNormalization {
    fn name(&self) -> &'static str {
        "InstanceNormalization"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        if let Some(half) = Half::among(inputs) {
            return half.run(inputs, 1, |inputs| self.run(inputs, context));
        }
        let x = own(inputs.take(0)?, context)?;
        let [channels, plane] = planes(&x)?;
        let (scale, bias) = (by_channel(inputs, 1, channels)?, by_channel(inputs, 2, channels)?);
        grouped(x, [1, plane], self.epsilon, |channel| [scale[channel % channels], bias[channel % channels]])
    }
}

impl Operator for GroupNormalization {
    fn name(&self) -> &'static str {
        "GroupNormalization"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        if let Some(half) = Half::among(inputs) {
            return half.run(inputs, 1, |inputs| self.run(inputs, context));
        }
        let x = own(inputs.take(0)?, context)?;
        let [channels, plane] = planes(&x)?;
        if !channels.is_multiple_of(self.groups) {
            return Err(Fault::shape(format!("{channels} channels"), format!("a multiple of {} groups", self.groups)));
        }
        let each = channels / self.groups;
        // Opset 18 has a scale for each group, later ones for each channel.
        let many = inputs.elements::<f32>(1, "float")?.len();
        let of_groups = many == self.groups;
        let expected = if of_groups { self.groups } else { channels };
        let (scale, bias) = (by_channel(inputs, 1, expected)?, by_channel(inputs, 2, expected)?);
        grouped(x, [each, plane], self.epsilon, |channel| {
            let channel = channel % channels;
            let at = if of_groups { channel / each } else { channel };
            [scale[at], bias[at]]
        })
    }
}

/// Normalizes groups of `each` planes; `factors_of` has scale and bias of a channel, counted
/// through all images.
fn grouped(
    mut y: Tensor,
    [each, plane]: [usize; 2],
    epsilon: f32,
    factors_of: impl Fn(usize) -> [f32; 2] + Sync,
) -> Result<Vec<Tensor>, Fault> {
    let Data::F32(x) = y.data_mut() else { return Err(Fault::dtype(0, &y, "float")) };
    let (level, long) = (Level::best(), each * plane);
    parts::each(x.to_mut(), long, |start, x| {
        for (at, x) in x.chunks_mut(long.max(1)).enumerate() {
            let moments = moments(level, x, true, epsilon);
            for (k, x) in x.chunks_mut(plane.max(1)).enumerate() {
                let [scale, bias] = factors_of((start / long + at) * each + k);
                let [a, b] = factors(moments, scale, bias);
                lanes::affine(level, x, a, b);
            }
        }
    });
    Ok(vec![y])
}
