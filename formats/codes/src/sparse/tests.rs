//! Sparse decoding against one weight at a time.
#![cfg(feature = "alloc")]

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::{Bits, Mask, PositionsView, Scheme, Support, Symmetry, positions};

/// Bytes that repeat from run to run.
fn bytes(n: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..n).map(|_| next()).collect()
}

fn uniform(text: &str) -> Uniform {
    match text.parse().unwrap() {
        Scheme::Uniform(scheme) => scheme,
        other => panic!("{other} is no uniform scheme"),
    }
}

/// About a third of all weights.
fn third(rows: usize, cols: usize) -> Mask {
    Mask::from_fn(rows, cols, |row, col| (row * 31 + col * 17 + col / 9) % 3 == 0).unwrap()
}

struct Stored {
    codes: Vec<u8>,
    scales: Vec<u8>,
    zeros: Option<Vec<u8>>,
}

fn stored(scheme: Uniform, mask: &Mask) -> Stored {
    let groups = match scheme.grouping {
        Grouping::Row => mask.rows(),
        _ => scheme.groups(1, mask.kept()),
    };
    let mut codes = bytes(packed_bytes(mask.kept(), scheme.bits), 5);
    let used = mask.kept() * scheme.bits.get() as usize % 8;
    if let (Some(last), 1..) = (codes.last_mut(), used) {
        *last &= (1 << used) - 1;
    }
    let scales = match scheme.scale_type() {
        crate::ScaleType::F16 => (0..groups).flat_map(|g| (0x3c00 + g as u16 % 1000).to_le_bytes()).collect(),
        crate::ScaleType::F32 => (0..groups).flat_map(|g| (g as f32 * 0.25 - 1.5).to_le_bytes()).collect(),
    };
    let zeros = bytes(groups, 9).iter().map(|z| (u32::from(*z) % scheme.bits.levels()) as u8).collect();
    Stored { codes, scales, zeros: (scheme.symmetry == Symmetry::Affine).then_some(zeros) }
}

/// One weight at a time, by the words of the format.
fn naive(scheme: Uniform, mask: &Mask, stored: &Stored) -> Vec<f32> {
    let bit = |i: usize| u32::from(stored.codes[i / 8] >> (i % 8) & 1);
    let width = scheme.bits.get() as usize;
    let mut k = 0;
    let mut out = vec![];
    for row in 0..mask.rows() {
        for col in 0..mask.cols() {
            if !mask.keeps(row, col).unwrap() {
                out.push(0.0);
                continue;
            }
            let code: u32 = (0..width).map(|j| bit(k * width + j) << j).sum();
            let group = match scheme.grouping {
                Grouping::Row => row,
                Grouping::Tensor => 0,
                Grouping::Group(g) => k / g.get(),
            };
            let scale = match scheme.scale_type() {
                crate::ScaleType::F16 => half::f16::from_le_bytes(stored.scales.as_chunks().0[group]).to_f32(),
                crate::ScaleType::F32 => f32::from_le_bytes(stored.scales.as_chunks().0[group]),
            };
            let middle = stored.zeros.as_ref().map_or(scheme.bits.half(), |z| u32::from(z[group]));
            out.push(scale * (code as f32 - middle as f32));
            k += 1;
        }
    }
    out
}

fn floats(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn every_scheme_decodes_as_one_weight_at_a_time() {
    for width in Bits::all() {
        for rest in ["row/sym", "row/affine", "tensor/sym", "tensor/affine", "g32/sym", "g7/affine", "g1000/sym/f32"] {
            let scheme = uniform(&alloc::format!("int{width}/{rest}"));
            for (rows, cols) in [(1, 1), (7, 9), (5, 1300), (40, 3), (3, 512)] {
                let mask = third(rows, cols);
                let parts = stored(scheme, &mask);
                let view =
                    SparseView::uniform(mask.view(), scheme, &parts.codes, &parts.scales, parts.zeros.as_deref())
                        .unwrap();
                let want = naive(scheme, &mask, &parts);
                for level in Level::all() {
                    let mut out = vec![7.0; rows * cols];
                    assert_eq!(view.dequantize_rows(level, 0..rows, 0, &mut out).unwrap(), mask.kept());
                    assert_eq!(floats(&out), floats(&want), "int{width}/{rest} {rows}x{cols} {}", level.name());
                }
            }
        }
    }
}

/// The positions of what a mask keeps.
fn positions_of(mask: &Mask) -> Vec<u8> {
    let (elements, kept) = (mask.rows() * mask.cols(), mask.kept());
    let mut out = vec![0; PositionsView::part_len(elements, kept).unwrap()];
    let places = Support::from(mask.view()).iter_rows(0..mask.rows(), 0);
    positions::encode(elements, kept, places, &mut out).unwrap();
    out
}

fn by_positions<'a>(mask: &Mask, bytes: &'a [u8]) -> Support<'a> {
    let (rows, cols) = (mask.rows(), mask.cols());
    let view = PositionsView::new(rows * cols, mask.kept(), bytes).unwrap();
    Support::by_positions(rows, cols, view).unwrap()
}

