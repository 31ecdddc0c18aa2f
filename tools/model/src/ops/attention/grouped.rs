//! GroupQueryAttention of com.microsoft: queries that share keys, positions and a cache included.

use std::borrow::Cow;

use super::{Causal, Heads, Job, joined_heads};
use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::{Built, some};
use crate::real::{Real, in_reals, reals, rounded};
use crate::tensor::Tensor;

/// Attention with a cache of keys and values, whose positions may be rotations.
#[derive(Clone, Debug)]
pub struct GroupQueryAttention {
    heads: usize,
    key_heads: usize,
    scale: Option<f32>,
    softcap: f32,
    /// How many keys a query sees, itself included; none for all before it.
    window: Option<usize>,
    /// Rotations of neighbours, or of halves; none where there are none.
    rotary: Option<Pairs>,
}

/// Which numbers are rotated together.
#[derive(Clone, Copy, Debug)]
enum Pairs {
    Neighbours,
    Halves,
}

/// Inputs that are not done here: positions, a bias, sinks, and what comes after them.
const REFUSED: std::ops::Range<usize> = 9..14;

pub(super) fn build(definition: &Definition) -> Built {
    let heads = |name: &str| {
        let found = definition.int(name)?.unwrap_or(0);
        let heads = usize::try_from(found).ok().filter(|heads| *heads > 0);
        heads.ok_or_else(|| Fault::shape(format!("{name} {found}"), "1 or more"))
    };
    if definition.int("smooth_softmax")?.unwrap_or(0) > 0 {
        return Err(Fault::Unsupported("smooth_softmax".to_owned()));
    }
    let interleaved = definition.flag("rotary_interleaved")?;
    let pairs = if interleaved { Pairs::Neighbours } else { Pairs::Halves };
    some(GroupQueryAttention {
        heads: heads("num_heads")?,
        key_heads: heads("kv_num_heads")?,
        scale: definition.float("scale")?.filter(|scale| *scale != 0.0),
        softcap: definition.float("softcap")?.unwrap_or(0.0),
        window: definition
            .int("local_window_size")?
            .and_then(|size| usize::try_from(size).ok())
            .filter(|size| *size > 0),
        rotary: definition.flag("do_rotary")?.then_some(pairs),
    })
}

/// How far each element of the batch is.
struct Progress {
    /// Keys in the cache that count, for each.
    past: Vec<usize>,
    /// Keys with the new ones, for each.
    total: Vec<i64>,
    /// Rows of the new cache.
    rows: usize,
}

/// Queries, keys and values.
type Three<'a, T> = [Heads<'a, T>; 3];

