//! Elastic views against one weight at a time.
#![cfg(feature = "std")]

use super::*;
use crate::{GroupSize, Widths};
use half::f16;
use std::vec;
use std::vec::Vec;

fn b(bits: u32) -> Bits {
    Bits::new(bits).unwrap()
}

/// The parts of a tensor, owned.
struct Owned {
    scheme: Elastic,
    rows: usize,
    cols: usize,
    base: Vec<u8>,
    fixes: Vec<(usize, Vec<u8>)>,
    planes: Vec<(usize, Vec<u8>)>,
}

impl Owned {
    /// Made-up contents: any bytes are a tensor, but for the ends of rows.
    fn new(group: usize, widths: &[u32], rows: usize, cols: usize) -> Self {
        let widths = Widths::new(widths.iter().map(|w| b(*w))).unwrap();
        let scheme = Elastic { group: GroupSize::new(group).unwrap(), widths };
        let sizes = scheme.parts(rows, cols).unwrap();
        let byte = |i: usize, salt: u32| ((i as u32 + 1).wrapping_mul(2_654_435_761 + 2 * salt) >> 19) as u8;
        let mut base = Vec::new();
        for i in 0..sizes.fix {
            let middle = f16::from_f32(f32::from(byte(i, 1) as i8) / 64.0);
            let half = f16::from_f32(f32::from(byte(i, 2) as i8) / 32.0);
            base.extend([middle.to_le_bytes(), half.to_le_bytes()].concat());
        }
        let fixes = Bits::all().filter(|w| scheme.has_fix(*w)).map(|w| w.get() as usize);
        let fixes = fixes.map(|w| (w, (0..sizes.fix).map(|i| byte(i, 3 + w as u32)).collect())).collect();
        let used = if cols.is_multiple_of(8) { 0xFF } else { !(0xFF << (cols % 8)) };
        let width = cols.div_ceil(8);
        let mask = |i: usize| if (i + 1).is_multiple_of(width) { used } else { 0xFF };
        let planes = (0..8).filter(|n| scheme.has_plane(*n));
        let planes = planes.map(|n| (n, (0..sizes.plane).map(|i| byte(i, 20 + n as u32) & mask(i)).collect()));
        Self { scheme, rows, cols, base, fixes, planes: planes.collect() }
    }

    fn parts(&self) -> ElasticParts<'_> {
        let mut parts = ElasticParts { base: &self.base, ..ElasticParts::default() };
        self.fixes.iter().for_each(|(w, bytes)| parts.fixes[*w] = Some(bytes));
        self.planes.iter().for_each(|(n, bytes)| parts.planes[*n] = Some(bytes));
        parts
    }

    fn view(&self) -> ElasticView<'_> {
        ElasticView::new(self.scheme, self.rows, self.cols, self.parts()).unwrap()
    }

    /// The formulas of the module page, one weight at a time.
    fn naive(&self, width: u32, row: usize, col: usize) -> (u8, f32) {
        let bit = |n: usize| {
            let plane = &self.planes.iter().find(|p| p.0 == n).unwrap().1;
            plane[row * self.cols.div_ceil(8) + col / 8] >> (col % 8) & 1
        };
        let q = (0..width as usize).fold(0, |q, i| q << 1 | bit(7 - i));
        let group = row * self.cols.div_ceil(self.scheme.group.get()) + col / self.scheme.group.get();
        let half = |i: usize| f16::from_le_bytes([self.base[4 * group + i], self.base[4 * group + i + 1]]);
        let (m, h) = (half(0).to_f32(), half(2).to_f32());
        let fix = self.fixes.iter().find(|f| f.0 == width as usize).map_or(0x88, |f| f.1[group]);
        let n = (1u32 << width) as f32;
        let cell = h.abs() * (2.0 / n);
        let big_a = m + cell * ((f32::from(fix % 16) - 8.0) / 32.0);
        let big_b = h.abs() + cell * ((f32::from(fix / 16) - 8.0) / 16.0);
        let u = 2.0 * f32::from(q) + 1.0 - n;
        let x = if h.is_sign_positive() {
            big_a + u * (big_b / n)
        } else {
            let (c2, c3) = (m * 0.5 / (n * n), big_b * 0.25 / (n * n * n));
            (big_a - m * 0.5) + u * (big_b * 0.75 / n + u * (c2 + u * c3))
        };
        (q, x)
    }
}

