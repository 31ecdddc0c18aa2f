//! A node's attributes by name and type.

use crate::error::{Error, ErrorKind};
use crate::proto::attribute_proto::AttributeType;
use crate::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// A node's attributes.
///
/// For each type there are three ways to ask: `int` wants the attribute to be there, `int_or`
/// has a value for when it is not, `maybe_int` says so. Where it is there, all three want it to
/// be of the type, and to stand once.
///
/// # Examples
///
/// ```
/// use niwaki_onnx::Attributes;
/// use niwaki_onnx::build::{attr_ints, node};
///
/// let conv = node("Conv", &["x", "w"], &["y"], vec![attr_ints("pads", &[1, 1, 1, 1])]);
/// let attributes = Attributes::new(&conv);
/// assert_eq!(attributes.ints("pads")?, [1, 1, 1, 1]);
/// assert_eq!(attributes.int_or("group", 1)?, 1);
/// let error = attributes.int("pads").unwrap_err().to_string();
/// assert_eq!(error, "node `y` (Conv): attribute `pads` is of type INTS; INT is expected");
/// # Ok::<(), niwaki_onnx::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    node: &'a NodeProto,
}

macro_rules! getters {
    ($($kind:ident $what:literal: $type:ty, $get:expr; $plain:ident $or:ident $maybe:ident)*) => {
        $(
            #[doc = concat!("The attribute, ", $what, ", if it is there.")]
            ///
            /// # Errors
            ///
            /// An attribute of another type, one that stands twice, or a reference.
            pub fn $maybe(&self, name: &str) -> Result<Option<$type>, Error> {
                let Some(found) = self.typed(name, AttributeType::$kind)? else { return Ok(None) };
                let get: fn(&'a AttributeProto) -> Option<$type> = $get;
                match get(found) {
                    Some(value) => Ok(Some(value)),
                    None => Err(self.missing(name, AttributeType::$kind)),
                }
            }

            #[doc = concat!("The attribute, ", $what, ".")]
            ///
            /// # Errors
            ///
            /// One that is not there, and what the other two refuse.
            pub fn $plain(&self, name: &str) -> Result<$type, Error> {
                self.$maybe(name)?.ok_or_else(|| self.missing(name, AttributeType::$kind))
            }

            #[doc = concat!("The attribute, ", $what, ", or a value where it is not there.")]
            ///
            /// # Errors
            ///
            /// An attribute of another type, one that stands twice, or a reference.
            pub fn $or(&self, name: &str, default: $type) -> Result<$type, Error> {
                Ok(self.$maybe(name)?.unwrap_or(default))
            }
        )*
    };
}

impl<'a> Attributes<'a> {
    /// Those of a node.
    pub fn new(node: &'a NodeProto) -> Self {
        Self { node }
    }

    /// The node.
    pub fn node(&self) -> &'a NodeProto {
        self.node
    }

    /// All attributes in the order of the file.
    pub fn all(&self) -> &'a [AttributeProto] {
        &self.node.attribute
    }

    /// Whether an attribute is there, of whatever type.
    pub fn has(&self, name: &str) -> bool {
        self.node.attribute.iter().any(|attribute| attribute.name() == name)
    }

    getters! {
        Int "an integer": i64, |a| Some(a.i()); int int_or maybe_int
        Float "a float": f32, |a| Some(a.f()); float float_or maybe_float
        Ints "integers": &'a [i64], |a| Some(&a.ints); ints ints_or maybe_ints
        Floats "floats": &'a [f32], |a| Some(&a.floats); floats floats_or maybe_floats
        Tensor "a tensor": &'a TensorProto, |a| a.t.as_ref(); tensor tensor_or maybe_tensor
        Graph "a graph": &'a GraphProto, |a| a.g.as_ref(); graph graph_or maybe_graph
        Graphs "graphs": &'a [GraphProto], |a| Some(&a.graphs); graphs graphs_or maybe_graphs
    }

    /// The attribute, a text, if it is there.
    ///
    /// # Errors
    ///
    /// An attribute of another type, one that stands twice, a reference, or a text that is not
    /// UTF-8.
    pub fn maybe_string(&self, name: &str) -> Result<Option<String>, Error> {
        let Some(found) = self.typed(name, AttributeType::String)? else { return Ok(None) };
        self.text(name, found.s()).map(Some)
    }

    /// The attribute, a text.
    ///
    /// # Errors
    ///
    /// One that is not there, and what [`maybe_string`](Self::maybe_string) refuses.
    pub fn string(&self, name: &str) -> Result<String, Error> {
        self.maybe_string(name)?.ok_or_else(|| self.missing(name, AttributeType::String))
    }

    /// The attribute, a text, or another one where it is not there.
    ///
    /// # Errors
    ///
    /// Those of [`maybe_string`](Self::maybe_string).
    pub fn string_or(&self, name: &str, default: &str) -> Result<String, Error> {
        Ok(self.maybe_string(name)?.unwrap_or_else(|| default.to_owned()))
    }

    /// The attribute, texts, if it is there.
    ///
    /// # Errors
    ///
    /// Those of [`maybe_string`](Self::maybe_string).
    pub fn maybe_strings(&self, name: &str) -> Result<Option<Vec<String>>, Error> {
        let Some(found) = self.typed(name, AttributeType::Strings)? else { return Ok(None) };
        found.strings.iter().map(|bytes| self.text(name, bytes)).collect::<Result<_, _>>().map(Some)
    }

    /// Copied first: what lies in a map may change under a check.
    fn text(&self, name: &str, bytes: &[u8]) -> Result<String, Error> {
        String::from_utf8(bytes.to_vec()).map_err(|_| Error::of_attribute(ErrorKind::Utf8, self.node, name))
    }

    fn missing(&self, name: &str, expected: AttributeType) -> Error {
        Error::of_attribute(ErrorKind::NoAttribute { expected: expected.as_str_name() }, self.node, name)
    }

    /// The attribute of a name, which must be of the type.
    fn typed(&self, name: &str, expected: AttributeType) -> Result<Option<&'a AttributeProto>, Error> {
        let refuse = |kind| Err(Error::of_attribute(kind, self.node, name));
        let mut found = self.node.attribute.iter().filter(|attribute| attribute.name() == name);
        let (first, second) = (found.next(), found.next());
        let Some(attribute) = first else { return Ok(None) };
        if second.is_some() {
            return refuse(ErrorKind::AttributeTwice);
        }
        if !attribute.ref_attr_name().is_empty() {
            return refuse(ErrorKind::AttributeReference { to: attribute.ref_attr_name().to_owned() });
        }
        match attribute.r#type {
            // IR version 1 had no types: the field that is used tells.
            None if used(attribute, expected) => Ok(Some(attribute)),
            Some(kind) if kind == expected as i32 => Ok(Some(attribute)),
            kind => refuse(ErrorKind::AttributeType { found: type_name(kind), expected: expected.as_str_name() }),
        }
    }
}

fn type_name(kind: Option<i32>) -> String {
    match kind.map(AttributeType::try_from) {
        Some(Ok(kind)) => kind.as_str_name().to_owned(),
        Some(Err(_)) => format!("number {}", kind.unwrap_or_default()),
        None => "none".to_owned(),
    }
}

/// Whether an attribute without a type holds something in the field for one.
fn used(attribute: &AttributeProto, kind: AttributeType) -> bool {
    match kind {
        AttributeType::Int => attribute.i.is_some(),
        AttributeType::Float => attribute.f.is_some(),
        AttributeType::String => attribute.s.is_some(),
        AttributeType::Tensor => attribute.t.is_some(),
        AttributeType::Graph => attribute.g.is_some(),
        AttributeType::Ints => !attribute.ints.is_empty(),
        AttributeType::Floats => !attribute.floats.is_empty(),
        AttributeType::Strings => !attribute.strings.is_empty(),
        AttributeType::Graphs => !attribute.graphs.is_empty(),
        _ => false,
    }
}
