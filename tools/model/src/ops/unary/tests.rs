use half::f16;

use super::*;
use crate::attributes::Attribute;
use crate::ops::trial::{definition, elements, run, simple, tensor};

const ALL: [&str; 40] = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "FastGelu",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "QuickGelu",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
];

#[test]
fn single_and_double_floats_agree() {
    let x: Vec<f32> = (-400..=400).map(|k| k as f32 / 37.0).collect();
    for name in ALL {
        let of = if ["FastGelu", "QuickGelu"].contains(&name) { "com.microsoft" } else { "" };
        let definition = Definition { domain: of.to_owned(), ..definition(name, &[]) };
        let single = run(&definition, &[Some(tensor(&[801], &x))]).unwrap();
        let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let double = run(&definition, &[Some(tensor(&[801], &wide))]).unwrap();
        for (x, (y, truth)) in x.iter().zip(elements::<f32>(&single[0]).iter().zip(elements::<f64>(&double[0]))) {
            let near = (f64::from(*y) - truth).abs() <= 2e-6 * truth.abs().max(0.5);
            assert!(near || (y.is_nan() && truth.is_nan()) || f64::from(*y) == truth, "{name}({x}): {y}, not {truth}");
        }
    }
}

#[test]
fn every_level_gives_the_same_bits() {
    let x: Vec<f32> = (0..70_001).map(|k| (k as f32 - 35_000.0) / 317.0).collect();
    for name in ALL {
        let kernel = Function::named(name).unwrap().kernel();
        let mut truth = x.clone();
        kernel(Level::Scalar, &mut truth, [0.5, 0.25]);
        for level in Level::all() {
            let mut y = x.clone();
            kernel(level, &mut y, [0.5, 0.25]);
            assert!(y.iter().zip(&truth).all(|(y, t)| y.to_bits() == t.to_bits()), "{name} at {}", level.name());
        }
        let mut y = x.clone();
        apply(Function::named(name).unwrap(), [0.5, 0.25], &mut y);
        assert!(y.iter().zip(&truth).all(|(y, t)| y.to_bits() == t.to_bits()), "{name} in parts");
    }
}

#[test]
fn parameters_are_read() {
    let x = tensor(&[4], &[-2.0f32, -0.25, 0.25, 2.0]);
    type Case = (&'static str, &'static [(&'static str, f32)], [f32; 4]);
    let cases: [Case; 5] = [
        ("LeakyRelu", &[], [-0.02, -0.0025, 0.25, 2.0]),
        ("LeakyRelu", &[("alpha", 0.5)], [-1.0, -0.125, 0.25, 2.0]),
        ("HardSigmoid", &[("alpha", 1.0), ("beta", 0.25)], [0.0, 0.0, 0.5, 1.0]),
        ("Shrink", &[("lambd", 1.0), ("bias", 0.5)], [-1.5, 0.0, 0.0, 1.5]),
        ("ThresholdedRelu", &[("alpha", -1.0)], [0.0, -0.25, 0.25, 2.0]),
    ];
    for (op, attributes, y) in cases {
        let attributes: Vec<_> = attributes.iter().map(|(name, x)| (*name, Attribute::Float(*x))).collect();
        let found = run(&definition(op, &attributes), &[Some(x.clone())]).unwrap();
        assert_eq!(elements::<f32>(&found[0]), y, "{op}");
    }
}

#[test]
fn other_types_are_computed_or_refused() {
    let halves = [-1.5f32, 0.0, 2.5].map(f16::from_f32);
    assert_eq!(elements::<f16>(&simple("Relu", &[tensor(&[3], &halves)]).unwrap())[2], f16::from_f32(2.5));
    assert_eq!(elements::<i8>(&simple("Abs", &[tensor(&[3], &[-3i8, 0, 3])]).unwrap()), [3, 0, 3]);
    assert_eq!(elements::<i64>(&simple("Sign", &[tensor(&[3], &[-3i64, 0, 3])]).unwrap()), [-1, 0, 1]);
    assert_eq!(elements::<u8>(&simple("Sign", &[tensor(&[2], &[0u8, 9])]).unwrap()), [0, 1]);
    let refused = simple("Exp", &[tensor(&[1], &[1i32])]).unwrap_err().to_string();
    assert_eq!(refused, "input 0 is I32, a float expected");
}
