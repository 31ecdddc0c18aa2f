#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::vec::Vec;

use super::*;
use crate::{Bits, BlockType, BlockView, ElasticParts, ElasticView, Scheme, Symmetry, Uniform, packed_bytes};

struct Made {
    scheme: Uniform,
    rows: usize,
    cols: usize,
    codes: Vec<u8>,
    scales: Vec<u8>,
    zeros: Option<Vec<u8>>,
}

fn numbers(seed: u32) -> impl FnMut() -> u32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    }
}

fn floats(n: usize, seed: u32) -> Vec<f32> {
    let mut next = numbers(seed);
    (0..n).map(|_| next() as f32 / (1 << 23) as f32 - 1.0).collect()
}

impl Made {
    fn new(scheme: &str, rows: usize, cols: usize) -> Self {
        let Scheme::Uniform(scheme) = scheme.parse().unwrap() else { panic!("{scheme} is not uniform") };
        let mut next = numbers((rows * cols) as u32);
        let mut codes: Vec<u8> = (0..rows * scheme.row_bytes(cols)).map(|_| next() as u8).collect();
        let used = cols % 8 * scheme.bits.get() as usize % 8;
        if used != 0 {
            codes
                .chunks_mut(packed_bytes(cols, scheme.bits))
                .for_each(|row| *row.last_mut().unwrap() &= (1 << used) - 1);
        }
        let groups = scheme.groups(rows, cols);
        let scales = (0..groups).flat_map(|at| half::f16::from_f32(0.25 + (at % 7) as f32 / 8.0).to_le_bytes());
        let scales = match scheme.scale_type().bytes() {
            2 => scales.collect(),
            _ => (0..groups).flat_map(|at| (0.25f32 + (at % 7) as f32 / 8.0).to_le_bytes()).collect(),
        };
        let zeros = (scheme.symmetry == Symmetry::Affine)
            .then(|| (0..groups).map(|_| (next() % scheme.bits.levels()) as u8).collect());
        Self { scheme, rows, cols, codes, scales, zeros }
    }

    fn view(&self) -> UniformView<'_> {
        let zeros = self.zeros.as_deref();
        UniformView::new(self.scheme, self.rows, self.cols, &self.codes, &self.scales, zeros).unwrap()
    }
}

const SCHEMES: [&str; 7] = ["row/sym", "g32/sym", "g64/affine", "g128/sym", "g24/affine", "tensor/affine", "g96/sym"];
const COLS: [usize; 9] = [1, 7, 32, 63, 128, 200, 513, 1024, 9000];

fn with(view: &UniformView<'_>, kernel: Kernel, form: Form, x: &[f32], mut check: impl FnMut(&Inputs<'_>, Vec<f32>)) {
    let sizes = form.sizes(x.len());
    let mut floats = std::vec![9.0; sizes.floats];
    let (mut sums, mut codes) = (std::vec![9; sizes.sums], std::vec![9; sizes.codes]);
    let scratch = Scratch { floats: &mut floats, sums: &mut sums, codes: &mut codes };
    let inputs = Inputs::new(kernel.level(), form, x, scratch).unwrap();
    let mut y = std::vec![9.0; view.rows()];
    view.products(kernel, 0..view.rows(), &inputs, &mut y).unwrap();
    check(&inputs, y);
}

/// The product in doubles.
fn exact(weights: &[f32], x: &[f32]) -> f64 {
    weights.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum()
}

