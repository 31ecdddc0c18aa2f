//! Every rule that a file breaks and that opening tolerates.

mod tokenizer;
mod values;

use std::fmt;

use crate::ggml::{GgmlType, is_retired};
use crate::header::{Header, NAME_BYTES};
use crate::value::{Value, ValueType};

pub(crate) const ARCHITECTURE_KEY: &str = "general.architecture";
pub(crate) const QUANTIZATION_VERSION_KEY: &str = "general.quantization_version";

/// A rule that is broken. `Display` is one line.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// Padding that is not zero.
    Padding {
        /// The first byte that is not, in the file.
        at: u64,
    },
    /// Bytes between tensors that are more than padding.
    Gap {
        /// The tensor after them.
        tensor: String,
        /// The first, from the beginning of the data.
        from: u64,
        /// Where the tensor begins.
        to: u64,
    },
    /// A tensor whose data stands before that of one listed earlier.
    Order {
        /// The tensor.
        tensor: String,
    },
    /// Bytes after the last tensor that are more than padding.
    Trailing {
        /// Where the padding ends in the file.
        end: u64,
        /// Bytes of the file.
        has: u64,
    },
    /// A file that ends before its padding does.
    Unpadded {
        /// Bytes that are missing.
        missing: u64,
    },
    /// A name as long as ggml's field for it, which ends with a zero.
    LongName {
        /// The tensor.
        tensor: String,
    },
    /// A type that is unknown or retired.
    Type {
        /// The tensor.
        tensor: String,
        /// The number of its type.
        id: u32,
    },
    /// A type of activations, which no engine reads from files.
    NotStored {
        /// The tensor.
        tensor: String,
        /// Its type.
        ggml: GgmlType,
    },
    /// A key that is missing.
    NoKey {
        /// The key.
        key: String,
    },
    /// A key whose value has another type.
    KeyType {
        /// The key.
        key: String,
        /// The type found.
        found: String,
        /// The type expected.
        expected: String,
    },
    /// A key that is no lower-case ASCII.
    KeyText {
        /// The key.
        key: String,
    },
    /// A quantization version that is not 2.
    QuantizationVersion {
        /// The version found.
        found: u64,
    },
    /// A list of the tokenizer that has not as many elements as there are tokens.
    TokenCount {
        /// The key.
        key: String,
        /// Its elements.
        has: u64,
        /// The tokens.
        tokens: u64,
    },
    /// A special token that is none of the tokens.
    TokenId {
        /// The key.
        key: String,
        /// The token.
        id: u64,
        /// The tokens.
        tokens: u64,
    },
    /// Fewer or more rows of embeddings than tokens.
    Embeddings {
        /// The tensor.
        tensor: String,
        /// Its rows.
        rows: u64,
        /// The tokens.
        tokens: u64,
    },
    /// Values or scales that are not finite.
    NotFinite {
        /// The tensor.
        tensor: String,
        /// What they are: `values` or `scales`.
        what: &'static str,
        /// How many.
        count: u64,
        /// The element or block of the first.
        first: u64,
    },
}

impl Fault {
    /// The tensor it concerns.
    pub fn tensor(&self) -> Option<&str> {
        match self {
            Self::Gap { tensor, .. } | Self::Order { tensor } | Self::LongName { tensor } => Some(tensor),
            Self::Type { tensor, .. } | Self::NotStored { tensor, .. } => Some(tensor),
            Self::Embeddings { tensor, .. } | Self::NotFinite { tensor, .. } => Some(tensor),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Padding { at } => write!(f, "the padding is not zero at byte {at}"),
            Self::Gap { tensor, from, to } => {
                write!(f, "bytes {from} to {to} of the data, before tensor `{}`, belong to none", escaped(tensor))
            }
            Self::Order { tensor } => {
                write!(f, "tensor `{}` stands before one that is listed earlier", escaped(tensor))
            }
            Self::Trailing { end, has } => write!(f, "the last {} of {has} bytes belong to no tensor", has - end),
            Self::Unpadded { missing } => write!(f, "{missing} bytes of padding are missing at the end"),
            Self::LongName { tensor } => {
                let most = NAME_BYTES - 1;
                write!(f, "tensor `{}`: its name has {NAME_BYTES} bytes; ggml reads up to {most}", escaped(tensor))
            }
            Self::Type { tensor, id } if is_retired(*id) => {
                write!(f, "tensor `{}`: type {id} is one that ggml has retired", escaped(tensor))
            }
            Self::Type { tensor, id } => write!(f, "tensor `{}`: type {id} is unknown", escaped(tensor)),
            Self::NotStored { tensor, ggml } => {
                write!(f, "tensor `{}`: {ggml} is a type of activations, not of weights", escaped(tensor))
            }
            Self::NoKey { key } => write!(f, "the key `{key}` is missing"),
            Self::KeyType { key, found, expected } => {
                write!(f, "key `{}` is of type {found}; {expected} is expected", escaped(key))
            }
            Self::KeyText { key } => {
                write!(f, "key `{}` has other characters than a to z, 0 to 9, `_`, `-` and `.`", escaped(key))
            }
            other => fmt_numbers(other, f),
        }
    }
}

