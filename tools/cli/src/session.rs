//! The streams of one run, and what the flags of every verb ask of them.

use std::io::{self, Write};

use serde::Serialize;

use crate::args::{Color, Global};
use crate::failure::{Failure, Stop};

/// What the streams are connected to, and what the environment asks of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Screen {
    /// Whether stderr is a terminal: only then is there a progress bar.
    pub terminal: bool,
    /// Whether errors may be coloured unless `--color` says otherwise.
    pub color: bool,
}

/// One run: where answers and notices go.
pub(crate) struct Session<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    pub(crate) global: Global,
    screen: Screen,
}

/// What came of a verb that could be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
}

/// The outermost object of every JSON answer.
#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u32,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Serialize)]
struct Failed<'a> {
    error: &'a Failure,
}

impl<'a> Session<'a> {
    pub(crate) fn new(out: &'a mut dyn Write, err: &'a mut dyn Write, global: Global, screen: Screen) -> Self {
        Self { out, err, global, screen }
    }

    /// A line of the answer.
    pub(crate) fn say(&mut self, line: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.out, "{}", line.as_ref())
    }

    /// Several lines of the answer.
    pub(crate) fn say_all(&mut self, lines: impl IntoIterator<Item = String>) -> io::Result<()> {
        lines.into_iter().try_for_each(|line| self.say(line))
    }

    /// Text of the answer as it is.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// The answer as one JSON object, `version` first.
    pub(crate) fn json(&mut self, body: &impl Serialize) -> Result<(), Stop> {
        let text = serde_json::to_string(&Versioned { version: 1, body }).map_err(io::Error::from)?;
        Ok(self.say(text)?)
    }

    /// A notice beside the answer; none under `-q`.
    pub(crate) fn note(&mut self, line: &str) {
        if !self.global.quiet {
            // A notice that nobody can read is no reason to stop.
            let _ = writeln!(self.err, "{} {line}", self.paint("note:", "1"));
        }
    }

    /// A notice for `-v`.
    pub(crate) fn detail(&mut self, line: &str) {
        if self.global.verbose > 0 {
            self.note(line);
        }
    }

    /// Shows why nothing came of it.
    pub(crate) fn fail(&mut self, failure: &Failure) -> Result<(), Stop> {
        if self.global.json {
            return self.json(&Failed { error: failure });
        }
        writeln!(self.err, "{} {}", self.paint("error:", "1;31"), failure.message)?;
        if let Some(hint) = &failure.hint {
            writeln!(self.err, "\n{} {hint}", self.paint("hint:", "1;36"))?;
        }
        if let Some(cause) = &failure.cause {
            self.detail(&format!("cause: {cause}"));
        }
        Ok(())
    }

    /// Everything that was said has arrived.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.err.flush()
    }

    /// Whether to draw a progress bar.
    pub(crate) fn draws(&self) -> bool {
        self.screen.terminal && !self.global.quiet
    }

    fn paint(&self, word: &str, code: &str) -> String {
        let color = match self.global.color {
            Color::Auto => self.screen.color,
            Color::Always => true,
            Color::Never => false,
        };
        if color { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() }
    }
}
