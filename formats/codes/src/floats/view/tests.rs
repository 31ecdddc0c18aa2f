use std::string::ToString;
use std::vec::Vec;

use super::*;
use crate::floats::{E2M1, E4M3};

/// Every float, its groups longer and shorter than the rows below.
const TEXTS: [&str; 9] = [
    "fp8_e4m3/tensor",
    "fp8_e4m3/row",
    "fp8_e4m3/b128",
    "fp8_e4m3/b3",
    "mxfp4",
    "nvfp4",
    "nf4/g64",
    "nf4/g5",
    "nf4/g4294967295",
];

struct Parts {
    float: Float,
    rows: usize,
    cols: usize,
    codes: Vec<u8>,
    scales: Vec<u8>,
    factor: Option<[u8; 4]>,
}

impl Parts {
    /// Valid contents that repeat from run to run.
    fn new(text: &str, rows: usize, cols: usize) -> Self {
        let float: Float = text.parse().expect("a text of floats");
        let sizes = float.sizes(rows, cols).expect("sizes that fit");
        let mut seed = 7u32;
        let mut byte = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        let mut codes: Vec<u8> = (0..sizes.codes).map(|_| byte()).collect();
        match float {
            Float::Fp8E4m3(_) => codes.iter_mut().filter(|c| **c & 0x7F == 0x7F).for_each(|c| *c ^= 1),
            _ if cols % 2 == 1 => codes.chunks_mut(sizes.row).for_each(|row| row[sizes.row - 1] &= 15),
            _ => (),
        }
        let scales = match float.scale_bytes() {
            1 => (0..sizes.scales).map(|_| byte() % 0x7F).collect(),
            _ => (0..sizes.scales / 4).flat_map(|_| ((f32::from(byte()) - 100.0) / 37.0).to_le_bytes()).collect(),
        };
        let factor = float.has_factor().then(|| 3.7f32.to_le_bytes());
        Self { float, rows, cols, codes, scales, factor }
    }

    fn view(&self) -> FloatView<'_> {
        let factor = self.factor.as_ref().map(|bytes| &bytes[..]);
        FloatView::new(self.float, self.rows, self.cols, &self.codes, &self.scales, factor)
            .expect("parts of these sizes")
    }

    /// One weight by the definition, its row and column counted one by one.
    fn expected(&self, row: usize, col: usize) -> f32 {
        let byte = |col: usize| self.codes[row * self.cols.div_ceil(2) + col / 2];
        let nibble = || usize::from(if col.is_multiple_of(2) { byte(col) & 15 } else { byte(col) >> 4 });
        let float = |group: usize| f32::from_le_bytes(self.scales.as_chunks().0[group]);
        let of_row = |group: usize| row * self.cols.div_ceil(group) + col / group;
        let fp8 = || E4M3[usize::from(self.codes[row * self.cols + col])];
        match self.float {
            Float::Fp8E4m3(Blocks::Tensor) => fp8() * float(0),
            Float::Fp8E4m3(Blocks::Row) => fp8() * float(row),
            Float::Fp8E4m3(Blocks::Square(side)) => {
                let side = side.get() as usize;
                fp8() * float(row / side * self.cols.div_ceil(side) + col / side)
            }
            Float::Mxfp4 => E2M1[nibble()] * e8m0_to_f32(self.scales[of_row(32)]),
            Float::Nvfp4 => {
                let factor = f32::from_le_bytes(self.factor.expect("a factor"));
                E2M1[nibble()] * (E4M3[usize::from(self.scales[of_row(16)])] / factor)
            }
            Float::Nf4(group) => NF4[nibble()] * float(of_row(group.get())),
        }
    }
}

#[test]
fn every_level_decodes_every_float_by_its_definition() {
    // Rows of odd length, of whole bytes, shorter than a group, longer than a tile, and one weight.
    for (rows, cols) in [(5, 37), (3, 64), (4, 7), (2, 2 * TILE + 77), (1, 1)] {
        for text in TEXTS {
            let parts = Parts::new(text, rows, cols);
            let view = parts.view();
            assert_eq!(view.check(), Ok(()), "{text}");
            for level in Level::all() {
                let mut out = vec![f32::NAN; rows * cols];
                view.dequantize_rows(level, 0..rows, &mut out).unwrap();
                for (i, x) in out.iter().enumerate() {
                    let expected = parts.expected(i / cols, i % cols);
                    assert_eq!(x.to_bits(), expected.to_bits(), "{level:?} {text} {rows}x{cols} {i}: {x}");
                }
                let mut last = vec![f32::NAN; cols];
                view.dequantize_rows(level, rows - 1..rows, &mut last).unwrap();
                assert_eq!(last, out[(rows - 1) * cols..], "{text}");
            }
        }
    }
}

#[test]
fn every_code_has_the_value_of_the_tables() {
    assert!((0..16).all(|code| e2m1(code).to_bits() == E2M1[usize::from(code)].to_bits()));
    let codes: Vec<u8> = (0..=255).collect();
    let one = 1.0f32.to_le_bytes();
    let view = FloatView::new(Float::Fp8E4m3(Blocks::Tensor), 1, 256, &codes, &one, None).unwrap();
    for level in Level::all() {
        let mut out = [0.0; 256];
        view.dequantize_rows(level, 0..1, &mut out).unwrap();
        assert!(out.iter().zip(&E4M3).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()));
    }
}

