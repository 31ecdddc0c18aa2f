//! Tensors of every scheme with made-up parts.

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use niwaki_codes::simd::Level;
use niwaki_codes::{
    Bits, BlockType, BlockView, ElasticParts, ElasticView, FloatView, Scheme, Symmetry, UniformView, pack_blocks,
    pack_row, planes, unpack_blocks, unpack_row,
};

use crate::Error;
use crate::frozen::*;

pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    pub(super) fn unit(&mut self) -> f32 {
        (self.next() >> 29) as f32 / 16_777_216.0
    }

    pub(super) fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }

    /// An F16, sometimes an odd one; the largest and what is no number where `wild`.
    fn half(&mut self, wild: bool) -> [u8; 2] {
        let odd = [0, 0x8000, 1, 0x8003, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0x7E00];
        let half = match self.next() % 4 {
            0 => odd[self.next() as usize % if wild { 10 } else { 6 }],
            1 => self.next() as u16 & 0xBFFF,
            _ => 0x2000 + (self.next() as u16 & 0x8FFF),
        };
        half.to_le_bytes()
    }

    fn single(&mut self, wild: bool) -> [u8; 4] {
        let odd = [0, 0x8000_0000, 1, 0x8000_0007, 0x0040_0000, 0x7F00_0001, 0x7F7F_FFFF, 0x7F80_0000, 0x7FC0_0000];
        let single = match self.next() % 4 {
            0 => odd[self.next() as usize % if wild { 9 } else { 5 }],
            _ => 0x3000_0000 + (self.next() as u32 & 0x8FFF_FFFF),
        };
        single.to_le_bytes()
    }
}

/// One tensor; parts that the scheme does not have are empty.
#[derive(Clone, PartialEq)]
pub(super) struct Case {
    pub(super) scheme: Scheme,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) codes: Vec<u8>,
    pub(super) scales: Vec<u8>,
    pub(super) zeros: Vec<u8>,
    pub(super) factor: Vec<u8>,
    pub(super) fixes: Vec<Vec<u8>>,
    pub(super) planes: Vec<Vec<u8>>,
}

impl Case {
    pub(super) fn new(random: &mut Random, text: &str, (rows, cols): (usize, usize), wild: bool) -> Self {
        let scheme: Scheme = text.parse().unwrap();
        let mut case = Self {
            scheme,
            rows,
            cols,
            codes: vec![],
            scales: vec![],
            zeros: vec![],
            factor: vec![],
            fixes: vec![vec![]; 9],
            planes: vec![vec![]; 8],
        };
        case.fill(random, wild);
        let mut codes: Vec<u8> = random.bytes(rows * cols).iter().map(|code| code & case.top()).collect();
        if let (Scheme::Float(niwaki_codes::Float::Fp8E4m3(_)), false) = (scheme, wild) {
            codes.iter_mut().filter(|code| **code & 0x7F == 0x7F).for_each(|nan| *nan ^= 1);
        }
        case.with_codes(&codes)
    }

    fn fill(&mut self, random: &mut Random, wild: bool) {
        let (rows, cols) = (self.rows, self.cols);
        match self.scheme {
            Scheme::Uniform(s) => {
                self.codes = vec![0; rows * s.row_bytes(cols)];
                for _ in 0..s.groups(rows, cols) {
                    match s.scale_type().bytes() {
                        2 => self.scales.extend(random.half(wild)),
                        _ => self.scales.extend(random.single(wild)),
                    }
                    if s.symmetry == Symmetry::Affine {
                        let zero = random.next() as u8;
                        self.zeros.push(if wild { zero } else { zero & self.top() });
                    }
                }
            }
            Scheme::Block(kind) => {
                self.codes = random.bytes(rows * kind.row_bytes(cols).unwrap());
                for block in self.codes.chunks_mut(kind.bytes()) {
                    for at in kind.halves() {
                        block[*at..at + 2].copy_from_slice(&random.half(wild));
                    }
                    if kind == BlockType::Mxfp4 && !wild {
                        block[0] = [0, 1, 2, 120, 127, 130, 200, 250][random.next() as usize % 8];
                    }
                }
            }
            Scheme::Float(float) => {
                let sizes = float.sizes(rows, cols).unwrap();
                self.codes = vec![0; sizes.codes];
                while self.scales.len() < sizes.scales {
                    match float.scale_bytes() {
                        1 => self.scales.push(random.next() as u8 & if wild { 0xFF } else { 0xF7 }),
                        _ => self.scales.extend(random.single(wild)),
                    }
                }
                if sizes.factor > 0 {
                    self.factor = [3.7f32, 1e-3, 2e30][random.next() as usize % 3].to_le_bytes().to_vec();
                }
            }
            Scheme::Elastic(s) => {
                let sizes = s.parts(rows, cols).unwrap();
                while self.scales.len() < sizes.base {
                    self.scales.extend(random.half(wild));
                }
                for bits in s.widths.iter().filter(|bits| s.has_fix(*bits)) {
                    self.fixes[bits.get() as usize] = random.bytes(sizes.fix);
                }
                for number in (0..8).filter(|number| s.has_plane(*number)) {
                    self.planes[number] = vec![0; sizes.plane];
                }
            }
            other => panic!("{other}"),
        }
    }

