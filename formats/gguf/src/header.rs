//! Everything in front of the data, checked against the length of the file.
//!
//! ```text
//! "GGUF" | u32 version | u64 tensors | u64 keys
//! keys    x { string key | u32 type | value }
//! tensors x { string name | u32 n | u64 dims[n], row first | u32 ggml type | u64 offset }
//! zeros up to a multiple of the alignment
//! data: each tensor at its offset, a multiple of the alignment
//! ```

use std::ops::Range;

use niwaki_tensors::{Limit, Limits};

use crate::error::{Error, ErrorKind, Place};
use crate::ggml::GgmlType;
use crate::scan::Scan;
use crate::value::{Metadata, Value, ValueType};

/// What a file begins with.
pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
/// Bytes of magic, version and counts.
const FIXED_BYTES: usize = 24;
/// The key that says at which multiples tensors begin.
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";
/// The alignment where the key is missing.
pub(crate) const DEFAULT_ALIGNMENT: u32 = 32;
/// The largest alignment that is read or written, so that padding stays small.
pub const MOST_ALIGNMENT: u32 = 1 << 20;
/// Bytes that a tensor's name may have.
pub const NAME_BYTES: usize = 64;
/// Bytes that a key may have.
pub const KEY_BYTES: usize = 65_535;
/// Dimensions that a tensor may have.
pub const MOST_DIMS: usize = 4;

/// A file without its data.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Header {
    /// The version of the format: 2 or 3, which differ in nothing that is read here.
    pub version: u32,
    /// Keys and values, in the order of the file.
    pub metadata: Metadata,
    /// The tensors, in the order of the file.
    pub tensors: Vec<TensorInfo>,
    /// Every tensor begins at a multiple of this many bytes of data.
    pub alignment: u64,
    /// Bytes from the beginning of the file to the end of the last entry.
    pub header_bytes: usize,
    /// Where the data begins in the file.
    pub data_start: usize,
    by_name: Vec<usize>,
}

/// What the header says of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its dimensions, the last of which is a row; empty for a scalar.
    pub dims: Vec<usize>,
    /// The number of its type, known or not.
    pub type_id: u32,
    /// Where it begins in the data.
    pub offset: usize,
}

impl TensorInfo {
    /// Its type.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownType`] for a number that is unknown or retired.
    pub fn ggml_type(&self) -> Result<GgmlType, Error> {
        let id = self.type_id;
        GgmlType::from_id(id).ok_or_else(|| Error::from(ErrorKind::UnknownType { id }).of(&self.name))
    }

    /// How many elements it has.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// Its bytes.
    ///
    /// # Errors
    ///
    /// Those of [`ggml_type`](Self::ggml_type).
    pub fn byte_len(&self) -> Result<usize, Error> {
        // Whatever was parsed has a size.
        Ok(self.ggml_type()?.byte_len(&self.dims).unwrap_or_default())
    }
}

impl Header {
    /// The index of the tensor of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        let at = |index: &usize| self.tensors.get(*index).map_or("", |tensor| tensor.name.as_str());
        let found = self.by_name.binary_search_by(|index| at(index).cmp(name)).ok()?;
        self.by_name.get(found).copied()
    }

    /// Where a tensor lies in the file.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownType`] where only its beginning is known, and
    /// [`ErrorKind::NoEntry`].
    pub fn file_range(&self, index: usize) -> Result<Range<usize>, Error> {
        let has = self.tensors.len();
        let tensor = self.tensors.get(index).ok_or(ErrorKind::NoEntry { index, has })?;
        let begin = self.data_start + tensor.offset;
        Ok(begin..begin + tensor.byte_len()?)
    }

    /// The indices of the tensors in the order of their data.
    pub(crate) fn by_offset(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.tensors.len()).collect();
        let key = |tensor: &TensorInfo| (tensor.offset, tensor.byte_len().unwrap_or(1));
        order.sort_by_key(|index| self.tensors.get(*index).map(key));
        order
    }
}

/// Reads and checks the header of a whole file.
///
/// # Errors
///
/// Every rule of the format that is broken, but for those that [`verify`](crate::verify())
/// lists; and what passes one of the limits.
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Header, Error> {
    let mut scan = Scan::new(bytes);
    let (version, tensors, keys) = fixed(&mut scan, limits)?;
    let metadata = read_metadata(&mut scan, keys, limits)?;
    let tensors = read_tensors(&mut scan, tensors, limits)?;
    let by_name = sorted_names(&tensors)?;
    let alignment = alignment(&metadata)?;
    let header_bytes = bytes.len() - scan.left();
    let data_start = header_bytes.next_multiple_of(alignment as usize);
    let header = Header { version, metadata, tensors, alignment: alignment.into(), header_bytes, data_start, by_name };
    check_places(&header, bytes.len().saturating_sub(data_start))?;
    Ok(header)
}

