use niwaki_codes::{Scheme, Symmetry, UniformView};

use super::*;
use crate::encode_rows;
use crate::observe::{Gram, Order};

pub(super) fn uniform(text: &str) -> Uniform {
    match text.parse() {
        Ok(Scheme::Uniform(scheme)) => scheme,
        other => panic!("{other:?}"),
    }
}

/// Numbers that are not alike.
pub(super) fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|at| (((at + seed) * 7919 + at * at * 31) % 509) as f32 / 128.0 - 2.0).collect()
}

/// A matrix of inputs that go together: each row has few numbers of its own.
pub(super) fn gram(inputs: usize) -> Gram {
    let mut gram = Gram::new(inputs);
    let rows = 3 * inputs + 7;
    let own = numbers(rows * 4, 5);
    let each = |at: usize| {
        let (row, column) = (at / inputs, at % inputs);
        let few: f32 = (0..4).map(|k| own[row * 4 + k] * (((column * (k + 2)) % 7) as f32 - 3.0)).sum();
        few + numbers(1, at)[0] * if column % 3 == 0 { 2.0 } else { 0.3 }
    };
    let all: Vec<f32> = (0..rows * inputs).map(each).collect();
    gram.rows(Level::best(), &all);
    gram
}

/// Rows as they come out of an encoder.
pub(super) struct Rows {
    pub(super) decoded: Vec<f32>,
    bytes: [Vec<u8>; 3],
    pub(super) lost: Distortion,
}

pub(super) fn rows(
    scheme: &Uniform,
    x: &[f32],
    cols: usize,
    encode: impl Fn(Values<'_>, UniformOut<'_>) -> Distortion,
) -> Rows {
    let rows = x.len() / cols;
    let groups = scheme.groups(rows, cols);
    let zeros = if scheme.symmetry == Symmetry::Affine { groups } else { 0 };
    let mut bytes =
        [vec![0; rows * scheme.row_bytes(cols)], vec![0; groups * scheme.scale_type().bytes()], vec![0; zeros]];
    let values: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
    let [codes, scales, zeros] = &mut bytes;
    let lost = encode(Values::F32(&values), UniformOut { codes, scales, zeros });
    let zeros = (!bytes[2].is_empty()).then_some(bytes[2].as_slice());
    let view = UniformView::new(*scheme, rows, cols, &bytes[0], &bytes[1], zeros).unwrap();
    let mut decoded = vec![0.0; x.len()];
    view.dequantize_rows(Level::best(), 0..rows, &mut decoded).unwrap();
    Rows { decoded, bytes, lost }
}

fn gptq(level: Level, scheme: &Uniform, inverse: &Inverse, x: &[f32]) -> Rows {
    rows(scheme, x, inverse.inputs(), |values, out| encode_gptq_rows(level, scheme, inverse, values, out).unwrap())
}

/// What all outputs lose.
pub(super) fn loss(gram: &Gram, x: &[f32], y: &[f32]) -> f64 {
    let each = x.chunks(gram.inputs()).zip(y.chunks(gram.inputs()));
    let lost = |(x, y): (&[f32], &[f32])| {
        let change: Vec<f32> = x.iter().zip(y).map(|(x, y)| x - y).collect();
        gram.mean_square(&change)
    };
    each.map(lost).sum()
}

/// GPTQ as its formula has it: column by column, the inverse of what is left computed anew each time.
fn plain(
    gram: &Gram,
    damping: f64,
    order: &[usize],
    points: &[GridPoint],
    (row, group): (&[f32], usize),
    top: f32,
) -> Vec<f32> {
    let n = row.len();
    let mean = (0..n).map(|at| gram.get(at, at)).sum::<f64>() / n as f64;
    let h = |i: usize, j: usize| gram.get(i, j) + if i == j { damping * mean } else { 0.0 };
    let mut w: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
    let mut out = vec![0.0; n];
    for (place, column) in order.iter().enumerate() {
        let left = &order[place..];
        let point = points[column / group];
        let zero = f32::from(point.zero);
        let steps = (w[*column] as f32 / point.scale).clamp(-zero, top - zero).round_ties_even();
        out[*column] = steps * point.scale;
        // The first row of the inverse of what is left: H z = unit vector.
        let m = left.len();
        let mut a: Vec<Vec<f64>> = left.iter().map(|i| left.iter().map(|j| h(*i, *j)).collect()).collect();
        let mut z: Vec<f64> = (0..m).map(|at| if at == 0 { 1.0 } else { 0.0 }).collect();
        for pivot in 0..m {
            for below in pivot + 1..m {
                let times = a[below][pivot] / a[pivot][pivot];
                (pivot..m).for_each(|at| a[below][at] -= times * a[pivot][at]);
                z[below] -= times * z[pivot];
            }
        }
        for pivot in (0..m).rev() {
            z[pivot] = (z[pivot] - (pivot + 1..m).map(|at| a[pivot][at] * z[at]).sum::<f64>()) / a[pivot][pivot];
        }
        let error = (w[*column] - f64::from(out[*column])) / z[0];
        left.iter().zip(&z).for_each(|(at, z)| w[*at] -= error * z);
    }
    out
}

