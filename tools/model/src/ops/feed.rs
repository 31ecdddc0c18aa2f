//! Feed-forward parts of transformers that compute only the channels that fire.
//!
//! ```text
//! a = activation(W x + b)                                    all channels
//! y = d + Σ over c with |a_c| >= threshold of a_c (U_c x + u_c) D_c        D_c column c of D; without U, u: a_c D_c
//! ```
//!
//! This is CATS (Lee et al., *CATS: Contextually-Aware Thresholding for Sparsity in Large Language Models*, 2024), which says
//! it of SiLU; here it is the same of any activation, with or without something that it gates. For a single row of inputs, a token of a text
//! that goes on, rows of U and columns of D of other channels are not read: D is kept a second time for that, turned. Each
//! row of many needs other channels: of these all are computed, and made 0.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::gate::Activation;
use super::linear::product;
use crate::fault::{Fault, dims};
use crate::kernels::weights::Stored;
use crate::operator::{Context, Inputs, Operator};
use crate::tensor::{Data, Element, Tensor};

/// Channels whose products are summed together. Sums of parts are added in order: nothing hangs on threads.
const PART: usize = 128;

/// How many channels that are there the rows of weights are asked for ahead: they lie apart, and no processor guesses which come.
const AHEAD: usize = 2;

/// Inputs are x `[.., width]`; W `[channels, width]` and b, U and u, of the same size, and D `[out, channels]` and d. Of these
/// b, U, u and d may be left out. Results are y `[.., out]`, and for each row how many channels were there, `[rows]`.
#[derive(Clone, Debug)]
pub struct FeedForward {
    /// What makes the numbers that are compared with the threshold.
    pub activation: Activation,
    /// Channels of less do nothing.
    pub threshold: f32,
    turned: Option<Arc<Tensor>>,
}

/// Weights and biases on their way.
struct Parts<'p> {
    first: (Stored<'p>, Option<&'p [f32]>),
    gated: Option<(Stored<'p>, Option<&'p [f32]>)>,
    last: (Stored<'p>, Option<&'p [f32]>),
    /// Of a row of inputs, of channels, of a row of results.
    sizes: [usize; 3],
}

impl FeedForward {
    /// One whose channels do nothing below a threshold; of 0 all do.
    pub fn new(activation: Activation, threshold: f32) -> Self {
        Self { activation, threshold, turned: None }
    }

    /// Whether a channel is there; one that is no number is.
    fn fires(&self, activated: f32) -> bool {
        activated.abs() >= self.threshold || activated.is_nan()
    }

    /// Channels `all` of one row of inputs: adds what they make to `sums`, and says how many were there.
    fn some(&self, x: &[f32], parts: &Parts<'_>, turned: Stored<'_>, all: Range<usize>, sums: &mut [f32]) -> usize {
        let mut room = [0.0; PART];
        let out = sums.len();
        let activated = &mut room[..all.len()];
        for (channel, a) in all.clone().zip(activated.iter_mut()) {
            *a = parts.first.0.dot(channel, x) + parts.first.1.map_or(0.0, |bias| bias[channel]);
        }
        self.activation.apply(activated);
        let mut there = [(0, 0.0); PART];
        let mut count = 0;
        for (channel, a) in all.zip(activated).filter(|(_, a)| self.fires(**a)) {
            there[count] = (channel, *a);
            count += 1;
        }
        let there = &there[..count];
        let soon = |nth: usize| {
            let Some((channel, _)) = there.get(nth) else { return };
            if let Some((up, _)) = parts.gated {
                up.soon(*channel, x.len());
            }
            turned.soon(*channel, out);
        };
        (0..AHEAD).for_each(soon);
        for (nth, (channel, a)) in there.iter().enumerate() {
            soon(nth + AHEAD);
            let by =
                parts.gated.map_or(1.0, |(up, bias)| up.dot(*channel, x) + bias.map_or(0.0, |bias| bias[*channel]));
            turned.add_row(*channel, a * by, sums);
        }
        count
    }

    /// One row of inputs.
    fn one(&self, x: &[f32], parts: &Parts<'_>, turned: Stored<'_>, context: &Context<'_>, y: &mut [f32]) -> usize {
        let [_, channels, out] = parts.sizes;
        let mut sums = context.scratch(channels.div_ceil(PART) * out);
        let each = sums.par_chunks_exact_mut(out).enumerate().map(|(nth, sums)| {
            sums.fill(0.0);
            self.some(x, parts, turned, nth * PART..((nth + 1) * PART).min(channels), sums)
        });
        let there = each.sum();
        y.fill(0.0);
        for sums in sums.chunks_exact(out) {
            y.iter_mut().zip(sums).for_each(|(y, sum)| *y += *sum);
        }
        if let Some(bias) = parts.last.1 {
            y.iter_mut().zip(bias).for_each(|(y, bias)| *y += *bias);
        }
        context.put(sums);
        there
    }

