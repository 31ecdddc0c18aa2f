//! One tensor, borrowed from the map.

use std::fmt;
use std::ops::Range;

use crate::checkpoint::Checkpoint;
use crate::decode::{as_f32, decode_f32};
use crate::dtype::{Dtype, byte_len};
use crate::error::{Error, ErrorKind};
use crate::header::HeaderEntry;
use crate::limits::Limits;
use crate::mmap::Advice;
use crate::shard::Shard;

/// One tensor of a checkpoint.
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    shard: &'a Shard,
    entry: &'a HeaderEntry,
    index: usize,
}

impl<'a> TensorView<'a> {
    pub(crate) fn new(shard: &'a Shard, index: usize, entry: &'a HeaderEntry) -> Self {
        Self { shard, entry, index }
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.entry.name
    }

    /// Its element type.
    pub fn dtype(&self) -> Dtype {
        self.entry.dtype
    }

    /// Its dimensions; empty for a scalar.
    pub fn shape(&self) -> &'a [usize] {
        &self.entry.shape
    }

    /// How many elements it has.
    pub fn elements(&self) -> usize {
        self.entry.shape.iter().product()
    }

    /// Its bytes in the map, at whatever alignment the file gives them.
    pub fn bytes(&self) -> &'a [u8] {
        self.shard.data(self.entry)
    }

    /// Its bytes as a safetensors file of its own, named `FILE#TENSOR`. Nothing is copied: the map
    /// is shared, and [`Checkpoint::ensure_unchanged`] looks at the file around it.
    ///
    /// # Errors
    ///
    /// Those of [`parse_header`](crate::parse_header).
    pub fn embedded(&self, limits: &Limits) -> Result<Checkpoint, Error> {
        Checkpoint::from_backing(self.shard.embedded(self.entry), limits)
    }

    /// Index of its file among the checkpoint's shards.
    pub fn shard(&self) -> usize {
        self.index
    }

    /// Its file.
    pub fn file(&self) -> &'a Shard {
        self.shard
    }

    /// Where its bytes lie in its file.
    pub fn file_range(&self) -> Range<usize> {
        self.shard.file_range(self.entry)
    }

    /// The bytes of a range of elements.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Elements`] beyond the tensor, [`ErrorKind::InsideByte`] where a type
    /// narrower than a byte is cut inside one.
    pub fn slice_bytes(&self, elements: Range<usize>) -> Result<&'a [u8], Error> {
        let (begin, end, dtype) = (elements.start, elements.end, self.dtype());
        let has = self.elements();
        if begin > end || end > has {
            return Err(Error::from(ErrorKind::Elements { begin, end, has }).of(self.name()));
        }
        let cut = byte_len(dtype, begin).zip(byte_len(dtype, end)).and_then(|(from, to)| self.bytes().get(from..to));
        cut.ok_or_else(|| Error::from(ErrorKind::InsideByte { begin, end, dtype }).of(self.name()))
    }

    /// The elements themselves, where they are `F32` and the file aligns them.
    pub fn f32s(&self) -> Option<&'a [f32]> {
        as_f32(self.dtype(), self.bytes())
    }

    /// Decodes a range of elements, rounding `F64` to the nearest `f32`.
    ///
    /// # Errors
    ///
    /// Those of [`slice_bytes`](Self::slice_bytes) and of [`decode_f32`](crate::decode_f32).
    pub fn decode_f32(&self, elements: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        decode_f32(self.dtype(), self.slice_bytes(elements)?, out).map_err(|e| e.of(self.name()))
    }

    /// Tells the kernel what is about to happen to a range of its bytes; see [`Shard::advise`].
    ///
    /// # Errors
    ///
    /// Those of [`Shard::advise`].
    pub fn advise(&self, bytes: Range<usize>, advice: Advice) -> Result<(), Error> {
        let whole = self.file_range();
        let at = |byte: usize| whole.start.saturating_add(byte).min(whole.end);
        self.shard.advise(at(bytes.start)..at(bytes.end), advice)
    }
}

impl fmt::Debug for TensorView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = crate::error::dims(self.shape());
        write!(f, "{} ({}, {shape})", self.name(), self.dtype())
    }
}
