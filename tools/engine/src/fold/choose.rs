//! Chooses the scales of one place.
//!
//! ```text
//! awq          m_j the root of the mean square of input j       statistics, or an importance matrix of llama.cpp
//! smoothquant  r_j the larger end of input j, w_j of column j   statistics with ends, and all weights
//! ```
//!
//! Where `awq` searches its exponent, it is the multiple of 1/20 from 0 to 1 after which the outputs of the products are
//! nearest to what they were, with weights as the recipe encodes them; of equal ones the smallest. Of each matrix at most
//! 128 rows, evenly spread, stand for all. Errors of outputs are those of the Gram matrix where there is one, else inputs are
//! taken for independent. Fits that need Gram matrices are stood in for by `lsq`, and codes that are not evenly spaced by rows
//! or groups by the nearest that are.
//!
//! Whence: Lin et al. 2023, *AWQ*, section 3.2, equation 4; the grid is that of its released code, which ends at 19/20.

use niwaki_codes::{Grouping, Scheme, Uniform};
use niwaki_model::hf::Pair;
use niwaki_quant::Fit;
use niwaki_quant::fold::{Criterion, Steps, awq, smoothquant};
use rayon::prelude::*;

use crate::blocks::BLOCK;
use crate::destination::even_codes;
use crate::encode::not_finite;
use crate::error::{Error, ErrorKind};
use crate::recipe::FoldRule;
use crate::search::Measure;
use crate::source::SourceTensor;
use crate::stats::{Layer, Stats};
use crate::weigh::rounded;

/// Steps from the least exponent that is tried to the greatest.
const STEPS: u32 = 20;

/// Rows of a matrix that its errors are measured on, at most.
const ROWS: usize = 128;

/// Rows that a thread rounds at a time.
const TOGETHER: usize = 8;

/// A product, and how its weights are encoded.
#[derive(Clone, Copy)]
pub(super) struct Taker<'t, 's> {
    pub(super) tensor: &'t SourceTensor<'s>,
    pub(super) encoding: Option<(Scheme, Fit)>,
}

/// What is chosen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chosen {
    pub(super) alpha: f64,
    /// By channel of the makers, what columns are multiplied by.
    pub(super) scales: Vec<f32>,
    /// What codes lose of the outputs, as a share, before and after, where that was looked at.
    pub(super) noise: Option<[f64; 2]>,
}

/// The scales of a place; none where nothing tells an exponent that is to be searched.
///
/// # Errors
///
/// No statistics of any of the products, or none of what the criterion needs; weights that are not finite.
pub(super) fn choose(
    pair: &Pair,
    rule: &FoldRule,
    takers: &[Taker<'_, '_>],
    stats: &Stats,
) -> Result<Option<Chosen>, Error> {
    let linear = |taker: &Taker<'_, '_>| stats.layer(taker.tensor.name()).filter(Layer::is_linear);
    let Some(layer) = takers.iter().find_map(linear) else {
        let what = "no statistics of its inputs, which `[[fold]]` divides".to_owned();
        let error = Error::from(ErrorKind::Usage { what }).of(takers.first().map_or("", |taker| taker.tensor.name()));
        return Err(error.at(stats.path()).hinting("`calibrate` on the whole model makes them"));
    };
    let of = |magnitudes: &[f64], alpha| awq(magnitudes, alpha, rule.steps);
    let fixed = |alpha, scales| Ok(Some(Chosen { alpha, scales, noise: None }));
    match (rule.criterion, rule.alpha) {
        (Criterion::Awq, Some(alpha)) => fixed(alpha, of(&sizes(pair, &layer)?, alpha)),
        (Criterion::Awq, None) => search(pair, (&sizes(pair, &layer)?, rule.steps), takers, &layer),
        (Criterion::SmoothQuant, alpha) => {
            let (alpha, inputs) = (alpha.unwrap_or(0.5), reach(pair, &layer)?);
            fixed(alpha, smoothquant(&inputs, &weights(pair, takers)?, alpha, rule.steps))
        }
    }
}

/// By channel, the root of the mean square of the inputs.
fn sizes(pair: &Pair, layer: &Layer<'_>) -> Result<Vec<f64>, Error> {
    let mut sums = vec![0.0; pair.channels];
    for (column, square) in layer.mean_squares()?.concat().into_iter().enumerate() {
        sums[pair.channel(column)] += square;
    }
    Ok(sums.into_iter().map(|sum| (sum / pair.shared as f64).sqrt()).collect())
}

/// By channel, the largest magnitude of the inputs.
fn reach(pair: &Pair, layer: &Layer<'_>) -> Result<Vec<f64>, Error> {
    let (low, high) = layer.range()?;
    let ends = low.iter().zip(&high).map(|(low, high)| low.abs().max(high.abs()));
    Ok(by_channel(pair, ends))
}

/// By channel, the largest of the columns' numbers.
fn by_channel(pair: &Pair, columns: impl Iterator<Item = f32>) -> Vec<f64> {
    let mut most = vec![0.0f64; pair.channels];
    for (column, x) in columns.enumerate() {
        let most = &mut most[pair.channel(column)];
        *most = most.max(f64::from(x));
    }
    most
}

