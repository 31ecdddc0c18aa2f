//! Decoders: tokens in, logits of the next out, and a cache of what came before.

use std::ops::Range;

use crate::error::{Error, ErrorKind};
use crate::execute::{Executor, Run};
use crate::graph::ValueId;
use crate::hf::DecoderGraph;
use crate::tensor::Tensor;

/// A decoder that is ready to run.
#[derive(Debug)]
pub struct Decoder {
    executor: Executor,
    /// What it is, without its graph.
    of: DecoderGraph,
}

/// Keys and values of the text so far, as far as later tokens can see them. It grows in place.
#[derive(Debug)]
pub struct Cache {
    /// Keys and values of each layer in turn.
    tensors: Vec<Tensor>,
    len: usize,
}

/// Of which positions logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Of the last.
    Last,
    /// Of all.
    All,
}

impl Cache {
    /// Tokens of the text so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no text yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl DecoderGraph {
    /// Keys and values of no text.
    pub fn no_text(&self) -> Vec<Tensor> {
        let empty = |[heads, size]: &[usize; 2]| Tensor::of::<f32>([0, *heads, *size], Vec::new());
        self.cached.iter().flat_map(|each| [empty(each), empty(each)]).flatten().collect()
    }

    /// The graph's inputs for tokens that follow a text of `before` with those keys and values, and logits of `rows`.
    ///
    /// # Errors
    ///
    /// No tokens, or some that the model does not have.
    pub fn inputs(
        &self,
        tokens: &[u32],
        rows: Range<usize>,
        before: usize,
        cache: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, Error> {
        self.check(tokens)?;
        let mut inputs = vec![
            Tensor::vector(tokens.iter().map(|token| i64::from(*token)).collect()),
            Tensor::vector((before..before + tokens.len()).map(|at| at as i64).collect()),
            Tensor::vector(rows.map(|at| at as i64).collect()),
        ];
        inputs.extend(cache);
        Ok(inputs)
    }

    /// Refuses tokens that the model does not have.
    fn check(&self, tokens: &[u32]) -> Result<(), Error> {
        let wrong =
            |found: String, needs: String| Error::from(ErrorKind::Input { name: "input_ids".to_owned(), found, needs });
        if tokens.is_empty() {
            return Err(wrong("no token".to_owned(), "one or more".to_owned()));
        }
        if let Some(token) = tokens.iter().find(|token| **token as usize >= self.vocabulary) {
            return Err(wrong(format!("token {token}"), format!("less than {}", self.vocabulary)));
        }
        Ok(())
    }
}

impl Decoder {
    /// Makes a decoder ready.
    ///
    /// # Errors
    ///
    /// Those of [`Executor::new`].
    pub fn new(mut of: DecoderGraph) -> Result<Self, Error> {
        let graph = std::mem::take(&mut of.graph);
        Ok(Self { executor: Executor::new(graph)?, of })
    }

    /// What runs it.
    pub fn executor(&self) -> &Executor {
        &self.executor
    }

    /// The hidden states [tokens, width] between layers, for whoever watches a run: what the first takes,
    /// and what each gives.
    pub fn hidden(&self) -> &[ValueId] {
        &self.of.hidden
    }

    /// How many tokens there are.
    pub fn vocabulary(&self) -> usize {
        self.of.vocabulary
    }

    /// How long texts may be, as the model says it.
    pub fn context(&self) -> usize {
        self.of.context
    }

    /// A cache without text.
    pub fn cache(&self) -> Cache {
        Cache { tensors: self.of.no_text(), len: 0 }
    }

    /// Goes on with the text of the cache: logits [1, vocabulary] after the last token, or
    /// [tokens, vocabulary] after each. After an error the cache has no text.
    ///
    /// # Errors
    ///
    /// No tokens, or some that the model does not have.
    pub fn forward(&self, cache: &mut Cache, tokens: &[u32], wanted: Wanted) -> Result<Tensor, Error> {
        self.observed(cache, tokens, wanted, Run::default())
    }

    /// The same, watched.
    ///
    /// # Errors
    ///
    /// Those of [`forward`](Self::forward).
    pub fn observed(&self, cache: &mut Cache, tokens: &[u32], wanted: Wanted, how: Run<'_>) -> Result<Tensor, Error> {
        self.of.check(tokens)?;
        let past = std::mem::replace(cache, self.cache());
        let first = past.len;
        let rows = match wanted {
            Wanted::Last => tokens.len().saturating_sub(1)..tokens.len(),
            Wanted::All => 0..tokens.len(),
        };
        let inputs = self.of.inputs(tokens, rows, first, past.tensors)?;
        let mut outputs = self.executor.run(inputs, how)?.outputs.into_iter();
        let logits = outputs.next().ok_or(ErrorKind::Outputs { found: 0, needs: 1 })?;
        let windows = self.of.windows.iter().flat_map(|window| [*window; 2]);
        let tensors = outputs.zip(windows).map(|(tensor, window)| match window {
            Some(window) => latest(tensor, window),
            None => tensor,
        });
        *cache = Cache { tensors: tensors.collect(), len: first + tokens.len() };
        Ok(logits)
    }
}

/// A cache [P, heads, size] without what no later token sees: its last `window` positions. Only once as
/// much again has come, so that every position is moved once at most.
fn latest(tensor: Tensor, window: usize) -> Tensor {
    let &[all, heads, size] = tensor.shape() else { return tensor };
    if all < window.saturating_mul(2).max(1) {
        return tensor;
    }
    let kept = tensor.get::<f32>().map(|elements| elements[(all - window) * heads * size..].to_vec());
    kept.and_then(|kept| Tensor::of([window, heads, size], kept)).unwrap_or(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_cut_when_they_are_twice_a_window() {
        let of = |all: usize, window: usize| {
            let elements: Vec<f32> = (0..all * 2).map(|x| x as f32).collect();
            let cut = Tensor::of([all, 1, 2], elements).map(|tensor| latest(tensor, window));
            cut.map(|cut| (cut.shape()[0], cut.get::<f32>().and_then(|all| all.first().copied())))
        };
        assert_eq!(of(5, 3), Some((5, Some(0.0))));
        assert_eq!(of(6, 3), Some((3, Some(6.0))));
        assert_eq!(of(9, 3), Some((3, Some(12.0))));
        assert_eq!(of(4, 0), Some((0, None)));
        assert_eq!(of(0, 0), Some((0, None)));
    }
}
