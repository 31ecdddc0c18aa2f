use half::f16;

use crate::attributes::{Attribute, Definition};
use crate::ops::trial::{assert_close, definition, elements, run, simple, tensor};
use crate::tensor::Tensor;

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|k| ((k * 29) % 23) as f32 / 7.0 - 1.0).collect()
}

/// Mean and mean square around it.
fn moments(x: &[f64]) -> (f64, f64) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    (mean, x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64)
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

#[test]
fn layers_are_normalized_with_factors_of_any_shape() {
    let x = numbers(2 * 3 * 20);
    let (scale, bias) = (numbers(20), numbers(20));
    let mut truth = Vec::new();
    for row in wide(&x).chunks(20) {
        let (mean, variance) = moments(row);
        let each = row.iter().zip(scale.iter().zip(&bias));
        truth.extend(each.map(|(x, (a, b))| (x - mean) / (variance + 1e-5).sqrt() * f64::from(*a) + f64::from(*b)));
    }
    let x = tensor(&[2, 3, 4, 5], &x);
    let layer = definition("LayerNormalization", &[("axis", Attribute::Int(2))]);
    let factors = [Some(tensor(&[4, 5], &scale)), Some(tensor(&[4, 5], &bias))];
    let y = run(&layer, &[Some(x.clone()), factors[0].clone(), factors[1].clone()]).unwrap();
    assert_close(&y[0], &truth);
    assert_eq!((y[1].shape(), y[2].shape()), (&[2, 3, 1, 1][..], &[2, 3, 1, 1][..]));
    assert!((elements::<f32>(&y[1])[0] as f64 - moments(&wide(&elements::<f32>(&x))[..20]).0).abs() < 1e-6);
    // Factors that broadcast: one for all of a row's columns.
    let one = run(&layer, &[Some(x.clone()), Some(tensor(&[4, 1], &[2.0f32; 4]))]).unwrap();
    let twice = run(&layer, &[Some(x), Some(tensor(&[4, 5], &[2.0f32; 20]))]).unwrap();
    assert_eq!(elements::<f32>(&one[0]), elements::<f32>(&twice[0]));
}

#[test]
fn roots_of_mean_squares_divide() {
    let (x, scale) = (numbers(3 * 8), numbers(8));
    let mut truth = Vec::new();
    for row in wide(&x).chunks(8) {
        let square = row.iter().map(|x| x * x).sum::<f64>() / 8.0;
        truth.extend(row.iter().zip(&scale).map(|(x, a)| x / (square + 1e-5).sqrt() * f64::from(*a)));
    }
    let inputs = [tensor(&[3, 8], &x), tensor(&[8], &scale)];
    for op in ["RMSNormalization", "SimplifiedLayerNormalization"] {
        assert_close(&simple(op, &inputs).unwrap(), &truth);
    }
    let halves = simple("RMSNormalization", &inputs.map(|t| crate::ops::halves::Half::F16.tensor(&t))).unwrap();
    assert!(elements::<f16>(&halves).iter().zip(&truth).all(|(y, t)| (y.to_f64() - t).abs() < 1e-2));
}

#[test]
fn sums_are_normalized_and_given_back() {
    let (x, skip, gamma) = (numbers(16), vec![0.5f32; 16], vec![1.0f32; 8]);
    let skip_rms = Definition {
        domain: "com.microsoft".into(),
        ..definition("SkipSimplifiedLayerNormalization", &[("epsilon", Attribute::Float(1e-5))])
    };
    let given = [tensor(&[2, 8], &x), tensor(&[2, 8], &skip), tensor(&[8], &gamma)].map(Some);
    let y = run(&skip_rms, &given).unwrap();
    let sum = simple("Add", &[tensor(&[2, 8], &x), tensor(&[1], &[0.5f32])]).unwrap();
    assert_eq!(elements::<f32>(&y[3]), elements::<f32>(&sum));
    let plain = simple("RMSNormalization", &[sum.clone(), tensor(&[8], &gamma)]).unwrap();
    assert_eq!(elements::<f32>(&y[0]), elements::<f32>(&plain));
    let skip_layer = Definition { op: "SkipLayerNormalization".into(), ..skip_rms };
    let bias = tensor(&[8], &[1.0f32; 8]);
    let given = [&given[..], &[Some(bias.clone()), Some(bias.clone())]].concat();
    let y = run(&skip_layer, &given).unwrap();
    let moved = simple("Add", &[sum, bias.clone()]).unwrap();
    let plain = simple("LayerNormalization", &[moved, tensor(&[8], &gamma), bias]).unwrap();
    assert_eq!(elements::<f32>(&y[0]), elements::<f32>(&plain));
}

