//! Elastic encoding against formulas, and what it loses.
#![cfg(feature = "std")]

use std::vec;
use std::vec::Vec;

use half::f16;
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

/// Flat levels by the formulas of the view's page, in `f64` where that is exact anyway.
fn naive_base(x: &[f32]) -> (f32, f32) {
    let (low, high) = x.iter().fold((x[0], x[0]), |(low, high), x| (low.min(*x), high.max(*x)));
    let m = f16::from_f32(low * 0.5 + high * 0.5).to_f32();
    let reach = (high - m).max(m - low);
    let nearest = f16::from_f32(reach);
    let half = if nearest.to_f32() < reach { f16::from_bits(nearest.to_bits() + 1) } else { nearest };
    (m, half.to_f32())
}

fn naive_code(x: f32, (m, h): (f32, f32), bits: u32) -> u8 {
    let cells = (1u32 << (bits - 1)) as f32;
    let t = if h > 0.0 { (x - m) * (1.0 / h) } else { 0.0 };
    (t.clamp(-1.0, 1.0) * cells + cells).floor().min(2.0 * cells - 1.0) as u8
}

/// Shapes with short last groups, rows of odd lengths, and groups beyond a block and a tile.
const SIZES: [(usize, usize, usize); 10] = [
    (64, 5, 384),
    (64, 3, 77),
    (1, 2, 19),
    (5, 7, 43),
    (256, 2, 700),
    (257, 3, 1000),
    (9000, 1, 20_003),
    (8, 1, 7),
    (3, 1, 1),
    (100, 40, 10),
];

#[test]
fn min_max_is_the_plain_definition() {
    for (group, rows, cols) in SIZES {
        let x = normal(rows * cols, group as u64);
        for widths in [&ALL[..], &[2, 5], &[8]] {
            let e = Owned::encode(Level::best(), scheme(group, widths), Fit::MinMax, &x, cols).unwrap();
            e.view().check().unwrap();
            let widest = *widths.last().unwrap();
            let mut codes = vec![0; cols];
            for (row, x) in x.chunks(cols).enumerate() {
                e.view().codes_row(Level::Scalar, Bits::new(widest).unwrap(), row, &mut codes).unwrap();
                for (at, (x, codes)) in x.chunks(group).zip(codes.chunks(group)).enumerate() {
                    let base = naive_base(x);
                    let to = 4 * (row * cols.div_ceil(group) + at);
                    let halves = [f16::from_f32(base.0).to_le_bytes(), f16::from_f32(base.1).to_le_bytes()];
                    assert_eq!(e.base[to..to + 4], halves.concat());
                    assert!(x.iter().zip(codes).all(|(x, code)| *code == naive_code(*x, base, widest)));
                }
            }
        }
    }
}

#[test]
fn no_other_shift_and_gain_lose_a_percent_less() {
    let x = normal(64 * 40, 7);
    for fit in Fit::ALL {
        let e = Owned::encode(Level::best(), scheme(64, &ALL), fit, &x, 64).unwrap();
        for bits in 2..8 {
            let mut sums = [0.0; 2];
            for (row, x) in x.chunks(64).enumerate() {
                let mut codes = [0; 64];
                e.view().codes_row(Level::Scalar, Bits::new(bits).unwrap(), row, &mut codes).unwrap();
                let half = |i| u16::from_le_bytes([e.base[4 * row + i], e.base[4 * row + i + 1]]);
                let loss = |fix| {
                    let levels = niwaki_codes::elastic_levels(Bits::new(bits).unwrap(), half(0), half(2), fix);
                    let mut y = [0.0; 64];
                    niwaki_codes::elastic_values_body(Bits::new(bits).unwrap(), levels, &codes, &mut y);
                    Distortion::between(x, &y).noise
                };
                sums[0] += loss(e.fixes[bits as usize].as_ref().unwrap()[row]);
                sums[1] += (0..=255).map(loss).fold(f64::INFINITY, f64::min);
            }
            assert!(sums[0] <= 1.01 * sums[1], "{fit} {bits}: {sums:?}");
        }
    }
}

