//! Weights by name, each checked for its shape; what does not fit is told all at once.

use std::sync::Arc;

use bytes::Bytes;
use niwaki_tensors::{Checkpoint, Dtype};

use crate::error::{Error, ErrorKind};
use crate::fault::dims;
use crate::graph::{Graph, ValueId};
use crate::kernels::weights::Stored;
use crate::ops::embedding::Embedding;
use crate::ops::linear::Linear;
use crate::ops::packed::{PackedEmbedding, PackedLinear};
use crate::packed::Packed;
use crate::tensor::{Data, Tensor};

/// Gives the weight of a name; none where there is none.
pub type Lookup<'l> = &'l dyn Fn(&str) -> Result<Option<Weight>, Error>;

/// A weight as a graph takes it.
#[derive(Clone, Debug)]
pub enum Weight {
    /// As floats.
    Floats(Tensor),
    /// As codes, which stay so. Such graphs run forward only.
    Packed(Arc<Packed>),
}

impl From<Tensor> for Weight {
    fn from(tensor: Tensor) -> Self {
        Self::Floats(tensor)
    }
}

/// A matrix in a graph.
#[derive(Clone, Debug)]
pub(super) enum MatrixOf {
    /// A value of the graph.
    Value(ValueId),
    /// Codes.
    Packed(Arc<Packed>),
}

/// The bytes of a tensor in the map of its file.
struct Mapped {
    checkpoint: Arc<Checkpoint>,
    name: String,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.checkpoint.get(&self.name).map_or(&[], |view| view.bytes())
    }
}

/// A tensor of a checkpoint where it is: nothing is copied, unless the file does not align it.
///
/// # Errors
///
/// Elements of a type that nothing computes with.
pub fn stored(checkpoint: &Arc<Checkpoint>, name: &str) -> Result<Option<Tensor>, Error> {
    let Some(view) = checkpoint.get(name) else { return Ok(None) };
    let wrong = || Error::from(ErrorKind::Model(format!("weight `{name}` is {}, floats expected", view.dtype())));
    let bytes = Bytes::from_owner(Mapped { checkpoint: Arc::clone(checkpoint), name: name.to_owned() });
    let data = match view.dtype() {
        dtype @ (Dtype::F32 | Dtype::F16 | Dtype::BF16) => Data::from_bytes(dtype, bytes).ok_or_else(wrong)?,
        Dtype::F64 => {
            let mut wide = vec![0.0; view.elements()];
            view.decode_f32(0..view.elements(), &mut wide).map_err(super::unreadable)?;
            Data::F32(wide.into())
        }
        _ => return Err(wrong()),
    };
    Tensor::new(view.shape(), data).map(Some).ok_or_else(wrong)
}

/// A graph on its way, and the weights that it did not find.
pub(super) struct Builder<'b> {
    pub(super) graph: Graph,
    /// The weights that are one more here than in their file.
    pub(super) raised: Vec<ValueId>,
    lookup: Lookup<'b>,
    wrong: Vec<String>,
}

impl<'b> Builder<'b> {
    pub(super) fn new(lookup: Lookup<'b>) -> Self {
        Self { graph: Graph::default(), raised: Vec::new(), lookup, wrong: Vec::new() }
    }

    /// Whether there is a weight of that name.
    pub(super) fn has(&self, name: &str) -> Result<bool, Error> {
        Ok((self.lookup)(name)?.is_some())
    }

    fn find(&mut self, name: &str, shape: &[usize]) -> Result<Option<Weight>, Error> {
        let needs = dims(shape);
        self.wrong.push(match (self.lookup)(name)? {
            Some(Weight::Floats(tensor)) if tensor.shape() == shape && Stored::of(&tensor, 0).is_ok() => {
                return Ok(Some(Weight::Floats(tensor)));
            }
            Some(Weight::Packed(packed)) if [packed.rows(), packed.cols()] == *shape => {
                return Ok(Some(Weight::Packed(packed)));
            }
            Some(Weight::Floats(tensor)) => {
                format!("`{name}` is {} {}, {needs} of floats expected", dims(tensor.shape()), tensor.dtype())
            }
            Some(Weight::Packed(packed)) => {
                format!("`{name}` is {} of codes, {needs} expected", dims(&[packed.rows(), packed.cols()]))
            }
            None => format!("`{name}` is missing, {needs} expected"),
        });
        Ok(None)
    }

    /// A matrix as it is stored.
    pub(super) fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<MatrixOf, Error> {
        Ok(match self.find(name, &shape)? {
            Some(Weight::Floats(tensor)) => MatrixOf::Value(self.graph.weight(name, tensor)),
            Some(Weight::Packed(packed)) => MatrixOf::Packed(packed),
            None => MatrixOf::Value(self.graph.value(name)),
        })
    }

    /// A linear layer of these weights.
    pub(super) fn linear(
        &mut self,
        name: impl Into<String>,
        x: ValueId,
        weights: &MatrixOf,
        (heads, bias): (Option<usize>, Option<ValueId>),
    ) -> ValueId {
        let (name, mut inputs) = (name.into(), vec![x]);
        match weights {
            MatrixOf::Value(value) => {
                inputs.push(*value);
                inputs.extend(bias);
                self.graph.node(name, Linear { heads }, &inputs)
            }
            MatrixOf::Packed(weights) => {
                inputs.extend(bias);
                self.graph.node(name, PackedLinear { weights: Arc::clone(weights), heads }, &inputs)
            }
        }
    }

    /// Rows of a table.
    pub(super) fn embedding(&mut self, name: impl Into<String>, ids: ValueId, table: &MatrixOf, scale: f32) -> ValueId {
        match table {
            MatrixOf::Value(table) => self.graph.node(name.into(), Embedding { scale }, &[ids, *table]),
            MatrixOf::Packed(table) => {
                self.graph.node(name.into(), PackedEmbedding { table: Arc::clone(table), scale }, &[ids])
            }
        }
    }

    /// A small weight, as single floats.
    pub(super) fn vector(&mut self, name: &str, len: usize) -> Result<ValueId, Error> {
        let Some(Weight::Floats(tensor)) = self.find(name, &[len])? else { return Ok(self.graph.value(name)) };
        let mut wide = vec![0.0; len];
        Stored::of(&tensor, 0)?.widen(0, &mut wide);
        Ok(self.graph.weight(name, Tensor::vector(wide)))
    }

    /// The same, of which the file says how far it is from one.
    pub(super) fn raised(&mut self, name: &str, len: usize) -> Result<ValueId, Error> {
        let value = self.vector(name, len)?;
        if let Some(Data::F32(all)) = self.graph.weight_mut(value).map(Tensor::data_mut) {
            all.to_mut().iter_mut().for_each(|x| *x += 1.0);
            self.raised.push(value);
        }
        Ok(value)
    }

    /// The graph, once all is there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Weights`].
    pub(super) fn finish(mut self) -> Result<Graph, Error> {
        if !self.wrong.is_empty() {
            return Err(ErrorKind::Weights(self.wrong).into());
        }
        self.graph.sort()?;
        Ok(self.graph)
    }
}
