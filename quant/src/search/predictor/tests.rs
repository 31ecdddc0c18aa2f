use std::vec;
use std::vec::Vec;

use niwaki_codes::{Bits, Widths};

use super::*;
use crate::forms::{LayerBits, LayerSize, Style};

fn space(layers: usize) -> Space {
    let layer = |fixed| LayerSize { weights: 100, inputs: 50, fixed };
    let mut all = vec![layer(false); layers];
    (all[0], all[layers - 1]) = (layer(true), layer(true));
    Space::new(all, Widths::ALL).unwrap()
}

/// What configurations score in a made-up network: something is lost by every layer, more by narrow ones.
fn accuracy(one: &Configuration) -> f32 {
    let lost = |at: usize, bits: Bits| f64::from(1 + (at * 5 % 7) as u32) / f64::from(1u32 << bits.get());
    let layers = one.layers.iter().enumerate();
    let all: f64 = layers.map(|(at, bits)| lost(at, bits.weights) + lost(at + 2, bits.activations)).sum();
    let style = if one.style.granularity == Granularity::Row { 0.03 } else { 0.0 };
    (0.9 + style - 0.02 * all) as f32
}

fn pairs(space: &Space, count: u64) -> Vec<Pair> {
    let one = |item: u64| space.random(Style::ALL[item as usize % 8], 1, item);
    (0..count).map(|item| (one(item), accuracy(&one(item)))).collect()
}

fn trained(space: &Space, pairs: &[Pair], settings: Settings, seed: u64) -> (Predictor, HeldOut) {
    let mut training = Training::new(Level::best(), space, pairs, settings, seed).unwrap();
    while training.epoch().is_some() {}
    training.finish()
}

#[test]
fn a_configuration_is_written_as_ones() {
    let space = space(3);
    let bits = |bits| Bits::new(bits).unwrap();
    let style = Style { granularity: Granularity::Row, weights: Symmetry::Symmetric, activations: Symmetry::Affine };
    let one = space.uniform(style, LayerBits { weights: bits(2), activations: bits(8) });
    let numbers = encode(&space, &one).unwrap();
    let places: Vec<usize> = (0..numbers.len()).filter(|at| numbers[*at] == 1.0).collect();
    // Row, symmetric, affine; of the middle layer the first width of weights and the last of activations.
    assert_eq!((numbers.len(), places), (6 + 14 * 3, vec![1, 2, 5, 6 + 7, 6 + 21 + 7 + 6]));
    let seen: Vec<Vec<f32>> =
        Style::ALL.map(|style| encode(&space, &Configuration { style, ..one.clone() }).unwrap()).to_vec();
    assert!((0..8).all(|at| seen.iter().filter(|other| **other == seen[at]).count() == 1));
}

/// The loss of a batch in doubles, by the definition.
fn naive(tensors: &[Vec<f64>], units: usize, ones: &[&[usize]], targets: &[f32]) -> f64 {
    let mut sum = 0.0;
    for (ones, target) in ones.iter().zip(targets) {
        let mut before: Vec<f64> =
            (0..tensors[0].len() / units).map(|at| f64::from(u8::from(ones.contains(&at)))).collect();
        for layer in tensors[..tensors.len() - 1].chunks(2) {
            let unit = |j: usize| {
                let all: f64 = before.iter().enumerate().map(|(i, x)| x * layer[0][i * units + j]).sum();
                (all + layer[1][j]).max(0.0)
            };
            before = (0..units).map(unit).collect();
        }
        let out: f64 = before.iter().zip(&tensors[tensors.len() - 1]).map(|(x, w)| x * w).sum();
        let d = (out - f64::from(*target)).abs();
        sum += if d < 1.0 { 0.5 * d * d } else { d - 0.5 };
    }
    sum / targets.len() as f64
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let (units, inputs) = (11, 14);
    let network = Network::new(inputs, units, 3, &mut Draws::new(3, 0, 0));
    let ones: [&[usize]; 5] = [&[0, 3, 9], &[1, 2], &[0, 5, 13], &[7], &[1, 5, 9, 10]];
    // One error is beyond 1, where the loss is straight.
    let targets = [0.5, 0.1, -0.3, 2.5, 0.9];
    let (loss, gradients) = network.gradients(Level::best(), &ones, &targets);
    let mut tensors: Vec<Vec<f64>> =
        network.tensors.iter().map(|tensor| tensor.iter().map(|w| f64::from(*w)).collect()).collect();
    assert!((loss - naive(&tensors, units, &ones, &targets)).abs() < 1e-6);
    let largest = gradients.iter().flatten().fold(0.0f32, |most, g| most.max(g.abs()));
    for tensor in 0..tensors.len() {
        for at in 0..tensors[tensor].len() {
            let middle = tensors[tensor][at];
            let mut at_step = |step: f64| {
                tensors[tensor][at] = middle + step;
                naive(&tensors, units, &ones, &targets)
            };
            let slope = (at_step(1e-6) - at_step(-1e-6)) / 2e-6;
            tensors[tensor][at] = middle;
            let got = f64::from(gradients[tensor][at]);
            // Sums of up to 14 floats in each of four layers; differences of doubles have 1e-10 here.
            assert!(
                (got - slope).abs() <= 60.0 * f64::from(f32::EPSILON) * f64::from(largest) + 1e-9,
                "{tensor} {at}: {got} {slope}"
            );
        }
    }
}

