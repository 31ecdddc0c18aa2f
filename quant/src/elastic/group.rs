//! Unit after unit: range, search, codes, fixes, what was lost.

use niwaki_codes::simd::Level;
use niwaki_codes::{Elastic, elastic_levels};

use super::block::{Block, Line, Unit};
use super::fix::fixes;
use super::kernel::{self, Extent, INFINITE, Lost, Sums};
use super::ruler::{Bases, Rulers};
use super::search::{Room, search};
use super::{ElasticDistortion, Sink};
use crate::distortion::{Distortion, LANES, TILE, fold};
use crate::{Error, ErrorKind, Fit};

/// Encodes units, and sums what that loses.
pub(super) struct Encoder<'a> {
    level: Level,
    scheme: &'a Elastic,
    fit: Fit,
    block: Block,
    codes: [u8; TILE],
    room: Room,
    total: ElasticDistortion,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(level: Level, scheme: &'a Elastic, fit: Fit) -> Self {
        let total = ElasticDistortion::default();
        Self { level, scheme, fit, block: Block::EMPTY, codes: [0; TILE], room: Room::EMPTY, total }
    }

    /// What all units lost.
    pub(super) fn finish(self) -> ElasticDistortion {
        self.total
    }

    /// Encodes one unit. Places in errors count from its start.
    pub(super) fn unit(&mut self, unit: &Unit<'_>, sink: &mut Sink<'_, '_>) -> Result<(), Error> {
        let bases = self.bases(unit)?;
        let rulers = bases.rulers(self.level);
        let fixes = self.fit_levels(unit, &rulers);
        for i in 0..unit.groups() {
            sink.group(bases.middle[i], bases.half[i], &fixes.map(|fix| fix[i]));
        }
        self.write(unit, &bases, &rulers, &fixes, sink);
        Ok(())
    }

    /// Chooses middle, half and curve.
    fn bases(&mut self, unit: &Unit<'_>) -> Result<Bases, Error> {
        let mut extent = Extent::EMPTY;
        unit.each(self.level, &mut self.block, false, |block| kernel::extent(self.level, block, &mut extent));
        if let Unit::Large(_) = unit {
            extent.join();
        }
        if extent.largest.iter().any(|largest| *largest >= INFINITE) {
            return Err(not_finite(unit, self.level));
        }
        let plain = Bases::covering(self.level, &extent.low, &extent.high);
        if let Some(group) = (0..unit.groups()).find(|i| !plain.is_finite(*i)) {
            return Err(ErrorKind::RangeOverflow { group }.into());
        }
        Ok(match self.fit {
            Fit::MinMax => plain,
            _ => {
                let asked = (self.level, self.fit, self.scheme.widths);
                search(asked, unit, &mut self.block, &extent, &plain, &mut self.room)
            }
        })
    }

    /// Finds codes, and shift and gain of each width.
    fn fit_levels(&mut self, unit: &Unit<'_>, rulers: &Rulers) -> [[u8; LANES]; 9] {
        let (level, widths) = (self.level, self.scheme.widths);
        let mut all = [Sums::ZERO; 9];
        unit.each(level, &mut self.block, true, |block| {
            kernel::codes(level, block, rulers, widths.widest().get());
            kernel::sums(level, block, rulers, widths, &mut all);
        });
        for sums in &mut all {
            [&mut sums.r, &mut sums.y, &mut sums.ry, &mut sums.yy].into_iter().for_each(|line| unit.join(line));
        }
        fixes(level, rulers, &all, &unit.weights(), widths)
    }

    /// Writes the codes, and adds what each width loses.
    fn write(
        &mut self,
        unit: &Unit<'_>,
        bases: &Bases,
        rulers: &Rulers,
        fixes: &[[u8; LANES]; 9],
        sink: &mut Sink<'_, '_>,
    ) {
        let (level, widths) = (self.level, self.scheme.widths);
        let mut all = [Lost::ZERO; 9];
        for width in widths.iter() {
            let b = width.get() as usize;
            for (i, fix) in fixes[b].iter().enumerate() {
                let levels = elastic_levels(width, bases.middle[i], bases.half[i], *fix);
                all[b].levels.iter_mut().zip(levels).for_each(|(line, level)| line[i] = level);
            }
        }
        let small = unit.is_small();
        unit.each(level, &mut self.block, true, |block| {
            if !small {
                kernel::codes(level, block, rulers, widths.widest().get());
            }
            let mut signal = [0.0; LANES];
            kernel::lost(level, block, widths, &mut signal, &mut all);
            let n = unit.collect(block, &mut self.codes);
            sink.codes(&self.codes[..n]);
            for width in widths.iter() {
                let b = width.get() as usize;
                self.total.widths[b].get_or_insert_default().merge(&tally(n, &signal, &all[b]));
                (all[b].noise, all[b].max_abs) = ([0.0; LANES], [0.0; LANES]);
            }
        });
    }
}

/// The sums of one block.
fn tally(n: usize, signal: &Line, lost: &Lost) -> Distortion {
    let max_abs = lost.max_abs.iter().fold(0.0, |m: f32, x| if *x > m { *x } else { m });
    Distortion { signal: fold(*signal).into(), noise: fold(lost.noise).into(), max_abs, elements: n as u64 }
}

/// The error for the first weight that is infinite or not a number.
fn not_finite(unit: &Unit<'_>, level: Level) -> Error {
    let (Unit::Groups(values, _) | Unit::Large(values)) = unit;
    let mut x = [0.0; LANES];
    let find = |index: &usize| {
        values.slice(*index..*index + 1).decode(level, &mut x);
        !x[0].is_finite()
    };
    let index = (0..values.len()).find(find).unwrap_or(0);
    ErrorKind::NotFinite { index }.into()
}
