//! Optimizers: what becomes of weights, by their gradients.

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use crate::kernels::parts;

/// How weights follow their gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Stochastic gradient descent, as PyTorch has it: `v = momentum v + g`, `w -= rate v`, or with Nesterov's
    /// momentum `w -= rate (g + momentum v)`. Weight decay is added to g.
    Sgd {
        /// How much of the last step stays, of 1.
        momentum: f32,
        /// Whether it looks ahead.
        nesterov: bool,
    },
    /// Adam (Kingma and Ba, 2015), and AdamW where decay is `decoupled` from g (Loshchilov and Hutter, 2019).
    Adam {
        /// How much of the means of g and of g² stays, of 1.
        betas: [f32; 2],
        /// Added to the root of the second.
        epsilon: f32,
        /// Whether decay shrinks weights by itself.
        decoupled: bool,
    },
}

impl Method {
    /// Numbers that it keeps for each weight.
    pub fn moments(self) -> usize {
        match self {
            Self::Sgd { momentum: 0.0, .. } => 0,
            Self::Sgd { .. } => 1,
            Self::Adam { .. } => 2,
        }
    }
}

/// What an optimizer keeps from step to step.
#[derive(Clone, Debug)]
pub struct Optimizer {
    method: Method,
    /// Steps that were done.
    pub steps: u64,
    /// For each tensor of weights its moments, one after the other.
    pub moments: Vec<Vec<f32>>,
}

/// The numbers of one step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// How far weights follow.
    pub rate: f32,
    /// How much of each weight is added to its gradient, or taken from it.
    pub decay: f32,
    /// What gradients are multiplied with first.
    pub scale: f32,
}

impl Optimizer {
    /// For tensors of so many weights.
    pub fn new(method: Method, sizes: &[usize]) -> Self {
        let moments = sizes.iter().map(|size| vec![0.0; size * method.moments()]).collect();
        Self { method, steps: 0, moments }
    }

    /// How weights follow their gradients.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Changes the weights of tensor `at`. [`steps`](Self::steps) is raised by the caller before the first tensor of a
    /// step.
    pub fn update(&mut self, at: usize, weights: &mut [f32], gradient: &[f32], step: Step) {
        let (level, len) = (Level::best(), weights.len().min(gradient.len()));
        let moments = &mut self.moments[at];
        match self.method {
            Method::Sgd { momentum: 0.0, .. } => parts::each(&mut weights[..len], 1, |at, w| {
                plain(level, w, &gradient[at..], [step.rate, step.decay, step.scale]);
            }),
            Method::Sgd { momentum, nesterov } => {
                let numbers = [step.rate, step.decay, step.scale, momentum, if nesterov { 1.0 } else { 0.0 }];
                // In the thread's turn: a step is bound by memory.
                sgd(level, &mut weights[..len], &gradient[..len], &mut moments[..len], numbers);
            }
            Method::Adam { betas: [one, two], epsilon, decoupled } => {
                let (first, second) = moments.split_at_mut(len);
                let steps = self.steps.max(1) as f64;
                let bias = |beta: f32| (1.0 - f64::from(beta).powf(steps)) as f32;
                let numbers = Adam {
                    step,
                    betas: [one, two],
                    over: [1.0 / bias(one), 1.0 / bias(two)],
                    epsilon,
                    shrink: if decoupled { 1.0 - step.rate * step.decay } else { 1.0 },
                    coupled: if decoupled { 0.0 } else { step.decay },
                };
                adam(level, &mut weights[..len], &gradient[..len], [first, second], numbers);
            }
        }
    }
}

/// The norm of all gradients together. Squares are added up in f64: they overflow for no finite gradients.
pub fn norm<'g>(gradients: impl Iterator<Item = &'g [f32]>) -> f64 {
    let level = Level::best();
    gradients.map(|g| g.chunks(parts::PART).map(|g| squares(level, g)).sum::<f64>()).sum::<f64>().sqrt()
}

stamp! {
    /// The sum of squares: of every eighth element each, then of these.
    fn squares = squares_body(x: &[f32]) -> f64;
}
#[inline(always)]
fn squares_body(x: &[f32]) -> f64 {
    let mut sums = [0f64; 8];
    let (many, rest) = x.as_chunks::<8>();
    for x in many {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += f64::from(*x) * f64::from(*x);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += f64::from(*x) * f64::from(*x);
    }
    sums.iter().sum()
}

stamp! {
    fn plain = plain_body(w: &mut [f32], g: &[f32], numbers: [f32; 3]) -> ();
}
#[inline(always)]
fn plain_body(w: &mut [f32], g: &[f32], [rate, decay, scale]: [f32; 3]) {
    for (w, g) in w.iter_mut().zip(g) {
        *w -= rate * (g * scale + decay * *w);
    }
}

