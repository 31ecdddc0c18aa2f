//! Convolutions of some channels, whose weights are gathered for each image.
//!
//! ```text
//! turned   [input channel, tap, output channel]      once
//! packed   [tile, input channel, tap, R]             for each image, of the channels that are there
//! ```
//!
//! Sums run over taps of channels in the order of the whole convolution: where those that are left out are zeros, results
//! are the same to the bit.

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use super::{Packed, tile_rows};

/// Weights of which some are taken: those of all output channels for one tap of one input channel are next to each other.
#[derive(Clone, Debug)]
pub(crate) struct Turned {
    weights: Vec<f32>,
    taps: usize,
    outputs: usize,
}

impl Turned {
    /// Of weights `[outputs, inputs, taps]`; none where they are not as many.
    pub(crate) fn new(weights: &[f32], [outputs, inputs, taps]: [usize; 3]) -> Option<Self> {
        let each = inputs.checked_mul(taps)?;
        if each == 0 || outputs.checked_mul(each)? != weights.len() {
            return None;
        }
        let mut turned = vec![0.0; weights.len()];
        for (output, weights) in weights.chunks_exact(each).enumerate() {
            turned.iter_mut().skip(output).step_by(outputs).zip(weights).for_each(|(to, from)| *to = *from);
        }
        Some(Self { weights: turned, taps, outputs })
    }

    /// The weights of these channels, as tiles take them; channels that are not there have none. `buffer` is for them.
    pub(crate) fn some(&self, inputs: &[usize], outputs: &[usize], mut buffer: Vec<f32>) -> Packed {
        let level = Level::best();
        let rows = tile_rows(level, outputs.len());
        let each = inputs.len() * self.taps;
        let tiles = outputs.len().div_ceil(rows);
        buffer.clear();
        buffer.resize(tiles * rows * each, 0.0);
        for (tile, outputs) in buffer.chunks_exact_mut((rows * each).max(1)).zip(outputs.chunks(rows)) {
            let channels = tile.chunks_exact_mut(rows * self.taps).zip(inputs);
            for (to, input) in channels {
                let from = &self.weights[input * self.taps * self.outputs..][..self.taps * self.outputs];
                gather(level, (from, self.outputs), outputs, (to, rows));
            }
        }
        Packed { weights: buffer, channels: outputs.len(), rows, each, level }
    }
}

impl Packed {
    /// The buffer that it was made in.
    pub(crate) fn into_buffer(self) -> Vec<f32> {
        self.weights
    }
}

stamp! {
    /// Takes the numbers at `places` of each row, of so many numbers, into the row of as many that it becomes.
    fn gather = gather_body(from: (&[f32], usize), places: &[usize], to: (&mut [f32], usize)) -> ();
}
#[inline(always)]
fn gather_body((from, width): (&[f32], usize), places: &[usize], (to, rows): (&mut [f32], usize)) {
    match (places.first_chunk::<8>(), rows) {
        (Some(places), 8) => {
            for (to, from) in to.as_chunks_mut::<8>().0.iter_mut().zip(from.chunks_exact(width)) {
                for (to, place) in to.iter_mut().zip(places) {
                    *to = from.get(*place).copied().unwrap_or(0.0);
                }
            }
        }
        _ => {
            for (to, from) in to.chunks_exact_mut(rows).zip(from.chunks_exact(width)) {
                for (to, place) in to.iter_mut().zip(places) {
                    *to = from.get(*place).copied().unwrap_or(0.0);
                }
            }
        }
    }
}

/// The planes that have a number other than 0: of `planes` equal ones.
pub(crate) fn present(image: &[f32], planes: usize, found: &mut Vec<usize>) {
    found.clear();
    let plane = (image.len() / planes.max(1)).max(1);
    let there = |plane: &[f32]| plane.iter().any(|x| *x != 0.0);
    found.extend(image.chunks_exact(plane).enumerate().filter(|(_, plane)| there(plane)).map(|(at, _)| at));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::kernels::numbers;

    #[test]
    fn weights_of_some_channels_are_those_of_a_smaller_convolution() {
        for (outputs, inputs, taps) in [(16, 3, 9), (9, 4, 1), (40, 7, 4)] {
            let weights = numbers(outputs * inputs * taps, 1);
            let turned = Turned::new(&weights, [outputs, inputs, taps]).unwrap();
            for (some_in, some_out) in [(1, 1), (2, 5), (inputs, outputs)] {
                let [ins, outs] = [some_in, some_out].map(|count| (0..count).collect::<Vec<usize>>());
                let ins: Vec<usize> = ins.iter().map(|at| inputs - some_in + at).collect();
                let outs: Vec<usize> = outs.iter().map(|at| at * (outputs / some_out)).collect();
                let of = |out: &usize, input: &usize| &weights[(out * inputs + input) * taps..][..taps];
                let smaller: Vec<f32> =
                    outs.iter().flat_map(|out| ins.iter().flat_map(move |input| of(out, input))).copied().collect();
                let expected = Packed::new(&smaller, outs.len());
                let found = turned.some(&ins, &outs, numbers(7, 3));
                assert_eq!((found.rows, found.each, found.channels), (expected.rows, expected.each, expected.channels));
                assert_eq!(found.weights, expected.weights, "{outputs} {inputs} {taps}: {outs:?} of {ins:?}");
            }
        }
        assert!(Turned::new(&[0.0; 7], [2, 2, 2]).is_none());
    }

    #[test]
    fn planes_of_zeros_are_not_there() {
        let mut found = vec![9];
        present(&[0.0, -0.0, 1.0, 0.0, 0.0, f32::NAN], 3, &mut found);
        assert_eq!(found, [1, 2]);
    }
}
