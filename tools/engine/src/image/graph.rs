//! A graph made ready: what never changes computed, normalizations folded, shapes known.

use std::any::Any;
use std::collections::BTreeMap;

use niwaki_model::{Dim, Executor, Graph, Node, Run, Tensor, ValueId};

use crate::error::{Error, ErrorKind};
use crate::model::Model;

/// A graph of one image at a time.
pub(crate) struct Ready {
    pub(crate) graph: Graph,
    /// Of each value that changes, with a batch of 1.
    shapes: BTreeMap<ValueId, Vec<usize>>,
    users: BTreeMap<ValueId, Vec<usize>>,
    /// Multiplications of one image.
    pub(crate) macs: u64,
}

impl Ready {
    /// The graph of a model.
    ///
    /// # Errors
    ///
    /// Inputs that are not one image, or one row of numbers, of a known size; several outputs; those of running it.
    pub(crate) fn new(model: &Model) -> Result<Self, Error> {
        let unlike = |what: String| Error::from(ErrorKind::Unlike { what }).at(model.path());
        let at = |e: niwaki_model::Error| Error::from(e.at(model.path()));
        if model.language().is_some() {
            return Err(unlike(
                "a language model: device images are of networks over images or rows of numbers".into(),
            ));
        }
        let mut graph = model.graph().clone();
        graph.norms(None);
        graph.fold().map_err(at)?;
        graph.fold_norms().map_err(at)?;
        let ([input], [_]) = (graph.inputs(), graph.outputs()) else {
            let [inputs, outputs] = [graph.inputs().len(), graph.outputs().len()];
            return Err(unlike(format!("a model of {inputs} inputs and {outputs} outputs; one of each expected")));
        };
        let dims = input.dims.as_deref().unwrap_or_default();
        let wrong = || {
            let found = niwaki_model::dims_text(dims);
            unlike(format!("an input of {found}; a batch of 1 or of any size, then sizes that are fixed, expected"))
        };
        let fixed = |dim: &Dim| if let Dim::Fixed(size) = dim { Some(*size).filter(|size| *size > 0) } else { None };
        let shape: Vec<usize> = match dims.split_first() {
            Some((Dim::Fixed(2..), _) | (Dim::Fixed(0), _)) | None => return Err(wrong()),
            Some((_, rest)) => {
                std::iter::once(Some(1)).chain(rest.iter().map(fixed)).collect::<Option<_>>().ok_or_else(wrong)?
            }
        };
        if !matches!(shape.len(), 2 | 4) {
            return Err(wrong());
        }
        let zeros = Tensor::of(shape.as_slice(), vec![0f32; shape.iter().product()]).ok_or_else(wrong)?;
        let mut shapes = BTreeMap::from([(input.value, shape)]);
        let mut see = |value, tensor: &Tensor| drop(shapes.insert(value, tensor.shape().to_vec()));
        let executor = Executor::new(graph.clone()).map_err(at)?;
        let macs = executor.run(vec![zeros], Run { observe: Some(&mut see), ..Run::default() }).map_err(at)?.macs;
        let users = graph.users();
        Ok(Self { graph, shapes, users, macs })
    }

    /// The dimensions of a value, batch and all.
    pub(crate) fn dims(&self, value: ValueId) -> &[usize] {
        self.shapes.get(&value).map_or(&[], Vec::as_slice)
    }

    /// Rows, columns and channels of a value; none for one that is no image and no row of numbers.
    pub(crate) fn shape(&self, value: ValueId) -> Option<[usize; 3]> {
        match *self.dims(value) {
            [1, c, h, w] => Some([h, w, c]),
            [1, n] => Some([1, 1, n]),
            _ => None,
        }
    }

    /// The node that alone takes a value, and takes it once.
    pub(crate) fn only_user(&self, value: ValueId) -> Option<usize> {
        match self.users.get(&value).map(Vec::as_slice) {
            Some([user]) if *user != usize::MAX => Some(*user),
            _ => None,
        }
    }

    pub(crate) fn node(&self, at: usize) -> &Node {
        &self.graph.nodes()[at]
    }

    /// The constant that a node takes in a place.
    pub(crate) fn constant(&self, node: &Node, place: usize) -> Option<&Tensor> {
        self.graph.constant(node.inputs.get(place).copied().flatten()?)
    }
}

/// The operator of a node as one of a type.
pub(crate) fn as_a<T: 'static>(node: &Node) -> Option<&T> {
    let op: &dyn Any = &*node.op;
    op.downcast_ref()
}

/// The first value that a node takes, and the first that it makes.
pub(crate) fn ends(node: &Node) -> Option<(ValueId, ValueId)> {
    Some((node.inputs.first().copied().flatten()?, node.outputs.first().copied().flatten()?))
}
