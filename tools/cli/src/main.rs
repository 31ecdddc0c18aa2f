//! The program: standard streams and the exit code around [`niwaki::run_on`].

use std::io::{BufWriter, IsTerminal, Write, stderr, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let terminal = stderr().is_terminal();
    let screen = niwaki::Screen { terminal, color: terminal && !plain };
    let mut out = BufWriter::new(stdout().lock());
    let code = niwaki::run_on(std::env::args_os(), &mut out, &mut stderr(), screen);
    // `run_on` has flushed it: what is left is for a reader that has gone.
    let _ = out.flush();
    ExitCode::from(code)
}
