//! Which widths layers have where the whole has a given average.
//!
//! Many configurations are drawn evenly; for each layer and each average, in steps of 0.2 bits, is counted how often the
//! layer had which width. A draw for an average takes each layer's width as often as it was counted there (EQ-Net's
//! released code).
//!
//! Departures: an average that no configuration had takes the nearest that one had.

use alloc::vec;
use alloc::vec::Vec;

use niwaki_codes::Bits;

use super::{Configuration, LayerBits, Side, Space, Style};
use crate::draws::Draws;

/// What the counted configurations are drawn for, and those that follow the counts.
const COUNTED: u64 = 0x636f_756e_7400;
const FOLLOWING: u64 = 0x666f_6c6c_6f77;

/// Averages told apart in a bit.
const BINS_PER_BIT: f64 = 5.0;

/// One for each fifth of a bit up to 8.
const BINS: usize = 41;

/// How far from the ends targets are drawn, in bits (EQ-Net's released code).
const MARGIN: f64 = 0.4;

/// The counts of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Table {
    /// For each average the configurations that had it.
    seen: Vec<u64>,
    /// For each average, each layer and each width of the ladder how often they met.
    counts: Vec<u64>,
}

/// How often layers have which width, by the average of the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prior {
    space: Space,
    ladder: Vec<Bits>,
    tables: [Table; 2],
}

fn bin(average: f64) -> usize {
    ((average * BINS_PER_BIT + 0.5) as usize).min(BINS - 1)
}

impl Table {
    fn counted(sizes: &[u64], ladder: &[Bits], samples: u64, draws: &mut Draws) -> Self {
        let mut table = Self { seen: vec![0; BINS], counts: vec![0; BINS * sizes.len() * ladder.len()] };
        let all: u64 = sizes.iter().sum();
        let mut picks = vec![0; sizes.len()];
        for _ in 0..samples {
            let mut sum = 0;
            for (pick, size) in picks.iter_mut().zip(sizes) {
                *pick = draws.below(ladder.len());
                sum += size * u64::from(ladder[*pick].get());
            }
            let bin = bin(sum as f64 / all as f64);
            table.seen[bin] += 1;
            let rows = table.counts[bin * sizes.len() * ladder.len()..].chunks_exact_mut(ladder.len());
            for (row, pick) in rows.zip(&picks) {
                row[*pick] += 1;
            }
        }
        table
    }

    /// The bin nearest to an average that some configuration had; of two the lower.
    fn nearest(&self, average: f64) -> Option<usize> {
        let wanted = bin(average);
        let bins = (0..BINS).filter(|bin| self.seen[*bin] > 0);
        bins.min_by_key(|bin| bin.abs_diff(wanted))
    }

    /// A place on the ladder of `steps` for each layer.
    fn draw(&self, average: f64, steps: usize, draws: &mut Draws, picks: &mut [usize]) {
        let Some(bin) = self.nearest(average) else {
            picks.iter_mut().for_each(|pick| *pick = draws.below(steps));
            return;
        };
        let rows = self.counts[bin * picks.len() * steps..].chunks_exact(steps);
        for (pick, row) in picks.iter_mut().zip(rows) {
            let mut left = draws.below(self.seen[bin] as usize) as u64;
            *pick = 0;
            for count in row {
                if left < *count {
                    break;
                }
                left -= count;
                *pick += 1;
            }
        }
    }
}

impl Prior {
    /// Counts `samples` configurations (500,000 in the released code), drawn from `seed`. Of none, all widths are as
    /// likely for every average.
    pub fn new(space: &Space, samples: u64, seed: u64) -> Self {
        let ladder = space.ladder();
        let tables = Side::ALL.map(|side| {
            let sizes: Vec<u64> = space.free().map(|layer| layer.of(side)).collect();
            Table::counted(&sizes, &ladder, samples, &mut Draws::new(seed, COUNTED, side as u64))
        });
        Self { space: space.clone(), ladder, tables }
    }

    /// The space whose configurations were counted.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// A place on the space's ladder of widths for each layer that is not fixed, as likely as where the side has this
    /// average.
    pub(crate) fn draw(&self, side: Side, average: f64, draws: &mut Draws, picks: &mut [usize]) {
        self.tables[side as usize].draw(average, self.ladder.len(), draws, picks);
    }

    /// A configuration for the predictor to learn from: an average for each side, drawn evenly between the narrowest and
    /// the widest width less 0.4 bits at either end, then widths as layers have them there. `item` counts the draws of one
    /// seed; none hangs on others.
    pub fn random(&self, style: Style, seed: u64, item: u64) -> Configuration {
        let mut draws = Draws::new(seed, FOLLOWING, item);
        let widths = self.space.widths();
        let (low, high) = (f64::from(widths.narrowest().get()) + MARGIN, f64::from(widths.widest().get()) - MARGIN);
        let mut picks = Side::ALL.map(|_| vec![0; self.space.free().count()]);
        for (side, picks) in Side::ALL.into_iter().zip(&mut picks) {
            let average = low + (high - low).max(0.0) * draws.unit();
            self.draw(side, average, &mut draws, picks);
        }
        let [weights, activations] = &picks;
        let at = |pick: &usize| self.ladder.get(*pick).copied().unwrap_or(Bits::MAX);
        let bits = weights.iter().zip(activations);
        self.space.filled(style, bits.map(|(w, a)| LayerBits { weights: at(w), activations: at(a) }))
    }
}
