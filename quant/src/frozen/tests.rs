//! Every scheme against all of its codes.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod cases;
mod kept;
mod rescaled;

use std::vec;
use std::vec::Vec;

use cases::{Case, Random, all_cases};

use super::*;

/// Whether `a` is nearer to `x` than `b`, exactly; equal where they are as near.
fn compare(x: f32, a: f32, b: f32) -> core::cmp::Ordering {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    let (low, high, twice) = (f64::from(low), f64::from(high), 2.0 * f64::from(x));
    let sum = low + high;
    // What the sum left out.
    let part = sum - low;
    let error = (low - (sum - part)) + (high - part);
    let side = twice.partial_cmp(&sum).unwrap().then(0.0f64.partial_cmp(&error).unwrap());
    if low == high {
        return core::cmp::Ordering::Equal;
    }
    if a < b { side } else { side.reverse() }
}

/// The code that a target takes, by looking at all.
fn nearest(values: &[f32], target: f32, present: u8) -> u8 {
    let finite = |code: &u8| values[usize::from(*code)].is_finite();
    let codes = || (0..=(values.len() - 1) as u8).filter(finite);
    let Some(best) = codes().min_by(|a, b| compare(target, values[usize::from(*a)], values[usize::from(*b)])) else {
        return present;
    };
    let as_near = |code: &u8| {
        finite(code)
            && compare(target, values[usize::from(*code)], values[usize::from(best)]) == core::cmp::Ordering::Equal
    };
    if as_near(&present) { present } else { codes().find(as_near).unwrap() }
}

/// Targets where what is nearest is hard to say, for weights with these values.
fn targets(random: &mut Random, values: &[Vec<f32>]) -> Vec<f32> {
    let target = |values: &Vec<f32>| {
        let some: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
        if some.is_empty() {
            return 0.5;
        }
        let mut any = || some[random.next() as usize % some.len()];
        let (a, b) = (any(), any());
        let middle = (f64::from(a) / 2.0 + f64::from(b) / 2.0) as f32;
        let next =
            some.iter().copied().filter(|x| *x > a).fold(a, |best, x| if best == a || x < best { x } else { best });
        let step = (f64::from(a) / 2.0 + f64::from(next) / 2.0) as f32;
        match random.next() % 12 {
            0 => 0.0,
            1 => -0.0,
            2 => a,
            3 => middle,
            4 | 5 => step,
            6 => f32::from_bits(step.to_bits() ^ 1),
            7 => a * 1.5,
            8 => f32::from_bits(random.next() as u32 & 0x3FFF_FFFF),
            9 => [f32::MAX, f32::MIN, 1e-45, -1e-45][random.next() as usize % 4],
            _ => a + (next - a) * random.unit(),
        }
    };
    let finite = |x: f32| if x.is_finite() { x } else { 1.0 };
    values.iter().map(target).map(finite).collect()
}

/// What every code of every weight stands for.
fn all_values(case: &Case) -> Vec<Vec<f32>> {
    let mut values = vec![vec![]; case.rows * case.cols];
    for code in 0..=case.top() {
        let decoded = case.with_codes(&vec![code; case.rows * case.cols]).decode();
        values.iter_mut().zip(decoded).for_each(|(to, value)| to.push(value));
    }
    values
}

#[test]
fn codes_are_the_nearest_of_all_at_every_level() {
    let mut random = Random(7);
    let (mut moved_some, mut kept_some) = (0, 0);
    for case in all_cases(&mut random) {
        let values = all_values(&case);
        let targets = targets(&mut random, &values);
        let present = case.codes();
        let want: Vec<u8> =
            present.iter().zip(&targets).zip(&values).map(|((code, x), values)| nearest(values, *x, *code)).collect();
        let changed = present.iter().zip(&want).filter(|(a, b)| a != b).count();
        for level in Level::all() {
            let mut got = case.clone();
            let moved = got.recode(level, &targets).unwrap();
            for (i, (got, want)) in got.codes().iter().zip(&want).enumerate() {
                let values = &values[i];
                assert_eq!(
                    got,
                    want,
                    "{level:?} {} weight {i} target {:e}: {:e} for {:e}, was {}",
                    case.name(),
                    targets[i],
                    values[usize::from(*got)],
                    values[usize::from(*want)],
                    present[i]
                );
            }
            assert_eq!(moved, changed, "{}", case.name());
            assert!(got.same_parameters(&case), "{}", case.name());
        }
        moved_some += changed;
        kept_some += present.len() - changed;
    }
    assert!(moved_some > 10_000 && kept_some > 1_000, "{moved_some} {kept_some}");
}

#[test]
fn what_rows_decode_to_changes_no_byte() {
    let mut random = Random(11);
    let mut seen = std::collections::BTreeSet::new();
    for case in all_cases(&mut random) {
        let (decoded, mut targets) = (case.decode(), case.decode());
        // Codes that stand for no number move, so they are left out.
        if decoded.iter().any(|x| !x.is_finite()) {
            continue;
        }
        seen.insert(case.name());
        for sign in [1.0, -1.0] {
            let mut got = case.clone();
            targets.iter_mut().filter(|x| **x == 0.0).for_each(|x| *x = 0f32.copysign(sign));
            assert_eq!(got.recode(Level::best(), &targets), Ok(0), "{}", case.name());
            assert!(got == case, "{}", case.name());
        }
    }
    assert_eq!(seen.len(), cases::SCHEMES.len() - 1 + niwaki_codes::BlockType::ALL.len());
}

#[test]
fn targets_that_are_no_numbers_are_named_and_nothing_is_written() {
    let mut random = Random(13);
    for case in all_cases(&mut random) {
        let n = case.rows * case.cols;
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut targets = vec![1.0; n];
            targets[n - 1] = bad;
            targets[n / 2] = bad;
            let mut got = case.clone();
            let error = got.recode(Level::best(), &targets).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFinite { index: n / 2 }, "{}", case.name());
            assert!(got == case);
        }
    }
}

#[test]
fn targets_that_are_not_whole_rows_and_other_parts_are_refused() {
    let mut random = Random(17);
    for case in all_cases(&mut random) {
        let n = case.rows * case.cols;
        let mut got = case.clone();
        if case.cols > 1 {
            let error = got.recode(Level::best(), &vec![0.0; n - 1]).unwrap_err();
            let needs = n - case.cols;
            assert_eq!(error.kind(), ErrorKind::Length { buffer: "targets", needs, has: n - 1 }, "{}", case.name());
        }
        let more = got.recode(Level::best(), &vec![0.0; n + case.cols]).unwrap_err();
        assert!(matches!(more.kind(), ErrorKind::Length { .. }), "{}", case.name());
        assert!(got == case);
    }
    let mut block = [0; 18];
    let error = recode_block_rows(Level::best(), niwaki_codes::BlockType::Q4_0, 31, &mut block, &[0.0; 31]);
    assert!(matches!(error.unwrap_err().kind(), ErrorKind::BlockRow { cols: 31, .. }));
}
