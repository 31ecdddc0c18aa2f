//! Where every tensor of a file to be written stands, decided before a byte is.
//!
//! ```text
//! u64 n | header: JSON, then spaces up to n | data
//! ```
//!
//! The data begins at a multiple of 64 bytes, and so does every tensor that is not empty. The
//! format allows no gaps, so each is filled by a tensor of zeros, `__niwaki_pad.N`. The
//! metadata comes last: room for its text is reserved, and what is left over is spaces.

use std::fmt::Write as _;

use crate::dtype::{Dtype, byte_len, elements};
use crate::error::{Error, ErrorKind};
use crate::header::{LENGTH_BYTES, METADATA_KEY};
use crate::limits::FORMAT_HEADER_BYTES;
use crate::placed::{Place, Places};

/// Every tensor begins at a multiple of this many bytes.
pub const ALIGNMENT: u64 = 64;

/// What the names of pad tensors begin with.
pub const PAD_PREFIX: &str = "__niwaki_pad.";

/// Whether a tensor of this name only fills a gap.
pub fn is_pad(name: &str) -> bool {
    name.starts_with(PAD_PREFIX)
}

/// What the names of all tensors begin with that are no tensors of a model: pads, and the records
/// of patches.
pub const RESERVED_PREFIX: &str = "__niwaki_";

/// Whether a tensor of this name is none of a model.
pub fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED_PREFIX)
}

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// The places of all tensors of one file.
#[derive(Clone, Debug)]
pub struct Layout {
    placed: Vec<Placed>,
    /// Index into `placed` of each tensor that was declared.
    declared: Vec<usize>,
    header_bytes: usize,
    data_bytes: u64,
}

#[derive(Clone, Debug)]
struct Placed {
    entry: Entry,
    begin: u64,
    end: u64,
}

impl Layout {
    /// Places tensors in the order given, with pads between them, and reserves
    /// `metadata_room` bytes of header for metadata: an upper bound of what [`metadata_len`]
    /// will say.
    ///
    /// # Errors
    ///
    /// Names that come twice or are reserved, sizes that do not fit, and a header beyond what
    /// the format allows.
    pub fn new(entries: Vec<Entry>, metadata_room: usize) -> Result<Self, Error> {
        if let Some(entry) = entries.iter().find(|entry| is_pad(&entry.name)) {
            return Err(Error::from(ErrorKind::Reserved).of(&entry.name));
        }
        let mut layout = Self::empty();
        let mut pads = 0;
        for entry in entries {
            let bytes = bytes_of(&entry)?;
            let gap = layout.data_bytes.next_multiple_of(ALIGNMENT) - layout.data_bytes;
            if bytes > 0 && gap > 0 {
                let pad = Entry { name: format!("{PAD_PREFIX}{pads}"), dtype: Dtype::U8, shape: vec![gap as usize] };
                layout.place(pad, gap)?;
                pads += 1;
            }
            layout.declared.push(layout.placed.len());
            layout.place(entry, bytes)?;
        }
        layout.close(metadata_room)
    }

    /// Places tensors exactly as given, one after the other: pads, where there are to be any,
    /// are among them.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new), without reserved pad names.
    pub fn exact(entries: Vec<Entry>, metadata_room: usize) -> Result<Self, Error> {
        let mut layout = Self::empty();
        for entry in entries {
            layout.declared.push(layout.placed.len());
            let bytes = bytes_of(&entry)?;
            layout.place(entry, bytes)?;
        }
        layout.close(metadata_room)
    }

    fn empty() -> Self {
        Self { placed: Vec::new(), declared: Vec::new(), header_bytes: 0, data_bytes: 0 }
    }

    fn place(&mut self, entry: Entry, bytes: u64) -> Result<(), Error> {
        let begin = self.data_bytes;
        let Some(end) = begin.checked_add(bytes).filter(|end| *end < i64::MAX as u64) else {
            return Err(overflow(&entry));
        };
        self.data_bytes = end;
        self.placed.push(Placed { entry, begin, end });
        Ok(())
    }

    /// Checks names and settles the length of the header.
    fn close(mut self, metadata_room: usize) -> Result<Self, Error> {
        let mut names: Vec<&str> = self.placed.iter().map(|placed| placed.entry.name.as_str()).collect();
        names.sort_unstable();
        if names.contains(&METADATA_KEY) {
            return Err(Error::from(ErrorKind::Reserved).of(METADATA_KEY));
        }
        if let Some(&[name, _]) = names.windows(2).find(|pair| pair.first() == pair.last()) {
            return Err(Error::from(ErrorKind::TwiceTensor).of(name));
        }
        let text = LENGTH_BYTES + self.header_text(&[]).len() + metadata_room;
        self.header_bytes = text.next_multiple_of(ALIGNMENT as usize) - LENGTH_BYTES;
        if self.header_bytes as u64 > FORMAT_HEADER_BYTES {
            return Err(ErrorKind::HeaderBeyondFormat { says: self.header_bytes as u64 }.into());
        }
        Ok(self)
    }

    /// How many tensors were declared, pads not counted.
    pub fn len(&self) -> usize {
        self.declared.len()
    }

    /// Whether no tensor was declared.
    pub fn is_empty(&self) -> bool {
        self.declared.is_empty()
    }

