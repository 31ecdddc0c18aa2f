//! Encoders: texts in, vectors of their tokens or one of each text out.

use crate::error::{Error, ErrorKind};
use crate::execute::{Executor, Run};
use crate::graph::ValueId;
use crate::hf::EncoderGraph;
use crate::pooling::Pooling;
use crate::tensor::Tensor;

/// An encoder that is ready to run.
#[derive(Debug)]
pub struct Encoder {
    executor: Executor,
    /// What it is, without its graph.
    of: EncoderGraph,
}

/// One text as tokens.
#[derive(Clone, Copy, Debug)]
pub struct Text<'t> {
    /// Its tokens.
    pub tokens: &'t [u32],
    /// Their types, where they are not all 0.
    pub types: Option<&'t [u32]>,
}

impl<'t> From<&'t [u32]> for Text<'t> {
    fn from(tokens: &'t [u32]) -> Self {
        Self { tokens, types: None }
    }
}

impl EncoderGraph {
    /// The graph's inputs for texts, filled up to the longest.
    ///
    /// # Errors
    ///
    /// No texts, texts without tokens or longer than the model allows, and tokens that it does not
    /// have.
    pub fn inputs(&self, texts: &[Text<'_>]) -> Result<Vec<Tensor>, Error> {
        let wrong =
            |found: String, needs: String| Error::from(ErrorKind::Input { name: "input_ids".to_owned(), found, needs });
        let longest = texts.iter().map(|text| text.tokens.len()).max().unwrap_or(0);
        if longest == 0 || longest > self.context || texts.iter().any(|text| text.tokens.is_empty()) {
            return Err(wrong(format!("a text of {longest} tokens at most"), format!("1 to {} of each", self.context)));
        }
        let most = texts.iter().flat_map(|text| text.tokens).copied().max().unwrap_or(0);
        if most as usize >= self.vocabulary {
            return Err(wrong(format!("token {most}"), format!("less than {}", self.vocabulary)));
        }
        let padded = |of: &dyn Fn(&Text<'_>, usize) -> u32| {
            let all = texts.iter().flat_map(|text| (0..longest).map(move |at| i64::from(of(text, at)))).collect();
            Tensor::of([texts.len(), longest], all)
                .ok_or_else(|| wrong(format!("{} texts of {longest} tokens", texts.len()), "fewer".to_owned()))
        };
        let at = |all: &[u32], at: usize| all.get(at).copied().unwrap_or(0);
        let inside = |text: &Text<'_>, at: usize| at < text.tokens.len();
        let first = self.first as u32;
        let mut inputs = vec![
            padded(&|text, nth| at(text.tokens, nth))?,
            padded(&|text, nth| if inside(text, nth) { first + nth as u32 } else { first.saturating_sub(1) })?,
            padded(&|text, nth| u32::from(inside(text, nth)))?,
        ];
        if self.types {
            inputs.push(padded(&|text, nth| text.types.map_or(0, |types| at(types, nth)))?);
        }
        Ok(inputs)
    }
}

impl Encoder {
    /// Makes an encoder ready.
    ///
    /// # Errors
    ///
    /// Those of [`Executor::new`].
    pub fn new(mut of: EncoderGraph) -> Result<Self, Error> {
        let graph = std::mem::take(&mut of.graph);
        Ok(Self { executor: Executor::new(graph)?, of })
    }

    /// What runs it.
    pub fn executor(&self) -> &Executor {
        &self.executor
    }

    /// The hidden states [texts, longest, width] between layers, for whoever watches a run: what the first
    /// takes, and what each gives.
    pub fn hidden(&self) -> &[ValueId] {
        &self.of.hidden
    }

    /// How many tokens there are.
    pub fn vocabulary(&self) -> usize {
        self.of.vocabulary
    }

    /// How long texts may be.
    pub fn context(&self) -> usize {
        self.of.context
    }

    /// The names of the classes that it tells; none where it tells none.
    pub fn classes(&self) -> &[String] {
        &self.of.classes
    }

    /// Scores of classes, [texts, classes].
    ///
    /// # Errors
    ///
    /// Those of [`forward`](Self::forward), and an encoder that tells no classes.
    pub fn scores(&self, texts: &[Text<'_>]) -> Result<Tensor, Error> {
        let outcome = self.executor.run(self.of.inputs(texts)?, Run::default())?;
        outcome.outputs.into_iter().nth(1).ok_or_else(|| ErrorKind::Outputs { found: 1, needs: 2 }.into())
    }

    /// The last hidden state [texts, longest, width]; behind the end of a text it means nothing.
    ///
    /// # Errors
    ///
    /// No texts, texts without tokens or longer than the model allows, and tokens that it does not
    /// have.
    pub fn forward(&self, texts: &[Text<'_>]) -> Result<Tensor, Error> {
        self.observed(texts, Run::default())
    }

    /// The same, watched.
    ///
    /// # Errors
    ///
    /// Those of [`forward`](Self::forward).
    pub fn observed(&self, texts: &[Text<'_>], how: Run<'_>) -> Result<Tensor, Error> {
        let inputs = self.of.inputs(texts)?;
        let outcome = self.executor.run(inputs, how)?;
        outcome.outputs.into_iter().next().ok_or_else(|| ErrorKind::Outputs { found: 0, needs: 1 }.into())
    }

    /// A vector of length 1 for each text, [texts, width]: the mean of its tokens' vectors.
    ///
    /// # Errors
    ///
    /// Those of [`forward`](Self::forward).
    pub fn embed(&self, texts: &[Text<'_>]) -> Result<Tensor, Error> {
        self.embed_by(texts, &Pooling::default())
    }

    /// A vector for each text, [texts, width times the modes].
    ///
    /// # Errors
    ///
    /// Those of [`forward`](Self::forward), and a pooling without modes.
    pub fn embed_by(&self, texts: &[Text<'_>], pooling: &Pooling) -> Result<Tensor, Error> {
        let hidden = self.forward(texts)?;
        let lengths: Vec<usize> = texts.iter().map(|text| text.tokens.len()).collect();
        let wrong = || ErrorKind::Model("a last hidden state of other dimensions".to_owned()).into();
        pooling.of(&hidden, &lengths).ok_or_else(wrong)
    }
}
