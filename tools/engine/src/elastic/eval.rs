//! How well a network does in forms, each with running statistics of its own.

use niwaki_quant::forms::{Configuration, Form, LayerBits, Side};
use serde::Serialize;

use super::file::Network;
use crate::dataset::Dataset;
use crate::error::{Blame, Error};
use crate::eval::Evaluation;
use crate::model::Model;
use crate::progress::Progress;
use crate::recalibrate::Recalibration;
use crate::train::Lessons;

/// Images on which running statistics are measured anew, cut and mirrored as in the training, and how many of them; none where those of the weights stay.
pub type Recalibrate<'r> = Option<(&'r Dataset, usize)>;

/// What forms are measured with.
#[derive(Clone, Copy, Debug)]
pub struct Measuring<'m> {
    /// What they are measured on.
    pub data: &'m Lessons,
    /// What vectors of texts are compared with: those of the model as it was.
    pub reference: Option<&'m Model>,
    /// Examples of it; of fewer all.
    pub limit: Option<usize>,
    /// What running statistics are measured on.
    pub recalibrate: Recalibrate<'m>,
    /// Whether affine grids have whole zeros, as integers need them, or offsets as they were learned.
    pub whole_zeros: bool,
}

/// What was measured of one form.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The form of the layers that do not always have 8 bits, or the recipe that says what they have.
    pub form: String,
    /// How well it does.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// How many times smaller than floats the codes of the weights are, and of what flows into layers.
    pub weight_ratio: f64,
    /// The second of them; none where that stays in floats.
    pub input_ratio: Option<f64>,
}

impl Network {
    /// The model in these forms, with running statistics of their own.
    ///
    /// # Errors
    ///
    /// Those of [`at`](Self::at) and of measuring.
    pub fn ready(
        &self,
        forms: &[Form],
        (recalibrate, whole_zeros): (Recalibrate<'_>, bool),
        progress: Progress<'_>,
    ) -> Result<Model, Error> {
        let mut model = self.at(forms, whole_zeros)?;
        let Some((data, examples)) = recalibrate else { return Ok(model) };
        let on = Recalibration { data, limit: Some(examples), augment: self.augment() };
        model.recalibrate(on, progress)?;
        Ok(model)
    }

    /// How well it does in these forms.
    ///
    /// # Errors
    ///
    /// Those of [`ready`](Self::ready) and of running.
    pub fn measure(&self, forms: &[Form], how: &Measuring<'_>, progress: Progress<'_>) -> Result<Evaluation, Error> {
        let model = self.ready(forms, (how.recalibrate, how.whole_zeros), &|_, _| {})?;
        how.data.measure(&model, how.reference, how.limit, progress)
    }

    /// How many times smaller than floats weights and inputs are.
    ///
    /// # Errors
    ///
    /// Forms of another number of layers.
    pub fn ratios(&self, forms: &[Form]) -> Result<(f64, Option<f64>), Error> {
        let bits =
            |form: &Form| LayerBits { weights: form.weights, activations: form.activations.unwrap_or(form.weights) };
        let Some(first) = forms.first() else { return Ok((1.0, None)) };
        let configuration = Configuration { style: first.style, layers: forms.iter().map(bits).collect() };
        let ratio = |side| self.space().ratio(side, &configuration).map_err(|e| Error::below(e, Blame::Caller));
        let input = first.activations.map(|_| ratio(Side::Activations)).transpose()?;
        Ok((ratio(Side::Weights)?, input))
    }
}

/// Measures a network in forms of its layers, one after the other, each under its name.
///
/// # Errors
///
/// Those of [`Network::measure`].
pub fn eval(
    network: &Network,
    forms: &[(String, Vec<Form>)],
    how: &Measuring<'_>,
    each: &mut dyn FnMut(&Measured),
) -> Result<Vec<Measured>, Error> {
    let measured = |(form, layers): &(String, Vec<Form>)| {
        let evaluation = network.measure(layers, how, &|_, _| {})?;
        let (weight_ratio, input_ratio) = network.ratios(layers)?;
        let measured = Measured { form: form.clone(), evaluation, weight_ratio, input_ratio };
        each(&measured);
        Ok(measured)
    };
    forms.iter().map(measured).collect()
}
