//! Masks in files of their own, networks that run at many widths, and those whose channels are gated.

use std::sync::Arc;

use niwaki_engine::dynamic::HeadsFile;
use niwaki_engine::elastic::ElasticFile;
use niwaki_engine::mask::{MaskFile, compare};
use niwaki_tensors::{Checkpoint, Limits};

/// A file of masks. What is accepted has as much in common with itself as there is.
pub fn mask_file(bytes: &[u8]) -> bool {
    let Ok(checkpoint) = Checkpoint::from_bytes("fuzz", Arc::from(bytes), &Limits::default()) else { return false };
    let Ok(file) = MaskFile::of_checkpoint(checkpoint) else { return false };
    let Ok(compared) = compare(&file, &file) else { return false };
    assert!(compared.tensors.iter().all(|t| t.both == t.first && t.both == t.second), "a mask is itself");
    true
}

/// A file of a network that runs at many widths.
pub fn elastic_file(bytes: &[u8]) -> bool {
    let Ok(checkpoint) = Checkpoint::from_bytes("fuzz", Arc::from(bytes), &Limits::default()) else { return false };
    ElasticFile::of_checkpoint(checkpoint).is_ok_and(|file| file.widths().iter().count() > 0)
}

/// A file of a network whose channels are gated.
pub fn heads_file(bytes: &[u8]) -> bool {
    let Ok(checkpoint) = Checkpoint::from_bytes("fuzz", Arc::from(bytes), &Limits::default()) else { return false };
    HeadsFile::of_checkpoint(checkpoint).is_ok_and(|file| file.how().target.share().get() <= 1.0)
}
