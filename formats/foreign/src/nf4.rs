//! bitsandbytes NF4: sixteen levels in flat blocks, whatever the rows.
//!
//! ```text
//! P.weight                                 U8 [n/2, 1]   two codes a byte, the first in the HIGH nibble
//! P.weight.quant_map                       F32 [16]      the levels
//! P.weight.absmax                          F32 [blocks], or U8 [blocks] under double quantization:
//! P.weight.nested_quant_map                F32 [256]     levels of the scales
//! P.weight.nested_absmax                   F32 [blocks of blocks]
//! P.weight.quant_state.bitsandbytes__nf4   U8            JSON: blocksize, shape, dtype, nested_*
//! ```
//!
//! A scale is `absmax`, or `nested_quant_map[absmax] * nested_absmax + nested_offset`.

use std::ops::Range;

use niwaki_tensors::Dtype;
use serde_json::Value;

use crate::Format;
use crate::config::{Config, Declared, Object};
use crate::error::{Error, ErrorKind};
use crate::imported::Logical;
use crate::inventory::{Inventory, Stored};
use crate::parts::{Matrix, Siblings, exactly, part_form};
use crate::table::Number;
use crate::weights::check_rows;

const STATE: &str = ".quant_state.bitsandbytes__nf4";

/// Codes in flat blocks.
#[derive(Clone, Debug)]
pub(crate) struct Blocks<'a> {
    rows: usize,
    cols: usize,
    codes: &'a [u8],
    levels: [f32; 16],
    block: usize,
    scales: Scales<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Scales<'a> {
    Plain(&'a [u8]),
    Nested { codes: &'a [u8], levels: &'a [u8], scales: &'a [u8], block: usize, offset: f32 },
}

impl Scales<'_> {
    fn at(&self, block: usize) -> f32 {
        match *self {
            Self::Plain(bytes) => Number::F32.at(bytes, block),
            Self::Nested { codes, levels, scales, block: size, offset } => {
                let level = Number::F32.at(levels, codes.get(block).copied().unwrap_or(0).into());
                level * Number::F32.at(scales, block / size) + offset
            }
        }
    }
}

impl Blocks<'_> {
    /// Decodes whole rows.
    pub(crate) fn decode_rows(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        check_rows(&rows, (self.rows, self.cols), out.len())?;
        let first = rows.start.saturating_mul(self.cols);
        let (mut at, mut scale) = (usize::MAX, 0.0);
        for (i, x) in (first..).zip(out) {
            if i / self.block != at {
                at = i / self.block;
                scale = self.scales.at(at);
            }
            let byte = self.codes.get(i / 2).copied().unwrap_or(0);
            let code = if i.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
            *x = self.levels[usize::from(code)] * scale;
        }
        Ok(())
    }

    pub(crate) fn size(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }
}

/// The quantized tensor whose codes `stored` holds; none where it is a plain one.
pub(crate) fn claim<'a>(
    stored: &Stored<'a>,
    inventory: &Inventory<'a>,
    config: &Config<'_>,
) -> Result<Option<Logical<'a>>, Error> {
    let siblings = Siblings::new(inventory, stored.name());
    let (Some(absmax), Some(map)) = (siblings.get(".absmax"), siblings.get(".quant_map")) else { return Ok(None) };
    match &config.declared {
        Declared::BitsAndBytes | Declared::Nothing => {}
        Declared::Other(method) => return Err(ErrorKind::Method((*method).to_owned()).into()),
        other => return Err(ErrorKind::OtherMethod { shows: Format::Nf4, says: other.name() }.into()),
    }
    if siblings.get(".quant_state.bitsandbytes__fp4").is_some() {
        return Err(ErrorKind::Unsupported("bitsandbytes FP4".to_owned()).into());
    }
    let state = siblings.need(STATE)?;
    let json: Value = serde_json::from_slice(state.bytes()).map_err(|_| contents(&state, "JSON"))?;
    let said = State::read(&json).map_err(|error| reworded(&state, &error))?;
    let Some(Matrix { planes, rows, cols }) = Matrix::new(&said.shape) else {
        return Err(contents(&state, "a shape of two or more dimensions"));
    };
    let rows = planes.saturating_mul(rows);
    let elements = rows.saturating_mul(cols);
    if stored.elements() != elements.div_ceil(2) {
        return Err(part_form(stored, format!("{} bytes", elements.div_ceil(2))));
    }
    exactly(&map, Dtype::F32, &[16])?;
    let mut parts = vec![*stored, absmax, map, state];
    let scales = scales(&absmax, &siblings, &said, elements.div_ceil(said.block), &mut parts)?;
    let levels = std::array::from_fn(|code| Number::F32.at(map.bytes(), code));
    let blocks = Blocks { rows, cols, codes: stored.bytes(), levels, block: said.block, scales };
    let form = (Format::Nf4, said.dtype.or(config.dtype).unwrap_or(Dtype::F32));
    Ok(Some(Logical::flat(stored.name().to_owned(), form, said.shape, blocks, parts)))
}

