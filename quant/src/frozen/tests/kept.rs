//! Kept weights of masked tensors.

use niwaki_codes::{Grouping, Scheme, Uniform, packed_bytes};

use super::cases::{Case, Random};
use super::*;

const KEPT: [usize; 7] = [5, 0, 1, 37, 4100, 0, 9];

/// One row of all kept weights, with a scale for each row where there is one.
fn stream(random: &mut Random, text: &str) -> (Case, Uniform) {
    let Ok(Scheme::Uniform(scheme)) = text.parse() else { panic!("{text}") };
    let total = KEPT.iter().sum();
    let mut case = Case::new(random, text, (1, total), false);
    if scheme.grouping == Grouping::Row {
        let rows = Case::new(random, text, (KEPT.len(), 1), false);
        (case.scales, case.zeros) = (rows.scales, rows.zeros);
    }
    (case, scheme)
}

/// Each row of the kept weights by itself, as [`recode_rows`] does it.
fn by_rows(case: &Case, scheme: &Uniform, targets: &[f32]) -> Vec<u8> {
    let (codes, mut at, mut out) = (case.codes(), 0, vec![]);
    for (row, kept) in KEPT.into_iter().enumerate() {
        let zeros = case.zeros.get(row..=row).unwrap_or(&[]).to_vec();
        let scales = case.scales[4 * row..][..4].to_vec();
        let codes = &codes[at..at + kept];
        let mut one = Case { cols: kept, scales, zeros, ..case.clone() };
        one.codes = vec![0; packed_bytes(kept, scheme.bits)];
        if kept > 0 {
            one = one.with_codes(codes);
            one.recode(Level::best(), &targets[at..at + kept]).unwrap();
            out.extend(one.codes());
        }
        at += kept;
    }
    out
}

#[test]
fn kept_weights_take_the_codes_that_their_rows_would() {
    let mut random = Random(23);
    for text in ["int3/row/sym", "int4/row/affine", "int5/row/affine", "int8/row/sym", "int7/row/sym"] {
        let (case, scheme) = stream(&mut random, text);
        let targets: Vec<f32> = (0..case.cols).map(|_| 20.0 * random.unit() - 10.0).collect();
        let want = by_rows(&case, &scheme, &targets);
        for level in Level::all() {
            let mut got = case.clone();
            let parts = UniformCodes { codes: &mut got.codes, scales: &case.scales, zeros: &case.zeros };
            let moved = recode_kept(level, &scheme, &KEPT, 0, parts, &targets).unwrap();
            assert_eq!(got.codes(), want, "{text} {level:?}");
            assert_eq!(moved, case.codes().iter().zip(&want).filter(|(a, b)| a != b).count());
        }
    }
}

#[test]
fn pieces_of_the_stream_give_the_bytes_of_the_stream() {
    let mut random = Random(29);
    for text in
        ["int3/row/sym", "int5/row/affine", "int4/g32/sym", "int7/g5/affine", "int6/tensor/sym", "int2/g1000/sym"]
    {
        let (case, scheme) = stream(&mut random, text);
        let targets: Vec<f32> = (0..case.cols).map(|_| 20.0 * random.unit() - 10.0).collect();
        let mut whole = case.clone();
        let parts = UniformCodes { codes: &mut whole.codes, scales: &case.scales, zeros: &case.zeros };
        let moved = recode_kept(Level::best(), &scheme, &KEPT, 0, parts, &targets).unwrap();
        assert!(moved > 0 && whole.codes != case.codes);
        if scheme.grouping != Grouping::Row {
            let mut row = case.clone();
            assert_eq!(row.recode(Level::best(), &targets), Ok(moved));
            assert_eq!(row.codes, whole.codes, "{text}");
        }
        let (mut pieces, mut first, mut sum) = (case.clone(), 0, 0);
        for (row, kept) in KEPT.into_iter().enumerate() {
            let range = if scheme.grouping == Grouping::Row { row..row + 1 } else { 0..usize::MAX };
            let cut = |bytes: &Vec<u8>, size: usize| {
                let end = range.end.saturating_mul(size).min(bytes.len());
                bytes[(range.start * size).min(end)..end].to_vec()
            };
            let (scales, zeros) = (cut(&case.scales, 4), cut(&case.zeros, 1));
            let parts = UniformCodes { codes: &mut pieces.codes, scales: &scales, zeros: &zeros };
            sum += recode_kept(Level::best(), &scheme, &[kept], first, parts, &targets[first..first + kept]).unwrap();
            first += kept;
        }
        assert!(pieces.codes == whole.codes && sum == moved, "{text}");
    }
}

#[test]
fn streams_that_end_too_early_are_refused() {
    let mut random = Random(31);
    let (mut case, scheme) = stream(&mut random, "int3/row/sym");
    let (needs, targets) = (case.codes.len(), vec![1.0; case.cols]);
    case.codes.pop();
    let before = case.codes.clone();
    let mut go = |kept: &[usize], targets: &[f32], scales: &[u8]| {
        let parts = UniformCodes { codes: &mut case.codes, scales, zeros: &[] };
        recode_kept(Level::best(), &scheme, kept, 0, parts, targets).unwrap_err().kind()
    };
    let scales = [0; 4 * KEPT.len()];
    assert_eq!(go(&KEPT, &targets, &scales), ErrorKind::Length { buffer: "codes", needs, has: needs - 1 });
    assert_eq!(go(&KEPT, &targets, &scales[1..]), ErrorKind::Length { buffer: "scales", needs: 28, has: 27 });
    assert_eq!(go(&[2], &[0.0], &scales), ErrorKind::Length { buffer: "targets", needs: 2, has: 1 });
    assert_eq!(
        go(&[usize::MAX, 9], &[0.0], &scales),
        ErrorKind::Length { buffer: "targets", needs: usize::MAX, has: 1 }
    );
    assert_eq!(case.codes, before);
}
