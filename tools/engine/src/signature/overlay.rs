//! A checkpoint seen through patches; nothing is written.

use std::ops::Range;
use std::sync::Arc;

use niwaki_codes::simd::Level;
use niwaki_codes::{PatchKind, patch};
use niwaki_container::Digest;

use super::bound::{Bound, TensorPatch};
use super::identity::{self, Identity};
use super::opened::Patch;
use crate::error::{Error, ErrorKind};
use crate::source::{Names, Opened, Source, SourceTensor, Weights};

impl TensorPatch<'_> {
    /// Its values for the elements `range` of a tensor of `elements`, of a scale each row's factor
    /// over again.
    pub(super) fn values(&self, range: Range<usize>, elements: usize, out: &mut [f32]) -> Result<(), Error> {
        if self.kind != PatchKind::Scale {
            return self.values.decode(range, out);
        }
        let each = (elements / self.values.shape().elements().max(1)).max(1);
        let rows = range.start / each..range.end.div_ceil(each);
        let mut factors = vec![0.0; rows.len()];
        self.values.decode(rows.clone(), &mut factors)?;
        for (out, at) in out.iter_mut().zip(range) {
            *out = factors.get(at / each - rows.start).copied().unwrap_or(1.0);
        }
        Ok(())
    }
}

/// A tensor seen through patches.
struct Overlaid<'a> {
    base: SourceTensor<'a>,
    patches: Vec<TensorPatch<'a>>,
}

impl Weights for Overlaid<'_> {
    fn decode(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        let level = Level::best();
        let elements = self.base.shape().elements();
        self.base.decode(range.clone(), out)?;
        let mut values = vec![vec![0.0; range.len()]; self.patches.len()];
        for (patch, values) in self.patches.iter().zip(&mut values) {
            patch.values(range.clone(), elements, values)?;
        }
        let stack: Vec<patch::Values<'_>> = self
            .patches
            .iter()
            .zip(&values)
            .map(|(patch, values)| (patch.kind, patch.alpha, values.as_slice()))
            .collect();
        patch::lay(level, &stack, out);
        Ok(())
    }

    fn ensure_unchanged(&self) -> Result<(), Error> {
        self.base.ensure_unchanged()?;
        self.patches.iter().try_for_each(|patch| patch.values.ensure_unchanged())
    }
}

/// The checkpoint seen through `patches`, the first of them nearest to it. `bits` as in
/// [`Opened::source`].
///
/// Only what the patches touch is read: of a container its lineage, of another checkpoint the
/// tensors that are touched, to see whether they are those that the patches were made for.
///
/// # Errors
///
/// Checkpoints of another architecture ever, of other weights unless the patch says so, and an alpha that
/// is not finite.
pub fn overlaid<'a>(
    opened: &'a Opened,
    bits: Option<niwaki_codes::Bits>,
    names: Names,
    patches: &[Patch<'a>],
) -> Result<Source<'a>, Error> {
    let source = opened.source(bits, names)?;
    if patches.is_empty() {
        return Ok(source);
    }
    let bound = Bound::new(&source);
    let digests = |tensor: &SourceTensor<'_>| identity::of_stored(&source, tensor);
    check(patches, &bound, &Identity { lineage: identity::lineage(&source), digests: &digests })?;
    let mut of = bound.patches(patches)?;
    let seen = |(index, tensor): (usize, &SourceTensor<'a>)| match of.remove(&index) {
        None => tensor.clone(),
        Some(patches) => tensor.remade(Arc::new(Overlaid { base: tensor.clone(), patches })),
    };
    let tensors = source.tensors().iter().enumerate().map(seen).collect();
    let seals = patches.iter().map(|patch| (patch.signature.digest_of_contents(), patch.alpha)).collect();
    Ok(source.with_tensors(tensors, seals))
}

/// Whether the patches may be laid over the checkpoint.
pub(super) fn check(patches: &[Patch<'_>], bound: &Bound<'_, '_>, identity: &Identity<'_>) -> Result<(), Error> {
    for patch in patches {
        if !patch.alpha.is_finite() {
            return Err(
                ErrorKind::Usage { what: format!("alpha is {}; a finite number is expected", patch.alpha) }.into()
            );
        }
        identity::check_architecture(patch.signature.about(), bound, patch.transfer)?;
        if !patch.transfer {
            identity::check_base(patch.signature.about(), bound, identity).map_err(|e| e.hinting(TRANSFER))?;
        }
    }
    Ok(())
}

/// What can be done about other weights.
const TRANSFER: &str = "`--transfer` patches a model of the same architecture with other weights";

/// Patches that a source is seen through: digest and alpha.
pub(crate) type Seals = Vec<(Digest, f64)>;
