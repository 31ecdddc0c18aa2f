//! The command line of niwaki: verbs, messages, progress, exit codes.
//!
//! The work itself is in `niwaki-engine` and below. This crate turns arguments into calls
//! and answers into text or JSON. It is a library so that tests can run it in process:
//!
//! ```
//! let (mut out, mut err) = (Vec::new(), Vec::new());
//! let code = niwaki::run(["niwaki", "inspect", "no-such-file"], &mut out, &mut err);
//! assert_eq!((code, out.len()), (2, 0));
//! assert!(err.starts_with(b"error: "));
//! ```
//!
//! Exit codes: 0 done; 1 done, and the answer is no; 2 could not be done. A reader that
//! closes the pipe has had its answer: 0.

mod args;
mod examples;
mod failure;
mod progress;
mod session;
mod size;
mod table;
mod usage;
mod verbs;

use std::ffi::OsString;
use std::io::Write;

use clap::FromArgMatches;

pub use session::Screen;

use args::{Cli, Color, Global};
use failure::{Failure, Stop};
use session::{Answer, Session};

/// Runs one command line, `args[0]` being the program, with streams that are no terminal.
///
/// Returns the exit code.
pub fn run<A: Into<OsString>>(args: impl IntoIterator<Item = A>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    run_on(args, out, err, Screen::default())
}

/// Runs one command line with streams of the kind that `screen` says.
///
/// Returns the exit code.
pub fn run_on<A: Into<OsString>>(
    args: impl IntoIterator<Item = A>,
    out: &mut dyn Write,
    err: &mut dyn Write,
    screen: Screen,
) -> u8 {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let mut command = examples::command();
    let typed = command.try_get_matches_from_mut(&args).and_then(|matches| Cli::from_arg_matches(&matches));
    match typed.map_err(|error| error.format(&mut command)) {
        Ok(Cli { global, verb }) => {
            let mut session = Session::new(out, err, global, screen);
            let result = match verb {
                Some(verb) => verbs::run(verb, &mut session),
                None => first_page(&mut session),
            };
            conclude(result, &mut session)
        }
        Err(error) => {
            let json = args.iter().skip(1).take_while(|a| *a != "--").any(|a| a == "--json");
            let mut session = Session::new(out, err, untyped(json), screen);
            let result = if error.use_stderr() {
                Err(usage::failure(&error).into())
            } else {
                session.write(error.render().to_string().as_bytes()).map(|()| Answer::Yes).map_err(Stop::from)
            };
            conclude(result, &mut session)
        }
    }
}

/// The flags that hold while the arguments themselves are at fault.
fn untyped(json: bool) -> Global {
    Global { json, quiet: false, verbose: 0, threads: None, device: String::new(), seed: None, color: Color::Auto }
}

fn conclude(result: Result<Answer, Stop>, session: &mut Session<'_>) -> u8 {
    let code = match &result {
        Ok(Answer::Yes) | Err(Stop::Closed) => 0,
        Ok(Answer::No) => 1,
        Err(Stop::Failed(_)) => 2,
    };
    let said = match &result {
        Err(Stop::Failed(failure)) => session.fail(failure),
        _ => Ok(()),
    };
    match said.and_then(|()| session.finish().map_err(Stop::from)) {
        Err(Stop::Failed(_)) => 2,
        Ok(()) | Err(Stop::Closed) => code,
    }
}

/// What `niwaki` alone prints.
const FIRST_PAGE: &str = "\
niwaki makes neural network checkpoints smaller, and says what that costs.

See what is inside a checkpoint:
  niwaki inspect model.safetensors

Store its weights as 4-bit codes, with a report of the error:
  niwaki compress model.safetensors --scheme int4/g32/sym -o small.safetensors

Turn the result back into an ordinary checkpoint:
  niwaki export small.safetensors --to safetensors -o restored.safetensors

`niwaki --help` lists all verbs; `niwaki VERB --help` explains one.
";

fn first_page(session: &mut Session<'_>) -> Result<Answer, Stop> {
    if session.global.json {
        return Err(Failure::usage("no verb given").hinting("`niwaki --help` lists the verbs").into());
    }
    session.write(FIRST_PAGE.as_bytes())?;
    Ok(Answer::Yes)
}
