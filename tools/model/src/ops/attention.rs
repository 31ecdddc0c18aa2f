//! Attention: that of ONNX, and MultiHeadAttention and GroupQueryAttention of com.microsoft.

mod grouped;

use std::borrow::Cow;

use rayon::prelude::*;

use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::kernels::mm::{Matrix, Target, Way, mm};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::{broadcast, broadcast_strides};
use crate::ops::{Built, some};
use crate::real::{Real, in_reals, reals, rounded};
use crate::tensor::{Data, Tensor};

pub use grouped::GroupQueryAttention;

/// Softmax of scaled products of queries and keys, times values.
#[derive(Clone, Debug)]
pub struct Attention {
    /// A position does not see those after it.
    causal: Causal,
    scale: Option<f32>,
    softcap: f32,
    query_heads: Option<usize>,
    key_heads: Option<usize>,
    /// What the fourth output is.
    scores: Scores,
    places: Places,
    /// Outputs that are asked for.
    outputs: usize,
}

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Causal {
    /// All.
    No,
    /// Those up to its own number, counted after the keys of before.
    AfterPast,
    /// The same, but no more than so many.
    Window(usize),
}

/// Which scores are an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scores {
    Plain,
    Masked,
    Capped,
    Softmax,
}

/// Where inputs are.
#[derive(Clone, Copy, Debug)]
struct Places {
    mask: usize,
    past_key: usize,
    past_value: usize,
    /// How many keys there are, the rest being padding.
    lengths: Option<usize>,
    /// Those that are not done here.
    refused: &'static [usize],
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    let heads = |name: &str| match definition.int(name)?.map(usize::try_from) {
        None => Ok(None),
        Some(Ok(heads)) if heads > 0 => Ok(Some(heads)),
        Some(_) => Err(Fault::shape(format!("{name} below 1"), "1 or more")),
    };
    let scale = definition.float("scale")?;
    let outputs = definition.outputs;
    match (definition.domain.as_str(), definition.op.as_str()) {
        ("", "Attention") => some(Attention {
            causal: if definition.flag("is_causal")? { Causal::AfterPast } else { Causal::No },
            scale,
            softcap: definition.float("softcap")?.unwrap_or(0.0),
            query_heads: heads("q_num_heads")?,
            key_heads: heads("kv_num_heads")?,
            scores: match definition.int("qk_matmul_output_mode")?.unwrap_or(0) {
                0 => Scores::Plain,
                1 => Scores::Masked,
                2 => Scores::Capped,
                3 => Scores::Softmax,
                other => return Err(Fault::Unsupported(format!("qk_matmul_output_mode {other}"))),
            },
            places: Places { mask: 3, past_key: 4, past_value: 5, lengths: Some(6), refused: &[] },
            outputs,
        }),
        ("com.microsoft", "GroupQueryAttention") => grouped::build(definition),
        ("com.microsoft", "MultiHeadAttention") => some(Attention {
            causal: if definition.flag("unidirectional")? { Causal::AfterPast } else { Causal::No },
            scale: scale.filter(|scale| *scale != 0.0),
            softcap: 0.0,
            query_heads: heads("num_heads")?,
            key_heads: heads("num_heads")?,
            scores: Scores::Plain,
            places: Places { mask: 5, past_key: 6, past_value: 7, lengths: None, refused: &[3, 4, 8, 9] },
            outputs,
        }),
        _ => Ok(None),
    }
}

/// Rows of heads, where they stand.
struct Heads<'a, T: Real> {
    all: Cow<'a, [T]>,
    batch: usize,
    heads: usize,
    rows: usize,
    size: usize,
    /// From one element of the batch, head, and row to the next.
    strides: [usize; 3],
}

impl<'a, T: Real> Heads<'a, T> {
    fn new(inputs: &'a Inputs, index: usize, heads: Option<usize>) -> Result<Self, Fault> {
        let all = reals::<T>(inputs, index)?;
        let shape = inputs.get(index)?.shape();
        let wrong = || Fault::shape(format!("input {index} of {}", dims(shape)), "heads of one size");
        if all.is_empty() {
            return Err(wrong());
        }
        match (shape, heads) {
            (&[batch, rows, wide], Some(heads)) if wide.is_multiple_of(heads) => {
                let size = wide / heads;
                Ok(Self { all, batch, heads, rows, size, strides: [rows * wide, size, wide] })
            }
            (&[batch, heads, rows, size], _) => {
                Ok(Self { all, batch, heads, rows, size, strides: [heads * rows * size, rows * size, size] })
            }
            _ => Err(wrong()),
        }
    }

