//! What has to hold before a plan is run.
//!
//! A sum of a convolution has a term for each weight of a row, of at most 128 x 128, and starts at the bias: where
//! `16384 cols + |bias|` fits into 31 bits, no order of adding leaves them. Elastic weights of `b` bits are at most `2^b - 1`.

use core::ops::Range;

use crate::error::{Error, ErrorKind, Spot};
use crate::image::{Image, Place};
use crate::layer::Layer;
use crate::step::{Area, Onto, Step, Times, Window, Work};
use crate::tensor::{Kind, Tensor};
use crate::{MOST_CLASSES, MOST_TIMES, ONE};

type Checked = Result<(), ErrorKind>;

const EMPTY: Area = Area { at: 0, shape: [0; 3] };

/// A step over nothing.
pub(crate) const NOTHING: Step = Step {
    input: EMPTY,
    input_zero: 0,
    output: EMPTY,
    output_zero: 0,
    low: 0,
    high: 0,
    work: Work::Rescale { times: 0 },
};

/// Everything.
pub(crate) fn image(image: &Image<'_>) -> Result<(), Error> {
    let header = |kind| Error::new(kind, Spot::Header);
    for (what, place) in [("the input", image.input()), ("the output", image.output())] {
        area(image, what, &place.area).and_then(|()| scale(&place)).map_err(header)?;
    }
    for (at, bytes) in image.entries().iter().enumerate() {
        let spot = |kind| Error::new(kind, Spot::Step(at));
        step(image, &Step::read(bytes).map_err(spot)?).map_err(spot)?;
    }
    if image.width().is_none() {
        return tensors(image, image.bytes().len());
    }
    // The first bytes are to be an image too.
    image.widths().try_for_each(|(width, end)| image.at(width).map_or(Ok(()), |image| tensors(&image, end)))
}

/// All tensors, which lie before `end`.
fn tensors(image: &Image<'_>, end: usize) -> Result<(), Error> {
    let (mut used, limit) = (0u64, end as u64);
    (0..image.tensors()).try_for_each(|at| match image.open(at) {
        Ok(tensor) => {
            // Were bytes those of several tensors, looking at all of them would take more than the length.
            used = used.saturating_add(tensor.bytes());
            let apart = match used <= limit {
                true => kept(&tensor).and_then(|()| numbers(&tensor)),
                false => Err(ErrorKind::Beyond { what: "all tensors so far", end: used, limit }),
            };
            apart.map_err(|kind| Error::new(kind, Spot::Tensor(at)))
        }
        // Tensors that no step takes may be of a later version.
        Err(e) if matches!(e.kind(), ErrorKind::Kind(_)) => Ok(()),
        Err(e) => Err(e),
    })
}

/// That widths rise from 2 to 8 bits, and each ends behind the one before, the first behind all tables and the last where the
/// image does.
pub(crate) fn layers(all: &[[u8; 32]], rest: &Range<usize>) -> Checked {
    let (mut width, mut end) = (1, rest.start as i64);
    for layer in all.iter().map(Layer::read) {
        between("a width", layer.width.into(), width + 1, 8)?;
        between("the end of a width", layer.end as i64, end + 1, rest.end as i64)?;
        (width, end) = (layer.width.into(), layer.end as i64);
    }
    if all.is_empty() { Ok(()) } else { equal("bytes of all widths", rest.end, end as usize) }
}

/// That a sparse tensor has as many kept codes as bits that say so, and no bits behind a row.
fn kept(tensor: &Tensor<'_>) -> Checked {
    if !tensor.kind.sparse() {
        return Ok(());
    }
    let mut bytes = 0;
    for row in 0..tensor.rows {
        let row = tensor.row(row);
        let kept = row.iter().map(|byte| byte.count_ones() as usize).sum();
        bytes += tensor.kind.kept_bytes(kept);
        let behind = row.last().map_or(0, |last| last.checked_shr(tensor.cols as u32 % 8).unwrap_or(0));
        if !tensor.cols.is_multiple_of(8) && behind != 0 {
            return Err(ErrorKind::Field { field: "the bits behind a row", has: behind.into() });
        }
    }
    equal("bytes of kept codes", bytes, tensor.kept.len())
}

fn scale(place: &Place) -> Checked {
    match place.scale.is_finite() && place.scale > 0.0 {
        true => Ok(()),
        false => Err(ErrorKind::Field { field: "the scale, as bits,", has: place.scale.to_bits().into() }),
    }
}

/// That values lie in the arena.
fn area(image: &Image<'_>, what: &'static str, area: &Area) -> Checked {
    let [rows, cols, channels] = area.shape.map(|size| size as u64);
    // Each has at most 16 bits.
    let len = rows * cols * channels;
    if len == 0 {
        return Err(ErrorKind::Field { field: "the size of a value", has: 0 });
    }
    within(image, what, area.at, len)
}

fn within(image: &Image<'_>, what: &'static str, at: usize, len: u64) -> Checked {
    let (end, limit) = (at as u64 + len, image.arena() as u64);
    if end <= limit { Ok(()) } else { Err(ErrorKind::Beyond { what, end, limit }) }
}

fn apart(a: &Range<usize>, b: &Range<usize>) -> Checked {
    if a.end <= b.start || b.end <= a.start { Ok(()) } else { Err(ErrorKind::Overlap) }
}

fn equal(what: &'static str, needs: usize, has: usize) -> Checked {
    if needs == has { Ok(()) } else { Err(ErrorKind::Unlike { what, needs: needs as u64, has: has as u64 }) }
}