#[test]
fn every_level_gives_the_same_bytes() {
    for (group, rows, cols) in SIZES {
        let x = normal(rows * cols, 3 + group as u64);
        for fit in Fit::ALL {
            for widths in [&ALL[..], &[3, 6]] {
                let encode = |level| Owned::encode(level, scheme(group, widths), fit, &x, cols).unwrap();
                let scalar = encode(Level::Scalar);
                scalar.view().check().unwrap();
                for level in Level::all() {
                    assert_eq!(encode(level), scalar, "{} {fit} {group} {rows} {cols}", level.name());
                }
            }
        }
    }
}

#[test]
fn the_loss_reported_is_the_loss_decoded() {
    for (group, rows, cols) in SIZES {
        let x = normal(rows * cols, 5);
        for fit in Fit::ALL {
            let e = Owned::encode(Level::best(), scheme(group, &[2, 4, 7, 8]), fit, &x, cols).unwrap();
            for bits in [2, 4, 7, 8] {
                let told = e.lost.at(Bits::new(bits).unwrap()).unwrap();
                let seen = Distortion::between(&x, &e.decode(bits));
                assert_eq!((told.max_abs, told.elements), (seen.max_abs, seen.elements));
                // Two orders of adding n squares differ by at most n roundings.
                let close = |a: f64, b: f64| (a - b).abs() <= a * x.len() as f64 * f64::from(f32::EPSILON);
                assert!(close(told.noise, seen.noise) && close(told.signal, seen.signal), "{told:?} {seen:?}");
            }
        }
    }
}

#[test]
fn half_floats_encode_as_the_floats_that_they_are() {
    let halves: Vec<f16> = normal(3 * 77, 8).into_iter().map(f16::from_f32).collect();
    let floats: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
    let halves: Vec<u8> = halves.iter().flat_map(|x| x.to_le_bytes()).collect();
    let whole = Owned::encode(Level::best(), scheme(16, &[8]), Fit::Clip, &floats, 77).unwrap();
    let (mut base, mut planes) = (vec![0; whole.base.len()], vec![vec![0; 3 * 10]; 8]);
    let mut out = ElasticOut { base: &mut base, ..ElasticOut::default() };
    out.planes.iter_mut().zip(&mut planes).for_each(|(to, plane)| *to = Some(plane));
    let scheme = scheme(16, &[8]);
    encode_elastic_rows(Level::best(), &scheme, Fit::Clip, Values::F16(&halves), 77, out).unwrap();
    assert_eq!(base, whole.base);
    assert!(planes.iter().zip(&whole.planes).all(|(plane, of)| Some(plane) == of.as_ref()));
}

#[test]
fn a_row_in_pieces_gives_the_bytes_of_the_whole() {
    let x = normal(24 * 100 + 13, 11);
    for fit in Fit::ALL {
        let whole = Owned::encode(Level::best(), scheme(24, &ALL), fit, &x, x.len()).unwrap();
        let mut lost = ElasticDistortion::default();
        let (mut base, mut fix, mut plane) = (Vec::new(), Vec::new(), Vec::new());
        for piece in x.chunks(24 * 7) {
            let part = Owned::encode(Level::best(), scheme(24, &ALL), fit, piece, piece.len()).unwrap();
            base.extend(part.base);
            fix.extend(part.fixes[3].clone().unwrap());
            plane.extend(part.planes[0].clone().unwrap());
            lost.merge(&part.lost);
        }
        assert_eq!((base, Some(fix), Some(plane)), (whole.base, whole.fixes[3].clone(), whole.planes[0].clone()));
        let elements = |lost: &ElasticDistortion| lost.at(Bits::MAX).unwrap().elements;
        assert_eq!(elements(&lost), elements(&whole.lost));
    }
}

#[test]
fn every_set_of_widths_encodes_and_decodes() {
    let x = normal(3 * 50, 2);
    for set in 1..128u32 {
        let widths: Vec<u32> = ALL.into_iter().filter(|b| set >> (b - 2) & 1 == 1).collect();
        let e = Owned::encode(Level::best(), scheme(16, &widths), Fit::Clip, &x, 50).unwrap();
        e.view().check().unwrap();
        let all = e.decibels();
        assert!(all.iter().zip(&widths).all(|(db, b)| *db > 6.0 * f64::from(*b) - 4.0), "{widths:?} {all:?}");
    }
}