#[test]
fn products_are_those_of_the_decoded_weights_for_every_width_grouping_kernel_and_form() {
    let mut seen = 0;
    for (bits, grid, cols) in
        (2..=8).flat_map(|b| SCHEMES.iter().flat_map(move |g| COLS.iter().map(move |c| (b, g, *c))))
    {
        let made = Made::new(&std::format!("int{bits}/{grid}"), 5, cols);
        let (view, x) = (made.view(), floats(cols, bits));
        let mut weights = std::vec![0.0; 5 * cols];
        view.dequantize_rows(Level::Scalar, 0..5, &mut weights).unwrap();
        for (kernel, form) in
            Kernel::all().flat_map(|k| [Form::Plain, Form::Turned, Form::Fours, Form::Eights].map(|f| (k, f)))
        {
            with(&view, kernel, form, &x, |inputs, y| {
                // What inputs are once they are rounded.
                let mut seen_as = Vec::new();
                for first in (0..cols).step_by(CHUNK) {
                    let mut some = [9.0; CHUNK];
                    inputs.floats(first, &mut some);
                    seen_as.extend_from_slice(&some);
                }
                for (row, y) in weights.chunks(cols).zip(y) {
                    let sum = exact(row, &seen_as);
                    // No scale is above 1.
                    let size: f64 = seen_as.iter().map(|x| f64::from(x.abs()) * f64::from(1 << bits)).sum();
                    let bound = size * cols as f64 * f64::from(f32::EPSILON) / 2.0;
                    assert!(
                        (f64::from(y) - sum).abs() <= bound,
                        "int{bits}/{grid} {cols} {kernel:?} {form:?}: {y} {sum}"
                    );
                    seen += 1;
                }
            });
        }
    }
    assert!(seen > 10_000);
}

#[test]
fn products_with_rounded_inputs_are_the_same_bits_for_every_kernel() {
    for (bits, grid, cols) in
        (2..=8).flat_map(|b| SCHEMES.iter().flat_map(move |g| COLS.iter().map(move |c| (b, g, *c))))
    {
        let made = Made::new(&std::format!("int{bits}/{grid}"), 6, cols);
        let (view, x) = (made.view(), floats(cols, 7));
        let mut first: Option<Vec<u32>> = None;
        for kernel in Kernel::all() {
            with(&view, kernel, view.form(kernel, true), &x, |_, y| {
                let found: Vec<u32> = y.iter().map(|y| y.to_bits()).collect();
                assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "int{bits}/{grid} {cols} {kernel:?}");
            });
        }
    }
}

#[test]
fn inputs_round_to_the_nearest_of_127_steps() {
    let x: Vec<f32> = (0..200).map(|at| if at < 32 { 0.0 } else { (at as f32 * 0.37).sin() * at as f32 }).collect();
    for form in [Form::Fours, Form::Eights] {
        let sizes = form.sizes(200);
        let mut floats = std::vec![9.0; sizes.floats];
        let (mut sums, mut codes) = (std::vec![9; sizes.sums], std::vec![9; sizes.codes]);
        let scratch = Scratch { floats: &mut floats, sums: &mut sums, codes: &mut codes };
        let inputs = Inputs::new(Level::best(), form, &x, scratch).unwrap();
        for first in (0..200).step_by(CHUNK) {
            let mut some = [9.0; CHUNK];
            inputs.floats(first, &mut some);
            for (at, found) in some.iter().enumerate() {
                let Some(x) = x.get(first + at) else { break };
                let start = (first + at) / 32 * 32;
                let largest = (start..(start + 32).min(200)).map(|i| ((i as f32 * 0.37).sin() * i as f32).abs());
                let largest = if start == 0 { 0.0 } else { largest.fold(0.0, f32::max) };
                assert!((found - x).abs() <= largest / 253.9, "{first} {at}");
            }
        }
    }
}

#[test]
fn inputs_that_are_not_finite_make_products_that_are_none() {
    let made = Made::new("int4/g64/sym", 1, 256);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [0, 100, 255] {
            let mut x = floats(256, 3);
            x[at] = bad;
            for kernel in Kernel::all() {
                for form in [Form::Plain, Form::Turned, Form::Fours, Form::Eights] {
                    with(&made.view(), kernel, form, &x, |_, y| {
                        assert!(!y[0].is_finite(), "{bad} {at} {kernel:?} {form:?}")
                    });
                }
            }
        }
    }
}