fn between(field: &'static str, has: i64, low: i64, high: i64) -> Checked {
    if (low..=high).contains(&has) { Ok(()) } else { Err(ErrorKind::Field { field, has }) }
}

fn factor(of: Times) -> Checked {
    between("a multiplier", of.multiplier.into(), -i64::from(i32::MAX), i32::MAX.into())?;
    between("a shift", of.shift.into(), 31, 62)
}

fn rescaling(times: i32) -> Checked {
    between("a multiplier", times.into(), 0, MOST_TIMES.into())
}

fn step(image: &Image<'_>, step: &Step) -> Checked {
    let (input, output) = (&step.input, &step.output);
    area(image, "its input", input)?;
    area(image, "its output", output)?;
    apart(&input.range(), &output.range())?;
    between("the least code", step.low.into(), i8::MIN.into(), step.high.into())?;
    if let Some(window) = step.window() {
        windows(window, input, output)?;
    }
    match &step.work {
        Work::Conv { .. } => conv(image, step),
        Work::MaxPool(_) => equal("channels", input.shape[2], output.shape[2]),
        Work::AveragePool { window, times } => {
            equal("channels", input.shape[2], output.shape[2])?;
            let places = window.kernel[0] as i64 * window.kernel[1] as i64;
            between("the places of a window", places, 1, 1 << 22)?;
            factor(*times)
        }
        Work::Add { times, onto: Onto { times: other, .. } } => {
            equal("values", input.len(), output.len())?;
            rescaling(*times)?;
            rescaling(*other)
        }
        Work::Rescale { times } => {
            equal("values", input.len(), output.len())?;
            rescaling(*times)
        }
        Work::Softmax { table } => {
            equal("values", input.len(), output.len())?;
            between("the number of classes", input.len() as i64, 1, MOST_CLASSES as i64)?;
            kind(image, *table, |kind| kind == Kind::Exponentials).map(drop)
        }
    }
}

/// That every window begins in the image, or before it.
fn windows(window: &Window, input: &Area, output: &Area) -> Checked {
    for side in 0..2 {
        let [kernel, stride, dilation, before] =
            [&window.kernel, &window.stride, &window.dilation, &window.before].map(|of| of.get(side).copied());
        for (field, size) in [("a kernel", kernel), ("a stride", stride), ("a dilation", dilation)] {
            between(field, size.unwrap_or(0) as i64, 1, u16::MAX.into())?;
        }
        let size = |area: &Area| area.shape.get(side).copied().unwrap_or(0) as i64;
        let last = (size(output) - 1) * stride.unwrap_or(1) as i64 - before.unwrap_or(0) as i64;
        between("where the last window begins", last, i64::MIN, size(input) - 1)?;
    }
    Ok(())
}

/// A tensor of a kind that a step takes.
fn kind<'a>(image: &Image<'a>, at: usize, fits: impl Fn(Kind) -> bool) -> Result<Tensor<'a>, ErrorKind> {
    let tensor = image.open(at).map_err(|e| e.kind())?;
    if fits(tensor.kind) { Ok(tensor) } else { Err(ErrorKind::Kind(tensor.kind.code())) }
}

fn conv(image: &Image<'_>, step: &Step) -> Checked {
    let Work::Conv { window, groups, weights, scratch, onto } = &step.work else { return Ok(()) };
    let tensor = kind(image, *weights, |kind| kind != Kind::Exponentials)?;
    let (channels, rows) = (step.input.shape[2], step.output.shape[2]);
    let of = |all: usize| all.checked_rem(*groups) == Some(0);
    if !of(channels) || !of(rows) {
        return Err(ErrorKind::Field { field: "the number of groups", has: *groups as i64 });
    }
    equal("rows", rows, tensor.rows)?;
    let each = channels.checked_div(*groups).unwrap_or(0);
    let [down, across] = window.kernel;
    // Each of the three has at most 16 bits.
    let cols = down as u64 * across as u64 * each as u64;
    if cols != tensor.cols as u64 {
        return Err(ErrorKind::Unlike { what: "weights of a row", needs: cols, has: tensor.cols as u64 });
    }
    if tensor.kind != Kind::Int8 {
        within(image, "its scratch", *scratch, cols)?;
        let scratch = *scratch..scratch.saturating_add(tensor.cols);
        apart(&scratch, &step.input.range())?;
        apart(&scratch, &step.output.range())?;
    }
    onto.map_or(Ok(()), |onto| rescaling(onto.times))
}

/// The numbers of rows, and the entries of a table.
fn numbers(tensor: &Tensor<'_>) -> Checked {
    if tensor.kind == Kind::Exponentials {
        equal("rows", 1, tensor.rows)?;
        equal("entries", 256, tensor.cols)?;
        let entry = |bytes: &[u8; 4]| i64::from(u32::from_le_bytes(*bytes));
        between("the first exponential", tensor.table().first().map_or(0, entry), ONE.into(), ONE.into())?;
        return tensor.table().iter().try_for_each(|bytes| between("an exponential", entry(bytes), 0, ONE.into()));
    }
    // The largest number of a weight, times that of a code.
    let most = if tensor.kind == Kind::Elastic { (1 << tensor.width) - 1 } else { 128 };
    let terms = (tensor.cols as u64).saturating_mul(most * 128);
    for (row, numbers) in tensor.numbers().enumerate() {
        factor(numbers.times)?;
        if terms.saturating_add(numbers.bias.unsigned_abs().into()) > i32::MAX as u64 {
            return Err(ErrorKind::Sum { row });
        }
    }
    Ok(())
}