fn fmt_numbers(fault: &Fault, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match fault {
        Fault::QuantizationVersion { found } => {
            write!(f, "key `{QUANTIZATION_VERSION_KEY}` is {found}; 2 is expected")
        }
        Fault::TokenCount { key, has, tokens } => {
            write!(f, "key `{key}` has {has} elements; there are {tokens} tokens")
        }
        Fault::TokenId { key, id, tokens } => write!(f, "key `{key}` is {id}; there are {tokens} tokens"),
        Fault::Embeddings { tensor, rows, tokens } => {
            write!(f, "tensor `{}` has {rows} rows; there are {tokens} tokens", escaped(tensor))
        }
        Fault::NotFinite { tensor, what, count, first } => {
            let unit = if *what == "scales" { "block" } else { "element" };
            write!(f, "tensor `{}`: {count} {what} are not finite, the first in {unit} {first}", escaped(tensor))
        }
        other => write!(f, "{other:?}"),
    }
}

/// A name on one line.
fn escaped(name: &str) -> String {
    name.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Every rule that is broken: by the layout, the metadata, and the values. Reads the whole
/// file, whose header this is.
pub fn verify(header: &Header, bytes: &[u8]) -> Vec<Fault> {
    let mut faults = Vec::new();
    places(header, bytes, &mut faults);
    keys(header, &mut faults);
    tokenizer::verify(header, &mut faults);
    types(header, &mut faults);
    values::verify(header, bytes, &mut faults);
    faults
}

/// Order, gaps and padding.
fn places(header: &Header, bytes: &[u8], faults: &mut Vec<Fault>) {
    let alignment = header.alignment as usize;
    let padded = |end: usize| end.checked_next_multiple_of(alignment).unwrap_or(usize::MAX);
    let padding = |from: usize, to: usize| {
        let pad = bytes.get(from..to.min(bytes.len())).unwrap_or_default();
        pad.iter().position(|byte| *byte != 0).map(|at| Fault::Padding { at: (from + at) as u64 })
    };
    let mut latest = 0;
    for tensor in &header.tensors {
        if tensor.offset < latest {
            faults.push(Fault::Order { tensor: tensor.name.clone() });
        }
        latest = latest.max(tensor.offset);
    }
    faults.extend(padding(header.header_bytes, header.data_start));
    let (mut end, mut known) = (0, true);
    for tensor in header.by_offset().into_iter().filter_map(|index| header.tensors.get(index)) {
        let next = padded(end);
        if known && tensor.offset > next {
            let gap = Fault::Gap { tensor: tensor.name.clone(), from: end as u64, to: tensor.offset as u64 };
            faults.push(gap);
        } else if known {
            faults.extend(padding(header.data_start + end, header.data_start + next));
        }
        known = tensor.byte_len().is_ok();
        end = tensor.offset + tensor.byte_len().unwrap_or_default();
    }
    if !known || header.tensors.is_empty() && header.data_start >= bytes.len() {
        return;
    }
    let (last, has) = (header.data_start + end, bytes.len());
    let end = padded(last);
    faults.extend(padding(last, end));
    match has.cmp(&end) {
        std::cmp::Ordering::Less => faults.push(Fault::Unpadded { missing: (end - has) as u64 }),
        std::cmp::Ordering::Greater => faults.push(Fault::Trailing { end: end as u64, has: has as u64 }),
        std::cmp::Ordering::Equal => {}
    }
}

/// Keys that every file has, and how keys are spelled.
fn keys(header: &Header, faults: &mut Vec<Fault>) {
    let quantized = |info: &crate::header::TensorInfo| info.ggml_type().is_ok_and(|ggml| ggml.block_elements() > 1);
    expect(header, ARCHITECTURE_KEY, ValueType::Text, true, faults);
    let needs_version = header.tensors.iter().any(quantized);
    expect(header, QUANTIZATION_VERSION_KEY, ValueType::U32, needs_version, faults);
    if let Some(Value::U32(found)) = header.metadata.get(QUANTIZATION_VERSION_KEY).filter(|v| **v != Value::U32(2)) {
        faults.push(Fault::QuantizationVersion { found: (*found).into() });
    }
    expect(header, "general.file_type", ValueType::U32, false, faults);
    let plain = |key: &str| key.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.'));
    for (key, _) in header.metadata.iter().filter(|(key, _)| !plain(key)) {
        faults.push(Fault::KeyText { key: key.to_owned() });
    }
}

/// Whether a key has this type, or is missing where it may be.
fn expect(header: &Header, key: &str, expected: ValueType, required: bool, faults: &mut Vec<Fault>) {
    match header.metadata.get(key) {
        None if required => faults.push(Fault::NoKey { key: key.to_owned() }),
        Some(value) if value.value_type() != expected => faults.push(Fault::KeyType {
            key: key.to_owned(),
            found: value.value_type().to_string(),
            expected: expected.to_string(),
        }),
        _ => {}
    }
}

/// Types that no engine reads, and names too long for one.
fn types(header: &Header, faults: &mut Vec<Fault>) {
    for info in &header.tensors {
        if info.name.len() >= NAME_BYTES {
            faults.push(Fault::LongName { tensor: info.name.clone() });
        }
        match info.ggml_type() {
            Err(_) => faults.push(Fault::Type { tensor: info.name.clone(), id: info.type_id }),
            Ok(ggml @ (GgmlType::Q8_1 | GgmlType::Q8_K)) => {
                faults.push(Fault::NotStored { tensor: info.name.clone(), ggml });
            }
            Ok(_) => {}
        }
    }
}
