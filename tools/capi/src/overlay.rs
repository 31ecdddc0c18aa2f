//! Stacks of signatures.

use std::sync::Arc;

use niwaki_container::Overlay as Stack;

use crate::artifact::{Artifact, Opened, give, the};
use crate::error::{Error, Status, fenced, free};
use crate::memory;

/// Signatures that are laid over weights, nearest to them first. `niwaki_overlay_free`.
#[derive(Debug)]
pub struct Overlay {
    pub(crate) layers: Vec<(Arc<Opened>, f64)>,
}

/// Stacks `count` signatures, the values of each times its alpha. Nothing is read of them until weights are
/// decoded. Whether they were made for those weights is not asked: shapes must agree.
///
/// # Safety
///
/// `count` artifacts that were not freed and as many numbers can be read; `out` can be written; `error` is null
/// or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_overlay_new(
    signatures: *const *const Artifact,
    alphas: *const f64,
    count: usize,
    out: *mut *mut Overlay,
    error: *mut *mut Error,
) -> Status {
    // SAFETY: the condition of this function.
    unsafe {
        fenced(error, || {
            give(out, "out", || {
                let alphas = memory::read(alphas, count, "alphas")?;
                memory::check(signatures, count, "signatures")?;
                let mut layers = Vec::with_capacity(count);
                for (at, alpha) in alphas.iter().enumerate() {
                    let signature = signatures.add(at).read();
                    let opened = &the(signature, &format!("signatures[{at}]"))?.opened;
                    Stack::default().push(&opened.artifact, *alpha)?;
                    layers.push((Arc::clone(opened), *alpha));
                }
                Ok(Overlay { layers })
            })
        })
    }
}

/// Frees an overlay; null is nothing. What was prepared with it stays as it is.
///
/// # Safety
///
/// `overlay` is null or was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_overlay_free(overlay: *mut Overlay) {
    // SAFETY: the condition of this function; overlays come from a box in `give`.
    unsafe { free(overlay) }
}
