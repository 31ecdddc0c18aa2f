//! Datasets made of what is found elsewhere: IDX files, CIFAR-10, folders of pictures, text.

mod cifar10;
mod folder;
pub mod idx;
pub mod picture;
#[cfg_attr(not(feature = "tokenizers"), path = "import/no_text.rs")]
mod text;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::fault::DataFault;
use super::images::fault;
use super::preprocessing::{Preprocessing, classes_text};
use super::write::Metadata;
use crate::compress::Options;
use crate::error::{Blame, Error, ErrorKind};

pub use folder::Pictures;

/// Which part of a dataset that comes in two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// What models are trained on.
    #[default]
    Train,
    /// What they are measured on.
    Test,
}

/// What is to be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// IDX files as of MNIST, plain or gzipped: a folder with both splits, or a file of images
    /// with its labels beside it.
    Idx(Option<Split>),
    /// A folder with CIFAR-10: the binary batches, or sheets of PNG with one image a row.
    Cifar10(Option<Split>),
    /// A folder of PNG and JPEG files.
    Images(Pictures),
    /// A text, tokenized and cut into windows without overlap.
    Text {
        /// The tokenizer, as Hugging Face writes it: `tokenizer.json`.
        tokenizer: PathBuf,
        /// Tokens in a window.
        length: usize,
    },
}

/// The word for a kind on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Word {
    /// [`Kind::Idx`].
    Idx,
    /// [`Kind::Cifar10`].
    Cifar10,
    /// [`Kind::Images`].
    Images,
    /// [`Kind::Text`].
    Text,
}

impl Word {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Idx, Self::Cifar10, Self::Images, Self::Text];

    /// As it is typed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idx => "idx",
            Self::Cifar10 => "cifar10",
            Self::Images => "images",
            Self::Text => "text",
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Word {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|word| word.name() == text).ok_or_else(|| {
            let error = Error::from(ErrorKind::Usage { what: format!("no kind of data `{text}`") });
            error.hinting(format!("there are {}", Self::ALL.map(Self::name).join(", ")))
        })
    }
}

/// What goes into the file besides what is found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// What models are to see of pixels; none for text.
    pub preprocessing: Preprocessing,
    /// Names of the classes, instead of those that are found.
    pub classes: Option<Vec<String>>,
    /// How many items to take at most: the first.
    pub limit: Option<usize>,
}

/// What came of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// How many items there are.
    pub items: usize,
    /// The shape of one: channels, height and width, or tokens.
    pub shape: Vec<usize>,
    /// How many classes there are; none without labels.
    pub classes: Option<usize>,
    /// Bytes of the file.
    pub output_bytes: u64,
    /// What was left out: files of a folder that are no pictures, or tokens at the end of a
    /// text that fill no window.
    pub left_out: u64,
}

/// How far it is: bytes done, and bytes there are.
pub(super) type Progress<'p> = &'p (dyn Fn(u64, u64) + Sync);

/// Where a dataset goes, and what besides the items goes into it.
struct Target<'a> {
    out: &'a Path,
    request: &'a Request,
    options: &'a Options,
    progress: Progress<'a>,
}

/// Makes the dataset `out` of what is at `source`.
///
/// Pixels become U8 `[N, C, H, W]`; the work streams, so memory does not grow with the number of
/// items, except that of a text, which is tokenized at once. `progress` is told the bytes of the
/// output done so far, and all there will be; any thread may call it.
///
/// # Errors
///
/// [`ErrorKind::Data`] for input that is not what its kind says, [`ErrorKind::Usage`] for
/// settings that mean nothing for the kind, and those of reading and writing.
pub fn import(
    kind: &Kind,
    source: &Path,
    request: &Request,
    out: &Path,
    options: &Options,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Imported, Error> {
    if request.limit == Some(0) {
        return Err(ErrorKind::Usage { what: "no item is left under a limit of 0".to_owned() }.into());
    }
    let target = Target { out, request, options, progress };
    match kind {
        Kind::Idx(split) => idx::import(source, *split, &target),
        Kind::Cifar10(split) => cifar10::import(source, split.unwrap_or_default(), &target),
        Kind::Images(pictures) => folder::import(source, pictures, &target),
        Kind::Text { tokenizer, length } => text::import(source, tokenizer, *length, &target),
    }
}

impl Target<'_> {
    /// How many of `items` to take.
    fn taken(&self, items: usize) -> usize {
        self.request.limit.map_or(items, |limit| limit.min(items))
    }

    /// The metadata of images, and how many classes there are.
    ///
    /// Names are those asked for, else those found; either must be enough for all labels.
    fn metadata(&self, channels: usize, found: Option<Vec<String>>, labels: usize) -> Result<(Metadata, usize), Error> {
        let asked = |f: DataFault| Error::from(ErrorKind::Usage { what: f.to_string() });
        self.request.preprocessing.check(channels).map_err(asked)?;
        let mut metadata = self.request.preprocessing.entries();
        let Some(names) = self.request.classes.clone().or(found) else { return Ok((metadata, labels)) };
        let text = classes_text(&names).map_err(|f| asked(f).hinting("`--classes` names them otherwise"))?;
        if names.len() < labels {
            let what = format!("{} names of classes; expected {labels}, one for each label", names.len());
            return Err(ErrorKind::Usage { what }.into());
        }
        metadata.push(("classes".to_owned(), text));
        Ok((metadata, names.len()))
    }
}

/// Says that a file or folder cannot be read.
fn unreadable(error: std::io::Error, path: &Path) -> Error {
    let found = match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist",
        std::io::ErrorKind::NotADirectory => "is no folder",
        _ => return Error::below(error, Blame::Io).at(path),
    };
    fault(DataFault::File { found: found.to_owned(), expected: "data to import".to_owned() }, path)
}
