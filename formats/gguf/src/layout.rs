//! Where everything in a file to be written stands, decided before a byte of data is.

use niwaki_tensors::{Place, Places};

use crate::error::{Error, ErrorKind, Place as ErrorPlace};
use crate::ggml::GgmlType;
use crate::header::{KEY_BYTES, MAGIC, MOST_DIMS, NAME_BYTES, alignment, check_name, check_size};
use crate::value::{Array, Metadata, Texts, Value};

/// The version that is written.
const VERSION: u32 = 3;

/// Bytes that a name may have where ggml is to read it: its own field for names ends with a
/// zero.
const WRITTEN_NAME_BYTES: u64 = NAME_BYTES as u64 - 1;

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its dimensions, the last of which is a row.
    pub dims: Vec<usize>,
    /// Its type.
    pub ggml_type: GgmlType,
}

/// The header of a file and the places of its tensors: in the order given, one after the
/// other, each at the next multiple of `general.alignment`, else of 32.
#[derive(Clone, Debug)]
pub struct Layout {
    entries: Vec<Placed>,
    header: Vec<u8>,
    data_bytes: u64,
}

#[derive(Clone, Debug)]
struct Placed {
    name: String,
    begin: u64,
    bytes: u64,
}

impl Layout {
    /// Places tensors and writes the header.
    ///
    /// # Errors
    ///
    /// Names that come twice, are empty or too long, more than four dimensions, rows that are
    /// no whole blocks, sizes that do not fit, and an alignment that is no power of two.
    pub fn new(metadata: &Metadata, entries: &[Entry]) -> Result<Self, Error> {
        Self::place(metadata, entries).map_err(Error::by_caller)
    }

    fn place(metadata: &Metadata, entries: &[Entry]) -> Result<Self, Error> {
        check_names(metadata, entries)?;
        let alignment = u64::from(alignment(metadata)?);
        let mut placed = Vec::with_capacity(entries.len());
        let mut end = 0u64;
        for entry in entries {
            let bytes = bytes_of(entry).map_err(|e| e.of(&entry.name))?;
            placed.push(Placed { name: entry.name.clone(), begin: end, bytes });
            let next = end.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(alignment));
            end = next.filter(|end| *end < i64::MAX as u64).ok_or_else(|| overflow(entry).of(&entry.name))?;
        }
        let mut header = header_bytes(metadata, entries, &placed);
        header.resize(header.len().next_multiple_of(alignment as usize), 0);
        Ok(Self { entries: placed, header, data_bytes: end })
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Everything in front of the data.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Where the data begins in the file.
    pub fn data_start(&self) -> u64 {
        self.header.len() as u64
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.data_start() + self.data_bytes
    }

    /// The bytes of a tensor.
    pub fn entry_bytes(&self, entry: usize) -> Option<u64> {
        Some(self.entries.get(entry)?.bytes)
    }

    /// Where a tensor begins in the file.
    pub fn file_offset(&self, entry: usize) -> Option<u64> {
        Some(self.data_start() + self.entries.get(entry)?.begin)
    }

    /// Where everything stands in the file: tensors by number, and the padding after them.
    pub(crate) fn places(&self) -> Places {
        let place = |entry: &Placed| Place {
            name: entry.name.clone(),
            at: self.data_start() + entry.begin,
            bytes: entry.bytes,
        };
        let begins = self.entries.iter().skip(1).map(|entry| entry.begin).chain([self.data_bytes]);
        let gaps = self.entries.iter().zip(begins).map(|(entry, next)| (entry.begin + entry.bytes, next));
        let gaps = gaps.filter(|(from, to)| from < to).map(|(from, to)| (self.data_start() + from, to - from));
        Places {
            entries: self.entries.iter().map(place).collect(),
            gaps: gaps.collect(),
            file_bytes: self.file_bytes(),
        }
    }
}

fn check_names(metadata: &Metadata, entries: &[Entry]) -> Result<(), Error> {
    for ((key, _), number) in metadata.iter().zip(0..) {
        check_name(key, KEY_BYTES as u64).map_err(|e| e.within(|| ErrorPlace::KeyNumber(number)))?;
    }
    for (entry, number) in entries.iter().zip(0..) {
        check_name(&entry.name, WRITTEN_NAME_BYTES).map_err(|e| match e.kind() {
            ErrorKind::NoName => e.within(|| ErrorPlace::TensorNumber(number)),
            _ => e.of(&entry.name),
        })?;
    }
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair.first() == pair.last()) {
        Some(&[name, _]) => Err(Error::from(ErrorKind::Twice).of(name)),
        _ => Ok(()),
    }
}

fn bytes_of(entry: &Entry) -> Result<u64, Error> {
    if entry.dims.len() > MOST_DIMS {
        return Err(ErrorKind::Dims { has: entry.dims.len() as u64 }.into());
    }
    let dims = check_size(Some(entry.ggml_type), &wide(&entry.dims))?;
    Ok(entry.ggml_type.byte_len(&dims).unwrap_or_default() as u64)
}

fn overflow(entry: &Entry) -> Error {
    ErrorKind::Overflow { ggml: Some(entry.ggml_type), dims: wide(&entry.dims) }.into()
}

fn wide(dims: &[usize]) -> Vec<u64> {
    dims.iter().map(|dim| *dim as u64).collect()
}

fn header_bytes(metadata: &Metadata, entries: &[Entry], placed: &[Placed]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((entries.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        put_text(&mut out, key);
        out.extend(value.value_type().id().to_le_bytes());
        put_value(&mut out, value);
    }
    for (entry, place) in entries.iter().zip(placed) {
        put_text(&mut out, &entry.name);
        out.extend((entry.dims.len() as u32).to_le_bytes());
        entry.dims.iter().rev().for_each(|dim| out.extend((*dim as u64).to_le_bytes()));
        out.extend(entry.ggml_type.id().to_le_bytes());
        out.extend(place.begin.to_le_bytes());
    }
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(n) => out.push(*n),
        Value::I8(n) => out.extend(n.to_le_bytes()),
        Value::U16(n) => out.extend(n.to_le_bytes()),
        Value::I16(n) => out.extend(n.to_le_bytes()),
        Value::U32(n) => out.extend(n.to_le_bytes()),
        Value::I32(n) => out.extend(n.to_le_bytes()),
        Value::F32(x) => out.extend(x.to_le_bytes()),
        Value::Bool(yes) => out.push((*yes).into()),
        Value::Text(text) => put_text(out, text),
        Value::Array(array) => put_array(out, array),
        Value::U64(n) => out.extend(n.to_le_bytes()),
        Value::I64(n) => out.extend(n.to_le_bytes()),
        Value::F64(x) => out.extend(x.to_le_bytes()),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    out.extend(array.element_type().id().to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::U8(items) => out.extend_from_slice(items),
        Array::I8(items) => items.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::U16(items) => items.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::I16(items) => items.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::U32(items) => items.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::I32(items) => items.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::F32(items) => items.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::Bool(items) => out.extend(items.iter().map(|yes| u8::from(*yes))),
        Array::Text(texts) => put_texts(out, texts),
        Array::Array(items) => items.iter().for_each(|item| put_array(out, item)),
        Array::U64(items) => items.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::I64(items) => items.iter().for_each(|n| out.extend(n.to_le_bytes())),
        Array::F64(items) => items.iter().for_each(|x| out.extend(x.to_le_bytes())),
    }
}

fn put_texts(out: &mut Vec<u8>, texts: &Texts) {
    texts.iter().for_each(|text| put_text(out, text));
}
