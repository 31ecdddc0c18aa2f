//! How the parts of a stored tensor are cut into blocks of rows, and decoded.

use std::ops::Range;

use niwaki_codes::floats::{Blocks as FloatBlocks, Float};
use niwaki_codes::simd::Level;
use niwaki_codes::{
    BlockType, BlockView, Elastic, ElasticParts, ElasticView, FloatView, Grouping, Scheme, Uniform, UniformView,
    pack_row, unpack_row,
};
use niwaki_container::{Part, Tensor};
use niwaki_foreign::{Format, UniformRows};
use niwaki_tensors::{Dtype, decode_f32};

use crate::blocks::Blocks;
use crate::error::{Blame, Error, ErrorKind};
use crate::source::{SourceTensor, Storage};

/// A stored tensor that is changed in place.
pub(super) struct Stored<'a> {
    pub(super) tensor: SourceTensor<'a>,
    pub(super) code: Code,
    /// Its parts, in the order in which they are stored.
    pub(super) parts: Vec<StoredPart<'a>>,
}

/// What its bytes mean.
#[derive(Clone, Debug)]
pub(super) enum Code {
    /// Weights that stand for themselves.
    Floats(Dtype),
    Uniform(Uniform),
    Block(BlockType),
    Float(Float),
    Elastic(Elastic),
    /// Evenly spaced codes of another tool; only the codes are a part here.
    Foreign(Uniform, Packing),
    /// Only some weights are stored: these, by their flat index, in the type or scheme given.
    Kept(Box<Code>, Vec<usize>),
}

/// How another tool lays codes out, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// A stream of bits, filled to whole words of 32 bits.
    Words,
    /// A signed byte each.
    Bytes,
}

/// One part.
pub(super) struct StoredPart<'a> {
    pub(super) part: Part,
    /// Its name in the file.
    pub(super) name: String,
    pub(super) bytes: &'a [u8],
    /// Bytes of one element: what corrections count in.
    pub(super) width: usize,
    cut: Cut,
}

/// How a part is cut by rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// So many bytes a row.
    Row(usize),
    /// So many bytes for each so many rows.
    Rows(usize, usize),
    /// It belongs to all rows.
    Whole,
}

impl<'a> Stored<'a> {
    /// The tensor as it is stored.
    ///
    /// # Errors
    ///
    /// Layouts of other tools, and blocks, that are not changed here.
    pub(super) fn new(tensor: &SourceTensor<'a>) -> Result<Self, Error> {
        let (rows, cols) = tensor.matrix();
        let name = || tensor.name().to_owned();
        let (code, parts) = match tensor.storage() {
            Storage::Elements(bytes) => {
                let dtype = tensor.dtype();
                if !matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                    return Err(unsupported(tensor, &format!("{dtype} weights")));
                }
                (Code::Floats(dtype), vec![(Part::Whole, name(), bytes)])
            }
            Storage::Block(kind, bytes) => (Code::Block(kind), vec![(Part::Codes, name(), bytes)]),
            Storage::Ours(stored) => {
                let code = match stored.scheme() {
                    None => Code::Floats(stored.dtype()),
                    Some(Scheme::Uniform(uniform)) => Code::Uniform(uniform),
                    Some(Scheme::Block(kind)) => Code::Block(kind),
                    Some(Scheme::Float(float)) => Code::Float(float),
                    Some(Scheme::Elastic(elastic)) => Code::Elastic(elastic),
                    Some(other) => return Err(unsupported(tensor, &other.to_string())),
                };
                let code = if stored.masked() { Code::Kept(Box::new(code), kept(&stored)?) } else { code };
                let part = |(part, bytes): (Part, &'a [u8])| (part, part.name(tensor.name()), bytes);
                (code, stored.parts().map(part).collect())
            }
            Storage::Foreign(logical) => {
                let packing = match logical.format() {
                    Format::PackQuantized => Packing::Words,
                    Format::IntQuantized => Packing::Bytes,
                    other => return Err(unsupported(tensor, &other.to_string())),
                };
                let uniform = logical.uniform().filter(|_| (logical.rows(), logical.cols()) == (rows, cols));
                let uniform = uniform.ok_or_else(|| unsupported(tensor, &logical.format().to_string()))?;
                let codes = logical.parts().first().map(|part| (Part::Codes, part.name().to_owned(), part.bytes()));
                (Code::Foreign(uniform, packing), codes.into_iter().collect())
            }
            Storage::Other(coding) => return Err(unsupported(tensor, &coding)),
        };
        let part = |(part, name, bytes)| StoredPart {
            part,
            name,
            bytes,
            width: width(&code, part),
            cut: cut(&code, part, rows, cols),
        };
        let parts = parts.into_iter().map(part).collect();
        Ok(Self { tensor: tensor.clone(), code, parts })
    }