#[test]
fn positions_decode_as_the_mask_that_they_stand_for() {
    for text in ["int4/row/sym", "int8/g64/sym", "int3/g7/affine", "int5/tensor/affine"] {
        let scheme = uniform(text);
        for (rows, cols, every) in [(1, 1, 1), (7, 9, 3), (5, 1300, 2), (40, 3, 7), (3, 5000, 101), (300, 17, 900)] {
            let keeps = |row: usize, col: usize| (row * cols + col * col) % every == every / 2;
            let mask = Mask::from_fn(rows, cols, keeps).unwrap();
            let (parts, bytes) = (stored(scheme, &mask), positions_of(&mask));
            let zeros = parts.zeros.as_deref();
            let sparse =
                SparseView::uniform(by_positions(&mask, &bytes), scheme, &parts.codes, &parts.scales, zeros).unwrap();
            assert_eq!(sparse.check(), Ok(()));
            let want = naive(scheme, &mask, &parts);
            let mut before = 0;
            for (start, end) in [(0, rows / 3), (rows / 3, rows / 3), (rows / 3, rows)] {
                let support = sparse.support();
                assert_eq!(support.kept_in_rows(0..start, 0), Some(before));
                for level in Level::all() {
                    let mut out = vec![7.0; (end - start) * cols];
                    let count = sparse.dequantize_rows(level, start..end, before, &mut out).unwrap();
                    assert_eq!(Some(count), mask.kept_in_rows(start..end));
                    assert_eq!(floats(&out), floats(&want[start * cols..end * cols]), "{text} {rows}x{cols}");
                }
                before += support.kept_in_rows(start..end, before).unwrap();
            }
        }
    }
}

#[test]
fn kept_weights_are_handed_out_alike_by_masks_and_positions() {
    let mask = Mask::from_fn(30, 170, |row, col| row % 4 != 1 && (row * 31 + col * 17) % 5 == 0).unwrap();
    let bytes = positions_of(&mask);
    for text in ["int4/row/sym", "int6/g50/sym"] {
        let scheme = uniform(text);
        let parts = stored(scheme, &mask);
        let want = naive(scheme, &mask, &parts);
        for support in [Support::from(mask.view()), by_positions(&mask, &bytes)] {
            let view = SparseView::uniform(support, scheme, &parts.codes, &parts.scales, None).unwrap();
            let before = support.kept_in_rows(0..3, 0).unwrap();
            let mut seen = vec![];
            let count = view.visit_rows(Level::best(), 3..29, before, |places, values| {
                assert_eq!(places.len(), values.len());
                seen.extend(places.iter().copied().zip(values.iter().map(|x| x.to_bits())));
            });
            let kept = (3 * 170..29 * 170).filter(|i| mask.keeps(i / 170, i % 170).unwrap());
            assert!(seen.iter().copied().eq(kept.map(|i| (i, want[i].to_bits()))), "{text}");
            assert_eq!(count, Ok(seen.len()));
            let refused = |rows, before| view.visit_rows(Level::best(), rows, before, |_, _| ()).unwrap_err().kind();
            assert_eq!(refused(29..31, 0), ErrorKind::Range { needs: 31, has: 30 });
            assert_eq!(refused(0..1, view.kept() + 1), ErrorKind::Range { needs: view.kept() + 1, has: view.kept() });
        }
    }
}

