//! 10,000 damaged files for each parser: no panic, and agreement with the `safetensors` crate.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod scratch;

use std::collections::BTreeMap;
use std::panic::catch_unwind;

use niwaki_tensors::{Error, ErrorKind, Header, Limits, parse_header, parse_index};
use safetensors::SafeTensors;
use scratch::{Random, damage, file};

const FILES: u64 = 10_000;

const TOKENS: [&str; 22] = [
    "\"dtype\"",
    "\"shape\"",
    "\"data_offsets\"",
    "\"__metadata__\"",
    "\"F32\"",
    "\"BF16\"",
    "\"F4\"",
    "{\"F32\":null}",
    "[]",
    "{}",
    "null",
    "-1",
    "1e9",
    "0.5",
    ",",
    ":",
    "[",
    "}",
    "\"a\":",
    "\\u0061",
    "\"",
    " ",
];

/// Type, shape, first and last byte of each tensor by name, and the metadata.
type Facts = (BTreeMap<String, (String, Vec<usize>, usize, usize)>, BTreeMap<String, String>);

fn ours(header: &Header) -> Facts {
    let entry =
        |e: &niwaki_tensors::HeaderEntry| (e.name.clone(), (e.dtype.to_string(), e.shape.clone(), e.begin, e.end));
    (header.entries.iter().map(entry).collect(), header.metadata.clone())
}

/// What the crate says; none where it refuses, or panics as it may on sums that overflow.
fn theirs(bytes: &[u8]) -> Option<Facts> {
    let (_, metadata) = catch_unwind(|| SafeTensors::read_metadata(bytes).ok()).ok()??;
    let tensors = metadata.tensors().into_iter().map(|(name, info)| {
        (name, (info.dtype.to_string(), info.shape.clone(), info.data_offsets.0, info.data_offsets.1))
    });
    let texts = metadata.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    Some((tensors.collect(), texts))
}

#[derive(Debug, PartialEq)]
enum Verdict {
    BothAccept,
    BothRefuse,
    /// A name or key stands twice, or a limit is passed.
    Stricter,
}

fn compare(ours: Result<Facts, Error>, theirs: Option<Facts>) -> Result<Verdict, String> {
    match (ours, theirs) {
        (Ok(a), Some(b)) if a == b => Ok(Verdict::BothAccept),
        (Ok(a), b) => Err(format!("we accept {a:?}, the crate {b:?}")),
        (Err(_), None) => Ok(Verdict::BothRefuse),
        (Err(error), Some(b)) => match error.kind() {
            ErrorKind::TwiceTensor | ErrorKind::TwiceKey { .. } | ErrorKind::Limit { .. } => Ok(Verdict::Stricter),
            _ => Err(format!("we refuse ({error}), the crate accepts {b:?}")),
        },
    }
}

fn verdict(bytes: &[u8]) -> Result<Verdict, String> {
    let parsed = parse_header(bytes, &Limits::default());
    if let Err(error) = &parsed {
        well_worded(error)?;
    }
    compare(parsed.map(|header| ours(&header)), theirs(bytes))
}

fn well_worded(error: &Error) -> Result<(), String> {
    let text = error.to_string();
    let first_is_lower = text.starts_with(|c: char| c.is_lowercase() || c == '`');
    if text.contains(char::is_control) || !first_is_lower || text.ends_with('.') || text.contains("`?`") {
        return Err(format!("badly worded: {text:?}"));
    }
    Ok(())
}

