//! The examples of the README for those who link niwaki are parts of programs that are run.
//!
//! That in C is run by the tests of `niwaki-capi`, that in Python by those of the wheel.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

#[path = "../../formats/container/examples/dot.rs"]
mod dot;

use niwaki_conformance::folder::repository;

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap()
}

/// The only block of a language in its section of the README.
fn block(language: &str) -> String {
    let readme = read("README.md");
    let (_, section) = readme.split_once("\n## Link it\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let (_, rest) = section.split_once(&format!("\n```{language}\n")).unwrap();
    assert!(!rest.contains(&format!("\n```{language}\n")), "a second block of {language}");
    rest.split_once("```\n").unwrap().0.to_owned()
}

#[test]
fn the_example_in_rust_multiplies() {
    let path = repository().join("tests/golden/example.safetensors");
    // -3.5 3.5 0, 0 2 -2 with 1 2 4.
    assert_eq!(dot::products(path.to_str().unwrap(), "w").unwrap().unwrap(), [3.5, -4.0]);
    assert!(dot::products(path.to_str().unwrap(), "no").unwrap().is_none());
}

#[test]
fn the_readme_shows_what_is_run() {
    for (language, program) in [("rust", "formats/container/examples/dot.rs"), ("c", "tools/capi/examples/dot.c")] {
        let block = block(language);
        assert!(block.lines().count() > 5, "{block}");
        assert!(read(program).contains(&block), "{program} has no such lines:\n{block}");
    }
    assert!(block("python").contains("niwaki.open"));
}