    fn shape(&self) -> [usize; 4] {
        [self.batch, self.heads, self.rows, self.size]
    }

    /// The rows of one head.
    fn head(&self, batch: usize, head: usize) -> Result<Matrix<'_, T>, Fault> {
        let from = (batch * self.strides[0] + head * self.strides[1]).min(self.all.len());
        Matrix::strided(&self.all[from..], (self.rows, self.size), (self.strides[2], 1))
    }

    /// The same after those of before, and row after row.
    fn after(self, past: Option<(&[usize], Cow<'_, [T]>)>, context: &Context<'_>) -> Result<Self, Fault> {
        let Self { batch, heads, rows, size, .. } = self;
        let (before, past) = match past {
            Some((&[b, h, before, s], past)) if [b, h, s] == [batch, heads, size] => (before, past),
            Some((shape, _)) => {
                return Err(Fault::shape(format!("a past of {}", dims(shape)), dims(&[batch, heads, 0, size])));
            }
            None => (0, Cow::Borrowed(&[][..])),
        };
        let total = before.saturating_add(rows);
        let mut all = T::buffer(context, &[batch, heads, total, size])?;
        if size > 0 && total > 0 {
            for (at, out) in all.chunks_mut(total * size).enumerate() {
                let (old, new) = out.split_at_mut(before * size);
                old.copy_from_slice(&past[at * before * size..(at + 1) * before * size]);
                for (row, out) in new.chunks_mut(size).enumerate() {
                    let [b, h, r] = self.strides;
                    let from = at / heads * b + at % heads * h + row * r;
                    out.copy_from_slice(&self.all[from..from + size]);
                }
            }
        }
        let strides = [heads * total * size, total * size, size];
        Ok(Heads { all: Cow::Owned(all), batch, heads, rows: total, size, strides })
    }
}

/// What is added to scores.
struct Mask<T> {
    all: Vec<T>,
    strides: Vec<usize>,
    /// Keys that it tells of; those after them are not seen.
    keys: usize,
}

impl<T: Real> Mask<T> {
    fn new(tensor: &Tensor, index: usize, scores: [usize; 4]) -> Result<Self, Fault> {
        let all = match tensor.data() {
            Data::Bool(all) => all.as_slice().iter().map(|x| if *x == 0 { T::LOWEST } else { T::ZERO }).collect(),
            data => T::widened(data).ok_or_else(|| Fault::dtype(index, tensor, "bool or a float type"))?.into_owned(),
        };
        let mut seen = scores;
        let last = tensor.shape().last().copied().unwrap_or(1);
        let keys = if last == 1 { scores[3] } else { last };
        seen[3] = keys;
        if keys > scores[3] || broadcast(&[tensor.shape(), &seen])? != seen {
            return Err(Fault::shape(format!("a mask of {}", dims(tensor.shape())), dims(&scores)));
        }
        Ok(Self { all, strides: broadcast_strides(tensor.shape(), &seen), keys })
    }

    fn add(&self, [batch, head, row]: [usize; 3], scores: &mut [T]) {
        let s = &self.strides;
        let first = batch * s[0] + head * s[1] + row * s[2];
        let (seen, rest) = scores.split_at_mut(self.keys);
        seen.iter_mut().enumerate().for_each(|(at, score)| *score += self.all[first + at * s[3]]);
        rest.fill(T::LOWEST);
    }
}

/// Queries that are answered together.
const BLOCK: usize = 64;

/// One attention: all that its blocks need.
struct Job<'a, T: Real> {
    of: &'a Attention,
    query: &'a Heads<'a, T>,
    key: &'a Heads<'a, T>,
    value: &'a Heads<'a, T>,
    mask: Option<Mask<T>>,
    lengths: Option<Vec<i64>>,
    scale: T,
    /// Scores are capped before keys are hidden, not after.
    caps_first: bool,
    /// Keys of before, for each element of the batch.
    past: Vec<usize>,
}

