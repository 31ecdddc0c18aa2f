//! A file, mapped.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

use niwaki_tensors::{Advice, Limits, MappedFile};

use crate::error::{Error, ErrorKind};
use crate::ggml::GgmlType;
use crate::header::{Header, TensorInfo, parse};
use crate::value::Metadata;
use crate::verify::{Fault, verify};

/// A GGUF file. Opening reads the header only; tensors are borrowed from the map.
pub struct Gguf {
    file: MappedFile,
    header: Header,
}

impl Gguf {
    /// Opens the file at `path`.
    ///
    /// As long as it is open, nobody must shorten the file: reading what is gone ends the
    /// process. [`ensure_unchanged`](Self::ensure_unchanged) looks whether somebody did.
    ///
    /// # Errors
    ///
    /// Those of [`parse`], and whatever the system refuses.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, Error> {
        if path.is_dir() {
            return Err(Error::from(ErrorKind::IsFolder).at(path));
        }
        let file = MappedFile::open(path)?;
        let header = parse(file.bytes(), limits).map_err(|e| e.at(path))?;
        Ok(Self { file, header })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Its bytes, header included.
    pub fn bytes(&self) -> &[u8] {
        self.file.bytes()
    }

    /// When the file was last written, as the system said at opening.
    pub fn modified(&self) -> Option<SystemTime> {
        self.file.modified()
    }

    /// Everything but the data.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Keys and values, in the order of the file.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// How many tensors it has.
    pub fn len(&self) -> usize {
        self.header.tensors.len()
    }

    /// Whether it has none: a vocabulary alone.
    pub fn is_empty(&self) -> bool {
        self.header.tensors.is_empty()
    }

    /// Its tensors, in the order of the file.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.header.tensors.iter().enumerate().map(|(index, info)| TensorView { gguf: self, info, index })
    }

    /// One of its tensors.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let index = self.header.find(name)?;
        Some(TensorView { gguf: self, info: self.header.tensors.get(index)?, index })
    }

    /// Every rule that it breaks and that opening tolerates. Reads the whole file.
    pub fn verify(&self) -> Vec<Fault> {
        verify(&self.header, self.file.bytes())
    }

    /// Whether the file still has the length and the time of change that it had when it was
    /// opened.
    ///
    /// # Errors
    ///
    /// Those of [`MappedFile::ensure_unchanged`].
    pub fn ensure_unchanged(&self) -> Result<(), Error> {
        Ok(self.file.ensure_unchanged()?)
    }
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf").field("path", &self.path()).field("tensors", &self.len()).finish_non_exhaustive()
    }
}

/// One tensor of a file.
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    gguf: &'a Gguf,
    info: &'a TensorInfo,
    index: usize,
}

impl<'a> TensorView<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.info.name
    }

    /// Its dimensions, the last of which is a row; empty for a scalar.
    pub fn dims(&self) -> &'a [usize] {
        &self.info.dims
    }

    /// The number of its type, known or not.
    pub fn type_id(&self) -> u32 {
        self.info.type_id
    }

    /// What the header says of it.
    pub fn info(&self) -> &'a TensorInfo {
        self.info
    }

    /// Its type.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownType`].
    pub fn ggml_type(&self) -> Result<GgmlType, Error> {
        self.info.ggml_type().map_err(|e| e.at(self.gguf.path()))
    }

    /// How many elements it has.
    pub fn elements(&self) -> usize {
        self.info.elements()
    }

    /// Where it lies in the file.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownType`].
    pub fn file_range(&self) -> Result<Range<usize>, Error> {
        self.gguf.header.file_range(self.index).map_err(|e| e.at(self.gguf.path()))
    }

    /// Its bytes in the map.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownType`].
    pub fn bytes(&self) -> Result<&'a [u8], Error> {
        Ok(self.gguf.bytes().get(self.file_range()?).unwrap_or_default())
    }

    /// Tells the kernel what is about to happen to a range of its bytes; see
    /// [`MappedFile::advise`].
    ///
    /// # Errors
    ///
    /// Those of [`MappedFile::advise`], and [`ErrorKind::UnknownType`].
    pub fn advise(&self, bytes: Range<usize>, advice: Advice) -> Result<(), Error> {
        let whole = self.file_range()?;
        let at = |byte: usize| whole.start.saturating_add(byte).min(whole.end);
        Ok(self.gguf.file.advise(at(bytes.start)..at(bytes.end), advice)?)
    }
}

impl fmt::Debug for TensorView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims = crate::error::dims(self.dims());
        match self.info.ggml_type() {
            Ok(ggml) => write!(f, "{} ({ggml}, {dims})", self.name()),
            Err(_) => write!(f, "{} (type {}, {dims})", self.name(), self.type_id()),
        }
    }
}
