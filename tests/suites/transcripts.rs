//! Replays every transcript, and those of the README and of the guide.
//!
//! One test for all: transcripts use relative paths, and the current folder belongs to the
//! whole process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_conformance::folder::repository;
use niwaki_conformance::transcript::{PAGES, console_steps, differences, page_scene, scene, steps};

#[test]
fn every_command_prints_what_its_transcript_says() {
    let folder = repository().join("tests/transcripts");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "txt"));
    paths.sort();
    let mut found = String::new();
    let mut commands = 0;
    for path in &paths {
        let steps = steps(&std::fs::read_to_string(path).unwrap());
        let _scene = scene();
        commands += steps.len();
        found += &differences(&path.file_name().unwrap().to_string_lossy(), &steps);
    }

    for name in PAGES {
        let page = std::fs::read_to_string(repository().join(name)).unwrap();
        let steps = console_steps(&page);
        assert!(steps.len() > 15, "{name} has only {} commands", steps.len());
        let _scene = page_scene(&page);
        found += &differences(name, &steps);
    }

    assert!(
        found.is_empty(),
        "{found}if the change is meant: cargo run -p niwaki-conformance --bin accept-transcripts"
    );
    assert!(commands > 40, "only {commands} commands were replayed");
}