impl<T: Real> Job<'_, T> {
    /// Answers some queries of one head.
    fn block(&self, at: usize, first: usize, out: &mut [T], mut kept: Option<&mut [T]>) -> Result<(), Fault> {
        let (batch, head) = (at / self.query.heads, at % self.query.heads);
        let (keys, size) = (self.key.rows, self.value.size);
        let rows = out.len() / size;
        let of_keys = head / (self.query.heads / self.key.heads);
        let way = Way { parallel: false, ..Way::replace() };
        let mut scores = vec![T::ZERO; rows * keys];
        let query = self.query.head(batch, head)?.slice_rows(first, rows)?;
        let key = self.key.head(batch, of_keys)?.transposed();
        mm(Target::rows(&mut scores, rows, keys)?, query, key, Way { scale: self.scale, ..way })?;
        let mut keep = |which: Scores, scores: &[T]| {
            if let Some(kept) = kept.as_deref_mut().filter(|_| self.of.scores == which) {
                kept.copy_from_slice(scores);
            }
        };
        keep(Scores::Plain, &scores);
        if self.caps_first {
            self.cap(&mut scores);
        }
        for (row, scores) in scores.chunks_mut(keys.max(1)).enumerate() {
            self.hide([batch, head, first + row], scores);
        }
        keep(Scores::Masked, &scores);
        if !self.caps_first {
            self.cap(&mut scores);
        }
        keep(Scores::Capped, &scores);
        scores.chunks_mut(keys.max(1)).for_each(softmax);
        keep(Scores::Softmax, &scores);
        let scores = Matrix::rows(&scores, rows, keys)?;
        mm(Target::rows(out, rows, size)?, scores, self.value.head(batch, of_keys)?, way)
    }

    fn cap(&self, scores: &mut [T]) {
        if self.of.softcap > 0.0 {
            let cap = T::near(f64::from(self.of.softcap));
            scores.iter_mut().for_each(|score| *score = (*score / cap).tanh() * cap);
        }
    }

    /// Hides the keys that one query does not see.
    fn hide(&self, at: [usize; 3], scores: &mut [T]) {
        if let Some(mask) = &self.mask {
            mask.add(at, scores);
        }
        let seen = match self.of.causal {
            Causal::No => scores.len(),
            Causal::AfterPast | Causal::Window(_) => self.past[at[0]] + at[2] + 1,
        };
        if let Causal::Window(size) = self.of.causal {
            scores[..seen.saturating_sub(size)].fill(T::LOWEST);
        }
        let length =
            self.lengths.as_ref().and_then(|all| all.get(at[0])).map_or(scores.len(), |n| (*n).max(0) as usize);
        let seen = seen.min(length).min(scores.len());
        scores[seen..].fill(T::LOWEST);
    }

    /// Answers all queries; and the scores that are kept.
    fn all(&self, out: &mut [T], kept: &mut [T]) -> Result<(), Fault> {
        let (rows, size, keys) = (self.query.rows, self.value.size, self.key.rows);
        if out.is_empty() {
            return Ok(());
        }
        let of_heads: Vec<Option<&mut [T]>> = match kept.is_empty() {
            true => out.chunks(rows * size).map(|_| None).collect(),
            false => kept.chunks_mut(rows * keys).map(Some).collect(),
        };
        out.par_chunks_mut(rows * size).zip(of_heads).enumerate().try_for_each(|(at, (out, kept))| match kept {
            None => {
                let blocks = out.par_chunks_mut(BLOCK * size).enumerate();
                blocks.try_for_each(|(block, out)| self.block(at, block * BLOCK, out, None))
            }
            Some(kept) => {
                let blocks = out.chunks_mut(BLOCK * size).zip(kept.chunks_mut(BLOCK * keys)).enumerate();
                blocks.into_iter().try_for_each(|(block, (out, kept))| self.block(at, block * BLOCK, out, Some(kept)))
            }
        })
    }
}

fn softmax<T: Real>(row: &mut [T]) {
    let most = row.iter().fold(T::LOWEST, |most, x| most.max(*x));
    let mut sum = T::ZERO;
    for x in row.iter_mut() {
        *x = (*x - most).exp();
        sum += *x;
    }
    row.iter_mut().for_each(|x| *x = *x / sum);
}

impl Attention {
    /// Of all keys, by their products.
    fn plain() -> Self {
        Self {
            causal: Causal::No,
            scale: None,
            softcap: 0.0,
            query_heads: None,
            key_heads: None,
            scores: Scores::Plain,
            places: Places { mask: 3, past_key: 4, past_value: 5, lengths: None, refused: &[] },
            outputs: 1,
        }
    }

