//! Which physical tensors one logical tensor is stored in.
//!
//! ```text
//! as it is         NAME
//! masked           NAME.mask  NAME.values
//! uniform          [NAME.mask]  NAME.codes  NAME.scales  [NAME.zeros]
//! blocks           NAME.codes
//! small floats     NAME.codes  NAME.scales  [NAME.factor]
//! elastic          [NAME.mask]  NAME.base  then per width b: [NAME.fixb]  NAME.plane..
//! ```
//!
//! `NAME.positions` may stand in the place of `NAME.mask`.
//!
//! Planner, writer, reader and verifier all ask [`Layout::parts`], so there is one list.

use std::fmt;

use niwaki_codes::floats::Blocks;
use niwaki_codes::{
    Bits, Elastic, Float, Grouping, MaskView, PositionsView, ScaleType, Scheme, Shape, Support, Symmetry, Uniform,
};
use niwaki_tensors::{Dtype, decodes_to_f32};

use crate::error::{Error, ErrorKind};

/// Rows and columns of a tensor as encoders see it: the first dimension by the rest,
/// one row for fewer than two dimensions, none for no elements.
pub fn matrix(shape: &Shape) -> (usize, usize) {
    match (shape.elements(), shape.dims().len()) {
        // Rows of nothing are not counted: a header of a few bytes can ask for 2^63 of them.
        (0, _) => (0, 0),
        (elements, 0 | 1) => (1, elements),
        _ => (shape.rows(), shape.cols()),
    }
}

/// What one physical tensor holds of a logical one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The tensor as it was.
    Whole,
    /// One bit a weight: set for those kept.
    Mask,
    /// The flat indices of the kept weights.
    Positions,
    /// Kept weights in the type of the source.
    Values,
    /// Packed codes.
    Codes,
    /// Scales of uniform codes and of small floats.
    Scales,
    /// Zero points of uniform codes.
    Zeros,
    /// What the scales of small floats are divided by.
    Factor,
    /// Origin and span of elastic groups.
    Base,
    /// Corrections of elastic groups at one width.
    Fix(Bits),
    /// One bit of every elastic code; 7 is the most significant.
    Plane(u8),
}

impl Part {
    /// The text after `NAME.`; empty for the whole.
    pub fn suffix(self) -> String {
        self.to_string()
    }

    /// The name of the physical tensor.
    pub fn name(self, tensor: &str) -> String {
        match self {
            Self::Whole => tensor.to_owned(),
            part => format!("{tensor}.{part}"),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Mask => f.write_str("mask"),
            Self::Positions => f.write_str("positions"),
            Self::Values => f.write_str("values"),
            Self::Codes => f.write_str("codes"),
            Self::Scales => f.write_str("scales"),
            Self::Zeros => f.write_str("zeros"),
            Self::Factor => f.write_str("factor"),
            Self::Base => f.write_str("base"),
            Self::Fix(bits) => write!(f, "fix{bits}"),
            Self::Plane(plane) => write!(f, "plane{plane}"),
        }
    }
}

/// Type, shape and size of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartSpec {
    /// What it holds.
    pub part: Part,
    /// Its type in the file.
    pub dtype: Dtype,
    /// Its shape in the file.
    pub shape: Shape,
    /// Its bytes in the file.
    pub bytes: usize,
}

/// The weights that are stored of a tensor of which not all are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// How many they are.
    pub weights: usize,
    /// What says which they are.
    pub told_by: ToldBy,
}

/// What says which weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldBy {
    /// One bit a weight, [`Part::Mask`].
    Mask,
    /// An ascending list, [`Part::Positions`]: smaller where few are kept.
    Positions,
}

impl Kept {
    /// So many, told by a mask.
    pub fn by_mask(weights: usize) -> Self {
        Self { weights, told_by: ToldBy::Mask }
    }

    /// So many, told by their positions.
    pub fn by_positions(weights: usize) -> Self {
        Self { weights, told_by: ToldBy::Positions }
    }

    /// The part that says which they are.
    pub fn part(self) -> Part {
        match self.told_by {
            ToldBy::Mask => Part::Mask,
            ToldBy::Positions => Part::Positions,
        }
    }

    fn spec(self, rows: usize, cols: usize) -> Result<PartSpec, Error> {
        match self.told_by {
            ToldBy::Mask => spec(Part::Mask, Dtype::U8, &[rows, cols.div_ceil(8)]),
            ToldBy::Positions => {
                let elements = rows.checked_mul(cols).ok_or(ErrorKind::Overflow)?;
                let bytes = PositionsView::part_len(elements, self.weights).map_err(ErrorKind::Codes)?;
                spec(Part::Positions, Dtype::U8, &[bytes])
            }
        }
    }

