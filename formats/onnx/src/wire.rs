//! Protobuf by hand, where a message is too large to be one piece or too new to be decoded.

use prost::{DecodeError, Message};

/// What the decoder says, on one line.
pub(crate) fn one_line(error: &DecodeError) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(&text).replace(char::is_control, " ")
}

/// The IR version of bytes that may not be a model: writers put it first.
pub(crate) fn ir_version(bytes: &[u8]) -> Option<i64> {
    let rest = bytes.strip_prefix(&[1 << 3])?;
    prost::decode_length_delimiter(rest).ok().map(|version| version as i64)
}

/// What stands before a field of `len` bytes.
pub(crate) fn key(tag: u32, len: usize) -> Vec<u8> {
    let mut key = Vec::new();
    varint(&mut key, u64::from(tag << 3 | 2));
    varint(&mut key, len as u64);
    key
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A message as a field.
pub(crate) fn field(tag: u32, message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    [key(tag, body.len()), body].concat()
}
