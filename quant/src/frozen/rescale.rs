//! Scales times a factor a row, under codes that stay.

use core::iter::repeat_n;

use niwaki_codes::floats::{Blocks, Float, e4m3_to_f32};
use niwaki_codes::{BlockType, Elastic, Grouping, ScaleType, Symmetry, Uniform};

use crate::error::exactly;
use crate::floats::float_bytes;
use crate::{Error, ErrorKind};

mod times;

use times::{each, times_e4m3, times_f16, times_f32};

/// Multiplies what rows of `cols` weights decode to, row `i` by `factors[i]`. Also for the kept
/// weights of a masked tensor with a scale a row.
///
/// `false` where rows that share the scale of a tensor have different factors, or a zero point
/// would need a negative scale.
///
/// # Errors
///
/// [`ErrorKind::NotFinite`] for a factor that is an infinity or NaN, with its row,
/// [`ErrorKind::ScaleOverflow`] for a scale beyond its type, [`ErrorKind::Length`] for scales of
/// another length.
pub fn rescale_rows(scheme: &Uniform, cols: usize, factors: &[f32], scales: &mut [u8]) -> Result<bool, Error> {
    let groups = scheme.groups(factors.len(), cols);
    exactly("scales", groups.saturating_mul(scheme.scale_type().bytes()), scales.len())?;
    finite(factors)?;
    let per_row = match scheme.grouping {
        Grouping::Tensor if !same(factors) => return Ok(false),
        Grouping::Tensor | Grouping::Row => 1,
        Grouping::Group(g) => cols.div_ceil(g.get()),
    };
    uniform(scheme, factors.iter().flat_map(|factor| repeat_n(*factor, per_row)), scales)
}

/// Multiplies what the kept weights of a masked tensor decode to: `kept[i]` of them are in row
/// `i` and take `factors[i]`. Groups run over them without regard to rows.
///
/// `false` as of [`rescale_rows`], and where rows that share a group have different factors.
///
/// # Errors
///
/// As of [`rescale_rows`].
pub fn rescale_kept(scheme: &Uniform, kept: &[usize], factors: &[f32], scales: &mut [u8]) -> Result<bool, Error> {
    let size = match scheme.grouping {
        Grouping::Row => return rescale_rows(scheme, 0, factors, scales),
        Grouping::Tensor => usize::MAX,
        Grouping::Group(g) => g.get(),
    };
    let groups = kept_groups(kept, factors, size)?;
    let bytes = scheme.scale_type().bytes();
    exactly("scales", count(&groups, scales.len() / bytes) * bytes, scales.len())?;
    match groups.clone().all(|factor| factor.is_some()) {
        true => uniform(scheme, groups.flatten(), scales),
        false => Ok(false),
    }
}

fn uniform(scheme: &Uniform, factors: impl Iterator<Item = f32> + Clone, scales: &mut [u8]) -> Result<bool, Error> {
    if scheme.symmetry == Symmetry::Affine && factors.clone().any(|factor| factor < 0.0) {
        return Ok(false);
    }
    match scheme.scale_type() {
        ScaleType::F16 => each(scales, factors, times_f16),
        ScaleType::F32 => each(scales, factors, times_f32),
    }
    .map_err(overflow)?;
    Ok(true)
}

