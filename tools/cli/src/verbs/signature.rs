//! `signature`: small patches of weights, made, added, taken off, compared.

mod adapter;
mod combine;
mod extract;
mod stack;

use niwaki_engine::signature::Encoding;
use std::path::Path;
use std::time::Instant;

use niwaki_engine::{Ratio, Report, recipe};

use serde::Serialize;

use super::{counted, selection};
use crate::args::signature::{self, Signature};
use crate::failure::{Failure, Stop};
use crate::session::{Answer, Session};
use crate::size::human;

/// Does what was asked.
pub(crate) fn run(args: &Signature, session: &mut Session<'_>) -> Result<Answer, Stop> {
    match args {
        Signature::Extract(args) => extract::extract(args, session),
        Signature::Temperature(args) => extract::temperature(args, session),
        Signature::Combine(args) => combine::combine(args, session),
        Signature::Similarity(args) => combine::similarity(args, session),
        Signature::Apply(args) => stack::apply(args, session),
        Signature::Remove(args) => stack::remove(args, session),
        Signature::Import(args) => adapter::import(args, session),
        Signature::Export(args) => adapter::export(args, session),
        Signature::Sign(args) => stack::sign(args, session),
        Signature::List(args) => stack::list(args, session),
    }
}

/// How values are to be stored.
fn encoding(flags: &signature::Encoding) -> Result<Encoding, Stop> {
    let mut encoding = match &flags.scheme {
        Some(text) => Encoding::of_text(text).map_err(|error| match recipe::nearest(text, ["f32", "f16", "bf16"]) {
            Some(near) => error.hinting(format!("did you mean `{near}`?")),
            None => error,
        })?,
        None => Encoding::default(),
    };
    if let Some(fit) = &flags.fit {
        encoding.fit = selection::fit(fit)?;
    }
    if let Some(sparsity) = flags.sparsity {
        let wrong = || Failure::usage(format!("`--sparsity {sparsity}`: expected a share from 0 to below 1"));
        let share = Some(sparsity).filter(|share| (0.0..1.0).contains(share)).ok_or_else(wrong)?;
        encoding.keep = Some(Ratio::new(1.0 - share).map_err(|_| wrong())?);
    }
    Ok(encoding)
}

/// What a verb says of a signature that it wrote.
#[derive(Serialize)]
struct Written {
    #[serde(flatten)]
    report: Report,
    seconds: f64,
}

impl Written {
    fn new(report: Report, start: Instant) -> Self {
        Self { report, seconds: start.elapsed().as_secs_f64() }
    }

    fn say(self, out: &Path, session: &mut Session<'_>) -> Result<Answer, Stop> {
        if session.global.json {
            session.json(&self)?;
        } else {
            let (tensors, bytes) = (counted(self.report.tensors.len()), human(self.report.output_bytes));
            session.say(format!("wrote {}: {tensors}, {bytes}", out.display()))?;
        }
        Ok(Answer::Yes)
    }
}
