//! `join`: parts of a job, made one checkpoint.

use niwaki_engine::Options;

use super::compress::short;
use super::{counted, threads};
use crate::args::join::Join;
use crate::failure::Stop;
use crate::progress::Progress;
use crate::session::{Answer, Session};
use crate::size::human;

/// Checks the parts and writes the index, or one file.
pub(crate) fn run(args: &Join, session: &mut Session<'_>) -> Result<Answer, Stop> {
    let options =
        Options { threads: threads(session), replace: args.force, durable: args.durable, ..Options::default() };
    let progress = Progress::new(session);
    let joined = niwaki_engine::join(&args.dir, args.output.as_deref(), &options, &|done, total| {
        progress.at(done, total);
    })?;
    drop(progress);
    if session.global.json {
        session.json(&joined)?;
        return Ok(Answer::Yes);
    }
    let (parts, tensors) = (joined.parts, counted(joined.tensors));
    let part = if parts == 1 { "part" } else { "parts" };
    let bytes = human(joined.output_bytes);
    session.say(format!("{parts} {part}, {tensors}, {bytes}, {:.2} bits a weight", joined.bits_per_weight))?;
    session.say(format!("wrote {}, digest {}", joined.path.display(), short(&joined.digest)))?;
    Ok(Answer::Yes)
}
