use std::vec::Vec;

use super::*;

/// Weights, then what ggml makes of them; `tests/scripts/make_ggml_blocks.py` makes it.
const GOLDEN: &[u8] = include_bytes!("../../../tests/golden/ggml_blocks.bin");

/// The types in it, and the hash of what ggml makes of [`pseudo_random`] weights.
const TYPES: [(BlockType, u64); 6] = [
    (BlockType::Q4_0, 0xe0b8_a98c_d057_d3e5),
    (BlockType::Q4_1, 0xe48d_ad7e_ce46_8155),
    (BlockType::Q5_0, 0xe768_4b60_d346_bc8c),
    (BlockType::Q5_1, 0x599c_3216_e8f1_2344),
    (BlockType::Q8_0, 0x24d9_df29_d2c7_14c9),
    (BlockType::Mxfp4, 0xc709_41b0_2025_346a),
];

fn encoded(level: Level, kind: BlockType, weights: &[u8]) -> Result<(Vec<u8>, Distortion), Error> {
    let cols = weights.len() / 4;
    let mut out = vec![0xA5; cols / kind.elements() * kind.bytes()];
    encode_block_rows(level, kind, Values::F32(weights), cols, &mut out).map(|lost| (out, lost))
}

/// As the script that made the hashes says.
fn pseudo_random(n: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = |i: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as i32 - (1 << 23)) as f32 / (256u32 << (i / 32 % 16)) as f32
    };
    (0..n).map(next).flat_map(f32::to_le_bytes).collect()
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01B3))
}

#[test]
fn blocks_are_those_of_ggml_at_every_level() {
    let each: usize = 128 + TYPES.iter().map(|(kind, _)| kind.bytes()).sum::<usize>();
    let blocks = GOLDEN.len() / each;
    assert_eq!(GOLDEN.len(), blocks * each);
    let (weights, mut rest) = GOLDEN.split_at(128 * blocks);
    for (kind, _) in TYPES {
        let (theirs, after) = rest.split_at(blocks * kind.bytes());
        rest = after;
        for level in Level::all() {
            let (ours, _) = encoded(level, kind, weights).unwrap();
            for (i, (ours, theirs)) in ours.chunks(kind.bytes()).zip(theirs.chunks(kind.bytes())).enumerate() {
                let weights: Vec<_> =
                    weights[128 * i..][..128].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                assert_eq!(ours, theirs, "{level:?} {kind} block {i}: {weights:?}");
            }
        }
    }
}

#[test]
fn many_weights_have_the_hash_of_what_ggml_makes_of_them() {
    let weights = pseudo_random(1 << 18);
    for (kind, hash) in TYPES {
        for level in Level::all() {
            let (bytes, _) = encoded(level, kind, &weights).unwrap();
            assert_eq!(fnv(&bytes), hash, "{level:?} {kind}");
        }
    }
}

#[test]
fn what_is_lost_is_the_difference_to_what_the_blocks_decode_to() {
    let weights = pseudo_random(3 * 2080);
    let floats: Vec<f32> = weights.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    for (kind, _) in TYPES {
        let mut out = vec![0; 3 * kind.row_bytes(2080).unwrap()];
        let lost = encode_block_rows(Level::best(), kind, Values::F32(&weights), 2080, &mut out).unwrap();
        let mut decoded = vec![0.0; floats.len()];
        let view = BlockView::new(kind, 3, 2080, &out).unwrap();
        view.dequantize_rows(Level::best(), 0..3, &mut decoded).unwrap();
        let (mut signal, mut noise, mut most) = (0.0, 0.0, 0.0f32);
        for (x, y) in floats.iter().zip(&decoded) {
            signal += f64::from(*x).powi(2);
            noise += f64::from(x - y).powi(2);
            most = most.max((x - y).abs());
        }
        // A lane sums 128 squares, each addition off by 2^-24 at most.
        assert!((lost.signal / signal - 1.0).abs() < 130.0 / f64::from(1 << 24), "{kind}");
        assert!((lost.noise / noise - 1.0).abs() < 130.0 / f64::from(1 << 24), "{kind}");
        assert_eq!((lost.max_abs, lost.elements), (most, 6240), "{kind}");
        assert!(lost.noise > 0.0);
    }
}

