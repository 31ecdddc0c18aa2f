//! The command line as a program of this package, so that suites can kill it.

use std::io::{BufWriter, Write, stderr, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut out = BufWriter::new(stdout().lock());
    let code = niwaki_cli::run(std::env::args_os(), &mut out, &mut stderr());
    // It has flushed it: what is left is for a reader that has gone.
    let _ = out.flush();
    ExitCode::from(code)
}