stamp! {
    fn sgd = sgd_body(w: &mut [f32], g: &[f32], v: &mut [f32], numbers: [f32; 5]) -> ();
}
#[inline(always)]
fn sgd_body(w: &mut [f32], g: &[f32], v: &mut [f32], [rate, decay, scale, momentum, nesterov]: [f32; 5]) {
    for ((w, g), v) in w.iter_mut().zip(g).zip(v) {
        let g = g * scale + decay * *w;
        *v = momentum * *v + g;
        let ahead = g + momentum * *v;
        *w -= rate * (if nesterov != 0.0 { ahead } else { *v });
    }
}

/// The numbers of a step of Adam.
#[derive(Clone, Copy)]
struct Adam {
    step: Step,
    betas: [f32; 2],
    /// One divided by what the means lack at the beginning.
    over: [f32; 2],
    epsilon: f32,
    shrink: f32,
    coupled: f32,
}

stamp! {
    fn adam = adam_body(w: &mut [f32], g: &[f32], moments: [&mut [f32]; 2], numbers: Adam) -> ();
}
#[inline(always)]
fn adam_body(w: &mut [f32], g: &[f32], [first, second]: [&mut [f32]; 2], numbers: Adam) {
    let Adam { step, betas: [one, two], over, epsilon, shrink, coupled } = numbers;
    for (((w, g), m), v) in w.iter_mut().zip(g).zip(first).zip(second) {
        let g = g * step.scale + coupled * *w;
        *m = one * *m + (1.0 - one) * g;
        *v = two * *v + (1.0 - two) * g * g;
        *w = *w * shrink - step.rate * (*m * over[0]) / ((*v * over[1]).sqrt() + epsilon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three steps on (w - 1)² from 0, by the formulas in f64.
    fn by_hand(method: Method, decay: f64) -> f64 {
        let (mut w, mut m, mut v) = (0f64, 0f64, 0f64);
        for step in 1..=3 {
            let g = 2.0 * (w - 1.0);
            match method {
                Method::Sgd { momentum, nesterov } => {
                    let (g, momentum) = (g + decay * w, f64::from(momentum));
                    v = momentum * v + g;
                    w -= 0.1 * if nesterov { g + momentum * v } else { v };
                }
                Method::Adam { betas, epsilon, decoupled } => {
                    let [one, two] = betas.map(f64::from);
                    let g = if decoupled { g } else { g + decay * w };
                    w *= if decoupled { 1.0 - 0.1 * decay } else { 1.0 };
                    m = one * m + (1.0 - one) * g;
                    v = two * v + (1.0 - two) * g * g;
                    let (m, v) = (m / (1.0 - one.powi(step)), v / (1.0 - two.powi(step)));
                    w -= 0.1 * m / (v.sqrt() + f64::from(epsilon));
                }
            }
        }
        w
    }

    #[test]
    fn steps_are_those_of_the_formulas() {
        let adam = |decoupled| Method::Adam { betas: [0.9, 0.999], epsilon: 1e-8, decoupled };
        let sgd = |momentum, nesterov| Method::Sgd { momentum, nesterov };
        for method in [sgd(0.0, false), sgd(0.9, false), sgd(0.9, true), adam(false), adam(true)] {
            let mut optimizer = Optimizer::new(method, &[40]);
            let mut w = vec![0f32; 40];
            for _ in 0..3 {
                optimizer.steps += 1;
                let g: Vec<f32> = w.iter().map(|w| 4.0 * (w - 1.0)).collect();
                optimizer.update(0, &mut w, &g, Step { rate: 0.1, decay: 0.01, scale: 0.5 });
            }
            let expected = by_hand(method, 0.01);
            assert!(w.iter().all(|w| (f64::from(*w) - expected).abs() < 1e-6), "{method:?}: {}, {expected}", w[0]);
        }
        assert!((norm([&[3.0f32][..], &[4.0]].into_iter()) - 5.0).abs() < 1e-12);
    }

    #[test]
    fn norms_of_large_gradients_are_finite() {
        let g: Vec<f32> = (0..1000).map(|k| if k % 2 == 0 { 3e30 } else { -3e30 }).collect();
        let truth = 3e30f32;
        let found = norm([&g[..]].into_iter());
        assert!((found / (f64::from(truth) * 1000f64.sqrt()) - 1.0).abs() < 1e-12, "{found}");
        Level::all().for_each(|level| assert_eq!(squares(level, &g), squares(Level::Scalar, &g)));
    }
}
