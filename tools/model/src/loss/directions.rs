//! How far vectors of texts are from those that they should be.

use rayon::prelude::*;

use super::Loss;
use crate::fault::{Fault, dims};
use crate::real::{Real, in_reals};
use crate::tensor::Tensor;

/// One less the cosine between the mean of a text's vectors and the direction that it should have, the mean over texts:
/// of `hidden` `[texts, longest, width]`, of which each text has its first `lengths`, and `aims` `[texts, width]` of any
/// lengths but 0. `right` counts the texts to whose vector no other text's aim is nearer than their own.
///
/// # Errors
///
/// Shapes that do not fit each other, texts without vectors, and elements that are no floats.
pub fn directions(hidden: &Tensor, lengths: &[usize], aims: &Tensor) -> Result<Loss, Fault> {
    in_reals!(hidden.dtype(), T => of_texts::<T>(hidden, lengths, aims))
}

/// A vector of length 1, and the length that it had.
fn unit(vector: &[f64]) -> (Vec<f64>, f64) {
    // As where texts are embedded: of a vector of nothing nothing is left.
    let length = dot(vector, vector).sqrt().max(1e-12);
    (vector.iter().map(|x| x / length).collect(), length)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn of_texts<T: Real>(hidden: &Tensor, lengths: &[usize], aims: &Tensor) -> Result<Loss, Fault> {
    let texts = lengths.len();
    let (&[found, longest, width], Some(all)) = (hidden.shape(), hidden.get::<T>()) else {
        return Err(Fault::dtype(0, hidden, "vectors of tokens of texts, floats"));
    };
    let theirs = T::widened(aims.data()).filter(|_| aims.shape() == [texts, width]);
    let (Some(theirs), true) = (theirs, found == texts && width > 0) else {
        let both = format!("vectors {} and aims {}", dims(hidden.shape()), dims(aims.shape()));
        return Err(Fault::shape(both, format!("both for {texts} texts")));
    };
    if let Some(length) = lengths.iter().find(|length| !(1..=longest).contains(*length)) {
        return Err(Fault::shape(format!("a text of {length} tokens"), format!("1 to {longest}")));
    }
    let aims: Vec<Vec<f64>> =
        theirs.chunks(width).map(|row| unit(&row.iter().map(|x| x.wide()).collect::<Vec<_>>()).0).collect();
    let mut gradient = vec![T::ZERO; all.len()];
    let each = all.par_chunks(longest * width).zip(gradient.par_chunks_mut(longest * width)).enumerate();
    let rows: Vec<(f64, bool)> = each
        .map(|(at, (tokens, slopes))| {
            let mut sum = vec![0.0; width];
            for token in tokens.chunks(width).take(lengths[at]) {
                sum.iter_mut().zip(token).for_each(|(sum, x)| *sum += x.wide());
            }
            let (ours, length) = unit(&sum);
            let cosine = dot(&ours, &aims[at]);
            let slope: Vec<T> = ours
                .iter()
                .zip(&aims[at])
                .map(|(ours, aim)| T::near((cosine * ours - aim) / (length * texts as f64)))
                .collect();
            slopes.chunks_mut(width).take(lengths[at]).for_each(|row| row.copy_from_slice(&slope));
            (1.0 - cosine, aims.iter().all(|other| dot(&ours, other) <= cosine))
        })
        .collect();
    let (sum, right) = rows.iter().fold((0.0, 0), |(sum, all), (loss, right)| (sum + loss, all + usize::from(*right)));
    let gradient = Tensor::of(hidden.shape(), gradient);
    let gradient = gradient.ok_or_else(|| Fault::shape("a gradient of another size", dims(hidden.shape())))?;
    Ok(Loss { mean: sum / texts.max(1) as f64, gradient, count: texts, right })
}
