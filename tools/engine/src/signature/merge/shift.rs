//! What patches do to the stored bytes of some rows.
//!
//! ```text
//! stored bytes --decode--> x --patches--> target --narrow or recode--> stored bytes
//! ```
//!
//! Codes keep their grids: a weight gets the code whose value is nearest to the target. Where
//! patches only scale rows, the scales take the factor and no code changes.

use std::ops::Range;

use niwaki_codes::simd::Level;
use niwaki_codes::{PatchKind, patch};
use niwaki_container::Part;

use super::recode;
use super::storage::{Code, Stored};
use crate::encode::narrowed;
use crate::error::{Error, ErrorKind};
use crate::signature::bound::TensorPatch;

/// Which way patches are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// One after the other.
    On,
    /// Taken back, the last one first.
    Off,
}

/// What of a patch arrives in the stored weights: sums over the change asked for, and the change
/// made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrival {
    asked: f64,
    made: f64,
}

impl Arrival {
    /// The patch against what became of the weights: `x` before, `wide` asked, `now` stored.
    fn of(x: &[f32], wide: &[f64], now: &[f32]) -> Self {
        let mut sums = Self::default();
        for ((x, wide), now) in x.iter().zip(wide).zip(now) {
            let asked = wide - f64::from(*x);
            sums.asked += asked * asked;
            sums.made += asked * (f64::from(*now) - f64::from(*x));
        }
        sums
    }

    pub(super) fn merge(&mut self, next: &Self) {
        self.asked += next.asked;
        self.made += next.made;
    }

    /// How much of the patch arrives, along the patch: 1 for all of it.
    pub(super) fn survival(&self) -> f64 {
        if self.asked > 0.0 { self.made / self.asked } else { 1.0 }
    }
}

/// Applies `patches` to the bytes `parts` of the given rows.
pub(super) fn shift(
    stored: &Stored<'_>,
    rows: &Range<usize>,
    patches: &[TensorPatch<'_>],
    way: Way,
    parts: &mut [Vec<u8>],
) -> Result<Arrival, Error> {
    let level = Level::best();
    let x = stored.decode(parts, rows)?;
    let mut wide = vec![0.0; x.len()];
    patch::widen(level, &x, &mut wide);
    let values = |patch: &TensorPatch<'_>| live_values(stored, rows, patch);
    match way {
        Way::On => {
            for patch in patches {
                patch.kind.apply(level, patch.alpha, &values(patch)?, &mut wide);
            }
        }
        Way::Off => {
            for patch in patches.iter().rev() {
                patch.kind.take_back(level, patch.alpha, &values(patch)?, &mut wide);
            }
        }
    }
    let mut target = vec![0.0; x.len()];
    patch::narrow(level, &wide, &mut target);
    if let Some(at) = target.iter().zip(&x).position(|(now, x)| !now.is_finite() && x.is_finite()) {
        let what = format!("weight {} is no finite number under the patch", flat(stored, rows, at));
        return Err(Error::from(ErrorKind::Patch { what }).of(stored.tensor.name()));
    }
    write(stored, rows, (patches, way), &target, parts)?;
    match way {
        Way::On => Ok(Arrival::of(&x, &wide, &stored.decode(parts, rows)?)),
        Way::Off => Ok(Arrival::default()),
    }
}

/// Stores the targets.
fn write(
    stored: &Stored<'_>,
    rows: &Range<usize>,
    (patches, way): (&[TensorPatch<'_>], Way),
    target: &[f32],
    parts: &mut [Vec<u8>],
) -> Result<(), Error> {
    if let Some(dtype) = stored.floats() {
        let place = stored.place(Part::Whole).or_else(|| stored.place(Part::Values)).unwrap_or(0);
        parts[place] = narrowed(target, dtype);
        return Ok(());
    }
    let scaled = match row_factors(stored, rows, patches, way)? {
        Some(factors) => recode::rescale(stored, rows, &factors, parts)?,
        None => false,
    };
    let only_scales = patches.iter().all(|patch| patch.kind == PatchKind::Scale);
    if scaled && only_scales { Ok(()) } else { recode::recode(stored, rows, target, parts) }
}

/// What each row is multiplied by; none where no patch scales, or factors differ within a row.
fn row_factors(
    stored: &Stored<'_>,
    rows: &Range<usize>,
    patches: &[TensorPatch<'_>],
    way: Way,
) -> Result<Option<Vec<f32>>, Error> {
    let scales: Vec<_> = patches.iter().filter(|patch| patch.kind == PatchKind::Scale).collect();
    let shape = stored.tensor.shape();
    if scales.is_empty() || shape.dims().len() < 2 {
        return Ok(None);
    }
    let (_, cols) = stored.tensor.matrix();
    let mut factors = vec![1.0; rows.len()];
    for patch in scales {
        for (factor, row) in factors.iter_mut().zip(rows.clone()) {
            let mut value = [1.0];
            patch.values(row * cols..row * cols + 1, shape.elements(), &mut value)?;
            let by = patch::factor(patch.alpha, value[0]);
            *factor *= match way {
                Way::On => by,
                Way::Off if by == 0.0 => 1.0,
                Way::Off => 1.0 / by,
            };
        }
    }
    Ok(Some(factors.into_iter().map(|factor| factor as f32).collect()))
}

/// The flat index of the weight that is number `at` among those stored of the rows.
fn flat(stored: &Stored<'_>, rows: &Range<usize>, at: usize) -> usize {
    match &stored.code {
        Code::Kept(_, positions) => positions.get(at).copied().unwrap_or(at),
        _ => rows.start * stored.tensor.matrix().1 + at,
    }
}

/// The values of a patch for the weights of the rows that are stored.
fn live_values(stored: &Stored<'_>, rows: &Range<usize>, patch: &TensorPatch<'_>) -> Result<Vec<f32>, Error> {
    let (_, cols) = stored.tensor.matrix();
    let range = rows.start * cols..rows.end * cols;
    let mut values = vec![0.0; range.len()];
    patch.values(range, stored.tensor.shape().elements(), &mut values)?;
    match &stored.code {
        Code::Kept(_, positions) => Ok(positions.iter().map(|at| values[*at]).collect()),
        _ => Ok(values),
    }
}
