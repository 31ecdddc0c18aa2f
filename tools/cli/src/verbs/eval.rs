//! `eval`: how well a model does on data.

use std::path::Path;
use std::time::Instant;

use niwaki_engine::dataset::Dataset;
use niwaki_engine::eval::text::Windows;
use niwaki_engine::eval::{self, Evaluation};
use niwaki_engine::folder;
use serde::Serialize;

use super::{load, note_unknown, on_threads};
use crate::args::Eval;
use crate::failure::Stop;
use crate::progress::Progress;
use crate::session::{Answer, Session};

#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    found: &'a Evaluation,
    items_per_second: f64,
}

/// Measures a model.
pub(crate) fn run(args: &Eval, session: &mut Session<'_>) -> Result<Answer, Stop> {
    if args.model.is_dir() {
        return text(args, session);
    }
    let model = load(&args.model, args.weights.as_deref(), session)?;
    let reference = args.against.as_deref().map(|weights| load(&args.model, Some(weights), session)).transpose()?;
    let data = Dataset::open(&args.data)?;
    let bar = Progress::examples(session);
    let start = Instant::now();
    let progress = |done, total| bar.at(done, total);
    let found = on_threads(session, || eval::images(&model, reference.as_ref(), &data, args.limit, &progress))?;
    let items_per_second = found.examples as f64 / start.elapsed().as_secs_f64();
    drop(bar);
    say(&found, items_per_second, session)
}

/// Measures a decoder on windows of text.
fn text(args: &Eval, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let mut decoder = |weights: Option<&Path>| {
        let (decoder, replaced) = on_threads(session, || folder::decoder(&args.model, weights))?;
        note_unknown(&replaced, weights, session);
        Ok::<_, Stop>(decoder)
    };
    let model = decoder(args.weights.as_deref())?;
    let reference = args.against.as_deref().map(|weights| decoder(Some(weights))).transpose()?;
    let windows = Windows::open(&args.data, &args.model, model.context())?;
    let bar = Progress::examples(session);
    let start = Instant::now();
    let progress = |done, total| bar.at(done, total);
    let found =
        on_threads(session, || eval::text::evaluate(&model, reference.as_ref(), &windows, args.limit, &progress))?;
    let items_per_second = found.examples as f64 / start.elapsed().as_secs_f64();
    drop(bar);
    say(&found, items_per_second, session)
}

/// The answer.
fn say(found: &Evaluation, items_per_second: f64, session: &mut Session<'_>) -> Result<Answer, Stop> {
    if session.global.json {
        session.json(&Json { found, items_per_second })?;
        return Ok(Answer::Yes);
    }
    // Windows of text take a while: a rate of less than ten needs its fraction.
    let digits = if items_per_second < 10.0 { 2 } else { 0 };
    session.say(format!("{} examples, {items_per_second:.digits$} a second", found.examples))?;
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let lines = [
        ("accuracy", found.accuracy.map(percent)),
        ("loss", found.loss.map(|x| format!("{x:.4}"))),
        ("perplexity", found.perplexity.map(|x| format!("{x:.2}"))),
        ("KL", found.kl.map(|x| format!("{x:.6}"))),
        ("agreement", found.agreement.map(percent)),
        ("cosine", found.cosine.map(|x| format!("{x:.6}"))),
    ];
    session.say_all(lines.into_iter().filter_map(|(name, text)| Some(format!("{name:<11}{}", text?))))?;
    Ok(Answer::Yes)
}
