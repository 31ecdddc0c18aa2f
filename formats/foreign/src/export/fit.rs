//! Which schemes a format can hold, and the nearest of those that it can.

use niwaki_codes::{Bits, GroupSize, Grouping, Scheme, Symmetry, Uniform};
use niwaki_tensors::Dtype;

use crate::error::{Error, ErrorKind};
use crate::{Format, gptq, mlx};

/// The scheme as `format` stores it.
pub(crate) fn fit(
    format: Format,
    scheme: &Uniform,
    (rows, cols): (usize, usize),
    scales: Dtype,
) -> Result<Uniform, Error> {
    let refuse = |why: String, nearest: Option<Uniform>| {
        let nearest = nearest.map(|scheme| Scheme::Uniform(scheme).to_string());
        let scheme = Scheme::Uniform(*scheme).to_string();
        Error::from(ErrorKind::Scheme { format, scheme, why, nearest })
    };
    if rows == 0 || cols == 0 {
        return Err(refuse("the tensor has no elements".to_owned(), None));
    }
    let types: &[Dtype] = match format {
        Format::PackQuantized | Format::IntQuantized | Format::Mlx => &[Dtype::F16, Dtype::BF16, Dtype::F32],
        Format::Gptq | Format::GptqV2 | Format::Awq => &[Dtype::F16, Dtype::BF16],
        _ => return Err(refuse("its codes are floats".to_owned(), None)),
    };
    if !types.contains(&scales) {
        let types = types.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
        return Err(refuse(format!("its scales are {types}, not {scales}"), None));
    }
    let bits = width(format, scheme.bits);
    let grouping = grouping(format, scheme.grouping, cols);
    let nearest = |grouping| Uniform::new(bits, grouping, scheme.symmetry);
    if bits != scheme.bits {
        let widths = widths(format).map(|bits| bits.to_string()).collect::<Vec<_>>().join(", ");
        let near = grouping.map_or_else(|(_, near)| near, Some);
        return Err(refuse(format!("its widths are {widths}"), near.map(nearest)));
    }
    let grouping = match grouping {
        Ok(grouping) => grouping,
        Err((why, near)) => return Err(refuse(why, near.map(nearest))),
    };
    divides(format, bits, (rows, cols)).map_err(|why| refuse(why, None))?;
    // compressed-tensors packs zero points by row or group only.
    let grouping = match (grouping, scheme.symmetry) {
        (Grouping::Tensor, Symmetry::Affine) => Grouping::Row,
        (Grouping::Tensor, _) if matches!(format, Format::Gptq | Format::GptqV2 | Format::Awq) => Grouping::Row,
        (grouping, _) => grouping,
    };
    Ok(Uniform::new(bits, grouping, scheme.symmetry))
}

fn widths(format: Format) -> impl Iterator<Item = Bits> {
    Bits::all().filter(move |bits| match format {
        Format::IntQuantized => bits.get() == 8,
        Format::Gptq | Format::GptqV2 => gptq::WIDTHS.contains(&bits.get()),
        Format::Awq => bits.get() == 4,
        Format::Mlx => mlx::WIDTHS.contains(&bits.get()),
        _ => true,
    })
}

/// The width itself, or the next that is wider, or the widest.
fn width(format: Format, asked: Bits) -> Bits {
    widths(format).find(|bits| *bits >= asked).or_else(|| widths(format).last()).unwrap_or(asked)
}

/// The grouping as stored; or why not, and the nearest that is.
fn grouping(format: Format, asked: Grouping, cols: usize) -> Result<Grouping, (String, Option<Grouping>)> {
    let group = |n: usize| GroupSize::new(n).ok().map(Grouping::Group);
    let known = |n: &usize| cols.is_multiple_of(*n);
    match (format, asked) {
        (Format::Mlx, Grouping::Group(g)) if mlx::GROUPS.contains(&g.get()) && known(&g.get()) => Ok(asked),
        (Format::Mlx, Grouping::Group(g)) if !mlx::GROUPS.contains(&g.get()) => {
            let near = mlx::GROUPS.into_iter().filter(known).min_by_key(|n| n.abs_diff(g.get()));
            Err(("its groups are 32, 64 and 128".to_owned(), near.and_then(group)))
        }
        (Format::Mlx, Grouping::Group(g)) => {
            let near = mlx::GROUPS.into_iter().rev().find(known);
            Err((format!("groups of {} do not divide rows of {cols}", g.get()), near.and_then(group)))
        }
        // One scale for many is the same scale for each group.
        (Format::Mlx, Grouping::Row | Grouping::Tensor) => {
            let widest = mlx::GROUPS.into_iter().rev().find(known).and_then(group);
            widest.ok_or_else(|| (format!("none of its groups (32, 64, 128) divides rows of {cols}"), None))
        }
        (_, Grouping::Group(g)) if !known(&g.get()) => {
            let near = divisor(g.get(), cols);
            let near = if near < 8 { Some(Grouping::Row) } else { group(near) };
            Err((format!("groups of {} do not divide rows of {cols}", g.get()), near))
        }
        _ => Ok(asked),
    }
}

/// The greatest common divisor.
fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// Whether codes and zero points fill whole words where the format wants them to.
fn divides(format: Format, bits: Bits, (rows, cols): (usize, usize)) -> Result<(), String> {
    // Codes of 3 bits fill whole words by 32.
    let codes = 32 / if bits.get() == 3 { 1 } else { bits.get() as usize };
    match format {
        Format::Gptq | Format::GptqV2 if !cols.is_multiple_of(codes) => {
            Err(format!("rows of {cols} are no multiple of {codes}"))
        }
        Format::Gptq | Format::GptqV2 if !rows.is_multiple_of(codes) => {
            Err(format!("{rows} rows are no multiple of {codes}"))
        }
        Format::Awq if !rows.is_multiple_of(8) => Err(format!("{rows} rows are no multiple of 8")),
        _ => Ok(()),
    }
}
