//! Weights by name, each checked for its shape; what does not fit is told all at once.

use std::sync::Arc;

use bytes::Bytes;
use niwaki_tensors::{Checkpoint, Dtype};

use crate::error::{Error, ErrorKind};
use crate::fault::dims;
use crate::graph::{Graph, ValueId};
use crate::kernels::weights::Stored;
use crate::tensor::{Data, Tensor};

/// Gives the weight of a name; none where there is none.
pub type Lookup<'l> = &'l dyn Fn(&str) -> Result<Option<Tensor>, Error>;

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

    fn find(&mut self, name: &str, shape: &[usize]) -> Result<Option<Tensor>, Error> {
        match (self.lookup)(name)? {
            Some(tensor) if tensor.shape() == shape && Stored::of(&tensor, 0).is_ok() => Ok(Some(tensor)),
            Some(tensor) => {
                let (found, dtype) = (dims(tensor.shape()), tensor.dtype());
                self.wrong.push(format!("`{name}` is {found} {dtype}, {} of floats expected", dims(shape)));
                Ok(None)
            }
            None => {
                self.wrong.push(format!("`{name}` is missing, {} expected", dims(shape)));
                Ok(None)
            }
        }
    }

    /// A weight as it is stored.
    pub(super) fn weight(&mut self, name: &str, shape: &[usize]) -> Result<ValueId, Error> {
        let found = self.find(name, shape)?;
        Ok(match found {
            Some(tensor) => self.graph.weight(name, tensor),
            None => self.graph.value(name),
        })
    }

    /// A small weight, as single floats.
    pub(super) fn vector(&mut self, name: &str, len: usize) -> Result<ValueId, Error> {
        let Some(tensor) = self.find(name, &[len])? else { return Ok(self.graph.value(name)) };
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
