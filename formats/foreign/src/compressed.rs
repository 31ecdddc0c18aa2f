//! compressed-tensors: `pack-quantized`, `int-quantized` and `naive-quantized`; the layouts of
//! release 0.18 and later.
//!
//! ```text
//! P.weight_packed      I32 [out, ceil(in*b/32)]     a bit stream for each row, lowest bit first
//! P.weight_scale       [out, groups], [out, 1] or [1]
//! P.weight_shape       I64 [2]
//! P.weight_zero_point  I32 [ceil(out*b/32), groups] a stream down each column
//! P.weight_g_idx       I32 [in]
//! ```
//!
//! Codes and zero points are stored plus 2^(b-1), which makes them unsigned. `int-quantized` has
//! `P.weight` and `P.weight_zero_point` as signed bytes instead.

use niwaki_codes::Bits;
use niwaki_tensors::Dtype;

use crate::Format;
use crate::config::{Config, Declared, Object};
use crate::error::{Error, ErrorKind};
use crate::imported::Logical;
use crate::inventory::{Inventory, Stored};
use crate::parts::{Matrix, Siblings, exactly, floats, grouped, part_form, sharing};
use crate::table::{Order, Points, word};
use crate::weights::{Codes, Groups, Levels, Middles, Weights};

/// The storage formats that are read.
const FORMATS: [&str; 8] = [
    "pack-quantized",
    "int-quantized",
    "naive-quantized",
    "float-quantized",
    "nvfp4-pack-quantized",
    "mxfp4-pack-quantized",
    "mixed-precision",
    "dense",
];

/// What the configuration says.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    schemes: Vec<Scheme>,
    /// Groups that only name a preset, whose meaning the tensors tell.
    presets: bool,
    /// Older than 0.18: codes of 3, 5, 6 and 7 bits do not span words.
    old: bool,
}

/// The weights of one group of modules.
#[derive(Clone, Copy, Debug)]
struct Scheme {
    bits: u32,
    float: bool,
    group: Option<usize>,
    square: Option<[usize; 2]>,
}

impl Settings {
    pub(crate) fn read(section: &Object<'_>) -> Result<Self, Error> {
        known_format(section)?;
        let groups = section.object("config_groups")?.ok_or_else(|| section.wrong("config_groups", "an object"))?;
        let (mut schemes, mut presets) = (Vec::new(), false);
        for (name, value) in groups.pairs() {
            if value.is_array() {
                presets = true;
                continue;
            }
            let group = Object::new(value, groups.key(name))?;
            known_format(&group)?;
            if let Some(weights) = group.object("weights")? {
                schemes.push(Scheme::read(&weights)?);
            }
        }
        let old = section.text("version")?.is_some_and(before_dense);
        Ok(Self { schemes, presets, old })
    }

    /// The square of the first scheme that has one.
    pub(crate) fn square(&self) -> Option<[usize; 2]> {
        self.schemes.iter().find_map(|scheme| scheme.square)
    }

    /// The group of the first float scheme that has one.
    pub(crate) fn float_group(&self) -> Option<usize> {
        self.schemes.iter().filter(|scheme| scheme.float).find_map(|scheme| scheme.group)
    }

    fn integers(&self) -> impl Iterator<Item = &Scheme> {
        self.schemes.iter().filter(|scheme| !scheme.float)
    }
}

impl Scheme {
    fn read(weights: &Object<'_>) -> Result<Self, Error> {
        let bits = match weights.get("num_bits") {
            Some(_) => weights.width("num_bits", "1 to 8", &[1, 2, 3, 4, 5, 6, 7, 8])?,
            None => 8,
        };
        let float = match weights.text("type")? {
            None | Some("int") => false,
            Some("float") => true,
            Some(_) => return Err(weights.wrong("type", "`int` or `float`")),
        };
        let group = match weights.get("group_size") {
            Some(_) => weights.group("group_size")?,
            None => None,
        };
        Ok(Self { bits, float, group, square: weights.sides("block_structure")? })
    }
}

fn known_format(object: &Object<'_>) -> Result<(), Error> {
    match object.text("format")? {
        Some(format) if !FORMATS.contains(&format) => {
            Err(ErrorKind::Unsupported(format!("compressed-tensors `{format}`")).into())
        }
        _ => Ok(()),
    }
}

/// Whether a release is older than 0.18.
fn before_dense(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (0, 18)
}

/// The settings, where the configuration names this method or none.
pub(crate) fn settings<'s>(config: &'s Config<'_>, shows: Format) -> Result<Option<&'s Settings>, Error> {
    match &config.declared {
        Declared::CompressedTensors(settings) => Ok(Some(settings)),
        Declared::Nothing => Ok(None),
        Declared::Other(method) => Err(ErrorKind::Method((*method).to_owned()).into()),
        other => Err(ErrorKind::OtherMethod { shows, says: other.name() }.into()),
    }
}