/// Compares products with the exact ones of the weights.
fn assert_near(weights: &[f32], x: &[f32], y: &[f32], what: &str) {
    for (row, (weights, y)) in weights.chunks(x.len()).zip(y).enumerate() {
        let size: f64 = weights.iter().zip(x).map(|(w, x)| f64::from((w * x).abs())).sum();
        let apart = (f64::from(*y) - exact(weights, x)).abs();
        assert!(apart <= size * x.len() as f64 * f64::from(f32::EPSILON), "{what}, row {row}: {apart}");
    }
}

#[test]
fn products_of_elastic_rows_are_those_of_the_decoded_weights() {
    let mut next = numbers(11);
    for (scheme, cols) in
        [("elastic/g64", 1024), ("elastic/g128/2,5", 1100), ("elastic/g256/3,6", 200), ("elastic/g32", 96)]
    {
        let rows = 5;
        let Scheme::Elastic(elastic) = scheme.parse().unwrap() else { panic!("not elastic") };
        let sizes = elastic.parts(rows, cols).unwrap();
        // Middles and halves of small exponents, all of them finite; half of the groups are curved.
        let mut base_byte = |at: usize| match at % 4 {
            0 | 2 => next() as u8,
            1 => 0x28,
            _ => 0x30 | (next() as u8 & 0x80),
        };
        let base: Vec<u8> = (0..sizes.base).map(&mut base_byte).collect();
        let mut of = |n: usize| (0..n).map(|_| next() as u8).collect::<Vec<u8>>();
        let (fixes, planes) = ([(); 9].map(|()| of(sizes.fix)), [(); 8].map(|()| of(sizes.plane)));
        let mut parts = ElasticParts { base: &base, ..ElasticParts::default() };
        for (bits, fix) in (0..).zip(&fixes) {
            let there = Bits::new(bits).is_ok_and(|bits| elastic.has_fix(bits));
            parts.fixes[bits as usize] = there.then_some(fix.as_slice());
        }
        for (number, plane) in planes.iter().enumerate() {
            parts.planes[number] = elastic.has_plane(number).then_some(plane.as_slice());
        }
        let view = ElasticView::new(elastic, rows, cols, parts).unwrap();
        let x = floats(cols, 5);
        let (mut weights, mut y) = (std::vec![0.0; rows * cols], std::vec![9.0; rows]);
        for kernel in Kernel::all() {
            for width in elastic.widths.iter() {
                view.dequantize_rows(Level::Scalar, width, 0..rows, &mut weights).unwrap();
                view.products(kernel, width, 0..rows, &Inputs::plain(&x), &mut y).unwrap();
                let what = std::format!("{scheme} at {width}, {}", kernel.name());
                assert_near(&weights, &x, &y, &what);
                // Some rows are the same bits.
                let mut some = [0.0; 2];
                view.products(kernel, width, 2..4, &Inputs::plain(&x), &mut some).unwrap();
                assert_eq!(some.map(f32::to_bits), [y[2], y[3]].map(f32::to_bits), "{what}");
            }
        }
        if scheme == "elastic/g128/2,5" {
            let three = Bits::new(3).unwrap();
            assert!(view.products(Kernel::best(), three, 0..rows, &Inputs::plain(&x), &mut y).is_err());
        }
    }
}

