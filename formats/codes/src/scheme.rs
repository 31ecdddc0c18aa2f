//! What a compressed tensor's codes mean, and the one text form of it.
//!
//! ```text
//! int4/g64/affine      4-bit codes, groups of 64, integer zero points, F16 scales
//! int8/row/sym         8-bit codes, one F32 scale a row
//! int4/g32/sym/f32     as int4/g32/sym with F32 scales
//! elastic/g64          bit-planes that serve every width from 2 to 8
//! elastic/g64/2,4,8    bit-planes that serve these widths
//! q4_k                 blocks of ggml's Q4_K
//! fp8_e4m3/row         floats of 8 bits, one F32 scale a row
//! nvfp4, nf4/g64       floats of 4 bits with scales
//! ```

use core::fmt;
use core::num::NonZeroU32;
use core::str::FromStr;

use crate::floats::Float;
use crate::pack::packed_bytes;
use crate::{Bits, BlockType, Error, ErrorKind, Widths};

/// Weights that share parameters: consecutive elements of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupSize(NonZeroU32);

impl GroupSize {
    /// Groups of `n` weights.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::GroupSize`] for zero or beyond `u32`.
    pub fn new(n: usize) -> Result<Self, Error> {
        let group = u32::try_from(n).ok().and_then(NonZeroU32::new);
        group.map(Self).ok_or_else(|| ErrorKind::GroupSize(n as u64).into())
    }

    /// How many weights a full group holds.
    pub const fn get(self) -> usize {
        self.0.get() as usize
    }
}

/// Whether codes lie around a fixed middle or have a zero point per group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symmetry {
    /// `x = scale * (code - 2^(bits-1))`; scales may be negative.
    Symmetric,
    /// `x = scale * (code - zero)` with an integer zero point.
    Affine,
}

/// Which weights share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grouping {
    /// All of the tensor.
    Tensor,
    /// One row: one output channel, flattened.
    Row,
    /// Runs of a row; a row that the group does not divide ends in a short one.
    Group(GroupSize),
}

/// How scales are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScaleType {
    /// IEEE half precision: the default of groups.
    F16,
    /// IEEE single precision: always used for rows and whole tensors.
    F32,
}

impl ScaleType {
    /// Bytes of one scale.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// Evenly spaced codes of one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Uniform {
    /// Width of a code.
    pub bits: Bits,
    /// Which weights share a scale.
    pub grouping: Grouping,
    /// Where zero lies.
    pub symmetry: Symmetry,
    /// F32 scales even for groups.
    scales: ScaleType,
}

impl Uniform {
    /// Codes with the default scale type of the grouping: F16 for groups, else F32.
    pub const fn new(bits: Bits, grouping: Grouping, symmetry: Symmetry) -> Self {
        let scales = match grouping {
            Grouping::Group(_) => ScaleType::F16,
            Grouping::Tensor | Grouping::Row => ScaleType::F32,
        };
        Self { bits, grouping, symmetry, scales }
    }

    /// The same codes with F32 scales.
    pub const fn with_f32_scales(self) -> Self {
        Self { scales: ScaleType::F32, ..self }
    }

    /// How scales are stored.
    pub const fn scale_type(&self) -> ScaleType {
        self.scales
    }

    /// Parameter groups in a tensor of `rows` by `cols`.
    pub fn groups(&self, rows: usize, cols: usize) -> usize {
        match self.grouping {
            Grouping::Tensor => usize::from(rows > 0 && cols > 0),
            Grouping::Row => rows,
            Grouping::Group(g) => rows.saturating_mul(cols.div_ceil(g.get())),
        }
    }

    /// Bytes of one row of packed codes: `cols` codes, padded to a whole byte.
    pub fn row_bytes(&self, cols: usize) -> usize {
        packed_bytes(cols, self.bits)
    }
}

/// Bit-planes that serve several widths from one set of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Elastic {
    /// Weights that share a range.
    pub group: GroupSize,
    /// Widths that can be decoded.
    pub widths: Widths,
}

/// What the codes of one compressed tensor mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// Evenly spaced codes of one width.
    Uniform(Uniform),
    /// Bit-planes for several widths.
    Elastic(Elastic),
    /// Blocks with scales of their own.
    Block(BlockType),
    /// Small floats with scales beside them.
    ///
    /// The text `mxfp4` is the block type, so no text gives [`Float::Mxfp4`], and no container
    /// stores it: it is there for the layouts of others.
    Float(Float),
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform(u) => {
                write!(f, "int{}/", u.bits)?;
                match u.grouping {
                    Grouping::Tensor => f.write_str("tensor")?,
                    Grouping::Row => f.write_str("row")?,
                    Grouping::Group(g) => write!(f, "g{}", g.get())?,
                }
                f.write_str(match u.symmetry {
                    Symmetry::Symmetric => "/sym",
                    Symmetry::Affine => "/affine",
                })?;
                match (u.grouping, u.scales) {
                    (Grouping::Group(_), ScaleType::F32) => f.write_str("/f32"),
                    _ => Ok(()),
                }
            }
            Self::Elastic(e) => {
                write!(f, "elastic/g{}", e.group.get())?;
                if e.widths == Widths::ALL { Ok(()) } else { write!(f, "/{}", e.widths) }
            }
            Self::Block(kind) => kind.fmt(f),
            Self::Float(float) => float.fmt(f),
        }
    }
}

impl FromStr for Scheme {
    type Err = Error;

