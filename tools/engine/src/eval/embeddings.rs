//! Models that make a vector of a text: encoders.
//!
//! The vector of a text is the mean of the last layer's vectors of its tokens, of length 1, unless a folder of
//! sentence-transformers says otherwise ([`Sentences`]).

use std::path::Path;

use niwaki_model::{Encoder, Pooling, Tensor, Text};
use niwaki_tensors::{Overwrite, write_file};

use super::Evaluation;
use super::scores::cosine;
use super::text::utf8;
use crate::dataset::{DataFault, Tokens};
use crate::error::{Error, ErrorKind};
use crate::progress::Progress;
use crate::sentences::Sentences;
use crate::text::Tokenizer;

/// Texts that are run at a time.
const BATCH: usize = 16;

/// Texts of which every pair is compared.
const PAIRED: usize = 2048;

/// Texts as tokens, and their classes.
#[derive(Debug)]
pub struct Texts {
    all: Vec<Vec<u32>>,
    /// Of each text; empty where they have none.
    labels: Vec<usize>,
    /// How the vectors of their tokens become one.
    pooling: Pooling,
}

impl Texts {
    /// The texts of a file: of a dataset of tokens its windows, as they are; of a text in UTF-8 its
    /// lines that are not blank, of which the tokenizer of a model's folder makes tokens, with those
    /// that the model expects around them, cut to as many as the model allows, `context`, or its folder says. In a file named `.tsv` a text's
    /// class stands before it, and a tab between: one of `classes`, or its number.
    ///
    /// # Errors
    ///
    /// Those of [`Tokens::open`], [`Sentences::open`] and [`Tokenizer::open`]; a file without texts, a text without
    /// tokens, and one without a class or with one that is not known.
    pub fn open(data: &Path, folder: &Path, context: usize, classes: &[String]) -> Result<Self, Error> {
        let sentences = Sentences::open(folder)?;
        let pooling = sentences.pooling.clone();
        let named = |extension: &str| data.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
        if named("safetensors") {
            let tokens = Tokens::open(data)?;
            let window = |at| {
                let mut window = vec![0; tokens.length()];
                tokens.batch([at], &mut window).map(|()| window)
            };
            let all = (0..tokens.len()).map(window).collect::<Result<_, _>>()?;
            return Ok(Self { all, labels: Vec::new(), pooling });
        }
        let tokenizer = Tokenizer::open(folder)?.within(sentences.most(context))?;
        let wrong = |found: String, expected: &str| {
            Error::from(ErrorKind::Data(DataFault::File { found, expected: expected.to_owned() })).at(data)
        };
        let of_lines = |text: &str| {
            let (mut all, mut labels) = (Vec::new(), Vec::new());
            for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let text = if named("tsv") {
                    let (class, text) = line.split_once('\t').unwrap_or((line, ""));
                    let class = class_of(class, classes);
                    labels.push(class.ok_or_else(|| {
                        let known =
                            if classes.is_empty() { "a model that tells classes" } else { "CLASS, a tab and a text" };
                        wrong(format!("line {} has no class of the model's", at + 1), known)
                    })?);
                    text
                } else {
                    line
                };
                let tokens = tokenizer.tokens(&sentences.text(text), true)?;
                if tokens.is_empty() {
                    return Err(wrong(format!("line {} has no tokens", at + 1), "at least one"));
                }
                all.push(tokens);
            }
            Ok(Self { all, labels, pooling })
        };
        let texts = utf8(data, of_lines)?;
        if texts.is_empty() { Err(wrong("has blank lines only".to_owned(), "a text a line")) } else { Ok(texts) }
    }

    /// The class of text number `at`; none where they have none.
    pub(crate) fn label(&self, at: usize) -> Option<usize> {
        self.labels.get(at).copied()
    }

    /// How the vectors of their tokens become one.
    pub(crate) fn pooling(&self) -> &Pooling {
        &self.pooling
    }

    /// Whether they have classes.
    pub fn labelled(&self) -> bool {
        !self.labels.is_empty()
    }

    /// The tokens of text number `at`.
    pub(crate) fn get(&self, at: usize) -> &[u32] {
        self.all.get(at).map_or(&[], Vec::as_slice)
    }

    /// The first `limit` of them, a few at a time: those of one length together, so that nothing is filled up.
    pub(super) fn batches(&self, limit: Option<usize>) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..limit.unwrap_or(usize::MAX).min(self.len())).collect();
        order.sort_by_key(|at| self.get(*at).len());
        order.chunks(BATCH).map(<[usize]>::to_vec).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// A class by its name, or its number.
fn class_of(text: &str, classes: &[String]) -> Option<usize> {
    let named = classes.iter().position(|name| name == text);
    named.or_else(|| text.parse().ok().filter(|class| *class < classes.len()))
}