/// Version and counts.
fn fixed(scan: &mut Scan<'_>, limits: &Limits) -> Result<(u32, u64, u64), Error> {
    let has = scan.left() as u64;
    let magic = scan.take(has.min(4), "magic")?;
    if magic != MAGIC.get(..magic.len()).unwrap_or_default() {
        let mut found = [0; 4];
        found.iter_mut().zip(magic).for_each(|(to, from)| *to = *from);
        return Err(ErrorKind::Magic { found }.into());
    }
    if has < FIXED_BYTES as u64 {
        return Err(ErrorKind::Short { has }.into());
    }
    let version = scan.u32("version")?;
    if version != 0 && version & 0xffff == 0 {
        return Err(ErrorKind::BigEndian { version: version.swap_bytes() }.into());
    }
    if !matches!(version, 2 | 3) {
        return Err(ErrorKind::Version { found: version }.into());
    }
    let (tensors, keys) = (scan.u64("number of tensors")?, scan.u64("number of keys")?);
    if tensors > limits.tensors {
        return Err(ErrorKind::Limit { limit: Limit::Tensors, max: limits.tensors, has: tensors }.into());
    }
    check_count(scan, "keys", keys, 13)?;
    check_count(scan, "tensors", tensors, 24)?;
    Ok((version, tensors, keys))
}

/// Whether the file has room for `says` entries of at least `least` bytes.
fn check_count(scan: &Scan<'_>, what: &'static str, says: u64, least: u64) -> Result<(), Error> {
    let fits = scan.left() as u64 / least;
    if says > fits { Err(ErrorKind::Count { what, says, fits }.into()) } else { Ok(()) }
}

fn check_header_bytes(scan: &Scan<'_>, limits: &Limits) -> Result<(), Error> {
    let (max, has) = (limits.header_bytes, scan.at());
    if has > max { Err(ErrorKind::Limit { limit: Limit::HeaderBytes, max, has }.into()) } else { Ok(()) }
}

fn read_metadata(scan: &mut Scan<'_>, keys: u64, limits: &Limits) -> Result<Metadata, Error> {
    let mut pairs = Vec::with_capacity(keys as usize);
    for number in 0..keys {
        let key = scan.text("its name").map_err(|e| e.within(|| Place::KeyNumber(number)))?;
        check_name(key, KEY_BYTES as u64).map_err(|e| e.within(|| Place::KeyNumber(number)))?;
        let value = scan.value().map_err(|e| e.under(key))?;
        pairs.push((key.to_owned(), value));
        check_header_bytes(scan, limits)?;
    }
    let mut sorted: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair.first() == pair.last()) {
        Some(&[key, _]) => Err(Error::from(ErrorKind::Twice).under(key)),
        _ => Ok(Metadata::from_pairs(pairs)),
    }
}

/// Whether a name is there and not too long.
pub(crate) fn check_name(name: &str, max: u64) -> Result<(), Error> {
    let has = name.len() as u64;
    match has {
        0 => Err(ErrorKind::NoName.into()),
        _ if has > max => Err(ErrorKind::NameBytes { has, max }.into()),
        _ => Ok(()),
    }
}

fn read_tensors(scan: &mut Scan<'_>, count: u64, limits: &Limits) -> Result<Vec<TensorInfo>, Error> {
    check_count(scan, "tensors", count, 24)?;
    let mut tensors = Vec::with_capacity(count as usize);
    for number in 0..count {
        let name = scan.text("its name").map_err(|e| e.within(|| Place::TensorNumber(number)))?;
        check_name(name, NAME_BYTES as u64).map_err(|e| e.within(|| Place::TensorNumber(number)))?;
        tensors.push(read_tensor(scan, name, limits).map_err(|e| e.of(name))?);
        check_header_bytes(scan, limits)?;
    }
    Ok(tensors)
}