#[test]
fn batches_are_normalized_by_channel() {
    for shape in [&[2usize, 3, 2, 2][..], &[8, 3], &[2, 3, 4]] {
        let x = numbers(24);
        let plane: usize = shape[2..].iter().product();
        let by = [[2.0f32, -1.0, 0.5], [0.0, 1.0, 2.0], [0.5, 0.25, -1.0], [1.0, 4.0, 0.25]];
        let inputs: Vec<_> = std::iter::once(tensor(shape, &x)).chain(by.map(|x| tensor(&[3], &x))).collect();
        let truth: Vec<f64> = x
            .iter()
            .enumerate()
            .map(|(at, x)| {
                let [scale, bias, mean, variance] = by.map(|all| f64::from(all[at / plane % 3]));
                (f64::from(*x) - mean) / (variance + 1e-5).sqrt() * scale + bias
            })
            .collect();
        assert_close(&simple("BatchNormalization", &inputs).unwrap(), &truth);
    }
    let short = [tensor(&[1, 2, 1], &[0.0f32; 2]), tensor(&[1], &[1.0f32])];
    let refused = simple("BatchNormalization", &short).unwrap_err().to_string();
    assert_eq!(refused, "input 1 of 1, 2 channels expected");
}

#[test]
fn instances_and_groups_have_their_own_moments() {
    let x = numbers(2 * 4 * 6);
    let (scale, bias) = ([1.0f32, 2.0, -1.0, 0.5], [0.0f32, 1.0, 2.0, 3.0]);
    for (op, each) in [("InstanceNormalization", 1), ("GroupNormalization", 2)] {
        let mut truth = Vec::new();
        for (group, row) in wide(&x).chunks(6 * each).enumerate() {
            let (mean, variance) = moments(row);
            truth.extend(row.iter().enumerate().map(|(at, x)| {
                let channel = (group * each + at / 6) % 4;
                (x - mean) / (variance + 1e-5).sqrt() * f64::from(scale[channel]) + f64::from(bias[channel])
            }));
        }
        let definition = definition(op, &[("num_groups", Attribute::Int(2))]);
        let inputs = [tensor(&[2, 4, 2, 3], &x), tensor(&[4], &scale), tensor(&[4], &bias)].map(Some);
        assert_close(&run(&definition, &inputs).unwrap()[0], &truth);
    }
    let odd = definition("GroupNormalization", &[("num_groups", Attribute::Int(3))]);
    let inputs = [tensor(&[2, 4, 2, 3], &x), tensor(&[4], &scale), tensor(&[4], &bias)].map(Some);
    assert_eq!(run(&odd, &inputs).unwrap_err().to_string(), "4 channels, a multiple of 3 groups expected");
}

#[test]
fn norms_and_neighbours_divide() {
    let x = tensor(&[1, 2], &[3.0f32, 4.0]);
    assert_close(&simple("LpNormalization", &[x]).unwrap(), &[0.6, 0.8]);
    assert_close(&simple("LpNormalization", &[tensor(&[2], &[0.0f32, 0.0])]).unwrap(), &[0.0, 0.0]);
    let attributes = [
        ("size", Attribute::Int(2)),
        ("alpha", Attribute::Float(2.0)),
        ("beta", Attribute::Float(1.0)),
        ("bias", Attribute::Float(1.0)),
    ];
    // Of two channels that are summed, the second is the next one.
    let x = tensor(&[1, 3, 1], &[1.0f32, 2.0, 3.0]);
    let y = run(&definition("LRN", &attributes), &[Some(x)]).unwrap();
    assert_close(&y[0], &[1.0 / 6.0, 2.0 / 14.0, 3.0 / 10.0]);
    let x = Tensor::of([1, 2, 1, 2], vec![1.0f32, 3.0, 2.0, 6.0]).unwrap();
    assert_close(&simple("MeanVarianceNormalization", &[x]).unwrap(), &[-1.0, 1.0, -1.0, 1.0]);
}
