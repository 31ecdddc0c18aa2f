//! Writes into the transcripts, README.md and the guide what the commands print now.
//!
//! Run it after a message changed on purpose, and review what it changed:
//! `cargo run -p niwaki-conformance --bin accept-transcripts && git diff`.

use niwaki_conformance::folder::repository;
use niwaki_conformance::transcript::{PAGES, accepted, console_steps, page_scene, scene, steps};

fn main() -> std::io::Result<()> {
    let folder = repository().join("tests/transcripts");
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "txt") {
            let text = std::fs::read_to_string(&path)?;
            let _scene = scene();
            std::fs::write(&path, accepted(&text, &steps(&text)))?;
        }
    }
    for name in PAGES {
        let path = repository().join(name);
        let page = std::fs::read_to_string(&path)?;
        let _scene = page_scene(&page);
        std::fs::write(&path, accepted(&page, &console_steps(&page)))?;
    }
    Ok(())
}
