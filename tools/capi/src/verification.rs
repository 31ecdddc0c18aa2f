//! Whether a file is what it says it is.

use crate::artifact::{Artifact, give, the};
use crate::error::{Error, Line, Status, Text, ask, fenced, free};

/// What is wrong with an artifact. `niwaki_verification_free`.
#[derive(Debug)]
pub struct Verification {
    faults: Vec<Line>,
}

/// Checks headers, order, alignment, every hash and digest, and the contents of every part: reads everything.
/// The caller's thread does it, with `threads - 1` more that end before the call does; faults do not depend on
/// their number. That something is wrong is no error: `niwaki_verification_count` says how much.
///
/// # Safety
///
/// `artifact` was not freed; `out` can be written; `error` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_verify(
    artifact: *const Artifact,
    threads: usize,
    out: *mut *mut Verification,
    error: *mut *mut Error,
) -> Status {
    // SAFETY: the condition of this function.
    unsafe {
        fenced(error, || {
            let artifact = &the(artifact, "artifact")?.opened.artifact;
            give(out, "out", || {
                let found = niwaki_container::verify(artifact, threads.max(1));
                Ok(Verification { faults: found.faults.iter().map(|fault| Line::new(fault.to_string())).collect() })
            })
        })
    }
}

/// How many things are wrong; 0 for null.
///
/// # Safety
///
/// `verification` is null or was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_verification_count(verification: *const Verification) -> usize {
    // SAFETY: the condition of this function.
    unsafe { ask(verification, 0, |verification| verification.faults.len()) }
}

/// One line about the thing of that number; no text where there is none.
///
/// # Safety
///
/// `verification` is null or was not freed. The text lives as long as it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_verification_fault(verification: *const Verification, index: usize) -> Text {
    // SAFETY: the condition of this function.
    unsafe { ask(verification, Text::NONE, |found| found.faults.get(index).map_or(Text::NONE, Line::text)) }
}

/// Frees a verification; null is nothing.
///
/// # Safety
///
/// `verification` is null or was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_verification_free(verification: *mut Verification) {
    // SAFETY: the condition of this function; verifications come from a box in `give`.
    unsafe { free(verification) }
}
