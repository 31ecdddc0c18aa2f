//! `generate`: a text, and how a decoder goes on with it.

use std::time::Instant;

use niwaki_engine::dynamic::Thresholds;
use niwaki_engine::generate::{End, generate};
use niwaki_engine::text::{Tokenizer, ends};
use niwaki_engine::{Given, folder};
use serde::Serialize;

use super::patches::{activations, given};
use super::{note_unknown, on_threads};
use crate::args::Generate;
use crate::failure::{Failure, Stop};
use crate::progress::Progress;
use crate::session::{Answer, Session};

#[derive(Serialize)]
struct Json<'a> {
    prompt: &'a str,
    /// What comes after the prompt.
    text: &'a str,
    tokens: usize,
    end: End,
    tokens_per_second: f64,
}

/// Goes on with a text.
pub(crate) fn run(args: &Generate, session: &mut Session<'_>) -> Result<Answer, Stop> {
    if !args.model.is_dir() {
        let what = format!("`{}` is no folder; text needs a Hugging Face folder with a decoder", args.model.display());
        return Err(Failure::usage(what).into());
    }
    let tokenizer = Tokenizer::open(&args.model)?;
    let ends = ends(&args.model)?;
    let prompt = tokenizer.tokens(&args.prompt, true)?;
    let thresholds = args.heads.as_deref().map(Thresholds::open).transpose()?;
    let decoder = given(&args.given, |given| {
        let given = Given { activations: activations(args.activations), thresholds: thresholds.as_ref(), ..given };
        let (decoder, replaced) = on_threads(session, || folder::decoder(&args.model, given))?;
        note_unknown(&replaced, given.weights, session);
        Ok(decoder)
    })?;
    let bar = Progress::examples(session);
    let start = Instant::now();
    let mut done = 0;
    let mut each = |_: u32| {
        done += 1;
        bar.at(done, args.max_tokens as u64);
    };
    let (made, end) = on_threads(session, || generate(&decoder, &prompt, args.max_tokens, &ends, &mut each))?;
    let tokens_per_second = made.len() as f64 / start.elapsed().as_secs_f64();
    drop(bar);
    // Tokens may share letters with those before them: only both together say what comes after.
    let before = tokenizer.text(&prompt)?;
    let whole = tokenizer.text(&[prompt, made.clone()].concat())?;
    let text = whole.strip_prefix(&before).unwrap_or(&whole);
    if session.global.json {
        let tokens = made.len();
        session.json(&Json { prompt: &args.prompt, text, tokens, end, tokens_per_second })?;
        return Ok(Answer::Yes);
    }
    session.say(format!("{}{text}", args.prompt))?;
    session.detail(&format!("{} tokens, {tokens_per_second:.1} a second", made.len()));
    Ok(Answer::Yes)
}