const SIZES: [(usize, usize, usize); 8] =
    [(64, 2, 192), (64, 3, 77), (1, 2, 19), (5, 3, 1030), (1000, 2, 513), (8, 1, 7), (3, 1, 1), (16, 4, 64)];

#[test]
fn every_level_and_width_decodes_as_the_formulas_say() {
    for (group, rows, cols) in SIZES {
        for widths in [&[2, 3, 4, 5, 6, 7, 8][..], &[2], &[8], &[3, 5], &[2, 4, 7]] {
            let owned = Owned::new(group, widths, rows, cols);
            let view = owned.view();
            view.check().unwrap();
            for (width, level) in widths.iter().flat_map(|w| Level::all().map(move |l| (*w, l))) {
                let (mut x, mut q) = (vec![f32::NAN; rows * cols], vec![0xAA; cols]);
                view.dequantize_rows(level, b(width), 0..rows, &mut x).unwrap();
                for row in 0..rows {
                    view.codes_row(level, b(width), row, &mut q).unwrap();
                    for col in 0..cols {
                        let (code, value) = owned.naive(width, row, col);
                        assert_eq!(q[col], code);
                        let got = x[row * cols + col];
                        assert_eq!(got.to_bits(), value.to_bits(), "{got} {value} g{group} {width} {row} {col}");
                    }
                }
            }
        }
    }
}

#[test]
fn columns_decode_from_any_place() {
    let owned = Owned::new(24, &[3, 8], 2, 1100);
    let (view, mut row) = (owned.view(), vec![0.0; 1100]);
    for width in [b(3), b(8)] {
        view.dequantize_rows(Level::Scalar, width, 1..2, &mut row).unwrap();
        for level in Level::all() {
            for (from, n) in [(0, 1100), (1, 1099), (7, 505), (8, 512), (13, 600), (1099, 1), (1100, 0)] {
                let mut piece = vec![f32::NAN; n];
                view.dequantize_cols(level, width, 1, from, &mut piece).unwrap();
                assert_eq!(piece, row[from..from + n]);
            }
        }
    }
    let past = view.dequantize_cols(Level::Scalar, b(3), 1, 1099, &mut [0.0; 2]).unwrap_err();
    assert_eq!(past.kind(), ErrorKind::Range { needs: 1101, has: 1100 });
}

/// A width is decoded from its own planes and fix: with all that is wider gone, the same floats come out.
#[test]
fn a_width_needs_no_more_than_its_prefix() {
    let owned = Owned::new(16, &[2, 3, 4, 5, 6, 7, 8], 3, 45);
    for width in Bits::all() {
        let (mut whole, mut prefix) = (vec![0.0; 135], vec![0.0; 135]);
        owned.view().dequantize_rows(Level::best(), width, 0..3, &mut whole).unwrap();
        let scheme = Elastic { widths: Widths::ALL.up_to(width).unwrap(), ..owned.scheme };
        let mut parts = owned.parts();
        parts.fixes[width.get() as usize + 1..].fill(None);
        parts.planes[..8 - width.get() as usize].fill(None);
        let view = ElasticView::new(scheme, 3, 45, parts).unwrap();
        view.dequantize_rows(Level::best(), width, 0..3, &mut prefix).unwrap();
        assert_eq!(whole, prefix);
    }
}

#[test]
fn a_width_that_is_not_served_names_those_that_are() {
    let owned = Owned::new(16, &[2, 4], 1, 16);
    let error = owned.view().dequantize_rows(Level::Scalar, b(3), 0..1, &mut [0.0; 16]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Width { asked: b(3), served: owned.scheme.widths });
    assert_eq!(std::format!("{error}"), "width 3 is not served; served: 2,4");
    assert_eq!(owned.view().levels(b(3), 0, 0), None);
    assert_eq!(owned.view().levels(b(4), 0, 1), None);
    assert!(owned.view().levels(b(4), 0, 0).is_some());
}

