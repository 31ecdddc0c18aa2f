//! `report`: one page of what files and answers say.

use niwaki_engine::page::{page, write};
use serde::Serialize;

use super::check_output;
use crate::args::report::Report;
use crate::failure::Stop;
use crate::session::{Answer, Session};
use crate::size::human;

#[derive(Serialize)]
struct Json {
    files: usize,
    output_bytes: u64,
}

/// Writes the page.
pub(crate) fn run(args: &Report, session: &mut Session<'_>) -> Result<Answer, Stop> {
    check_output(&args.output)?;
    let page = page(&args.files)?;
    write(&page, &args.output.output, args.output.overwrite(), args.output.durable)?;
    let (files, output_bytes) = (args.files.len(), page.len() as u64);
    if session.global.json {
        session.json(&Json { files, output_bytes })?;
        return Ok(Answer::Yes);
    }
    let of = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
    session.say(format!("wrote {}, {} about {of}", args.output.output.display(), human(output_bytes)))?;
    Ok(Answer::Yes)
}