/// Rows of 96 weights for which what is rounded or chosen is close.
fn awkward() -> Vec<f32> {
    let mut weights: Vec<f32> = pseudo_random(96 * 33).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let random = weights.clone();
    let signed = |i: usize, x: f32| if random[i] < 0.0 { -x } else { x };
    let rows: [&dyn Fn(usize) -> f32; 16] = [
        &|_| 0.0,
        &|_| -0.0,
        &|i| signed(i, 0.0),
        &|i| signed(i, 1.0),
        &|i| if i % 32 < 16 { -0.75 } else { 0.75 },
        &|i| random[i].abs(),
        &|i| -random[i].abs(),
        &|i| random[i].max(0.0),
        &|i| random[i].min(-0.0),
        // From subnormal numbers to those with an inverse.
        &|i| random[i] * 1e-44,
        &|i| random[i] * 1e-41,
        &|i| random[i] * 2f32.powi(-148 + (i / 32 % 3) as i32 * 10),
        &|i| random[i] * 2f32.powi(-144 + (i / 32 % 3) as i32),
        &|i| random[i] * 1e-12,
        // To the largest scales that F16 holds.
        &|i| (i % 17) as f32 * 8_000.0 - 64_000.0,
        &|i| (i % 31) as f32 * 0.5 - 7.75,
    ];
    for row in rows {
        weights.extend((0..96).map(row));
    }
    weights
}

#[test]
fn every_level_encodes_awkward_weights_alike() {
    let floats = awkward();
    let single: Vec<u8> = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
    let brain: Vec<u8> = floats.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
    let halves: Vec<u8> = floats.iter().flat_map(|x| half::f16::from_f32(x.clamp(-6e4, 6e4)).to_le_bytes()).collect();
    for (kind, _) in TYPES {
        for values in [Values::F32(&single), Values::Bf16(&brain), Values::F16(&halves)] {
            let go = |level| {
                let mut out = vec![0xA5; values.len() / kind.elements() * kind.bytes()];
                let lost = encode_block_rows(level, kind, values, 96, &mut out).unwrap();
                (out, lost.signal.to_bits(), lost.noise.to_bits(), lost.max_abs.to_bits(), lost.elements)
            };
            let plain = go(Level::Scalar);
            for level in Level::all() {
                assert!(go(level) == plain, "{level:?} {kind}");
            }
        }
    }
}

#[test]
fn floats_of_any_alignment_are_encoded_alike() {
    let weights = pseudo_random(4096 + 96);
    let mut moved = vec![0; weights.len() + 4];
    for (kind, _) in TYPES {
        for by in 0..4 {
            moved[by..by + weights.len()].copy_from_slice(&weights);
            let there = encoded(Level::best(), kind, &moved[by..by + weights.len()]).unwrap();
            assert!(there == encoded(Level::best(), kind, &weights).unwrap(), "{kind}");
        }
    }
}

#[test]
fn one_block_is_the_same_whatever_stands_beside_it() {
    let weights: Vec<u8> = awkward().iter().flat_map(|x| x.to_le_bytes()).collect();
    for (kind, _) in TYPES {
        let (whole, _) = encoded(Level::best(), kind, &weights).unwrap();
        for (weights, block) in weights.chunks(128).zip(whole.chunks(kind.bytes())) {
            assert_eq!(encoded(Level::best(), kind, weights).unwrap().0, block, "{kind}");
        }
    }
}