/// A quantizer of one width: ranges from all to three tenths, each refined by turns of
/// nearest codes and least squares, the scale and offset in full precision.
fn dedicated(x: &[f32], bits: u32) -> f64 {
    let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    let (low, high) = x.iter().fold((x[0], x[0]), |(low, high), x| (low.min(*x), high.max(*x)));
    let top = f64::from((1u32 << bits) - 1);
    let mut best = f64::INFINITY;
    for i in 0..70 {
        let half = (high - low) / 2.0 * (1.0 - f64::from(i) / 100.0);
        let (mut offset, mut step, mut before) = ((low + high) / 2.0 - half, 2.0 * half / top, f64::INFINITY);
        loop {
            let codes = x.iter().map(|x| ((x - offset) / step).round().clamp(0.0, top));
            let n = x.len() as f64;
            let (mut q, mut qq, mut s, mut sq) = (0.0, 0.0, 0.0, 0.0);
            let codes: Vec<f64> = codes.collect();
            for (x, c) in x.iter().zip(&codes) {
                (q, qq, s, sq) = (q + c, qq + c * c, s + x, sq + x * c);
            }
            step = (n * sq - s * q) / (n * qq - q * q);
            offset = (s - step * q) / n;
            let noise: f64 = x.iter().zip(&codes).map(|(x, c)| (x - offset - step * c).powi(2)).sum();
            best = best.min(noise);
            if noise >= before * (1.0 - 1e-9) {
                break;
            }
            before = noise;
        }
    }
    best
}

/// The bounds are the goals of the format: 0.2 dB from a quantizer made for the width
/// alone where the range is searched. The plain definition was measured up to 1.01 dB
/// below (at 8 bits, where half a decibel is the luck of one grid among many).
#[test]
fn every_width_is_close_to_a_quantizer_made_for_it() {
    let x = normal(64 * 512, 9);
    let signal: f64 = x.iter().map(|x| f64::from(x * x)).sum();
    let alone = ALL.map(|bits| 10.0 * (signal / x.chunks(64).map(|x| dedicated(x, bits)).sum::<f64>()).log10());
    for (fit, bound) in [(Fit::MinMax, 1.1), (Fit::Clip, 0.2), (Fit::Lsq, 0.2)] {
        let e = Owned::encode(Level::best(), scheme(64, &ALL), fit, &x, 4096).unwrap();
        let all = e.decibels();
        assert!(all.iter().zip(alone).all(|(db, alone)| *db >= alone - bound), "{fit} {all:.2?} {alone:.2?}");
    }
}

#[test]
fn searched_fits_lose_less_than_the_plain_definition() {
    let weights = [8.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0];
    // Even weights suit flat cells, heavy tails curved ones.
    let even: Vec<f32> = (0..64 * 64).map(|i| ((i * 7919) % 4093) as f32 / 4093.0 - 0.3).collect();
    let tails: Vec<f32> = normal(64 * 64, 4).into_iter().map(|x| x * x * x).collect();
    for x in [even, tails] {
        let mut before = f64::INFINITY;
        for fit in Fit::ALL {
            let e = Owned::encode(Level::best(), scheme(64, &ALL), fit, &x, 4096).unwrap();
            let noise = |b: u32| e.lost.at(Bits::new(b).unwrap()).unwrap().noise * 4f64.powi(b as i32);
            let loss: f64 = ALL.iter().zip(weights).map(|(b, w)| w * noise(*b)).sum();
            assert!(loss < before, "{fit}");
            before = loss;
        }
    }
}

#[test]
fn zeros_and_constants_keep_their_value() {
    let mut x = vec![0.0; 64];
    x.extend([-0.25; 64]);
    x.extend([0.1; 64]);
    x.extend([3e-39; 64]);
    for fit in Fit::ALL {
        let e = Owned::encode(Level::best(), scheme(64, &ALL), fit, &x, 256).unwrap();
        e.view().check().unwrap();
        for bits in ALL {
            let y = e.decode(bits);
            assert!(y[..64].iter().all(|y| y.to_bits() == 0));
            assert!(y[64..128].iter().all(|y| *y == -0.25));
            // The middle is 0.1 rounded to F16; the half covers the difference.
            let ulp = 0.1 / 1024.0;
            assert!(y[128..192].iter().all(|y| (y - 0.1).abs() <= ulp));
            // Below the smallest F16 the half is one of it, and cells are 2^-b of that.
            assert!(y[192..].iter().all(|y| y.abs() <= 6e-8));
        }
    }
}

