//! AWQ, version `gemm`, as AutoAWQ writes it. A weight of `[out, in]` is stored by inputs:
//!
//! ```text
//! P.qweight  I32 [in, out/8]      eight outputs in a word
//! P.qzeros   I32 [groups, out/8]
//! P.scales   F16 [groups, out]
//! ```
//!
//! Nibble `i` of a word, from the lowest on, holds the output `[0,2,4,6,1,3,5,7][i]` of eight.

use niwaki_codes::Bits;
use niwaki_tensors::Dtype;

use crate::Format;
use crate::config::{Config, Object};
use crate::error::Error;
use crate::gptq;
use crate::imported::Logical;
use crate::inventory::{Inventory, Stored};
use crate::parts::{Siblings, exactly, floats, part_form};
use crate::table::{Order, Points};
use crate::weights::{Codes, Groups, Levels, Middles, Weights};

/// What the configuration says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// None: whole rows.
    group: Option<usize>,
}

impl Settings {
    pub(crate) fn read(section: &Object<'_>) -> Result<Self, Error> {
        let key = |new: &'static str, old: &'static str| if section.get(new).is_some() { new } else { old };
        section.width(if section.get("w_bit").is_some() { "w_bit" } else { "bits" }, "4", &[4])?;
        if section.text("version")?.is_some_and(|version| !version.eq_ignore_ascii_case("gemm")) {
            return Err(section.wrong("version", "`gemm`"));
        }
        if section.flag("zero_point")? == Some(false) {
            return Err(section.wrong("zero_point", "true"));
        }
        Ok(Self { group: section.group(key("q_group_size", "group_size"))? })
    }
}

/// The quantized tensor whose codes `stored` holds.
pub(crate) fn claim<'a>(
    stored: &Stored<'a>,
    inventory: &Inventory<'a>,
    config: &Config<'_>,
    settings: &Settings,
) -> Result<Logical<'a>, Error> {
    let head = stored.name().strip_suffix("qweight").unwrap_or_default();
    let siblings = Siblings::new(inventory, head);
    let (scales, zeros) = (siblings.need("scales")?, siblings.need("qzeros")?);
    let &[groups, rows] = scales.shape() else { return Err(part_form(&scales, "two dimensions")) };
    if !rows.is_multiple_of(8) {
        return Err(part_form(&scales, "a multiple of eight outputs"));
    }
    let cols = match stored.shape() {
        &[cols, words] if words == rows / 8 && stored.dtype() == Dtype::I32 => cols,
        _ => return Err(part_form(stored, format!("I32 Nx{}", rows / 8))),
    };
    exactly(&zeros, Dtype::I32, &[groups, rows / 8])?;
    let bits = Bits::new(4)?;
    let weights = Weights {
        rows,
        cols,
        codes: Codes::Awq { bytes: stored.bytes() },
        levels: Levels::Integers(bits),
        scales: floats(&scales, Order::transposed(rows))?,
        middles: Middles::Points(Points::Awq { bytes: zeros.bytes(), words: rows / 8 }),
        groups: Groups::Runs(gptq::run(settings.group, (cols, groups), false)?),
    };
    let form = (Format::Awq, config.dtype.unwrap_or(scales.dtype()));
    Ok(Logical::new(format!("{head}weight"), form, vec![rows, cols], weights, vec![*stored, scales, zeros]))
}
