//! Convolutions and linear layers in 8 bits, on ranges that statistics know.
//!
//! Weights have a step for each row, `largest / 127`, and zero point 0. An input has one grid of 256 codes from the least
//! to the greatest value that was seen, 0 among them, with a whole zero point; or from and to where a histogram of the values
//! says that it loses less ([`Range`]). Biases may make up for what rounding weights moves outputs by on average.

use std::path::Path;

use niwaki_codes::Bits;
use niwaki_model::Tensor;
use niwaki_onnx::Limits;
use niwaki_quant::fake_quant::Learned;
use niwaki_quant::observe::{mse, percentile};
use niwaki_tensors::Overwrite;
use serde::Serialize;

use super::{Input, Layer, bias, file, quantize};
use crate::error::{Error, ErrorKind};
use crate::mask::{Product, matrix};
use crate::matrix::by_row;
use crate::model::Model;
use crate::source::Source;
use crate::stats::Stats;

/// Steps of a grid of 256 codes.
const STEPS: u32 = 255;

/// How far the grid of a layer's inputs reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Range {
    /// To the least and the greatest value that was seen.
    #[default]
    MinMax,
    /// To where this share of all values lies between its ends.
    Share(f64),
    /// To where the mean square of what rounding and cutting lose is least.
    Mse,
}

/// How layers get 8 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Eight {
    /// How far inputs reach.
    pub range: Range,
    /// Whether biases make up for what rounding the weights moves outputs by.
    pub correct: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fixed {
    /// The weights of layers in 8 bits.
    pub layers: Vec<String>,
    /// The weights of layers of whose inputs nothing is known, which stay as they are.
    pub unknown: Vec<String>,
}

/// Writes a model as ONNX whose convolutions and linear layers have weights and inputs in 8 bits.
///
/// # Errors
///
/// Statistics of another checkpoint; a model that is no ONNX file, or one of an opset before 13; weights that are no
/// numbers; statistics without histograms, where these are looked at; those of writing.
pub fn fixed(
    model: &Model,
    source: &Source<'_>,
    (stats, how): (&Stats, Eight),
    (out, overwrite): (&Path, Overwrite),
) -> Result<Fixed, Error> {
    stats.check(source)?;
    let mut file = file(model)?;
    let unlike = |what: &str| Error::from(ErrorKind::Unlike { what: what.to_owned() }).at(model.path());
    let graph = file.proto.graph.as_mut().ok_or_else(|| unlike("a file without a graph"))?;
    let plain = how.correct.then(|| niwaki_onnx::Model::open(model.path(), &Limits::default())).transpose()?;
    let mut fixed = Fixed { layers: Vec::new(), unknown: Vec::new() };
    for product in model.graph().nodes().iter().filter_map(Product::of) {
        let name = model.graph().name(product.weight);
        let Some(weights) = model.graph().constant(product.weight) else { continue };
        let named = |e: Error| e.of(name).at(model.path());
        // A weight that several layers take has been replaced with the first of them.
        if fixed.layers.iter().any(|layer| layer == name) {
            return Err(named(
                ErrorKind::Unsupported { what: "a weight of several layers in 8 bits".to_owned() }.into(),
            ));
        }
        let known = stats.layer(name).filter(|_| weights.get::<f32>().is_some());
        let Some(known) = known else {
            fixed.unknown.push(name.to_owned());
            continue;
        };
        let grids = grids(weights, product.turned).map_err(named)?;
        let input = input(reach(known, how.range).map_err(named)?);
        let layer = Layer { weight: name, turned: product.turned };
        quantize(graph, layer, Some((&grids, weights)), Some(input)).map_err(named)?;
        if let Some(plain) = &plain {
            let means = known.spread_means().map_err(named)?.ok_or_else(|| named(no_histogram()))?;
            let more = bias::corrections(weights, layer, &grids, &means);
            bias::add(graph, plain, (name, &format!("{name}.dequantized")), &more);
        }
        fixed.layers.push(name.to_owned());
    }
    file.save(out, overwrite)?;
    Ok(fixed)
}