/// The quantized tensor whose packed codes `stored` holds.
pub(crate) fn packed<'a>(
    stored: &Stored<'a>,
    inventory: &Inventory<'a>,
    config: &Config<'_>,
) -> Result<Logical<'a>, Error> {
    let settings = settings(config, Format::PackQuantized)?;
    let head = stored.name().strip_suffix("weight_packed").unwrap_or_default();
    let siblings = Siblings::new(inventory, head);
    let (scale, size) = (siblings.need("weight_scale")?, siblings.need("weight_shape")?);
    let (zeros, index) = (siblings.get("weight_zero_point"), siblings.get("weight_g_idx"));
    let shape = weight_shape(&size)?;
    let words = same_but_last(stored, &shape)?;
    let Some(weight) = Matrix::new(&shape) else { return Err(ErrorKind::Overflow.into()) };
    let bits = width(weight.cols, words, settings)?;
    let group =
        settings.and_then(|settings| settings.integers().filter(|s| s.bits == bits.get()).find_map(|s| s.group));
    let (order, run) = sharing(weight, &scale, None, group)?;
    let groups = if order.group_stride == 0 { 1 } else { order.row_stride };
    agrees(settings, bits, (weight.cols, run, groups))?;
    let weights = Weights {
        rows: weight.all_rows(),
        cols: weight.cols,
        codes: Codes::Rows { bytes: stored.bytes(), row_bytes: words.saturating_mul(4), bits },
        levels: Levels::Integers(bits),
        scales: floats(&scale, order)?,
        middles: match zeros {
            Some(zeros) => Middles::Points(points(&zeros, &scale, (weight, groups), bits, order)?),
            None => Middles::Half(bits.half() as u8),
        },
        groups: grouped(index.filter(|index| !unused(index)), (weight.cols, groups, run))?,
    };
    let parts = [Some(*stored), Some(scale), Some(size), zeros, index].into_iter().flatten().collect();
    let form = (Format::PackQuantized, config.dtype.unwrap_or(scale.dtype()));
    Ok(Logical::new(format!("{head}weight"), form, shape, weights, parts))
}

