//! GPTQ, as AutoGPTQ and GPTQModel write it. A weight of `[out, in]` is stored by inputs:
//!
//! ```text
//! P.qweight  I32 [in*b/32, out]      a bit stream down each column, lowest bit first
//! P.qzeros   I32 [groups, out*b/32]  zero points, a stream along each line; v1 stores them less one
//! P.scales   F16 [groups, out]
//! P.g_idx    I32 [in]                the group of each input
//! ```

use niwaki_codes::Bits;
use niwaki_tensors::Dtype;

use crate::Format;
use crate::config::{Config, Object};
use crate::error::{Error, ErrorKind};
use crate::imported::Logical;
use crate::inventory::{Inventory, Stored};
use crate::parts::{Siblings, exactly, floats, grouped, part_form};
use crate::table::{Order, Points};
use crate::weights::{Codes, Levels, Middles, Weights};

/// The widths of the format; those of 5, 6 and 7 bits are another one's.
pub(crate) const WIDTHS: [u32; 4] = [2, 3, 4, 8];

/// What the configuration says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    bits: u32,
    /// None: whole rows.
    group: Option<usize>,
    /// Modules may differ from `bits` and `group`.
    dynamic: bool,
    symmetric: bool,
    /// Inputs are in groups of their own order, which `g_idx` tells.
    ordered: bool,
    format: Format,
}

impl Settings {
    pub(crate) fn read(section: &Object<'_>) -> Result<Self, Error> {
        let format = match section.text("checkpoint_format")? {
            None | Some("gptq") => Format::Gptq,
            Some("gptq_v2") => Format::GptqV2,
            Some(_) => return Err(section.wrong("checkpoint_format", "`gptq` or `gptq_v2`")),
        };
        if section.text("pack_dtype")?.is_some_and(|dtype| dtype != "int32") {
            return Err(section.wrong("pack_dtype", "`int32`"));
        }
        if section.flag("is_marlin_format")? == Some(true) {
            return Err(ErrorKind::Unsupported("GPTQ in Marlin's order".to_owned()).into());
        }
        Ok(Self {
            bits: section.width("bits", "2, 3, 4 or 8", &WIDTHS)?,
            group: section.group("group_size")?,
            dynamic: section.object("dynamic")?.is_some(),
            symmetric: section.flag("sym")?.unwrap_or(false),
            ordered: section.flag("desc_act")?.unwrap_or(false),
            format,
        })
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
    let index = if settings.ordered { Some(siblings.need("g_idx")?) } else { siblings.get("g_idx") };
    let &[groups, rows] = scales.shape() else { return Err(part_form(&scales, "two dimensions")) };
    let bits = width(&zeros, rows, settings)?;
    let cols = match stored.shape() {
        &[words, outputs] if outputs == rows => inputs(words, bits),
        _ => None,
    };
    let cols = cols.filter(|_| stored.dtype() == Dtype::I32);
    let cols = cols.ok_or_else(|| part_form(stored, format!("I32 Nx{rows} of int{bits} codes")))?;
    let zero_words = rows.checked_mul(bits.get() as usize).ok_or(ErrorKind::Overflow)? / 32;
    exactly(&zeros, Dtype::I32, &[groups, zero_words])?;
    let run = run(settings.group, (cols, groups), settings.dynamic)?;
    let points = Points::Fields {
        bytes: zeros.bytes(),
        bits: bits.get(),
        group_stride: zero_words,
        word_stride: 1,
        less_one: settings.format == Format::Gptq,
    };
    refuse_mislabelled(settings, &zeros, bits)?;
    let weights = Weights {
        rows,
        cols,
        codes: Codes::Columns { bytes: stored.bytes(), bits },
        levels: Levels::Integers(bits),
        scales: floats(&scales, Order::transposed(rows))?,
        middles: Middles::Points(points),
        groups: grouped(index, (cols, groups, run))?,
    };
    let parts = [Some(*stored), Some(scales), Some(zeros), index].into_iter().flatten().collect();
    let form = (settings.format, config.dtype.unwrap_or(scales.dtype()));
    Ok(Logical::new(format!("{head}weight"), form, vec![rows, cols], weights, parts))
}

/// The width of the codes, by the shape of the zero points.
fn width(zeros: &Stored<'_>, rows: usize, settings: &Settings) -> Result<Bits, Error> {
    let &[_, words] = zeros.shape() else { return Err(part_form(zeros, "two dimensions")) };
    let fits = |bits: u32| rows > 0 && rows.checked_mul(bits as usize) == words.checked_mul(32);
    let shown = WIDTHS.into_iter().find(|bits| fits(*bits));
    let bits = shown.ok_or_else(|| part_form(zeros, format!("I32 Nx{rows}*{}/32", settings.bits)))?;
    if bits != settings.bits && !settings.dynamic {
        let kind = ErrorKind::Disagree { says: format!("{} bits", settings.bits), shows: format!("{bits}") };
        return Err(kind.into());
    }
    Ok(Bits::new(bits)?)
}

/// How many inputs so many words hold.
fn inputs(words: usize, bits: Bits) -> Option<usize> {
    let all = words.checked_mul(32)?;
    let bits = bits.get() as usize;
    all.is_multiple_of(bits).then_some(all / bits)
}

/// Inputs that share a scale.
pub(crate) fn run(says: Option<usize>, (cols, groups): (usize, usize), may_differ: bool) -> Result<usize, Error> {
    let run = says.unwrap_or(cols);
    if cols.div_ceil(run.max(1)) == groups && groups > 0 {
        return Ok(run);
    }
    if may_differ && groups > 0 && cols.is_multiple_of(groups) {
        return Ok(cols / groups);
    }
    let says = says.map_or_else(|| "one group".to_owned(), |run| format!("groups of {run}"));
    Err(ErrorKind::Disagree { says, shows: format!("{groups} for {cols} inputs") }.into())
}

/// Symmetric zero points are half the codes; where they are that as stored, the label that
/// says they are stored less one is wrong, as in files of some writers.
fn refuse_mislabelled(settings: &Settings, zeros: &Stored<'_>, bits: Bits) -> Result<(), Error> {
    if !settings.symmetric || settings.format != Format::Gptq || bits.get() == 3 {
        return Ok(());
    }
    let half = (0..32 / bits.get()).fold(0u32, |word, i| word | bits.half() << (i * bits.get()));
    let mut words = zeros.bytes().as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).peekable();
    let wrong = words.peek().is_some() && words.all(|word| word == half);
    if wrong { Err(ErrorKind::Mislabelled.into()) } else { Ok(()) }
}
