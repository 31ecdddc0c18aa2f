//! Grids to begin with: those whose error to the power 2.4 is least, on the weights and on what flows into the layers.

use std::collections::BTreeMap;

use niwaki_codes::{Bits, Widths, simd::Level};
use niwaki_model::{Graph, Tape, Tensor, ValueId};
use niwaki_quant::fake_quant::{Learned, Span, fit};
use rayon::prelude::*;

use super::quantizer::{Choice, SET};
use super::sites::Site;
use super::{Elastic, Grid};
use crate::error::{Error, ErrorKind};
use crate::matrix::transposed;
use crate::model::Model;
use crate::train::{Lessons, Sample, Settings};

/// Values of an input that grids are fitted to, spread over all examples; its ends are those of all values.
const SEEN: usize = 1 << 14;

/// An input whose least value is at least that has codes without a sign.
const NO_SIGN: f32 = -1e-9;

/// The tables of a layer.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    /// That of its weights; none where their grids are nested.
    pub(super) weights: Option<Tensor>,
    /// That of its input, and whether its codes have a sign.
    pub(super) input: Option<(Tensor, bool)>,
    /// Elements of the input, of one example.
    pub(super) inputs: u64,
}

impl Tables {
    /// The same ones, with 0 on all affine grids.
    pub(super) fn with_whole_zeros(&self) -> Self {
        let input = self.input.as_ref().map(|(table, signed)| (whole_zeros(table, *signed), *signed));
        Self { weights: self.weights.as_ref().map(|table| whole_zeros(table, true)), input, ..self.clone() }
    }
}

/// A table whose offsets are whole steps.
fn whole_zeros(table: &Tensor, signed: bool) -> Tensor {
    let mut all = table.get::<f32>().unwrap_or_default().to_vec();
    for set in 0..all.len() / SET {
        for bits in Bits::all() {
            let (step, offset) = Choice { bits, row: false, affine: true }.places(set);
            let Some(offset) = offset else { continue };
            all[offset] = Learned::new(bits, signed, all[step], all[offset]).with_zero().0.offset();
        }
    }
    Tensor::of(table.shape(), all).unwrap_or_else(|| table.clone())
}

/// What flowed into a layer.
struct Flow {
    span: Span,
    some: Vec<f32>,
    elements: u64,
}

/// The grids of these widths for values of which each set has its own: `[sets, 3, 7]`; those of others are 0.
fn table(sets: &[(Span, &[f32])], widths: Widths, signed: bool) -> Vec<f32> {
    let mut all = vec![0.0; sets.len() * SET];
    let level = Level::best();
    all.par_chunks_mut(SET).zip(sets).for_each(|(out, (span, x))| {
        for (bits, affine) in widths.iter().flat_map(|bits| [(bits, false), (bits, true)]) {
            let grid = fit(level, (bits, signed, affine), *span, x);
            let (step, offset) = Choice { bits, row: false, affine }.places(0);
            out[step] = grid.step();
            offset.into_iter().for_each(|at| out[at] = grid.offset());
        }
    });
    all
}

/// The table of a weight: for all of it, then for each of its rows.
fn of_weights(weights: &[f32], site: &Site, widths: Widths) -> Option<Tensor> {
    let (rows, len) = (site.rows, weights.len());
    let by_row: Vec<f32> = match site.turned {
        false => weights.to_vec(),
        true => transposed(weights, rows),
    };
    let each = by_row.chunks(len / rows).map(|row| (Span::of(row), row));
    let sets: Vec<(Span, &[f32])> = std::iter::once((Span::of(weights), weights)).chain(each).collect();
    Tensor::of([1 + rows, 3, SET / 3], table(&sets, widths, true))
}

/// The tables of all layers.
///
/// # Errors
///
/// Weights, and values that flow into layers, that are no numbers; those of running.
pub(super) fn fitted(
    model: &Model,
    graph: &Graph,
    sites: &[Site],
    settings: &Settings,
    (how, data): (&Elastic, &Lessons),
) -> Result<Vec<Tables>, Error> {
    let flows = flows(model, graph, sites, settings, (how, data))?;
    let widths = how.served();
    let tables = |site: &Site| {
        let unlike =
            |what: &str| Error::from(ErrorKind::Unlike { what: what.to_owned() }).of(&site.name).at(model.path());
        let weights = graph.constant(site.weight).and_then(Tensor::get::<f32>).unwrap_or_default();
        if let Some(at) = weights.iter().position(|w| !w.is_finite()) {
            return Err(unlike(&format!("weight {at} is no finite number")));
        }
        let of_weights = match how.grid {
            Grid::Learned => Some(of_weights(weights, site, widths).ok_or_else(|| unlike("a weight of no rows"))?),
            Grid::Nested(_) => None,
        };
        let flow = flows.get(&site.input).ok_or_else(|| unlike("what flows into its layer are no floats"))?;
        if !(flow.span.low.is_finite() && flow.span.high.is_finite()) {
            return Err(unlike("what flows into its layer is not always a finite number"));
        }
        let signed = flow.span.low < NO_SIGN;
        let input =
            how.activations.then(|| Tensor::of([1, 3, SET / 3], table(&[(flow.span, &flow.some)], widths, signed)));
        let input = input.flatten().map(|table| (table, signed));
        Ok(Tables { weights: of_weights, input, inputs: flow.elements })
    };
    sites.iter().map(tables).collect()
}

/// Examples that a tensor is of.
fn count(tensor: &Tensor) -> usize {
    tensor.shape().first().copied().unwrap_or(1).max(1)
}

/// What flows into layers, before anything is quantized.
fn flows(
    model: &Model,
    graph: &Graph,
    sites: &[Site],
    settings: &Settings,
    (how, data): (&Elastic, &Lessons),
) -> Result<BTreeMap<ValueId, Flow>, Error> {
    let tape = Tape::new(graph.clone(), Vec::new()).map_err(|e| e.at(model.path()))?;
    let plain = Settings { augment: Default::default(), ..settings.clone() };
    let sample = Sample { model, settings: &plain, data, examples: how.examples };
    let examples = how.examples.clamp(1, data.len());
    let mut flows: BTreeMap<ValueId, Flow> = BTreeMap::new();
    sample.each(&|_, _| {}, |share, _| {
        let quota = (SEEN * share.inputs.first().map_or(1, count) / examples).max(1);
        let mut look = |value: ValueId, tensor: &Tensor| {
            let Some(all) = tensor.get::<f32>().filter(|_| sites.iter().any(|site| site.input == value)) else {
                return;
            };
            let (span, each) = (Span::of(all), all.len() / share.inputs.first().map_or(1, count));
            let nothing = || Flow { span, some: Vec::new(), elements: each as u64 };
            let flow = flows.entry(value).or_insert_with(nothing);
            flow.span = Span { low: flow.span.low.min(span.low), high: flow.span.high.max(span.high) };
            // An odd stride does not fall in step with the rows of images.
            flow.some.extend(all.iter().step_by((all.len() / quota) | 1));
            if all.iter().any(|x| x.is_nan()) {
                flow.span.low = f32::NAN;
            }
        };
        tape.forward(share.inputs.clone(), Some(&mut look)).map(drop).map_err(|e| e.at(model.path()).into())
    })?;
    Ok(flows)
}
