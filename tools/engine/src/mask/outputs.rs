//! Masks that keep as much of every output: n of every m of its weights along the inputs, or a share of them.
//!
//! ```text
//! [outputs, inputs]    runs go along rows
//! [inputs, outputs]    runs go down columns: MatMul, and Gemm without transB
//! ```
//!
//! A mask file says nothing of it: its bits stand as the weights do.

use niwaki_codes::Mask;
use niwaki_codes::simd::Level;
use niwaki_model::{Graph, Tensor};
use niwaki_prune::{Budget, Error as Wrong, ErrorKind as Fault, Pattern, magnitude_mask, mask_of_count};

use super::Product;
use crate::error::{Error, ErrorKind};
use crate::jackpot::Keep;
use crate::matrix::transposed;

/// The mask of the transpose of a matrix.
pub(super) fn turned_mask(mask: &Mask) -> Result<Mask, Wrong> {
    let view = mask.view();
    Ok(Mask::from_fn(mask.cols(), mask.rows(), |row, col| view.keeps(col, row) == Some(true))?)
}

/// Refuses n of every m of stacks of matrices whose rows are inputs: their runs lie in no matrix of ours.
pub(crate) fn check_stacks(keep: Keep, graph: &Graph, products: &[Product]) -> Result<(), Error> {
    let rank = |product: &Product| graph.constant(product.weight).map_or(0, Tensor::rank);
    match products.iter().find(|product| product.turned && rank(product) != 2) {
        Some(product) if matches!(keep, Keep::NofM(_)) => Err(stacked(rank(product)).of(graph.name(product.weight))),
        _ => Ok(()),
    }
}

/// The error of n of every m of weights of so many dimensions whose rows are inputs.
pub(crate) fn stacked(rank: usize) -> Error {
    let what = format!("n of every m along the inputs of products with weights of {rank} dimensions");
    ErrorKind::Unsupported { what }.into()
}

/// The mask of the highest scores of each output of a matrix of `rows` by `cols`, whose rows are outputs, or inputs where it
/// is `turned`.
pub(crate) fn by_output(
    level: Level,
    keep: Keep,
    (rows, cols): (usize, usize),
    turned: bool,
    scores: &[f32],
) -> Result<Mask, Wrong> {
    if !turned {
        return by_rows(level, keep, (rows, cols), scores);
    }
    let mask = by_rows(level, keep, (cols, rows), &transposed(scores, cols));
    turned_mask(&mask.map_err(|e| in_place(e, (rows, cols)))?)
}

/// An error of the transpose of a matrix of `rows` by `cols` with the place that the matrix itself has.
fn in_place(error: Wrong, (rows, cols): (usize, usize)) -> Wrong {
    match *error.kind() {
        Fault::NotFinite { index, value } => {
            let (rows, cols) = (rows.max(1) as u64, cols as u64);
            Fault::NotFinite { index: index % rows * cols + index / rows, value }.into()
        }
        _ => error,
    }
}

/// The mask of the highest scores of each row: n of every m, or a share.
fn by_rows(level: Level, keep: Keep, (rows, cols): (usize, usize), scores: &[f32]) -> Result<Mask, Wrong> {
    match keep {
        Keep::NofM(run) => magnitude_mask(level, &Pattern::NofM(run), rows, cols, scores),
        Keep::Share(ratio, _) => {
            let count = Budget::Uniform.divide(level, ratio, &[(&[cols], scores.get(..cols).unwrap_or_default())])?;
            let count = count.counts.first().copied().unwrap_or(0);
            let row = |row: &[f32]| mask_of_count(level, count, 1, cols, row);
            let masks = scores.chunks(cols.max(1)).map(row).collect::<Result<Vec<_>, _>>()?;
            Ok(Mask::from_fn(rows, cols, |row, col| masks[row].view().keeps(0, col) == Some(true))?)
        }
    }
}

#[cfg(test)]
mod tests {
    use niwaki_prune::NofM;

    use super::*;

    #[test]
    fn runs_go_along_the_inputs_however_weights_stand() {
        // Six inputs of two outputs: the last run has two inputs.
        let by_input = [4.0f32, 1.0, -3.0, 2.0, 2.0, -3.0, 1.0, 4.0, 1.0, 9.0, 0.0, 0.0];
        let keep = Keep::NofM(NofM::new(2, 4).unwrap());
        let kept = |mask: &Mask| -> Vec<bool> {
            let (cols, view) = (mask.cols(), mask.view());
            (0..mask.rows() * cols).map(|at| view.keeps(at / cols, at % cols).unwrap()).collect()
        };
        let down = by_output(Level::best(), keep, (6, 2), true, &by_input).unwrap();
        let (no, yes) = (false, true);
        assert_eq!(kept(&down), [yes, no, yes, no, no, yes, no, yes, yes, yes, yes, yes]);
        let along = by_output(Level::best(), keep, (2, 6), false, &transposed(&by_input, 2)).unwrap();
        assert_eq!(kept(&turned_mask(&along).unwrap()), kept(&down));
        let mut wrong = by_input;
        wrong[7] = f32::NAN;
        let error = by_output(Level::best(), keep, (6, 2), true, &wrong).unwrap_err();
        assert!(matches!(error.kind(), Fault::NotFinite { index: 7, .. }), "{error}");
    }
}
