//! Codes, scales, zero points and what they lose: those of the CPU's encoder, bit by bit; and back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod device;

use device::{TYPES, Type, card, numbers};
use niwaki_codes::simd::Level;
use niwaki_codes::{Scheme, Symmetry, Uniform, UniformView};
use niwaki_cuda::{Card, Fit, Parts, encodes};
use niwaki_quant::{Distortion, UniformOut, encode_rows};

fn uniform(text: &str) -> Uniform {
    let Scheme::Uniform(scheme) = text.parse().unwrap() else { unreachable!("{text} is uniform") };
    scheme
}

/// Codes, scales and zero points, empty.
fn parts(scheme: &Uniform, rows: usize, cols: usize) -> [Vec<u8>; 3] {
    let groups = scheme.groups(rows, cols);
    let zeros = if scheme.symmetry == Symmetry::Affine { groups } else { 0 };
    [rows * scheme.row_bytes(cols), groups * scheme.scale_type().bytes(), zeros].map(|len| vec![0xEE; len])
}

/// What tiles lost, added as the CPU's encoder does.
fn total(tiles: &niwaki_cuda::Tiles) -> Distortion {
    let mut total = Distortion::default();
    for row in tiles.rows() {
        let mut of_row = Distortion::default();
        for ([signal, noise, max_abs], elements) in row {
            let (signal, noise, elements) = (f64::from(signal), f64::from(noise), elements as u64);
            of_row.merge(&Distortion { signal, noise, max_abs, elements });
        }
        total.merge(&of_row);
    }
    total
}

/// Encodes on both and compares; the codes.
fn same(card: &Card, (text, fit): (&str, Fit), of: Type, weights: &[f32], cols: usize) -> [Vec<u8>; 3] {
    let (scheme, bytes) = (uniform(text), of.bytes(weights));
    let rows = weights.len() / cols;
    let (mut here, mut there) = (parts(&scheme, rows, cols), parts(&scheme, rows, cols));
    let on_cpu = match fit {
        Fit::MinMax => niwaki_quant::Fit::MinMax,
        Fit::Clip => niwaki_quant::Fit::Clip,
    };
    let [codes, scales, zeros] = &mut here;
    let out = UniformOut { codes, scales, zeros };
    let lost = encode_rows(Level::best(), &scheme, on_cpu, of.values(&bytes), cols, out).unwrap();
    let [codes, scales, zeros] = &mut there;
    let tiles = card.encode((&scheme, fit), of.numbers(&bytes), cols, Parts { codes, scales, zeros }).unwrap().unwrap();
    let what = format!("{text} {fit:?}, {of:?}, {rows} rows of {cols}");
    assert_eq!(there[1], here[1], "scales of {what}");
    assert_eq!(there[2], here[2], "zero points of {what}");
    assert_eq!(there[0], here[0], "codes of {what}");
    assert_eq!(total(&tiles), lost, "{what}");
    there
}

#[test]
fn every_width_and_symmetry_is_that_of_the_cpu() {
    let Some(card) = card() else { return };
    let weights = numbers(3 * 328, 1);
    for bits in 2..=8 {
        for symmetry in ["sym", "affine"] {
            for fit in [Fit::MinMax, Fit::Clip] {
                same(&card, (&format!("int{bits}/g32/{symmetry}"), fit), Type::F32, &weights, 328);
            }
            same(&card, (&format!("int{bits}/row/{symmetry}"), Fit::MinMax), Type::F32, &weights, 328);
        }
    }
}

#[test]
fn every_type_and_size_of_groups_is_that_of_the_cpu() {
    let Some(card) = card() else { return };
    // Rows that groups do not divide, that begin anywhere, that fill tiles and go beyond.
    for (group, cols, rows) in [
        (1, 40, 2),
        (7, 333, 3),
        (16, 2100, 1),
        (24, 96, 2),
        (64, 27, 5),
        (64, 2048, 2),
        (64, 2112, 2),
        (100, 1001, 2),
        (128, 4100, 1),
        (272, 2500, 1),
        (512, 8200, 1),
    ] {
        let weights = numbers(rows * cols, group as u64);
        for of in TYPES {
            same(&card, (&format!("int4/g{group}/sym"), Fit::MinMax), of, &weights, cols);
            same(&card, (&format!("int5/g{group}/affine"), Fit::MinMax), of, &weights, cols);
        }
        same(&card, (&format!("int3/g{group}/sym/f32"), Fit::Clip), Type::Bf16, &weights, cols);
    }
}

#[test]
fn rows_with_one_scale_are_those_of_the_cpu() {
    let Some(card) = card() else { return };
    for (cols, rows) in [(1, 3), (9, 4), (1000, 2), (4096, 1), (5001, 2), (70_000, 1)] {
        let weights = numbers(rows * cols, cols as u64);
        for of in TYPES {
            same(&card, ("int8/row/sym", Fit::MinMax), of, &weights, cols);
            same(&card, ("int3/row/affine", Fit::MinMax), of, &weights, cols);
        }
    }
}

