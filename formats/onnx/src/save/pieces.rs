//! A model in pieces: what stands before the graph's initializers, each of them, what follows.
//!
//! Fields stand in the order of their numbers, as every writer has them, so that a model which
//! such a writer made comes back byte for byte.

use bytes::Bytes;
use prost::Message;

use super::output::Output;
use crate::data_type::DataType;
use crate::error::Error;
use crate::external::External;
use crate::limits::Limits;
use crate::proto::tensor_proto::DataLocation;
use crate::proto::{GraphProto, ModelProto, StringStringEntryProto, TensorProto};
use crate::tensor::{is_external, one_field, read};
use crate::wire::{field, key};

const RAW_DATA: u32 = 9;
const INITIALIZER: u32 = 5;
const GRAPH: u32 = 7;

/// Tensors of so many bytes begin on a page.
const LARGE: u64 = 1 << 16;

/// The graph's initializers, and where each of them goes.
pub(crate) struct Pieces<'a> {
    initializers: Vec<(&'a TensorProto, Fate)>,
    external: &'a External,
    location: &'a str,
}

/// Where an initializer goes.
#[derive(Clone, Copy)]
enum Fate {
    /// Into the model, as so many bytes.
    Inside(u64),
    /// Into the file beside it.
    Outside { offset: u64, length: u64 },
}

/// What surrounds the initializers.
pub(crate) struct Frame {
    pub(crate) before: Vec<u8>,
    pub(crate) after: Vec<u8>,
    pub(crate) total: u64,
}

/// An initializer's fields before its raw data, the data, the fields after it.
struct Encoded {
    before: Vec<u8>,
    raw: Bytes,
    after: Vec<u8>,
}

impl Encoded {
    fn len(&self) -> usize {
        self.before.len() + self.raw.len() + self.after.len()
    }
}

impl<'a> Pieces<'a> {
    /// Decides where each initializer goes: outside from `threshold` bytes on.
    pub(crate) fn new(
        graph: &'a GraphProto,
        external: &'a External,
        threshold: Option<u64>,
        location: &'a str,
    ) -> Result<Self, Error> {
        let mut end = 0u64;
        let mut this = Self { initializers: Vec::new(), external, location };
        for proto in &graph.initializer {
            let text = proto.data_type() == DataType::String.number();
            let large = match threshold {
                Some(threshold) if !text => {
                    Some(this.read(proto)?.len() as u64).filter(|len| *len >= threshold && *len > 0)
                }
                _ => None,
            };
            let fate = match large {
                Some(length) => {
                    let offset = end.next_multiple_of(if length >= LARGE { 4096 } else { 64 });
                    end = offset + length;
                    Fate::Outside { offset, length }
                }
                None => Fate::Inside(this.encode(proto, None)?.len() as u64),
            };
            this.initializers.push((proto, fate));
        }
        Ok(this)
    }

    /// Whether anything goes outside.
    pub(crate) fn outside(&self) -> bool {
        self.initializers.iter().any(|(_, fate)| matches!(fate, Fate::Outside { .. }))
    }

    fn read(&self, proto: &TensorProto) -> Result<Bytes, Error> {
        Ok(read(proto, self.external, &Limits::default())?.bytes)
    }