#[test]
fn halves_are_encoded_as_the_floats_that_they_are() {
    let halves: Vec<u8> = (0..4096u32).flat_map(|i| ((i * 40_503 % 0x4400) as u16).to_le_bytes()).collect();
    for (kind, _) in TYPES {
        for values in [Values::F16(&halves), Values::Bf16(&halves)] {
            let mut floats = vec![0.0; 4096];
            values.decode(Level::Scalar, &mut floats);
            let wide: Vec<u8> = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
            let mut out = vec![0; kind.row_bytes(4096).unwrap()];
            encode_block_rows(Level::best(), kind, values, 1024, &mut out).unwrap();
            assert!(out == encoded(Level::Scalar, kind, &wide).unwrap().0, "{kind}");
        }
    }
}

#[test]
fn weights_that_no_block_holds_are_refused_by_their_place() {
    let mut weights = pseudo_random(4096);
    for (kind, _) in TYPES {
        for (at, bad) in [(0, f32::NAN), (2049, f32::INFINITY), (4095, f32::NEG_INFINITY)] {
            let mut weights = weights.clone();
            weights[4 * at..4 * at + 4].copy_from_slice(&bad.to_le_bytes());
            let error = encoded(Level::best(), kind, &weights).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFinite { index: at }, "{kind}");
        }
    }
    weights[4 * 2081..4 * 2082].copy_from_slice(&1e30f32.to_le_bytes());
    for (kind, _) in TYPES {
        match encoded(Level::best(), kind, &weights) {
            Ok(_) => assert_eq!(kind, BlockType::Mxfp4, "a power of two reaches further"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ScaleOverflow { group: 65 }, "{kind}"),
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let mut out = [0; 36];
    let mut go = |kind, weights: usize, cols, bytes: usize| {
        let weights = pseudo_random(weights);
        encode_block_rows(Level::best(), kind, Values::F32(&weights), cols, &mut out[..bytes]).map_err(|e| e.kind())
    };
    assert!(go(BlockType::Q4_0, 64, 32, 36).is_ok());
    assert_eq!(go(BlockType::Q4_0, 64, 48, 36), Err(ErrorKind::Length { buffer: "values", needs: 48, has: 64 }));
    assert_eq!(go(BlockType::Q4_0, 48, 48, 36), Err(ErrorKind::BlockRow { kind: BlockType::Q4_0, cols: 48 }));
    assert_eq!(go(BlockType::Q4_0, 64, 32, 35), Err(ErrorKind::Length { buffer: "codes", needs: 36, has: 35 }));
}

/// The types that are searched, and the decibels that ggml's search leaves of a large matrix of
/// normal weights (llama-cpp-python 0.3.36, no importance matrix).
const SEARCHED: [(BlockType, f64); 7] = [
    (BlockType::Q2K, 10.56),
    (BlockType::Q3K, 16.43),
    (BlockType::Q4K, 22.93),
    (BlockType::Q5K, 28.85),
    (BlockType::Q6K, 35.01),
    (BlockType::Iq4Nl, 22.37),
    (BlockType::Iq4Xs, 22.30),
];

/// Normal weights of standard deviation 0.02, by pairs.
fn normal(n: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f64 + 0.5) / f64::from(1 << 24)
    };
    let pair = |_| {
        let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), core::f64::consts::TAU * uniform());
        [radius * angle.cos(), radius * angle.sin()]
    };
    (0..n / 2).flat_map(pair).flat_map(|x| ((x * 0.02) as f32).to_le_bytes()).collect()
}

#[test]
fn searches_lose_less_than_those_of_ggml() {
    let weights = normal(1 << 18);
    for (kind, theirs) in SEARCHED {
        let ours = encoded(Level::best(), kind, &weights).unwrap().1.sqnr_db().unwrap();
        assert!(ours > theirs, "{kind}: {ours} dB, ggml {theirs} dB");
    }
}

