//! How fast each pair of a head turns, and what is done to reach beyond the length of training.

use std::f64::consts::TAU;

/// How fast each pair of a head turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frequencies {
    /// How many elements of a head turn: two for each pair.
    pub size: usize,
    /// Pair i turns by base^(-2i / size) a position.
    pub base: f64,
    /// What is done for long texts.
    pub scaling: Scaling,
}

/// What is done to reach beyond the length that a model was trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// Nothing.
    None,
    /// All turn more slowly.
    Linear {
        /// So much.
        factor: f64,
    },
    /// The base grows with the text, once that is longer than the context (NTK).
    Dynamic {
        /// How much.
        factor: f64,
        /// Positions up to which nothing changes.
        context: usize,
    },
    /// Pairs that turn slowly turn more slowly yet, with a smooth passage (Llama 3.1).
    Llama3 {
        /// How much more slowly.
        factor: f64,
        /// Turns in the context below which pairs are slow.
        low: f64,
        /// Turns in the context above which pairs are fast.
        high: f64,
        /// The length of training.
        context: f64,
    },
    /// Likewise, with a ramp over the pairs' numbers, and larger products (YaRN).
    Yarn {
        /// How much more slowly.
        factor: f64,
        /// Turns in the context above which pairs are fast, and below which they are slow.
        turns: [f64; 2],
        /// The length of training.
        context: f64,
        /// What cosines and sines are multiplied with.
        amplitude: f64,
        /// Whether the ends of the ramp are whole numbers.
        truncate: bool,
    },
}

impl Frequencies {
    /// What cosines and sines are multiplied with.
    pub fn amplitude(&self) -> f64 {
        match self.scaling {
            Scaling::Yarn { amplitude, .. } => amplitude,
            _ => 1.0,
        }
    }

    /// How far each pair turns from one position to the next, in a text of `seen` positions.
    pub fn at(&self, seen: usize) -> Vec<f32> {
        let size = self.size as f64;
        let plain = |base: f64, pair: usize| base.powf(-2.0 * pair as f64 / size);
        let base = match self.scaling {
            Scaling::Dynamic { factor, context } if seen > context => {
                let grown = factor * seen as f64 / context as f64 - (factor - 1.0);
                self.base * grown.powf(size / (size - 2.0))
            }
            _ => self.base,
        };
        let turn = |pair: usize| {
            let turn = plain(base, pair);
            match self.scaling {
                Scaling::None | Scaling::Dynamic { .. } => turn,
                Scaling::Linear { factor } => turn / factor,
                Scaling::Llama3 { factor, low, high, context } => {
                    let turns = context * turn / TAU;
                    let fast = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 - fast) * turn / factor + fast * turn
                }
                Scaling::Yarn { factor, turns, context, truncate, .. } => {
                    let slow = self.ramp(pair, turns, context, truncate);
                    turn / factor * slow + turn * (1.0 - slow)
                }
            }
        };
        (0..self.size / 2).map(|pair| turn(pair) as f32).collect()
    }

    /// How slow a pair is, from 0 to 1.
    fn ramp(&self, pair: usize, turns: [f64; 2], context: f64, truncate: bool) -> f64 {
        let size = self.size as f64;
        let number = |turns: f64| size * (context / (turns * TAU)).ln() / (2.0 * self.base.ln());
        let [mut first, mut last] = turns.map(number);
        if truncate {
            (first, last) = (first.floor(), last.ceil());
        }
        let (first, mut last) = (first.max(0.0), last.min(size - 1.0));
        if first == last {
            last += 0.001;
        }
        ((pair as f64 - first) / (last - first)).clamp(0.0, 1.0)
    }
}
