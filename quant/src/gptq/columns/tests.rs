use super::super::tests::{gram, loss, numbers, rows, uniform};
use super::*;
use crate::observe::{Gram, Order};
use crate::{ErrorKind, encode_gptq_rows, encode_rows};

fn columns(level: Level, scheme: &Uniform, inverse: &Inverse, x: &[f32]) -> Vec<f32> {
    let cols = x.len() / inverse.inputs();
    rows(scheme, x, cols, |values, out| encode_gptq_columns(level, scheme, inverse, values, out).unwrap()).decoded
}

fn turned(all: &[f32], cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|col| all.iter().skip(col).step_by(cols).copied()).collect()
}

/// GPTQ as its formula has it: input by input, the inverse of what is left computed anew each time.
fn plain(gram: &Gram, order: &[usize], scheme: &Uniform, x: &[f32], group: usize) -> Vec<f32> {
    let (n, cols) = (gram.inputs(), x.len() / gram.inputs());
    let mean = (0..n).map(|at| gram.get(at, at)).sum::<f64>() / n as f64;
    let h = |i: usize, j: usize| gram.get(i, j) + if i == j { 0.01 * mean } else { 0.0 };
    let groups = Groups::new(&vec![1.0; cols], group);
    let top = scheme.bits.levels() as f32 - 1.0;
    let mut w: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    let mut out = vec![0.0; x.len()];
    for (place, input) in order.iter().enumerate() {
        let left = &order[place..];
        let row: Vec<f32> = w[input * cols..][..cols].iter().map(|w| *w as f32).collect();
        for (nth, (x, out)) in row.chunks(group).zip(out[input * cols..][..cols].chunks_mut(group)).enumerate() {
            let point = groups.point(Level::Scalar, (scheme, Fit::Lsq), nth, x, &mut Vec::new()).unwrap();
            let zero = f32::from(point.zero);
            for (x, out) in x.iter().zip(out) {
                let steps = if point.scale == 0.0 { 0.0 } else { x / point.scale };
                *out = steps.clamp(-zero, top - zero).round_ties_even() * point.scale;
            }
        }
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
        for col in 0..cols {
            let error = (w[input * cols + col] - f64::from(out[input * cols + col])) / z[0];
            left.iter().zip(&z).for_each(|(at, z)| w[at * cols + col] -= error * z);
        }
    }
    out
}

#[test]
fn codes_are_those_of_the_formula() {
    let (inputs, cols) = (37, 21);
    let (gram, x) = (gram(inputs), numbers(inputs * cols, 3));
    for text in ["int4/row/sym", "int3/row/affine", "int4/g8/sym", "int3/g16/affine", "int8/g1/sym"] {
        let scheme = uniform(text);
        let group = group_of(&scheme, cols).unwrap();
        for order in [Order::Given, Order::Largest] {
            let inverse = gram.inverse(Level::best(), 0.01, order).unwrap();
            let found = columns(Level::best(), &scheme, &inverse, &x);
            assert_eq!(found, plain(&gram, inverse.order(), &scheme, &x, group), "{text} {order:?}");
        }
    }
}

#[test]
fn where_every_weight_has_its_grid_rows_and_columns_are_one() {
    let (inputs, outputs) = (150, 40);
    let (gram, x) = (gram(inputs), numbers(inputs * outputs, 11));
    let inverse = gram.inverse(Level::best(), 0.01, Order::Given).unwrap();
    // Grids with a zero point are found from weighted sums of other rounding.
    let scheme = uniform("int2/g1/sym");
    let by_input = columns(Level::best(), &scheme, &inverse, &x);
    let by_output = rows(&scheme, &turned(&x, outputs), inputs, |values, out| {
        encode_gptq_rows(Level::best(), &scheme, &inverse, values, out).unwrap()
    });
    assert_eq!(turned(&by_input, outputs), by_output.decoded);
}

