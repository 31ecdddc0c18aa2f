//! How large what a weight is multiplied with is.

use std::collections::BTreeMap;

use niwaki_model::{Tape, Tensor, ValueId};
use niwaki_quant::observe::SecondMoments;

use super::{Product, matrix};
use crate::error::{Error, ErrorKind};
use crate::model::Model;
use crate::progress::Progress;
use crate::train::Sample;

/// For each weight the norm of the input that it is multiplied with, over the examples that were asked for. A weight of a
/// kernel has that of its channel.
pub(super) fn norms(
    sample: &Sample<'_>,
    tape: &Tape,
    products: &[Product],
    progress: Progress<'_>,
) -> Result<Vec<Vec<f32>>, Error> {
    let model = sample.model;
    // Layers that share an input see it once, but kernels see planes and others rows.
    let wanted: BTreeMap<(ValueId, bool), usize> =
        products.iter().map(|product| ((product.input, product.kernel), inputs_of(tape, product))).collect();
    let mut seen: BTreeMap<(ValueId, bool), SecondMoments> = BTreeMap::new();
    sample.each(progress, |share, _| {
        let mut look = |value: ValueId, tensor: &Tensor| {
            let Some(all) = tensor.get::<f32>() else { return };
            for ((_, kernel), inputs) in wanted.range((value, false)..=(value, true)) {
                let channels = tensor.shape().get(1).copied().unwrap_or(0);
                let inputs = if *kernel { channels } else { *inputs };
                let moments = seen.entry((value, *kernel)).or_insert_with(|| SecondMoments::new(inputs));
                match kernel {
                    true => moments.planes(all, tensor.shape().iter().skip(2).product()),
                    false => moments.rows(all),
                }
            }
        };
        tape.forward(share.inputs, Some(&mut look)).map(drop).map_err(|e| e.at(model.path()).into())
    })?;
    products.iter().map(|product| spread(model, tape, product, seen.get(&(product.input, product.kernel)))).collect()
}

/// How many inputs a linear layer has.
fn inputs_of(tape: &Tape, product: &Product) -> usize {
    let shape = tape.graph().constant(product.weight).map(Tensor::shape).unwrap_or_default();
    let (rows, cols) = matrix(shape);
    if product.turned { rows } else { cols }
}

/// The norms of inputs, one for each weight.
fn spread(model: &Model, tape: &Tape, product: &Product, seen: Option<&SecondMoments>) -> Result<Vec<f32>, Error> {
    let name = tape.graph().name(product.weight);
    let unlike = |what: &str| Error::from(ErrorKind::Unlike { what: what.to_owned() }).of(name).at(model.path());
    let norms = seen.ok_or_else(|| unlike("what it is multiplied with are no floats"))?.norms();
    let shape = tape.graph().constant(product.weight).map(Tensor::shape).unwrap_or_default();
    let ((rows, cols), channels) = (matrix(shape), shape.get(1).copied().unwrap_or(1).max(1));
    // Kernels of several groups see a part of the channels each.
    let groups = (norms.len() / channels).max(1);
    let taps = (cols / channels).max(1);
    let input = |row: usize, col: usize| match (product.kernel, product.turned) {
        (true, _) => row * groups / rows.max(1) * channels + col / taps,
        (false, true) => row,
        (false, false) => col,
    };
    let all = (0..rows * cols).map(|at| norms.get(input(at / cols, at % cols)).map(|norm| *norm as f32));
    let all: Option<Vec<f32>> = all.collect();
    all.filter(|all| all.iter().all(|norm| norm.is_finite()))
        .ok_or_else(|| unlike("what it is multiplied with has another number of inputs, or no finite norm"))
}
