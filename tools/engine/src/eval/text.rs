//! Models that tell how text goes on.

use std::path::Path;

use niwaki_model::{Decoder, Wanted};
use niwaki_tensors::MappedFile;
use rayon::prelude::*;

use super::Evaluation;
use super::scores::Scores;
use crate::dataset::{DataFault, Tokens};
use crate::error::{Error, ErrorKind};
use crate::progress::Progress;
use crate::text::Tokenizer;

/// Tokens in a window of a text.
pub const WINDOW: usize = 512;

/// Bytes of a text at most: tokenizing takes many times as much memory.
const MOST: u64 = 1 << 28;

/// Windows of tokens, each of which a model sees from its beginning.
#[derive(Debug)]
pub enum Windows {
    /// Those of a dataset.
    Dataset(Tokens),
    /// Those of a text, one after the other; what fills none at the end is left out.
    Text {
        /// What each begins with.
        before: Vec<u32>,
        /// All tokens.
        tokens: Vec<u32>,
        /// Tokens of the text in each.
        length: usize,
    },
}

impl Windows {
    /// The windows of a file: of a dataset of tokens as they are, or of a text in UTF-8, which the
    /// tokenizer of a model's folder makes tokens of. Those of a text have [`WINDOW`] tokens, or as
    /// many as the model allows: `context`. Each begins with what the tokenizer puts before a text.
    ///
    /// # Errors
    ///
    /// Those of [`Tokens::open`] and [`Tokenizer::open`]; a text that fills no window.
    pub fn open(data: &Path, folder: &Path, context: usize) -> Result<Self, Error> {
        if data.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors")) {
            return Ok(Self::Dataset(Tokens::open(data)?));
        }
        let tokenizer = Tokenizer::open(folder)?;
        let tokens = utf8(data, |text| tokenizer.tokens(text, false))?;
        let found = tokens.len();
        let before = tokenizer.before()?;
        let length = WINDOW.min(context).saturating_sub(before.len()).max(1);
        if found < length {
            let (found, expected) = (format!("has {found} tokens"), format!("at least {length}, one window"));
            return Err(Error::from(ErrorKind::Data(DataFault::File { found, expected })).at(data));
        }
        Ok(Self::Text { before, tokens, length })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Dataset(tokens) => tokens.len(),
            Self::Text { tokens, length, .. } => tokens.len() / length,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens of window number `at`.
    pub fn get(&self, at: usize) -> Result<Vec<u32>, Error> {
        match self {
            Self::Dataset(tokens) => {
                let mut window = vec![0; tokens.length()];
                tokens.batch([at], &mut window)?;
                Ok(window)
            }
            Self::Text { before, tokens, length } => {
                let of_text = tokens.get(at * length..(at + 1) * length).unwrap_or_default();
                Ok([before, of_text].concat())
            }
        }
    }
}

/// What is made of a text in UTF-8, which must not change meanwhile.
pub(super) fn utf8<T>(data: &Path, made: impl FnOnce(&str) -> Result<T, Error>) -> Result<T, Error> {
    let file = MappedFile::open(data)?;
    let wrong = |fault: DataFault| Error::from(ErrorKind::Data(fault)).at(data);
    let bytes = file.bytes();
    if bytes.len() as u64 > MOST {
        return Err(wrong(DataFault::Limit { what: "bytes of text", found: bytes.len() as u64, max: MOST }));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let found = format!("byte {} is not UTF-8", e.valid_up_to());
        wrong(DataFault::File { found, expected: "a text in UTF-8".to_owned() })
    })?;
    let made = made(text)?;
    file.ensure_unchanged()?;
    Ok(made)
}

/// Predicts every token of the first `limit` windows but the first of each. Means are over all these
/// predictions.
///
/// # Errors
///
/// Windows of one token, or longer than the model allows; tokens that it does not have; a reference
/// of another vocabulary.
pub fn evaluate(
    decoder: &Decoder,
    reference: Option<&Decoder>,
    windows: &Windows,
    limit: Option<usize>,
    progress: Progress<'_>,
) -> Result<Evaluation, Error> {
    let count = limit.unwrap_or(usize::MAX).min(windows.len());
    let mut scores = Scores::default();
    for at in 0..count {
        let window = windows.get(at)?;
        if window.len() < 2 || window.len() > decoder.context() {
            let what = format!("windows of {} tokens: 2 to {} expected", window.len(), decoder.context());
            return Err(ErrorKind::Unlike { what }.into());
        }
        let logits = |decoder: &Decoder| -> Result<_, Error> {
            let seen = &window[..window.len() - 1];
            let logits = decoder.forward(&mut decoder.cache(), seen, Wanted::All)?;
            logits.get::<f32>().map(<[f32]>::to_vec).ok_or_else(|| not_floats().into())
        };
        let expected = reference.map(logits).transpose()?;
        let found = logits(decoder)?;
        let width = decoder.vocabulary();
        if expected.as_ref().is_some_and(|expected| expected.len() != found.len()) {
            return Err(ErrorKind::Unlike { what: "a reference of another vocabulary".to_owned() }.into());
        }
        let each: Vec<Scores> = found
            .par_chunks_exact(width)
            .enumerate()
            .map(|(position, row)| {
                let mut scores = Scores::default();
                let expected = expected.as_ref().map(|all| &all[position * width..(position + 1) * width]);
                scores.add(row, Some(window[position + 1] as usize), expected);
                scores
            })
            .collect();
        each.iter().for_each(|one| scores.join(one));
        progress(at as u64 + 1, count as u64);
    }
    let found = scores.evaluation();
    Ok(Evaluation { examples: count as u64, perplexity: found.loss.map(f64::exp), ..found })
}

fn not_floats() -> ErrorKind {
    ErrorKind::Unlike { what: "logits that are no floats".to_owned() }
}
