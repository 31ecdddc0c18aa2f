//! Gradients of attention. With S the scaled products that are seen, P their softmax, Y = P V:
//!
//! ```text
//! dV = Pᵀ dY
//! dS = P (dY Vᵀ - Σ P (dY Vᵀ))     times 1 - (S / cap)² where scores are capped
//! dQ = scale dS K
//! dK = scale dSᵀ Q
//! ```
//!
//! P is computed once more. A key serves several heads: their gradients are added in order.

use rayon::prelude::*;

use super::{Sees, SelfAttention, Sizes};
use crate::fault::{Fault, dims};
use crate::kernels::mm::{Matrix, Target, Way, mm};
use crate::operator::Context;
use crate::real::{Real, in_reals};
use crate::reverse::{Keeps, Pass, Pullback};
use crate::tensor::Tensor;

/// Queries, keys and values where they stand, and what of them is seen.
pub(super) struct Whole<'w, T> {
    pub(super) of: SelfAttention,
    pub(super) sizes: Sizes,
    pub(super) query: &'w [T],
    pub(super) key: &'w [T],
    pub(super) value: &'w [T],
    /// Keys of each element of the batch.
    pub(super) keys: usize,
    pub(super) mask: Option<&'w [i64]>,
}

/// Rows of one head: those of `[times, heads, size]` that are `heads size` apart.
fn head<T: Real>(all: &[T], [batch, times, heads, size]: [usize; 4], at: [usize; 2]) -> Result<Matrix<'_, T>, Fault> {
    let from = (at[0].min(batch) * times * heads + at[1]) * size;
    Matrix::strided(&all[from.min(all.len())..], (times, size), (heads * size, 1))
}

impl<T: Real> Whole<'_, T> {
    fn keys_of(&self) -> [usize; 4] {
        [self.sizes.batch, self.keys, self.sizes.kv_heads, self.sizes.size]
    }

    fn values_of(&self) -> [usize; 4] {
        [self.sizes.batch, self.keys, self.sizes.kv_heads, self.sizes.width]
    }

    fn queries_of(&self) -> [usize; 4] {
        [self.sizes.batch, self.sizes.times, self.sizes.heads, self.sizes.size]
    }

    /// The key's head that serves a head.
    fn served(&self, head: usize) -> usize {
        head / (self.sizes.heads / self.sizes.kv_heads)
    }

    /// The scores of one head as they go into the softmax, capped; and their softmax.
    pub(super) fn shares(&self, batch: usize, of: usize) -> Result<[Vec<T>; 2], Fault> {
        let (times, keys) = (self.sizes.times, self.keys);
        let mut scores = vec![T::ZERO; times * keys];
        let query = head(self.query, self.queries_of(), [batch, of])?;
        let key = head(self.key, self.keys_of(), [batch, self.served(of)])?;
        let way = Way { add: false, scale: T::near(f64::from(self.of.scale)), parallel: false };
        mm(Target::rows(&mut scores, times, keys)?, query, key.transposed(), way)?;
        if let Some(cap) = self.of.cap {
            let cap = T::near(f64::from(cap));
            scores.iter_mut().for_each(|x| *x = (*x / cap).tanh() * cap);
        }
        let mut shares = scores.clone();
        for (row, shares) in shares.chunks_exact_mut(keys.max(1)).enumerate() {
            let own = keys - times + row;
            let (from, to) = match self.of.sees {
                Sees::All => (0, keys),
                Sees::Before => (0, own + 1),
                Sees::Window(window) => ((own + 1).saturating_sub(window), own + 1),
            };
            let mask = self.mask.map(|mask| &mask[batch * keys..][..keys]);
            let hidden = |at: usize| at < from || at >= to || mask.is_some_and(|mask| mask[at] == 0);
            let mut top = T::LOWEST;
            for (at, x) in shares.iter_mut().enumerate() {
                *x = if hidden(at) { T::LOWEST } else { *x };
                top = top.max(*x);
            }
            if top == T::LOWEST {
                shares.fill(T::ZERO);
                continue;
            }
            let mut sum = T::ZERO;
            for x in shares.iter_mut() {
                *x = (*x - top).exp();
                sum += *x;
            }
            shares.iter_mut().for_each(|x| *x = *x / sum);
        }
        Ok([scores, shares])
    }

    /// The results: what doubles are computed by.
    pub(super) fn forward(&self, out: &mut [T]) -> Result<(), Fault> {
        let Sizes { batch, times, heads, width, .. } = self.sizes;
        for (b, of) in (0..batch).flat_map(|b| (0..heads).map(move |of| (b, of))) {
            let [_, shares] = self.shares(b, of)?;
            let value = head(self.value, self.values_of(), [b, self.served(of)])?;
            let to = Target::strided(&mut out[(b * times * heads + of) * width..], (times, width), heads * width)?;
            mm(to, Matrix::rows(&shares, times, self.keys)?, value, Way { parallel: false, ..Way::replace() })?;
        }
        Ok(())
    }

    /// Adds what one key's head and the heads that it serves give.
    fn group(&self, batch: usize, kv: usize, g: &[T]) -> Result<[Vec<T>; 3], Fault> {
        let Sizes { times, heads, kv_heads, size, width, .. } = self.sizes;
        let (keys, each) = (self.keys, heads / kv_heads);
        let (mut dq, mut dk) = (vec![T::ZERO; each * times * size], vec![T::ZERO; keys * size]);
        let mut dv = vec![T::ZERO; keys * width];
        let (mut slopes, one) = (vec![T::ZERO; times * keys], Way { parallel: false, ..Way::replace() });
        let value = head(self.value, self.values_of(), [batch, kv])?;
        let key = head(self.key, self.keys_of(), [batch, kv])?;
        for (nth, dq) in dq.chunks_exact_mut((times * size).max(1)).enumerate() {
            let of = kv * each + nth;
            let [scores, shares] = self.shares(batch, of)?;
            let dy = head(g, [self.sizes.batch, times, heads, width], [batch, of])?;
            let seen = Matrix::rows(&shares, times, keys)?;
            mm(Target::rows(&mut dv, keys, width)?, seen.transposed(), dy, Way { add: true, ..one })?;
            mm(Target::rows(&mut slopes, times, keys)?, dy, value.transposed(), one)?;
            let rows = slopes.chunks_exact_mut(keys.max(1)).zip(shares.chunks_exact(keys.max(1)));
            for ((slopes, shares), scores) in rows.zip(scores.chunks_exact(keys.max(1))) {
                let sum: T = slopes.iter().zip(shares).map(|(slope, share)| *slope * *share).sum();
                for ((slope, share), score) in slopes.iter_mut().zip(shares).zip(scores) {
                    *slope = *share * (*slope - sum);
                    if let Some(cap) = self.of.cap {
                        let part = *score / T::near(f64::from(cap));
                        *slope = *slope * (T::ONE - part * part);
                    }
                }
            }
            let scale = T::near(f64::from(self.of.scale));
            let slopes = Matrix::rows(&slopes, times, keys)?;
            mm(Target::rows(dq, times, size)?, slopes, key, Way { scale, ..one })?;
            let query = head(self.query, self.queries_of(), [batch, of])?;
            mm(Target::rows(&mut dk, keys, size)?, slopes.transposed(), query, Way { scale, add: true, ..one })?;
        }
        Ok([dq, dk, dv])
    }

    fn back(&self, pass: &Pass, g: &[T], context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let Sizes { batch, times, heads, kv_heads, size, width } = self.sizes;
        let group = |at: usize| self.group(at / kv_heads, at % kv_heads, g);
        let all = (0..batch * kv_heads).into_par_iter().map(group).collect::<Result<Vec<_>, _>>()?;
        let mut out = [0, 1, 2].map(|at| pass.shape(at).and_then(|shape| T::buffer(context, shape)));
        let [Ok(dq), Ok(dk), Ok(dv)] = &mut out else {
            return Err(Fault::shape("gradients of attention", "room for them"));
        };
        let place = |out: &mut [T], rows: &[T], [from, apart, wide]: [usize; 3]| {
            for (row, rows) in rows.chunks_exact(wide.max(1)).enumerate() {
                out[from + row * apart..][..wide].copy_from_slice(rows);
            }
        };
        let each = heads / kv_heads;
        for (at, [of_q, of_k, of_v]) in all.iter().enumerate() {
            let (b, kv) = (at / kv_heads, at % kv_heads);
            for (nth, rows) in of_q.chunks_exact((times * size).max(1)).enumerate() {
                place(dq, rows, [(b * times * heads + kv * each + nth) * size, heads * size, size]);
            }
            place(dk, of_k, [(b * self.keys * kv_heads + kv) * size, kv_heads * size, size]);
            place(dv, of_v, [(b * self.keys * kv_heads + kv) * width, kv_heads * width, width]);
        }
        let mut found = Vec::with_capacity(3);
        for (at, all) in out.into_iter().enumerate() {
            found.push(Some(pass.of_input(at, all?)?));
        }
        Ok(found)
    }
}

