//! Attention of a text to itself: what came before is in a cache, which grows in place.

mod back;

use rayon::prelude::*;

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use crate::fault::{Fault, dims};
use crate::kernels::math;
use crate::kernels::mm::{Matrix, Target, Way, mm};
use crate::kernels::weights::dot;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::gate::capped;
use crate::reverse::Reverse;
use crate::tensor::{Buffer, Data, Dtype, Tensor};

/// Softmax of scaled products of queries and keys, times values.
///
/// Inputs are queries [T, heads, size], keys [T, kv heads, size], values [T, kv heads, size];
/// keys and values of before, [P, kv heads, size], where there are any; and a mask [B, T] of
/// integers, in which 0 hides a key. With a mask, all begin with a further dimension B. Each key
/// serves as many queries in a row as there are heads to one of its own.
///
/// Results are [T, heads, size], and keys and values with those of before: those are appended to
/// in place, where nobody else sees them.
#[derive(Clone, Copy, Debug)]
pub struct SelfAttention {
    /// What products are multiplied with.
    pub scale: f32,
    /// What a query sees.
    pub sees: Sees,
    /// The bound that scores stay below, by way of a hyperbolic tangent.
    pub cap: Option<f32>,
}

/// What a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// All keys.
    All,
    /// Its own key, and those before it.
    Before,
    /// So many keys: its own, and those just before it.
    Window(usize),
}

/// Queries that one thread answers at a time.
const BLOCK: usize = 32;

/// Sizes of what attends.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    times: usize,
    heads: usize,
    kv_heads: usize,
    /// Elements of a key.
    size: usize,
    /// Elements of a value.
    width: usize,
}

impl Sizes {
    fn new(inputs: &Inputs) -> Result<Self, Fault> {
        let [q, k, v] = [inputs.get(0)?.shape(), inputs.get(1)?.shape(), inputs.get(2)?.shape()];
        let wrong = || {
            let found = [q, k, v].map(dims).join(", ");
            Fault::shape(format!("queries, keys and values {found}"), "[T, heads, size] of each")
        };
        let split = |shape: &[usize]| match (shape, inputs.optional(5).is_some()) {
            (&[times, heads, size], false) => Some([1, times, heads, size]),
            (&[batch, times, heads, size], true) => Some([batch, times, heads, size]),
            _ => None,
        };
        let (Some(q), Some(k), Some(v)) = (split(q), split(k), split(v)) else { return Err(wrong()) };
        let fits = q[..2] == k[..2]
            && k[..3] == v[..3]
            && q[3] == k[3]
            && k[2] > 0
            && q[2].is_multiple_of(k[2])
            && k[3] > 0
            && v[3] > 0;
        let [batch, times, heads, size] = q;
        if fits { Ok(Self { batch, times, heads, kv_heads: k[2], size, width: v[3] }) } else { Err(wrong()) }
    }
}

/// Keys or values, and before them those of the cache.
fn appended(inputs: &mut Inputs, new: usize, past: usize) -> Result<Tensor, Fault> {
    let fresh = inputs.take(new)?;
    let Some(before) = inputs.optional(past) else { return Ok(fresh) };
    let mut shape = fresh.shape().to_vec();
    if before.rank() != shape.len() || before.shape().get(1..) != shape.get(1..) || shape.len() != 3 {
        let found = format!("a cache {} for {}", dims(before.shape()), dims(&shape));
        return Err(Fault::shape(found, "one of [P, heads, size]"));
    }
    // An empty cache is of single floats, whatever is computed in; theirs may have room to grow in.
    if before.is_empty() && fresh.dtype() == Dtype::F64 {
        return Ok(fresh);
    }
    shape[0] += before.shape()[0];
    inputs.elements::<f32>(past, "float")?;
    let fault = Fault::dtype(new, &fresh, "float");
    let (Data::F32(before), Some(fresh)) = (inputs.take(past)?.into_data(), fresh.get::<f32>()) else {
        return Err(fault);
    };
    let mut all = before.into_vec();
    all.extend_from_slice(fresh);
    let found = all.len();
    Tensor::new(shape.clone(), Data::F32(Buffer::from(all)))
        .ok_or_else(|| Fault::shape(format!("{found} elements"), dims(&shape)))
}