/// For each row of weights the grid whose outermost code is the largest of them.
fn grids(weights: &Tensor, turned: bool) -> Result<Vec<Learned>, Error> {
    let all = weights.get::<f32>().unwrap_or_default();
    if let Some(index) = all.iter().position(|w| !w.is_finite()) {
        return Err(ErrorKind::NotFinite { index }.into());
    }
    let (rows, cols) = matrix(weights.shape());
    let by_row = by_row(all, cols, turned);
    let each = if turned { rows } else { cols };
    let largest = |row: &[f32]| row.iter().fold(0f32, |most, w| most.max(w.abs()));
    let step = |largest: f32| if largest > 0.0 { largest / 127.0 } else { 1.0 };
    Ok(by_row.chunks(each.max(1)).map(|row| Learned::new(Bits::MAX, true, step(largest(row)), 0.0)).collect())
}

fn no_histogram() -> Error {
    let error = Error::from(ErrorKind::Unlike { what: "no histogram of its inputs".to_owned() });
    error.hinting("`calibrate --histogram` keeps them")
}

/// How far the grid of a layer's inputs reaches; 0 lies between both ends.
fn reach(known: crate::stats::Layer<'_>, range: Range) -> Result<(f32, f32), Error> {
    let (low, high) = known.range()?;
    let ends = (low.into_iter().fold(0f32, f32::min), high.into_iter().fold(0f32, f32::max));
    if range == Range::MinMax {
        return Ok(ends);
    }
    let histogram = known.histogram()?.ok_or_else(no_histogram)?;
    Ok(match range {
        Range::MinMax => ends,
        Range::Share(share) => percentile(&histogram, ends, share),
        Range::Mse => mse(&histogram, ends, STEPS),
    })
}

/// The grid of an input that reaches so far.
fn input((low, high): (f32, f32)) -> Input {
    let step = (high / 255.0 - low / 255.0).max(f32::MIN_POSITIVE);
    let step = if high > low { step } else { 1.0 };
    let (grid, _) = Learned::new(Bits::MAX, false, step, low).with_zero();
    Input { grid, signed: false, narrow: false }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_lies_on_the_grid_and_so_does_zero() {
        for (low, high) in [(-1.0f32, 3.0f32), (0.0, 6.0), (-2.0, 0.0), (0.5, 2.0), (-3.0, -1.0), (0.0, 0.0)] {
            let Input { grid, .. } = input((low.min(0.0), high.max(0.0)));
            let mut out = [0.0; 3];
            niwaki_quant::fake_quant::fake_quantize(
                niwaki_codes::simd::Level::best(),
                grid,
                &[0.0, low, high],
                &mut out,
            );
            assert_eq!(out[0], 0.0, "{low} to {high}");
            for (x, y) in [(low, out[1]), (high, out[2])] {
                assert!((x - y).abs() <= grid.step() * 0.501, "{x} is {y} on a grid of {}", grid.step());
            }
        }
    }

    #[test]
    fn rows_have_a_step_each_whichever_way_they_stand() {
        let weights = Tensor::of([2, 3], vec![1.0f32, -4.0, 0.5, 0.0, 0.0, 0.0]).unwrap();
        let steps = |turned| grids(&weights, turned).unwrap().iter().map(Learned::step).collect::<Vec<_>>();
        assert_eq!(steps(false), [4.0 / 127.0, 1.0]);
        assert_eq!(steps(true), [1.0 / 127.0, 4.0 / 127.0, 0.5 / 127.0]);
        let wrong = Tensor::of([1, 2], vec![1.0, f32::NAN]).unwrap();
        assert_eq!(*grids(&wrong, false).unwrap_err().kind(), ErrorKind::NotFinite { index: 1 });
    }
}
