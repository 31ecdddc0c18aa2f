//! One block of weights: decode where needed, encode, write each part at its place.

use niwaki_codes::floats::{Blocks as FloatBlocks, Float};
use niwaki_codes::simd::Level;
use niwaki_codes::{BlockType, Elastic, Grouping, Scheme, Uniform};
use niwaki_container::Part;
use niwaki_quant::{Distortion, ElasticOut, FloatOut, GridPoint, Solver, Step, Sums, UniformOut, Values};
use niwaki_quant::{encode_block_rows, encode_elastic_rows, encode_float_rows, encode_rows, encode_with};
use niwaki_quant::{float_bytes, nvfp4_factor};
use niwaki_tensors::Dtype;

use crate::blocks::{BLOCK, Block};
use crate::error::{Blame, Error, ErrorKind};
use crate::job::{ByWidth, Job, merge};
use crate::source::Coded;

/// Buffers that a thread keeps from block to block.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Weights of types that the encoders do not read themselves.
    pub(crate) decoded: Vec<f32>,
    /// Kept weights of masked tensors.
    pub(crate) kept: Vec<f32>,
    /// Codes, scales, zero points; or bases, corrections, planes; or bytes to be hashed.
    pub(crate) bytes: Vec<u8>,
    /// Bytes of sources that are stored in several parts.
    pub(crate) stored: Vec<u8>,
}

/// The error of a weight that no code can hold.
pub(crate) fn not_finite(index: usize, tensor: &str) -> Error {
    let error = Error::from(ErrorKind::NotFinite { index }).of(tensor);
    error.hinting("`--nan keep` carries such tensors as they are")
}

/// The error of weights that cannot be encoded.
pub(crate) fn not_encodable(e: &niwaki_quant::Error, tensor: &str) -> Error {
    match e.kind() {
        niwaki_quant::ErrorKind::NotFinite { index } => not_finite(index, tensor),
        niwaki_quant::ErrorKind::ScaleOverflow { group } => {
            let error = Error::from(ErrorKind::ScaleOverflow { group }).of(tensor);
            error.hinting("add `/f32` to the scheme: F32 scales hold it")
        }
        _ => Error::below(e.clone(), Blame::Caller).of(tensor),
    }
}

/// The error of weights that blocks cannot hold.
pub(crate) fn block_error(e: niwaki_quant::Error, tensor: &str) -> Error {
    match e.kind() {
        niwaki_quant::ErrorKind::ScaleOverflow { group } => {
            let error = Error::from(ErrorKind::ScaleOverflow { group }).of(tensor);
            error.hinting("a scheme with F32 scales holds it, such as `int4/g32/sym/f32`")
        }
        _ => not_encodable(&e, tensor),
    }
}

/// Cuts `buffer` into consecutive slices of the given lengths.
pub(crate) fn cut<const N: usize>(buffer: &mut Vec<u8>, lens: [usize; N]) -> [&mut [u8]; N] {
    buffer.resize(lens.iter().sum(), 0);
    let mut rest = buffer.as_mut_slice();
    lens.map(|len| rest.split_off_mut(..len).unwrap_or_default())
}

/// Where a piece of a tensor stands in its parts.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Weights before it.
    pub(crate) elements: usize,
    /// Groups before it.
    pub(crate) groups: usize,
    /// Bytes before it in a plane of one bit a weight.
    pub(crate) plane_bytes: usize,
    /// Bytes of codes before it.
    pub(crate) code_bytes: usize,
}