    /// Many rows: all channels, of which some are made 0.
    fn many(&self, x: &Tensor, parts: &Parts<'_>, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let [width, channels, out] = parts.sizes;
        let of = |x: &Tensor, (weights, bias): (Stored<'_>, Option<&[f32]>), size| {
            Ok::<_, Fault>(product(x, (weights, size), bias, None, context)?.remove(0))
        };
        let mut hidden = of(x, parts.first, [channels, width])?;
        let gated = parts.gated.map(|gated| of(x, gated, [channels, width])).transpose()?;
        let by = gated.as_ref().and_then(Tensor::get::<f32>);
        let mut counts = vec![0i64; hidden.len() / channels];
        let wrong = Fault::dtype(0, x, "float");
        let Data::F32(all) = hidden.data_mut() else { return Err(wrong) };
        let rows = all.to_mut().par_chunks_exact_mut(channels).zip(&mut counts).enumerate();
        rows.for_each(|(nth, (row, count))| {
            self.activation.apply(row);
            row.iter_mut().for_each(|a| *a = if self.fires(*a) { *a } else { 0.0 });
            *count = row.iter().filter(|a| self.fires(**a)).count() as i64;
            if let Some(by) = by {
                row.iter_mut().zip(&by[nth * channels..]).for_each(|(a, by)| *a *= *by);
            }
        });
        let y = of(&hidden, parts.last, [out, channels])?;
        Ok(vec![y, Tensor::vector(counts)])
    }
}

/// The parts of a feed-forward part, which fit each other.
fn parts(inputs: &Inputs) -> Result<Parts<'_>, Fault> {
    let matrix = |at: usize| -> Result<(Stored<'_>, [usize; 2]), Fault> {
        let tensor = inputs.get(at)?;
        let &[rows, cols] = tensor.shape() else {
            return Err(Fault::shape(format!("weights {}", dims(tensor.shape())), "[out, in]"));
        };
        Ok((Stored::of(tensor, at)?, [rows, cols]))
    };
    let bias = |at: usize, len: usize| -> Result<Option<&[f32]>, Fault> {
        let bias = inputs.optional(at).map(|_| inputs.elements::<f32>(at, "float")).transpose()?;
        match bias.filter(|bias| bias.len() != len) {
            Some(bias) => Err(Fault::shape(format!("a bias of {}", bias.len()), len.to_string())),
            None => Ok(bias),
        }
    };
    let (first, [channels, width]) = matrix(1)?;
    let gated = inputs.optional(3).map(|_| matrix(3)).transpose()?;
    let (last, [out, takes]) = matrix(5)?;
    let fits = gated.is_none_or(|(_, size)| size == [channels, width]) && takes == channels;
    if !fits || inputs.get(0)?.shape().last() != Some(&width) || width * channels * out == 0 {
        let of = |at: usize| inputs.optional(at).map(|tensor| dims(tensor.shape())).unwrap_or_default();
        let found = format!("inputs {} and weights {}, {}, {}", of(0), of(1), of(3), of(5));
        return Err(Fault::shape(found, "[.., width], [channels, width], the same, [out, channels]"));
    }
    let gated = gated.map(|(up, _)| Ok::<_, Fault>((up, bias(4, channels)?))).transpose()?;
    let (first, last) = ((first, bias(2, channels)?), (last, bias(6, out)?));
    Ok(Parts { first, gated, last, sizes: [width, channels, out] })
}

/// A matrix whose rows are the columns of another.
fn turn(matrix: &Tensor) -> Option<Tensor> {
    fn of<T: Element>(all: &[T], [rows, cols]: [usize; 2]) -> Option<Tensor> {
        let turned = (0..cols).flat_map(|col| all.iter().skip(col).step_by(cols).take(rows).copied()).collect();
        Tensor::of([cols, rows], turned)
    }
    let &[rows, cols] = matrix.shape() else { return None };
    match matrix.data() {
        Data::F32(all) => of(all.as_slice(), [rows, cols]),
        Data::F16(all) => of(all.as_slice(), [rows, cols]),
        Data::Bf16(all) => of(all.as_slice(), [rows, cols]),
        _ => None,
    }
}

impl Operator for FeedForward {
    fn name(&self) -> &'static str {
        "FeedForward"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let parts = parts(inputs)?;
        let x = inputs.get(0)?;
        let (row, [width, _, out]) = (inputs.elements::<f32>(0, "float")?, parts.sizes);
        if row.len() != width {
            return self.many(x, &parts, context);
        }
        let fresh;
        let turned = match &self.turned {
            Some(turned) => turned.as_ref(),
            None => {
                let last = inputs.get(5)?;
                fresh = turn(last).ok_or_else(|| Fault::dtype(5, last, "float, float16 or bfloat16"))?;
                &fresh
            }
        };
        let mut shape = x.shape().to_vec();
        shape.iter_mut().rev().take(1).for_each(|last| *last = out);
        let mut y = context.buffer(&shape)?;
        let there = self.one(row, &parts, Stored::of(turned, 5)?, context, &mut y);
        let mut made = super::linear::made(shape, y)?;
        made.push(Tensor::vector(vec![there as i64]));
        Ok(made)
    }

    fn macs(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        let rows = outputs.get(1).map_or(0, |counts| counts.iter().product::<usize>()) as u64;
        let size =
            |at: usize| inputs.get(at).copied().flatten().map_or(0, |shape| shape.iter().product::<usize>()) as u64;
        rows.saturating_mul(size(1) + size(3) + size(5))
    }

    fn prepare(&self, constants: &[Option<&Tensor>]) -> Result<Option<Arc<dyn Operator>>, Fault> {
        let turned = constants.get(5).copied().flatten().and_then(turn);
        Ok(turned
            .map(|turned| -> Arc<dyn Operator> { Arc::new(Self { turned: Some(Arc::new(turned)), ..self.clone() }) }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