#[test]
fn odd_weights_take_the_codes_of_the_cpu() {
    let Some(card) = card() else { return };
    let tiny: Vec<f32> = numbers(128, 3).iter().map(|x| x * 1e-41).collect();
    let large: Vec<f32> = numbers(128, 4).iter().map(|x| x * 8e37).collect();
    let above: Vec<f32> = numbers(128, 5).iter().map(|x| 1.0 + x.abs()).collect();
    let ties: Vec<f32> = (0..128).map(|i| (i % 31) as f32 / 2.0 - 7.5).collect();
    for weights in [tiny, large, above, ties, vec![0.0; 128], vec![-0.0; 128], vec![-2.5; 128]] {
        for text in ["int4/g64/sym/f32", "int4/g64/affine/f32", "int2/row/sym", "int6/row/affine"] {
            same(&card, (text, Fit::MinMax), Type::F32, &weights, 128);
        }
        same(&card, ("int4/g64/sym/f32", Fit::Clip), Type::F32, &weights, 128);
        same(&card, ("int4/g64/affine/f32", Fit::Clip), Type::F32, &weights, 128);
    }
}

#[test]
fn what_no_code_holds_is_left_to_the_cpu() {
    let Some(card) = card() else { return };
    let wrong = |text: &str, at: usize, with: f32| {
        let (scheme, mut weights) = (uniform(text), numbers(3 * 100, 9));
        weights[at] = with;
        let bytes = Type::F32.bytes(&weights);
        let [mut codes, mut scales, mut zeros] = parts(&scheme, 3, 100);
        let out = Parts { codes: &mut codes, scales: &mut scales, zeros: &mut zeros };
        card.encode((&scheme, Fit::MinMax), Type::F32.numbers(&bytes), 100, out).unwrap().is_none()
    };
    for at in [0, 99, 131, 299] {
        for with in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(wrong("int4/g32/sym", at, with) && wrong("int4/g32/affine", at, with), "{with} at {at}");
            assert!(wrong("int8/row/sym", at, with) && wrong("int8/row/affine", at, with), "{with} at {at}");
        }
        assert!(wrong("int2/g32/sym", at, 3e5) && !wrong("int2/g32/sym/f32", at, 3e5), "a scale beyond F16");
    }
}

#[test]
fn schemes_without_a_kernel_are_known() {
    assert!(encodes(&uniform("int4/g512/sym"), Fit::Clip, 100));
    assert!(!encodes(&uniform("int4/g513/sym"), Fit::MinMax, 1000));
    assert!(!encodes(&uniform("int4/tensor/sym"), Fit::MinMax, 100));
    assert!(encodes(&uniform("int4/row/sym"), Fit::MinMax, 100) && !encodes(&uniform("int4/row/sym"), Fit::Clip, 100));
    assert!(!encodes(&uniform("int4/row/sym"), Fit::MinMax, 0));
}

#[test]
fn parts_of_another_length_are_refused() {
    let Some(card) = card() else { return };
    let scheme = uniform("int4/g32/affine");
    let bytes = Type::F32.bytes(&numbers(64, 1));
    let refused = |weights: usize, lens: [usize; 3]| {
        let [mut codes, mut scales, mut zeros] = lens.map(|len| vec![0; len]);
        let out = Parts { codes: &mut codes, scales: &mut scales, zeros: &mut zeros };
        card.encode((&scheme, Fit::MinMax), Type::F32.numbers(&bytes[..4 * weights]), 64, out).is_err()
    };
    assert!(!refused(64, [32, 4, 2]));
    assert!(refused(63, [32, 4, 2]) && refused(64, [31, 4, 2]));
    assert!(refused(64, [32, 2, 2]) && refused(64, [32, 4, 0]));
}

#[test]
fn codes_decode_to_the_weights_of_the_cpu() {
    let Some(card) = card() else { return };
    for bits in 2..=8 {
        for (text, cols) in
            [("g32/sym", 256), ("g24/affine", 331), ("g5/sym/f32", 44), ("row/affine", 77), ("row/sym", 4)]
        {
            let (scheme, rows) = (uniform(&format!("int{bits}/{text}")), 3);
            let coded =
                same(&card, (&format!("int{bits}/{text}"), Fit::MinMax), Type::F32, &numbers(rows * cols, 2), cols);
            let zeros = (!coded[2].is_empty()).then_some(&coded[2][..]);
            let view = UniformView::new(scheme, rows, cols, &coded[0], &coded[1], zeros).unwrap();
            let mut want = vec![0.0; rows * cols];
            view.dequantize_rows(Level::best(), 0..rows, &mut want).unwrap();
            let parts = [&coded[0][..], &coded[1], &coded[2]];
            assert_eq!(card.decode(&scheme, (rows, cols), parts).unwrap(), want, "int{bits}/{text}");
            products(&card, &scheme, (rows, cols), parts, &want);
        }
    }
}

/// Products are those of the decoded weights, in the order that the kernel states, and near the exact ones.
fn products(card: &Card, scheme: &Uniform, (rows, cols): (usize, usize), parts: [&[u8]; 3], weights: &[f32]) {
    let x = numbers(cols, 77);
    let found = card.gemv(scheme, (rows, cols), parts, &x).unwrap();
    for (row, found) in weights.chunks(cols).zip(found) {
        let mut lanes = [0.0f32; 32];
        for (at, (w, x)) in row.iter().zip(&x).enumerate() {
            let lane = &mut lanes[at / 8 % 32];
            *lane = w.mul_add(*x, *lane);
        }
        for apart in [16, 8, 4, 2, 1] {
            lanes = std::array::from_fn(|lane| lanes[lane] + lanes[lane ^ apart]);
        }
        assert_eq!(found.to_bits(), lanes[0].to_bits());
        let exact =
            |of: fn(f64) -> f64| row.iter().zip(&x).map(|(w, x)| of(f64::from(*w) * f64::from(*x))).sum::<f64>();
        let bound = 2.0 * cols as f64 * 2f64.powi(-24) * exact(f64::abs);
        assert!((f64::from(found) - exact(|x| x)).abs() <= bound);
    }
}
