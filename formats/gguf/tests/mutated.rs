//! 10,000 damaged files: no panic, no lies, and messages of one line.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod made;

use made::{Made, Random, key, string, tensor};
use niwaki_gguf::{Error, Header, parse, verify};
use niwaki_tensors::Limits;

const FILES: u64 = 20_000;

/// Numbers that lengths, counts and offsets stumble over, little-endian.
const NUMBERS: [u64; 10] = [0, 1, 4, 8, 31, 64, 1 << 31, 1 << 62, u64::MAX / 2 + 1, u64::MAX];

fn seeds() -> Vec<Vec<u8>> {
    let texts = [&8u32.to_le_bytes()[..], &2u64.to_le_bytes(), &string("x"), &string("yz")].concat();
    let nested = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes(), &7u32.to_le_bytes(), &2u64.to_le_bytes(), &[0, 1]];
    let rich = Made::new()
        .with_key(key("tokenizer.ggml.tokens", 9, texts))
        .with_key(key("tokenizer.ggml.bos_token_id", 4, [1, 0, 0, 0]))
        .with_key(key("flags", 9, nested.concat()))
        .with_key(key("f", 12, [1; 8]))
        .with_tensor(tensor("s", &[], 1, 128))
        .with_tensor(tensor("empty", &[256, 0], 12, 128));
    let mut rich = rich;
    rich.data.extend([0; 32]);
    let mut wide = Made::new().with_key(key("general.alignment", 4, [64, 0, 0, 0]));
    wide.alignment = 64;
    wide.tensors = vec![tensor("q", &[256, 1, 1, 2], 12, 64), tensor("u", &[3], 77, 0)];
    wide.data = vec![0; 64 + 320];
    vec![Made::new().bytes(), rich.bytes(), wide.bytes(), Made::empty().bytes()]
}

fn mutated(seeds: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed + 1);
    let mut bytes = random.pick(seeds).clone();
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len());
        let until = (at + random.below(16)).min(bytes.len());
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 => {
                let number = random.pick(&NUMBERS).to_le_bytes();
                let len = *random.pick(&[1, 4, 8]);
                bytes.iter_mut().skip(at).zip(number).take(len).for_each(|(to, from)| *to = from);
            }
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..until)),
            4 => {
                let piece = bytes[at..until].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            _ => drop(bytes.splice(at..at, (0..random.below(9)).map(|i| i as u8).collect::<Vec<_>>())),
        }
    }
    bytes
}

fn well_worded(text: &str) -> Result<(), String> {
    let lower = text.starts_with(|c: char| c.is_lowercase() || c.is_ascii_digit()) || text.starts_with("GGUF version ");
    if text.contains(char::is_control) || !lower || text.ends_with('.') || text.contains(" { ") {
        return Err(format!("badly worded: {text:?}"));
    }
    Ok(())
}

/// What is accepted keeps what opening promises.
fn check(header: &Header, bytes: &[u8]) -> Result<(), String> {
    let mut taken = Vec::new();
    for (index, info) in header.tensors.iter().enumerate() {
        if header.find(&info.name) != Some(index) {
            return Err(format!("`{}` is not found", info.name));
        }
        let Ok(range) = header.file_range(index) else { continue };
        if range.end > bytes.len() && !range.is_empty() {
            return Err(format!("`{}` ends beyond the file", info.name));
        }
        if !range.is_empty() {
            taken.push(range);
        }
    }
    taken.sort_by_key(|range| range.start);
    match taken.windows(2).find(|pair| pair[0].end > pair[1].start) {
        Some(pair) => Err(format!("{pair:?} overlap")),
        None => Ok(()),
    }
}

fn judge(bytes: &[u8]) -> Result<Result<Header, Error>, String> {
    let parsed = parse(bytes, &Limits::default());
    match &parsed {
        Err(error) => well_worded(&error.to_string())?,
        Ok(header) => {
            check(header, bytes)?;
            verify(header, bytes).iter().try_for_each(|fault| well_worded(&fault.to_string()))?;
        }
    }
    Ok(parsed)
}

#[test]
fn the_undamaged_files_are_accepted() {
    for seed in seeds() {
        let header = judge(&seed).unwrap().unwrap();
        assert!(header.tensors.len() != 1);
    }
}

#[test]
fn damaged_files_are_judged_without_a_panic() {
    let seeds = seeds();
    let (mut accepted, mut refused) = (0, std::collections::BTreeMap::new());
    for seed in 0..FILES {
        let bytes = mutated(&seeds, seed);
        match judge(&bytes).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{}", bytes.escape_ascii())) {
            Ok(_) => accepted += 1,
            Err(error) => {
                let kind = format!("{:?}", error.kind());
                let name = kind.split([' ', '(']).next().unwrap_or_default().to_owned();
                *refused.entry(name).or_insert(0) += 1;
            }
        }
    }
    // The damage reaches every branch, or the test would show nothing.
    assert!(accepted > 2000, "{accepted} {refused:?}");
    // (Names that stand twice are too rare among random damage.)
    let all = "Magic Short Version BigEndian Count Cut Utf8 ValueType Bool NoName Dims Overflow Row Offset Beyond Overlap \
               Alignment Limit NameBytes";
    for kind in all.split_whitespace() {
        assert!(refused.contains_key(kind), "no {kind} in {refused:?}");
    }
}

#[test]
fn a_lie_would_be_seen() {
    let good = Made::new().bytes();
    let header = parse(&good, &Limits::default()).unwrap();
    assert!(check(&header, &good).is_ok());
    assert!(check(&header, &good[..good.len() - 40]).is_err());
    let mut lying = header.clone();
    lying.tensors[1].offset = 0;
    assert!(check(&lying, &good).is_err());
    assert!(well_worded("Bad").is_err() && well_worded("a\nb").is_err() && well_worded("X { a }").is_err());
}
