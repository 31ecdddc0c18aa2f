//! How far a run is.

use std::sync::atomic::{AtomicU64, Ordering};

/// Told the bytes done so far, and all there are.
pub(crate) type Progress<'p> = &'p (dyn Fn(u64, u64) + Sync);

/// Adds up the bytes that it is told, for `progress`.
pub(crate) fn counting(progress: Progress<'_>, total: u64) -> impl Fn(u64) + Sync {
    let done = AtomicU64::new(0);
    move |bytes| progress(done.fetch_add(bytes, Ordering::Relaxed) + bytes, total)
}