/// One attention on its way.
struct Job<'j> {
    of: SelfAttention,
    sizes: Sizes,
    query: &'j [f32],
    key: &'j [f32],
    value: &'j [f32],
    /// Keys of each element of the batch.
    keys: usize,
    mask: Option<&'j [i64]>,
}

impl Job<'_> {
    /// The keys that query `row` sees.
    fn seen(&self, row: usize) -> std::ops::Range<usize> {
        let own = self.keys - self.sizes.times + row;
        match self.of.sees {
            Sees::All => 0..self.keys,
            Sees::Before => 0..own + 1,
            Sees::Window(window) => (own + 1).saturating_sub(window)..own + 1,
        }
    }

    /// Answers the queries from `first` on of one head: as many rows as `out` has.
    fn block(
        &self,
        batch: usize,
        head: usize,
        first: usize,
        out: &mut [f32],
        context: &Context<'_>,
    ) -> Result<(), Fault> {
        let Sizes { times, heads, kv_heads, size, width, .. } = self.sizes;
        let level = Level::best();
        let rows = out.len() / width;
        let kv_head = head / (heads / kv_heads);
        let range = self.seen(first).start..self.seen(first + rows - 1).end;
        let keys = range.len();
        let at_query = ((batch * times + first) * heads + head) * size;
        let at_key = |width: usize| ((batch * self.keys + range.start) * kv_heads + kv_head) * width;
        let (key, value) = (&self.key[at_key(size)..], &self.value[at_key(width)..]);
        let mut scores = context.scratch(rows * keys);
        let way = Way { add: false, scale: self.of.scale, parallel: false };
        if rows == 1 {
            let query = &self.query[at_query..at_query + size];
            for (score, key) in scores.iter_mut().zip(key.chunks(kv_heads * size)) {
                *score = dot(level, query, &key[..size]) * self.of.scale;
            }
        } else {
            let query = Matrix::strided(&self.query[at_query..], (rows, size), (heads * size, 1))?;
            let key = Matrix::strided(key, (keys, size), (kv_heads * size, 1))?;
            mm(Target::rows(&mut scores, rows, keys)?, query, key.transposed(), way)?;
        }
        if let Some(cap) = self.of.cap {
            capped(level, &mut scores, cap);
        }
        for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
            let seen = self.seen(first + row);
            scores[..seen.start - range.start].fill(f32::NEG_INFINITY);
            scores[seen.end - range.start..].fill(f32::NEG_INFINITY);
            if let Some(mask) = self.mask {
                let mask = &mask[batch * self.keys + range.start..][..keys];
                scores.iter_mut().zip(mask).filter(|(_, seen)| **seen == 0).for_each(|(x, _)| *x = f32::NEG_INFINITY);
            }
            softmax(level, scores);
        }
        if rows == 1 {
            out.fill(0.0);
            for (score, value) in scores.iter().zip(value.chunks(kv_heads * width)) {
                out.iter_mut().zip(value).for_each(|(y, v)| *y += score * v);
            }
        } else {
            let way = Way { add: false, scale: 1.0, parallel: false };
            let value = Matrix::strided(value, (keys, width), (kv_heads * width, 1))?;
            mm(Target::rows(out, rows, width)?, Matrix::rows(&scores, rows, keys)?, value, way)?;
        }
        context.put(scores);
        Ok(())
    }

    /// Answers all queries, head after head.
    fn all(&self, out: &mut [f32], context: &Context<'_>) -> Result<(), Fault> {
        let Sizes { times, heads, width, .. } = self.sizes;
        out.par_chunks_exact_mut(times * width).enumerate().try_for_each(|(at, out)| {
            out.par_chunks_mut(BLOCK * width)
                .enumerate()
                .try_for_each(|(block, out)| self.block(at / heads, at % heads, block * BLOCK, out, context))
        })
    }
}

stamp! {
    fn softmax = softmax_body(row: &mut [f32]) -> ();
}

/// Where nothing is seen, nothing is taken.
#[inline(always)]
fn softmax_body(row: &mut [f32]) {
    let most = row.iter().fold(f32::NEG_INFINITY, |most, x| most.max(*x));
    if most == f32::NEG_INFINITY {
        return row.fill(0.0);
    }
    for x in row.iter_mut() {
        *x = math::exp(*x - most);
    }
    let mut sums = [0.0f32; 16];
    for part in row.chunks(16) {
        sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += *x);
    }
    let sum: f32 = sums.iter().sum();
    row.iter_mut().for_each(|x| *x /= sum);
}

