//! `run`: one pass forward on tensors of a file.

use std::time::Instant;

use niwaki_engine::model::{self, Named, Ran};
use serde::Serialize;

use super::patches::given;
use super::{check_output, load, on_threads, shape_text};
use crate::args::Run;
use crate::failure::Stop;
use crate::session::{Answer, Session};
use crate::size::human;

#[derive(Serialize)]
struct Json {
    #[serde(flatten)]
    ran: Ran,
    seconds: f64,
}

/// Runs a model once.
pub(crate) fn run(args: &Run, session: &mut Session<'_>) -> Result<Answer, Stop> {
    check_output(&args.output)?;
    let model = given(&args.given, |given| load(&args.model, given, session))?;
    let start = Instant::now();
    let (out, overwrite) = (&args.output.output, args.output.overwrite());
    let ran = on_threads(session, || model::run(&model, &args.input, args.repeat, out, overwrite))?;
    let seconds = start.elapsed().as_secs_f64();
    if session.global.json {
        session.json(&Json { ran, seconds })?;
        return Ok(Answer::Yes);
    }
    let line = |way: &str, of: &Named| format!("{way:<6} {} {} {}", of.name, of.dtype, shape_text(&of.shape));
    session.say_all(ran.inputs.iter().map(|input| line("input", input)))?;
    session.say_all(ran.outputs.iter().map(|output| line("output", output)))?;
    session.say(format!("{} MACs, values took {} at most", ran.macs, human(ran.peak_bytes)))?;
    if let Some(seconds) = ran.median_seconds {
        session.say(format!("{:.3} ms a pass, the median of {}", seconds * 1e3, args.repeat))?;
    }
    session.say(format!("wrote {}", out.display()))?;
    Ok(Answer::Yes)
}
