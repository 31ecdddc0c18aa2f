//! Weights in sixteen lanes.
//!
//! Groups of up to [`DEPTH`] weights lie sixteen side by side, one a lane, so that no
//! sum crosses lanes. A larger group fills all lanes: lane `i` takes the weights
//! `i, i + 16, ..`, and its sums are folded as everywhere in this crate. Which of the
//! two is a matter of the group size alone, so that sums are the same on every machine.

use niwaki_codes::simd::Level;

use crate::Values;
use crate::distortion::{LANES, TILE, fold};

/// One value of every lane.
pub(super) type Line = [f32; LANES];

/// Weights of a lane at most.
pub(super) const DEPTH: usize = TILE / LANES;

/// Up to a tile of weights, and their codes.
#[repr(C, align(64))]
pub(super) struct Block {
    pub(super) x: [Line; DEPTH],
    pub(super) codes: [[u8; LANES]; DEPTH],
    /// Weights of each lane; what lies below them repeats the first one.
    pub(super) count: [u32; LANES],
    /// Lines in use, and how many of them are full.
    pub(super) depth: usize,
    pub(super) full: usize,
    /// Weights in their own order, on the way to lanes.
    flat: [f32; TILE],
}

impl Block {
    pub(super) const EMPTY: Self = Self {
        x: [[0.0; LANES]; DEPTH],
        codes: [[0; LANES]; DEPTH],
        count: [0; LANES],
        depth: 0,
        full: 0,
        flat: [0.0; TILE],
    };

    fn measure(&mut self) {
        let (mut least, mut most) = (u32::MAX, 0);
        for n in self.count {
            (least, most) = (least.min(n), most.max(n));
        }
        (self.full, self.depth) = (least as usize, most as usize);
    }

    /// Loads groups side by side; `sizes` are their lengths, with 0 for lanes that stay empty.
    fn load_groups(&mut self, level: Level, values: Values<'_>, sizes: &[u32; LANES]) {
        self.count = *sizes;
        self.measure();
        values.decode(level, &mut self.flat);
        let mut rest = &self.flat[..];
        for (lane, n) in sizes.iter().enumerate() {
            let (group, later) = rest.split_at(*n as usize);
            let first = group.first().copied().unwrap_or(0.0);
            for (line, x) in self.x.iter_mut().zip(group) {
                line[lane] = *x;
            }
            for line in &mut self.x[group.len()..self.depth] {
                line[lane] = first;
            }
            rest = later;
        }
    }

    /// Loads weights of one group into all lanes.
    fn load_piece(&mut self, level: Level, values: Values<'_>) {
        let n = values.len();
        for (lane, count) in self.count.iter_mut().enumerate() {
            *count = (n.saturating_sub(lane)).div_ceil(LANES) as u32;
        }
        self.measure();
        let flat = self.x.as_flattened_mut();
        values.decode(level, flat);
        let first = flat[0];
        flat[n..n.next_multiple_of(LANES)].fill(first);
    }
}

/// Groups that are encoded together.
#[derive(Clone, Copy)]
pub(super) enum Unit<'a> {
    /// Groups side by side, with their lengths.
    Groups(Values<'a>, [u32; LANES]),
    /// One large group.
    Large(Values<'a>),
}

impl Unit<'_> {
    /// How many groups there are.
    pub(super) fn groups(&self) -> usize {
        match self {
            Self::Groups(_, sizes) => sizes.iter().filter(|n| **n > 0).count(),
            Self::Large(_) => 1,
        }
    }

    /// Weights of the group of each lane.
    pub(super) fn weights(&self) -> Line {
        match self {
            Self::Groups(_, sizes) => sizes.map(|n| n as f32),
            Self::Large(values) => [values.len() as f32; LANES],
        }
    }

    /// Whether a block holds all of it.
    pub(super) fn is_small(&self) -> bool {
        match self {
            Self::Groups(..) => true,
            Self::Large(values) => values.len() <= TILE,
        }
    }

    /// Hands over the weights block by block, in order. What is small is loaded only
    /// the first time.
    pub(super) fn each(&self, level: Level, block: &mut Block, loaded: bool, mut f: impl FnMut(&mut Block)) {
        match self {
            _ if loaded && self.is_small() => f(block),
            Self::Groups(values, sizes) => {
                block.load_groups(level, *values, sizes);
                f(block);
            }
            Self::Large(values) => {
                for from in (0..values.len()).step_by(TILE) {
                    block.load_piece(level, values.slice(from..from + TILE));
                    f(block);
                }
            }
        }
    }

    /// Sums of the groups from sums of the lanes.
    pub(super) fn join(&self, sums: &mut Line) {
        if let Self::Large(_) = self {
            *sums = [fold(*sums); LANES];
        }
    }

    /// Writes the codes of a block in the order of the weights; returns how many.
    pub(super) fn collect(&self, block: &Block, to: &mut [u8; TILE]) -> usize {
        match self {
            Self::Groups(_, sizes) => {
                let mut at = 0;
                for (lane, n) in sizes.iter().enumerate() {
                    let end = at + *n as usize;
                    for (code, line) in to[at..end].iter_mut().zip(&block.codes) {
                        *code = line[lane];
                    }
                    at = end;
                }
                at
            }
            Self::Large(_) => {
                to.copy_from_slice(block.codes.as_flattened());
                block.count.iter().sum::<u32>() as usize
            }
        }
    }
}
