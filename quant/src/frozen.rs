//! Codes that move on grids that stay, and grids that are scaled under codes that stay.
//!
//! What changes the weights of a tensor that is stored as codes may leave its scales, zero
//! points and bases as they are, so that codes alone change: [`recode_rows`] and its siblings
//! write for each weight the code whose value, as `niwaki_codes` decodes it, is nearest to a
//! target.
//!
//! - Of several at the same distance the present code stays, else the smallest one is taken
//!   (of `q8_0` as the signed number that it is). So what rows decode to, as target, leaves
//!   every byte as it is.
//! - Distances are compared exactly, and codes that stand for an infinity or NaN are never
//!   taken. Where no code stands for a number, all stay.
//! - Bytes without a changed code are not written.
//!
//! ```
//! use niwaki_codes::{Scheme, UniformView, simd::Level};
//! use niwaki_quant::frozen::{UniformCodes, recode_rows};
//!
//! let Scheme::Uniform(scheme) = "int4/row/sym".parse()? else { unreachable!() };
//! let (mut codes, scales) = ([0x91, 0x0F], 0.5f32.to_le_bytes());
//! let out = UniformCodes { codes: &mut codes, scales: &scales, zeros: &[] };
//! let moved = recode_rows(Level::best(), &scheme, 3, out, &[-3.4, 0.75, 1.3])?;
//! assert_eq!(moved, 1);
//!
//! let mut row = [0.0; 3];
//! UniformView::new(scheme, 1, 3, &codes, &scales, None)?.dequantize_rows(Level::best(), 0..1, &mut row)?;
//! assert_eq!(row, [-3.5, 0.5, 1.5]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`rescale_rows`] and its siblings multiply what rows decode to by a factor a row: scales
//! are multiplied, each rounded once to its type. They change all that they are asked to or
//! nothing: with an error, and where they return `false` because scales cannot say it (rows
//! share one, or the sign would have to be in the codes), every byte is as it was.

mod blocks;
mod elastic;
mod floats;
mod line;
mod ranked;
mod rescale;
mod stream;
mod uniform;

use niwaki_codes::simd::Level;

use crate::error::exactly;
use crate::grid::all_finite;
use crate::{Error, ErrorKind};

pub use blocks::recode_block_rows;
pub use elastic::{ElasticCodes, recode_elastic_rows};
pub use floats::{FloatCodes, recode_float_rows};
pub use rescale::{
    rescale_block_rows, rescale_elastic_kept, rescale_elastic_rows, rescale_float_rows, rescale_kept, rescale_rows,
};
pub use uniform::{UniformCodes, recode_kept, recode_rows};

/// How many rows of `cols` weights the targets are: whole ones, and finite numbers.
fn whole_rows(level: Level, cols: usize, targets: &[f32]) -> Result<usize, Error> {
    let rows = targets.len().checked_div(cols).unwrap_or(0);
    exactly("targets", rows * cols, targets.len())?;
    finite(level, targets)?;
    Ok(rows)
}

fn finite(level: Level, targets: &[f32]) -> Result<(), Error> {
    if all_finite(level, targets) {
        return Ok(());
    }
    let index = targets.iter().position(|x| !x.is_finite()).unwrap_or(0);
    Err(ErrorKind::NotFinite { index }.into())
}

#[cfg(all(test, feature = "std"))]
mod tests;
