use super::*;
use crate::simd::Level;
use std::string::ToString;
use std::vec::Vec;

/// The nearest of a table of magnitudes by trying all; of two at the same distance, the one
/// whose code is even.
fn nearest(table: &[f64], x: f64) -> usize {
    // Far beyond the table all are at the same distance, to f64.
    let x = x.min(table[table.len() - 1]);
    let distance = |code: usize| (table[code] - x).abs();
    let closer = |best: usize, code: usize| match distance(code).total_cmp(&distance(best)) {
        core::cmp::Ordering::Less => code,
        core::cmp::Ordering::Equal if code.is_multiple_of(2) => code,
        _ => best,
    };
    (1..table.len()).fold(0, closer)
}

fn magnitudes(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}

/// Every exponent that matters with a spread of fractions, and all values of both tables with
/// their middles and the neighbours of those.
fn probes() -> Vec<f32> {
    let mut all: Vec<f32> = (0..1 << 16).map(|top| f32::from_bits(top << 15)).collect();
    for table in [&E4M3[..127], &E2M1[..8], &NF4[..]] {
        for pair in table.windows(2) {
            let middle = (pair[0] + pair[1]) / 2.0;
            all.extend([pair[0], middle, middle.next_up(), middle.next_down()]);
        }
    }
    all.into_iter().filter(|x| x.is_finite() && *x >= 0.0).collect()
}

#[test]
fn every_e4m3_has_the_value_of_the_definition() {
    for code in 0..=255u8 {
        let (e, m) = (i32::from(code >> 3 & 15), f64::from(code & 7));
        let magnitude = if e == 0 { m / 8.0 * 2f64.powi(-6) } else { (1.0 + m / 8.0) * 2f64.powi(e - 7) };
        let value = f64::from(e4m3_to_f32(code));
        match code & 0x7F {
            0x7F => assert!(value.is_nan()),
            _ => assert_eq!(value, if code < 128 { magnitude } else { -magnitude }),
        }
    }
    assert_eq!(e4m3_to_f32(0x7E), E4M3_MAX);
}

#[test]
fn e4m3_rounds_to_the_nearest() {
    let table = magnitudes(&E4M3[..127]);
    for x in probes() {
        let expected = nearest(&table, f64::from(x)) as u8;
        assert_eq!(f32_to_e4m3(x), expected, "{x:e}");
        assert_eq!(f32_to_e4m3(-x), expected | 0x80, "-{x:e}");
    }
    assert_eq!((f32_to_e4m3(f32::INFINITY), f32_to_e4m3(f32::NEG_INFINITY)), (0x7E, 0xFE));
    assert_eq!(f32_to_e4m3(f32::NAN) & 0x7F, 0x7F);
}

#[test]
fn e2m1_rounds_to_the_nearest() {
    let table = magnitudes(&E2M1[..8]);
    for x in probes() {
        let expected = nearest(&table, f64::from(x)) as u8;
        assert_eq!(f32_to_e2m1(x), expected, "{x:e}");
        assert_eq!(f32_to_e2m1(-x), expected | 8, "-{x:e}");
    }
    assert_eq!((f32_to_e2m1(f32::INFINITY), f32_to_e2m1(f32::NAN)), (7, 0));
}

#[test]
fn nf4_rounds_to_the_nearest() {
    let table = magnitudes(&NF4);
    for x in probes().into_iter().flat_map(|x| [x, -x]) {
        let chosen = table[f32_to_nf4(x) as usize];
        let best = table.iter().map(|v| (v - f64::from(x)).abs()).fold(f64::INFINITY, f64::min);
        // Middles are rounded to f32: an epsilon of 1 at most.
        assert!((chosen - f64::from(x)).abs() <= best + f64::from(f32::EPSILON), "{x:e}");
    }
    assert!((0..16).all(|code| f32_to_nf4(NF4[code]) as usize == code));
}

#[test]
fn e8m0_is_a_power_of_two() {
    for code in 0..255u8 {
        assert_eq!(f64::from(e8m0_to_f32(code)), 2f64.powi(i32::from(code) - 127));
        assert_eq!(e8m0_floor(e8m0_to_f32(code).next_up()), code, "{code}");
    }
    assert!(e8m0_to_f32(255).is_nan());
    assert_eq!((e8m0_floor(f32::INFINITY), e8m0_floor(1.999), e8m0_floor(2.0)), (254, 127, 128));
}

#[test]
fn runs_are_encoded_alike_at_every_level() {
    let x: Vec<f32> = (0..67).map(|i| (i as f32 - 33.0) * 0.37).collect();
    for level in Level::all() {
        let mut codes = [0; 67];
        encode_e4m3(level, &x, 3.0, &mut codes);
        assert!(codes.iter().zip(&x).all(|(code, x)| *code == f32_to_e4m3(x / 3.0)), "{}", level.name());
        encode_e2m1(level, &x, 0.7, &mut codes);
        assert!(codes.iter().zip(&x).all(|(code, x)| *code == f32_to_e2m1(x / 0.7)), "{}", level.name());
        encode_nf4(level, &x, 9.1, &mut codes);
        assert!(codes.iter().zip(&x).all(|(code, x)| *code == f32_to_nf4(x / 9.1)), "{}", level.name());
    }
}

#[test]
fn float_schemes_have_one_spelling() {
    for text in ["fp8_e4m3/tensor", "fp8_e4m3/row", "fp8_e4m3/b128", "mxfp4", "nvfp4", "nf4/g64"] {
        assert_eq!(text.parse::<Float>().unwrap().to_string(), text);
    }
    for text in ["", "fp8", "fp8_e4m3", "fp8_e4m3/b0", "fp8_e4m3/b064", "mxfp4/g32", "nf4", "nf4/64", "nf4/g+4"] {
        assert_eq!(text.parse::<Float>().unwrap_err().kind(), ErrorKind::SchemeText, "{text}");
    }
    assert_eq!("nf4/g0".parse::<Float>().unwrap_err().kind(), ErrorKind::GroupSize(0));
}