    /// The places of the weights of a matrix, as the bytes of [`part`](Self::part) have them.
    pub(crate) fn support(self, (rows, cols): (usize, usize), bytes: &[u8]) -> Result<Support<'_>, Error> {
        Ok(match self.told_by {
            ToldBy::Mask => MaskView::new(rows, cols, bytes)?.into(),
            ToldBy::Positions => {
                let elements = rows.checked_mul(cols).ok_or(ErrorKind::Overflow)?;
                Support::by_positions(rows, cols, PositionsView::new(elements, self.weights, bytes)?)?
            }
        })
    }
}

/// How one logical tensor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The type of the source.
    pub dtype: Dtype,
    /// The shape of the source.
    pub shape: Shape,
    /// What its codes mean; none for weights in the source's type.
    pub scheme: Option<Scheme>,
    /// Which weights are stored; none for all.
    pub kept: Option<Kept>,
}

impl Layout {
    /// A tensor stored as it is.
    pub fn plain(dtype: Dtype, shape: Shape) -> Self {
        Self { dtype, shape, scheme: None, kept: None }
    }

    /// Whether the tensor is stored as it is.
    pub fn is_plain(&self) -> bool {
        self.scheme.is_none() && self.kept.is_none()
    }

    /// Rows and columns as encoders see them.
    pub fn matrix(&self) -> (usize, usize) {
        matrix(&self.shape)
    }

    /// The text form of the scheme; `dense` for none.
    pub fn scheme_text(&self) -> String {
        self.scheme.map_or_else(|| "dense".to_owned(), |scheme| scheme.to_string())
    }

    /// Scheme and what tells the kept weights, for messages.
    fn form_text(&self) -> String {
        let told_by = self.kept.map(|kept| match kept.told_by {
            ToldBy::Mask => " with a mask",
            ToldBy::Positions => " with positions",
        });
        self.scheme_text() + told_by.unwrap_or_default()
    }

    /// The elastic scheme, where it is one.
    pub fn elastic(&self) -> Option<Elastic> {
        match self.scheme {
            Some(Scheme::Elastic(elastic)) => Some(elastic),
            _ => None,
        }
    }

    /// The parts, in the order of the module's table.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Overflow`] where sizes do not fit into memory, [`ErrorKind::Kept`]
    /// where more weights are kept than there are, [`ErrorKind::NotFloat`] for
    /// codes or masks of a type that is no float, [`ErrorKind::Empty`] for those of no
    /// elements, [`ErrorKind::Codes`] for rows that blocks do not divide,
    /// [`ErrorKind::Unsupported`] for a scheme of a later version, for masked blocks and small
    /// floats, and for [`Float::Mxfp4`], which is stored as blocks.
    pub fn parts(&self) -> Result<Vec<PartSpec>, Error> {
        let mut parts = Vec::new();
        self.check()?;
        if self.is_plain() {
            parts.push(spec(Part::Whole, self.dtype, self.shape.dims())?);
            return Ok(parts);
        }
        let (rows, cols) = self.matrix();
        if let Some(kept) = self.kept {
            parts.push(kept.spec(rows, cols)?);
        }
        match (self.scheme, self.kept.map(|kept| kept.weights)) {
            (None, kept) => parts.push(spec(Part::Values, self.dtype, &[kept.unwrap_or(0)])?),
            (Some(Scheme::Uniform(uniform)), kept) => uniform_parts(&uniform, rows, cols, kept, &mut parts)?,
            (Some(Scheme::Elastic(elastic)), kept) => elastic_parts(&elastic, rows, cols, kept, &mut parts)?,
            (Some(Scheme::Block(kind)), None) => {
                let bytes = kind.row_bytes(cols).map_err(ErrorKind::Codes)?;
                parts.push(spec(Part::Codes, Dtype::U8, &[rows, bytes])?);
            }
            (Some(Scheme::Float(Float::Mxfp4)), _) => {
                return Err(ErrorKind::Unsupported("mxfp4 with its scales apart".to_owned()).into());
            }
            (Some(Scheme::Float(float)), None) => float_parts(float, rows, cols, &mut parts)?,
            (Some(Scheme::Block(_) | Scheme::Float(_)), Some(_)) => {
                return Err(ErrorKind::Unsupported(self.form_text()).into());
            }
            (Some(other), _) => return Err(ErrorKind::Unsupported(other.to_string()).into()),
        }
        Ok(parts)
    }

    /// Bytes of all parts together.
    ///
    /// # Errors
    ///
    /// Those of [`parts`](Self::parts).
    pub fn bytes(&self) -> Result<u64, Error> {
        Ok(self.parts()?.iter().map(|part| part.bytes as u64).sum())
    }

