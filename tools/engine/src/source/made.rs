//! Tensors whose weights are computed from others as they are read.

use std::ops::Range;
use std::sync::Arc;

use niwaki_codes::Shape;
use niwaki_tensors::Dtype;

use super::tensor::{Form, SourceTensor, Watched};
use crate::error::Error;

/// Weights that are computed as they are read.
pub(crate) trait Weights: Send + Sync {
    /// Computes the elements `range`; `out` has as many.
    fn decode(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), Error>;

    /// Whether the files beneath are as they were when they were opened.
    fn ensure_unchanged(&self) -> Result<(), Error>;
}

/// Weights that are there already.
pub(crate) struct Numbers(pub(crate) Vec<f32>);

impl Weights for Numbers {
    fn decode(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        out.copy_from_slice(self.0.get(range).unwrap_or_default());
        Ok(())
    }

    fn ensure_unchanged(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// Computed weights, and the tensor that they stand for.
#[derive(Clone)]
pub(super) struct Made<'a> {
    pub(super) weights: Arc<dyn Weights + 'a>,
    pub(super) base: Option<Box<SourceTensor<'a>>>,
    pub(super) why: Why,
}

/// Why a tensor has other weights than are stored.
#[derive(Clone)]
pub(super) enum Why {
    /// Patches are laid over it.
    Patched,
    /// Scales are folded into it, in words.
    Folded(String),
}

impl<'a> SourceTensor<'a> {
    /// A tensor of its own; `dtype` is what it is written as where it is not encoded.
    pub(crate) fn made(name: String, dtype: Dtype, shape: Shape, weights: Arc<dyn Weights + 'a>) -> Self {
        Self::new(name, dtype, shape, Form::Made(Made { weights, base: None, why: Why::Patched }), Watched::Beneath)
    }

    /// This tensor with other weights.
    pub(crate) fn remade(&self, weights: Arc<dyn Weights + 'a>) -> Self {
        self.instead(weights, Why::Patched)
    }

    /// This tensor with weights that scales are folded into; `how` in words.
    pub(crate) fn folded(&self, weights: Arc<dyn Weights + 'a>, how: String) -> Self {
        self.instead(weights, Why::Folded(how))
    }

    fn instead(&self, weights: Arc<dyn Weights + 'a>, why: Why) -> Self {
        let made = Made { weights, base: Some(Box::new(self.clone())), why };
        Self::new(self.name.clone(), self.float_dtype(), *self.shape(), Form::Made(made), Watched::Beneath)
    }

    /// The type of floats that its weights are written in where they are not encoded.
    pub(crate) fn float_dtype(&self) -> Dtype {
        match self.dtype() {
            dtype @ (Dtype::F64 | Dtype::F16 | Dtype::BF16) => dtype,
            _ => Dtype::F32,
        }
    }

    /// Whether it is seen through patches.
    pub(crate) fn is_patched(&self) -> bool {
        match &self.form {
            Form::Made(Made { base: Some(base), why, .. }) => matches!(why, Why::Patched) || base.is_patched(),
            _ => false,
        }
    }

    /// What a plan says of the weights that it has instead of those that are stored.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let Form::Made(Made { base: Some(base), why, .. }) = &self.form else { return Vec::new() };
        let own = match why {
            Why::Patched => "patched".to_owned(),
            Why::Folded(how) => format!("folded: {how}"),
        };
        base.remarks().into_iter().filter(|remark| *remark != own).chain([own.clone()]).collect()
    }

    /// Whether its weights are computed, and from no tensor of its own.
    pub(crate) fn is_made(&self) -> bool {
        matches!(&self.form, Form::Made(made) if made.base.is_none())
    }
}
