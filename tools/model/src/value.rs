//! What a value of a graph can be beside a tensor: a list of tensors, or nothing.
//!
//! ```text
//! Value --+-- Tensor            what nearly all operators take and make
//!         +-- List of tensors   ONNX's sequence
//!         '-- Nothing           ONNX's optional, where it is empty; one that is full is what is in it
//! ```
//!
//! Operators take and make tensors ([`Operator::run`](crate::Operator::run)). The few that deal with the rest say so
//! ([`Operator::on_values`](crate::Operator::on_values)), and the executor asks them first.

use std::fmt;

use crate::fault::Fault;
use crate::operator::Context;
use crate::tensor::Tensor;

/// A value of a graph while it runs.
#[derive(Clone, Debug)]
pub enum Value {
    /// A tensor.
    Tensor(Tensor),
    /// Tensors of one type of elements, in order.
    List(Vec<Tensor>),
    /// Nothing.
    Nothing,
}

/// What kind of value a graph's input is, as the graph says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A tensor.
    #[default]
    Tensor,
    /// A list.
    List,
    /// A tensor, or nothing.
    MaybeTensor,
    /// A list, or nothing.
    MaybeList,
}

impl Kind {
    /// Whether a value is of this kind.
    pub fn holds(self, value: &Value) -> bool {
        match value {
            Value::Tensor(_) => matches!(self, Self::Tensor | Self::MaybeTensor),
            Value::List(_) => matches!(self, Self::List | Self::MaybeList),
            Value::Nothing => matches!(self, Self::MaybeTensor | Self::MaybeList),
        }
    }

    /// Whether it holds lists.
    pub fn is_list(self) -> bool {
        matches!(self, Self::List | Self::MaybeList)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tensor => "a tensor",
            Self::List => "a list",
            Self::MaybeTensor => "a tensor or nothing",
            Self::MaybeList => "a list or nothing",
        })
    }
}

impl Value {
    /// The tensor, where it is one.
    pub fn tensor(&self) -> Option<&Tensor> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            Self::List(_) | Self::Nothing => None,
        }
    }

    /// All tensors in it.
    pub fn tensors(&self) -> &[Tensor] {
        match self {
            Self::Tensor(tensor) => std::slice::from_ref(tensor),
            Self::List(all) => all,
            Self::Nothing => &[],
        }
    }

    /// What it is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tensor(_) => "a tensor",
            Self::List(_) => "a list",
            Self::Nothing => "nothing",
        }
    }

    /// The tensor of input `input`.
    pub(crate) fn into_tensor(self, input: usize) -> Result<Tensor, Fault> {
        match self {
            Self::Tensor(tensor) => Ok(tensor),
            other => Err(Fault::kind(input, &other, "a tensor")),
        }
    }

    /// The list of input `input`.
    pub(crate) fn into_list(self, input: usize) -> Result<Vec<Tensor>, Fault> {
        match self {
            Self::List(all) => Ok(all),
            other => Err(Fault::kind(input, &other, "a list")),
        }
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

/// An operator on values that are not all tensors.
pub trait OnValues {
    /// Computes the outputs, in order; inputs that are left out are none.
    ///
    /// # Errors
    ///
    /// Inputs that do not fit.
    fn run_values(&self, inputs: Vec<Option<Value>>, context: &Context<'_>) -> Result<Vec<Value>, Fault>;
}

/// Input `index`, which has to be there; it is then no longer among them.
pub(crate) fn take(inputs: &mut [Option<Value>], index: usize) -> Result<Value, Fault> {
    inputs.get_mut(index).and_then(Option::take).ok_or(Fault::Missing { input: index })
}

/// Tensors as values.
pub(crate) fn values(all: Vec<Option<Tensor>>) -> Vec<Option<Value>> {
    all.into_iter().map(|tensor| tensor.map(Value::Tensor)).collect()
}

/// Values as tensors, where all are: what an operator that makes no lists of tensors makes of tensors.
pub(crate) fn tensors(all: Vec<Value>) -> Result<Vec<Tensor>, Fault> {
    let tensor = |value: Value| match value {
        Value::Tensor(tensor) => Ok(tensor),
        other => Err(Fault::Unsupported(format!("{} among what is computed ahead or trained", other.kind()))),
    };
    all.into_iter().map(tensor).collect()
}
