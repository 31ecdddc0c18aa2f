//! Elastic encoding against formulas, and what it loses.
#![cfg(feature = "std")]

use std::vec;
use std::vec::Vec;

use niwaki_codes::{ElasticParts, ElasticView, GroupSize, Widths};

use super::*;

/// Encoded parts, owned.
#[derive(Debug, PartialEq)]
struct Owned {
    scheme: Elastic,
    rows: usize,
    cols: usize,
    base: Vec<u8>,
    fixes: [Option<Vec<u8>>; 9],
    planes: [Option<Vec<u8>>; 8],
    lost: ElasticDistortion,
}

fn scheme(group: usize, widths: &[u32]) -> Elastic {
    let widths = Widths::new(widths.iter().map(|b| Bits::new(*b).unwrap())).unwrap();
    Elastic { group: GroupSize::new(group).unwrap(), widths }
}

const ALL: [u32; 7] = [2, 3, 4, 5, 6, 7, 8];

fn bytes(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

impl Owned {
    fn encode(level: Level, scheme: Elastic, fit: Fit, x: &[f32], cols: usize) -> Result<Self, Error> {
        let rows = x.len().checked_div(cols).unwrap_or(0);
        let sizes = scheme.parts(rows, cols).unwrap();
        let mut base = vec![0xAA; sizes.base];
        let fix = |b| Bits::new(b).is_ok_and(|b| scheme.has_fix(b)).then(|| vec![0xAA; sizes.fix]);
        let mut fixes = core::array::from_fn(|b| fix(b as u32));
        let mut planes = core::array::from_fn(|n| scheme.has_plane(n).then(|| vec![0xAA; sizes.plane]));
        let out = ElasticOut {
            base: &mut base,
            fixes: fixes.each_mut().map(|fix: &mut Option<Vec<u8>>| fix.as_deref_mut()),
            planes: planes.each_mut().map(|plane: &mut Option<Vec<u8>>| plane.as_deref_mut()),
        };
        let lost = encode_elastic_rows(level, &scheme, fit, Values::F32(&bytes(x)), cols, out)?;
        Ok(Self { scheme, rows, cols, base, fixes, planes, lost })
    }

    fn view(&self) -> ElasticView<'_> {
        let parts = ElasticParts {
            base: &self.base,
            fixes: self.fixes.each_ref().map(|fix| fix.as_deref()),
            planes: self.planes.each_ref().map(|plane| plane.as_deref()),
        };
        ElasticView::new(self.scheme, self.rows, self.cols, parts).unwrap()
    }

    fn decode(&self, bits: u32) -> Vec<f32> {
        let mut out = vec![f32::NAN; self.rows * self.cols];
        let bits = Bits::new(bits).unwrap();
        self.view().dequantize_rows(Level::best(), bits, 0..self.rows, &mut out).unwrap();
        out
    }

    fn decibels(&self) -> Vec<f64> {
        let lost = self.scheme.widths.iter().map(|b| self.lost.at(b).unwrap());
        lost.map(|lost| lost.sqnr_db().unwrap()).collect()
    }
}

/// Normal weights of deviation 0.02 from splitmix64, by Box and Muller.
fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut gauss = || {
        let (a, b) = (1.0 - uniform(), uniform());
        (-2.0 * a.ln()).sqrt() * (core::f64::consts::TAU * b).cos()
    };
    (0..n).map(|_| (0.02 * gauss()) as f32).collect()
}

#[test]
fn print_db() {
    let x = normal(1 << 20, 1);
    for fit in Fit::ALL {
        let t = std::time::Instant::now();
        let e = Owned::encode(Level::best(), scheme(64, &ALL), fit, &x, 4096).unwrap();
        std::eprintln!("{fit} {:?} {:.2?}", t.elapsed() / 1, e.decibels());
    }
}