impl Place {
    /// Of a block of a tensor whose rows have `cols` weights.
    pub(crate) fn of_block(b: &Block, cols: usize, scheme: &Scheme) -> Self {
        let before = |per_row: usize, in_row: usize| b.rows.start * per_row + in_row;
        let grouped = |g: usize| before(cols.div_ceil(g), b.cols.start / g);
        let (groups, code_bytes) = match scheme {
            Scheme::Uniform(u) => {
                let groups = match u.grouping {
                    Grouping::Group(g) => grouped(g.get()),
                    Grouping::Row => b.rows.start,
                    Grouping::Tensor => 0,
                };
                // A run of a row begins where a byte of codes does.
                (groups, before(u.row_bytes(cols), u.row_bytes(b.cols.start)))
            }
            Scheme::Elastic(e) => (grouped(e.group.get()), 0),
            Scheme::Block(kind) => {
                let groups = grouped(kind.elements());
                (groups, groups * kind.bytes())
            }
            _ => (0, 0),
        };
        Self { elements: b.start(cols), groups, plane_bytes: before(cols.div_ceil(8), b.cols.start / 8), code_bytes }
    }

    /// Of the kept weights from number `kept` on, which is one where a byte and a group begin.
    pub(crate) fn of_kept(kept: usize, scheme: &Scheme) -> Self {
        let run = Block { rows: 0..1, cols: kept..kept };
        Self::of_block(&run, usize::MAX / 64, scheme)
    }
}

/// What all weights of a tensor share.
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    /// The grid, where there is one for all.
    pub(crate) grid: Option<GridPoint>,
    /// The largest magnitude, where a scale hangs on it.
    pub(crate) largest: f32,
}

/// Encodes one block and writes its share of every part.
pub(crate) fn block(job: &Job<'_>, b: &Block, shared: Shared, scratch: &mut Scratch) -> Result<ByWidth, Error> {
    let (_, cols) = job.planned.layout.matrix();
    if job.planned.taken {
        return taken_over(job, b);
    }
    let Some(scheme) = job.planned.layout.scheme else { return decoded(job, b, scratch) };
    let place = Place::of_block(b, cols, &scheme);
    let size = (b.rows.len(), b.cols.len());
    if let Scheme::Uniform(row @ Uniform { grouping: Grouping::Row, .. }) = scheme
        && size.1 > BLOCK
    {
        return long_row(job, row, b.rows.start, scratch);
    }
    let values = job.source.values(b.range(cols), &mut scratch.decoded)?;
    match (scheme, shared.grid) {
        (Scheme::Uniform(scheme), Some(grid)) => {
            on_grid(job, scheme, grid, place, (values, size.1), &mut scratch.bytes)
        }
        (Scheme::Float(float), _) => {
            let rows = FloatRows { float, first: b.rows.start, cols, largest: shared.largest };
            let part = |part, at, bytes: &[u8]| job.write(part, at, bytes);
            Ok(vec![(0, rows.encode(values, &job.planned.name, &mut scratch.bytes, part)?)])
        }
        _ => rows(job, scheme, place, (values, size), &mut scratch.bytes),
    }
}

/// Writes codes of whole rows as they are.
fn taken_over(job: &Job<'_>, b: &Block) -> Result<ByWidth, Error> {
    let (_, cols) = job.planned.layout.matrix();
    match job.source.codes(b.rows.clone())? {
        Some(Coded::Blocks(kind, bytes)) => {
            let place = Place::of_block(b, cols, &Scheme::Block(kind));
            job.write(Part::Codes, place.code_bytes, &bytes)?;
        }
        Some(Coded::Uniform(scheme, coded)) => {
            let place = Place::of_block(b, cols, &Scheme::Uniform(scheme));
            job.write(Part::Codes, place.code_bytes, &coded.codes)?;
            job.write(Part::Scales, place.groups * scheme.scale_type().bytes(), &coded.scales)?;
            job.write(Part::Zeros, place.groups, &coded.zeros)?;
        }
        None => {}
    }
    Ok(ByWidth::new())
}

