//! Which inputs each result along one axis is made of, and by how much.

use super::{Coordinates, Mode, Nearest, Resize};

/// One axis that is resized.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) scale: f64,
    /// The part of it that is taken, from 0 to 1: for [`Coordinates::Crop`].
    pub(super) region: (f64, f64),
}

/// Inputs and weights of each result along an axis.
#[derive(Debug)]
pub(super) struct Taps {
    /// Where those of each result end.
    ends: Vec<usize>,
    all: Vec<(usize, f64)>,
    /// The results that lie outside of the input.
    pub(super) outside: Vec<usize>,
}

impl Taps {
    /// Those of an axis; none where it stays as it is.
    pub(super) fn of(resize: &Resize, axis: &Axis) -> Option<Self> {
        let mut taps = Self { ends: Vec::with_capacity(axis.output), all: Vec::new(), outside: Vec::new() };
        for at in 0..axis.output {
            let x = axis.original(resize.coordinates, at as f64);
            if resize.coordinates == Coordinates::Crop && !(0.0..=(axis.input - 1) as f64).contains(&x) {
                taps.outside.push(at);
            }
            match resize.mode {
                Mode::Nearest => taps.all.push((clamped(nearest(resize.nearest, x, axis.scale), axis.input), 1.0)),
                _ => taps.weigh(resize, axis, x),
            }
            taps.ends.push(taps.all.len());
        }
        let stays = axis.input == axis.output
            && taps.outside.is_empty()
            && (0..axis.output).all(|at| matches!(taps.at(at), [(from, weight)] if *from == at && *weight == 1.0));
        (!stays).then_some(taps)
    }

    /// Inputs and weights of one result.
    pub(super) fn at(&self, at: usize) -> &[(usize, f64)] {
        let from = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        &self.all[from..self.ends[at]]
    }

    /// How many results there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Adds the taps of one result, which lies at `x` of the input.
    fn weigh(&mut self, resize: &Resize, axis: &Axis, x: f64) {
        // The ratio is in (0, 1], as the definition has it.
        let base = x.ceil() - 1.0;
        let ratio = x - base;
        let scale = if resize.antialias { axis.scale.min(1.0) } else { 1.0 };
        let radius = if resize.mode == Mode::Cubic { 2.0 } else { 1.0 };
        let start = (-radius / scale).floor() as i64 + 1;
        let first = self.all.len();
        let mut sum = 0.0;
        for step in start..2 - start {
            let distance = ((step as f64 - ratio) * scale).abs();
            let mut weight = match resize.mode {
                Mode::Cubic => cubic(distance, resize.cubic),
                _ => (1.0 - distance).clamp(0.0, 1.0),
            };
            let at = base + step as f64;
            if resize.exclude_outside && !(0.0..axis.input as f64).contains(&at) {
                weight = 0.0;
            }
            sum += weight;
            if weight != 0.0 {
                self.all.push((clamped(at, axis.input), weight));
            }
        }
        if (resize.antialias || resize.exclude_outside) && sum != 0.0 {
            self.all[first..].iter_mut().for_each(|(_, weight)| *weight /= sum);
        }
    }
}

impl Axis {
    /// Where a result lies in the input.
    fn original(&self, coordinates: Coordinates, x: f64) -> f64 {
        let input = self.input as f64;
        let output = self.scale * input;
        match coordinates {
            Coordinates::AlignCorners if output == 1.0 => 0.0,
            Coordinates::AlignCorners => x * (input - 1.0) / (output - 1.0),
            Coordinates::Asymmetric => x / self.scale,
            Coordinates::Crop => {
                let (from, to) = self.region;
                let inner = if output == 1.0 {
                    (to - from) * (input - 1.0) / 2.0
                } else {
                    x * (to - from) * (input - 1.0) / (output - 1.0)
                };
                inner + from * (input - 1.0)
            }
            Coordinates::PytorchHalfPixel if output == 1.0 => -0.5,
            Coordinates::PytorchHalfPixel | Coordinates::HalfPixel => (x + 0.5) / self.scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = self.output as f64 / output;
                input / 2.0 * (1.0 - adjustment) + (x + 0.5) / self.scale - 0.5
            }
        }
    }
}

/// An index of the input; what lies outside is the border.
fn clamped(at: f64, input: usize) -> usize {
    at.clamp(0.0, (input - 1) as f64) as usize
}

fn nearest(how: Nearest, x: f64, scale: f64) -> f64 {
    match how {
        Nearest::PreferFloor => (x - 0.5).ceil(),
        Nearest::PreferCeil => (x + 0.5).floor(),
        Nearest::Old if scale < 1.0 => x.ceil(),
        Nearest::Floor | Nearest::Old => x.floor(),
        Nearest::Ceil => x.ceil(),
    }
}

/// Keys' kernel.
fn cubic(x: f64, a: f64) -> f64 {
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}