/// The vectors of the first `limit` texts, [texts, width]. Against a `reference`, the same model with other weights,
/// those of both are compared: the mean and the least cosine of a text's two vectors, and how the
/// cosines of all pairs of the first 2048 texts correlate.
///
/// # Errors
///
/// Texts that are longer than the model allows; tokens that it does not have; a reference of another
/// width.
pub fn evaluate(
    encoder: &Encoder,
    reference: Option<&Encoder>,
    texts: &Texts,
    limit: Option<usize>,
    progress: Progress<'_>,
) -> Result<(Evaluation, Tensor), Error> {
    let batches = texts.batches(limit);
    let count = batches.iter().map(Vec::len).sum();
    let mut of_model = Rows::new(count);
    let mut of_reference = Rows::new(count);
    let mut done = 0;
    for batch in &batches {
        let each: Vec<Text<'_>> = batch.iter().map(|at| Text::from(texts.get(*at))).collect();
        of_model.put(batch, &encoder.embed_by(&each, texts.pooling())?)?;
        if let Some(reference) = reference {
            of_reference.put(batch, &reference.embed_by(&each, texts.pooling())?)?;
        }
        done += batch.len() as u64;
        progress(done, count as u64);
    }
    let mut found = Evaluation { examples: count as u64, ..Evaluation::default() };
    if reference.is_some() {
        if of_model.width != of_reference.width {
            return Err(ErrorKind::Unlike { what: "a reference of another width".to_owned() }.into());
        }
        let cosines: Vec<f64> = of_model.rows().zip(of_reference.rows()).map(|(a, b)| cosine(a, b)).collect();
        found.cosine = (!cosines.is_empty()).then(|| cosines.iter().sum::<f64>() / cosines.len() as f64);
        found.cosine_min = cosines.into_iter().reduce(f64::min);
        found.similarity_correlation = correlation(&pairs(&of_model), &pairs(&of_reference));
    }
    Ok((found, of_model.tensor()?))
}

/// Writes vectors as `embeddings` F32 [N, width].
///
/// # Errors
///
/// Those of writing.
pub fn write(embeddings: &Tensor, out: &Path, overwrite: Overwrite) -> Result<(), Error> {
    let bytes = embeddings.data().to_bytes();
    Ok(write_file(out, &[("embeddings", embeddings.dtype(), embeddings.shape(), &bytes)], &[], overwrite)?)
}

/// Vectors in the order of their texts.
struct Rows {
    count: usize,
    width: usize,
    all: Vec<f32>,
}

impl Rows {
    fn new(count: usize) -> Self {
        Self { count, width: 0, all: Vec::new() }
    }

    /// Puts vectors where they belong.
    fn put(&mut self, places: &[usize], vectors: &Tensor) -> Result<(), Error> {
        let (&[_, width], Some(vectors)) = (vectors.shape(), vectors.get::<f32>()) else {
            return Err(ErrorKind::Unlike { what: "embeddings that are no vectors of floats".to_owned() }.into());
        };
        if self.all.is_empty() {
            self.width = width;
            self.all = vec![0.0; self.count * width];
        }
        for (place, vector) in places.iter().zip(vectors.chunks(width.max(1))) {
            self.all[place * width..(place + 1) * width].copy_from_slice(vector);
        }
        Ok(())
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.all.chunks(self.width.max(1))
    }

    fn tensor(self) -> Result<Tensor, Error> {
        let wrong = || ErrorKind::Unlike { what: "embeddings of several widths".to_owned() }.into();
        Tensor::of([self.count, self.width], self.all).ok_or_else(wrong)
    }
}

/// The cosines of all pairs of the first vectors.
fn pairs(of: &Rows) -> Vec<f64> {
    let rows: Vec<&[f32]> = of.rows().take(PAIRED).collect();
    rows.iter().enumerate().flat_map(|(at, a)| rows[at + 1..].iter().map(|b| cosine(a, b))).collect()
}

/// Pearson's correlation; none where one of both does not vary.
fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (of_a, of_b) = (mean(a), mean(b));
    let (mut product, mut squares_a, mut squares_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - of_a, b - of_b);
        product += a * b;
        squares_a += a * a;
        squares_b += b * b;
    }
    let lengths = f64::sqrt(squares_a) * f64::sqrt(squares_b);
    (lengths > 0.0).then(|| product / lengths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlation_is_that_of_pearson() {
        let near = |x: Option<f64>, y: f64| assert!(x.is_some_and(|x| (x - y).abs() < 1e-15), "{x:?} {y}");
        near(correlation(&[1.0, 2.0, 3.0], &[3.0, 5.0, 7.0]), 1.0);
        near(correlation(&[1.0, 2.0, 3.0], &[0.0, -2.0, -4.0]), -1.0);
        // Deviations (-1, 0, 1) and (-1, 1, 0): 1 / 2.
        near(correlation(&[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0]), 0.5);
        assert_eq!(correlation(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(correlation(&[], &[]), None);
    }

    #[test]
    fn vectors_go_where_their_texts_are() {
        let mut rows = Rows::new(3);
        let two = |all: [f32; 4]| Tensor::of([2, 2], all.to_vec()).ok_or(());
        let one = Tensor::of([1, 2], vec![5.0f32, 6.0]).ok_or(());
        let (two, one) = (two([1.0, 0.0, 0.0, 1.0]), one);
        assert!(two.is_ok_and(|two| rows.put(&[2, 0], &two).is_ok()));
        assert!(one.is_ok_and(|one| rows.put(&[1], &one).is_ok()));
        assert_eq!(rows.all, [0.0, 1.0, 5.0, 6.0, 1.0, 0.0]);
        // Cosines of (0, 1) and (5, 6), (0, 1) and (1, 0), (5, 6) and (1, 0).
        let length = 61f64.sqrt();
        for (found, truth) in pairs(&rows).into_iter().zip([6.0 / length, 0.0, 5.0 / length]) {
            assert!((found - truth).abs() < 1e-15, "{found} {truth}");
        }
    }
}