fn read_tensor(scan: &mut Scan<'_>, name: &str, limits: &Limits) -> Result<TensorInfo, Error> {
    let (max, has) = (limits.name_bytes, name.len() as u64);
    if has > max {
        return Err(ErrorKind::Limit { limit: Limit::NameBytes, max, has }.into());
    }
    let n = scan.u32("its number of dimensions")?;
    if n as usize > MOST_DIMS {
        return Err(ErrorKind::Dims { has: n.into() }.into());
    }
    if u64::from(n) > limits.dims {
        return Err(ErrorKind::Limit { limit: Limit::Dims, max: limits.dims, has: n.into() }.into());
    }
    let mut wide = (0..n).map(|_| scan.u64("its dimensions")).collect::<Result<Vec<_>, _>>()?;
    wide.reverse();
    let (type_id, offset) = (scan.u32("its type")?, scan.u64("its offset")?);
    let dims = check_size(GgmlType::from_id(type_id), &wide)?;
    let offset = usize::try_from(offset).map_err(|_| ErrorKind::Overflow { ggml: None, dims: wide })?;
    Ok(TensorInfo { name: name.to_owned(), dims, type_id, offset })
}

/// The dimensions, where elements and bytes can be counted and rows are whole blocks.
pub(crate) fn check_size(ggml: Option<GgmlType>, wide: &[u64]) -> Result<Vec<usize>, Error> {
    let overflow = || Error::from(ErrorKind::Overflow { ggml, dims: wide.to_vec() });
    let dims = wide.iter().map(|dim| usize::try_from(*dim).ok()).collect::<Option<Vec<_>>>().ok_or_else(overflow)?;
    // Zeros do not hide dimensions that would overflow without them.
    let elements = dims.iter().try_fold(1usize, |n, dim| n.checked_mul((*dim).max(1)));
    elements.filter(|n| isize::try_from(*n).is_ok()).ok_or_else(overflow)?;
    if let Some(ggml) = ggml {
        let row = wide.last().copied().unwrap_or(1);
        if !row.is_multiple_of(ggml.block_elements() as u64) {
            return Err(ErrorKind::Row { ggml, row }.into());
        }
        ggml.byte_len(&dims).filter(|bytes| isize::try_from(*bytes).is_ok()).ok_or_else(overflow)?;
    }
    Ok(dims)
}

/// The tensors' indices by name; no name stands twice.
fn sorted_names(tensors: &[TensorInfo]) -> Result<Vec<usize>, Error> {
    let mut named: Vec<(&str, usize)> = tensors.iter().zip(0..).map(|(t, index)| (t.name.as_str(), index)).collect();
    named.sort_unstable();
    match named.windows(2).find(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
        Some(&[(name, _), _]) => Err(Error::from(ErrorKind::Twice).of(name)),
        _ => Ok(named.into_iter().map(|(_, index)| index).collect()),
    }
}

/// At which multiples tensors begin.
pub(crate) fn alignment(metadata: &Metadata) -> Result<u32, Error> {
    match metadata.get(ALIGNMENT_KEY) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::U32(n)) if n.is_power_of_two() && *n <= MOST_ALIGNMENT => Ok(*n),
        Some(Value::U32(found)) => Err(Error::from(ErrorKind::Alignment { found: *found }).under(ALIGNMENT_KEY)),
        Some(other) => {
            let kind = ErrorKind::KeyType { found: other.value_type(), expected: ValueType::U32 };
            Err(Error::from(kind).under(ALIGNMENT_KEY))
        }
    }
}

/// Whether every tensor begins where it may, ends inside the file, and overlaps no other.
fn check_places(header: &Header, data_bytes: usize) -> Result<(), Error> {
    let (alignment, has) = (header.alignment, data_bytes as u64);
    for tensor in &header.tensors {
        let begin = tensor.offset as u64;
        if !begin.is_multiple_of(alignment) {
            return Err(Error::from(ErrorKind::Offset { begin, alignment }).of(&tensor.name));
        }
        let end = begin.saturating_add(tensor.byte_len().unwrap_or_default() as u64);
        if end > has && (end > begin || tensor.byte_len().is_err()) {
            return Err(Error::from(ErrorKind::Beyond { end, has }).of(&tensor.name));
        }
    }
    let mut last: Option<(&TensorInfo, u64)> = None;
    for tensor in header.by_offset().into_iter().filter_map(|index| header.tensors.get(index)) {
        // Of a tensor of unknown type only the beginning is known to be taken.
        let (begin, bytes) = (tensor.offset as u64, tensor.byte_len().unwrap_or(1) as u64);
        if let Some((other, end)) = last.filter(|(_, end)| begin < *end && bytes > 0) {
            let other = other.name.clone();
            return Err(Error::from(ErrorKind::Overlap { begin, other, end }).of(&tensor.name));
        }
        if bytes > 0 {
            last = Some((tensor, begin + bytes));
        }
    }
    Ok(())
}
