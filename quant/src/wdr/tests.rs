use std::vec;
use std::vec::Vec;

use super::*;
use crate::draws::Draws;

const BOTH: [Deviation; 2] = [Deviation::Biased, Deviation::Unbiased];

/// Lopsided weights of deviation about 0.06.
fn weights(n: usize) -> Vec<f32> {
    let mut draws = Draws::new(5, 0, 0);
    (0..n).map(|_| (draws.unit() * draws.unit() * 0.3 - 0.02) as f32).collect()
}

fn of(weights: &[f32], deviation: Deviation) -> Distribution {
    Distribution::of(Level::best(), weights, deviation).unwrap().unwrap()
}

#[test]
fn uniform_weights_have_kurtosis_1_8_and_normal_ones_3() {
    let n = 200_000;
    let uniform: Vec<f32> = (0..n).map(|i| (i as f32 + 0.5) / n as f32 - 0.5).collect();
    // Of n even places the kurtosis is 1.8 - 2.4 / (n^2 - 1); weights are rounded to 2^-25 of the range.
    let flat = of(&uniform, Deviation::Biased);
    assert!((flat.kurtosis - 1.8).abs() < 1e-6 && flat.skewness.abs() < 1e-6, "{flat:?}");
    assert!((flat.deviation - (1.0f64 / 12.0).sqrt()).abs() < 1e-6);
    let mut draws = Draws::new(1, 0, 0);
    // Box and Muller.
    let normal: Vec<f32> = (0..n)
        .map(|_| ((-2.0 * draws.unit().ln()).sqrt() * (std::f64::consts::TAU * draws.unit()).cos() * 0.02) as f32)
        .collect();
    let bell = of(&normal, Deviation::Biased);
    // Standard errors: the roots of 24 / n and of 6 / n; five of each.
    assert!((bell.kurtosis - 3.0).abs() < 5.0 * (24.0 / n as f64).sqrt(), "{bell:?}");
    assert!(bell.skewness.abs() < 5.0 * (6.0 / n as f64).sqrt(), "{bell:?}");
}

#[test]
fn moments_are_those_of_the_definition() {
    let weights = weights(1003);
    for deviation in BOTH {
        let n = weights.len() as f64;
        let mean = weights.iter().map(|w| f64::from(*w)).sum::<f64>() / n;
        let power = |p: i32| weights.iter().map(|w| (f64::from(*w) - mean).powi(p)).sum::<f64>();
        let sigma = (power(2) / (n - deviation.lost())).sqrt();
        let found = of(&weights, deviation);
        // A thousand sums of doubles, each within 2^-53.
        let near = |a: f64, b: f64| (a - b).abs() <= 4000.0 * f64::EPSILON * b.abs();
        assert!(near(found.mean, mean) && near(found.deviation, sigma), "{found:?}");
        assert!(near(found.skewness, power(3) / n / sigma.powi(3)), "{found:?}");
        assert!(near(found.kurtosis, power(4) / n / sigma.powi(4)), "{found:?}");
    }
}

#[test]
fn the_gradient_is_that_of_finite_differences() {
    let weights = weights(37);
    for deviation in BOTH {
        let wdr = Wdr { skewness_factor: 0.7, skewness_target: 0.2, deviation, ..Wdr::default() };
        let loss = |w: &[f32]| wdr.loss(&of(w, deviation));
        let mut gradient = vec![1.0; weights.len()];
        let found = wdr.add_gradient(Level::best(), &weights, 0.25, &mut gradient).unwrap();
        assert_eq!(found, Some(of(&weights, deviation)));
        let mut moved = weights.clone();
        for at in 0..weights.len() {
            moved[at] = weights[at] + 1e-4;
            let (up, above) = (moved[at], loss(&moved));
            moved[at] = weights[at] - 1e-4;
            let slope = 0.25 * (above - loss(&moved)) / (f64::from(up) - f64::from(moved[at]));
            moved[at] = weights[at];
            let got = f64::from(gradient[at]) - 1.0;
            // Steps of 1e-4 to σ of 0.06 leave errors of their square; 1 + g has 2^-24.
            assert!((got - slope).abs() <= 1e-5 * slope.abs().max(1.0), "{at}: {got} {slope}");
        }
    }
}

#[test]
fn equal_weights_add_nothing() {
    let wdr = Wdr::default();
    for weights in [vec![], vec![0.3], vec![0.1f32; 1001], vec![0.0; 40]] {
        let mut gradient = vec![2.5; weights.len()];
        assert_eq!(wdr.add_gradient(Level::best(), &weights, 1.0, &mut gradient), Ok(None));
        assert!(gradient.iter().all(|g| *g == 2.5));
    }
}

#[test]
fn descending_makes_weights_flat() {
    let mut weights = weights(2000);
    let wdr = Wdr::default();
    let before = of(&weights, Deviation::Unbiased);
    for _ in 0..2000 {
        let mut gradient = vec![0.0; weights.len()];
        wdr.add_gradient(Level::best(), &weights, 1.0, &mut gradient).unwrap();
        weights.iter_mut().zip(&gradient).for_each(|(w, g)| *w -= 0.05 * g);
    }
    let after = of(&weights, Deviation::Unbiased);
    assert!(wdr.loss(&before) > 1.0 && wdr.loss(&after) < 0.01 * wdr.loss(&before), "{before:?} {after:?}");
}

#[test]
fn every_level_gives_the_same() {
    for n in [1, 2, 15, 16, 17, 53, 1000] {
        let weights = weights(n);
        let run = |level| {
            let mut gradient = vec![0.5; n];
            let found = Wdr::default().add_gradient(level, &weights, 1.0, &mut gradient).unwrap();
            (found, gradient)
        };
        assert!(Level::all().all(|level| run(level) == run(Level::Scalar)));
    }
}

#[test]
fn weights_that_are_no_numbers_and_short_buffers_are_refused() {
    let kind = |weights: &[f32], n: usize| {
        Wdr::default().add_gradient(Level::Scalar, weights, 1.0, &mut vec![0.0; n]).unwrap_err().kind()
    };
    assert_eq!(kind(&[0.0, 1.0, f32::NAN], 3), ErrorKind::NotFinite { index: 2 });
    assert_eq!(kind(&[f32::INFINITY, 1.0], 2), ErrorKind::NotFinite { index: 0 });
    assert_eq!(kind(&[0.0, 1.0], 3), ErrorKind::Length { buffer: "gradient", needs: 2, has: 3 });
}
