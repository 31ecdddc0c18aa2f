#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::vec;
use std::vec::Vec;

use niwaki_codes::floats::{f32_to_e2m1, f32_to_nf4};

use super::*;

/// Seeded weights, near enough to normal, as bytes of F32.
fn weights(n: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 16_777_216.0
    };
    (0..n).map(|_| 0.02 * ((0..12).map(|_| next()).sum::<f32>() - 6.0)).collect()
}

fn bytes(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn parse(text: &str) -> Float {
    text.parse().unwrap()
}

struct Encoded {
    codes: Vec<u8>,
    scales: Vec<u8>,
    lost: Distortion,
}

fn encode(level: Level, text: &str, x: &[f32], cols: usize) -> Encoded {
    let float = parse(text);
    let raw = bytes(x);
    let (codes, scales) = float_bytes(float, x.len() / cols, cols);
    let (mut codes, mut scales) = (vec![0xEE; codes], vec![0xEE; scales]);
    let values = Values::F32(&raw);
    let most = largest(level, values).unwrap();
    let out = FloatOut { codes: &mut codes, scales: &mut scales };
    let lost = encode_float_rows(level, float, values, cols, most, out).unwrap();
    Encoded { codes, scales, lost }
}

fn f32_at(bytes: &[u8], i: usize) -> f32 {
    f32::from_le_bytes(bytes[4 * i..][..4].try_into().unwrap())
}

/// What a weight decodes to, one by one from the descriptions.
fn decoded(text: &str, encoded: &Encoded, (row, rows): (usize, usize), (col, cols): (usize, usize), most: f32) -> f32 {
    let nibble = encoded.codes.get(row * cols.div_ceil(2) + col / 2).map_or(0, |b| b >> (4 * (col % 2)) & 15);
    let _ = rows;
    match parse(text) {
        Float::Fp8E4m3(blocks) => {
            let group = match blocks {
                Blocks::Tensor => 0,
                Blocks::Row => row,
                Blocks::Square(side) => {
                    let side = side.get() as usize;
                    row / side * cols.div_ceil(side) + col / side
                }
            };
            e4m3_to_f32(encoded.codes[row * cols + col]) * f32_at(&encoded.scales, group)
        }
        Float::Mxfp4 => {
            let scale = encoded.scales[row * cols.div_ceil(32) + col / 32];
            E2M1[usize::from(nibble)] * e8m0_to_f32(scale)
        }
        Float::Nvfp4 => {
            let scale = encoded.scales[row * cols.div_ceil(16) + col / 16];
            E2M1[usize::from(nibble)] * (e4m3_to_f32(scale) / nvfp4_factor(most))
        }
        Float::Nf4(group) => {
            let group = row * cols.div_ceil(group.get()) + col / group.get();
            NF4[usize::from(nibble)] * f32_at(&encoded.scales, group)
        }
        other => panic!("{other}"),
    }
}

const SCHEMES: [&str; 8] =
    ["fp8_e4m3/tensor", "fp8_e4m3/row", "fp8_e4m3/b16", "fp8_e4m3/b128", "mxfp4", "nvfp4", "nf4/g64", "nf4/g9"];

#[test]
fn what_is_lost_is_what_decoding_shows() {
    for text in SCHEMES {
        for cols in [96, 77] {
            let (rows, x) = (37, weights(37 * cols));
            let most = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let encoded = encode(Level::Scalar, text, &x, cols);
            let y: Vec<f32> =
                (0..x.len()).map(|i| decoded(text, &encoded, (i / cols, rows), (i % cols, cols), most)).collect();
            let noise: f64 = x.iter().zip(&y).map(|(x, y)| f64::from(x - y).powi(2)).sum();
            // Squares are summed in f32 over chunks of 512: 512 roundings at most.
            assert!((noise - encoded.lost.noise).abs() <= noise * 512.0 * f64::from(f32::EPSILON), "{text} {cols}");
            let worst = x.iter().zip(&y).fold(0.0f32, |worst, (x, y)| worst.max((x - y).abs()));
            assert_eq!((worst, encoded.lost.elements), (encoded.lost.max_abs, x.len() as u64), "{text} {cols}");
            let db = encoded.lost.sqnr_db().unwrap();
            // Three bits of fraction: a relative step of 1/8 at most, so noise below 1/(16^2 * 3)
            // of the signal, 28.8 dB; FP4 and NF4 have no such bound, 15 dB is a third of theirs.
            assert!(db > if text.starts_with("fp8") { 28.8 } else { 15.0 }, "{text} {cols}: {db}");
        }
    }
}

#[test]
fn every_level_gives_the_same_bytes() {
    let x = weights(20 * 70);
    for text in SCHEMES {
        let scalar = encode(Level::Scalar, text, &x, 70);
        for level in Level::all() {
            let other = encode(level, text, &x, 70);
            assert_eq!((&other.codes, &other.scales), (&scalar.codes, &scalar.scales), "{text} {}", level.name());
        }
    }
}

#[test]
fn the_largest_weight_lies_at_the_end_of_the_codes() {
    let mut x = [0.25; 64];
    x[3] = -7.0;
    let fp8 = encode(Level::Scalar, "fp8_e4m3/row", &x, 64);
    assert_eq!((fp8.codes[3], f32_at(&fp8.scales, 0)), (0xFE, 7.0 / 448.0));
    // 7 lies in [4, 8): the scale is 1, and 7 saturates at 6.
    let mx = encode(Level::Scalar, "mxfp4", &x, 64);
    assert_eq!((mx.scales, mx.codes[1] >> 4, mx.lost.max_abs), (vec![127, 123], 15, 1.0));
    let nf4 = encode(Level::Scalar, "nf4/g64", &x, 64);
    assert_eq!((nf4.codes[1] >> 4, f32_at(&nf4.scales, 0)), (0, 7.0));
    let nv = encode(Level::Scalar, "nvfp4", &x, 64);
    assert_eq!((nv.scales[0], nv.codes[1] >> 4), (0x7E, 15));
    assert_eq!((f32_to_e2m1(-7.0), f32_to_nf4(-1.0)), (15, 0));
}

#[test]
fn zeros_stay_zeros() {
    for text in SCHEMES {
        let encoded = encode(Level::best(), text, &[0.0; 128], 64);
        assert_eq!((encoded.lost.noise, encoded.lost.max_abs), (0.0, 0.0), "{text}");
    }
}

#[test]
fn weights_that_are_not_finite_are_named() {
    let mut x = weights(256);
    x[200] = f32::NAN;
    let raw = bytes(&x);
    for text in SCHEMES {
        let (codes, scales) = float_bytes(parse(text), 4, 64);
        let (mut codes, mut scales) = (vec![0; codes], vec![0; scales]);
        let out = FloatOut { codes: &mut codes, scales: &mut scales };
        let error = encode_float_rows(Level::best(), parse(text), Values::F32(&raw), 64, 1.0, out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFinite { index: 200 }, "{text}");
    }
}

#[test]
fn buffers_of_other_lengths_are_refused() {
    let raw = bytes(&weights(128));
    let mut all = [0; 128];
    let (codes, scales) = all.split_at_mut(64);
    let out = FloatOut { codes, scales };
    let error = encode_float_rows(Level::best(), Float::Mxfp4, Values::F32(&raw), 64, 1.0, out).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Length { buffer: "scales", needs: 4, has: 64 });
}