    /// Blocks of rows that are changed apart; one block where rows share parameters. They hang on
    /// the tensor alone, so that corrections of one stack are found again under another.
    pub(super) fn blocks(&self) -> Blocks {
        let (rows, cols) = self.tensor.matrix();
        let shared = self.parts.iter().any(|part| part.cut == Cut::Whole && is_parameter(part.part));
        match &self.code {
            Code::Kept(..) => Blocks::of_steps(rows, cols, None),
            _ if shared => Blocks::of_steps(rows, cols, None),
            Code::Float(Float::Fp8E4m3(FloatBlocks::Square(side))) => {
                Blocks::of_steps(rows, cols, Some(side.get() as usize))
            }
            _ => Blocks::of_rows(rows, cols),
        }
    }

    /// Which bytes of part number `part` belong to the rows.
    pub(super) fn range(&self, part: usize, rows: &Range<usize>) -> Range<usize> {
        let len = self.parts[part].bytes.len();
        match self.parts[part].cut {
            Cut::Row(bytes) => rows.start * bytes..rows.end * bytes,
            Cut::Rows(each, bytes) => rows.start / each * bytes..rows.end.div_ceil(each) * bytes,
            Cut::Whole => 0..len,
        }
    }

    /// The bytes of every part for the rows.
    pub(super) fn read(&self, rows: &Range<usize>) -> Vec<Vec<u8>> {
        let part = |at: usize| self.parts[at].bytes.get(self.range(at, rows)).unwrap_or_default().to_vec();
        (0..self.parts.len()).map(part).collect()
    }