/// The shape that `weight_shape` holds.
fn weight_shape(size: &Stored<'_>) -> Result<Vec<usize>, Error> {
    let numbers: Option<Vec<i64>> = match (size.dtype(), size.shape()) {
        (Dtype::I64, [_]) => Some(size.bytes().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        (Dtype::I32, [_]) => {
            Some(size.bytes().as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect())
        }
        _ => None,
    };
    let numbers = numbers.filter(|numbers| (2..=8).contains(&numbers.len()));
    let numbers = numbers.ok_or_else(|| part_form(size, "I64 of two dimensions"))?;
    let dims: Result<Vec<usize>, _> = numbers.iter().map(|dim| usize::try_from(*dim)).collect();
    dims.map_err(|_| {
        let has = numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        ErrorKind::Contents { part: size.name().to_owned(), needs: "numbers from 0".to_owned(), has }.into()
    })
}

/// The last dimension of the packed codes, where the others are those of the weight.
fn same_but_last(stored: &Stored<'_>, shape: &[usize]) -> Result<usize, Error> {
    match (stored.shape().split_last(), shape.split_last()) {
        (Some((words, lead)), Some((_, rows))) if lead == rows => Ok(*words),
        _ => Err(part_form(stored, format!("a line for each of {}", crate::inventory::dims(shape)))),
    }
}

/// The width whose stream has so many words a row.
fn width(cols: usize, words: usize, settings: Option<&Settings>) -> Result<Bits, Error> {
    let dense = |bits: u32| stream_words(cols, bits) == words;
    // Whole fields only in each word, as releases before 0.18 wrote them.
    let old = |bits: u32| !32u32.is_multiple_of(bits) && cols.div_ceil(32 / bits as usize) == words;
    let known: Vec<u32> = match settings {
        Some(settings) if !settings.presets => settings.integers().map(|scheme| scheme.bits).collect(),
        _ => (2..=8).collect(),
    };
    let mut fitting = known.iter().copied().filter(|bits| dense(*bits));
    match (fitting.next(), known.iter().find(|bits| old(**bits))) {
        (Some(1), _) => Err(ErrorKind::Unsupported("int1".to_owned()).into()),
        // Both layouts may have as many words; one word is the same in both.
        (Some(bits), _) if settings.is_some_and(|s| s.old) && old(bits) && words > 1 => {
            Err(ErrorKind::OldLayout { bits }.into())
        }
        (Some(bits), _) if settings.is_none() && fitting.any(|other| other != bits) => {
            Err(ErrorKind::NoConfig { format: Format::PackQuantized, tells: "the width of the codes" }.into())
        }
        (Some(bits), _) => Ok(Bits::new(bits)?),
        (None, Some(bits)) => Err(ErrorKind::OldLayout { bits: *bits }.into()),
        (None, None) => {
            let says = known.iter().map(|bits| format!("int{bits}")).collect::<Vec<_>>().join(" or ");
            let says = if says.is_empty() { "no integers".to_owned() } else { says };
            Err(ErrorKind::Disagree { says, shows: format!("{words} words for {cols} codes") }.into())
        }
    }
}

/// Words of so many codes.
pub(crate) fn stream_words(codes: usize, bits: u32) -> usize {
    // 32 codes fill `bits` words: no product overflows first.
    (codes / 32).saturating_mul(bits as usize) + (codes % 32 * bits as usize).div_ceil(32)
}

/// Whether a scheme of the configuration has this width and these groups.
fn agrees(settings: Option<&Settings>, bits: Bits, (cols, run, groups): (usize, usize, usize)) -> Result<(), Error> {
    let Some(settings) = settings.filter(|settings| !settings.presets) else { return Ok(()) };
    let fits = |scheme: &Scheme| match scheme.group {
        Some(group) => cols.div_ceil(group) == groups,
        None => groups == 1,
    };
    let mut same = settings.integers().filter(|scheme| scheme.bits == bits.get()).peekable();
    let Some(first) = same.peek().copied() else { return Ok(()) };
    if same.any(fits) {
        return Ok(());
    }
    let says = first.group.map_or_else(|| "one group a row".to_owned(), |group| format!("groups of {group}"));
    Err(ErrorKind::Disagree { says, shows: format!("groups of {run} in rows of {cols}") }.into())
}

/// Zero points: packed down the rows, or as bytes like the scales where those are one.
fn points<'a>(
    zeros: &Stored<'a>,
    scale: &Stored<'_>,
    (weight, groups): (Matrix, usize),
    bits: Bits,
    order: Order,
) -> Result<Points<'a>, Error> {
    if zeros.dtype() == Dtype::I8 && bits.get() == 8 {
        return bytes(zeros, scale, order);
    }
    if weight.planes != 1 {
        return Err(ErrorKind::Unsupported("a stack of matrices with zero points".to_owned()).into());
    }
    exactly(zeros, Dtype::I32, &[stream_words(weight.rows, bits.get()), groups])?;
    let (group_stride, word_stride) = (1, groups);
    Ok(Points::Fields { bytes: zeros.bytes(), bits: bits.get(), group_stride, word_stride, less_one: false })
}

/// Zero points that are signed bytes, in the order of the scales.
fn bytes<'a>(zeros: &Stored<'a>, scale: &Stored<'_>, order: Order) -> Result<Points<'a>, Error> {
    exactly(zeros, Dtype::I8, scale.shape())?;
    Ok(Points::Bytes { bytes: zeros.bytes(), order })
}

/// Whether all groups are -1: a place that was kept for them and not filled.
fn unused(index: &Stored<'_>) -> bool {
    let words = index.bytes().len() / 4;
    words > 0 && (0..words).all(|i| word(index.bytes(), i) == u32::MAX)
}

/// The quantized tensor whose signed bytes `stored` holds.
pub(crate) fn plain<'a>(
    stored: &Stored<'a>,
    inventory: &Inventory<'a>,
    config: &Config<'_>,
) -> Result<Logical<'a>, Error> {
    let settings = settings(config, Format::IntQuantized)?;
    let siblings = Siblings::new(inventory, stored.name());
    let (scale, zeros) = (siblings.need("_scale")?, siblings.get("_zero_point"));
    let weight = Matrix::of(stored)?;
    let square = settings.and_then(Settings::square);
    let group = settings.and_then(|settings| settings.integers().find_map(|scheme| scheme.group));
    let (order, run) = sharing(weight, &scale, square, group)?;
    let weights = Weights {
        rows: weight.all_rows(),
        cols: weight.cols,
        codes: Codes::Bytes { bytes: stored.bytes(), flip: 0x80 },
        levels: Levels::Integers(Bits::MAX),
        scales: floats(&scale, order)?,
        middles: match zeros {
            Some(zeros) => Middles::Points(bytes(&zeros, &scale, order)?),
            None => Middles::Half(0x80),
        },
        groups: Groups::Runs(run),
    };
    let parts = [Some(*stored), Some(scale), zeros].into_iter().flatten().collect();
    let form = (Format::IntQuantized, config.dtype.unwrap_or(scale.dtype()));
    Ok(Logical::new(stored.name().to_owned(), form, stored.shape().to_vec(), weights, parts))
}
