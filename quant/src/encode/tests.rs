use std::vec::Vec;

use niwaki_codes::{Bits, Scheme, UniformView};

use super::*;

/// A seeded xorshift and the distributions made of it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Near enough to normal: twelve uniforms less six.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.next() >> 40) as f32 / 16_777_216.0).sum::<f32>() - 6.0
    }

    fn weights(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| 0.02 * self.normal()).collect()
    }
}

fn scheme(text: &str) -> Uniform {
    match text.parse() {
        Ok(Scheme::Uniform(u)) => u,
        other => panic!("{text}: {other:?}"),
    }
}

fn bytes(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

#[derive(Debug, PartialEq)]
struct Encoded {
    codes: Vec<u8>,
    scales: Vec<u8>,
    zeros: Vec<u8>,
    lost: Distortion,
}

fn encode(level: Level, s: &Uniform, fit: Fit, values: Values<'_>, cols: usize) -> Result<Encoded, Error> {
    let rows = values.len().checked_div(cols).unwrap_or(0);
    let groups = s.groups(rows, cols);
    let mut codes = vec![0xEE; rows * s.row_bytes(cols)];
    let mut scales = vec![0xEE; groups * s.scale_type().bytes()];
    let mut zeros = vec![0xEE; if s.symmetry == Symmetry::Affine { groups } else { 0 }];
    let out = UniformOut { codes: &mut codes, scales: &mut scales, zeros: &mut zeros };
    let lost = encode_rows(level, s, fit, values, cols, out)?;
    Ok(Encoded { codes, scales, zeros, lost })
}

fn decode(s: &Uniform, e: &Encoded, rows: usize, cols: usize) -> Vec<f32> {
    let zeros = (s.symmetry == Symmetry::Affine).then_some(&e.zeros[..]);
    let view = UniformView::new(*s, rows, cols, &e.codes, &e.scales, zeros).expect("lengths as asked");
    view.check().expect("parts as encoded");
    let mut out = vec![f32::NAN; rows * cols];
    view.dequantize_rows(Level::best(), 0..rows, &mut out).expect("all rows");
    out
}

/// `min_max`, one weight at a time, by the sentence in the format's text.
fn naive(s: &Uniform, x: &[f32], cols: usize, group: usize) -> (Vec<u8>, Vec<f32>, Vec<u8>) {
    let (mut codes, mut scales, mut zeros) = (vec![], vec![], vec![]);
    let top = (s.bits.levels() - 1) as f32;
    for run in x.chunks(cols).flat_map(|row| row.chunks(group)) {
        let low = run.iter().copied().fold(0.0, f32::min);
        let high = run.iter().copied().fold(0.0, f32::max);
        let half = s.bits.half() as f32;
        let raw = match s.symmetry {
            Symmetry::Symmetric if -low >= high => -low / half,
            Symmetry::Symmetric => -(high / half),
            Symmetry::Affine => high / top - low / top,
        };
        let scale = match s.scale_type() {
            niwaki_codes::ScaleType::F16 => half::f16::from_f32_const(raw).to_f32(),
            niwaki_codes::ScaleType::F32 => raw,
        };
        let scale = if scale == 0.0 && raw != 0.0 { 2f32.powi(-24).copysign(raw) } else { scale };
        let zero = match s.symmetry {
            Symmetry::Symmetric => half,
            Symmetry::Affine => (-low / scale).round_ties_even().clamp(0.0, top),
        };
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        codes.extend(run.iter().map(|x| ((x * inverse).round_ties_even() + zero).clamp(0.0, top) as u8));
        scales.push(scale);
        zeros.push(zero as u8);
    }
    (codes, scales, zeros)
}

fn unpacked(s: &Uniform, packed: &[u8], rows: usize, cols: usize) -> Vec<u8> {
    let mut out = vec![0; rows * cols];
    for (row, out) in packed.chunks_exact(s.row_bytes(cols)).zip(out.chunks_exact_mut(cols)) {
        niwaki_codes::unpack_row(Level::Scalar, s.bits, row, out).expect("a whole row");
    }
    out
}

#[test]
fn every_width_and_grouping_equals_the_naive_quantizer() {
    let mut random = Random(7);
    for bits in Bits::all() {
        for kind in ["sym", "affine"] {
            for group in [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 48, 64, 99, 100, 128, 511, 512, 513, 1000] {
                for cols in [1, group, 3 * group + 5, 250] {
                    let s = scheme(&format!("int{bits}/g{group}/{kind}"));
                    let x = random.weights(3 * cols);
                    let e = encode(Level::best(), &s, Fit::MinMax, Values::F32(&bytes(&x)), cols).unwrap();
                    let (codes, scales, zeros) = naive(&s, &x, cols, group);
                    assert_eq!(unpacked(&s, &e.codes, 3, cols), codes, "{bits} {kind} {group} {cols}");
                    let stored: Vec<u8> =
                        scales.iter().flat_map(|x| half::f16::from_f32_const(*x).to_le_bytes()).collect();
                    assert_eq!(e.scales, stored);
                    assert!(kind == "sym" || e.zeros == zeros);
                }
            }
        }
    }
}

#[test]
fn the_naive_quantizer_would_notice_another_code() {
    let s = scheme("int4/g4/sym");
    let (codes, scales, _) = naive(&s, &[0.5, -2.0, 1.0, 0.125], 4, 4);
    assert_eq!((codes, scales), (vec![10, 0, 12, 8], vec![0.25]));
    let (codes, ..) = naive(&s, &[0.5, -2.0, 1.0, 0.2], 4, 4);
    assert_ne!(codes, [10, 0, 12, 8]);
}

#[test]
fn every_level_and_fit_gives_the_same_bytes() {
    let mut random = Random(3);
    for text in ["int4/g32/sym", "int8/g32/sym", "int3/g48/affine", "int4/g10/sym", "int2/row/affine", "int5/g600/sym"]
    {
        let s = scheme(text);
        for cols in [1, 15, 16, 17, 53, 1000, 4101] {
            let x = random.weights(2 * cols);
            for fit in Fit::ALL {
                let want = encode(Level::Scalar, &s, fit, Values::F32(&bytes(&x)), cols).unwrap();
                for level in Level::all() {
                    let e = encode(level, &s, fit, Values::F32(&bytes(&x)), cols).unwrap();
                    assert_eq!(e, want, "{level:?} {text} {fit} {cols}");
                }
            }
        }
    }
}

#[test]
fn the_loss_reported_is_the_loss_decoded_and_each_fit_is_no_worse() {
    let mut random = Random(11);
    for bits in Bits::all() {
        for kind in ["sym", "affine"] {
            for group in ["g1", "g9", "g32", "g64", "g700", "row"] {
                let s = scheme(&format!("int{bits}/{group}/{kind}"));
                let x = random.weights(3 * 777);
                let mut least = f64::INFINITY;
                for fit in Fit::ALL {
                    let e = encode(Level::best(), &s, fit, Values::F32(&bytes(&x)), 777).unwrap();
                    let real = Distortion::between(&x, &decode(&s, &e, 3, 777));
                    assert_eq!(real.max_abs, e.lost.max_abs);
                    // Sums of 2331 squares in another order: n * epsilon of the sum.
                    let slack = 2331.0 * f64::from(f32::EPSILON);
                    assert!((real.noise - e.lost.noise).abs() <= slack * real.noise, "{s:?} {fit}");
                    assert!((real.signal - e.lost.signal).abs() <= slack * real.signal);
                    assert!(e.lost.noise <= least * (1.0 + slack), "{s:?} {fit}");
                    least = e.lost.noise;
                }
            }
        }
    }
}

#[test]
fn weights_inside_the_grid_are_off_by_half_a_step_at_most() {
    let mut random = Random(5);
    for text in ["int4/g32/sym", "int8/g64/affine", "int2/row/sym", "int6/g7/affine", "int4/g32/sym/f32"] {
        let s = scheme(text);
        let x = random.weights(4 * 100);
        let e = encode(Level::best(), &s, Fit::MinMax, Values::F32(&bytes(&x)), 100).unwrap();
        let y = decode(&s, &e, 4, 100);
        let zeros = (s.symmetry == Symmetry::Affine).then_some(&e.zeros[..]);
        let view = UniformView::new(s, 4, 100, &e.codes, &e.scales, zeros).unwrap();
        let group = if let Grouping::Group(g) = s.grouping { g.get() } else { 100 };
        for (i, (x, y)) in x.iter().zip(&y).enumerate() {
            let (scale, zero) = view.grid(i / 100, i % 100 / group);
            let (a, b) = (-f32::from(zero) * scale, (s.bits.levels() as f32 - 1.0 - f32::from(zero)) * scale);
            let outside = (a.min(b) - x).max(x - a.max(b)).max(0.0);
            // Half a step, the way to the end of the grid, and one rounding of each product.
            let bound = 0.5 * scale.abs() + outside + 256.0 * f32::EPSILON * scale.abs();
            assert!((x - y).abs() <= bound, "{text} {i}: {x} {y} {scale} {zero}");
        }
    }
}

#[test]
fn zero_stays_zero_and_a_group_of_zeros_takes_scale_zero() {
    for bits in Bits::all() {
        for kind in ["sym", "affine"] {
            for fit in Fit::ALL {
                let s = scheme(&format!("int{bits}/g16/{kind}"));
                let mut x = Random(9).weights(48);
                x[..16].fill(0.0);
                x[3] = -0.0;
                x[20] = 0.0;
                x[40] = -0.0;
                let e = encode(Level::best(), &s, fit, Values::F32(&bytes(&x)), 48).unwrap();
                assert_eq!(e.scales[..2], [0, 0]);
                let y = decode(&s, &e, 1, 48);
                assert!(y[..16].iter().chain([&y[20], &y[40]]).all(|y| *y == 0.0), "int{bits} {kind} {fit}");
            }
        }
    }
}

#[test]
fn constant_tiny_and_huge_groups_keep_their_size() {
    for kind in ["sym", "affine"] {
        for (value, scales) in [(0.7, ""), (-3.0, ""), (1e-44, "/f32"), (1e38, "/f32"), (-1.5e38, "/f32")] {
            for fit in Fit::ALL {
                let s = scheme(&format!("int8/g20/{kind}{scales}"));
                let e = encode(Level::best(), &s, fit, Values::F32(&bytes(&[value; 40])), 40).unwrap();
                let y = decode(&s, &e, 1, 40);
                // One F16 rounding of the scale, or one step of the smallest normal one.
                let bound = value.abs() * 2f32.powi(-10) + f32::MIN_POSITIVE;
                assert!(y.iter().all(|y| (y - value).abs() <= bound), "{kind} {value:e} {fit} {:e}", y[0]);
            }
        }
        let s = scheme(&format!("int4/g4/{kind}"));
        let e = encode(Level::best(), &s, Fit::Lsq, Values::F32(&bytes(&[1e-12, -2e-12, 0.0, 5e-13])), 4).unwrap();
        assert_eq!(e.scales, [1, 0], "the smallest F16 instead of 0");
    }
}

#[test]
fn a_range_of_every_finite_float_does_not_overflow() {
    for text in ["int8/row/affine", "int4/row/sym", "int2/g16/affine/f32"] {
        let s = scheme(text);
        let x = [f32::MAX, f32::MIN, 0.0, 1.0];
        for fit in Fit::ALL {
            let e = encode(Level::best(), &s, fit, Values::F32(&bytes(&x)), 4).unwrap();
            let y = decode(&s, &e, 1, 4);
            assert!(y.iter().all(|y| y.is_finite()) && y[2] == 0.0, "{text} {fit} {y:?}");
        }
    }
}

#[test]
fn infinities_and_nan_are_refused_with_their_place() {
    for text in ["int4/g32/sym", "int4/g10/affine", "int4/row/sym", "int4/g600/sym"] {
        let s = scheme(text);
        for at in [0, 9, 16, 31, 699, 700, 1234, 2099] {
            for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = Random(2).weights(2100);
                x[at] = bad;
                x[at + 1..].iter_mut().skip(40).for_each(|x| *x = f32::NAN);
                let refused = encode(Level::best(), &s, Fit::Clip, Values::F32(&bytes(&x)), 700).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::NotFinite { index: at }, "{text}");
            }
        }
    }
}

