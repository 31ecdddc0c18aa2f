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

use super::listed::{self, Listed};
use super::recode;
use super::storage::{Code, Stored};
use crate::encode::narrow_into;
use crate::error::{Error, ErrorKind};
use crate::signature::bound::TensorPatch;

/// Weights that are changed at a time: what they take in f64 fits a first-level cache.
const RUN: usize = 2048;

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
    let level = Level::best();
    let x = stored.decode(parts, rows)?;
    let mut target = vec![0.0; x.len()];
    let mut arrival = Arrival::default();
    let floats = stored.floats();
    let place = stored.place(Part::Whole).or_else(|| stored.place(Part::Values));
    let mut wide = [0.0; RUN];
    let mut stored_now = [0.0; RUN];
    for (at, (x, target)) in x.chunks(RUN).zip(target.chunks_mut(RUN)).enumerate() {
        let wide = &mut wide[..x.len()];
        patch::widen(level, x, wide);
        values.apply(way, at * RUN, wide);
        patch::narrow(level, wide, target);
        if let Some(bad) = target.iter().zip(x).position(|(now, x)| !now.is_finite() && x.is_finite()) {
            let what = format!("weight {} is no finite number under the patch", flat(stored, rows, at * RUN + bad));
            return Err(Error::from(ErrorKind::Patch { what }).of(stored.tensor.name()));
        }
        if let (Some(dtype), Some(place)) = (floats, place) {
            let size = dtype.bitsize() / 8;
            let bytes = &mut parts[place][at * RUN * size..][..x.len() * size];
            narrow_into(target, dtype, bytes);
            if way == Way::On {
                let now = &mut stored_now[..x.len()];
                niwaki_tensors::decode_f32(dtype, bytes, now)?;
                arrival.merge(&Arrival::of(level, x, wide, now));
            }
        }
    }
    if floats.is_some() {
        return Ok(arrival);
    }
    write_codes(stored, rows, (values.patches, way), &target, parts)?;
    if way == Way::On {
        let now = stored.decode(parts, rows)?;
        for (at, (x, now)) in x.chunks(RUN).zip(now.chunks(RUN)).enumerate() {
            let wide = &mut wide[..x.len()];
            patch::widen(level, x, wide);
            values.apply(way, at * RUN, wide);
            arrival.merge(&Arrival::of(level, x, wide, now));
        }
    }
    Ok(arrival)
}

/// Applies patches to the few weights that they touch.
fn shift_listed(
    listed: &Listed<'_, '_>,
    values: &Values<'_, '_>,
    way: Way,
    parts: &mut [Vec<u8>],
) -> Result<Arrival, Error> {
    let level = Level::best();
    let x = listed.decode(parts)?;
    let (mut wide, mut target) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    patch::widen(level, &x, &mut wide);
    values.apply(way, 0, &mut wide);
    patch::narrow(level, &wide, &mut target);
    if let Some(bad) = target.iter().zip(&x).position(|(now, x)| !now.is_finite() && x.is_finite()) {
        let at = listed.positions.get(bad).copied().unwrap_or(bad);
        return Err(ErrorKind::Patch { what: format!("weight {at} is no finite number under the patch") }.into());
    }
    listed.write(&target, parts)?;
    match way {
        Way::On => Ok(Arrival::of(level, &x, &wide, &listed.decode(parts)?)),
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