#[test]
fn parts_of_another_length_are_refused() {
    for text in TEXTS {
        let Parts { float, codes, scales, factor, .. } = Parts::new(text, 3, 70);
        let factor = factor.as_ref().map(|bytes| &bytes[..]);
        let refused = |codes: &[u8], scales: &[u8], factor| match FloatView::new(float, 3, 70, codes, scales, factor)
            .unwrap_err()
            .kind()
        {
            ErrorKind::PartLength { part, .. } => part,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(refused(&codes[1..], &scales, factor), "codes");
        assert_eq!(refused(&codes, &[&scales[..], &[0]].concat(), factor), "scales");
        assert_eq!(refused(&codes, &scales, Some(&[0; 5])), "factor");
        let other: Option<&[u8]> = if factor.is_some() { None } else { Some(&[0; 4]) };
        assert_eq!(refused(&codes, &scales, other), "factor");
        let many = FloatView::new(float, usize::MAX, 2, &[], &[], None).unwrap_err();
        assert_eq!(many.kind(), ErrorKind::Overflow, "{text}");
    }
}

#[test]
fn rows_and_buffers_that_do_not_fit_are_refused() {
    for text in TEXTS {
        let parts = Parts::new(text, 2, 9);
        let view = parts.view();
        let error = |rows, len: usize| view.dequantize_rows(Level::best(), rows, &mut vec![0.0; len]).unwrap_err();
        assert_eq!(error(2..3, 9).kind(), ErrorKind::Range { needs: 3, has: 2 });
        assert_eq!(error(0..1, 8).kind(), ErrorKind::Range { needs: 9, has: 8 });
        assert_eq!((view.row_codes(1).len(), view.row_codes(2)), (view.row_bytes, &[] as &[u8]));
        assert_eq!(view.scale(0, usize::MAX), 0.0, "{text}");
    }
    // Rows without a weight need no byte.
    let one = 1.0f32.to_le_bytes();
    let view = FloatView::new(Float::Nvfp4, usize::MAX, 0, &[], &[], Some(&one)).unwrap();
    assert_eq!(view.check(), Ok(()));
    assert!(view.dequantize_rows(Level::best(), 0..usize::MAX, &mut []).is_ok());
}

#[test]
fn contents_that_no_encoder_writes_are_found() {
    let kind = |text: &str, edit: fn(&mut Parts)| {
        let mut parts = Parts::new(text, 3, 37);
        edit(&mut parts);
        parts.view().check().unwrap_err()
    };
    for text in ["mxfp4", "nvfp4", "nf4/g64"] {
        let stray = kind(text, |parts| parts.codes[2 * 19 - 1] |= 16);
        assert_eq!(stray.kind(), ErrorKind::StrayBits { part: "codes", row: 1 }, "{text}");
    }
    for text in ["fp8_e4m3/tensor", "fp8_e4m3/row", "fp8_e4m3/b3"] {
        for nan in [|parts: &mut Parts| parts.codes[2 * 37] = 0x7F, |parts: &mut Parts| parts.codes[3 * 37 - 1] = 0xFF]
        {
            assert_eq!(kind(text, nan).kind(), ErrorKind::NotANumber { part: "codes", row: 2 });
        }
    }
    assert_eq!(kind("fp8_e4m3/row", |parts| parts.codes[0] = 0x7F).to_string(), "`codes` has a NaN in row 0");
    for text in ["fp8_e4m3/row", "nf4/g64"] {
        let infinite = kind(text, |parts| parts.scales[8..12].copy_from_slice(&f32::INFINITY.to_le_bytes()));
        let nan = kind(text, |parts| parts.scales[8..12].copy_from_slice(&f32::NAN.to_le_bytes()));
        assert_eq!([infinite.kind(), nan.kind()], [ErrorKind::Scale { group: 2 }; 2], "{text}");
    }
    assert_eq!(kind("mxfp4", |parts| parts.scales[5] = 0xFF).kind(), ErrorKind::Scale { group: 5 });
    assert_eq!(kind("nvfp4", |parts| parts.scales[8] = 0xFF).kind(), ErrorKind::Scale { group: 8 });
    for factor in [0.0, -1.0, f32::INFINITY, f32::NAN] {
        let mut parts = Parts::new("nvfp4", 1, 3);
        parts.factor = Some(factor.to_le_bytes());
        assert_eq!(parts.view().check().unwrap_err().kind(), ErrorKind::Factor, "{factor}");
    }
    // A quotient that is not finite is no scale either.
    let mut parts = Parts::new("nvfp4", 1, 3);
    (parts.scales[0], parts.factor) = (0x7E, Some(1e-38f32.to_le_bytes()));
    assert_eq!(parts.view().check().unwrap_err().kind(), ErrorKind::Scale { group: 0 });
}