/// Writes decoded weights in the type that the tensor had.
fn decoded(job: &Job<'_>, b: &Block, scratch: &mut Scratch) -> Result<ByWidth, Error> {
    let (_, cols) = job.planned.layout.matrix();
    let dtype = job.planned.layout.dtype;
    scratch.decoded.resize(b.elements(), 0.0);
    job.source.decode(b.range(cols), &mut scratch.decoded)?;
    job.write(Part::Whole, b.start(cols) * dtype.bitsize() / 8, &narrowed(&scratch.decoded, dtype))?;
    Ok(ByWidth::new())
}

/// Weights as `dtype`, rounded to nearest, ties to even.
pub(crate) fn narrowed(weights: &[f32], dtype: Dtype) -> Vec<u8> {
    let size = if matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::BF16) { dtype.bitsize() / 8 } else { 2 };
    let mut bytes = vec![0; weights.len() * size];
    narrow_into(weights, dtype, &mut bytes);
    bytes
}

/// The same into a buffer of as many elements.
pub(crate) fn narrow_into(weights: &[f32], dtype: Dtype, out: &mut [u8]) {
    fn each<const N: usize>(weights: &[f32], out: &mut [u8], narrow: impl Fn(f32) -> [u8; N]) {
        for (w, out) in weights.iter().zip(out.as_chunks_mut::<N>().0) {
            *out = narrow(*w);
        }
    }
    match dtype {
        Dtype::F64 => each(weights, out, |w| f64::from(w).to_le_bytes()),
        Dtype::F32 => out.copy_from_slice(bytemuck::cast_slice(weights)),
        Dtype::BF16 => each(weights, out, |w| half::bf16::from_f32(w).to_le_bytes()),
        _ => each(weights, out, |w| half::f16::from_f32(w).to_le_bytes()),
    }
}