/// Multiplies what rows of `cols` weights in blocks decode to, row `i` by `factors[i]`: scales
/// and minima alike.
///
/// `false` where the scales of the blocks are powers of two and cannot take the factor.
///
/// # Errors
///
/// [`ErrorKind::NotFinite`] for a factor that is an infinity or NaN, with its row,
/// [`ErrorKind::ScaleOverflow`] for a scale or minimum beyond its type, with the block,
/// [`ErrorKind::BlockRow`] for rows that are not whole blocks, [`ErrorKind::Length`] for blocks
/// of another length.
pub fn rescale_block_rows(kind: BlockType, cols: usize, factors: &[f32], blocks: &mut [u8]) -> Result<bool, Error> {
    let row_bytes = kind.row_bytes(cols).map_err(|_| ErrorKind::BlockRow { kind, cols })?;
    exactly("codes", factors.len().saturating_mul(row_bytes), blocks.len())?;
    finite(factors)?;
    let factors = factors.iter().flat_map(|factor| repeat_n(*factor, cols / kind.elements()));
    let mut sound = true;
    for (group, (block, factor)) in blocks.chunks(kind.bytes()).zip(factors.clone()).enumerate() {
        if kind == BlockType::Mxfp4 {
            // The scale of nothing but zeros need not change.
            let zeros = block.iter().skip(1).all(|byte| byte & 0x77 == 0);
            sound &= zeros || power(block[0], factor, group)?.is_some();
        }
        let holds = |at: &usize| block.get(*at..).and_then(|b| b.first_chunk()).and_then(|b| times_f16(*b, factor));
        if kind.halves().iter().any(|at| holds(at).is_none()) {
            return Err(overflow(group));
        }
    }
    if !sound {
        return Ok(false);
    }
    for (block, factor) in blocks.chunks_mut(kind.bytes()).zip(factors) {
        if kind == BlockType::Mxfp4 {
            block[0] = power(block[0], factor, 0).ok().flatten().unwrap_or(block[0]);
        }
        for at in kind.halves() {
            if let Some(half) = block.get_mut(*at..).and_then(|b| b.first_chunk_mut()) {
                *half = times_f16(*half, factor).unwrap_or(*half);
            }
        }
    }
    Ok(true)
}

/// Multiplies what rows of `cols` weights in small floats decode to, row `i` by `factors[i]`.
/// Rows of squares come in multiples of a side, or are the last.
///
/// `factor` is that of NVFP4 where these rows are the whole tensor: if all have one factor, it
/// takes it; else the scales do, each rounded to e4m3.
///
/// `false` where rows that share a scale have different factors, and where scales are powers
/// of two and cannot take the factor.
///
/// # Errors
///
/// [`ErrorKind::NotFinite`] for a factor that is an infinity or NaN, with its row,
/// [`ErrorKind::ScaleOverflow`] for a scale, or the factor of NVFP4, beyond its type,
/// [`ErrorKind::Length`] for a part of another length.
pub fn rescale_float_rows(
    float: Float,
    cols: usize,
    factors: &[f32],
    scales: &mut [u8],
    factor: Option<&mut [u8; 4]>,
) -> Result<bool, Error> {
    exactly("scales", float_bytes(float, factors.len(), cols).1, scales.len())?;
    finite(factors)?;
    let wide = float.scale_shape(factors.len(), cols).1;
    let side = match float {
        Float::Fp8E4m3(Blocks::Tensor) => usize::MAX,
        Float::Fp8E4m3(Blocks::Square(side)) => side.get() as usize,
        _ => 1,
    };
    if !factors.chunks(side).all(same) {
        return Ok(false);
    }
    let first = factors.first().copied().unwrap_or(1.0);
    let groups = factors.chunks(side).flat_map(|rows| repeat_n(rows.first().copied().unwrap_or(1.0), wide));
    match (float, factor) {
        (Float::Nvfp4, Some(factor)) if same(factors) && first != 0.0 => {
            return divide(factor, first, scales).map(|()| true);
        }
        (Float::Nvfp4, _) => each(scales, groups, times_e4m3).map_err(overflow)?,
        (Float::Mxfp4, _) => {
            for (group, (scale, factor)) in scales.iter().zip(groups.clone()).enumerate() {
                if power(*scale, factor, group)?.is_none() {
                    return Ok(false);
                }
            }
            scales.iter_mut().zip(groups).for_each(|(scale, factor)| {
                *scale = power(*scale, factor, 0).ok().flatten().unwrap_or(*scale);
            });
        }
        _ => each(scales, groups, times_f32).map_err(overflow)?,
    }
    Ok(true)
}

/// Divides the factor of NVFP4, which is above 0: a sign goes to the scales.
fn divide(factor: &mut [u8; 4], by: f32, scales: &mut [u8]) -> Result<(), Error> {
    let next = f32::from_le_bytes(*factor) / by.abs();
    let holds = |scale: &u8| (e4m3_to_f32(*scale) / next).is_finite();
    if !(next > 0.0 && next.is_finite()) {
        return Err(overflow(0));
    }
    if let Some(group) = scales.iter().position(|scale| !holds(scale)) {
        return Err(overflow(group));
    }
    *factor = next.to_le_bytes();
    if by < 0.0 {
        scales.iter_mut().for_each(|scale| *scale ^= 0x80);
    }
    Ok(())
}

