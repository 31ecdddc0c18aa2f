use crate::attributes::Attribute;
use crate::ops::trial::{assert_close, definition, run, simple, tensor};
use crate::tensor::Tensor;

#[test]
fn windows_are_those_of_their_formulas() {
    let hann = simple("HannWindow", &[Tensor::scalar(4i64)]).unwrap();
    assert_close(&hann, &[0.0, 0.5, 1.0, 0.5]);
    let even = definition("HannWindow", &[("periodic", Attribute::Int(0))]);
    assert_close(&run(&even, &[Some(Tensor::scalar(3i64))]).unwrap()[0], &[0.0, 1.0, 0.0]);
    assert_close(&run(&even, &[Some(Tensor::scalar(1i64))]).unwrap()[0], &[1.0]);
    let blackman = simple("BlackmanWindow", &[Tensor::scalar(2i64)]).unwrap();
    assert_close(&blackman, &[0.0, 1.0]);
    assert!(simple("HammingWindow", &[Tensor::scalar(-1i64)]).is_err());
    assert!(simple("HammingWindow", &[Tensor::scalar(i64::MAX)]).is_err());
}

/// By the definition, and for lengths with several factors, one, and none.
#[test]
fn spectra_are_sums_of_turns() {
    for len in [1usize, 2, 7, 8, 12, 30] {
        let x: Vec<f32> = (0..2 * len).map(|at| ((at * at * 7 + 3) % 11) as f32 - 5.0).collect();
        let mut truth = Vec::new();
        for k in 0..len {
            let mut sum = [0f64; 2];
            for n in 0..len {
                let (sin, cos) = (-std::f64::consts::TAU * (k * n) as f64 / len as f64).sin_cos();
                let (re, im) = (f64::from(x[2 * n]), f64::from(x[2 * n + 1]));
                sum = [sum[0] + re * cos - im * sin, sum[1] + re * sin + im * cos];
            }
            truth.extend(sum);
        }
        let made = simple("DFT", &[tensor(&[1, len, 2], &x)]).unwrap();
        assert_close(&made, &truth);
        let back = run(&definition("DFT", &[("inverse", Attribute::Int(1))]), &[Some(made)]).unwrap();
        assert_close(&back[0], &x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
    }
}
