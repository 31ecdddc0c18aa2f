//! FP4 in three dresses: two codes a byte, the first in the low nibble, scaled in groups.
//!
//! ```text
//! compressed-tensors  P.weight_packed U8 [out, in/2], P.weight_scale, P.weight_global_scale
//!     nvfp4           scale F8_E4M3 [out, in/16]; x = level * (scale / global)
//!     mxfp4           scale U8 [out, in/32], an exponent plus 127
//! MLX                 P.weight U32 [out, in/8], P.scales U8, no biases; see `mlx`
//! gpt-oss             X_blocks U8 [..., groups, 16], X_scales U8 [..., groups]
//! ```

use niwaki_codes::Bits;
use niwaki_tensors::Dtype;

use crate::Format;
use crate::compressed;
use crate::config::{Config, Declared};
use crate::error::{Error, ErrorKind};
use crate::imported::Logical;
use crate::inventory::{Inventory, Stored, dims};
use crate::parts::{Matrix, Siblings, part_form};
use crate::table::{Factor, Number, Order, Table};
use crate::weights::{Codes, Groups, Levels, Middles, Weights};

/// The scales of one dress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scales<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) number: Number,
    pub(crate) factor: Factor,
    /// Weights that share one.
    pub(crate) group: usize,
}

/// Codes in bytes, with scales side by side in each row.
pub(crate) fn weights<'a>(
    codes: &'a [u8],
    (rows, cols): (usize, usize),
    scales: Scales<'a>,
) -> Result<Weights<'a>, Error> {
    let order = Order::groups(cols / scales.group);
    Ok(Weights {
        rows,
        cols,
        codes: Codes::Rows { bytes: codes, row_bytes: cols / 2, bits: Bits::new(4)? },
        levels: Levels::E2m1,
        scales: Table { bytes: scales.bytes, number: scales.number, order, factor: scales.factor },
        middles: Middles::None,
        groups: Groups::Runs(scales.group),
    })
}

/// The last dimension times `by`, for a weight whose rows are packed.
pub(crate) fn widened(stored: &Stored<'_>, by: usize) -> Result<Vec<usize>, Error> {
    let mut shape = stored.shape().to_vec();
    let last = shape.last_mut().ok_or(ErrorKind::Overflow)?;
    *last = last.checked_mul(by).ok_or(ErrorKind::Overflow)?;
    Ok(shape)
}

/// Refuses scales whose shape is not one for each group.
pub(crate) fn one_a_group(scale: &Stored<'_>, weight: &[usize], group: usize) -> Result<(), Error> {
    let needs = match weight.split_last() {
        Some((cols, lead)) if cols.is_multiple_of(group) => [lead, &[cols / group]].concat(),
        _ => return Err(part_form(scale, format!("rows of groups of {group}"))),
    };
    if scale.shape() == needs { Ok(()) } else { Err(part_form(scale, dims(&needs))) }
}

/// The quantized tensor whose FP4 codes `stored` holds, as compressed-tensors has it.
pub(crate) fn packed<'a>(
    stored: &Stored<'a>,
    inventory: &Inventory<'a>,
    config: &Config<'_>,
) -> Result<Logical<'a>, Error> {
    let head = stored.name().strip_suffix("weight_packed").unwrap_or_default();
    let siblings = Siblings::new(inventory, head);
    let scale = siblings.need("weight_scale")?;
    let nv = scale.dtype() == Dtype::F8_E4M3;
    let format = if nv { Format::Nvfp4Packed } else { Format::Mxfp4Packed };
    compressed::settings(config, format)?;
    if siblings.get("weight_zero_point").is_some() {
        return Err(ErrorKind::Unsupported("FP4 with zero points".to_owned()).into());
    }
    let shape = widened(stored, 2)?;
    let weight = Matrix::new(&shape).ok_or_else(|| part_form(stored, "two or more dimensions"))?;
    let (number, group) = match scale.dtype() {
        Dtype::F8_E4M3 => (Number::E4m3, 16),
        Dtype::U8 | Dtype::F8_E8M0 => (Number::E8m0, 32),
        _ => return Err(part_form(&scale, "F8_E4M3, U8 or F8_E8M0")),
    };
    one_a_group(&scale, &shape, group)?;
    let global = if nv { Some(siblings.need("weight_global_scale")?) } else { None };
    let factor = match global {
        Some(global) => Factor::Over(single(&global)?),
        None => Factor::One,
    };
    let scales = Scales { bytes: scale.bytes(), number, factor, group };
    let weights = weights(stored.bytes(), (weight.all_rows(), weight.cols), scales)?;
    let parts = [Some(*stored), Some(scale), global].into_iter().flatten().collect();
    let form = (format, config.dtype.unwrap_or(Dtype::F32));
    Ok(Logical::new(format!("{head}weight"), form, shape, weights, parts))
}

/// The only element of an F32.
fn single(part: &Stored<'_>) -> Result<f32, Error> {
    match (part.dtype(), part.bytes().as_chunks::<4>()) {
        (Dtype::F32, ([bytes], [])) => Ok(f32::from_le_bytes(*bytes)),
        _ => Err(part_form(part, "one F32")),
    }
}

/// The quantized tensor whose blocks `stored` holds, as gpt-oss has it.
pub(crate) fn blocks<'a>(
    stored: &Stored<'a>,
    inventory: &Inventory<'a>,
    config: &Config<'_>,
) -> Result<Option<Logical<'a>>, Error> {
    let head = stored.name().strip_suffix("_blocks").unwrap_or_default();
    let siblings = Siblings::new(inventory, head);
    let Some(scale) = siblings.get("_scales").filter(|scale| scale.dtype() == Dtype::U8) else { return Ok(None) };
    match &config.declared {
        Declared::Mxfp4 | Declared::Nothing => {}
        Declared::Other(method) => return Err(ErrorKind::Method((*method).to_owned()).into()),
        other => return Err(ErrorKind::OtherMethod { shows: Format::Mxfp4, says: other.name() }.into()),
    }
    let [lead @ .., groups, 16] = stored.shape() else { return Err(part_form(stored, "groups of 16 bytes")) };
    let shape = [lead, &[groups.checked_mul(32).ok_or(ErrorKind::Overflow)?]].concat();
    let weight = Matrix::new(&shape).ok_or_else(|| part_form(stored, "three or more dimensions"))?;
    one_a_group(&scale, &shape, 32)?;
    let scales = Scales { bytes: scale.bytes(), number: Number::E8m0, factor: Factor::One, group: 32 };
    let weights = weights(stored.bytes(), (weight.all_rows(), weight.cols), scales)?;
    let form = (Format::Mxfp4, config.dtype.unwrap_or(Dtype::F32));
    Ok(Some(Logical::new(head.to_owned(), form, shape, weights, vec![*stored, scale])))
}