#[test]
fn products_of_blocks_are_those_of_the_decoded_weights() {
    for (kind, n) in BlockType::ALL.into_iter().flat_map(|kind| [1, 2, 3, 4, 9].map(|n| (kind, n))) {
        let (rows, cols) = (6, n * kind.elements());
        let (codes, x) = (blocks(kind, rows, cols), floats(cols, 5));
        let view = BlockView::new(kind, rows, cols, &codes).unwrap();
        let (mut weights, mut y) = (std::vec![0.0; rows * cols], std::vec![9.0; rows]);
        view.dequantize_rows(Level::Scalar, 0..rows, &mut weights).unwrap();
        for kernel in Kernel::all() {
            let what = std::format!("{kind} {cols} {}", kernel.name());
            view.products(kernel, 0..rows, &Inputs::plain(&x), &mut y).unwrap();
            assert_near(&weights, &x, &y, &what);
            // Some rows are the same bits.
            let mut some = [0.0; 3];
            view.products(kernel, 1..4, &Inputs::plain(&x), &mut some).unwrap();
            assert_eq!(some.map(f32::to_bits), [y[1], y[2], y[3]].map(f32::to_bits), "{what}");
            assert!(view.products(kernel, 0..rows, &Inputs::plain(&x[1..]), &mut y).is_err());
        }
    }
}

#[test]
fn products_of_blocks_with_rounded_inputs_are_the_same_bits_for_every_kernel() {
    for (kind, n) in BlockType::ALL.into_iter().flat_map(|kind| [1, 2, 3, 4, 9].map(|n| (kind, n))) {
        let (rows, cols) = (6, n * kind.elements());
        let (codes, x) = (blocks(kind, rows, cols), floats(cols, 5));
        let view = BlockView::new(kind, rows, cols, &codes).unwrap();
        let mut weights = std::vec![0.0; rows * cols];
        view.dequantize_rows(Level::Scalar, 0..rows, &mut weights).unwrap();
        for form in [Form::Turned, Form::Fours, Form::Eights] {
            let mut first: Option<Vec<u32>> = None;
            for kernel in Kernel::all() {
                let what = std::format!("{kind} {cols} {form:?} {}", kernel.name());
                let sizes = form.sizes(cols);
                let mut floats = std::vec![9.0; sizes.floats];
                let (mut sums, mut codes) = (std::vec![9; sizes.sums], std::vec![9; sizes.codes]);
                let scratch = Scratch { floats: &mut floats, sums: &mut sums, codes: &mut codes };
                let inputs = Inputs::new(kernel.level(), form, &x, scratch).unwrap();
                let seen: Vec<f32> = (0..cols).map(|column| inputs.get(column).unwrap()).collect();
                assert!(inputs.get(cols).is_none());
                let mut y = std::vec![9.0; rows];
                view.products(kernel, 0..rows, &inputs, &mut y).unwrap();
                assert_near(&weights, &seen, &y, &what);
                let found: Vec<u32> = y.iter().map(|y| y.to_bits()).collect();
                if form == view.form(true) {
                    assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "{what}");
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let made = Made::new("int4/g64/sym", 2, 256);
    let (view, x) = (made.view(), floats(256, 3));
    let products = |rows, x: &[f32], n: usize| {
        view.products(Kernel::best(), rows, &Inputs::plain(x), &mut std::vec![0.0; n]).is_ok()
    };
    assert!(products(0..2, &x, 2) && products(1..1, &x, 0));
    assert!(!products(0..3, &x, 3) && !products(0..2, &x[1..], 2) && !products(0..2, &x, 1));
    assert!(!products(Range { start: 2, end: 1 }, &x, 0));
    let scratch = Scratch { floats: &mut [], sums: &mut [], codes: &mut [] };
    assert!(Inputs::new(Level::best(), Form::Fours, &x, scratch).is_err());
    let large = Form::Eights.sizes(usize::MAX);
    assert!(large.codes == usize::MAX);
}

/// Blocks of a type with finite scales.
fn blocks(kind: BlockType, rows: usize, cols: usize) -> Vec<u8> {
    let mut next = numbers(12 + cols as u32);
    let mut bytes: Vec<u8> = (0..rows * kind.row_bytes(cols).unwrap()).map(|_| next() as u8).collect();
    for block in bytes.chunks_mut(kind.bytes()) {
        kind.halves().iter().for_each(|at| block[at + 1] = 0x28 | block[at + 1] & 0x83);
        if kind == BlockType::Mxfp4 {
            block[0] = 120 + block[0] % 8;
        }
    }
    bytes
}
