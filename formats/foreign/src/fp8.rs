//! F8_E4M3 with scales: `P.weight` beside `P.weight_scale_inv` or `P.weight_scale`.
//!
//! DeepSeek's checkpoints have a scale for each square of 128x128 (`weight_block_size`) and
//! call it `weight_scale_inv`; it is multiplied all the same. Others have one scale for the
//! tensor or one a row. compressed-tensors calls the same bytes `float-quantized`.

use niwaki_tensors::Dtype;

use crate::Format;
use crate::config::{Config, Declared, Object};
use crate::error::{Error, ErrorKind};
use crate::imported::Logical;
use crate::inventory::{Inventory, Stored};
use crate::parts::{Matrix, Siblings, floats, sharing};
use crate::weights::{Codes, Groups, Levels, Middles, Weights};

/// What the configuration says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Rows and columns that share a scale.
    square: Option<[usize; 2]>,
}

impl Settings {
    pub(crate) fn read(section: &Object<'_>) -> Result<Self, Error> {
        if section.text("fmt")?.is_some_and(|fmt| !fmt.eq_ignore_ascii_case("e4m3")) {
            return Err(section.wrong("fmt", "`e4m3`"));
        }
        Ok(Self { square: section.sides("weight_block_size")? })
    }
}

/// The quantized tensor whose codes `stored` holds; none where it is a plain one.
pub(crate) fn claim<'a>(
    stored: &Stored<'a>,
    inventory: &Inventory<'a>,
    config: &Config<'_>,
) -> Result<Option<Logical<'a>>, Error> {
    if stored.dtype() != Dtype::F8_E4M3 {
        return Ok(None);
    }
    let siblings = Siblings::new(inventory, stored.name());
    let Some(scale) = siblings.get("_scale_inv").or_else(|| siblings.get("_scale")) else { return Ok(None) };
    let (format, square, group) = match &config.declared {
        Declared::CompressedTensors(settings) => (Format::FloatQuantized, settings.square(), settings.float_group()),
        Declared::Fp8(settings) => (Format::Fp8, settings.square, None),
        Declared::Nothing => (Format::Fp8, None, None),
        Declared::Other(method) => return Err(ErrorKind::Method((*method).to_owned()).into()),
        other => return Err(ErrorKind::OtherMethod { shows: Format::Fp8, says: other.name() }.into()),
    };
    let weight = Matrix::of(stored)?;
    let (order, run) = match sharing(weight, &scale, square, group) {
        Ok(sharing) => sharing,
        Err(_) if square.is_none() && matches!(config.declared, Declared::Nothing) => {
            return Err(ErrorKind::NoConfig { format, tells: "the sides of the squares that share a scale" }.into());
        }
        Err(error) => return Err(error),
    };
    let weights = Weights {
        rows: weight.all_rows(),
        cols: weight.cols,
        codes: Codes::Bytes { bytes: stored.bytes(), flip: 0 },
        levels: Levels::E4m3,
        scales: floats(&scale, order)?,
        middles: Middles::None,
        groups: Groups::Runs(run),
    };
    let dtype = config.dtype.unwrap_or(scale.dtype());
    Ok(Some(Logical::new(
        stored.name().to_owned(),
        (format, dtype),
        stored.shape().to_vec(),
        weights,
        vec![*stored, scale],
    )))
}