#[test]
fn codes_are_those_of_the_formula() {
    let (inputs, count) = (37, 5);
    let (gram, x) = (gram(inputs), numbers(inputs * count, 3));
    for (text, order) in [
        ("int4/row/sym", Order::Given),
        ("int4/row/sym", Order::Largest),
        ("int3/row/affine", Order::Given),
        ("int4/g8/sym", Order::Largest),
        ("int3/g16/affine", Order::Largest),
    ] {
        let scheme = uniform(text);
        let inverse = gram.inverse(Level::best(), 0.01, order).unwrap();
        let found = gptq(Level::best(), &scheme, &inverse, &x);
        let group = group_of(&scheme, inputs).unwrap();
        let groups = Groups::new(inverse.importance(), group);
        let top = scheme.bits.levels() as f32 - 1.0;
        for (row, decoded) in x.chunks(inputs).zip(found.decoded.chunks(inputs)) {
            let point = |(nth, x): (usize, &[f32])| {
                groups.point(Level::Scalar, (&scheme, Fit::Lsq), nth, x, &mut Vec::new()).unwrap()
            };
            let points: Vec<GridPoint> = row.chunks(group).enumerate().map(point).collect();
            assert_eq!(decoded, plain(&gram, 0.01, inverse.order(), &points, (row, group), top), "{text} {order:?}");
        }
    }
}

#[test]
fn outputs_lose_less_than_by_rounding() {
    let inputs = 160;
    let (gram, x) = (gram(inputs), numbers(inputs * 40, 9));
    for text in ["int4/row/sym", "int3/row/affine", "int4/g32/sym", "int2/g64/affine", "int3/g48/sym"] {
        let scheme = uniform(text);
        let nearest = rows(&scheme, &x, inputs, |values, out| {
            encode_rows(Level::best(), &scheme, Fit::Lsq, values, inputs, out).unwrap()
        });
        for order in [Order::Given, Order::Largest] {
            let inverse = gram.inverse(Level::best(), 0.01, order).unwrap();
            let found = gptq(Level::best(), &scheme, &inverse, &x);
            let (with, without) = (loss(&gram, &x, &found.decoded), loss(&gram, &x, &nearest.decoded));
            assert!(with < 0.6 * without, "{text} {order:?}: {with} and {without}");
            assert!(found.lost.noise > nearest.lost.noise, "{text}: the weights themselves are farther away");
        }
    }
}

#[test]
fn levels_and_parts_agree() {
    for (inputs, text) in [(1, "int4/row/sym"), (33, "int3/g8/affine"), (150, "int4/g64/sym"), (260, "int5/row/affine")]
    {
        let (gram, x, scheme) = (gram(inputs), numbers(inputs * 19, 1), uniform(text));
        for order in [Order::Given, Order::Largest] {
            let inverse = gram.inverse(Level::Scalar, 0.01, order).unwrap();
            let whole = gptq(Level::Scalar, &scheme, &inverse, &x);
            for level in Level::all() {
                assert_eq!(gptq(level, &scheme, &inverse, &x).bytes, whole.bytes, "{inputs} {level:?}");
            }
            let (first, rest) = x.split_at(inputs * 5);
            let [first, rest] = [first, rest].map(|x| gptq(Level::best(), &scheme, &inverse, x));
            for (part, all) in whole.bytes.iter().enumerate() {
                assert_eq!([first.bytes[part].clone(), rest.bytes[part].clone()].concat(), *all, "{inputs}");
            }
        }
    }
}

#[test]
fn inputs_that_do_not_go_together_leave_rounding_as_it_is() {
    let mut gram = Gram::new(8);
    for at in 0..8 {
        let mut row = [0.0; 8];
        row[at] = 2.0;
        gram.rows(Level::Scalar, &row);
    }
    let (scheme, x) = (uniform("int4/row/sym"), numbers(8 * 4, 2));
    let inverse = gram.inverse(Level::Scalar, 0.01, Order::Given).unwrap();
    let nearest = rows(&scheme, &x, 8, |values, out| {
        crate::encode_weighted_rows(Level::Scalar, &scheme, Fit::Lsq, values, &[1.0; 8], out).unwrap()
    });
    assert_eq!(gptq(Level::best(), &scheme, &inverse, &x).bytes, nearest.bytes);
}

#[test]
fn what_is_wrong_has_its_place() {
    let inverse = gram(16).inverse(Level::best(), 0.01, Order::Given).unwrap();
    let scheme = uniform("int4/g8/sym");
    let encode = |x: &[f32], scheme: &Uniform| {
        let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        let out = UniformOut { codes: &mut [0; 160], scales: &mut [0; 80], zeros: &mut [] };
        encode_gptq_rows(Level::best(), scheme, &inverse, Values::F32(&bytes), out).map_err(|e| e.kind())
    };
    let mut x = numbers(16 * 20, 4);
    assert!(encode(&x, &scheme).is_ok());
    assert_eq!(encode(&x, &uniform("int4/tensor/sym")).map(drop), Err(ErrorKind::WholeTensor));
    assert_eq!(encode(&x[..31], &scheme).map(drop), Err(ErrorKind::Inverse { needs: 16, has: 31 }));
    x[16 * 18 + 3] = f32::INFINITY;
    assert_eq!(encode(&x, &scheme).map(drop), Err(ErrorKind::NotFinite { index: 16 * 18 + 3 }));
    x[16 * 18 + 3] = 1e9;
    assert_eq!(encode(&x, &scheme).map(drop), Err(ErrorKind::ScaleOverflow { group: 36 }));
}
