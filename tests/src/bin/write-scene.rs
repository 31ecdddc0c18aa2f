//! Writes into `made` what transcripts use beside the bundled files: models, checkpoints and data that are made up.
//!
//! `cargo run -p niwaki-conformance --bin write-scene`, where the sources are.

fn main() {
    niwaki_conformance::checkpoints::write_scene("made".as_ref());
}
