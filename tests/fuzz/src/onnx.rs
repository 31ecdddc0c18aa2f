//! Models of ONNX.

use niwaki_onnx::{Attributes, Bytes, Limits, Model, strings, tensor};

/// A whole model: what is accepted names its initializers apart, has tensors of the length that
/// type and dimensions ask for, and comes back when it is written again.
pub fn onnx_model(bytes: &[u8]) -> bool {
    let limits = Limits { expanded_bytes: 1 << 20, ..Limits::default() };
    let model = match Model::parse(Bytes::copy_from_slice(bytes), &limits) {
        Ok(model) => model,
        Err(error) => {
            one_line(&error);
            return false;
        }
    };
    let mut sound = true;
    for initializer in model.initializers() {
        match model.read(initializer) {
            Ok(read) => assert_eq!(read.dtype.byte_len(read.elements()), Some(read.bytes.len())),
            Err(error) => {
                one_line(&error);
                sound = false;
            }
        }
    }
    for node in &model.graph().node {
        let attributes = Attributes::new(node);
        for attribute in attributes.all() {
            for error in [attributes.int(attribute.name()).err(), attributes.string(attribute.name()).err()] {
                error.iter().for_each(one_line);
            }
            let held = attribute.t.iter().chain(&attribute.tensors);
            held.for_each(|proto| {
                [tensor(proto, None).err(), strings(proto).err()].iter().flatten().for_each(one_line)
            });
        }
    }
    sound
}

fn one_line(error: &niwaki_onnx::Error) {
    let text = error.to_string();
    assert!(!text.contains(char::is_control) && !text.is_empty(), "{text:?}");
}
