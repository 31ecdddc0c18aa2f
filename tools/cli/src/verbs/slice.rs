//! `slice`: a narrower file, cut out of an elastic one.

use niwaki_codes::Bits;
use niwaki_container::Sliced;
use niwaki_engine::{Format, Names, image};
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

#[derive(Serialize)]
struct Cut {
    bits: u32,
    input_bytes: u64,
    output_bytes: u64,
}

/// Cuts an elastic file down to a width.
pub(crate) fn run(args: &Slice, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let bits = width(args.bits)?;
    if image::is_image(&args.elastic) {
        return cut(args, bits, session);
    }
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

/// Writes the first bytes of a device image.
fn cut(args: &Slice, bits: Bits, session: &mut Session<'_>) -> Result<Answer, Stop> {
    super::check_output(&args.output)?;
    let (bytes, all) = image::cut(&args.elastic, bits)?;
    let output = &args.output.output;
    niwaki_tensors::write_small(output, &bytes, args.output.overwrite(), args.output.durable)?;
    let (input_bytes, output_bytes) = (all as u64, bytes.len() as u64);
    if session.global.json {
        session.json(&Cut { bits: bits.get(), input_bytes, output_bytes })?;
        return Ok(Answer::Yes);
    }
    let (before, after) = (human(input_bytes), human(output_bytes));
    session.say(format!("{before} became {after} ({}), {bits} bits", percent(output_bytes, input_bytes)))?;
    session.say(format!("wrote {}", output.display()))?;
    Ok(Answer::Yes)
}
