//! Writing a dataset piece by piece.

use std::path::Path;

use niwaki_tensors::{Dtype, Entry, Layout, Writer, metadata_len};

use super::images::{IMAGES, LABELS};
use super::tokens::TOKENS;
use crate::compress::Options;
use crate::error::Error;

/// Entries of the metadata, in any order.
pub(super) type Metadata = Vec<(String, String)>;

/// A dataset that is being written: a partial file until [`finish`](Self::finish).
pub(super) struct Output {
    writer: Writer,
    metadata: Metadata,
    /// Index of the tensor of labels, where there is one; the other tensor is the last.
    labels: Option<usize>,
    item_bytes: u64,
    durable: bool,
}

/// The shape that a dataset is to have.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// U8 images of channels, height and width, with labels or without.
    Images { items: usize, shape: [usize; 3], labelled: bool },
    /// Windows of so many tokens.
    #[cfg_attr(not(feature = "tokenizers"), expect(dead_code, reason = "only text becomes tokens"))]
    Tokens { items: usize, length: usize },
}

impl Output {
    /// Begins the file `out`.
    pub(super) fn create(out: &Path, form: Form, mut metadata: Metadata, options: &Options) -> Result<Self, Error> {
        metadata.sort();
        let entry = |name: &str, dtype, shape| Entry { name: name.to_owned(), dtype, shape };
        // Labels first: whatever follows is then aligned without pads.
        let (entries, labels, item_bytes) = match form {
            Form::Images { items, shape: [c, h, w], labelled } => {
                let images = entry(IMAGES, Dtype::U8, vec![items, c, h, w]);
                let labels = labelled.then(|| entry(LABELS, Dtype::I64, vec![items]));
                (labels.into_iter().chain([images]).collect(), labelled.then_some(0), c * h * w)
            }
            Form::Tokens { items, length } => (vec![entry(TOKENS, Dtype::I64, vec![items, length])], None, 8 * length),
        };
        let layout = Layout::exact(entries, metadata_len(&borrowed(&metadata)))?;
        let writer = Writer::create(out, layout, options.overwrite())?;
        Ok(Self { writer, metadata, labels, item_bytes: item_bytes as u64, durable: options.durable })
    }

    /// Writes the bytes of items from number `first` on.
    pub(super) fn items(&self, first: usize, bytes: &[u8]) -> Result<(), Error> {
        let entry = usize::from(self.labels.is_some());
        Ok(self.writer.write_at(entry, first as u64 * self.item_bytes, bytes)?)
    }

    /// Writes labels from that of item `first` on.
    pub(super) fn labels(&self, first: usize, labels: &[u32]) -> Result<(), Error> {
        let Some(entry) = self.labels else { return Ok(()) };
        let bytes: Vec<u8> = labels.iter().flat_map(|label| i64::from(*label).to_le_bytes()).collect();
        Ok(self.writer.write_at(entry, first as u64 * 8, &bytes)?)
    }

    /// Gives the file its name; how many bytes it has.
    pub(super) fn finish(self) -> Result<u64, Error> {
        let bytes = self.writer.layout().file_bytes();
        self.writer.finish(&borrowed(&self.metadata), self.durable)?;
        Ok(bytes)
    }
}

fn borrowed(metadata: &Metadata) -> Vec<(&str, &str)> {
    metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}
