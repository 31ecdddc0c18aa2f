//! Scales times factors.

use niwaki_codes::{BlockType, Scheme};

use super::cases::{Case, Random, SCHEMES};
use super::*;

/// Tensors whose scales are plain enough to be doubled and halved exactly.
fn plain_cases(random: &mut Random) -> Vec<Case> {
    let blocks = BlockType::ALL.map(|kind| (kind.name(), (3, 2 * kind.elements())));
    let mut cases: Vec<Case> =
        SCHEMES.into_iter().chain(blocks).map(|(text, shape)| Case::new(random, text, shape, false)).collect();
    let half = |random: &mut Random| (0x2000 + (random.next() as u16 & 0x8FFF)).to_le_bytes();
    for case in &mut cases {
        match case.scheme {
            Scheme::Block(kind) => {
                for block in case.codes.chunks_mut(kind.bytes()) {
                    kind.halves().iter().for_each(|at| block[*at..at + 2].copy_from_slice(&half(random)));
                    if kind == BlockType::Mxfp4 {
                        block[0] = 100 + block[0] % 50;
                    }
                }
            }
            Scheme::Uniform(s) if s.scale_type().bytes() == 2 => {
                case.scales.chunks_mut(2).for_each(|scale| scale.copy_from_slice(&half(random)));
            }
            Scheme::Elastic(_) => case.scales.chunks_mut(2).for_each(|scale| scale.copy_from_slice(&half(random))),
            Scheme::Float(niwaki_codes::Float::Nvfp4) => {
                case.scales.iter_mut().for_each(|scale| *scale = 0x10 + (*scale & 0xCF));
                case.factor = 3.5f32.to_le_bytes().to_vec();
            }
            _ => case.scales.chunks_mut(4).for_each(|scale| scale.copy_from_slice(&[7, 1, 0x80, 0x3F])),
        }
    }
    cases
}

#[test]
fn twice_and_half_are_exact_and_leave_every_byte() {
    let mut random = Random(37);
    for case in plain_cases(&mut random) {
        let mut got = case.clone();
        let before = case.decode();
        assert_eq!(got.rescale(&vec![2.0; case.rows]), Ok(true), "{}", case.name());
        assert!(got.decode().iter().zip(&before).all(|(a, b)| *a == 2.0 * b), "{}", case.name());
        assert_eq!(got.codes(), case.codes(), "{}", case.name());
        assert_eq!(got.rescale(&vec![0.5; case.rows]), Ok(true), "{}", case.name());
        assert_eq!(got.recode(Level::best(), &before), Ok(0), "{}", case.name());
        assert!(got == case, "{}", case.name());
    }
}

/// A scale is rounded by half a unit of its type at most: 2^-11 of F16, 2^-4 of e4m3.
fn tolerance(case: &Case, whole: bool) -> f32 {
    match case.scheme {
        Scheme::Float(niwaki_codes::Float::Nvfp4) if !whole => 1.0 / 16.0,
        Scheme::Float(_) => 1e-6,
        _ => 1.0 / 2048.0,
    }
}

#[test]
fn rows_are_multiplied_by_their_factors_up_to_one_rounding() {
    let mut random = Random(41);
    let mut refused = vec![];
    for case in plain_cases(&mut random) {
        for whole in [true, false] {
            let factors: Vec<f32> = (0..case.rows).map(|i| 1.3 + if whole { 0.0 } else { 0.17 * i as f32 }).collect();
            let mut got = case.clone();
            if !got.rescale(&factors).unwrap() {
                refused.push(case.name());
                assert!(got == case, "{}", case.name());
                continue;
            }
            let bound = tolerance(&case, whole);
            let all = case.decode().into_iter().zip(got.decode()).enumerate();
            // With a minimum, or a middle, each of the two terms is rounded.
            let terms = |row: usize| {
                let row = row * case.cols..(row + 1) * case.cols;
                case.decode()[row].iter().fold(0f32, |most, x| most.max(x.abs()))
            };
            let terms: Vec<f32> = (0..case.rows).map(terms).collect();
            let even = matches!(case.scheme, Scheme::Uniform(_) | Scheme::Float(_));
            for (i, (before, after)) in all {
                let row = i / case.cols;
                let size = if even { before.abs() } else { 40.0 * terms[row] };
                let error = (after - before * factors[row]).abs();
                assert!(error <= 1.01 * bound * 2.0 * size * factors[row], "{} {i} {before} {after}", case.name());
            }
        }
    }
    refused.dedup();
    let want = ["int4/tensor/affine", "int6/tensor/sym", "fp8_e4m3/tensor", "fp8_e4m3/b16", "mxfp4"];
    assert_eq!(refused, want);
}

#[test]
fn squares_take_factors_that_their_rows_share() {
    let mut random = Random(43);
    let mut case = Case::new(&mut random, "fp8_e4m3/b16", (33, 16), false);
    case.scales = [1f32, 1.0, 1.0].map(f32::to_le_bytes).as_flattened().to_vec();
    let factors: Vec<f32> = (0..33).map(|row| (1 + row / 16) as f32).collect();
    assert_eq!(case.rescale(&factors), Ok(true));
    assert_eq!(case.scales, [1f32, 2.0, 3.0].map(f32::to_le_bytes).as_flattened());
}