#[test]
fn a_group_beyond_f16_is_refused_by_number() {
    for (text, group) in [("int4/g32/sym", 1), ("int4/g10/affine", 5), ("int4/g600/sym", 0)] {
        let mut x = Random(2).weights(1200);
        x[55] = -3e6;
        let refused = encode(Level::best(), &scheme(text), Fit::Lsq, Values::F32(&bytes(&x)), 600).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ScaleOverflow { group }, "{text}");
        let wide = scheme(&format!("{text}/f32"));
        assert!(encode(Level::best(), &wide, Fit::Lsq, Values::F32(&bytes(&x)), 600).is_ok());
    }
}

#[test]
fn half_precision_weights_encode_as_their_floats_do() {
    let x = Random(21).weights(2 * 333);
    let brain: Vec<u8> = x.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
    let half: Vec<u8> = x.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect();
    for text in ["int4/g32/sym", "int8/row/sym", "int3/g20/affine"] {
        for (values, widen) in [
            (Values::Bf16(&brain), (|b| half::bf16::from_le_bytes(b).to_f32()) as fn([u8; 2]) -> f32),
            (Values::F16(&half), |b| half::f16::from_le_bytes(b).to_f32()),
        ] {
            let (Values::Bf16(raw) | Values::F16(raw) | Values::F32(raw)) = values;
            let floats: Vec<f32> = raw.chunks_exact(2).map(|b| widen([b[0], b[1]])).collect();
            let s = scheme(text);
            let want = encode(Level::best(), &s, Fit::Clip, Values::F32(&bytes(&floats)), 333).unwrap();
            assert_eq!(encode(Level::best(), &s, Fit::Clip, values, 333).unwrap(), want, "{text}");
        }
    }
}

