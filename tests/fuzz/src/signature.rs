//! Signatures, and what takes them off again.

use niwaki_container::{Artifact, Sidecar, apply_correction, chunks, encode_correction, verify};
use niwaki_engine::signature::About;
use niwaki_tensors::{Checkpoint, Limits};

use crate::text::refused;

/// A coded difference: the width of numbers as a power of two, how many there are, the stream.
/// What is accepted is coded to a stream that means the same.
pub fn correction_stream(bytes: &[u8]) -> bool {
    let Some(([width, count], stream)) = bytes.split_first_chunk() else { return false };
    let width = 1 << (width % 4);
    let predicted: Vec<u8> = (0..width * usize::from(*count)).map(|at| (at * 37) as u8).collect();
    let mut original = predicted.clone();
    match apply_correction(width, stream, &mut original) {
        Ok(()) => {
            let (mut again, mut back) = (Vec::new(), predicted.clone());
            encode_correction(width, &original, &predicted, &mut again).expect("whole numbers");
            apply_correction(width, &again, &mut back).expect("our own stream");
            assert!(back == original, "a correction changes its meaning");
        }
        Err(error) => return refused(&error),
    }
    let _ = chunks(stream);
    true
}

/// What a signature says of itself: what is accepted is written back and means the same.
pub fn signature_about(bytes: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice(bytes) else { return false };
    match About::from_value(&value) {
        Ok(about) => {
            let again = About::from_value(&about.to_value());
            assert_eq!(again.expect("our own value"), about, "a signature changes its meaning");
        }
        Err(error) => return refused(&error),
    }
    true
}

/// A patched container, or the record beside a patched file.
pub fn undo_record(bytes: &[u8]) -> bool {
    let open = || Artifact::from_checkpoint(Checkpoint::from_bytes("bytes", bytes.into(), &Limits::default())?);
    let artifact = match open() {
        Ok(artifact) => artifact,
        Err(error) => return refused(&error),
    };
    if artifact.metas().is_empty() {
        return match Sidecar::from_artifact(artifact) {
            Ok(sidecar) => (0..sidecar.patches().len()).all(|index| sidecar.signature(index).is_ok()),
            Err(error) => refused(&error),
        };
    }
    match artifact.undo() {
        Ok(undos) => {
            let undos: Vec<_> = undos.into_iter().flatten().collect();
            let sound = undos.iter().all(|undo| (0..undo.patches().len()).all(|index| undo.signature(index).is_ok()));
            sound && verify(&artifact, 1).faults.is_empty() && !undos.is_empty()
        }
        Err(error) => refused(&error),
    }
}
