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
use niwaki_quant::signature::arrival::Arrival;
use niwaki_tensors::{Dtype, decode_f32};

use super::listed::{self, Listed};
use super::recode;
use super::storage::{Code, Stored};
use crate::encode::narrow_into;
use crate::error::{Error, ErrorKind};
use crate::signature::bound::TensorPatch;

/// Weights that are changed at a time: what they take in f64 fits a first-level cache.
const RUN: usize = 1024;

/// Which way patches are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// One after the other.
    On,
    /// Taken back, the last one first.
    Off,
}

/// The patches of some rows of a tensor, with their values.
pub(super) struct Values<'p, 'a> {
    patches: &'p [TensorPatch<'a>],
    /// For the weights that are stored, or for those listed.
    values: Vec<Vec<f32>>,
    /// The weights that patches touch, where these are few.
    listed: Option<Vec<usize>>,
}

impl<'p, 'a> Values<'p, 'a> {
    pub(super) fn new(stored: &Stored<'_>, rows: &Range<usize>, patches: &'p [TensorPatch<'a>]) -> Result<Self, Error> {
        if listed::by_one(stored)
            && let Some((listed, values)) = few(rows, patches)?
        {
            return Ok(Self { patches, values, listed: Some(listed) });
        }
        let values = patches.iter().map(|patch| live_values(stored, rows, patch)).collect::<Result<_, _>>()?;
        Ok(Self { patches, values, listed: None })
    }

    /// Changes weights from number `at` on.
    fn apply(&self, way: Way, at: usize, wide: &mut [f64]) {
        let level = Level::best();
        let all = self.patches.iter().zip(&self.values);
        let end = at + wide.len();
        let of = |values: &Vec<f32>| at..end.min(values.len());
        match way {
            Way::On => all.for_each(|(patch, values)| {
                patch.kind.apply(level, patch.alpha, &values[of(values)], wide);
            }),
            Way::Off => all.rev().for_each(|(patch, values)| {
                patch.kind.take_back(level, patch.alpha, &values[of(values)], wide);
            }),
        }
    }
}

/// Applies the patches to the bytes `parts` of the given rows.
pub(super) fn shift(
    stored: &Stored<'_>,
    rows: &Range<usize>,
    values: &Values<'_, '_>,
    way: Way,
    parts: &mut [Vec<u8>],
) -> Result<Arrival, Error> {
    if let Some(positions) = &values.listed {
        return shift_listed(&Listed { stored, rows, positions }, values, way, parts);
    }
    let weights = stored.place(Part::Whole).or_else(|| stored.place(Part::Values));
    match (stored.floats(), weights) {
        (Some(dtype), Some(weights)) => shift_floats(stored, rows, values, way, (dtype, &mut parts[weights])),
        _ => shift_codes(stored, rows, values, way, parts),
    }
}

/// Applies patches to weights that stand for themselves.
fn shift_floats(
    stored: &Stored<'_>,
    rows: &Range<usize>,
    values: &Values<'_, '_>,
    way: Way,
    (dtype, bytes): (Dtype, &mut [u8]),
) -> Result<Arrival, Error> {
    let level = Level::best();
    let mut arrival = Arrival::default();
    let (mut x, mut wide, mut target) = ([0.0; RUN], [0.0; RUN], [0.0; RUN]);
    let size = dtype.bitsize() / 8;
    for (run, bytes) in bytes.chunks_mut(RUN * size).enumerate() {
        let len = bytes.len() / size;
        let (x, wide, target) = (&mut x[..len], &mut wide[..len], &mut target[..len]);
        decode_f32(dtype, bytes, x)?;
        asked(values, way, run * RUN, x, wide);
        patch::narrow(level, wide, target);
        check_finite(x, target, |at| flat(stored, rows, run * RUN + at))?;
        narrow_into(target, dtype, bytes);
        if way == Way::On {
            decode_f32(dtype, bytes, target)?;
            arrival.merge(&Arrival::of(level, x, wide, target));
        }
    }
    Ok(arrival)
}

/// Applies patches to weights that are codes.
fn shift_codes(
    stored: &Stored<'_>,
    rows: &Range<usize>,
    values: &Values<'_, '_>,
    way: Way,
    parts: &mut [Vec<u8>],
) -> Result<Arrival, Error> {
    let level = Level::best();
    let x = stored.decode(parts, rows)?;
    let mut wide = [0.0; RUN];
    let mut target = vec![0.0; x.len()];
    for (run, (x, target)) in x.chunks(RUN).zip(target.chunks_mut(RUN)).enumerate() {
        let wide = &mut wide[..x.len()];
        asked(values, way, run * RUN, x, wide);
        patch::narrow(level, wide, target);
        check_finite(x, target, |at| flat(stored, rows, run * RUN + at))?;
    }
    write_codes(stored, rows, (values.patches, way), &target, parts)?;
    let mut arrival = Arrival::default();
    if way == Way::On {
        let now = stored.decode(parts, rows)?;
        for (run, (x, now)) in x.chunks(RUN).zip(now.chunks(RUN)).enumerate() {
            let wide = &mut wide[..x.len()];
            asked(values, way, run * RUN, x, wide);
            arrival.merge(&Arrival::of(level, x, wide, now));
        }
    }
    Ok(arrival)
}

/// What the patches make of weights from number `at` on.
fn asked(values: &Values<'_, '_>, way: Way, at: usize, x: &[f32], wide: &mut [f64]) {
    patch::widen(Level::best(), x, wide);
    values.apply(way, at, wide);
}

/// Refuses what a patch makes of finite weights and is not finite itself.
fn check_finite(x: &[f32], target: &[f32], index: impl Fn(usize) -> usize) -> Result<(), Error> {
    // Nearly always all are, which is seen without looking at each.
    if target.iter().fold(true, |all, now| all & now.is_finite()) {
        return Ok(());
    }
    match target.iter().zip(x).position(|(now, x)| !now.is_finite() && x.is_finite()) {
        Some(bad) => {
            let what = format!("weight {} is no finite number under the patch", index(bad));
            Err(ErrorKind::Patch { what }.into())
        }
        None => Ok(()),
    }
}

/// Applies patches to the few weights that they touch.
fn shift_listed(
    listed: &Listed<'_, '_>,
    values: &Values<'_, '_>,
    way: Way,
    parts: &mut [Vec<u8>],
) -> Result<Arrival, Error> {
    let level = Level::best();
    let mut taken = listed.take(parts)?;
    let x = taken.decode()?;
    let (mut wide, mut target) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    asked(values, way, 0, &x, &mut wide);
    patch::narrow(level, &wide, &mut target);
    check_finite(&x, &target, |at| listed.positions.get(at).copied().unwrap_or(at))?;
    listed.write(&target, &mut taken, parts)?;
    match way {
        Way::On => Ok(Arrival::of(level, &x, &wide, &taken.decode()?)),
        Way::Off => Ok(Arrival::default()),
    }
}

/// The weights that patches touch, and the values of each for them, where positions tell.
type Few = (Vec<usize>, Vec<Vec<f32>>);

fn few(rows: &Range<usize>, patches: &[TensorPatch<'_>]) -> Result<Option<Few>, Error> {
    let mut each = Vec::with_capacity(patches.len());
    for patch in patches {
        match patch.values.listed(rows.clone())?.filter(|_| patch.kind == PatchKind::Add) {
            Some(listed) => each.push(listed),
            None => return Ok(None),
        }
    }
    let mut all: Vec<usize> = each.iter().flat_map(|(places, _)| places.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    let spread = |(places, values): &(Vec<usize>, Vec<f32>)| {
        let mut out = vec![0.0; all.len()];
        let mut at = 0;
        for (place, value) in places.iter().zip(values) {
            at += all.get(at..).map_or(0, |rest| rest.iter().take_while(|other| **other < *place).count());
            if let Some(out) = out.get_mut(at) {
                *out = *value;
            }
        }
        out
    };
    let values = each.iter().map(spread).collect();
    Ok(Some((all, values)))
}

/// Stores the targets as codes.
fn write_codes(
    stored: &Stored<'_>,
    rows: &Range<usize>,
    (patches, way): (&[TensorPatch<'_>], Way),
    target: &[f32],
    parts: &mut [Vec<u8>],
) -> Result<(), Error> {
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