#[test]
fn outputs_lose_less_than_by_rounding() {
    let (inputs, outputs) = (160, 48);
    let (gram, x) = (gram(inputs), numbers(inputs * outputs, 9));
    for text in ["int4/row/sym", "int3/row/affine", "int4/g32/sym", "int2/g16/affine", "int3/g24/sym"] {
        let scheme = uniform(text);
        let nearest = rows(&scheme, &x, outputs, |values, out| {
            encode_rows(Level::best(), &scheme, Fit::Lsq, values, outputs, out).unwrap()
        });
        let lost = |y: &[f32]| loss(&gram, &turned(&x, outputs), &turned(y, outputs));
        for order in [Order::Given, Order::Largest] {
            let inverse = gram.inverse(Level::best(), 0.01, order).unwrap();
            let found = rows(&scheme, &x, outputs, |values, out| {
                encode_gptq_columns(Level::best(), &scheme, &inverse, values, out).unwrap()
            });
            let (with, without) = (lost(&found.decoded), lost(&nearest.decoded));
            assert!(with < 0.6 * without, "{text} {order:?}: {with} and {without}");
            assert!(found.lost.noise > nearest.lost.noise, "{text}: the weights themselves are farther away");
        }
    }
}

#[test]
fn levels_and_bands_of_columns_agree() {
    for (inputs, cols, text) in
        [(1, 5, "int4/row/sym"), (33, 24, "int3/g8/affine"), (260, 80, "int4/g16/sym"), (140, 70, "int5/row/affine")]
    {
        let (gram, x, scheme) = (gram(inputs), numbers(inputs * cols, 1), uniform(text));
        for order in [Order::Given, Order::Largest] {
            let inverse = gram.inverse(Level::Scalar, 0.01, order).unwrap();
            let whole = columns(Level::Scalar, &scheme, &inverse, &x);
            for level in Level::all() {
                assert_eq!(columns(level, &scheme, &inverse, &x), whole, "{inputs} {level:?}");
            }
            if group_of(&scheme, cols).unwrap() == cols {
                continue;
            }
            let part = |cut: Range<usize>| -> Vec<f32> {
                let band: Vec<f32> = x.chunks(cols).flat_map(|row| row[cut.clone()].to_vec()).collect();
                turned(&columns(Level::best(), &scheme, &inverse, &band), cut.len())
            };
            assert_eq!([part(0..16), part(16..cols)].concat(), turned(&whole, cols), "{inputs}");
        }
    }
}

#[test]
fn what_is_wrong_has_its_place() {
    let inverse = gram(16).inverse(Level::best(), 0.01, Order::Largest).unwrap();
    let scheme = uniform("int4/g8/sym");
    let encode = |x: &[f32], scheme: &Uniform| {
        let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        let out = UniformOut { codes: &mut [0; 160], scales: &mut [0; 96], zeros: &mut [] };
        encode_gptq_columns(Level::best(), scheme, &inverse, Values::F32(&bytes), out).map_err(|e| e.kind())
    };
    // Groups of eight: three of each row of twenty.
    let mut x = numbers(16 * 20, 4);
    assert!(encode(&x, &scheme).is_ok());
    assert_eq!(encode(&x, &uniform("int4/tensor/sym")).map(drop), Err(ErrorKind::WholeTensor));
    assert_eq!(encode(&x[..31], &scheme).map(drop), Err(ErrorKind::Inverse { needs: 16, has: 31 }));
    x[7 * 20 + 13] = f32::INFINITY;
    assert_eq!(encode(&x, &scheme).map(drop), Err(ErrorKind::NotFinite { index: 7 * 20 + 13 }));
    let first = inverse.order()[0];
    x[7 * 20 + 13] = 0.0;
    x[first * 20 + 13] = 1e9;
    assert_eq!(encode(&x, &scheme).map(drop), Err(ErrorKind::ScaleOverflow { group: first * 3 + 1 }));
}