#[test]
fn a_row_equals_its_solver_and_given_grid() {
    let x = Random(4).weights(10_001);
    let raw = bytes(&x);
    for text in ["int4/row/sym", "int3/row/affine"] {
        let s = scheme(text);
        for fit in Fit::ALL {
            let want = encode(Level::best(), &s, fit, Values::F32(&raw), x.len()).unwrap();
            let mut solver = Solver::new(&s, fit);
            let point = loop {
                let mut sums = Sums::default();
                sums.merge(&solver.observe(Level::Scalar, Values::F32(&raw)).unwrap());
                if let Step::Done(point) = solver.advance(sums) {
                    break point;
                }
            };
            let mut codes = vec![0; s.row_bytes(x.len())];
            let lost = encode_with(Level::best(), &s, point, Values::F32(&raw), x.len(), &mut codes).unwrap();
            assert_eq!(want.scales, point.scale.to_le_bytes());
            assert_eq!((want.codes, want.lost), (codes.clone(), lost), "{text} {fit}");
            let mut loose = vec![0; x.len()];
            let same = quantize_run(Level::best(), &s, point, Values::F32(&raw), &mut loose).unwrap();
            assert_eq!((loose, same), (unpacked(&s, &codes, 1, x.len()), lost));
        }
    }
}