impl Pullback for SelfAttention {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING.input(0).input(1).input(2).input(5)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let before = |at: usize| pass.shape(at).is_ok_and(|shape| !shape.contains(&0));
        if before(3) || before(4) || pass.gradient(1).is_some() || pass.gradient(2).is_some() {
            return Err(Fault::Unsupported("a gradient through a cache of keys".to_owned()));
        }
        in_reals!(pass.dtype(0)?, T => whole::<T>(self, pass, context))
    }
}

fn whole<T: Real>(of: &SelfAttention, pass: &Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
    let masked = pass.has(5);
    let split = |at: usize| match (pass.shape(at)?, masked) {
        (&[times, heads, size], false) => Ok([1, times, heads, size]),
        (&[batch, times, heads, size], true) => Ok([batch, times, heads, size]),
        (other, _) => Err(Fault::shape(dims(other), "[T, heads, size]")),
    };
    let ([batch, times, heads, size], [_, keys, kv_heads, _], [.., width]) = (split(0)?, split(1)?, split(2)?);
    let sizes = Sizes { batch, times, heads, kv_heads, size, width };
    let mask = if masked { Some(pass.elements::<i64>(5)?) } else { None };
    let (query, key, value) = (pass.elements(0)?, pass.elements(1)?, pass.elements(2)?);
    Whole { of: *of, sizes, query, key, value, keys, mask }.back(pass, pass.gradient_elements::<T>(0)?, context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reverse::check::{gradients_of_first, random};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for sees in [Sees::All, Sees::Before, Sees::Window(2)] {
            for cap in [None, Some(0.8)] {
                let of = SelfAttention { scale: 0.7, sees, cap };
                let plain = [random(&[5, 4, 3], 1), random(&[5, 2, 3], 2), random(&[5, 2, 2], 3)];
                gradients_of_first(&of, &plain, &[0, 1, 2]);
                let mask = Tensor::of([2, 4], vec![1i64, 1, 0, 1, 0, 1, 1, 1]);
                let masked = [random(&[2, 4, 2, 3], 1), random(&[2, 4, 2, 3], 2), random(&[2, 4, 2, 3], 3)];
                let masked: Vec<_> = masked.into_iter().chain([None, None, mask]).collect();
                gradients_of_first(&of, &masked, &[0, 1, 2]);
            }
        }
    }
}
