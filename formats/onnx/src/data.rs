//! Messages that are not models: tensors, sequences and optional values in files of their own,
//! as the tests of operators have them.

use bytes::Bytes;
use prost::Message;

use crate::error::{Error, ErrorKind};
use crate::proto::{OptionalProto, SequenceProto, TensorProto};
use crate::wire;

fn parse<M: Message + Default>(bytes: Bytes, message: &'static str) -> Result<M, Error> {
    M::decode(bytes).map_err(|e| ErrorKind::Protobuf { message, says: wire::one_line(&e) }.into())
}

/// Reads a file that is one `TensorProto`.
///
/// # Errors
///
/// Bytes that are none.
pub fn parse_tensor(bytes: Bytes) -> Result<TensorProto, Error> {
    parse(bytes, "TensorProto")
}

/// Reads a file that is one `SequenceProto`.
///
/// # Errors
///
/// Bytes that are none.
pub fn parse_sequence(bytes: Bytes) -> Result<SequenceProto, Error> {
    parse(bytes, "SequenceProto")
}

/// Reads a file that is one `OptionalProto`.
///
/// # Errors
///
/// Bytes that are none.
pub fn parse_optional(bytes: Bytes) -> Result<OptionalProto, Error> {
    parse(bytes, "OptionalProto")
}
