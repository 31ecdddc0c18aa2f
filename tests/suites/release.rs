//! What is published can be: its licences, the compiler that it needs, and what its packages say of themselves.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::iter::Peekable;
use std::process::Command;
use std::str::SplitWhitespace;

use niwaki_conformance::folder::repository;
use serde_json::Value;

/// Licences under which code may be linked into programs under any licence, as long as notices are kept.
const LICENCES: [&str; 7] =
    ["Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-3-Clause", "ISC", "MIT", "Unicode-3.0", "Zlib"];

/// What only tests run, and nothing links.
const TOOLS: [(&str, &str); 1] = [("cbindgen", "MPL-2.0")];

/// What cargo knows of all packages that are built here on this kind of machine, without asking anybody.
fn metadata() -> Value {
    let cargo = |args: &[&str]| {
        let done = Command::new(env!("CARGO")).args(args).current_dir(repository()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    let version = String::from_utf8(cargo(&["-vV"])).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let args = ["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", host];
    serde_json::from_slice(&cargo(&args)).unwrap()
}

fn packages(metadata: &Value) -> impl Iterator<Item = (&str, &Value)> {
    metadata["packages"].as_array().unwrap().iter().map(|package| (package["name"].as_str().unwrap(), package))
}

/// Those of this repository.
fn members(metadata: &Value) -> impl Iterator<Item = (&str, &Value)> {
    packages(metadata).filter(|(_, package)| package["source"].is_null())
}

/// Those that are published: `publish = false` is an empty list of places.
fn published(metadata: &Value) -> impl Iterator<Item = (&str, &Value)> {
    members(metadata).filter(|(_, package)| package["publish"].is_null())
}

/// Whether an SPDX expression can be met by the licences of the list. Older packages have `/` for `OR`.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let allowed = either(&mut words);
    assert_eq!(words.next(), None, "{expression}");
    allowed
}

fn either(words: &mut Peekable<SplitWhitespace<'_>>) -> bool {
    let mut allowed = both(words);
    while words.next_if_eq(&"OR").is_some() {
        allowed |= both(words);
    }
    allowed
}

fn both(words: &mut Peekable<SplitWhitespace<'_>>) -> bool {
    let mut allowed = licence(words);
    while words.next_if_eq(&"AND").is_some() {
        allowed &= licence(words);
    }
    allowed
}

fn licence(words: &mut Peekable<SplitWhitespace<'_>>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let allowed = either(words);
        assert_eq!(words.next(), Some(")"));
        return allowed;
    }
    let name = words.next().unwrap();
    match words.next_if_eq(&"WITH") {
        Some(_) => LICENCES.contains(&format!("{name} WITH {}", words.next().unwrap()).as_str()),
        None => LICENCES.contains(&name),
    }
}

#[test]
fn expressions_of_licences_are_read() {
    for yes in ["MIT", "Unlicense/MIT", "GPL-3.0-only OR Zlib", "(MIT OR GPL-3.0-only) AND Unicode-3.0"] {
        assert!(allowed(yes), "{yes}");
    }
    for no in ["GPL-3.0-only", "MIT AND GPL-3.0-only", "GPL-3.0-only WITH LLVM-exception", "(MIT AND MPL-2.0) OR X"] {
        assert!(!allowed(no), "{no}");
    }
}

#[test]
fn every_package_that_is_linked_has_a_licence_that_allows_it() {
    let metadata = metadata();
    let mut seen = 0;
    for (name, package) in packages(&metadata) {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(allowed(licence) || TOOLS.contains(&(name, licence)), "{name}: {licence}");
        seen += 1;
    }
    assert!(seen > 100, "{seen} packages");
}

#[test]
fn no_package_needs_a_newer_compiler() {
    let number = |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().unwrap()).collect() };
    let metadata = metadata();
    let (_, ours) = members(&metadata).next().unwrap();
    let ours = ours["rust_version"].as_str().unwrap();
    for (name, package) in packages(&metadata) {
        let Some(needs) = package["rust_version"].as_str() else { continue };
        assert!(number(needs) <= number(ours), "{name} needs Rust {needs}, we promise {ours}");
    }
    for (name, package) in members(&metadata) {
        assert_eq!(package["rust_version"].as_str(), Some(ours), "{name}");
    }
    // Workspaces of their own, and what people read.
    for (path, line) in [
        ("tools/python/Cargo.toml", format!("\nrust-version = \"{ours}\"\n")),
        ("tests/no_std_probe/Cargo.toml", format!("\nrust-version = \"{ours}\"\n")),
        ("README.md", format!("Needs Rust {ours} or newer")),
    ] {
        assert!(std::fs::read_to_string(repository().join(path)).unwrap().contains(&line), "{path}: {ours}");
    }
}

#[test]
fn packages_say_what_they_are_and_bring_their_licences() {
    let metadata = metadata();
    let names: Vec<&str> = published(&metadata).map(|(name, _)| name).collect();
    assert!(names.len() > 10 && names.contains(&"niwaki") && !names.contains(&"niwaki-conformance"), "{names:?}");
    for (name, package) in published(&metadata) {
        for key in ["description", "license", "readme"] {
            assert!(package[key].as_str().is_some_and(|text| !text.is_empty()), "{name}: {key}");
        }
        for key in ["keywords", "categories"] {
            assert!((1..=5).contains(&package[key].as_array().unwrap().len()), "{name}: {key}, from 1 to 5");
        }
        let folder = std::path::Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
        for file in ["LICENSE-APACHE", "LICENSE-MIT"] {
            let ours = std::fs::read(repository().join(file)).unwrap();
            assert!(std::fs::read(folder.join(file)).is_ok_and(|text| text == ours), "{name}: {file}");
        }
        // Of tests alone a package may need what is not published, by its path without a version.
        for needed in package["dependencies"].as_array().unwrap().iter().filter(|needed| !needed["path"].is_null()) {
            let (other, version) = (needed["name"].as_str().unwrap(), needed["req"].as_str().unwrap());
            let test = needed["kind"] == "dev" && version == "*";
            assert!(test != (names.contains(&other) && version != "*"), "{name} needs {other} {version}");
        }
    }
}
