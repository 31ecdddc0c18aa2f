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

    /// Numbers that the weights of so many output channels take at most.
    pub(crate) fn room(&self, outputs: usize) -> usize {
        outputs.next_multiple_of(tile_rows(Level::best(), outputs)) * (self.weights.len() / self.outputs)
    }

    /// The weights of these channels, as tiles take them; what the last tile has of channels that are not there may be
    /// anything. `buffer` is for them, and may be longer.
    ///
    /// # Panics
    ///
    /// If a channel is not there.
    pub(crate) fn some(&self, inputs: &[usize], outputs: &[usize], mut buffer: Vec<f32>) -> Packed {
        let level = Level::best();
        let rows = tile_rows(level, outputs.len());
        let each = inputs.len() * self.taps;
        let len = outputs.len().div_ceil(rows) * rows * each;
        buffer.resize(buffer.len().max(len), 0.0);
        for (tile, outputs) in buffer.chunks_exact_mut((rows * each).max(1)).zip(outputs.chunks(rows)) {
            // Of channels that are not there, the first one's.
            let mut places = [outputs[0]; MOST];
            places[..outputs.len()].copy_from_slice(outputs);
            gather(level, self, inputs, &places[..rows], tile);
        }
        Packed { weights: buffer, channels: outputs.len(), rows, each, level }
    }
}

/// The most channels of a tile.
const MOST: usize = 8;

impl Packed {
    /// The buffer that it was made in.
    pub(crate) fn into_buffer(self) -> Vec<f32> {
        self.weights
    }
}

stamp! {
    /// Takes the weights of the output channels at `places` for all taps of some input channels, those of one tap next to each
    /// other.
    fn gather = gather_body(from: &Turned, inputs: &[usize], places: &[usize], to: &mut [f32]) -> ();
}
#[inline(always)]
fn gather_body(from: &Turned, inputs: &[usize], places: &[usize], to: &mut [f32]) {
    match places.len() {
        1 => gather_rows::<1>(from, inputs, places, to),
        4 => gather_rows::<4>(from, inputs, places, to),
        6 => gather_rows::<6>(from, inputs, places, to),
        _ => gather_rows::<8>(from, inputs, places, to),
    }
}

#[inline(always)]
fn gather_rows<const R: usize>(from: &Turned, inputs: &[usize], places: &[usize], to: &mut [f32]) {
    let Some(places) = places.first_chunk::<R>() else { return };
    assert!(places.iter().all(|place| *place < from.outputs), "an output channel that is not there");
    let (mut to, width) = (to.as_chunks_mut::<R>().0.iter_mut(), from.outputs);
    for input in inputs {
        let taps = &from.weights[input * from.taps * width..][..from.taps * width];
        for (row, to) in taps.chunks_exact(width).zip(&mut to) {
            for (to, place) in to.iter_mut().zip(places) {
                // SAFETY: a row has as many numbers as there are output channels, and places were compared with that above.
                *to = unsafe { *row.get_unchecked(*place) };
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
                let (rows, each) = (found.rows, found.each);
                for channel in 0..some_out {
                    // Those of channels that are not there may be anything.
                    let of = |packed: &Packed| -> Vec<f32> {
                        let tile = &packed.weights[channel / rows * rows * each..];
                        tile.iter().skip(channel % rows).step_by(rows).take(each).copied().collect()
                    };
                    assert_eq!(of(&found), of(&expected), "{outputs} {inputs} {taps}: {outs:?} of {ins:?}");
                }
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
