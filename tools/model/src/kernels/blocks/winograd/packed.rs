//! Weights of tiles.

use niwaki_codes::simd::Level;

use super::{PLACES, SIDE};
use crate::kernels::blocks::{self, BLOCK};

/// The weights of each place.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub(super) places: Vec<blocks::Packed>,
    pub(super) level: Level,
    /// Blocks of input channels.
    pub(super) inputs: usize,
    /// Of products, to which nothing is added.
    pub(super) zeros: Vec<f32>,
}

impl Packed {
    /// Of `[outputs, inputs, 3, 3]` weights.
    pub(crate) fn new(weights: &[f32], channels: [usize; 2]) -> Self {
        Self::at(Level::best(), weights, channels)
    }

    pub(super) fn at(level: Level, weights: &[f32], channels @ [outputs, inputs]: [usize; 2]) -> Self {
        let (kernels, _) = weights.as_chunks::<9>();
        let mut places = vec![vec![0.0; kernels.len()]; PLACES];
        for (nth, kernel) in kernels.iter().enumerate() {
            let spread = spread(kernel);
            places.iter_mut().zip(spread.as_flattened()).for_each(|(place, weight)| place[nth] = *weight as f32);
        }
        let places = places.iter().map(|weights| blocks::Packed::at(level, weights, channels)).collect();
        Self { places, level, inputs: inputs.div_ceil(BLOCK), zeros: vec![0.0; outputs.next_multiple_of(BLOCK)] }
    }

    /// Whether they are so many that going through them costs more than going through an image.
    pub(crate) fn are_heavy(&self) -> bool {
        self.places.iter().any(blocks::Packed::are_heavy)
    }

    /// Groups of blocks that are computed at once.
    pub(crate) fn groups(&self) -> usize {
        self.places.first().map_or(0, blocks::Packed::groups)
    }
}

/// `G g G'`.
pub(super) fn spread(kernel: &[f32; 9]) -> [[f64; SIDE]; SIDE] {
    let four = |[a, b, c]: [f64; 3]| [a, (a + b + c) / 2.0, (a - b + c) / 2.0, c];
    let column = |j: usize| four([0, 3, 6].map(|row| f64::from(kernel[row + j])));
    let [a, b, c] = [0, 1, 2].map(column);
    [0, 1, 2, 3].map(|row| four([a[row], b[row], c[row]]))
}
