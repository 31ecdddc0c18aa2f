//! `eval`: how well a model does on data.

use std::time::Instant;

use niwaki_engine::dataset::Dataset;
use niwaki_engine::dynamic::Thresholds;
use niwaki_engine::eval::embeddings::Texts;
use niwaki_engine::eval::text::Windows;
use niwaki_engine::eval::{self, Evaluation};
use niwaki_engine::folder::{self, Decoder, Encoder, Language};
use niwaki_engine::{Given, image};
use serde::Serialize;

use super::patches::{activations, given};
use super::{check_output, load, note_unknown, on_threads};
use crate::args::{Eval, Inputs, Output};
use crate::failure::{Failure, Stop};
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
    let output = args.output.clone().map(|output| Output { output, force: args.force, durable: false });
    output.as_ref().map(check_output).transpose()?;
    if args.model.is_dir() {
        let thresholds = args.heads.as_deref().map(Thresholds::open).transpose()?;
        let model = given(&args.given, |given| {
            let given = Given { activations: activations(args.activations), thresholds: thresholds.as_ref(), ..given };
            let (model, replaced) = on_threads(session, || folder::language(&args.model, given))?;
            note_unknown(&replaced, given.weights, session);
            Ok(model)
        })?;
        return match model {
            Language::Encoder(encoder) => embeddings(args, &encoder, output.as_ref(), session),
            Language::Decoder(_) if output.is_some() => Err(no_embeddings()),
            Language::Decoder(decoder) => text(args, &decoder, session),
        };
    }
    if output.is_some() {
        return Err(no_embeddings());
    }
    if args.heads.is_some() {
        return Err(Failure::usage("`--heads` is for models of text; `dynamic eval` measures others".to_owned()).into());
    }
    if args.activations == Inputs::Dynamic {
        return Err(Failure::usage("`--activations dynamic` is for models of text".to_owned()).into());
    }
    if image::is_image(&args.model) {
        return device(args, session);
    }
    let model = given(&args.given, |given| load(&args.model, given, session))?;
    let against = args.against.as_deref();
    let reference = against.map(|weights| load(&args.model, Some(weights).into(), session)).transpose()?;
    let data = Dataset::open(&args.data)?;
    let bar = Progress::examples(session);
    let start = Instant::now();
    let progress = |done, total| bar.at(done, total);
    let found = on_threads(session, || eval::images(&model, reference.as_ref(), &data, args.limit, &progress))?;
    let items_per_second = found.examples as f64 / start.elapsed().as_secs_f64();
    drop(bar);
    say(&found, items_per_second, session)
}

/// Measures a device image, as a device runs it.
fn device(args: &Eval, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let other = [
        (args.against.is_some(), "--against"),
        (args.given.weights.is_some(), "--weights"),
        (args.given.bits.is_some(), "--bits"),
        (!args.given.patches.patch.is_empty(), "--patch"),
    ];
    if let Some((_, flag)) = other.iter().find(|(given, _)| *given) {
        return Err(Failure::usage(format!("`{flag}` with a device image, whose weights are its own")).into());
    }
    let data = Dataset::open(&args.data)?;
    let bar = Progress::examples(session);
    let start = Instant::now();
    let found = image::evaluate(&args.model, &data, args.limit, &|done, total| bar.at(done, total))?;
    let items_per_second = found.examples as f64 / start.elapsed().as_secs_f64();
    drop(bar);
    say(&found, items_per_second, session)
}

fn no_embeddings() -> Stop {
    Failure::usage("`--output` takes embeddings, which only encoders in Hugging Face folders make").into()
}

/// Embeds texts by an encoder.
fn embeddings(
    args: &Eval,
    encoder: &Encoder,
    output: Option<&Output>,
    session: &mut Session<'_>,
) -> Result<Answer, Stop> {
    let against = args.against.as_deref();
    let reference = against.map(|_| on_threads(session, || folder::encoder(&args.model, against))).transpose()?;
    let reference = reference.map(|(reference, replaced)| {
        note_unknown(&replaced, against, session);
        reference
    });
    let texts = Texts::open(&args.data, &args.model, encoder.context(), encoder.classes())?;
    let bar = Progress::examples(session);
    let start = Instant::now();
    let progress = |done, total| bar.at(done, total);
    if texts.labelled() {
        if output.is_some() {
            return Err(
                Failure::usage("`--output` takes embeddings; of texts with classes the accuracy is measured").into()
            );
        }
        let found = on_threads(session, || {
            eval::classes::evaluate(encoder, reference.as_ref(), &texts, args.limit, &progress)
        })?;
        let items_per_second = found.examples as f64 / start.elapsed().as_secs_f64();
        drop(bar);
        return say(&found, items_per_second, session);
    }
    let (found, vectors) =
        on_threads(session, || eval::embeddings::evaluate(encoder, reference.as_ref(), &texts, args.limit, &progress))?;
    let items_per_second = found.examples as f64 / start.elapsed().as_secs_f64();
    drop(bar);
    if let Some(output) = output {
        eval::embeddings::write(&vectors, &output.output, output.overwrite())?;
    }
    let answer = say(&found, items_per_second, session)?;
    if let Some(output) = output.filter(|_| !session.global.json) {
        session.say(format!("wrote {}", output.output.display()))?;
    }
    Ok(answer)
}

/// Measures a decoder on windows of text.
fn text(args: &Eval, model: &Decoder, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let against = args.against.as_deref();
    let reference = against.map(|_| on_threads(session, || folder::decoder(&args.model, against))).transpose()?;
    let reference = reference.map(|(reference, replaced)| {
        note_unknown(&replaced, against, session);
        reference
    });
    let windows = Windows::open(&args.data, &args.model, model.context())?;
    let bar = Progress::examples(session);
    let start = Instant::now();
    let progress = |done, total| bar.at(done, total);
    let found =
        on_threads(session, || eval::text::evaluate(model, reference.as_ref(), &windows, args.limit, &progress))?;
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
        ("  least", found.cosine_min.map(|x| format!("{x:.6}"))),
        ("  of pairs", found.similarity_correlation.map(|x| format!("{x:.6} correlated"))),
    ];
    session.say_all(lines.into_iter().filter_map(|(name, text)| Some(format!("{name:<11}{}", text?))))?;
    Ok(Answer::Yes)
}
