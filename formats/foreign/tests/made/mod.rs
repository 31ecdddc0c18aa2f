//! What the tests share: seeded codes, tensors in memory, decoders that are slow and plain.
#![allow(dead_code, reason = "every test binary uses its own part")]

pub(crate) mod cases;
pub(crate) mod sound;

use std::collections::BTreeMap;
use std::ops::Range;

use niwaki_codes::{Scheme, Symmetry, Uniform};
use niwaki_foreign::{Coded, Format, Inventory, Module, ModuleScheme, Outline, Part, Stored};
use niwaki_tensors::Dtype;

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
        self.0 >> 11
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n.max(1)
    }
}

/// Stored tensors that own their bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tensors {
    pub(crate) all: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl Tensors {
    pub(crate) fn put(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) {
        self.all.insert(name.to_owned(), (dtype, shape.to_vec(), bytes));
    }

    pub(crate) fn inventory(&self) -> Inventory<'_> {
        self.all.iter().map(|(name, (dtype, shape, bytes))| Stored::new(name, *dtype, shape, bytes).unwrap()).collect()
    }

    pub(crate) fn word(&self, name: &str, index: usize) -> u32 {
        u32::from_le_bytes(self.all[name].2[4 * index..][..4].try_into().unwrap())
    }

    /// Element `index` of a float tensor.
    pub(crate) fn float(&self, name: &str, index: usize) -> f32 {
        let (dtype, _, bytes) = &self.all[name];
        let half = || u16::from_le_bytes(bytes[2 * index..][..2].try_into().unwrap());
        match dtype {
            Dtype::F32 => f32::from_bits(self.word(name, index)),
            Dtype::F16 => half::f16::from_bits(half()).to_f32(),
            Dtype::BF16 => half::bf16::from_bits(half()).to_f32(),
            other => panic!("{other}"),
        }
    }

    /// Bits `first..first + n` of the stream whose words are `at(0), at(1), ..`.
    pub(crate) fn bits(&self, name: &str, first: usize, n: usize, at: impl Fn(usize) -> usize) -> u32 {
        let bit = |i: usize| self.word(name, at(i / 32)) >> (i % 32) & 1;
        (0..n).fold(0, |code, i| code | bit(first + i) << i)
    }
}

/// One weight of seeded codes.
#[derive(Clone, Debug)]
pub(crate) struct Weight {
    pub(crate) scheme: Uniform,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) codes: Vec<u8>,
    pub(crate) scales: Vec<f32>,
    pub(crate) zeros: Vec<u8>,
}

impl Weight {
    /// Scales are IEEE halves that bfloat16 holds too, of both signs; zero points begin at `low`.
    pub(crate) fn new(scheme: &str, (rows, cols): (usize, usize), low: u8) -> Self {
        let Scheme::Uniform(scheme) = scheme.parse().unwrap() else { panic!("{scheme}") };
        let mut random = Random::new((rows * cols) as u64 + u64::from(scheme.bits.get()));
        let levels = scheme.bits.levels() as usize;
        let groups = scheme.groups(rows, cols);
        let codes = (0..rows * cols).map(|_| random.below(levels) as u8).collect();
        let scales = (0..groups).map(|_| (random.below(255) as f32 - 127.5) / 256.0).map(|s| s.trunc_to(7)).collect();
        let zero = |_| low + random.below(levels - low as usize) as u8;
        let zeros = if scheme.symmetry == Symmetry::Affine { (0..groups).map(zero).collect() } else { Vec::new() };
        Self { scheme, rows, cols, codes, scales, zeros }
    }

    fn group(&self, row: usize, col: usize) -> usize {
        use niwaki_codes::Grouping;
        match self.scheme.grouping {
            Grouping::Tensor => 0,
            Grouping::Row => row,
            Grouping::Group(g) => row * self.cols.div_ceil(g.get()) + col / g.get(),
        }
    }

    /// What each code stands for, in double precision.
    pub(crate) fn value(&self, row: usize, col: usize) -> f64 {
        let group = self.group(row, col);
        let middle = self.zeros.get(group).map_or(self.scheme.bits.half() as u8, |zero| *zero);
        let code = self.codes[row * self.cols + col];
        f64::from(self.scales[group]) * (f64::from(code) - f64::from(middle))
    }

    /// The rows of `some` and their parameters.
    pub(crate) fn coded(&self, some: &Range<usize>) -> Coded<'_> {
        let one = self.scales.len() == 1;
        let per_row = self.scales.len() / self.rows;
        let groups = if one { 0..1 } else { some.start * per_row..some.end * per_row };
        Coded {
            codes: &self.codes[some.start * self.cols..some.end * self.cols],
            scales: &self.scales[groups.clone()],
            zeros: if self.zeros.is_empty() { &[] } else { &self.zeros[groups] },
        }
    }

    /// The stored tensors of this weight under the name `m.weight`, filled `step` rows at a time
    /// where the layout allows, and its outline.
    pub(crate) fn stored(&self, format: Format, scales: Dtype) -> (Tensors, Outline) {
        let outline = Outline::new(format, "m.weight", &self.scheme, (self.rows, self.cols), scales).unwrap();
        let bytes = |part: &Part| part.shape.iter().product::<usize>() * part.dtype.bitsize() / 8;
        let mut buffers: Vec<Vec<u8>> = outline.parts().iter().map(|part| vec![0xEE; bytes(part)]).collect();
        let step = outline.step().unwrap_or(self.rows);
        for first in (0..self.rows).step_by(step) {
            let some = first..(first + step).min(self.rows);
            let laid = outline.pieces(&self.scheme, some.clone(), self.coded(&some)).unwrap();
            assert_eq!(laid.rounded, 0);
            for piece in laid.pieces {
                buffers[piece.part][piece.at as usize..][..piece.bytes.len()].copy_from_slice(&piece.bytes);
            }
        }
        let mut tensors = Tensors::default();
        for (part, bytes) in outline.parts().iter().zip(buffers) {
            tensors.put(&part.name, part.dtype, &part.shape, bytes);
        }
        (tensors, outline)
    }
}

/// The module of an outline.
pub(crate) fn module<'a>(name: &'a str, outline: &Outline) -> Module<'a> {
    Module { name, format: outline.format(), scheme: ModuleScheme::Uniform(*outline.scheme()) }
}

trait Trunc {
    fn trunc_to(self, bits: u32) -> f32;
}

impl Trunc for f32 {
    /// Keeps so many bits of the fraction.
    fn trunc_to(self, bits: u32) -> f32 {
        f32::from_bits(self.to_bits() >> (23 - bits) << (23 - bits))
    }
}
