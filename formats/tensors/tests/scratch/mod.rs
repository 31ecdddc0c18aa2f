//! What the tests share: fresh folders, files made by hand, seeded randomness.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use niwaki_tensors::{Dtype, Entry, Error, Layout, metadata_len};

/// A folder of its own, removed at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("niwaki-tensors-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file and gives back its path.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The names in the folder, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let items = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = items.map(|i| i.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file of the given header text and so many bytes of data.
pub(crate) fn file(header: impl AsRef<[u8]>, data: usize) -> Vec<u8> {
    let header = header.as_ref();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.extend((0..data).map(|i| i as u8));
    bytes
}

/// A file of one-dimensional U8 tensors: names and lengths.
pub(crate) fn u8s(tensors: &[(&str, usize)]) -> Vec<u8> {
    let mut at = 0;
    let mut entries = Vec::new();
    for (name, len) in tensors {
        let end = at + len;
        entries.push(format!(r#""{name}":{{"dtype":"U8","shape":[{len}],"data_offsets":[{at},{end}]}}"#));
        at = end;
    }
    file(format!("{{{}}}", entries.join(",")), at)
}

/// Marsaglia's xorshift, 64 bits.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n.max(1)
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// Damages a JSON text a few times: bits, digits, tokens, pieces cut out or repeated.
pub(crate) fn damage(text: &mut Vec<u8>, tokens: &[&str], random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let at = random.below(text.len());
        let until = (at + random.below(24)).min(text.len());
        match random.below(7) {
            0 if !text.is_empty() => text[at] ^= 1 << random.below(8),
            1 => {
                // The number at or after `at` becomes another one.
                let Some(digit) = text[at..].iter().position(u8::is_ascii_digit).map(|i| at + i) else { continue };
                let end = text[digit..].iter().position(|b| !b.is_ascii_digit()).map_or(text.len(), |i| digit + i);
                let number = random.pick(&["0", "1", "4", "8", "12", "64", "4294967296", "18446744073709551615"]);
                text.splice(digit..end, number.bytes());
            }
            2 => drop(text.splice(at..at, random.pick(tokens).bytes())),
            3 => drop(text.splice(at..until, random.pick(tokens).bytes())),
            4 => drop(text.drain(at..until)),
            5 => {
                let piece = text[at..until].to_vec();
                let to = random.below(text.len());
                text.splice(to..to, piece);
            }
            _ => {
                // A whole entry stands twice.
                let text_now = String::from_utf8_lossy(text).into_owned();
                let Some(from) = text_now[..].find("},").map(|i| i + 2) else { continue };
                let piece: Vec<u8> = text_now.bytes().take(from).skip(1).collect();
                text.splice(1.min(text.len())..1.min(text.len()), piece);
            }
        }
    }
}

/// Tensors `t0`, `t1` … of so many bytes, with room for one key.
pub(crate) fn layout(lens: &[usize]) -> Layout {
    let entry = |(i, len): (usize, &usize)| Entry { name: format!("t{i}"), dtype: Dtype::U8, shape: vec![*len] };
    Layout::new(lens.iter().enumerate().map(entry).collect(), metadata_len(&[("k", "v")])).unwrap()
}

/// The sentence after the path of the output.
pub(crate) fn sentence(error: &Error, path: &Path) -> String {
    assert_eq!(error.path(), Some(path), "{error}");
    let prefix = format!("`{}`: ", path.display());
    error.to_string().strip_prefix(&prefix).unwrap().to_owned()
}
