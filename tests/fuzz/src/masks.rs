//! Masks in files of their own, networks that run at many widths, those whose channels are gated, and statistics of layers.

use std::sync::Arc;

use niwaki_engine::Stats;
use niwaki_engine::dynamic::{HeadsFile, Thresholds};
use niwaki_engine::elastic::ElasticFile;
use niwaki_engine::imatrix;
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

/// A file of a network whose channels are gated, or of thresholds of channels.
pub fn heads_file(bytes: &[u8]) -> bool {
    let Ok(checkpoint) = Checkpoint::from_bytes("fuzz", Arc::from(bytes), &Limits::default()) else { return false };
    if let Ok(thresholds) = Thresholds::of_checkpoint(&checkpoint) {
        assert!(thresholds.each().all(|(_, threshold)| threshold >= 0.0 && threshold.is_finite()), "magnitudes");
        return true;
    }
    HeadsFile::of_checkpoint(checkpoint).is_ok_and(|file| file.how().target.share().get() <= 1.0)
}

/// A file of statistics of layers. What is accepted says of every column how much it matters, from 0 to 1.
pub fn stats_file(bytes: &[u8]) -> bool {
    let Ok(checkpoint) = Checkpoint::from_bytes("fuzz", Arc::from(bytes), &Limits::default()) else { return false };
    let Ok(stats) = Stats::of_checkpoint(checkpoint) else { return false };
    stats.names().all(|name| {
        let Some(layer) = stats.layer(name) else { return false };
        let Ok(importance) = layer.importance() else { return false };
        assert!(importance.iter().flatten().all(|x| (0.0..=1.0).contains(x)), "shares of the largest");
        let (Ok(histogram), Ok(means)) = (layer.histogram(), layer.means()) else { return false };
        assert_eq!(histogram.is_some(), means.is_some(), "means stand beside histograms");
        layer.range().is_ok() && layer.grams().is_ok()
    })
}

/// An importance matrix as llama.cpp wrote them. What is accepted has mean squares of 0 or more.
pub fn imatrix_dat(bytes: &[u8]) -> bool {
    let Ok(all) = imatrix::parse_dat(bytes) else { return false };
    assert!(!all.is_empty() && all.values().flatten().all(|x| x.is_finite() && *x >= 0.0), "mean squares");
    true
}