impl SelfAttention {
    /// The same in doubles, by definition.
    fn doubles(
        &self,
        inputs: &Inputs,
        sizes: Sizes,
        [key, value]: [Tensor; 2],
        mask: Option<&[i64]>,
    ) -> Result<Vec<Tensor>, Fault> {
        let keys = key.shape()[key.rank() - 3];
        let (Some(of_key), Some(of_value)) = (key.get::<f64>(), value.get::<f64>()) else {
            return Err(Fault::dtype(1, &key, "double"));
        };
        if mask.is_some_and(|mask| mask.len() != sizes.batch * keys) {
            return Err(Fault::shape("a mask of another size", format!("{}x{keys}", sizes.batch)));
        }
        let query = inputs.elements::<f64>(0, "double")?;
        let mut shape = inputs.get(0)?.shape().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = sizes.width;
        }
        let mut out = vec![0.0; sizes.batch * sizes.times * sizes.heads * sizes.width];
        back::Whole { of: *self, sizes, query, key: of_key, value: of_value, keys, mask }.forward(&mut out)?;
        let len = out.len();
        Ok(vec![crate::real::made(shape, Data::F64(Buffer::from(out)), len)?, key, value])
    }

    /// The rows of all heads, turned so that those of one position are together.
    fn turned(sizes: &Sizes, from: &[f32], out: &mut [f32]) {
        let Sizes { times, heads, width, .. } = *sizes;
        out.par_chunks_exact_mut(heads * width).enumerate().for_each(|(at, out)| {
            let (batch, time) = (at / times, at % times);
            for (head, out) in out.chunks_exact_mut(width).enumerate() {
                let at = ((batch * heads + head) * times + time) * width;
                out.copy_from_slice(&from[at..at + width]);
            }
        });
    }
}

impl Operator for SelfAttention {
    fn name(&self) -> &'static str {
        "SelfAttention"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let sizes = Sizes::new(inputs)?;
        if self.sees == Sees::Window(0) {
            return Err(Fault::shape("a window of 0", "1 or more"));
        }
        let key = appended(inputs, 1, 3)?;
        let value = appended(inputs, 2, 4)?;
        let axis = key.rank() - 3;
        let keys = key.shape()[axis];
        if value.shape()[axis] != keys {
            return Err(Fault::shape(format!("{} values", value.shape()[axis]), format!("{keys}, as keys")));
        }
        let mask = inputs.optional(5).map(|_| inputs.elements::<i64>(5, "int64")).transpose()?;
        if inputs.get(0)?.dtype() == Dtype::F64 {
            return self.doubles(inputs, sizes, [key, value], mask);
        }
        if mask.is_some_and(|mask| mask.len() != sizes.batch * keys) {
            return Err(Fault::shape("a mask of another size", format!("{}x{keys}", sizes.batch)));
        }
        let query = inputs.elements::<f32>(0, "float")?;
        let (Some(of_key), Some(of_value)) = (key.get::<f32>(), value.get::<f32>()) else {
            return Err(Fault::dtype(1, &key, "float"));
        };
        let mut shape = inputs.get(0)?.shape().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = sizes.width;
        }
        let mut out = context.buffer(&shape)?;
        if !out.is_empty() {
            let job = Job { of: *self, sizes, query, key: of_key, value: of_value, keys, mask };
            if sizes.times == 1 {
                job.all(&mut out, context)?;
            } else {
                let mut heads = context.scratch(out.len());
                job.all(&mut heads, context)?;
                Self::turned(&sizes, &heads, &mut out);
                context.put(heads);
            }
        }
        let mut results = crate::ops::linear::made(shape, out)?;
        results.extend([key, value]);
        Ok(results)
    }

    fn macs(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        let (Some(Some(query)), Some([keys, ..]), Some(made)) = (inputs.first(), outputs.get(1), outputs.first())
        else {
            return 0;
        };
        let keys =
            if query.len() == 4 { outputs.get(1).and_then(|key| key.get(1)).copied().unwrap_or(0) } else { *keys };
        let each = |shape: &[usize]| shape.iter().fold(keys as u64, |all, dim| all.saturating_mul(*dim as u64));
        each(query).saturating_add(each(made))
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