    fn reals<T: Real>(&self, inputs: &Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        if let Some(index) = self.places.refused.iter().find(|index| inputs.optional(**index).is_some()) {
            return Err(Fault::Unsupported(format!("input {index}")));
        }
        let query = Heads::<T>::new(inputs, 0, self.query_heads)?;
        let key = Heads::<T>::new(inputs, 1, self.key_heads)?;
        let value = Heads::<T>::new(inputs, 2, self.key_heads)?;
        let fits = query.batch == key.batch
            && key.shape()[..3] == value.shape()[..3]
            && query.size == key.size
            && key.heads > 0
            && query.heads.is_multiple_of(key.heads);
        if !fits {
            let found = [query.shape(), key.shape(), value.shape()].map(|shape| dims(&shape)).join(", ");
            return Err(Fault::shape(format!("queries, keys and values of {found}"), "those of attention"));
        }
        let past = |index: usize| match inputs.optional(index) {
            Some(tensor) => reals::<T>(inputs, index).map(|all| Some((tensor.shape(), all))),
            None => Ok(None),
        };
        let (past_key, past_value) = (past(self.places.past_key)?, past(self.places.past_value)?);
        let before = key.rows;
        let joined = self.outputs > 1 || past_key.is_some() || past_value.is_some();
        let (key, value) = match joined {
            true => (key.after(past_key, context)?, value.after(past_value, context)?),
            false => (key, value),
        };
        if key.rows != value.rows {
            return Err(Fault::shape(format!("{} values", value.rows), format!("{}, as keys", key.rows)));
        }
        let scores = [query.batch, query.heads, query.rows, key.rows];
        let mask =
            inputs.optional(self.places.mask).map(|mask| Mask::new(mask, self.places.mask, scores)).transpose()?;
        let lengths = self.places.lengths.filter(|index| inputs.optional(*index).is_some());
        let lengths = lengths.map(|index| inputs.integers(index)).transpose()?;
        let scale = self.scale.map_or(1.0 / (query.size.max(1) as f64).sqrt(), f64::from);
        let past = vec![key.rows - before; query.batch];
        let job = Job {
            of: self,
            query: &query,
            key: &key,
            value: &value,
            mask,
            lengths,
            scale: T::near(scale),
            caps_first: false,
            past,
        };
        let mut out = T::buffer(context, &[query.batch, query.heads, query.rows, value.size])?;
        let mut kept = if self.outputs > 3 { T::buffer(context, &scores)? } else { Vec::new() };
        job.all(&mut out, &mut kept)?;
        let dtype = inputs.get(0)?.dtype();
        let mut results = vec![joined_heads(inputs.get(0)?, &query, value.size, out)?];
        if joined {
            results.push(rounded(dtype, key.shape().to_vec(), key.all.into_owned())?);
            results.push(rounded(dtype, value.shape().to_vec(), value.all.into_owned())?);
        }
        if self.outputs > 3 {
            results.push(rounded(dtype, scores.to_vec(), kept)?);
        }
        Ok(results)
    }
}

/// The result, shaped as queries are.
fn joined_heads<T: Real>(of: &Tensor, query: &Heads<'_, T>, size: usize, out: Vec<T>) -> Result<Tensor, Fault> {
    let [batch, heads, rows, _] = query.shape();
    if of.rank() == 4 {
        return rounded(of.dtype(), vec![batch, heads, rows, size], out);
    }
    let mut joined = vec![T::ZERO; out.len()];
    for (at, from) in out.chunks(size.max(1)).enumerate() {
        let (row, head, batch) = (at % rows, at / rows % heads, at / rows / heads);
        let to = ((batch * rows + row) * heads + head) * size;
        joined[to..to + size].copy_from_slice(from);
    }
    rounded(of.dtype(), vec![batch, rows, heads * size], joined)
}

impl Operator for Attention {
    fn name(&self) -> &'static str {
        "Attention"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        in_reals!(inputs.get(0)?.dtype(), T => self.reals::<T>(inputs, context))
    }

    fn macs(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        let Some([.., keys, _]) = inputs.get(1).copied().flatten() else { return 0 };
        let made = outputs.first().map_or(0, |shape| shape.iter().product::<usize>()) as u64;
        let queries = inputs.first().copied().flatten().map_or(0, |shape| shape.iter().product::<usize>()) as u64;
        made.saturating_add(queries).saturating_mul(*keys as u64)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
