//! One vector of the vectors of a text's tokens.
//!
//! ```text
//! [texts, longest, width] --mode--> [texts, width]
//!                         --mode--> [texts, width]  } beside each other --> of length 1, where that is asked for
//! ```
//!
//! Modes and their formulas are those of sentence-transformers (Reimers and Gurevych, *Sentence-BERT*, 2019, and the code
//! since); tokens behind the end of a text count nowhere.

use crate::tensor::Tensor;

/// How the vectors of tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// That of the first token.
    First,
    /// The largest of each number.
    Max,
    /// Their mean.
    Mean,
    /// Their sum over the root of how many there are.
    RootMean,
    /// Their mean, the nth of which counts n times.
    Weighted,
    /// That of the last token.
    Last,
}

/// How a text gets its vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pooling {
    /// One after the other: the vector has as many times the width.
    pub modes: Vec<PoolMode>,
    /// Whether vectors are made of length 1.
    pub normalize: bool,
}

impl Default for Pooling {
    /// The mean, of length 1.
    fn default() -> Self {
        Self { modes: vec![PoolMode::Mean], normalize: true }
    }
}

impl PoolMode {
    /// The vector of a text of `rows`; all zeros of none.
    fn of(self, rows: &[&[f32]], out: &mut [f64]) {
        let sum = |out: &mut [f64], weigh: &dyn Fn(usize) -> f32| {
            let mut all = vec![0.0f32; out.len()];
            for (nth, row) in rows.iter().enumerate() {
                let by = weigh(nth);
                all.iter_mut().zip(*row).for_each(|(sum, x)| *sum += by * *x);
            }
            out.iter_mut().zip(all).for_each(|(out, sum)| *out = f64::from(sum));
        };
        let copy = |out: &mut [f64], row: Option<&&[f32]>| {
            row.into_iter().for_each(|row| out.iter_mut().zip(*row).for_each(|(out, x)| *out = f64::from(*x)));
        };
        let count = rows.len().max(1) as f64;
        let over = match self {
            Self::First => return copy(out, rows.first()),
            Self::Last => return copy(out, rows.last()),
            Self::Max => {
                copy(out, rows.first());
                return rows.iter().for_each(|row| {
                    out.iter_mut().zip(*row).for_each(|(out, x)| *out = out.max(f64::from(*x)));
                });
            }
            Self::Mean | Self::RootMean => {
                sum(out, &|_| 1.0);
                if self == Self::Mean { count } else { count.sqrt() }
            }
            Self::Weighted => {
                sum(out, &|nth| (nth + 1) as f32);
                count * (count + 1.0) / 2.0
            }
        };
        out.iter_mut().for_each(|x| *x /= over);
    }
}

impl Pooling {
    /// A vector for each text, [texts, width times the modes], of its tokens' [texts, longest, width]. None of what is no
    /// such tensor of floats.
    pub fn of(&self, hidden: &Tensor, lengths: &[usize]) -> Option<Tensor> {
        let (&[texts, longest, width], all) = (hidden.shape(), hidden.get::<f32>()?) else { return None };
        let wide = width * self.modes.len();
        if texts != lengths.len() || longest * wide == 0 {
            return None;
        }
        let mut out = Vec::with_capacity(texts * wide);
        for (length, rows) in lengths.iter().zip(all.chunks(longest * width)) {
            let rows: Vec<&[f32]> = rows.chunks(width).take(*length).collect();
            let mut vector = vec![0.0f64; wide];
            for (mode, out) in self.modes.iter().zip(vector.chunks_mut(width)) {
                mode.of(&rows, out);
            }
            let length = if self.normalize { vector.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12) } else { 1.0 };
            out.extend(vector.into_iter().map(|x| (x / length) as f32));
        }
        Tensor::of([texts, wide], out)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn each_mode_is_its_formula() {
        // Two texts of up to three tokens, two numbers each; the third token of the second is filling.
        let all = vec![1.0f32, -2.0, 3.0, 4.0, 5.0, -6.0, -1.0, 2.0, -3.0, 8.0, 100.0, 100.0];
        let hidden = Tensor::of([2, 3, 2], all).unwrap();
        let of = |modes: &[PoolMode], normalize| {
            let vectors = Pooling { modes: modes.to_vec(), normalize }.of(&hidden, &[3, 2]).unwrap();
            assert_eq!(vectors.shape(), [2, 2 * modes.len()]);
            vectors.get::<f32>().unwrap().to_vec()
        };
        assert_eq!(of(&[PoolMode::First], false), [1.0, -2.0, -1.0, 2.0]);
        assert_eq!(of(&[PoolMode::Last], false), [5.0, -6.0, -3.0, 8.0]);
        assert_eq!(of(&[PoolMode::Max], false), [5.0, 4.0, -1.0, 8.0]);
        assert_eq!(of(&[PoolMode::Mean], false), [3.0, (-4.0f64 / 3.0) as f32, -2.0, 5.0]);
        let roots = [9.0, -4.0, -4.0, 10.0].iter().zip([3f64, 3.0, 2.0, 2.0]).map(|(x, n): (&f64, f64)| x / n.sqrt());
        assert_eq!(of(&[PoolMode::RootMean], false), roots.map(|x| x as f32).collect::<Vec<_>>());
        // (1 + 2 3 + 3 5) / 6, and so on.
        let weighted = [22.0 / 6.0, -12.0 / 6.0, -7.0 / 3.0, 18.0 / 3.0].map(|x: f64| x as f32);
        assert_eq!(of(&[PoolMode::Weighted], false), weighted);
        let both = of(&[PoolMode::First, PoolMode::Max], true);
        let length = (1.0f64 + 4.0 + 25.0 + 16.0).sqrt();
        assert_eq!(both[..4], [1.0, -2.0, 5.0, 4.0].map(|x| (x / length) as f32));
        assert!(Pooling { modes: vec![], normalize: true }.of(&hidden, &[3, 2]).is_none());
        assert!(Pooling::default().of(&hidden, &[3]).is_none());
    }
}
