//! Tensors of small floats: their bytes are those of the encoder, only names and shapes differ.

use niwaki_codes::floats::{Blocks, Float};
use niwaki_codes::{Grouping, Scheme, Symmetry, Uniform};
use niwaki_tensors::Dtype;

use super::Part;
use crate::Format;
use crate::error::{Error, ErrorKind};

/// The stored tensors of the weight `name`, of dimensions `shape`, as small floats: the codes,
/// their scales, and the scale of all for NVFP4 in compressed-tensors.
///
/// Codes are row by row, FP4 two a byte with the first in the low nibble; scales row by row:
/// F32 of FP8, exponents of MXFP4, e4m3 of NVFP4. The scale of all that compressed-tensors
/// stores is one over the factor of the scales.
///
/// # Errors
///
/// [`ErrorKind::Scheme`] where the format cannot hold the scheme in that shape.
pub fn float_parts(format: Format, name: &str, float: Float, shape: &[usize]) -> Result<Vec<Part>, Error> {
    let refuse = |why: String, nearest: Option<&str>| {
        let nearest = nearest.map(str::to_owned);
        Error::from(ErrorKind::Scheme { format, scheme: float.to_string(), why, nearest }).of(name)
    };
    let [lead @ .., rows, cols] = shape else { return Err(refuse("the tensor is no matrix".to_owned(), None)) };
    let (rows, cols) = (*rows, *cols);
    if shape.contains(&0) {
        return Err(refuse("the tensor has no elements".to_owned(), None));
    }
    let head = name.strip_suffix("weight").unwrap_or(name);
    let part = |name: String, dtype, last: &[usize]| Part { name, dtype, shape: [lead, last].concat() };
    let groups = |group: usize| match cols.is_multiple_of(group) {
        true => Ok(cols / group),
        false => Err(refuse(format!("groups of {group} do not divide rows of {cols}"), None)),
    };
    Ok(match (format, float) {
        (Format::FloatQuantized | Format::Fp8, Float::Fp8E4m3(blocks)) => {
            let square = matches!(blocks, Blocks::Square(_));
            let inverse = format == Format::Fp8 && square;
            let table = match blocks {
                Blocks::Tensor => vec![1],
                Blocks::Row => vec![rows, 1],
                Blocks::Square(side) => vec![rows.div_ceil(side.get() as usize), cols.div_ceil(side.get() as usize)],
            };
            let scale = if inverse { "_scale_inv" } else { "_scale" };
            vec![
                part(name.to_owned(), Dtype::F8_E4M3, &[rows, cols]),
                part(format!("{name}{scale}"), Dtype::F32, &table),
            ]
        }
        (Format::Nvfp4Packed, Float::Nvfp4) => vec![
            part(format!("{head}weight_packed"), Dtype::U8, &[rows, cols.div_ceil(2)]),
            part(format!("{head}weight_scale"), Dtype::F8_E4M3, &[rows, groups(16)?]),
            Part { name: format!("{head}weight_global_scale"), dtype: Dtype::F32, shape: vec![1] },
        ],
        (Format::Mxfp4Packed, Float::Mxfp4) => vec![
            part(format!("{head}weight_packed"), Dtype::U8, &[rows, cols.div_ceil(2)]),
            part(format!("{head}weight_scale"), Dtype::U8, &[rows, groups(32)?]),
        ],
        (Format::MlxMxfp4, Float::Mxfp4) => vec![
            part(format!("{head}weight"), Dtype::U32, &[rows, cols.div_ceil(8)]),
            part(format!("{head}scales"), Dtype::U8, &[rows, groups(32)?]),
        ],
        (Format::Mxfp4, Float::Mxfp4) => vec![
            part(format!("{name}_blocks"), Dtype::U8, &[rows, groups(32)?, 16]),
            part(format!("{name}_scales"), Dtype::U8, &[rows, groups(32)?]),
        ],
        (Format::FloatQuantized | Format::Fp8, _) => {
            return Err(refuse("its codes are e4m3".to_owned(), Some("fp8_e4m3/row")));
        }
        (Format::Nvfp4Packed, _) => return Err(refuse("it holds one scheme".to_owned(), Some("nvfp4"))),
        (Format::Mxfp4Packed | Format::MlxMxfp4 | Format::Mxfp4, _) => {
            return Err(refuse("it holds one scheme".to_owned(), Some("mxfp4")));
        }
        _ => return Err(refuse("its codes are integers".to_owned(), Some(&integers(format)))),
    })
}

/// A scheme of integers that the format holds.
fn integers(format: Format) -> String {
    let bits = if format == Format::IntQuantized { niwaki_codes::Bits::MAX } else { four() };
    let grouping = match format {
        Format::IntQuantized => Grouping::Row,
        _ => niwaki_codes::GroupSize::new(64).map_or(Grouping::Row, Grouping::Group),
    };
    Scheme::Uniform(Uniform::new(bits, grouping, Symmetry::Symmetric)).to_string()
}

fn four() -> niwaki_codes::Bits {
    niwaki_codes::Bits::new(4).unwrap_or(niwaki_codes::Bits::MAX)
}