#[test]
fn searches_end_alike_at_every_level_whatever_the_weights() {
    let mut weights = pseudo_random(1 << 14);
    weights.extend(normal(1 << 14));
    let one = |at: usize| move |i: usize| if i == at { 3.0 } else { 1e-6 };
    let runs: [&dyn Fn(usize) -> f32; 7] =
        [&|_| 0.0, &|_| -0.25, &|_| 7.0, &|i| (i % 7) as f32 * 1e-40, &|_| 6e-8, &one(0), &one(201)];
    for run in runs {
        weights.extend((0..256).flat_map(|i| run(i).to_le_bytes()));
    }
    for (kind, _) in SEARCHED {
        let (plain, lost) = encoded(Level::Scalar, kind, &weights).unwrap();
        assert!(lost.noise.is_finite() && lost.noise < lost.signal, "{kind}");
        for level in Level::all() {
            assert!(encoded(level, kind, &weights).unwrap().0 == plain, "{level:?} {kind}");
        }
    }
}

#[test]
fn searches_keep_zeros_and_name_what_is_beyond_them() {
    for (kind, _) in SEARCHED {
        let (_, lost) = encoded(Level::best(), kind, &[0; 4 * 512]).unwrap();
        assert_eq!((lost.noise, lost.max_abs), (0.0, 0.0), "{kind}");
        let mut weights = normal(2048);
        weights[4 * 1100..4 * 1101].copy_from_slice(&1e30f32.to_le_bytes());
        let error = encoded(Level::best(), kind, &weights).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ScaleOverflow { group: 1100 / kind.elements() }, "{kind}");
        weights[4 * 1100..4 * 1101].copy_from_slice(&f32::NAN.to_le_bytes());
        let error = encoded(Level::best(), kind, &weights).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFinite { index: 1100 }, "{kind}");
    }
}

#[test]
fn a_searched_block_is_the_same_whatever_stands_beside_it() {
    let mut weights = normal(1 << 12);
    weights.extend(pseudo_random(17 * 256));
    for (kind, _) in SEARCHED {
        let (whole, _) = encoded(Level::best(), kind, &weights).unwrap();
        for (i, weights) in weights.chunks(4 * kind.elements()).enumerate() {
            let (alone, _) = encoded(Level::best(), kind, weights).unwrap();
            assert_eq!(alone, whole[i * kind.bytes()..][..kind.bytes()], "{kind} block {i}");
        }
    }
}

#[test]
fn weights_on_the_grid_of_a_signed_scale_come_back() {
    let table = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
    let value = |kind, i: usize| match kind {
        BlockType::Q3K => (i % 8) as f32 - 4.0,
        BlockType::Q6K if i.is_multiple_of(16) => -32.0,
        BlockType::Q6K => (i * 5 % 63) as f32 - 31.0,
        _ => table[i % 16] as f32,
    };
    for kind in [BlockType::Q3K, BlockType::Q6K, BlockType::Iq4Nl, BlockType::Iq4Xs] {
        for scale in [1.0, -0.25, 1024.0] {
            let weights: Vec<u8> = (0..512).flat_map(|i| (value(kind, i) * scale).to_le_bytes()).collect();
            let lost = encoded(Level::best(), kind, &weights).unwrap().1;
            assert_eq!(lost.max_abs, 0.0, "{kind} {scale}");
        }
    }
}

#[test]
fn searches_never_lose_more_than_zeros_would() {
    for (kind, _) in SEARCHED {
        // From where every scale is zero, past those that are subnormal, to before the first is beyond F16.
        for power in -140..18 {
            let scale = 2f64.powi(power) as f32;
            let weights: Vec<u8> = normal(512)
                .as_chunks()
                .0
                .iter()
                .flat_map(|b| (f32::from_le_bytes(*b) * 50.0 * scale).to_le_bytes())
                .collect();
            let lost = encoded(Level::best(), kind, &weights).unwrap().1;
            assert!(lost.noise <= lost.signal, "{kind} 2^{power}: {lost:?}");
        }
    }
}
