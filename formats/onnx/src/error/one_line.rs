//! Errors stay on one line, whatever a file calls its tensors.

use std::fmt::{self, Write};

/// Writes on one line: names and paths from files may hold line ends and other control
/// characters, which are shown as escapes.
pub(crate) struct OneLine<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl<'a, 'f> OneLine<'a, 'f> {
    /// In front of a formatter.
    pub(crate) fn new(f: &'a mut fmt::Formatter<'f>) -> Self {
        Self(f)
    }
}

impl Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(char::is_control) {
            match piece.char_indices().next_back() {
                Some((at, last)) if last.is_control() => {
                    self.0.write_str(piece.get(..at).unwrap_or_default())?;
                    write!(self.0, "{}", last.escape_default())?;
                }
                _ => self.0.write_str(piece)?,
            }
        }
        Ok(())
    }
}