    /// The tensors that were declared, with their bytes.
    pub fn tensors(&self) -> impl Iterator<Item = (&Entry, u64)> {
        self.declared
            .iter()
            .filter_map(|at| self.placed.get(*at))
            .map(|placed| (&placed.entry, placed.end - placed.begin))
    }

    /// Bytes of one declared tensor; none where there is no such entry.
    pub fn entry_bytes(&self, entry: usize) -> Option<u64> {
        self.find(entry).map(|placed| placed.end - placed.begin)
    }

    /// Where a declared tensor begins in the file; none where there is no such entry.
    pub fn file_offset(&self, entry: usize) -> Option<u64> {
        self.find(entry).map(|placed| self.data_start() + placed.begin)
    }

    fn find(&self, entry: usize) -> Option<&Placed> {
        self.placed.get(*self.declared.get(entry)?)
    }

    /// Where everything stands in the file: declared tensors by number, and the pads.
    pub(crate) fn places(&self) -> Places {
        let place = |placed: &Placed| Place {
            name: placed.entry.name.clone(),
            at: self.data_start() + placed.begin,
            bytes: placed.end - placed.begin,
        };
        let pads = self.placed.iter().filter(|placed| is_pad(&placed.entry.name)).map(place);
        Places {
            entries: self.declared.iter().filter_map(|at| self.placed.get(*at)).map(place).collect(),
            gaps: pads.map(|pad| (pad.at, pad.bytes)).collect(),
            file_bytes: self.file_bytes(),
        }
    }

    /// Bytes of the header, reserved room and spaces included, without the eight bytes in
    /// front of it.
    pub fn header_bytes(&self) -> usize {
        self.header_bytes
    }

    /// Where the data begins in the file.
    pub fn data_start(&self) -> u64 {
        (LENGTH_BYTES + self.header_bytes) as u64
    }

    /// Bytes of the data, pads included.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.data_start() + self.data_bytes
    }

    /// The same places with the data at byte `data_start`, which leaves more room for metadata.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::HeaderRoom`] where the header needs more.
    pub fn starting_at(mut self, data_start: u64) -> Result<Self, Error> {
        let has = usize::try_from(data_start).unwrap_or(usize::MAX).saturating_sub(LENGTH_BYTES);
        if has < self.header_bytes {
            return Err(ErrorKind::HeaderRoom { needs: self.header_bytes, has }.into());
        }
        self.header_bytes = has;
        Ok(self)
    }

    /// Everything in front of the data, for those who write the file by themselves.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::HeaderRoom`] for metadata that needs more room than was reserved.
    pub fn header(&self, metadata: &[(&str, &str)]) -> Result<Vec<u8>, Error> {
        let text = self.header_text(metadata);
        if text.len() > self.header_bytes {
            return Err(ErrorKind::HeaderRoom { needs: text.len(), has: self.header_bytes }.into());
        }
        let mut bytes = (self.header_bytes as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(LENGTH_BYTES + self.header_bytes, b' ');
        Ok(bytes)
    }

    fn header_text(&self, metadata: &[(&str, &str)]) -> String {
        let mut text = String::from("{");
        text.push_str(&metadata_text(metadata));
        for Placed { entry, begin, end } in &self.placed {
            let shape: Vec<String> = entry.shape.iter().map(ToString::to_string).collect();
            let (name, dtype, shape) = (quoted(&entry.name), entry.dtype, shape.join(","));
            // Writing to a `String` cannot fail.
            let _ =
                write!(text, "{name}:{{\"dtype\":\"{dtype}\",\"shape\":[{shape}],\"data_offsets\":[{begin},{end}]}},");
        }
        if text.ends_with(',') {
            text.pop();
        }
        text.push('}');
        text
    }
}

fn bytes_of(entry: &Entry) -> Result<u64, Error> {
    let bits =
        elements(&entry.shape).and_then(|n| n.checked_mul(entry.dtype.bitsize())).ok_or_else(|| overflow(entry))?;
    match byte_len(entry.dtype, bits / entry.dtype.bitsize()) {
        Some(bytes) => Ok(bytes as u64),
        None => {
            let shape = entry.shape.iter().map(|dim| *dim as u64).collect();
            Err(Error::from(ErrorKind::PartByte { dtype: entry.dtype, shape, bits: bits as u64 }).of(&entry.name))
        }
    }
}

fn overflow(entry: &Entry) -> Error {
    let shape = entry.shape.iter().map(|dim| *dim as u64).collect();
    Error::from(ErrorKind::Overflow { dtype: entry.dtype, shape }).of(&entry.name)
}

/// A text as JSON writes it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The metadata in front of the tensors, its comma included; keys sorted, the first of equal
/// ones kept.
fn metadata_text(metadata: &[(&str, &str)]) -> String {
    if metadata.is_empty() {
        return String::new();
    }
    let mut sorted = metadata.to_vec();
    sorted.sort_by_key(|(key, _)| *key);
    sorted.dedup_by_key(|(key, _)| *key);
    let pairs: Vec<String> = sorted.iter().map(|(key, value)| format!("{}:{}", quoted(key), quoted(value))).collect();
    format!("\"{METADATA_KEY}\":{{{}}},", pairs.join(","))
}

/// Bytes of header that metadata takes, escapes included.
pub fn metadata_len(metadata: &[(&str, &str)]) -> usize {
    metadata_text(metadata).len()
}
