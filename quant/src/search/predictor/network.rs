//! The perceptron: forward, backward, and Adam.

use alloc::vec;
use alloc::vec::Vec;

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use super::product::{Left, add_product};
use crate::draws::Draws;

/// Adam's constants (Kingma and Ba, 2015).
const BETAS: [f32; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;

/// A perceptron whose inputs are 0 or 1.
///
/// Weights of a layer are `inputs x units`, one row an input. `tensors` has for each hidden layer its weights and its biases,
/// then the weights of the output.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Network {
    units: usize,
    hidden: usize,
    pub(super) tensors: Vec<Vec<f32>>,
}

impl Network {
    /// Weights and biases between plus and minus the root of 1 over the inputs of their layer.
    pub(super) fn new(inputs: usize, units: usize, hidden: usize, draws: &mut Draws) -> Self {
        let mut drawn = |count: usize, inputs: usize| {
            let bound = 1.0 / (inputs as f64).sqrt();
            (0..count).map(|_| (bound * (2.0 * draws.unit() - 1.0)) as f32).collect()
        };
        let mut tensors = Vec::with_capacity(2 * hidden + 1);
        for layer in 0..hidden {
            let inputs = if layer == 0 { inputs } else { units };
            tensors.push(drawn(inputs * units, inputs));
            tensors.push(drawn(units, inputs));
        }
        tensors.push(drawn(units, units));
        Self { units, hidden, tensors }
    }

    /// The output for each example, of which the places of the ones are given.
    pub(super) fn run(&self, level: Level, ones: &[&[usize]]) -> Vec<f32> {
        let layers = self.layers(level, ones);
        self.output(level, &layers)
    }

    /// What the units of each hidden layer give, an example a row.
    fn layers(&self, level: Level, ones: &[&[usize]]) -> Vec<Vec<f32>> {
        let mut layers: Vec<Vec<f32>> = Vec::with_capacity(self.hidden);
        for layer in 0..self.hidden {
            let (weights, biases) = (&self.tensors[2 * layer], &self.tensors[2 * layer + 1]);
            let mut out = biases.repeat(ones.len());
            match layers.last() {
                None => out.chunks_exact_mut(self.units).zip(ones).for_each(|(out, ones)| {
                    ones.iter().for_each(|one| add(level, 1.0, &weights[one * self.units..][..self.units], out));
                }),
                Some(before) => {
                    let before = Left { data: before, row: self.units, step: 1 };
                    add_product(level, before, weights, [self.units; 2], &mut out);
                }
            }
            out.iter_mut().for_each(|x| *x = if *x > 0.0 { *x } else { 0.0 });
            layers.push(out);
        }
        layers
    }

    fn output(&self, level: Level, layers: &[Vec<f32>]) -> Vec<f32> {
        let (Some(last), Some(weights)) = (layers.last(), self.tensors.last()) else { return Vec::new() };
        let mut out = vec![0.0; last.len() / self.units];
        let last = Left { data: last, row: self.units, step: 1 };
        add_product(level, last, weights, [1, self.units], &mut out);
        out
    }

    /// The mean smooth L1 loss of a batch, and its gradient, tensor by tensor.
    pub(super) fn gradients(&self, level: Level, ones: &[&[usize]], targets: &[f32]) -> (f64, Vec<Vec<f32>>) {
        let (units, count) = (self.units, ones.len());
        let layers = self.layers(level, ones);
        let out = self.output(level, &layers);
        let (loss, slopes) = smooth_l1(&out, targets);
        let mut gradients: Vec<Vec<f32>> = self.tensors.iter().map(|tensor| vec![0.0; tensor.len()]).collect();
        let last = 2 * self.hidden;
        let mut deltas = vec![0.0; count * units];
        for (example, slope) in slopes.iter().enumerate() {
            let row = example * units..(example + 1) * units;
            add(level, *slope, &layers[self.hidden - 1][row.clone()], &mut gradients[last]);
            add(level, *slope, &self.tensors[last], &mut deltas[row]);
        }
        for layer in (0..self.hidden).rev() {
            for (delta, unit) in deltas.iter_mut().zip(&layers[layer]) {
                *delta = if *unit > 0.0 { *delta } else { 0.0 };
            }
            deltas.chunks_exact(units).for_each(|row| add(level, 1.0, row, &mut gradients[2 * layer + 1]));
            if layer == 0 {
                for (row, ones) in deltas.chunks_exact(units).zip(ones) {
                    ones.iter().for_each(|one| add(level, 1.0, row, &mut gradients[0][one * units..][..units]));
                }
                break;
            }
            let before = Left { data: &layers[layer - 1], row: 1, step: units };
            add_product(level, before, &deltas, [units, count], &mut gradients[2 * layer]);
            let turned = transposed(&self.tensors[2 * layer], units);
            let mut next = vec![0.0; deltas.len()];
            add_product(level, Left { data: &deltas, row: units, step: 1 }, &turned, [units; 2], &mut next);
            deltas = next;
        }
        (loss, gradients)
    }
}

