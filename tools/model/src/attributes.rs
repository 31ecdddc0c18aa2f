//! The attributes of a node, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fault::Fault;
use crate::graph::Graph;
use crate::tensor::Tensor;

/// One attribute.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is what it is called")]
pub enum Attribute {
    Int(i64),
    Float(f32),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<String>),
    Tensor(Tensor),
    Graph(Arc<Graph>),
}

/// What a node says of itself, from which its operator is made.
#[derive(Clone, Debug, Default)]
pub struct Definition {
    /// The operator: `Conv`.
    pub op: String,
    /// The set that it is of: empty for ONNX's own.
    pub domain: String,
    /// The version of that set.
    pub opset: i64,
    /// Places for inputs.
    pub inputs: usize,
    /// How many of these, at the end, are there for the graphs among the attributes alone: values of
    /// the graph around, which are the last inputs of theirs.
    pub captures: usize,
    /// Outputs that are asked for.
    pub outputs: usize,
    /// Its attributes.
    pub attributes: BTreeMap<String, Attribute>,
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident, $variant:ident, $type:ty, $what:literal;)*) => {
        $($(#[$doc])*
        ///
        /// # Errors
        ///
        /// An attribute of that name and another type.
        pub fn $name(&self, name: &str) -> Result<Option<$type>, Fault> {
            match self.attributes.get(name) {
                None => Ok(None),
                Some(Attribute::$variant(value)) => Ok(Some(value.clone())),
                Some(_) => Err(Fault::shape(format!("attribute `{name}` of another type"), $what)),
            }
        })*
    };
}

impl Definition {
    getters! {
        /// A whole number.
        int, Int, i64, "a whole number";
        /// A number.
        float, Float, f32, "a number";
        /// A text.
        text, Text, String, "a text";
        /// Whole numbers.
        ints, Ints, Vec<i64>, "whole numbers";
        /// Numbers.
        floats, Floats, Vec<f32>, "numbers";
        /// Texts.
        texts, Texts, Vec<String>, "texts";
        /// A tensor.
        tensor, Tensor, Tensor, "a tensor";
        /// A graph.
        graph, Graph, Arc<Graph>, "a graph";
    }

    /// Whether the attribute, a whole number, is there and not 0.
    ///
    /// # Errors
    ///
    /// An attribute of that name and another type.
    pub fn flag(&self, name: &str) -> Result<bool, Fault> {
        Ok(self.int(name)?.unwrap_or(0) != 0)
    }

    /// Whole numbers of which none is negative.
    ///
    /// # Errors
    ///
    /// An attribute of that name and another type, and negative numbers.
    pub fn sizes(&self, name: &str) -> Result<Option<Vec<usize>>, Fault> {
        let Some(all) = self.ints(name)? else { return Ok(None) };
        let wrong = |_| Fault::shape(format!("attribute `{name}` of {all:?}"), "no negative number");
        all.iter().map(|x| usize::try_from(*x).map_err(wrong)).collect::<Result<_, _>>().map(Some)
    }
}
