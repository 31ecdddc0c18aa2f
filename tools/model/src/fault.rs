//! What is wrong with a node's inputs. Whoever runs the node adds its name.

use std::fmt;

use crate::tensor::{Dtype, Tensor};
use crate::value::Value;

/// Why an operator could not be run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// An input that it needs is not there.
    Missing {
        /// Which, counted from 0.
        input: usize,
    },
    /// An input has elements of a type that it does not take.
    Dtype {
        /// Which, counted from 0.
        input: usize,
        /// What it has.
        found: Dtype,
        /// What it may have.
        needs: &'static str,
    },
    /// An input that is a list or nothing where it must not be, or is neither where it has to be.
    Kind {
        /// Which, counted from 0.
        input: usize,
        /// What it is.
        found: &'static str,
        /// What it may be.
        needs: &'static str,
    },
    /// Shapes or values that do not fit.
    Shape {
        /// What was found.
        found: String,
        /// What is needed.
        needs: String,
    },
    /// What was wrong in a graph that is part of the node.
    Within(String),
    /// Something that is not done here.
    Unsupported(String),
    /// A result larger than the limit.
    TooLarge {
        /// Bytes that it would take.
        bytes: u128,
        /// The limit.
        limit: u64,
    },
}

impl Fault {
    /// What was found and what is needed.
    pub fn shape(found: impl Into<String>, needs: impl Into<String>) -> Self {
        Self::Shape { found: found.into(), needs: needs.into() }
    }

    /// An input whose elements are of another type.
    pub fn dtype(input: usize, tensor: &Tensor, needs: &'static str) -> Self {
        Self::Dtype { input, found: tensor.dtype(), needs }
    }

    /// An input that is no tensor, or no list.
    pub fn kind(input: usize, value: &Value, needs: &'static str) -> Self {
        Self::Kind { input, found: value.kind(), needs }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { input } => write!(f, "input {input} is missing"),
            Self::Dtype { input, found, needs } => write!(f, "input {input} is {found}, {needs} expected"),
            Self::Kind { input, found, needs } => write!(f, "input {input} is {found}, {needs} expected"),
            Self::Shape { found, needs } => write!(f, "{found}, {needs} expected"),
            Self::Within(what) => write!(f, "in its graph: {what}"),
            Self::Unsupported(what) => write!(f, "{what} is not supported"),
            Self::TooLarge { bytes, limit } => write!(f, "a result of {bytes} bytes, the limit is {limit}"),
        }
    }
}

impl std::error::Error for Fault {}

/// A shape as errors say it: `2x3`, `scalar`.
pub(crate) fn dims(shape: &[usize]) -> String {
    match shape {
        [] => "scalar".to_owned(),
        _ => shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
    }
}
