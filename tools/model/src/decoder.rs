//! Decoders: tokens in, logits of the next out, and a cache of what came before.

use crate::error::{Error, ErrorKind};
use crate::execute::{Executor, Run};
use crate::hf::DecoderGraph;
use crate::tensor::Tensor;

/// A decoder that is ready to run.
#[derive(Debug)]
pub struct Decoder {
    executor: Executor,
    cached: Vec<[usize; 2]>,
    vocabulary: usize,
    context: usize,
}

/// Keys and values of the text so far. It grows in place.
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

impl Decoder {
    /// Makes a decoder ready.
    ///
    /// # Errors
    ///
    /// Those of [`Executor::new`].
    pub fn new(of: DecoderGraph) -> Result<Self, Error> {
        let DecoderGraph { graph, cached, vocabulary, context } = of;
        Ok(Self { executor: Executor::new(graph)?, cached, vocabulary, context })
    }

    /// What runs it.
    pub fn executor(&self) -> &Executor {
        &self.executor
    }

    /// How many tokens there are.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// How long texts may be, as the model says it.
    pub fn context(&self) -> usize {
        self.context
    }

    /// A cache without text.
    pub fn cache(&self) -> Cache {
        let empty = |[heads, size]: &[usize; 2]| Tensor::of::<f32>([0, *heads, *size], Vec::new());
        let tensors = self.cached.iter().flat_map(|each| [empty(each), empty(each)]).flatten().collect();
        Cache { tensors, len: 0 }
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
        let wrong =
            |found: String, needs: String| Error::from(ErrorKind::Input { name: "input_ids".to_owned(), found, needs });
        if tokens.is_empty() {
            return Err(wrong("no token".to_owned(), "one or more".to_owned()));
        }
        if let Some(token) = tokens.iter().find(|token| **token as usize >= self.vocabulary) {
            return Err(wrong(format!("token {token}"), format!("less than {}", self.vocabulary)));
        }
        let past = std::mem::replace(cache, self.cache());
        let first = past.len;
        let integers = |all: Vec<i64>| Tensor::vector(all);
        let last = tokens.len() - 1;
        let rows = match wanted {
            Wanted::Last => last..tokens.len(),
            Wanted::All => 0..tokens.len(),
        };
        let mut inputs = vec![
            integers(tokens.iter().map(|token| i64::from(*token)).collect()),
            integers((first..first + tokens.len()).map(|at| at as i64).collect()),
            integers(rows.map(|at| at as i64).collect()),
        ];
        inputs.extend(past.tensors);
        let mut outputs = self.executor.run(inputs, how)?.outputs.into_iter();
        let logits = outputs.next().ok_or(ErrorKind::Outputs { found: 0, needs: 1 })?;
        *cache = Cache { tensors: outputs.collect(), len: first + tokens.len() };
        Ok(logits)
    }
}
