//! Weights of convolutions over blocks of channels.

use std::ops::Range;

use niwaki_codes::simd::Level;

use super::BLOCK;

/// Weights from which on they are gone through once, and the image often.
const HEAVY: usize = 1 << 17;

/// Weights in the order in which tiles take them: for each group of blocks, tap after tap of each input channel, those of all
/// its output channels, filled with 0.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub(super) weights: Vec<Line>,
    /// Blocks of output channels.
    pub(super) blocks: usize,
    /// Input channels.
    pub(super) inputs: usize,
    /// Weights of one output channel.
    pub(super) each: usize,
    /// For whose registers.
    pub(super) level: Level,
}

/// A block's weights, where a register takes them best.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Line(pub(super) [f32; BLOCK]);

impl Packed {
    /// Of `[outputs, inputs]` channels.
    pub(crate) fn new(weights: &[f32], channels: [usize; 2]) -> Self {
        Self::at(Level::best(), weights, channels)
    }

    pub(super) fn at(level: Level, weights: &[f32], [outputs, inputs]: [usize; 2]) -> Self {
        let each = weights.len() / outputs.max(1);
        let blocks = outputs.div_ceil(BLOCK);
        let wide = wide(level);
        let mut packed = vec![Line([0.0; BLOCK]); blocks * each];
        for (output, weights) in weights.chunks_exact(each.max(1)).enumerate() {
            let (block, lane) = (output / BLOCK, output % BLOCK);
            let first = block / wide * wide;
            let (start, step) = (first * each + block - first, wide.min(blocks - first));
            packed[start..].iter_mut().step_by(step).zip(weights).for_each(|(to, from)| to.0[lane] = *from);
        }
        Self { weights: packed, blocks, inputs, each, level }
    }

    /// For whose registers.
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// Whether they are so many that going through them costs more than going through an image.
    pub(crate) fn are_heavy(&self) -> bool {
        self.weights.len() * BLOCK >= HEAVY
    }

    /// The blocks of some groups.
    pub(crate) fn blocks_of(&self, groups: Range<usize>) -> Range<usize> {
        let wide = wide(self.level);
        groups.start * wide..(groups.end * wide).min(self.blocks)
    }

    /// Groups of blocks that are computed at once.
    pub(crate) fn groups(&self) -> usize {
        self.blocks.div_ceil(wide(self.level))
    }
}

/// Blocks that are computed at once.
pub(super) fn wide(level: Level) -> usize {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(_) => 2,
        _ => 1,
    }
}
