use std::vec::Vec;

use super::*;
use crate::{Bits, Scheme, dequantize_run, packed_bytes};

fn random(n: usize) -> Vec<u8> {
    let mut x = 0x2545_F491_4F6C_DD1Du64 ^ n as u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 32) as u8
    };
    (0..n).map(|_| next()).collect()
}

fn scheme(text: &str) -> Uniform {
    match text.parse() {
        Ok(Scheme::Uniform(u)) => u,
        other => panic!("{text}: {other:?}"),
    }
}

/// One bit of one code at a time.
fn naive(bits: Bits, codes: &[u8], index: usize) -> i32 {
    let b = bits.get() as usize;
    (0..b).map(|k| i32::from(codes[(index * b + k) / 8] >> ((index * b + k) % 8) & 1) << k).sum()
}

#[test]
fn every_level_decodes_every_scheme_as_the_naive_loop_does() {
    for bits in Bits::all() {
        for tail in
            ["g8/sym", "g10/affine", "g16/affine", "g24/sym", "g32/sym/f32", "g64/affine", "row/sym", "tensor/affine"]
        {
            let s = scheme(&format!("int{bits}/{tail}"));
            for cols in [1, 7, 8, 9, 16, 31, 32, 33, 48, 53, 200, 5000] {
                let (groups, bytes) = (s.groups(3, cols), s.row_bytes(cols));
                let codes = random(3 * bytes);
                let scales: Vec<f32> = (0..groups).map(|i| 0.25 - 0.125 * (i % 5) as f32).collect();
                let stored: Vec<u8> = match s.scale_type() {
                    ScaleType::F16 => scales.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect(),
                    ScaleType::F32 => scales.iter().flat_map(|x| x.to_le_bytes()).collect(),
                };
                let zeros: Vec<u8> = (0..groups).map(|i| (i as u32 * 7 % bits.levels()) as u8).collect();
                let affine = s.symmetry == Symmetry::Affine;
                let view = UniformView::new(s, 3, cols, &codes, &stored, affine.then_some(&zeros[..])).unwrap();
                for level in Level::all() {
                    let mut out = vec![f32::NAN; 2 * cols];
                    view.dequantize_rows(level, 1..3, &mut out).unwrap();
                    for (i, x) in out.iter().enumerate() {
                        let (row, col) = (1 + i / cols, i % cols);
                        let group = match s.grouping {
                            Grouping::Tensor => 0,
                            Grouping::Row => row,
                            Grouping::Group(g) => row * cols.div_ceil(g.get()) + col / g.get(),
                        };
                        let zero = if affine { zeros[group].into() } else { bits.half() as i32 };
                        let code = naive(bits, &codes[row * bytes..], col);
                        let want = scales[group] * (code - zero) as f32;
                        assert_eq!(x.to_bits(), want.to_bits(), "{level:?} int{bits}/{tail} {cols} {i}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_run_may_start_at_any_code() {
    for bits in Bits::all() {
        let codes = random(packed_bytes(150, bits));
        for level in Level::all() {
            for first in [0, 1, 7, 8, 13, 64] {
                for n in [0, 1, 2, 7, 8, 15, 16, 17, 50, 86] {
                    let mut out = vec![f32::NAN; n];
                    dequantize_run(level, bits, &codes, first, (-0.5, 3), &mut out).unwrap();
                    let want = (first..first + n).map(|i| -0.5 * (naive(bits, &codes, i) - 3) as f32);
                    assert!(out.into_iter().eq(want), "{level:?} int{bits} {first} {n}");
                }
            }
        }
    }
    let short = dequantize_run(Level::Scalar, Bits::MAX, &[0; 5], 3, (1.0, 0), &mut [0.0; 3]).unwrap_err();
    assert_eq!(short.kind(), ErrorKind::Range { needs: 6, has: 5 });
}

#[test]
fn outputs_beyond_the_caches_are_the_same_at_any_alignment() {
    let s = scheme("int4/g32/sym");
    let (rows, cols) = (260, 4128);
    let codes = random(rows * s.row_bytes(cols));
    let scales: Vec<u8> = (0..s.groups(rows, cols)).flat_map(|i| [i as u8, 0x30]).collect();
    let view = UniformView::new(s, rows, cols, &codes, &scales, None).unwrap();
    let n = rows * cols;
    let mut want = vec![0.0; n];
    for row in 0..rows {
        view.dequantize_rows(Level::Scalar, row..row + 1, &mut want[row * cols..(row + 1) * cols]).unwrap();
    }
    for shift in [0, 1, 4, 8] {
        let mut out = vec![0.0; n + shift];
        view.dequantize_rows(Level::best(), 0..rows, &mut out[shift..]).unwrap();
        assert!(out[shift..] == want, "{shift}");
    }
}

#[test]
fn parts_of_another_length_are_refused() {
    let s = scheme("int4/g32/affine");
    let go = |codes: usize, scales: usize, zeros: Option<&[u8]>| {
        UniformView::new(s, 2, 40, &random(codes), &random(scales), zeros).map(|_| ()).map_err(|e| e.kind())
    };
    let part = |part, needs, has| Err(ErrorKind::PartLength { part, needs, has });
    assert_eq!(go(40, 8, Some(&[0; 4])), Ok(()));
    assert_eq!(go(39, 8, Some(&[0; 4])), part("codes", 40, 39));
    assert_eq!(go(40, 9, Some(&[0; 4])), part("scales", 8, 9));
    assert_eq!(go(40, 8, None), part("zeros", 4, 0));
    let huge = UniformView::new(s, usize::MAX, usize::MAX, &[], &[], None).unwrap_err();
    assert_eq!(huge.kind(), ErrorKind::Overflow);
}

#[test]
fn rows_that_are_not_there_are_refused() {
    let s = scheme("int8/row/sym");
    let view = UniformView::new(s, 2, 3, &[0; 6], &[0; 8], None).unwrap();
    let mut out = [0.0; 6];
    assert!(view.dequantize_rows(Level::best(), 0..2, &mut out).is_ok());
    let past = view.dequantize_rows(Level::best(), 1..3, &mut out).unwrap_err();
    assert_eq!(past.kind(), ErrorKind::Range { needs: 3, has: 2 });
    let short = view.dequantize_rows(Level::best(), 0..2, &mut out[..5]).unwrap_err();
    assert_eq!(short.kind(), ErrorKind::Range { needs: 6, has: 5 });
    assert!(view.dequantize_rows(Level::best(), 2..2, &mut []).is_ok());
}

#[test]
fn contents_that_no_encoder_writes_are_found() {
    let s = scheme("int3/g4/affine");
    let good = ([0xFF, 0x7F, 0xFF, 0x7F], [0u8, 0x3C, 0, 0x3C, 0, 0x3C, 0, 0x3C], [0u8, 7, 3, 4]);
    let check = |codes: &[u8], scales: &[u8], zeros: &[u8]| {
        UniformView::new(s, 2, 5, codes, scales, Some(zeros)).unwrap().check().map_err(|e| e.kind())
    };
    assert_eq!(check(&good.0, &good.1, &good.2), Ok(()));
    let stray = check(&[0xFF, 0x7F, 0xFF, 0xFF], &good.1, &good.2);
    assert_eq!(stray, Err(ErrorKind::StrayBits { part: "codes", row: 1 }));
    let zero = check(&good.0, &good.1, &[0, 7, 8, 4]);
    assert_eq!(zero, Err(ErrorKind::ZeroPoint { group: 2, zero: 8, bits: s.bits }));
    let mut scales = good.1;
    scales[7] = 0x7C;
    assert_eq!(check(&good.0, &scales, &good.2), Err(ErrorKind::Scale { group: 3 }));
}
