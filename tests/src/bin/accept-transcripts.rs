//! Writes into the transcripts and into README.md what the commands print now.
//!
//! Run it after a message changed on purpose, and review what it changed:
//! `cargo run -p niwaki-conformance --bin accept-transcripts && git diff`.

use niwaki_conformance::folder::repository;
use niwaki_conformance::transcript::{accepted, block, console_steps, scene, steps};

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
    let path = repository().join("README.md");
    let page = std::fs::read_to_string(&path)?;
    let scene = scene();
    std::fs::write(scene.path().join("recipe.toml"), block(&page, "toml").unwrap_or_default().to_owned() + "\n")?;
    std::fs::write(&path, accepted(&page, &console_steps(&page)))
}