const SEEDS: [(&str, usize); 4] = [
    (
        r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"I64","shape":[],"data_offsets":[16,24]},"c":{"dtype":"U8","shape":[0,3],"data_offsets":[24,24]}}"#,
        24,
    ),
    (r#"{"a":["BF16",[4],[0,8]],"b":{"shape":[4],"dtype":"F4","data_offsets":[8,10],"extra":{"x":[1]}}}"#, 10),
    (
        r#"{"x":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[4,12]},"y":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#,
        12,
    ),
    (r#"{"__metadata__":null}"#, 0),
];

fn mutated(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed + 1);
    let (text, data) = SEEDS[random.below(SEEDS.len())];
    let mut text = text.as_bytes().to_vec();
    damage(&mut text, &TOKENS, &mut random);
    let data = match random.below(8) {
        0 => random.below(40),
        _ => data,
    };
    let mut bytes = file(&text, data);
    match random.below(16) {
        0 => bytes.truncate(random.below(bytes.len())),
        1 => bytes[random.below(8)] ^= 1 << random.below(8),
        _ => {}
    }
    bytes
}

#[test]
fn the_undamaged_files_are_accepted() {
    for (text, data) in SEEDS {
        assert_eq!(verdict(&file(text, data)), Ok(Verdict::BothAccept), "{text}");
    }
}

#[test]
fn damaged_headers_are_judged_like_the_crate_judges_them() {
    let (mut accepted, mut refused, mut stricter, mut undiagnosed) = (0, 0, 0, 0);
    for seed in 0..FILES {
        let bytes = mutated(seed);
        match verdict(&bytes).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{}", String::from_utf8_lossy(&bytes))) {
            Verdict::BothAccept => accepted += 1,
            Verdict::BothRefuse => refused += 1,
            Verdict::Stricter => stricter += 1,
        }
        let error = parse_header(&bytes, &Limits::default()).err();
        undiagnosed += u32::from(error.is_some_and(|e| matches!(e.kind(), ErrorKind::Refused { .. })));
    }
    // The damage reaches every branch, or the test would show nothing.
    assert!(accepted > 200 && refused > 5000 && stricter > 50, "{accepted} {refused} {stricter}");
    // Nearly every refusal is in our words, not in the crate's.
    assert!(undiagnosed * 100 < refused, "{undiagnosed} of {refused}");
}

#[test]
fn a_disagreement_would_be_seen() {
    let good = file(SEEDS[0].0, SEEDS[0].1);
    let facts = || parse_header(&good, &Limits::default()).map(|header| ours(&header));
    let mut other = facts().unwrap();
    other.0.remove("a");
    assert!(compare(facts(), Some(other)).is_err());
    assert!(compare(facts(), None).is_err());
    let refusal = parse_header(&good[..9], &Limits::default()).map(|header| ours(&header));
    assert!(compare(refusal, theirs(&good)).is_err());
    assert!(well_worded(&parse_header(&good[..9], &Limits::default()).unwrap_err()).is_ok());
}

#[test]
fn damaged_indexes_do_not_panic() {
    let seed_text = r#"{"metadata":{"total_size":12},"weight_map":{"a":"model-1.safetensors","b":"model-1.safetensors","c":"sub/model-2.safetensors"}}"#;
    assert_eq!(parse_index(seed_text.as_bytes(), &Limits::default()).unwrap().weight_map.len(), 3);
    let tokens = [&TOKENS[..], &["\"weight_map\"", "\"metadata\"", "../", "/", "\"a\":\"b\",", "\\u0000"]].concat();
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..FILES {
        let mut random = Random::new(seed + 77);
        let mut text = seed_text.as_bytes().to_vec();
        damage(&mut text, &tokens, &mut random);
        match parse_index(&text, &Limits::default()) {
            // A typed reader that knows nothing of repeated keys must accept it as well.
            Ok(index) => {
                let tree: serde_json::Value = serde_json::from_slice(&text).unwrap();
                let map = tree["weight_map"].as_object().unwrap();
                assert_eq!(map.len(), index.weight_map.len());
                assert!(index.weight_map.iter().all(|(name, shard)| map[name] == **shard), "seed {seed}");
                accepted += 1;
            }
            Err(error) => {
                well_worded(&error).unwrap();
                refused += 1;
            }
        }
    }
    assert!(accepted > 200 && refused > 2000, "{accepted} {refused}");
}