#[test]
fn tiny_and_far_off_groups_stay_in_range() {
    let tiny: Vec<f32> = (0..32).map(|i| (i - 16) as f32 * 1e-9).collect();
    let far: Vec<f32> = (0..32).map(|i| 1000.0 + i as f32 * 0.003).collect();
    for fit in Fit::ALL {
        for (x, half) in [(&tiny, 6e-8), (&far, 0.5)] {
            let e = Owned::encode(Level::best(), scheme(32, &ALL), fit, x, 32).unwrap();
            for bits in ALL {
                // Half a cell, and what shift and gain may add to it.
                let reach = half * 1.5 * 2.0 / f32::from(1u16 << bits);
                let y = e.decode(bits);
                assert!(y.iter().zip(x).all(|(y, x)| (y - x).abs() <= reach), "{fit} {bits} {y:?}");
            }
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_named() {
    for (group, rows, cols) in SIZES {
        for at in [0, rows * cols / 2, rows * cols - 1] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = normal(rows * cols, 1);
                x[at] = bad;
                let error = Owned::encode(Level::best(), scheme(group, &ALL), Fit::MinMax, &x, cols).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NotFinite { index: at });
            }
        }
    }
}

#[test]
fn a_group_beyond_half_precision_is_named() {
    for wrong in [2e5, -1e30, f32::MAX] {
        let mut x = normal(64 * 40, 1);
        x[64 * 33 + 5] = wrong;
        let error = Owned::encode(Level::best(), scheme(64, &ALL), Fit::Clip, &x, 640).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RangeOverflow { group: 33 });
    }
    let error = Owned::encode(Level::best(), scheme(2, &ALL), Fit::MinMax, &[7e4, 7e4], 2).unwrap_err();
    assert_eq!(std::format!("{error}"), "middle or half of group 0 is beyond 65504, the largest F16");
}

#[test]
fn nothing_encodes_to_nothing() {
    let e = Owned::encode(Level::best(), scheme(64, &ALL), Fit::Clip, &[], 5).unwrap();
    assert_eq!((e.lost, e.base.len()), (ElasticDistortion::default(), 0));
    Owned::encode(Level::best(), scheme(64, &ALL), Fit::Clip, &[], 0).unwrap();
}

#[test]
fn buffers_of_the_wrong_length_are_refused() {
    let x = bytes(&normal(64, 1));
    let encode = |out| encode_elastic_rows(Level::best(), &scheme(64, &[4]), Fit::MinMax, Values::F32(&x), 64, out);
    let kind = |out| encode(out).unwrap_err().kind();
    let short = ElasticOut { base: &mut [0; 3], ..ElasticOut::default() };
    assert_eq!(kind(short), ErrorKind::Length { buffer: "base", needs: 4, has: 3 });
    let unfixed = ElasticOut { base: &mut [0; 4], ..ElasticOut::default() };
    assert_eq!(kind(unfixed), ErrorKind::Length { buffer: "fix", needs: 1, has: 0 });
    let (mut base, mut fix, mut plane) = ([0; 4], [0], [0; 8]);
    let mut spare = ElasticOut { base: &mut base, ..ElasticOut::default() };
    spare.fixes[4] = Some(&mut fix);
    spare.planes[0] = Some(&mut plane);
    assert_eq!(kind(spare), ErrorKind::Length { buffer: "plane", needs: 0, has: 8 });
    let ragged =
        encode_elastic_rows(Level::best(), &scheme(64, &[4]), Fit::MinMax, Values::F32(&x), 60, ElasticOut::default());
    assert_eq!(ragged.unwrap_err().kind(), ErrorKind::Length { buffer: "values", needs: 60, has: 64 });
}
