//! What the tests share: files made by hand, fresh folders, seeded randomness.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A file put together piece by piece, by nothing but the format's description.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) version: u32,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) tensors: Vec<Vec<u8>>,
    pub(crate) data: Vec<u8>,
    pub(crate) alignment: usize,
}

pub(crate) fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// Key, type, value.
pub(crate) fn key(name: &str, value_type: u32, value: impl AsRef<[u8]>) -> Vec<u8> {
    [&string(name)[..], &value_type.to_le_bytes(), value.as_ref()].concat()
}

/// A tensor's entry; dimensions as they stand in the file.
pub(crate) fn tensor(name: &str, dims: &[u64], ggml: u32, offset: u64) -> Vec<u8> {
    let mut out = string(name);
    out.extend((dims.len() as u32).to_le_bytes());
    dims.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
    out.extend(ggml.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}

impl Made {
    /// Two tensors: `a`, F32 of 3x2, and `b`, Q8_0 of 2x32; an architecture.
    pub(crate) fn new() -> Self {
        let keys =
            vec![key("general.architecture", 8, string("llama")), key("general.quantization_version", 4, [2, 0, 0, 0])];
        let tensors = vec![tensor("a", &[2, 3], 0, 0), tensor("b", &[32, 2], 8, 32)];
        let mut data: Vec<u8> = (1..=6u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
        data.resize(32, 0);
        for block in 0..2u8 {
            data.extend([0, 0x3c]); // 1.0
            data.extend((0..32).map(|i| i + block));
        }
        data.resize(32 + 96, 0);
        Self { version: 3, keys, tensors, data, alignment: 32 }
    }

    pub(crate) fn empty() -> Self {
        Self { keys: vec![], tensors: vec![], data: vec![], ..Self::new() }
    }

    pub(crate) fn with_key(mut self, key: Vec<u8>) -> Self {
        self.keys.push(key);
        self
    }

    pub(crate) fn with_tensor(mut self, tensor: Vec<u8>) -> Self {
        self.tensors.push(tensor);
        self
    }

    /// The file, with this many keys and tensors claimed.
    pub(crate) fn claiming(&self, tensors: u64, keys: u64) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(tensors.to_le_bytes());
        out.extend(keys.to_le_bytes());
        self.keys.iter().chain(&self.tensors).for_each(|piece| out.extend(piece));
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out.extend(&self.data);
        out
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.claiming(self.tensors.len() as u64, self.keys.len() as u64)
    }
}

/// A folder of its own, removed at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("niwaki-gguf-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let items = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = items.map(|i| i.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
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

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n.max(1)
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}