/// Encodes whole rows, or a run of groups, each group on its own, and writes them at `place`.
pub(crate) fn rows(
    job: &Job<'_>,
    scheme: Scheme,
    place: Place,
    (values, (rows, cols)): (Values<'_>, (usize, usize)),
    buffer: &mut Vec<u8>,
) -> Result<ByWidth, Error> {
    let wrong = |e: niwaki_quant::Error| not_encodable(&e.offset(place.elements, place.groups), &job.planned.name);
    match scheme {
        Scheme::Uniform(scheme) => {
            let (groups, scale) = (scheme.groups(rows, cols), scheme.scale_type().bytes());
            let zeros = if job.part(Part::Zeros).is_some() { groups } else { 0 };
            let [codes, scales, zeros] = cut(buffer, [rows * scheme.row_bytes(cols), groups * scale, zeros]);
            let mut out = UniformOut { codes: &mut *codes, scales: &mut *scales, zeros: &mut *zeros };
            let (device, fit) = (job.run.device, job.planned.fit);
            let measured = match device.encode((&scheme, fit), (values, cols), &mut out)? {
                Some(measured) => measured,
                None => encode_rows(job.run.level, &scheme, fit, values, cols, out).map_err(wrong)?,
            };
            job.write(Part::Codes, place.code_bytes, codes)?;
            job.write(Part::Scales, place.groups * scale, scales)?;
            job.write(Part::Zeros, place.groups, zeros)?;
            Ok(vec![(0, measured)])
        }
        Scheme::Block(kind) => block_rows(job, kind, place, (values, cols), buffer),
        Scheme::Elastic(scheme) => elastic(job, &scheme, place, (values, (rows, cols)), buffer, wrong),
        other => Err(Error::from(ErrorKind::Unsupported { what: format!("encoding {other}") }).of(&job.planned.name)),
    }
}

/// Whether a scale of small floats hangs on the largest weight of the whole tensor.
pub(crate) fn shares_a_scale(float: Float) -> bool {
    matches!(float, Float::Nvfp4 | Float::Fp8E4m3(FloatBlocks::Tensor))
}

/// Whole rows to become small floats.
pub(crate) struct FloatRows {
    pub(crate) float: Float,
    /// The first of them in the tensor.
    pub(crate) first: usize,
    pub(crate) cols: usize,
    /// The largest magnitude of the tensor, where a scale hangs on it.
    pub(crate) largest: f32,
}

impl FloatRows {
    /// Encodes them and hands out the bytes of each part with their place in it.
    pub(crate) fn encode(
        &self,
        values: Values<'_>,
        tensor: &str,
        buffer: &mut Vec<u8>,
        write: impl Fn(Part, usize, &[u8]) -> Result<(), Error>,
    ) -> Result<Distortion, Error> {
        let &Self { float, first, cols, largest } = self;
        let rows = values.len().checked_div(cols).unwrap_or(0);
        let (codes, scales) = float_bytes(float, rows, cols);
        let [codes, scales] = cut(buffer, [codes, scales]);
        let out = FloatOut { codes: &mut *codes, scales: &mut *scales };
        let measured = encode_float_rows(Level::best(), float, values, cols, largest, out)
            .map_err(|e| not_encodable(&e.offset(first * cols, 0), tensor))?;
        // Before a row there are as many scales as a tensor of the rows before it has.
        let (lines, wide) = float.scale_shape(first, cols);
        let one = matches!(float, Float::Fp8E4m3(FloatBlocks::Tensor));
        let before = if one { 0 } else { lines * wide * float.scale_bytes() };
        write(Part::Codes, first * float.row_bytes(cols), codes)?;
        write(Part::Scales, before, scales)?;
        if first == 0 && float.has_factor() {
            write(Part::Factor, 0, &nvfp4_factor(largest).to_le_bytes())?;
        }
        Ok(measured)
    }
}

/// Encodes whole rows, or a run of blocks; the plan saw that blocks fill the rows.
fn block_rows(
    job: &Job<'_>,
    kind: BlockType,
    place: Place,
    (values, cols): (Values<'_>, usize),
    buffer: &mut Vec<u8>,
) -> Result<ByWidth, Error> {
    let name = &job.planned.name;
    let [codes] = cut(buffer, [values.len() / kind.elements() * kind.bytes()]);
    let measured = encode_block_rows(job.run.level, kind, values, cols, codes)
        .map_err(|e| block_error(e.offset(place.elements, place.groups), name))?;
    job.write(Part::Codes, place.code_bytes, codes)?;
    Ok(vec![(0, measured)])
}

fn elastic(
    job: &Job<'_>,
    scheme: &Elastic,
    place: Place,
    (values, (rows, cols)): (Values<'_>, (usize, usize)),
    buffer: &mut Vec<u8>,
    wrong: impl Fn(niwaki_quant::Error) -> Error,
) -> Result<ByWidth, Error> {
    let (groups, plane) = (rows * cols.div_ceil(scheme.group.get()), rows * cols.div_ceil(8));
    let bytes = |part: Part| match part {
        Part::Base => groups * 4,
        Part::Fix(_) => groups,
        Part::Plane(_) => plane,
        _ => 0,
    };
    let parts: Vec<Part> = job.parts.iter().map(|(spec, _)| spec.part).filter(|part| bytes(*part) > 0).collect();
    buffer.resize(parts.iter().map(|part| bytes(*part)).sum(), 0);
    let mut out = ElasticOut::default();
    let mut rest = buffer.as_mut_slice();
    for part in &parts {
        let slice = rest.split_off_mut(..bytes(*part)).unwrap_or_default();
        match part {
            Part::Fix(bits) => out.fixes[bits.get() as usize] = Some(slice),
            Part::Plane(plane) => out.planes[*plane as usize] = Some(slice),
            _ => out.base = slice,
        }
    }
    let measured = encode_elastic_rows(job.run.level, scheme, job.planned.fit, values, cols, out).map_err(wrong)?;
    let mut rest = buffer.as_slice();
    for part in &parts {
        let slice = rest.split_off(..bytes(*part)).unwrap_or_default();
        let first = match part {
            Part::Base => place.groups * 4,
            Part::Fix(_) => place.groups,
            _ => place.plane_bytes,
        };
        job.write(*part, first, slice)?;
    }
    let widths = scheme.widths.iter();
    Ok(widths.filter_map(|bits| Some((bits.get(), measured.at(bits)?))).collect())
}

/// Encodes weights on a grid that more than them share; whoever has the first writes it.
pub(crate) fn on_grid(
    job: &Job<'_>,
    scheme: Uniform,
    grid: GridPoint,
    place: Place,
    (values, cols): (Values<'_>, usize),
    buffer: &mut Vec<u8>,
) -> Result<ByWidth, Error> {
    let rows = values.len().checked_div(cols).unwrap_or(0);
    let [codes] = cut(buffer, [rows * scheme.row_bytes(cols)]);
    let measured = encode_with(job.run.level, &scheme, grid, values, cols, codes);
    let measured = measured.map_err(|e| not_encodable(&e, &job.planned.name))?;
    job.write(Part::Codes, place.code_bytes, codes)?;
    if place.code_bytes == 0 {
        write_grid(job, &scheme, 0, grid)?;
    }
    Ok(vec![(0, measured)])
}

/// Writes scale and zero point of one group.
fn write_grid(job: &Job<'_>, scheme: &Uniform, group: usize, grid: GridPoint) -> Result<(), Error> {
    job.write(Part::Scales, group * scheme.scale_type().bytes(), &grid.scale.to_le_bytes())?;
    job.write(Part::Zeros, group, &[grid.zero])
}

/// Finds the grid of weights that come in pieces, by as many passes as it takes.
pub(crate) fn solve(
    mut solver: Solver,
    pieces: usize,
    mut observe: impl FnMut(&Solver, usize) -> Result<Sums, Error>,
) -> Result<GridPoint, Error> {
    loop {
        let mut total = None::<Sums>;
        for index in 0..pieces {
            let sums = observe(&solver, index)?;
            match &mut total {
                Some(total) => total.merge(&sums),
                None => total = Some(sums),
            }
        }
        let Some(total) = total else { return Ok(GridPoint { scale: 0.0, zero: 0 }) };
        if let Step::Done(grid) = solver.advance(total) {
            return Ok(grid);
        }
    }
}

/// A row with one scale that is too long for a buffer: passes over it, piece by piece.
fn long_row(job: &Job<'_>, scheme: Uniform, row: usize, scratch: &mut Scratch) -> Result<ByWidth, Error> {
    let (level, (_, cols)) = (job.run.level, job.planned.layout.matrix());
    let range = |index: usize| row * cols + index * BLOCK..row * cols + ((index + 1) * BLOCK).min(cols);
    let Scratch { decoded, bytes, .. } = scratch;
    let pieces = cols.div_ceil(BLOCK);
    let observe = |solver: &Solver, index: usize| {
        let observed = solver.observe(level, job.source.values(range(index), decoded)?);
        observed.map_err(|e| not_encodable(&e.offset(range(index).start, row), &job.planned.name))
    };
    let wrong = |e: niwaki_quant::Error| not_encodable(&e.offset(0, row), &job.planned.name);
    let grid = solve(Solver::new(&scheme, job.planned.fit), pieces, observe)?;
    let mut distortion = ByWidth::new();
    for index in 0..pieces {
        let values = job.source.values(range(index), decoded)?;
        let (count, [codes]) = (values.len(), cut(bytes, [scheme.row_bytes(values.len())]));
        let measured = encode_with(level, &scheme, grid, values, count, codes).map_err(wrong)?;
        merge(&mut distortion, &vec![(0, measured)]);
        job.write(Part::Codes, row * scheme.row_bytes(cols) + scheme.row_bytes(index * BLOCK), codes)?;
    }
    write_grid(job, &scheme, row, grid)?;
    Ok(distortion)
}