impl GroupQueryAttention {
    /// Queries, keys and values; where there are no keys, all three stand in the first input.
    fn three<'a, T: Real>(&self, inputs: &'a Inputs) -> Result<Three<'a, T>, Fault> {
        if inputs.optional(1).is_some() {
            let of = |index: usize, heads: usize| Heads::new(inputs, index, Some(heads));
            return Ok([of(0, self.heads)?, of(1, self.key_heads)?, of(2, self.key_heads)?]);
        }
        let shape = inputs.get(0)?.shape();
        let all = reals::<T>(inputs, 0)?;
        let parts = self.key_heads.checked_mul(2).and_then(|keys| keys.checked_add(self.heads));
        let size = match (shape, parts) {
            (&[_, _, wide], Some(parts)) if wide.is_multiple_of(parts) && !all.is_empty() => wide / parts,
            _ => return Err(Fault::shape(format!("queries of {}", dims(shape)), "those of queries, keys and values")),
        };
        let (batch, rows, wide) = (shape[0], shape[1], shape[2]);
        let part = |first: usize, heads: usize| Heads {
            all: Cow::Owned(all[first * size..].to_vec()),
            batch,
            heads,
            rows,
            size,
            strides: [rows * wide, size, wide],
        };
        let keys = self.key_heads;
        Ok([part(0, self.heads), part(self.heads, keys), part(self.heads + keys, keys)])
    }

    fn progress(&self, inputs: &Inputs, batch: usize, new: usize, cache: usize) -> Result<Progress, Fault> {
        let (lengths, total) = (inputs.integers(5)?, inputs.integers(6)?);
        let wrong =
            || Fault::shape(format!("lengths {lengths:?} of {total:?}"), format!("{batch}, of a cache of {cache}"));
        let &[total] = total.as_slice() else { return Err(wrong()) };
        let total = usize::try_from(total).map_err(|_| wrong())?;
        let first = total == new;
        let past = |last: &i64| match first {
            true => Some(0),
            // The last key is a new one.
            false => usize::try_from(*last).ok()?.checked_add(1)?.checked_sub(new).filter(|past| *past <= cache),
        };
        let past: Option<Vec<usize>> = lengths.iter().map(past).collect();
        let past = past.filter(|past| past.len() == batch).ok_or_else(wrong)?;
        let rows = total.max(cache);
        if past.iter().any(|past| past.saturating_add(new) > rows) {
            return Err(wrong());
        }
        Ok(Progress { past, total: lengths.iter().map(|last| last.saturating_add(1)).collect(), rows })
    }

    /// Rotates every head by the angles of its position.
    fn rotate<T: Real>(&self, inputs: &Inputs, of: &mut Heads<'_, T>, past: &[usize]) -> Result<(), Fault> {
        let Some(pairs) = self.rotary else { return Ok(()) };
        let (cos, sin) = (reals::<T>(inputs, 7)?, reals::<T>(inputs, 8)?);
        let angles = inputs.get(7)?.shape();
        let half = angles.last().copied().unwrap_or(0);
        let positions = cos.len().checked_div(half).unwrap_or(0);
        let longest = past.iter().map(|past| past + of.rows).max().unwrap_or(0);
        if half > of.size / 2 || longest > positions || cos.len() != sin.len() {
            let needs = format!("{longest} rows of up to {}", of.size / 2);
            return Err(Fault::shape(format!("angles of {}", dims(angles)), needs));
        }
        let (rows, heads, size) = (of.rows, of.heads, of.size);
        for (at, x) in of.all.to_mut().chunks_mut(size).enumerate() {
            let angles = (past[at / rows / heads] + at % rows) * half;
            for pair in 0..half {
                let (a, b) = match pairs {
                    Pairs::Neighbours => (2 * pair, 2 * pair + 1),
                    Pairs::Halves => (pair, pair + half),
                };
                let (cos, sin, p, q) = (cos[angles + pair], sin[angles + pair], x[a], x[b]);
                (x[a], x[b]) = (cos * p - sin * q, sin * p + cos * q);
            }
        }
        Ok(())
    }

    /// The cache with the new rows.
    fn cached<'a, T: Real>(
        &self,
        inputs: &Inputs,
        index: usize,
        new: &Heads<'_, T>,
        progress: &Progress,
        context: &Context<'_>,
    ) -> Result<Heads<'a, T>, Fault> {
        let [batch, heads, rows, size] = new.shape();
        let mut all = T::buffer(context, &[batch, heads, progress.rows, size])?;
        all.fill(T::ZERO);
        let old = match inputs.optional(index) {
            Some(_) => reals::<T>(inputs, index)?,
            None => Cow::Borrowed(&[][..]),
        };
        let before = old.len() / (batch * heads * size);
        for (at, out) in all.chunks_mut(progress.rows * size).enumerate() {
            let past = progress.past[at / heads] * size;
            out[..past].copy_from_slice(&old[at * before * size..][..past]);
            out[past..past + rows * size].copy_from_slice(&new.all[at * rows * size..(at + 1) * rows * size]);
        }
        let strides = [heads * progress.rows * size, progress.rows * size, size];
        Ok(Heads { all: Cow::Owned(all), batch, heads, rows: progress.rows, size, strides })
    }

    fn reals<T: Real>(&self, inputs: &Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        if let Some(index) = REFUSED.into_iter().find(|index| inputs.optional(*index).is_some()) {
            return Err(Fault::Unsupported(format!("input {index}")));
        }
        let [query, key, value] = self.three::<T>(inputs)?;
        let fits = query.batch == key.batch
            && key.shape() == value.shape()
            && query.rows == key.rows
            && query.size == key.size
            && query.heads.is_multiple_of(key.heads);
        let past = inputs.optional(3).map(Tensor::shape);
        let cache = match past {
            None => 0,
            Some(&[batch, heads, rows, size]) if [batch, heads, size] == [key.batch, key.heads, key.size] => rows,
            Some(shape) => return Err(Fault::shape(format!("a cache of {}", dims(shape)), dims(&key.shape()))),
        };
        if !fits || inputs.optional(4).map(Tensor::shape) != past {
            let found = [query.shape(), key.shape(), value.shape()].map(|shape| dims(&shape)).join(", ");
            return Err(Fault::shape(format!("queries, keys and values of {found}"), "those of attention"));
        }
        let progress = self.progress(inputs, query.batch, query.rows, cache)?;
        // Row after row, so that they can be rotated.
        let (mut query, mut key, value) =
            (query.after(None, context)?, key.after(None, context)?, value.after(None, context)?);
        self.rotate(inputs, &mut query, &progress.past)?;
        self.rotate(inputs, &mut key, &progress.past)?;
        let key = self.cached(inputs, 3, &key, &progress, context)?;
        let value = self.cached(inputs, 4, &value, &progress, context)?;
        let of = super::Attention {
            causal: self.window.map_or(Causal::AfterPast, Causal::Window),
            softcap: self.softcap,
            ..super::Attention::plain()
        };
        let scale = self.scale.map_or(1.0 / (query.size as f64).sqrt(), f64::from);
        let Progress { past, total, .. } = progress;
        let job = Job {
            of: &of,
            query: &query,
            key: &key,
            value: &value,
            mask: None,
            lengths: (cache > 0).then_some(total),
            scale: T::near(scale),
            caps_first: true,
            past,
        };
        let mut out = T::buffer(context, &query.shape())?;
        job.all(&mut out, &mut [])?;
        let dtype = inputs.get(0)?.dtype();
        Ok(vec![
            joined_heads(inputs.get(0)?, &query, query.size, out)?,
            rounded(dtype, key.shape().to_vec(), key.all.into_owned())?,
            rounded(dtype, value.shape().to_vec(), value.all.into_owned())?,
        ])
    }
}

impl Operator for GroupQueryAttention {
    fn name(&self) -> &'static str {
        "GroupQueryAttention"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        in_reals!(inputs.get(0)?.dtype(), T => self.reals::<T>(inputs, context))
    }

    fn macs(&self, _: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        let keys = outputs.get(1).and_then(|shape| shape.get(2)).copied().unwrap_or(0) as u64;
        let made = outputs.first().map_or(0, |shape| shape.iter().product::<usize>()) as u64;
        made.saturating_mul(2).saturating_mul(keys)
    }
}