    /// Reads the text form. Text that names a width or group out of range gives that
    /// kind of error, anything else [`ErrorKind::SchemeText`]. `mxfp4` is a block type.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = cut(text, b'/');
        let head = parts.next().unwrap_or_default();
        let scheme = if head == "elastic" {
            elastic(&mut parts)?
        } else if let Some(bits) = head.strip_prefix("int") {
            Self::Uniform(uniform(bits, &mut parts)?)
        } else if let Some(kind) = BlockType::from_name(head) {
            Self::Block(kind)
        } else {
            return text.parse().map(Self::Float);
        };
        match parts.next() {
            None => Ok(scheme),
            Some(_) => Err(ErrorKind::SchemeText.into()),
        }
    }
}

fn uniform<'a>(bits: &str, parts: &mut impl Iterator<Item = &'a str>) -> Result<Uniform, Error> {
    let bits = Bits::new(number(bits).and_then(|b| u32::try_from(b).ok()).ok_or(ErrorKind::SchemeText)?)?;
    let grouping = match parts.next() {
        Some("tensor") => Grouping::Tensor,
        Some("row") => Grouping::Row,
        Some(text) => Grouping::Group(group(text)?),
        None => return Err(ErrorKind::SchemeText.into()),
    };
    let symmetry = match parts.next() {
        Some("sym") => Symmetry::Symmetric,
        Some("affine") => Symmetry::Affine,
        _ => return Err(ErrorKind::SchemeText.into()),
    };
    let scheme = Uniform::new(bits, grouping, symmetry);
    match (parts.next(), grouping) {
        (None, _) => Ok(scheme),
        (Some("f32"), Grouping::Group(_)) => Ok(scheme.with_f32_scales()),
        _ => Err(ErrorKind::SchemeText.into()),
    }
}

fn elastic<'a>(parts: &mut impl Iterator<Item = &'a str>) -> Result<Scheme, Error> {
    let group = group(parts.next().ok_or(ErrorKind::SchemeText)?)?;
    let widths = match parts.next() {
        None => Widths::ALL,
        Some(list) => {
            let mut set = None::<Widths>;
            for text in cut(list, b',') {
                let bits = number(text).and_then(|b| u32::try_from(b).ok()).ok_or(ErrorKind::SchemeText)?;
                let bits = Bits::new(bits)?;
                set = Some(Widths::new(set.iter().flat_map(|s| s.iter()).chain([bits]))?);
            }
            set.ok_or(ErrorKind::NoWidths)?
        }
    };
    Ok(Scheme::Elastic(Elastic { group, widths }))
}

/// A group size in text: `g64`.
pub(crate) fn group(text: &str) -> Result<GroupSize, Error> {
    let n = text.strip_prefix('g').and_then(number).ok_or(ErrorKind::SchemeText)?;
    GroupSize::new(usize::try_from(n).map_err(|_| ErrorKind::GroupSize(n))?)
}

/// `text.split(at)`, in which the compiler sees that nothing panics.
fn cut(text: &str, at: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let text = rest?;
        let end = text.bytes().position(|b| b == at);
        rest = end.and_then(|end| text.get(end + 1..));
        text.get(..end.unwrap_or(text.len()))
    })
}

/// Decimal digits without sign or leading zero, so that each scheme has one spelling.
fn number(text: &str) -> Option<u64> {
    if text.starts_with(['0', '+']) && text != "0" {
        return None;
    }
    text.parse().ok()
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn text_goes_there_and_back() {
        for text in [
            "int4/g64/affine",
            "int8/row/sym",
            "int2/tensor/sym",
            "int3/g1/sym/f32",
            "elastic/g64",
            "elastic/g32/2,4,8",
            "fp8_e4m3/tensor",
            "fp8_e4m3/row",
            "fp8_e4m3/b128",
            "nvfp4",
            "nf4/g64",
        ]
        .into_iter()
        .chain(BlockType::ALL.map(BlockType::name))
        {
            assert_eq!(text.parse::<Scheme>().unwrap().to_string(), text);
        }
        assert_eq!("elastic/g64/2,3,4,5,6,7,8".parse::<Scheme>().unwrap().to_string(), "elastic/g64");
    }

    #[test]
    fn a_text_of_blocks_is_never_one_of_floats() {
        assert_eq!("mxfp4".parse(), Ok(Scheme::Block(BlockType::Mxfp4)));
        assert_eq!("nvfp4".parse(), Ok(Scheme::Float(Float::Nvfp4)));
        assert_eq!(Scheme::Float(Float::Mxfp4).to_string(), "mxfp4");
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "int4",
            "int4/g64",
            "int4/row/sym/f32",
            "int04/row/sym",
            "int4/g+4/sym",
            "elastic",
            "elastic/g64/",
            "int4/g64/sym/f32/x",
            "q4_2",
            "Q4_0",
            "q4_0/",
            "mxfp4/",
            "fp8_e4m3/",
            "fp8_e4m3/b",
            "fp8_e4m3/row/f32",
            "nvfp4/g16",
            "nf4/g64/",
            "nf4/row",
        ] {
            assert_eq!(text.parse::<Scheme>().unwrap_err().kind(), ErrorKind::SchemeText, "{text}");
        }
        assert_eq!("int9/row/sym".parse::<Scheme>().unwrap_err().kind(), ErrorKind::Bits(9));
        assert_eq!("int4/g0/sym".parse::<Scheme>().unwrap_err().kind(), ErrorKind::GroupSize(0));
        assert_eq!("nf4/g0".parse::<Scheme>().unwrap_err().kind(), ErrorKind::GroupSize(0));
    }
}
