//! One group after the other: range, codes, fixes, what was lost.

use niwaki_codes::half_floats::{f16_to_f32, f32_to_f16};
use niwaki_codes::simd::Level;
use niwaki_codes::{Elastic, elastic_levels};

use super::fix::fixes;
use super::kernel::{self, Extent, Lanes, Ruler, Sums};
use super::{ElasticDistortion, Sink};
use crate::distortion::{Distortion, TILE, fold};
use crate::{Error, ErrorKind, Fit, Values};

/// Encodes groups, and sums what that loses.
pub(super) struct Encoder<'a> {
    level: Level,
    scheme: &'a Elastic,
    fit: Fit,
    codes: [u8; TILE],
    waiting: [u8; TILE],
    lanes: Lanes,
    /// Weights summed in the lanes so far.
    summed: usize,
    total: ElasticDistortion,
}

/// A base pair as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) middle: u16,
    /// Half the range; the sign bit says that cells are curved.
    pub(super) half: u16,
}

impl Base {
    /// The flat pair that covers `low..=high`; None beyond F16.
    pub(super) fn covering(low: f32, high: f32) -> Option<Self> {
        let middle = f32_to_f16(low * 0.5 + high * 0.5);
        let m = f16_to_f32(middle);
        let (above, below) = (high - m, m - low);
        let reach = if above > below { above } else { below };
        let mut half = f32_to_f16(reach);
        if f16_to_f32(half) < reach {
            half += 1;
        }
        (f16_to_f32(half).is_finite() && m.is_finite()).then_some(Self { middle, half })
    }

    pub(super) fn ruler(self) -> Ruler {
        Ruler { middle: f16_to_f32(self.middle), half: f16_to_f32(self.half & 0x7FFF), curved: self.half & 0x8000 != 0 }
    }

    fn bytes(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.middle.to_le_bytes(), self.half.to_le_bytes());
        [a, b, c, d]
    }
}

impl<'a> Encoder<'a> {
    pub(super) fn new(level: Level, scheme: &'a Elastic, fit: Fit) -> Self {
        Self {
            level,
            scheme,
            fit,
            codes: [0; TILE],
            waiting: [0; TILE],
            lanes: Lanes::ZERO,
            summed: 0,
            total: ElasticDistortion::default(),
        }
    }

    /// What all rows lost.
    pub(super) fn finish(mut self) -> ElasticDistortion {
        self.settle();
        self.total
    }

    /// Encodes one row with the help of a tile. Places in errors count from the start of the row.
    pub(super) fn row(&mut self, row: Values<'_>, x: &mut [f32; TILE], sink: &mut Sink<'_, '_>) -> Result<(), Error> {
        let size = self.scheme.group.get();
        let tile = if size > TILE { size } else { TILE / size * size };
        for from in (0..row.len()).step_by(tile) {
            let values = row.slice(from..from.saturating_add(tile));
            let place = |e: Error| e.offset(from, from / size);
            if size > TILE {
                self.group(&mut Pieces::Tiles(values, x), sink).map_err(place)?;
                continue;
            }
            values.decode(self.level, x);
            for (i, group) in x[..values.len()].chunks(size).enumerate() {
                self.group(&mut Pieces::Held(group), sink).map_err(|e| place(e.offset(i * size, i)))?;
            }
        }
        sink.flush(&self.waiting);
        Ok(())
    }

    /// Encodes one group.
    fn group(&mut self, pieces: &mut Pieces<'_>, sink: &mut Sink<'_, '_>) -> Result<(), Error> {
        let base = self.base(pieces)?;
        let ruler = base.ruler();
        let (level, widths) = (self.level, self.scheme.widths);
        let bits = widths.widest().get();
        let mut all = [Sums::default(); 9];
        pieces.each(level, |x| {
            kernel::codes(level, x, &ruler, bits, &mut self.codes);
            let sums = kernel::sums(level, x, &ruler, &self.codes, widths);
            all.iter_mut().zip(&sums).for_each(|(to, from)| to.add(from));
        });
        let fixes = fixes(&ruler, &all, pieces.len() as f32, widths);
        sink.group(base.bytes(), &fixes);
        let mut levels = [[0.0; 4]; 9];
        for width in widths.iter() {
            let b = width.get() as usize;
            levels[b] = elastic_levels(width, base.middle, base.half, fixes[b]);
        }
        let held = pieces.is_held();
        pieces.each(level, |x| {
            if !held {
                kernel::codes(level, x, &ruler, bits, &mut self.codes);
            }
            if self.summed + x.len() > TILE {
                self.settle();
            }
            self.summed += x.len();
            kernel::lost(level, x, &self.codes, &levels, widths, &mut self.lanes);
            sink.codes(&self.codes[..x.len()], &mut self.waiting);
        });
        Ok(())
    }

    /// Chooses middle, half and curve.
    fn base(&self, pieces: &mut Pieces<'_>) -> Result<Base, Error> {
        let mut all = None::<Extent>;
        let mut before = 0;
        let mut bad = None;
        pieces.each(self.level, |x| {
            let extent = kernel::extent(self.level, x);
            if extent.largest >= kernel::INFINITE && bad.is_none() {
                bad = x.iter().position(|x| !x.is_finite()).map(|i| before + i);
            }
            all = Some(all.map_or(extent, |all| all.with(&extent)));
            before += x.len();
        });
        if let Some(index) = bad {
            return Err(ErrorKind::NotFinite { index }.into());
        }
        let extent = all.unwrap_or_default();
        let plain = Base::covering(extent.low, extent.high).ok_or(ErrorKind::RangeOverflow { group: 0 })?;
        Ok(match self.fit {
            Fit::MinMax => plain,
            Fit::Clip | Fit::Lsq => plain,
        })
    }

    /// Adds the lanes of a tile to the total.
    fn settle(&mut self) {
        for width in self.scheme.widths.iter() {
            let b = width.get() as usize;
            let max_abs = self.lanes.max_abs[b].iter().fold(0.0, |m: f32, x| if *x > m { *x } else { m });
            self.total.widths[b].get_or_insert_default().merge(&Distortion {
                signal: fold(self.lanes.signal).into(),
                noise: fold(self.lanes.noise[b]).into(),
                max_abs,
                elements: self.summed as u64,
            });
        }
        (self.lanes, self.summed) = (Lanes::ZERO, 0);
    }
}

/// The weights of one group.
pub(super) enum Pieces<'a> {
    /// All of them, widened.
    Held(&'a [f32]),
    /// More than a tile holds: widened tile by tile, each time anew.
    Tiles(Values<'a>, &'a mut [f32; TILE]),
}

impl Pieces<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Held(x) => x.len(),
            Self::Tiles(values, _) => values.len(),
        }
    }

    fn is_held(&self) -> bool {
        matches!(self, Self::Held(_))
    }

    /// Hands over the weights in order.
    pub(super) fn each(&mut self, level: Level, mut f: impl FnMut(&[f32])) {
        match self {
            Self::Held(x) => f(x),
            Self::Tiles(values, buffer) => {
                for from in (0..values.len()).step_by(TILE) {
                    let tile = values.slice(from..from + TILE);
                    tile.decode(level, &mut buffer[..]);
                    f(&buffer[..tile.len()]);
                }
            }
        }
    }
}
