//! `slice`: a narrower file, cut out of an elastic one.

use niwaki_container::Sliced;
use niwaki_engine::{Format, Names};
use serde::Serialize;

use super::{check_place, compress, open, percent, width};
use crate::args::Slice;
use crate::failure::Stop;
use crate::session::{Answer, Session};
use crate::size::human;

#[derive(Serialize)]
struct Json {
    bits: u32,
    input_bytes: u64,
    output_bytes: u64,
    digest: String,
}

/// Cuts an elastic file down to a width.
pub(crate) fn run(args: &Slice, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let bits = width(args.bits)?;
    check_place(&args.output, &args.elastic, Format::Safetensors)?;
    let opened = open(&args.elastic)?;
    let source = opened.source(None, Names::Own)?;
    let output = &args.output.output;
    let options = compress::options(&args.output, session);
    let Sliced { digest, input_bytes, output_bytes } = niwaki_engine::export::slice(&source, bits, output, &options)?;
    let digest = digest.to_string();
    if session.global.json {
        session.json(&Json { bits: bits.get(), input_bytes, output_bytes, digest })?;
        return Ok(Answer::Yes);
    }
    let (before, after) = (human(input_bytes), human(output_bytes));
    session.say(format!("{before} became {after} ({}), {bits} bits", percent(output_bytes, input_bytes)))?;
    session.say(format!("wrote {}, digest {}", output.display(), compress::short(&digest)))?;
    Ok(Answer::Yes)
}