#[test]
fn pieces_of_a_row_give_the_bytes_of_the_row() {
    let x = Random(8).weights(6000);
    for (text, piece) in [("int4/g32/sym", 2560), ("int3/g10/affine", 800)] {
        let s = scheme(text);
        let whole = encode(Level::best(), &s, Fit::Clip, Values::F32(&bytes(&x)), x.len()).unwrap();
        let (mut codes, mut scales) = (vec![], vec![]);
        for piece in x.chunks(piece) {
            let part = encode(Level::best(), &s, Fit::Clip, Values::F32(&bytes(piece)), piece.len()).unwrap();
            codes.extend(part.codes);
            scales.extend(part.scales);
        }
        assert_eq!((whole.codes, whole.scales), (codes, scales), "{text}");
    }
}

#[test]
fn a_tensor_in_pieces_gets_the_grid_of_the_whole() {
    let x = Random(6).weights(3 * TILE + 100);
    let raw = bytes(&x);
    for text in ["int4/tensor/sym", "int8/tensor/affine"] {
        for fit in [Fit::MinMax, Fit::Clip, Fit::Lsq] {
            let solve = |size: usize| {
                let mut solver = Solver::new(&scheme(text), fit);
                loop {
                    let mut sums = Sums::default();
                    for at in (0..x.len()).step_by(size) {
                        let piece = Values::F32(&raw).slice(at..at + size);
                        sums.merge(&solver.observe(Level::best(), piece).unwrap());
                    }
                    if let Step::Done(point) = solver.advance(sums) {
                        break point;
                    }
                }
            };
            assert_eq!(solve(TILE), solve(TILE), "{text} {fit}");
            let (a, b) = (solve(TILE), solve(x.len()));
            // Another order of four additions in f64 can only move the least-squares scale.
            assert!((a.scale - b.scale).abs() <= f32::EPSILON * a.scale.abs() && a.zero == b.zero, "{text} {fit}");
        }
    }
}

#[test]
fn wrong_lengths_and_whole_tensors_are_refused() {
    let s = scheme("int4/g32/affine");
    let raw = bytes(&[0.0; 64]);
    let go = |codes: usize, scales: usize, zeros: usize, cols: usize, s: &Uniform| {
        let (mut codes, mut scales, mut zeros) = (vec![0; codes], vec![0; scales], vec![0; zeros]);
        let out = UniformOut { codes: &mut codes, scales: &mut scales, zeros: &mut zeros };
        encode_rows(Level::best(), s, Fit::MinMax, Values::F32(&raw), cols, out).map_err(|e| e.kind())
    };
    assert!(go(32, 4, 2, 64, &s).is_ok());
    assert_eq!(go(31, 4, 2, 64, &s), Err(ErrorKind::Length { buffer: "codes", needs: 32, has: 31 }));
    assert_eq!(go(32, 8, 2, 64, &s), Err(ErrorKind::Length { buffer: "scales", needs: 4, has: 8 }));
    assert_eq!(go(32, 4, 0, 64, &s), Err(ErrorKind::Length { buffer: "zeros", needs: 2, has: 0 }));
    assert_eq!(go(32, 4, 2, 60, &s), Err(ErrorKind::Length { buffer: "values", needs: 60, has: 64 }));
    assert_eq!(go(0, 0, 0, 0, &s), Err(ErrorKind::Length { buffer: "values", needs: 0, has: 64 }));
    assert_eq!(go(32, 4, 0, 64, &scheme("int4/tensor/sym")), Err(ErrorKind::WholeTensor));
}