    /// The type of weights that stand for themselves, all of them or those kept.
    pub(super) fn floats(&self) -> Option<Dtype> {
        match &self.code {
            Code::Floats(dtype) => Some(*dtype),
            Code::Kept(code, _) => match **code {
                Code::Floats(dtype) => Some(dtype),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether patches of these kinds change a part.
    pub(super) fn changes(&self, part: Part, scales: bool) -> bool {
        match part {
            Part::Mask | Part::Positions => false,
            part if is_parameter(part) => scales,
            _ => true,
        }
    }

    /// Index of a part.
    pub(super) fn place(&self, part: Part) -> Option<usize> {
        self.parts.iter().position(|stored| stored.part == part)
    }

    /// Decodes the weights that are stored of some rows, whose parts are `parts`.
    pub(super) fn decode(&self, parts: &[Vec<u8>], rows: &Range<usize>) -> Result<Vec<f32>, Error> {
        let (_, cols) = self.tensor.matrix();
        let of = |part: Part| self.place(part).and_then(|at| parts.get(at)).map(Vec::as_slice);
        match &self.code {
            Code::Kept(code, positions) if matches!(**code, Code::Uniform(Uniform { grouping: Grouping::Row, .. })) => {
                let Code::Uniform(uniform) = **code else { return Ok(Vec::new()) };
                self.decode_kept_by_row(uniform, positions, &of)
            }
            Code::Kept(code, positions) => self.decode_as(code, (1, positions.len()), &of),
            Code::Foreign(uniform, _) => {
                let (codes, grids) = self.canonical(parts, rows)?;
                let part = |part| match part {
                    Part::Codes => Some(codes.as_slice()),
                    Part::Scales => Some(grids.scales.as_slice()),
                    Part::Zeros => Some(grids.zeros.as_slice()).filter(|zeros| !zeros.is_empty()),
                    _ => None,
                };
                self.decode_as(&Code::Uniform(*uniform), (rows.len(), cols), &part)
            }
            code => self.decode_as(code, (rows.len(), cols), &of),
        }
    }

    fn decode_as<'p>(
        &self,
        code: &Code,
        (rows, cols): (usize, usize),
        of: &dyn Fn(Part) -> Option<&'p [u8]>,
    ) -> Result<Vec<f32>, Error> {
        let level = Level::best();
        let mut out = vec![0.0; rows * cols];
        let need = |part| of(part).unwrap_or_default();
        let below = |e: niwaki_codes::Error| Error::below(e, Blame::Input).of(self.tensor.name());
        match code {
            Code::Floats(dtype) => {
                let bytes = of(Part::Whole).or_else(|| of(Part::Values)).unwrap_or_default();
                decode_f32(*dtype, bytes, &mut out)?;
            }
            Code::Uniform(u) => {
                UniformView::new(*u, rows, cols, need(Part::Codes), need(Part::Scales), of(Part::Zeros))
                    .and_then(|view| view.dequantize_rows(level, 0..rows, &mut out))
                    .map_err(below)?;
            }
            Code::Block(kind) => BlockView::new(*kind, rows, cols, need(Part::Codes))
                .and_then(|view| view.dequantize_rows(level, 0..rows, &mut out))
                .map_err(below)?,
            Code::Float(float) => {
                FloatView::new(*float, rows, cols, need(Part::Codes), need(Part::Scales), of(Part::Factor))
                    .and_then(|view| view.dequantize_rows(level, 0..rows, &mut out))
                    .map_err(below)?;
            }
            Code::Elastic(elastic) => {
                let mut parts = ElasticParts { base: need(Part::Base), ..ElasticParts::default() };
                for stored in &self.parts {
                    match stored.part {
                        Part::Fix(bits) => parts.fixes[bits.get() as usize] = of(stored.part),
                        Part::Plane(plane) => parts.planes[usize::from(plane)] = of(stored.part),
                        _ => {}
                    }
                }
                let widest = elastic.widths.widest();
                ElasticView::new(*elastic, rows, cols, parts)
                    .and_then(|view| view.dequantize_rows(level, widest, 0..rows, &mut out))
                    .map_err(below)?;
            }
            Code::Kept(..) | Code::Foreign(..) => {}
        }
        Ok(out)
    }

    /// How many weights each row keeps.
    pub(super) fn kept_by_row(&self, positions: &[usize]) -> Vec<usize> {
        let (rows, cols) = self.tensor.matrix();
        let mut kept = vec![0; rows];
        positions.iter().for_each(|at| kept[at / cols.max(1)] += 1);
        kept
    }

    /// One stream of codes whose scales are those of the rows that the weights stand in.
    fn decode_kept_by_row<'p>(
        &self,
        uniform: Uniform,
        positions: &[usize],
        of: &dyn Fn(Part) -> Option<&'p [u8]>,
    ) -> Result<Vec<f32>, Error> {
        let (rows, cols) = self.tensor.matrix();
        let below = |e: niwaki_codes::Error| Error::below(e, Blame::Input).of(self.tensor.name());
        let need = |part| of(part).unwrap_or_default();
        let mut codes = vec![0; positions.len()];
        unpack_row(Level::best(), uniform.bits, need(Part::Codes), &mut codes).map_err(below)?;
        let grids = UniformView::new(uniform, rows, 0, &[], need(Part::Scales), of(Part::Zeros)).map_err(below)?;
        let value = |(position, code): (&usize, &u8)| {
            let (scale, middle) = grids.grid(position / cols, 0);
            scale * (i32::from(*code) - i32::from(middle)) as f32
        };
        Ok(positions.iter().zip(&codes).map(value).collect())
    }
}

impl Stored<'_> {
    /// Codes of another tool in our packing, and their parameters.
    pub(super) fn canonical(&self, parts: &[Vec<u8>], rows: &Range<usize>) -> Result<(Vec<u8>, UniformRows), Error> {
        let (_, cols) = self.tensor.matrix();
        let (Code::Foreign(uniform, packing), Storage::Foreign(logical)) = (&self.code, self.tensor.storage()) else {
            return Ok((Vec::new(), UniformRows { codes: Vec::new(), scales: Vec::new(), zeros: Vec::new() }));
        };
        let level = Level::best();
        let wrong = |e: niwaki_foreign::Error| Error::from(e).of(self.tensor.name());
        let grids = logical.uniform_rows(level, uniform, rows.clone()).map_err(wrong)?;
        let stored = parts.first().map(Vec::as_slice).unwrap_or_default();
        let row = uniform.row_bytes(cols);
        let mut codes = vec![0; rows.len() * row];
        let strides = stored.chunks_exact(stored.len() / rows.len().max(1));
        for (stored, codes) in strides.zip(codes.chunks_exact_mut(row)) {
            match packing {
                Packing::Words => codes.copy_from_slice(&stored[..row]),
                Packing::Bytes => {
                    let half = uniform.bits.half() as u8;
                    let unsigned: Vec<u8> = stored.iter().map(|code| code.wrapping_add(half)).collect();
                    let below = |e: niwaki_codes::Error| Error::below(e, Blame::Input).of(self.tensor.name());
                    pack_row(level, uniform.bits, &unsigned, codes).map_err(below)?;
                }
            }
        }
        Ok((codes, grids))
    }

