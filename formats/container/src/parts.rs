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
//! Planner, writer, reader and verifier all ask [`Layout::parts`], so there is one list.

use std::fmt;

use niwaki_codes::floats::Blocks;
use niwaki_codes::{Bits, Elastic, Float, Grouping, ScaleType, Scheme, Shape, Symmetry, Uniform};
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

/// How one logical tensor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The type of the source.
    pub dtype: Dtype,
    /// The shape of the source.
    pub shape: Shape,
    /// What its codes mean; none for weights in the source's type.
    pub scheme: Option<Scheme>,
    /// How many weights the mask keeps; none without a mask.
    pub kept: Option<usize>,
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
    /// for a mask that keeps more weights than there are, [`ErrorKind::NotFloat`] for
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
        if self.kept.is_some() {
            parts.push(spec(Part::Mask, Dtype::U8, &[rows, cols.div_ceil(8)])?);
        }
        match (self.scheme, self.kept) {
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
            (Some(scheme @ (Scheme::Block(_) | Scheme::Float(_))), Some(_)) => {
                return Err(ErrorKind::Unsupported(format!("{scheme} with a mask")).into());
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
            return Err(ErrorKind::Empty(self.scheme_text()).into());
        }
        match self.kept {
            Some(kept) if kept > elements => return Err(ErrorKind::Kept { kept, elements }.into()),
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
mod tests {
    use super::*;

    fn list(dims: &[usize], scheme: &str, kept: Option<usize>) -> Vec<String> {
        let scheme = (scheme != "dense").then(|| scheme.parse().unwrap());
        let layout = Layout { dtype: Dtype::BF16, shape: Shape::new(dims).unwrap(), scheme, kept };
        let parts = layout.parts().unwrap();
        parts.iter().map(|p| format!("{} {} {} {}", p.part.name("w"), p.dtype, p.shape, p.bytes)).collect()
    }

    #[test]
    fn a_kept_tensor_is_one_part_under_its_own_name() {
        assert_eq!(list(&[3, 5], "dense", None), ["w BF16 3x5 30"]);
        assert_eq!(list(&[], "dense", None), ["w BF16 scalar 2"]);
    }

    #[test]
    fn uniform_codes_have_a_row_of_bytes_per_row() {
        assert_eq!(list(&[3, 5], "int3/g2/sym", None), ["w.codes U8 3x2 6", "w.scales F16 3x3 18"]);
        assert_eq!(list(&[3, 5], "int4/row/sym", None), ["w.codes U8 3x3 9", "w.scales F32 3x1 12"]);
        let affine = ["w.codes U8 3x5 15", "w.scales F32 1 4", "w.zeros U8 1 1"];
        assert_eq!(list(&[3, 5], "int8/tensor/affine", None), affine);
        let one_row = ["w.codes U8 1x2 2", "w.scales F32 1x3 12"];
        assert_eq!(list(&[5], "int3/g2/sym/f32", None), one_row);
    }

    #[test]
    fn blocks_are_one_part_without_a_mask_and_fill_rows() {
        assert_eq!(list(&[3, 64], "q4_0", None), ["w.codes U8 3x36 108"]);
        assert_eq!(list(&[2, 2, 128], "q6_k", None), ["w.codes U8 2x210 420"]);
        let blocks = |dims: &[usize], kept| {
            let scheme = Some("q4_0".parse().unwrap());
            let layout = Layout { dtype: Dtype::F32, shape: Shape::new(dims).unwrap(), scheme, kept };
            layout.parts().unwrap_err().to_string()
        };
        assert_eq!(blocks(&[3, 48], None), "a row of 48 weights is no whole number of q4_0 blocks of 32");
        assert_eq!(blocks(&[3, 64], Some(9)), "scheme q4_0 with a mask has no place in container version 1");
    }

    #[test]
    fn small_floats_have_types_of_their_own_where_there_are_any() {
        let fp8 = |scales| ["w.codes F8_E4M3 3x5 15".to_owned(), format!("w.scales F32 {scales}")];
        assert_eq!(list(&[3, 5], "fp8_e4m3/tensor", None), fp8("1 4"));
        assert_eq!(list(&[3, 5], "fp8_e4m3/row", None), fp8("3x1 12"));
        assert_eq!(list(&[3, 5], "fp8_e4m3/b2", None), fp8("2x3 24"));
        assert_eq!(list(&[3, 5], "fp8_e4m3/b128", None), fp8("1x1 4"));
        assert_eq!(list(&[3, 5], "nf4/g2", None), ["w.codes U8 3x3 9", "w.scales F32 3x3 36"]);
        let nvfp4 = ["w.codes U8 2x10 20", "w.scales F8_E4M3 2x2 4", "w.factor F32 1 4"];
        assert_eq!(list(&[2, 4, 5], "nvfp4", None), nvfp4);
        assert_eq!(list(&[5], "nf4/g64", None), ["w.codes U8 1x3 3", "w.scales F32 1x1 4"]);
        let refused = |scheme, kept| {
            let layout = Layout { dtype: Dtype::F32, shape: Shape::new(&[2, 32]).unwrap(), scheme: Some(scheme), kept };
            layout.parts().unwrap_err().to_string()
        };
        let masked = "scheme nvfp4 with a mask has no place in container version 1";
        assert_eq!(refused(Scheme::Float(Float::Nvfp4), Some(9)), masked);
        let apart = "scheme mxfp4 with its scales apart has no place in container version 1";
        assert_eq!(refused(Scheme::Float(Float::Mxfp4), None), apart);
        assert_eq!(refused(Scheme::Float(Float::Mxfp4), Some(9)), apart);
    }

    #[test]
    fn kept_weights_are_one_stream() {
        assert_eq!(list(&[3, 5], "dense", Some(4)), ["w.mask U8 3x1 3", "w.values BF16 4 8"]);
        let grouped = ["w.mask U8 3x1 3", "w.codes U8 3 3", "w.scales F16 4 8", "w.zeros U8 4 4"];
        assert_eq!(list(&[3, 5], "int3/g2/affine", Some(7)), grouped);
        let by_row = ["w.mask U8 3x1 3", "w.codes U8 7 7", "w.scales F32 3x1 12"];
        assert_eq!(list(&[3, 5], "int8/row/sym", Some(7)), by_row);
        let elastic = ["w.mask U8 3x1 3", "w.base F16 2x2 8", "w.fix2 U8 2 2", "w.plane7 U8 2 2", "w.plane6 U8 2 2"];
        assert_eq!(list(&[3, 5], "elastic/g8/2", Some(9)), elastic);
    }

    #[test]
    fn planes_come_with_the_width_that_first_needs_them() {
        let names: Vec<_> = list(&[1, 8], "elastic/g8/3,4,8", None)
            .iter()
            .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
            .collect();
        let expected = "w.base w.fix3 w.plane7 w.plane6 w.plane5 w.fix4 w.plane4 w.plane3 w.plane2 w.plane1 w.plane0";
        assert_eq!(names.join(" "), expected);
    }

    #[test]
    fn sizes_that_overflow_and_masks_that_keep_too_much_are_refused() {
        let layout = Layout::plain(Dtype::F64, Shape::new(&[usize::MAX / 4]).unwrap());
        assert!(matches!(layout.parts().unwrap_err().kind(), ErrorKind::Overflow));
        let layout = Layout { kept: Some(16), ..Layout::plain(Dtype::F32, Shape::new(&[3, 5]).unwrap()) };
        assert!(matches!(layout.parts().unwrap_err().kind(), ErrorKind::Kept { kept: 16, elements: 15 }));
        let empty = Layout { kept: Some(0), ..Layout::plain(Dtype::F32, Shape::new(&[1 << 40, 0]).unwrap()) };
        assert_eq!(
            empty.parts().unwrap_err().to_string(),
            "a tensor without elements is stored as it is, never as dense with a mask"
        );
        assert_eq!(empty.matrix(), (0, 0));
        let layout = Layout { dtype: Dtype::I64, kept: Some(1), ..layout };
        assert!(matches!(layout.parts().unwrap_err().kind(), ErrorKind::NotFloat { .. }));
    }
}