/// Multiplies what rows of `cols` elastic weights decode to, row `i` by `factors[i]`: middle and
/// half of each group.
///
/// `false` for a negative factor, for which codes would have to run the other way.
///
/// # Errors
///
/// [`ErrorKind::NotFinite`] for a factor that is an infinity or NaN, with its row,
/// [`ErrorKind::RangeOverflow`] for a group beyond F16, [`ErrorKind::Length`] for a base of
/// another length.
pub fn rescale_elastic_rows(scheme: &Elastic, cols: usize, factors: &[f32], base: &mut [u8]) -> Result<bool, Error> {
    let per_row = scheme.groups(cols);
    exactly("base", factors.len().saturating_mul(per_row).saturating_mul(4), base.len())?;
    finite(factors)?;
    elastic(factors.iter().flat_map(|factor| repeat_n(*factor, per_row)), base)
}

/// Multiplies what the kept elastic weights of a masked tensor decode to: `kept[i]` of them are in
/// row `i` and take `factors[i]`.
///
/// `false` as of [`rescale_elastic_rows`], and where rows that share a group have different factors.
///
/// # Errors
///
/// As of [`rescale_elastic_rows`].
pub fn rescale_elastic_kept(scheme: &Elastic, kept: &[usize], factors: &[f32], base: &mut [u8]) -> Result<bool, Error> {
    let groups = kept_groups(kept, factors, scheme.group.get())?;
    exactly("base", count(&groups, base.len() / 4) * 4, base.len())?;
    if groups.clone().all(|factor| factor.is_some()) { elastic(groups.flatten(), base) } else { Ok(false) }
}

fn elastic(factors: impl Iterator<Item = f32> + Clone, base: &mut [u8]) -> Result<bool, Error> {
    if factors.clone().any(|factor| factor < 0.0) {
        return Ok(false);
    }
    // The sign bit of the half chooses the curve and stays: factors have none but that of -0.
    let pair = |[a, b, c, d]: [u8; 4], factor: f32| {
        let ([a, b], [c, d]) = (times_f16([a, b], factor)?, times_f16([c, d], factor.abs())?);
        Some([a, b, c, d])
    };
    each(base, factors, pair).map_err(|group| ErrorKind::RangeOverflow { group })?;
    Ok(true)
}

/// How many groups there are, not counted further than to one more than there should be.
fn count(groups: &(impl Iterator + Clone), should: usize) -> usize {
    groups.clone().take(should + 1).count()
}

/// The factor of each group of `size` kept weights; none where its rows have several.
fn kept_groups<'a>(
    kept: &'a [usize],
    factors: &'a [f32],
    size: usize,
) -> Result<impl Iterator<Item = Option<f32>> + Clone + 'a, Error> {
    exactly("factors", kept.len(), factors.len())?;
    finite(factors)?;
    let mut rows = kept.iter().zip(factors);
    // Weights that are left of the row that a group has ended in.
    let (mut left, mut now) = (0, 0.0);
    Ok(core::iter::from_fn(move || {
        let (mut need, mut one, mut mixed) = (size, None, false);
        while need > 0 {
            if left == 0 {
                let Some((kept, factor)) = rows.next() else { break };
                (left, now) = (*kept, *factor);
                continue;
            }
            mixed |= *one.get_or_insert(now) != now;
            let n = need.min(left);
            (need, left) = (need - n, left - n);
        }
        one.map(|factor| (!mixed).then_some(factor))
    }))
}

/// The E8M0 of `2^(e-127)` times a factor; none where that is no power of two, or one too small.
fn power(e: u8, factor: f32, group: usize) -> Result<Option<u8>, Error> {
    // As f64 every factor is a normal number.
    let bits = f64::from(factor).to_bits();
    if factor <= 0.0 || bits << 12 != 0 {
        return Ok(None);
    }
    let next = i32::from(e) + (bits >> 52) as i32 - 1023;
    if next > 254 { Err(overflow(group)) } else { Ok(u8::try_from(next).ok()) }
}

fn overflow(group: usize) -> Error {
    ErrorKind::ScaleOverflow { group }.into()
}

fn same(factors: &[f32]) -> bool {
    factors.windows(2).all(|pair| pair[0] == pair[1])
}

fn finite(factors: &[f32]) -> Result<(), Error> {
    match factors.iter().position(|factor| !factor.is_finite()) {
        Some(index) => Err(ErrorKind::NotFinite { index }.into()),
        None => Ok(()),
    }
}