    fn check(&self) -> Result<(), Error> {
        let elements = self.shape.elements();
        if elements == 0 && !self.is_plain() {
            return Err(ErrorKind::Empty(self.form_text()).into());
        }
        match self.kept {
            Some(Kept { weights, .. }) if weights > elements => {
                return Err(ErrorKind::Kept { kept: weights, elements }.into());
            }
            _ => (),
        }
        if self.is_plain() || decodes_to_f32(self.dtype) {
            Ok(())
        } else {
            Err(ErrorKind::NotFloat { dtype: self.dtype, scheme: self.scheme_text() }.into())
        }
    }
}

fn uniform_parts(
    u: &Uniform,
    rows: usize,
    cols: usize,
    kept: Option<usize>,
    parts: &mut Vec<PartSpec>,
) -> Result<(), Error> {
    let codes: &[usize] = match kept {
        None => &[rows, u.row_bytes(cols)],
        Some(kept) => &[u.row_bytes(kept)],
    };
    parts.push(spec(Part::Codes, Dtype::U8, codes)?);
    let groups: &[usize] = match (u.grouping, kept) {
        (Grouping::Tensor, kept) => &[usize::from(kept != Some(0))],
        (Grouping::Row, _) => &[rows, 1],
        (Grouping::Group(g), None) => &[rows, cols.div_ceil(g.get())],
        (Grouping::Group(g), Some(kept)) => &[kept.div_ceil(g.get())],
    };
    let scales = match u.scale_type() {
        ScaleType::F16 => Dtype::F16,
        ScaleType::F32 => Dtype::F32,
    };
    parts.push(spec(Part::Scales, scales, groups)?);
    if u.symmetry == Symmetry::Affine {
        parts.push(spec(Part::Zeros, Dtype::U8, groups)?);
    }
    Ok(())
}

fn float_parts(float: Float, rows: usize, cols: usize, parts: &mut Vec<PartSpec>) -> Result<(), Error> {
    // Where a type of the file says what the bytes are, they have it.
    let codes = if let Float::Fp8E4m3(_) = float { Dtype::F8_E4M3 } else { Dtype::U8 };
    let scales = if float.scale_bytes() == 1 { Dtype::F8_E4M3 } else { Dtype::F32 };
    parts.push(spec(Part::Codes, codes, &[rows, float.row_bytes(cols)])?);
    let (high, wide) = float.scale_shape(rows, cols);
    let shape: &[usize] = if let Float::Fp8E4m3(Blocks::Tensor) = float { &[1] } else { &[high, wide] };
    parts.push(spec(Part::Scales, scales, shape)?);
    if float.has_factor() {
        parts.push(spec(Part::Factor, Dtype::F32, &[1])?);
    }
    Ok(())
}

fn elastic_parts(
    e: &Elastic,
    rows: usize,
    cols: usize,
    kept: Option<usize>,
    parts: &mut Vec<PartSpec>,
) -> Result<(), Error> {
    let (base, fix, plane): (&[usize], &[usize], &[usize]) = match kept {
        None => {
            let groups = cols.div_ceil(e.group.get());
            (&[rows, groups, 2], &[rows, groups], &[rows, cols.div_ceil(8)])
        }
        Some(kept) => {
            let groups = kept.div_ceil(e.group.get());
            (&[groups, 2], &[groups], &[kept.div_ceil(8)])
        }
    };
    parts.push(spec(Part::Base, Dtype::F16, base)?);
    for (bits, planes) in steps(e) {
        if bits != Bits::MAX {
            parts.push(spec(Part::Fix(bits), Dtype::U8, fix)?);
        }
        for number in planes {
            parts.push(spec(Part::Plane(number), Dtype::U8, plane)?);
        }
    }
    Ok(())
}

/// The served widths, narrowest first, each with the planes that it adds.
pub(crate) fn steps(e: &Elastic) -> impl Iterator<Item = (Bits, impl Iterator<Item = u8>)> {
    let mut next = 8;
    e.widths.iter().map(move |bits| {
        let first = 8 - bits.get() as u8;
        let planes = (first..next).rev();
        next = first;
        (bits, planes)
    })
}

fn spec(part: Part, dtype: Dtype, dims: &[usize]) -> Result<PartSpec, Error> {
    let shape = Shape::new(dims).map_err(ErrorKind::Codes)?;
    let bits = shape.elements().checked_mul(dtype.bitsize()).ok_or(ErrorKind::Overflow)?;
    Ok(PartSpec { part, dtype, shape, bytes: bits.div_ceil(8) })
}

/// The name of a type in a header.
pub(crate) fn dtype_text(dtype: Dtype) -> String {
    dtype.to_string()
}

/// Dimensions joined by `x`; nothing for a scalar.
pub(crate) fn shape_text(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

#[cfg(test)]
mod tests;