fn scales<'a>(
    absmax: &Stored<'a>,
    siblings: &Siblings<'_, 'a>,
    said: &State,
    blocks: usize,
    parts: &mut Vec<Stored<'a>>,
) -> Result<Scales<'a>, Error> {
    let Some((block, offset)) = said.nested else {
        exactly(absmax, Dtype::F32, &[blocks])?;
        return Ok(Scales::Plain(absmax.bytes()));
    };
    exactly(absmax, Dtype::U8, &[blocks])?;
    let (levels, scales) = (siblings.need(".nested_quant_map")?, siblings.need(".nested_absmax")?);
    exactly(&levels, Dtype::F32, &[256])?;
    exactly(&scales, Dtype::F32, &[blocks.div_ceil(block)])?;
    parts.extend([levels, scales]);
    Ok(Scales::Nested { codes: absmax.bytes(), levels: levels.bytes(), scales: scales.bytes(), block, offset })
}

/// What `quant_state` says.
struct State {
    shape: Vec<usize>,
    block: usize,
    dtype: Option<Dtype>,
    /// Size of the blocks of scales, and what is added to each scale.
    nested: Option<(usize, f32)>,
}

impl State {
    fn read(json: &Value) -> Result<Self, Error> {
        let object = Object::new(json, String::new())?;
        if object.text("quant_type")? != Some("nf4") {
            return Err(object.wrong("quant_type", "`nf4`"));
        }
        let number = |value: &Value| usize::try_from(value.as_u64()?).ok();
        let shape = object.get("shape").and_then(Value::as_array);
        let shape: Option<Vec<usize>> = shape.and_then(|dims| dims.iter().map(number).collect());
        let shape = shape.ok_or_else(|| object.wrong("shape", "a list of numbers"))?;
        let size = |key| object.get(key).and_then(number).filter(|size| *size > 0);
        let block = size("blocksize").ok_or_else(|| object.wrong("blocksize", "a number from 1"))?;
        let nested = match object.get("nested_blocksize") {
            None => None,
            Some(_) => {
                let block =
                    size("nested_blocksize").ok_or_else(|| object.wrong("nested_blocksize", "a number from 1"))?;
                let offset = object.get("nested_offset").and_then(Value::as_f64);
                Some((block, offset.ok_or_else(|| object.wrong("nested_offset", "a number"))? as f32))
            }
        };
        let dtype = match object.text("dtype")? {
            Some("float16") => Some(Dtype::F16),
            Some("bfloat16") => Some(Dtype::BF16),
            Some("float32") => Some(Dtype::F32),
            _ => None,
        };
        Ok(Self { shape, block, dtype, nested })
    }
}

fn contents(state: &Stored<'_>, needs: &str) -> Error {
    let kind = ErrorKind::Contents {
        part: state.name().to_owned(),
        needs: needs.to_owned(),
        has: "something else".to_owned(),
    };
    kind.into()
}

/// An error about a key of the configuration, said of the tensor that holds the key here.
fn reworded(state: &Stored<'_>, error: &Error) -> Error {
    let (key, needs, has) = match error.kind() {
        ErrorKind::Key { key, needs, has } => (key, *needs, has.clone()),
        ErrorKind::NoKey { key, needs } => (key, *needs, "nothing".to_owned()),
        _ => return contents(state, "JSON"),
    };
    let (needs, has) = (format!("`{key}` {needs}"), format!("`{key}` {has}"));
    ErrorKind::Contents { part: state.name().to_owned(), needs, has }.into()
}
