//! The tensors of a checkpoint under the names that signatures know.

use std::collections::BTreeMap;

use niwaki_codes::PatchKind;
use niwaki_gguf::hf::{self, Transform};

use super::opened::Patch;
use crate::error::Error;
use crate::source::{Opened, Source, SourceTensor};

/// A checkpoint's tensors by the names that signatures have for them: their own, and those of
/// Hugging Face for a GGUF file of a family that has such.
pub(super) struct Bound<'s, 'a> {
    source: &'s Source<'a>,
    by_name: BTreeMap<String, (usize, Transform)>,
}

impl<'s, 'a> Bound<'s, 'a> {
    pub(super) fn new(source: &'s Source<'a>) -> Self {
        let mut by_name = BTreeMap::new();
        if let Opened::Gguf(gguf) = source.opened() {
            for (index, tensor) in source.tensors().iter().enumerate() {
                if let Some((name, back)) = hf::names_back(gguf.metadata(), tensor.name()) {
                    by_name.insert(name, (index, forth(back)));
                }
            }
        }
        for (index, tensor) in source.tensors().iter().enumerate() {
            by_name.insert(tensor.name().to_owned(), (index, Transform::None));
        }
        Self { source, by_name }
    }

    pub(super) fn source(&self) -> &'s Source<'a> {
        self.source
    }

    /// The tensor that signatures call `name`.
    pub(super) fn get(&self, name: &str) -> Option<&'s SourceTensor<'a>> {
        self.by_name.get(name).map(|(index, _)| &self.source.tensors()[*index])
    }

    /// The patches of each tensor that has some, by its index.
    pub(super) fn patches<'p>(&self, patches: &[Patch<'p>]) -> Result<BTreeMap<usize, Vec<TensorPatch<'p>>>, Error> {
        let mut found: BTreeMap<usize, Vec<TensorPatch<'p>>> = BTreeMap::new();
        for patch in patches {
            for values in patch.signature.source()?.tensors() {
                let Some((index, transform)) = self.by_name.get(values.name()) else { continue };
                let kind = patch.signature.about().kind(values.name());
                let values = values.clone().under(of_values(*transform, kind));
                found.entry(*index).or_default().push(TensorPatch {
                    name: patch.signature.name().to_owned(),
                    kind,
                    alpha: patch.alpha,
                    values,
                });
            }
        }
        Ok(found)
    }
}

/// One patch of one tensor.
#[derive(Clone)]
pub(super) struct TensorPatch<'a> {
    /// Name of the patch.
    pub(super) name: String,
    pub(super) kind: PatchKind,
    pub(super) alpha: f64,
    pub(super) values: SourceTensor<'a>,
}

impl TensorPatch<'_> {
    /// How its values are stored.
    pub(super) fn stored_as(&self) -> String {
        self.values.coding().unwrap_or_else(|| self.values.dtype().to_string())
    }
}

/// The way there, for the way back from GGUF.
fn forth(back: Transform) -> Transform {
    match back {
        Transform::UnpermuteRows { heads } => Transform::PermuteRows { heads },
        Transform::SubtractOne => Transform::AddOne,
        _ => Transform::None,
    }
}

/// What becomes of a signature's values where weights are transformed: rows change places as the
/// weights' do; a difference does not hang on what is added to both.
fn of_values(transform: Transform, kind: PatchKind) -> Transform {
    match (transform, kind) {
        (Transform::AddOne, PatchKind::Add | PatchKind::Scale) => Transform::None,
        (transform, _) => transform,
    }
}