#[test]
fn elastic_weights_decode_as_the_one_row_that_they_are() {
    let Scheme::Elastic(scheme) = "elastic/g20/2,3,5".parse().unwrap() else { panic!("elastic") };
    for (rows, cols) in [(1, 1), (7, 9), (5, 1300), (3, 512)] {
        let mask = third(rows, cols);
        let sizes = scheme.parts(1, mask.kept()).unwrap();
        let (base, planes) = (bytes(sizes.base, 1), bytes(8 * sizes.plane, 2));
        let base: Vec<u8> = base.iter().map(|b| b & 0xbf).collect();
        let fixes = bytes(sizes.fix, 3);
        let mut parts = crate::ElasticParts { base: &base, ..crate::ElasticParts::default() };
        for width in [2, 3, 5] {
            parts.fixes[width] = Some(&fixes);
        }
        for number in 3..8 {
            parts.planes[number] = Some(&planes[number * sizes.plane..][..sizes.plane]);
        }
        let view = ElasticView::new(scheme, 1, mask.kept(), parts).unwrap();
        for width in scheme.widths.iter() {
            let mut row = vec![0.0; mask.kept()];
            view.dequantize_rows(Level::Scalar, width, 0..1, &mut row).unwrap();
            let mut kept = row.iter();
            let places = (0..rows * cols).map(|i| mask.keeps(i / cols, i % cols).unwrap());
            let want: Vec<f32> = places.map(|keeps| if keeps { *kept.next().unwrap() } else { 0.0 }).collect();
            let sparse = SparseView::elastic(mask.view(), view, width).unwrap();
            for level in Level::all() {
                let mut out = vec![7.0; rows * cols];
                assert_eq!(sparse.dequantize_rows(level, 0..rows, 0, &mut out).unwrap(), mask.kept());
                assert_eq!(floats(&out), floats(&want));
                let bytes = positions_of(&mask);
                let listed = SparseView::elastic(by_positions(&mask, &bytes), view, width).unwrap();
                assert_eq!(listed.dequantize_rows(level, 0..rows, 0, &mut out).unwrap(), mask.kept());
                assert_eq!(floats(&out), floats(&want));
            }
        }
        let unserved = SparseView::elastic(mask.view(), view, Bits::MAX).unwrap_err().kind();
        assert_eq!(unserved, ErrorKind::Width { asked: Bits::MAX, served: scheme.widths });
        let other = Mask::from_fn(rows, cols, |_, _| false).unwrap();
        assert!(SparseView::elastic(other.view(), view, Bits::MIN).is_err());
    }
}

#[test]
fn bits_of_no_weight_are_found() {
    let (scheme, mask) = (uniform("int3/row/sym"), third(4, 10));
    let mut parts = stored(scheme, &mask);
    let check = |codes: &[u8], scales: &[u8]| SparseView::uniform(mask.view(), scheme, codes, scales, None)?.check();
    assert_eq!(check(&parts.codes, &parts.scales), Ok(()));
    assert_eq!(mask.kept() * 3 % 8, 7);
    *parts.codes.last_mut().unwrap() |= 0x80;
    let stray = ErrorKind::StrayBits { part: "codes", row: 0 };
    assert_eq!(check(&parts.codes, &parts.scales).unwrap_err().kind(), stray);
}

#[test]
fn blocks_of_rows_join_to_the_whole() {
    let (scheme, mask) = (uniform("int3/g7/affine"), third(9, 50));
    let parts = stored(scheme, &mask);
    let view = SparseView::uniform(mask.view(), scheme, &parts.codes, &parts.scales, parts.zeros.as_deref()).unwrap();
    let want = naive(scheme, &mask, &parts);
    let mut before = 0;
    for rows in [0..2, 2..2, 2..3, 3..9] {
        assert_eq!(Some(before), mask.kept_in_rows(0..rows.start));
        let mut out = vec![7.0; rows.len() * 50];
        before += view.dequantize_rows(Level::best(), rows.clone(), before, &mut out).unwrap();
        assert_eq!(floats(&out), floats(&want[rows.start * 50..rows.end * 50]));
    }
    assert_eq!(before, mask.kept());
}

#[test]
fn parts_of_the_wrong_length_are_refused() {
    let mask = third(4, 10);
    for text in ["int4/row/sym", "int4/tensor/affine", "int5/g8/affine"] {
        let scheme = uniform(text);
        let parts = stored(scheme, &mask);
        let (codes, scales, zeros) = (&parts.codes[..], &parts.scales[..], parts.zeros.as_deref());
        assert!(SparseView::uniform(mask.view(), scheme, codes, scales, zeros).is_ok());
        assert!(SparseView::uniform(mask.view(), scheme, &codes[1..], scales, zeros).is_err());
        assert!(SparseView::uniform(mask.view(), scheme, codes, &scales[1..], zeros).is_err());
        let other = if zeros.is_some() { None } else { Some(&[0u8][..]) };
        assert!(SparseView::uniform(mask.view(), scheme, codes, scales, other).is_err());
    }
}

#[test]
fn rows_and_weights_that_are_not_there_are_refused() {
    let (scheme, mask) = (uniform("int4/row/sym"), third(4, 10));
    let parts = stored(scheme, &mask);
    let view = SparseView::uniform(mask.view(), scheme, &parts.codes, &parts.scales, None).unwrap();
    let decode = |rows, before, len: usize| view.dequantize_rows(Level::best(), rows, before, &mut vec![0.0; len]);
    assert_eq!(decode(3..5, 0, 20).unwrap_err().kind(), ErrorKind::Range { needs: 5, has: 4 });
    assert_eq!(decode(0..1, 0, 11).unwrap_err().kind(), ErrorKind::Range { needs: 10, has: 11 });
    let (all, row) = (mask.kept(), mask.kept_in_rows(1..2).unwrap());
    assert_eq!(decode(1..2, all, 10).unwrap_err().kind(), ErrorKind::Range { needs: all + row, has: all });
    assert!(decode(1..2, usize::MAX, 10).is_err());
}