/// The mean loss and its slope by each output: `d^2 / 2` of errors d below 1, `|d| - 1/2` of others.
fn smooth_l1(out: &[f32], targets: &[f32]) -> (f64, Vec<f32>) {
    let share = 1.0 / out.len() as f32;
    let errors = out.iter().zip(targets).map(|(out, target)| out - target);
    let loss = |d: f32| f64::from(if d.abs() < 1.0 { 0.5 * d * d } else { d.abs() - 0.5 });
    let mean = errors.clone().map(loss).sum::<f64>() / out.len() as f64;
    (mean, errors.map(|d| d.clamp(-1.0, 1.0) * share).collect())
}

/// A square matrix, rows and columns exchanged.
fn transposed(matrix: &[f32], side: usize) -> Vec<f32> {
    (0..side).flat_map(|col| matrix.iter().skip(col).step_by(side).copied()).collect()
}

stamp! {
    /// Adds `factor` times `x` to `out`.
    fn add = add_body(factor: f32, x: &[f32], out: &mut [f32]) -> ();
}

#[inline(always)]
fn add_body(factor: f32, x: &[f32], out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += factor * x;
    }
}

/// The numbers of one step of Adam.
#[derive(Clone, Copy)]
struct Numbers {
    rate: f32,
    decay: f32,
    /// What the root of the second moment is divided by.
    second: f32,
}

/// Adam, with decay added to gradients.
#[derive(Clone, Debug)]
pub(super) struct Adam {
    rate: f32,
    decay: f32,
    /// Powers of the betas.
    powers: [f64; 2],
    /// For each tensor its two moments.
    moments: Vec<[Vec<f32>; 2]>,
}

impl Adam {
    pub(super) fn new(network: &Network, rate: f32, decay: f32) -> Self {
        let moments = network.tensors.iter().map(|tensor| [vec![0.0; tensor.len()], vec![0.0; tensor.len()]]).collect();
        Self { rate, decay, powers: [1.0; 2], moments }
    }

    pub(super) fn step(&mut self, level: Level, network: &mut Network, gradients: &[Vec<f32>]) {
        for (power, beta) in self.powers.iter_mut().zip(BETAS) {
            *power *= f64::from(beta);
        }
        let [first, second] = self.powers.map(|power| 1.0 - power);
        let numbers =
            Numbers { rate: (f64::from(self.rate) / first) as f32, decay: self.decay, second: second.sqrt() as f32 };
        for ((tensor, gradient), moments) in network.tensors.iter_mut().zip(gradients).zip(&mut self.moments) {
            adam(level, numbers, gradient, moments, tensor);
        }
    }
}

stamp! {
    fn adam = adam_body(numbers: Numbers, gradient: &[f32], moments: &mut [Vec<f32>; 2], weights: &mut [f32]) -> ();
}

#[inline(always)]
fn adam_body(numbers: Numbers, gradient: &[f32], moments: &mut [Vec<f32>; 2], weights: &mut [f32]) {
    let Numbers { rate, decay, second } = numbers;
    let [m, v] = moments;
    for ((w, g), (m, v)) in weights.iter_mut().zip(gradient).zip(m.iter_mut().zip(v)) {
        let g = g + decay * *w;
        *m = BETAS[0] * *m + (1.0 - BETAS[0]) * g;
        *v = BETAS[1] * *v + (1.0 - BETAS[1]) * g * g;
        *w -= rate * *m / (v.sqrt() / second + EPSILON);
    }
}
