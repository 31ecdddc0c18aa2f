//! `export`: a compressed file in another format.

use niwaki_container::Artifact;
use niwaki_tensors::Limits;
use serde::Serialize;

use super::{check_output, compress, safetensors_only, width};
use crate::args::Export;
use crate::failure::Stop;
use crate::session::{Answer, Session};
use crate::size::human;

#[derive(Serialize)]
struct Json {
    format: &'static str,
    output_bytes: u64,
}

/// Writes the decoded weights as plain safetensors.
pub(crate) fn run(args: &Export, session: &mut Session<'_>) -> Result<Answer, Stop> {
    safetensors_only(&args.to)?;
    let bits = args.bits.map(width).transpose()?;
    check_output(&args.output)?;
    let artifact = Artifact::open(&args.file, &Limits::default())?;
    let out = &args.output.output;
    let bytes = niwaki_engine::export::safetensors(&artifact, bits, out, &compress::options(&args.output, session))?;
    if session.global.json {
        session.json(&Json { format: "safetensors", output_bytes: bytes })?;
    } else {
        session.say(format!("wrote {}: {} of plain safetensors", out.display(), human(bytes)))?;
    }
    Ok(Answer::Yes)
}