    /// An initializer as a message, its data inside or at a place outside.
    fn encode(&self, proto: &TensorProto, place: Option<(u64, u64)>) -> Result<Encoded, Error> {
        let external = is_external(proto)?;
        let raw = match place {
            Some(_) => None,
            None if external => Some(self.read(proto)?),
            // Data in other fields too is not for us to drop.
            None => proto.raw_data.clone().filter(|_| matches!(one_field(proto), Ok(None | Some("raw_data")))),
        };
        if raw.is_none() && place.is_none() {
            return Ok(Encoded { before: proto.encode_to_vec(), raw: Bytes::new(), after: Vec::new() });
        }
        let stale = || proto.external_data.clone();
        let mut external_data = if external || place.is_some() { Vec::new() } else { stale() };
        if let Some((offset, length)) = place {
            let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.into()), value: Some(value) };
            external_data.push(entry("location", self.location.to_owned()));
            external_data.push(entry("offset", offset.to_string()));
            external_data.push(entry("length", length.to_string()));
        }
        let location = place.map(|_| DataLocation::External as i32);
        let stays = proto.data_location.filter(|_| !external);
        let before = TensorProto {
            dims: proto.dims.clone(),
            data_type: proto.data_type,
            segment: proto.segment,
            name: proto.name.clone(),
            ..TensorProto::default()
        };
        let after = TensorProto {
            doc_string: proto.doc_string.clone(),
            external_data,
            data_location: location.or(stays),
            metadata_props: proto.metadata_props.clone(),
            ..TensorProto::default()
        };
        let mut before = before.encode_to_vec();
        if let Some(raw) = &raw {
            before.extend(key(RAW_DATA, raw.len()));
        }
        Ok(Encoded { before, raw: raw.unwrap_or_default(), after: after.encode_to_vec() })
    }

    fn encoded(&self, proto: &TensorProto, fate: Fate) -> Result<Encoded, Error> {
        match fate {
            Fate::Inside(_) => self.encode(proto, None),
            Fate::Outside { offset, length } => self.encode(proto, Some((offset, length))),
        }
    }

    /// Bytes of all initializers as fields of the graph.
    fn len(&self) -> u64 {
        let lens = self.initializers.iter().map(|(proto, fate)| match fate {
            Fate::Inside(len) => *len,
            // Never an error: nothing is read for what goes outside.
            fate => self.encoded(proto, *fate).map_or(0, |encoded| encoded.len() as u64),
        });
        lens.map(|len| key(INITIALIZER, len as usize).len() as u64 + len).sum()
    }

    /// Writes the initializers as fields of the graph.
    pub(crate) fn write_inside(&self, out: &mut Output) -> Result<(), Error> {
        for (proto, fate) in &self.initializers {
            let encoded = self.encoded(proto, *fate)?;
            out.write(&key(INITIALIZER, encoded.len()))?;
            out.write(&encoded.before)?;
            out.write(&encoded.raw)?;
            out.write(&encoded.after)?;
        }
        Ok(())
    }

    /// Writes the file beside the model.
    pub(crate) fn write_outside(&self, out: &mut Output) -> Result<(), Error> {
        let mut at = 0;
        for (proto, fate) in &self.initializers {
            let Fate::Outside { offset, length } = fate else { continue };
            // Less than a page.
            out.write(&vec![0; (offset - at) as usize])?;
            out.write(&self.read(proto)?)?;
            at = offset + length;
        }
        Ok(())
    }
}

/// What stands before and after the initializers, and how much all of it is.
pub(crate) fn frame(model: &ModelProto, graph: &GraphProto, pieces: &Pieces<'_>) -> Frame {
    let mut inner: Vec<u8> = graph.node.iter().flat_map(|node| field(1, node)).collect();
    inner.extend(GraphProto { name: graph.name.clone(), ..GraphProto::default() }.encode_to_vec());
    let rest = GraphProto {
        doc_string: graph.doc_string.clone(),
        input: graph.input.clone(),
        output: graph.output.clone(),
        value_info: graph.value_info.clone(),
        quantization_annotation: graph.quantization_annotation.clone(),
        sparse_initializer: graph.sparse_initializer.clone(),
        metadata_props: graph.metadata_props.clone(),
        ..GraphProto::default()
    };
    let mut after = rest.encode_to_vec();
    let graph_len = inner.len() as u64 + pieces.len() + after.len() as u64;
    let head = ModelProto {
        ir_version: model.ir_version,
        producer_name: model.producer_name.clone(),
        producer_version: model.producer_version.clone(),
        domain: model.domain.clone(),
        model_version: model.model_version,
        doc_string: model.doc_string.clone(),
        ..ModelProto::default()
    };
    let tail = ModelProto {
        opset_import: model.opset_import.clone(),
        metadata_props: model.metadata_props.clone(),
        training_info: model.training_info.clone(),
        functions: model.functions.clone(),
        configuration: model.configuration.clone(),
        ..ModelProto::default()
    };
    let mut before = head.encode_to_vec();
    before.extend(key(GRAPH, graph_len as usize));
    let total = before.len() as u64 + graph_len;
    before.extend(inner);
    after.extend(tail.encode_to_vec());
    Frame { total: total + tail.encoded_len() as u64, before, after }
}