    pub(super) fn name(&self) -> String {
        self.scheme.to_string()
    }

    fn bits(&self) -> Bits {
        match self.scheme {
            Scheme::Uniform(s) => s.bits,
            Scheme::Block(kind) => kind.code_bits(),
            Scheme::Float(niwaki_codes::Float::Fp8E4m3(_)) => Bits::MAX,
            Scheme::Float(_) => Bits::new(4).unwrap(),
            Scheme::Elastic(s) => s.widths.widest(),
            other => panic!("{other}"),
        }
    }

    /// The largest code.
    pub(super) fn top(&self) -> u8 {
        (self.bits().levels() - 1) as u8
    }

    /// Codes, one a byte.
    pub(super) fn codes(&self) -> Vec<u8> {
        let mut codes = vec![0; self.rows * self.cols];
        let level = Level::Scalar;
        match self.scheme {
            Scheme::Block(kind) => unpack_blocks(level, kind, &self.codes, &mut codes).unwrap(),
            Scheme::Elastic(s) => {
                for (row, codes) in codes.chunks_mut(self.cols).enumerate() {
                    self.elastic(s).codes_row(level, self.bits(), row, codes).unwrap();
                }
            }
            _ => {
                let bytes = self.codes.len() / self.rows;
                for (codes, packed) in codes.chunks_mut(self.cols).zip(self.codes.chunks(bytes)) {
                    unpack_row(level, self.bits(), packed, codes).unwrap();
                }
            }
        }
        codes
    }

    /// The same grids with other codes.
    pub(super) fn with_codes(&self, codes: &[u8]) -> Self {
        let mut case = self.clone();
        let level = Level::Scalar;
        let row = codes.chunks(self.cols);
        match self.scheme {
            Scheme::Block(kind) => pack_blocks(level, kind, codes, &mut case.codes).unwrap(),
            Scheme::Elastic(_) => {
                let (bytes, first) = (self.cols.div_ceil(8), 8 - self.bits().get() as usize);
                for (row, codes) in row.enumerate() {
                    for (bit, plane) in case.planes[first..].iter_mut().enumerate() {
                        planes::split(level, bit as u32, codes, &mut plane[row * bytes..(row + 1) * bytes]).unwrap();
                    }
                }
            }
            _ => {
                let bytes = self.codes.len() / self.rows;
                for (codes, packed) in row.zip(case.codes.chunks_mut(bytes)) {
                    pack_row(level, self.bits(), codes, packed).unwrap();
                }
            }
        }
        case
    }

    fn elastic(&self, scheme: niwaki_codes::Elastic) -> ElasticView<'_> {
        let mut parts = ElasticParts { base: &self.scales, ..ElasticParts::default() };
        parts.fixes.iter_mut().zip(&self.fixes).for_each(|(to, fix)| *to = Some(fix));
        parts.planes.iter_mut().zip(&self.planes).for_each(|(to, plane)| *to = Some(plane));
        ElasticView::new(scheme, self.rows, self.cols, parts).unwrap()
    }

    pub(super) fn decode(&self) -> Vec<f32> {
        let (rows, cols, level) = (self.rows, self.cols, Level::best());
        let mut out = vec![0.0; rows * cols];
        match self.scheme {
            Scheme::Uniform(s) => {
                let view = UniformView::new(s, rows, cols, &self.codes, &self.scales, Some(&self.zeros)).unwrap();
                view.dequantize_rows(level, 0..rows, &mut out).unwrap();
            }
            Scheme::Block(kind) => {
                BlockView::new(kind, rows, cols, &self.codes)
                    .unwrap()
                    .dequantize_rows(level, 0..rows, &mut out)
                    .unwrap();
            }
            Scheme::Float(float) => {
                let view = FloatView::new(float, rows, cols, &self.codes, &self.scales, Some(&self.factor)).unwrap();
                view.dequantize_rows(level, 0..rows, &mut out).unwrap();
            }
            Scheme::Elastic(s) => {
                self.elastic(s).dequantize_rows(level, self.bits(), 0..rows, &mut out).unwrap();
            }
            other => panic!("{other}"),
        }
        out
    }

    pub(super) fn recode(&mut self, level: Level, targets: &[f32]) -> Result<usize, Error> {
        let (cols, widest) = (self.cols, self.bits());
        match self.scheme {
            Scheme::Uniform(s) => {
                let parts = UniformCodes { codes: &mut self.codes, scales: &self.scales, zeros: &self.zeros };
                recode_rows(level, &s, cols, parts, targets)
            }
            Scheme::Block(kind) => recode_block_rows(level, kind, cols, &mut self.codes, targets),
            Scheme::Float(float) => {
                let parts = FloatCodes { codes: &mut self.codes, scales: &self.scales, factor: &self.factor };
                recode_float_rows(level, float, cols, parts, targets)
            }
            Scheme::Elastic(s) => {
                let fix = &self.fixes[widest.get() as usize];
                let mut parts = ElasticCodes { base: &self.scales, fix, ..ElasticCodes::default() };
                parts.planes.iter_mut().zip(&mut self.planes).for_each(|(to, plane)| *to = Some(plane));
                recode_elastic_rows(level, &s, cols, parts, targets)
            }
            other => panic!("{other}"),
        }
    }

    /// Whether all but the codes is as in another.
    pub(super) fn same_parameters(&self, other: &Self) -> bool {
        let zeros = vec![0; self.rows * self.cols];
        self.with_codes(&zeros) == other.with_codes(&zeros)
    }

    /// Row `i` times `factors[i]`, as rows of the whole tensor.
    pub(super) fn rescale(&mut self, factors: &[f32]) -> Result<bool, Error> {
        match self.scheme {
            Scheme::Uniform(s) => rescale_rows(&s, self.cols, factors, &mut self.scales),
            Scheme::Block(kind) => rescale_block_rows(kind, self.cols, factors, &mut self.codes),
            Scheme::Float(float) => {
                rescale_float_rows(float, self.cols, factors, &mut self.scales, self.factor.first_chunk_mut())
            }
            Scheme::Elastic(s) => rescale_elastic_rows(&s, self.cols, factors, &mut self.scales),
            other => panic!("{other}"),
        }
    }
}

