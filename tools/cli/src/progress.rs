//! The progress bar.

use indicatif::{ProgressBar, ProgressStyle};

use crate::session::Session;

/// A bar over bytes of input or over examples, or nothing where nobody looks.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// The bar that this session draws.
    pub(crate) fn new(session: &Session<'_>) -> Self {
        Self::with(session, "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left")
    }

    /// The bar for examples.
    pub(crate) fn examples(session: &Session<'_>) -> Self {
        Self::with(session, "{bar:40} {pos} of {len}, {per_sec}, {eta} left")
    }

    /// The bar for a training: beside the examples what is said of them.
    pub(crate) fn training(session: &Session<'_>) -> Self {
        Self::with(session, "{bar:30} {msg}, {per_sec}, {eta} left")
    }

    fn with(session: &Session<'_>, template: &str) -> Self {
        let bar = session.draws().then(|| {
            let style = ProgressStyle::with_template(template);
            let bar = ProgressBar::new(0);
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar
        });
        Self(bar)
    }

    /// Shows that `done` of `total` are dealt with.
    pub(crate) fn at(&self, done: u64, total: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(total);
            bar.set_position(done);
        }
    }
}

impl Progress {
    /// What the bar says beside the numbers.
    pub(crate) fn say(&self, text: String) {
        if let Some(bar) = &self.0 {
            bar.set_message(text);
        }
    }

    /// A line above the bar, which stays.
    pub(crate) fn line(&self, text: String) {
        if let Some(bar) = &self.0 {
            bar.println(text);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
