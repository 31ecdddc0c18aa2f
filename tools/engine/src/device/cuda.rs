//! A CUDA device beside the processor.

use std::sync::Arc;

use niwaki_codes::Uniform;
use niwaki_cuda::{Card, GramSums, Numbers, Parts, Range, Tiles, encodes};
use niwaki_quant::observe::{Extremes, Gram, Histogram};
use niwaki_quant::{Distortion, Fit, UniformOut, Values};

use crate::error::{Blame, Error};

/// The processor, or a CUDA device beside it.
#[derive(Clone, Debug, Default)]
pub struct Device {
    card: Option<Arc<Card>>,
}

fn failed(e: niwaki_cuda::Error) -> Error {
    Error::below(e, Blame::Environment)
}

impl Device {
    /// The CUDA device of this number.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn cuda(ordinal: u32) -> Result<Self, Error> {
        Ok(Self { card: Some(Arc::new(Card::open(ordinal).map_err(failed)?)) })
    }

    /// The CUDA devices by number: what they are called and how much memory they have.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn found() -> Result<Vec<String>, Error> {
        let devices = niwaki_cuda::probe().map_err(|why| failed(why.into()))?;
        let said = |ordinal: usize| {
            let card = Card::open(u32::try_from(ordinal).unwrap_or(u32::MAX)).map_err(failed)?;
            Ok(format!("{}, {} MiB", card.name(), card.memory().map_err(failed)? >> 20))
        };
        (0..devices).map(said).collect()
    }

    /// What the device is called, its number first; nothing of the processor.
    pub fn name(&self) -> Option<String> {
        self.card.as_ref().map(|card| format!("cuda:{} ({})", card.ordinal(), card.name()))
    }

    /// Encodes rows of so many weights; none where the processor has to, and then `out` is to be written anew.
    pub(crate) fn encode(
        &self,
        (scheme, fit): (&Uniform, Fit),
        (values, cols): (Values<'_>, usize),
        out: &mut UniformOut<'_>,
    ) -> Result<Option<Distortion>, Error> {
        let fit = match fit {
            Fit::MinMax => niwaki_cuda::Fit::MinMax,
            Fit::Clip => niwaki_cuda::Fit::Clip,
            _ => return Ok(None),
        };
        let Some(card) = self.card.as_ref().filter(|_| encodes(scheme, fit, cols)) else { return Ok(None) };
        let weights = match values {
            Values::F32(bytes) => Numbers::F32(bytes),
            Values::F16(bytes) => Numbers::F16(bytes),
            Values::Bf16(bytes) => Numbers::Bf16(bytes),
        };
        let parts = Parts { codes: &mut *out.codes, scales: &mut *out.scales, zeros: &mut *out.zeros };
        let tiles = card.encode((scheme, fit), weights, cols, parts).map_err(failed)?;
        Ok(tiles.map(|tiles| total(&tiles)))
    }

    /// Counts values; whether it did.
    pub(crate) fn histogram(&self, values: &[f32], histogram: &mut Histogram) -> Result<bool, Error> {
        let Some(card) = &self.card else { return Ok(false) };
        let counts = card.histogram(Numbers::of(values)).map_err(failed)?;
        let seen = Histogram::of_counts(counts).map_err(|e| Error::below(e, Blame::Environment))?;
        histogram.merge(&seen);
        Ok(true)
    }

    /// Sees finite values, rows or planes of a size; whether it did.
    pub(crate) fn extremes(&self, values: &[f32], plane: Option<usize>, seen: &mut Extremes) -> Result<bool, Error> {
        let inputs = seen.low().len();
        let Some(card) = self.card.as_ref().filter(|_| inputs > 0) else { return Ok(false) };
        let mut widen = |found: Vec<Range>| {
            let all = found.into_iter().enumerate();
            all.for_each(|(at, range)| seen.widen(at % inputs, range.low, range.high));
        };
        match plane {
            Some(0) => {}
            // Planes of what is no whole image are left out, as rows that are not full.
            Some(size) => {
                let whole = values.len() / (inputs * size) * inputs * size;
                widen(card.row_ranges(Numbers::of(&values[..whole]), size).map_err(failed)?);
            }
            None => {
                let whole = values.len() / inputs * inputs;
                widen(card.column_ranges(Numbers::of(&values[..whole]), inputs).map_err(failed)?);
            }
        }
        Ok(true)
    }

    /// Begins a Gram matrix on the device, where there is one.
    pub(crate) fn summing(&self, inputs: usize) -> Result<Option<Summing<'_>>, Error> {
        let Some(card) = self.card.as_ref().filter(|_| inputs > 0) else { return Ok(None) };
        let sums = GramSums::new(card, inputs).map_err(failed)?;
        Ok(Some(Summing { sums, inputs, count: 0 }))
    }
}

/// A Gram matrix on the device.
pub(crate) struct Summing<'d> {
    sums: GramSums<'d>,
    inputs: usize,
    count: u64,
}

impl Summing<'_> {
    /// Sees rows with a value for each input; what fills none at the end is left out.
    pub(crate) fn rows(&mut self, values: &[f32]) -> Result<(), Error> {
        let rows = values.len() / self.inputs;
        self.count += rows as u64;
        self.sums.rows(Numbers::of(&values[..rows * self.inputs])).map_err(failed)
    }

    /// The matrix.
    pub(crate) fn finish(self) -> Result<Gram, Error> {
        let sums = self.sums.into_sums().map_err(failed)?;
        Gram::of_sums(self.inputs, sums, self.count).map_err(|e| Error::below(e, Blame::Environment))
    }
}

/// What tiles lost, added as the processor's encoder does: those of a row first.
fn total(tiles: &Tiles) -> Distortion {
    let mut total = Distortion::default();
    for row in tiles.rows() {
        let mut of_row = Distortion::default();
        for ([signal, noise, max_abs], elements) in row {
            let (signal, noise) = (f64::from(signal), f64::from(noise));
            of_row.merge(&Distortion { signal, noise, max_abs, elements: elements as u64 });
        }
        total.merge(&of_row);
    }
    total
}