    /// The way back: our packing in that of the other tool.
    pub(super) fn lay_out(&self, codes: &[u8], stored: &mut [u8]) -> Result<(), Error> {
        let (_, cols) = self.tensor.matrix();
        let Code::Foreign(uniform, packing) = &self.code else { return Ok(()) };
        let row = uniform.row_bytes(cols);
        let stride = stored.len() / (codes.len() / row.max(1)).max(1);
        for (codes, stored) in codes.chunks_exact(row).zip(stored.chunks_exact_mut(stride)) {
            match packing {
                Packing::Words => stored[..row].copy_from_slice(codes),
                Packing::Bytes => {
                    let below = |e: niwaki_codes::Error| Error::below(e, Blame::Input).of(self.tensor.name());
                    unpack_row(Level::best(), uniform.bits, codes, stored).map_err(below)?;
                    stored.iter_mut().for_each(|code| *code = code.wrapping_sub(uniform.bits.half() as u8));
                }
            }
        }
        Ok(())
    }
}

/// The flat indices of the weights that are kept.
fn kept(tensor: &Tensor<'_>) -> Result<Vec<usize>, Error> {
    let mut kept = Vec::new();
    let rows = 0..tensor.matrix().0;
    tensor.at(None)?.visit_kept(Level::best(), rows, |positions, _| kept.extend_from_slice(positions))?;
    Ok(kept)
}

/// Whether a part holds parameters of codes.
pub(super) fn is_parameter(part: Part) -> bool {
    matches!(part, Part::Scales | Part::Zeros | Part::Factor | Part::Base | Part::Fix(_))
}

fn unsupported(tensor: &SourceTensor<'_>, coding: &str) -> Error {
    let error = Error::from(ErrorKind::Unsupported { what: format!("merging a patch into {coding}") });
    error.of(tensor.name()).hinting("`--patch` lays it over the checkpoint where that is read")
}

/// Bytes of one element of a part.
fn width(code: &Code, part: Part) -> usize {
    match (code, part) {
        (Code::Kept(code, _), part) => width(code, part),
        (Code::Floats(dtype), Part::Whole | Part::Values) => dtype.bitsize() / 8,
        (Code::Uniform(uniform), Part::Scales) => uniform.scale_type().bytes(),
        (Code::Float(float), Part::Scales) => float.scale_bytes(),
        (_, Part::Factor) => 4,
        (_, Part::Base) => 2,
        _ => 1,
    }
}

fn cut(code: &Code, part: Part, rows: usize, cols: usize) -> Cut {
    match (code, part) {
        (Code::Kept(..), _) => Cut::Whole,
        (Code::Floats(dtype), _) => Cut::Row(cols * dtype.bitsize() / 8),
        (Code::Block(kind), _) => Cut::Row(cols / kind.elements() * kind.bytes()),
        (Code::Uniform(u), Part::Codes) => Cut::Row(u.row_bytes(cols)),
        (Code::Uniform(u), part) => {
            let size = if part == Part::Scales { u.scale_type().bytes() } else { 1 };
            match u.grouping {
                Grouping::Tensor => Cut::Whole,
                Grouping::Row => Cut::Row(size),
                Grouping::Group(g) => Cut::Row(cols.div_ceil(g.get()) * size),
            }
        }
        (Code::Foreign(u, Packing::Words), _) => Cut::Row(u.row_bytes(cols).next_multiple_of(4)),
        (Code::Foreign(_, Packing::Bytes), _) => Cut::Row(cols),
        (Code::Float(float), Part::Codes) => Cut::Row(float.row_bytes(cols)),
        (Code::Float(_), Part::Factor) => Cut::Whole,
        (Code::Float(float), _) => match float {
            Float::Fp8E4m3(FloatBlocks::Tensor) => Cut::Whole,
            Float::Fp8E4m3(FloatBlocks::Square(side)) => {
                Cut::Rows(side.get() as usize, float.scale_shape(rows, cols).1 * float.scale_bytes())
            }
            _ => Cut::Row(float.scale_shape(1, cols).1 * float.scale_bytes()),
        },
        (Code::Elastic(_), Part::Plane(_)) => Cut::Row(cols.div_ceil(8)),
        (Code::Elastic(elastic), Part::Base) => Cut::Row(elastic.groups(cols) * 4),
        (Code::Elastic(elastic), _) => Cut::Row(elastic.groups(cols)),
    }
}