#[test]
fn parts_that_do_not_fit_are_refused_by_name() {
    let owned = Owned::new(16, &[2, 4], 2, 20);
    let kind = |parts| ElasticView::new(owned.scheme, 2, 20, parts).unwrap_err().kind();
    let mut parts = owned.parts();
    parts.base = &owned.base[1..];
    assert_eq!(kind(parts), ErrorKind::PartLength { part: "base", needs: 16, has: 15 });
    let mut parts = owned.parts();
    parts.fixes[4] = None;
    assert_eq!(kind(parts), ErrorKind::PartLength { part: "fix4", needs: 4, has: 0 });
    let mut parts = owned.parts();
    parts.fixes[3] = parts.fixes[4];
    assert_eq!(kind(parts), ErrorKind::PartLength { part: "fix3", needs: 0, has: 4 });
    let mut parts = owned.parts();
    parts.planes[3] = parts.planes[4];
    assert_eq!(kind(parts), ErrorKind::PartLength { part: "plane3", needs: 0, has: 6 });
    parts.planes[3] = None;
    parts.planes[7] = None;
    assert_eq!(kind(parts), ErrorKind::PartLength { part: "plane7", needs: 6, has: 0 });
    let huge = owned.scheme.parts(usize::MAX, 2).unwrap_err();
    assert_eq!(huge.kind(), ErrorKind::Overflow);
}

#[test]
fn stray_bits_and_infinite_bases_are_found() {
    let mut owned = Owned::new(16, &[2, 4], 2, 20);
    owned.planes[0].1[5] |= 0x10;
    let part = PLANES[owned.planes[0].0];
    assert_eq!(owned.view().check().unwrap_err().kind(), ErrorKind::StrayBits { part, row: 1 });
    let mut owned = Owned::new(16, &[2, 4], 2, 20);
    owned.base[14..].copy_from_slice(&f16::INFINITY.to_le_bytes());
    assert_eq!(owned.view().check().unwrap_err().kind(), ErrorKind::Scale { group: 3 });
}

#[test]
fn rows_and_buffers_that_do_not_fit_are_refused() {
    let owned = Owned::new(16, &[2, 4], 2, 20);
    let view = owned.view();
    let level = Level::best();
    let kind = |r: Result<(), Error>| r.unwrap_err().kind();
    assert_eq!(kind(view.dequantize_rows(level, b(2), 1..3, &mut [0.0; 40])), ErrorKind::Range { needs: 3, has: 2 });
    assert_eq!(kind(view.dequantize_rows(level, b(2), 0..2, &mut [0.0; 39])), ErrorKind::Range { needs: 40, has: 39 });
    assert_eq!(kind(view.codes_row(level, b(2), 2, &mut [0; 20])), ErrorKind::Range { needs: 3, has: 2 });
    assert_eq!(kind(view.codes_row(level, b(2), 1, &mut [0; 21])), ErrorKind::Range { needs: 20, has: 21 });
}

#[test]
fn empty_tensors_decode_to_nothing() {
    for (rows, cols) in [(0, 5), (5, 0), (0, 0), (usize::MAX, 0)] {
        let owned = Elastic { group: GroupSize::new(4).unwrap(), widths: Widths::ALL };
        let view = ElasticView::new(owned, rows, cols, ElasticParts::default()).unwrap();
        view.check().unwrap();
        view.dequantize_rows(Level::best(), b(8), 0..rows, &mut []).unwrap();
    }
}

#[test]
fn a_group_of_zeros_is_exactly_zero_at_every_width() {
    let mut owned = Owned::new(16, &[2, 3, 4, 5, 6, 7, 8], 1, 16);
    for half in [[0, 0], [0, 0x80]] {
        owned.base = [[0, 0], half].concat();
        for width in Bits::all() {
            let mut x = [f32::NAN; 16];
            owned.view().dequantize_rows(Level::best(), width, 0..1, &mut x).unwrap();
            assert!(x.iter().all(|x| *x == 0.0));
        }
    }
}