#[test]
fn signs_go_where_scales_may_have_them() {
    let mut random = Random(47);
    for case in plain_cases(&mut random) {
        let mut got = case.clone();
        let turned = got.rescale(&vec![-2.0; case.rows]).unwrap();
        let name = case.name();
        let want = !(name.contains("affine") || name.contains("elastic") || name == "mxfp4");
        assert_eq!(turned, want, "{name}");
        let (before, after) = (case.decode(), got.decode());
        let times = if turned { -2.0 } else { 1.0 };
        assert!(before.iter().zip(after).all(|(a, b)| a * times == b), "{name}");
    }
}

fn first_group_of_last_row(case: &Case) -> usize {
    let (rows, cols) = (case.rows, case.cols);
    let groups = match case.scheme {
        Scheme::Uniform(s) => s.groups(rows, cols),
        Scheme::Block(kind) => rows * cols / kind.elements(),
        // Rows of squares: the last one holds the last row alone.
        Scheme::Float(float) if case.name() == "fp8_e4m3/b16" => {
            let (high, wide) = float.scale_shape(rows, cols);
            return (high - 1) * wide;
        }
        Scheme::Float(float) => rows * float.scale_shape(1, cols).1,
        Scheme::Elastic(s) => rows * s.groups(cols),
        other => panic!("{other}"),
    };
    groups / rows * (rows - 1)
}

#[test]
fn a_scale_beyond_its_type_is_named_and_nothing_is_written() {
    let mut random = Random(53);
    for case in plain_cases(&mut random) {
        let mut got = case.clone();
        let last = case.rows - 1;
        let mut factors = vec![1.0; case.rows];
        factors[last] = f32::MAX;
        match got.rescale(&factors).map_err(|e| e.kind()) {
            Ok(done) => {
                let shared = ["int4/tensor/affine", "int6/tensor/sym", "fp8_e4m3/tensor", "mxfp4"];
                assert!(!done && shared.contains(&&*case.name()), "{}", case.name());
            }
            Err(ErrorKind::ScaleOverflow { group } | ErrorKind::RangeOverflow { group }) => {
                assert_eq!(group, first_group_of_last_row(&case), "{}", case.name());
            }
            Err(other) => panic!("{} {other:?}", case.name()),
        }
        assert!(got == case, "{}", case.name());
        factors[0] = f32::NAN;
        assert_eq!(case.clone().rescale(&factors).unwrap_err().kind(), ErrorKind::NotFinite { index: 0 });
    }
}

#[test]
fn powers_of_two_move_within_their_range() {
    let mut blocks = [[0x11; 17]; 3];
    (blocks[0][0], blocks[1][0], blocks[2][0]) = (3, 100, 254);
    blocks[2][1..].fill(0x80);
    let go = |factors: [f32; 3]| {
        let mut blocks = blocks;
        rescale_block_rows(BlockType::Mxfp4, 32, &factors, blocks.as_flattened_mut())
            .map(|done| (done, blocks.map(|block| block[0])))
            .map_err(|e| e.kind())
    };
    // The third is all zeros, and stays.
    assert_eq!(go([0.125, 4.0, 1024.0]), Ok((true, [0, 102, 254])));
    assert_eq!(go([0.0625, 4.0, 1.0]), Ok((false, [3, 100, 254])));
    assert_eq!(go([1.0, 3.0, 1.0]), Ok((false, [3, 100, 254])));
    assert_eq!(go([1.0, 0.0, 1.0]), Ok((false, [3, 100, 254])));
    let mut most = [[0x11; 17]; 2];
    (most[0][0], most[1][0]) = (100, 253);
    let error = rescale_block_rows(BlockType::Mxfp4, 32, &[4.0, 4.0], most.as_flattened_mut()).unwrap_err();
    assert_eq!((error.kind(), most[0][0]), (ErrorKind::ScaleOverflow { group: 1 }, 100));
}

#[test]
fn groups_of_kept_weights_take_factors_that_their_rows_share() {
    let Ok(Scheme::Uniform(scheme)) = "int4/g4/sym/f32".parse() else { unreachable!() };
    let kept = [4, 0, 3, 5, 1];
    let go = |factors: [f32; 5]| {
        let mut scales = [1f32.to_le_bytes(); 4];
        let done = rescale_kept(&scheme, &kept, &factors, scales.as_flattened_mut()).unwrap();
        (done, scales.map(f32::from_le_bytes))
    };
    // Groups end after 4, 8, 12 and 13 weights: rows 2 and 3 share the second.
    assert_eq!(go([2.0, 9.0, 3.0, 3.0, 4.0]), (true, [2.0, 3.0, 3.0, 4.0]));
    assert_eq!(go([2.0, 9.0, 3.0, 3.5, 4.0]), (false, [1.0; 4]));
    let short = rescale_kept(&scheme, &kept, &[1.0; 4], &mut [0; 16]).unwrap_err();
    assert_eq!(short.kind(), ErrorKind::Length { buffer: "factors", needs: 5, has: 4 });
    let Ok(Scheme::Elastic(scheme)) = "elastic/g4/2".parse() else { unreachable!() };
    let mut base = [[0x00, 0x3C, 0x00, 0xC0]; 4];
    let done = rescale_elastic_kept(&scheme, &kept, &[2.0, 9.0, 3.0, 3.0, 0.5], base.as_flattened_mut());
    assert_eq!((done, base[0], base[3]), (Ok(true), [0x00, 0x40, 0x00, 0xC4], [0x00, 0x38, 0x00, 0xBC]));
}