/// Schemes other than blocks.
pub(super) const SCHEMES: [(&str, (usize, usize)); 30] = [
    ("int2/g5/sym", (3, 33)),
    ("int2/g16/affine", (2, 64)),
    ("int3/row/sym", (4, 77)),
    ("int3/g32/affine/f32", (2, 100)),
    ("int4/g32/sym", (3, 96)),
    ("int4/g1/affine", (1, 40)),
    ("int4/tensor/affine", (5, 31)),
    ("int4/row/affine", (3, 4133)),
    ("int5/g64/sym/f32", (2, 130)),
    ("int5/g16/affine", (3, 50)),
    ("int6/tensor/sym", (3, 41)),
    ("int6/g48/affine", (2, 96)),
    ("int7/g20/sym", (2, 45)),
    ("int8/g32/affine", (2, 64)),
    ("int8/row/sym", (4, 40)),
    ("int8/g16/sym/f32", (2, 40)),
    ("fp8_e4m3/tensor", (3, 37)),
    ("fp8_e4m3/row", (5, 40)),
    ("fp8_e4m3/b16", (33, 35)),
    ("nvfp4", (3, 77)),
    ("nvfp4", (4, 64)),
    ("nf4/g64", (2, 128)),
    ("nf4/g7", (3, 33)),
    ("elastic/g32", (3, 96)),
    ("elastic/g16/2,4", (5, 50)),
    ("elastic/g5/3", (3, 21)),
    ("elastic/g64/2", (2, 70)),
    ("elastic/g100/5,6", (2, 200)),
    ("elastic/g40/7", (2, 85)),
    ("elastic/g5000/8", (1, 4200)),
];

/// Blocks whose steps are lost, in part or all, when the minimum is added.
fn flat(random: &mut Random, kind: BlockType, (scale, minimum): (usize, usize)) -> Case {
    let mut case = Case::new(random, kind.name(), (1, 16 * kind.elements()), false);
    for block in case.codes.chunks_mut(kind.bytes()) {
        let d = (1 + random.next() as u16 % 40) | (random.next() as u16 & 0x8000);
        block[scale..scale + 2].copy_from_slice(&d.to_le_bytes());
        let m = 0x3400 + random.next() as u16 % 0x3000;
        block[minimum..minimum + 2].copy_from_slice(&m.to_le_bytes());
    }
    case
}

/// Tensors of every scheme, of each some with scales that no encoder writes.
pub(super) fn all_cases(random: &mut Random) -> Vec<Case> {
    let mut cases = vec![];
    for round in 0..3 {
        for (text, shape) in SCHEMES {
            cases.push(Case::new(random, text, shape, round == 0));
        }
        for kind in BlockType::ALL {
            for rows in [1, 3] {
                let cols = 3 * kind.elements();
                cases.push(Case::new(random, kind.name(), (rows, cols), round == 0));
            }
            if let [scale, minimum] = kind.halves() {
                cases.push(flat(random, kind, (*scale, *minimum)));
            }
        }
    }
    cases
}