#[test]
fn it_learns_what_layers_lose() {
    let space = space(10);
    let pairs = pairs(&space, 1500);
    let settings = Settings { hidden: 3, units: 64, rate: 2e-3, batch: 32, epochs: 30, ..Settings::default() };
    let (predictor, held_out) = trained(&space, &pairs, settings, 0);
    assert!(held_out.tau.unwrap() > 0.9 && held_out.rmse < 0.02, "{held_out:?}");
    assert_eq!(held_out.pairs, 300);
    let fresh: Vec<Configuration> = (0..300).map(|item| space.random(Style::ALL[6], 77, item)).collect();
    let measured: Vec<f32> = fresh.iter().map(accuracy).collect();
    assert!(kendall(&predictor.predict_all(&fresh).unwrap(), &measured).unwrap() > 0.9);
}

#[test]
fn the_same_seed_gives_the_same_predictor_on_every_level() {
    let space = space(4);
    let pairs = pairs(&space, 100);
    let settings = Settings { hidden: 2, units: 37, batch: 17, epochs: 3, ..Settings::default() };
    let run = |level, seed| {
        let mut training = Training::new(level, &space, &pairs, settings, seed).unwrap();
        let losses: Vec<f64> = core::iter::from_fn(|| training.epoch()).collect();
        let (predictor, held_out) = training.finish();
        (losses, predictor.network, held_out)
    };
    let first = run(Level::Scalar, 5);
    assert_eq!(first.0.len(), 3);
    assert!(Level::all().all(|level| run(level, 5) == first));
    assert!(run(Level::Scalar, 6) != first);
}

#[test]
fn one_is_predicted_as_among_many() {
    let space = space(5);
    let pairs = pairs(&space, 200);
    let settings = Settings { hidden: 2, units: 24, epochs: 2, ..Settings::default() };
    let (predictor, _) = trained(&space, &pairs, settings, 0);
    let all: Vec<Configuration> = pairs.into_iter().map(|pair| pair.0).collect();
    let many = predictor.predict_all(&all).unwrap();
    assert!(all.iter().zip(&many).all(|(one, many)| predictor.predict(one) == Ok(*many)));
}

#[test]
fn too_few_pairs_and_odd_ones_are_refused() {
    let space = space(5);
    let mut pairs = pairs(&space, 20);
    let kind = |pairs: &[Pair], settings| {
        Training::new(Level::Scalar, &space, pairs, settings, 0).map(|_| ()).unwrap_err().kind()
    };
    let few = ErrorKind::Setting { name: "pairs", found: 9.0, low: 10.0, high: 1e9 };
    assert_eq!(kind(&pairs[..9], Settings::default()), few);
    let none = Settings { units: 0, ..Settings::default() };
    assert!(matches!(kind(&pairs, none), ErrorKind::Setting { name: "units", .. }));
    pairs[3].1 = f32::NAN;
    assert_eq!(kind(&pairs, Settings::default()), ErrorKind::Score { configuration: 3 });
    pairs[3].1 = 0.5;
    pairs[4].0.layers.pop();
    assert!(matches!(kind(&pairs, Settings::default()), ErrorKind::Length { needs: 5, has: 4, .. }));
}
