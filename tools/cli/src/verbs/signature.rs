//! `signature`: small patches of weights, made, added, taken off, compared.

mod combine;
mod extract;
mod stack;

use niwaki_engine::signature::Encoding;
use niwaki_engine::{Ratio, recipe};

use super::selection;
use crate::args::signature::{self, Signature};
use crate::failure::{Failure, Stop};
use crate::session::{Answer, Session};

/// Does what was asked.
pub(crate) fn run(args: &Signature, session: &mut Session<'_>) -> Result<Answer, Stop> {
    match args {
        Signature::Extract(args) => extract::extract(args, session),
        Signature::Temperature(args) => extract::temperature(args, session),
        Signature::Combine(args) => combine::combine(args, session),
        Signature::Similarity(args) => combine::similarity(args, session),
        Signature::Apply(args) => stack::apply(args, session),
        Signature::Remove(args) => stack::remove(args, session),
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
