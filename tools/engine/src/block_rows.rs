//! Whether a tensor can be stored as blocks, and what holds it where it cannot.

use niwaki_codes::floats::Float;
use niwaki_codes::{Bits, BlockType, GroupSize, Grouping, Scheme, Symmetry, Uniform};
use niwaki_quant::Fit;

use crate::error::{Error, ErrorKind};
use crate::recipe::mix::fallback;

/// Refuses rows that blocks do not fill, masks, and fits.
///
/// Where the output holds `blocks_only`, no other scheme is suggested.
pub(crate) fn check(kind: BlockType, row: usize, fit: Fit, masked: bool, blocks_only: bool) -> Result<(), Error> {
    if masked {
        let error = Error::from(ErrorKind::Block { kind, what: "mask".to_owned() });
        return Err(error.hinting(format!("they hold every weight; `{}` can be masked", Scheme::Uniform(even(kind)))));
    }
    if fit != Fit::MinMax {
        let error = Error::from(ErrorKind::Block { kind, what: format!("fit `{fit}`") });
        return Err(error.hinting("they are fitted in one way, that of their type; leave `fit` out"));
    }
    if !row.is_multiple_of(kind.elements()) {
        let error = Error::from(ErrorKind::BlockRow { kind, row });
        let near = nearest(kind, row);
        return Err(match blocks_only && !matches!(near, Scheme::Block(_)) {
            true => error.hinting("no blocks do; `--keep` carries such tensors as they are"),
            false => error.hinting(format!("the nearest scheme that holds it is `{near}`")),
        });
    }
    Ok(())
}

/// Refuses masks, and fits, for small floats.
pub(crate) fn check_float(float: Float, fit: Fit, masked: bool) -> Result<(), Error> {
    let refuse = |what: String, hint: &str| {
        let error = Error::from(ErrorKind::Held { format: "a container", scheme: format!("{float} {what}") });
        Err(error.hinting(hint))
    };
    match (masked, fit) {
        (true, _) => refuse("with a mask".to_owned(), "`int8/row/sym` can be masked"),
        (_, Fit::MinMax) => Ok(()),
        (_, fit) => refuse(format!("with fit `{fit}`"), "its scale is that of the largest weight; leave `fit` out"),
    }
}

/// The scheme for rows that `kind` does not fill: the type that llama.cpp falls back to,
/// or even codes of about its width.
fn nearest(kind: BlockType, row: usize) -> Scheme {
    let smaller = fallback(kind).unwrap_or(kind);
    if row.is_multiple_of(smaller.elements()) { Scheme::Block(smaller) } else { Scheme::Uniform(even(kind)) }
}

/// Even codes of the same width and about as many scales, whose last group may be short. Those
/// of Q4_0, Q5_0 and Q8_0 mean the same numbers.
pub(crate) fn even(kind: BlockType) -> Uniform {
    let (bits, group, symmetry) = match kind {
        BlockType::Q2K => (2, 16, Symmetry::Affine),
        BlockType::Q3K => (3, 16, Symmetry::Symmetric),
        BlockType::Q4_0 | BlockType::Iq4Nl | BlockType::Iq4Xs | BlockType::Mxfp4 => (4, 32, Symmetry::Symmetric),
        BlockType::Q4_1 | BlockType::Q4K => (4, 32, Symmetry::Affine),
        BlockType::Q5_0 => (5, 32, Symmetry::Symmetric),
        BlockType::Q5_1 | BlockType::Q5K => (5, 32, Symmetry::Affine),
        BlockType::Q6K => (6, 16, Symmetry::Symmetric),
        BlockType::Q8_0 => (8, 32, Symmetry::Symmetric),
    };
    let grouping = GroupSize::new(group).map_or(Grouping::Row, Grouping::Group);
    Uniform::new(Bits::new(bits).unwrap_or(Bits::MAX), grouping, symmetry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: BlockType, row: usize, fit: Fit, masked: bool) -> (String, String) {
        let error = check(kind, row, fit, masked, false).unwrap_err();
        (error.to_string(), error.hint().unwrap_or_default().to_owned())
    }

    #[test]
    fn rows_that_blocks_fill_are_taken() {
        for kind in BlockType::ALL {
            assert!(check(kind, 3 * kind.elements(), Fit::MinMax, false, false).is_ok(), "{kind}");
        }
    }

    #[test]
    fn rows_that_blocks_do_not_fill_are_refused_with_the_nearest_scheme() {
        let (what, hint) = refused(BlockType::Q8_0, 45, Fit::MinMax, false);
        assert_eq!(what, "q8_0 blocks of 32 do not fill the row of 45 weights");
        assert_eq!(hint, "the nearest scheme that holds it is `int8/g32/sym`");
        let error = check(BlockType::Q8_0, 45, Fit::MinMax, false, true).unwrap_err();
        assert_eq!(error.hint(), Some("no blocks do; `--keep` carries such tensors as they are"));
        assert_eq!(nearest(BlockType::Q4K, 288).to_string(), "q5_0");
        assert_eq!(nearest(BlockType::Q4K, 289).to_string(), "int4/g32/affine");
    }

    #[test]
    fn every_scheme_that_is_suggested_exists_and_holds_the_row() {
        for kind in BlockType::ALL {
            for row in [1, 32, 288] {
                match nearest(kind, row).to_string().parse() {
                    Ok(Scheme::Block(other)) => assert!(other.row_bytes(row).is_ok(), "{kind} {row}"),
                    Ok(Scheme::Uniform(_)) => (),
                    other => panic!("{kind} {row}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn masks_and_fits_are_refused() {
        let (what, hint) = refused(BlockType::Q4_0, 64, Fit::MinMax, true);
        assert_eq!(what, "q4_0 blocks have no mask");
        assert_eq!(hint, "they hold every weight; `int4/g32/sym` can be masked");
        let (what, hint) = refused(BlockType::Q5_1, 64, Fit::Lsq, false);
        assert_eq!(what, "q5_1 blocks have no fit `lsq`");
        assert_eq!(hint, "they are fitted in one way, that of their type; leave `fit` out");
    }
}