/// By channel, the largest magnitude of the weights that meet it.
fn weights(pair: &Pair, takers: &[Taker<'_, '_>]) -> Result<Vec<f64>, Error> {
    let columns = pair.columns();
    let mut most = vec![0.0f32; columns];
    for Taker { tensor, .. } in takers {
        let elements = tensor.shape().elements();
        let each = (BLOCK / columns.max(1)).max(1) * columns.max(1);
        let piece = |nth: usize| -> Result<Vec<f32>, Error> {
            let mut all = vec![0.0; each.min(elements - nth * each)];
            tensor.decode(nth * each..nth * each + all.len(), &mut all)?;
            if let Some(at) = all.iter().position(|x| !x.is_finite()) {
                return Err(not_finite(nth * each + at, tensor.name()));
            }
            let mut most = vec![0.0; columns];
            all.chunks(columns.max(1)).for_each(|row| raise(&mut most, row));
            Ok(most)
        };
        let larger = |mut one: Vec<f32>, other: Vec<f32>| {
            raise(&mut one, &other);
            Ok(one)
        };
        let pieces = (0..elements.div_ceil(each)).into_par_iter().map(piece);
        raise(&mut most, &pieces.try_reduce(|| vec![0.0; columns], larger)?);
    }
    Ok(by_channel(pair, most.into_iter()))
}

/// Raises numbers to the magnitudes of others.
fn raise(most: &mut [f32], to: &[f32]) {
    most.iter_mut().zip(to).for_each(|(most, x)| *most = most.max(x.abs()));
}

/// Some rows of a matrix, to be encoded.
struct Sample {
    weights: Vec<f32>,
    columns: usize,
    codes: (Uniform, Fit),
    /// Rows of the matrix for each of these.
    each: f64,
}

impl Sample {
    fn new(taker: &Taker<'_, '_>) -> Result<Option<Self>, Error> {
        let Some((scheme, fit)) = taker.encoding else { return Ok(None) };
        let (rows, columns) = taker.tensor.matrix();
        let count = rows.min(ROWS);
        let mut weights = vec![0.0; count * columns];
        for (nth, row) in weights.chunks_mut(columns.max(1)).enumerate() {
            let from = nth * rows / count.max(1) * columns;
            taker.tensor.decode(from..from + columns, row)?;
            if let Some(at) = row.iter().position(|x| !x.is_finite()) {
                return Err(not_finite(from + at, taker.tensor.name()));
            }
        }
        let mut uniform = even_codes(scheme, taker.tensor.width());
        if uniform.grouping == Grouping::Tensor {
            uniform.grouping = Grouping::Row;
        }
        let fit = if fit.needs_inputs() { Fit::Lsq } else { fit };
        Ok(Some(Self { weights, columns, codes: (uniform, fit), each: rows as f64 / count.max(1) as f64 }))
    }

    /// The mean square of the outputs.
    fn signal(&self, measure: &Measure) -> f64 {
        self.each * measure.of_rows(&self.weights)
    }

    /// The mean square of what codes of scaled columns lose of the outputs.
    fn noise(&self, scales: &[f32], measure: &Measure) -> Result<f64, Error> {
        let some = (TOGETHER * self.columns).max(1);
        let missed = |weights: &[f32]| -> Result<Vec<f32>, Error> {
            let by = || scales.iter().cycle();
            let scaled: Vec<f32> = weights.iter().zip(by()).map(|(w, by)| w * by).collect();
            let (scheme, fit) = &self.codes;
            let decoded = rounded(None, (scheme, *fit), &scaled, (weights.len() / self.columns.max(1), self.columns))?;
            Ok(weights.iter().zip(decoded).zip(by()).map(|((w, x), by)| w - x / by).collect())
        };
        let all = self.weights.par_chunks(some).map(missed).collect::<Result<Vec<_>, _>>()?;
        Ok(self.each * measure.of_rows(&all.concat()))
    }
}

/// The exponent after which codes lose least of the outputs.
fn search(
    pair: &Pair,
    (magnitudes, steps): (&[f64], Steps),
    takers: &[Taker<'_, '_>],
    layer: &Layer<'_>,
) -> Result<Option<Chosen>, Error> {
    let samples = takers.iter().map(Sample::new).collect::<Result<Vec<_>, _>>()?;
    let samples: Vec<Sample> = samples.into_iter().flatten().collect();
    if samples.is_empty() {
        return Ok(None);
    }
    let measure = Measure::of(layer)?;
    let signal: f64 = samples.iter().map(|sample| sample.signal(&measure)).sum();
    let mut tried: Vec<(Chosen, f64)> = Vec::new();
    for step in 0..=STEPS {
        let alpha = f64::from(step) / f64::from(STEPS);
        let scales = awq(magnitudes, alpha, steps);
        if tried.last().is_some_and(|(last, _)| last.scales == scales) {
            continue;
        }
        let columns: Vec<f32> = (0..pair.columns()).map(|column| scales[pair.channel(column)]).collect();
        let noise = samples.iter().map(|sample| sample.noise(&columns, &measure)).sum::<Result<f64, _>>();
        // Scales may take weights beyond what codes hold, where those themselves were not.
        let noise = if step > 0 { noise.unwrap_or(f64::INFINITY) } else { noise? };
        tried.push((Chosen { alpha, scales, noise: None }, noise));
    }
    let before = tried.first().map_or(0.0, |(_, noise)| *noise);
    let share = |noise: f64| if signal > 0.0 { noise / signal } else { 0.0 };
    let least = tried.into_iter().reduce(|best, next| if next.1 < best.1 { next } else { best });
    Ok(least.map(|(chosen, after)| Chosen { noise: Some([share(before), share(after)]), ..chosen }))
}
