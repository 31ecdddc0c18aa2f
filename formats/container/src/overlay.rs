//! A container seen through signatures: patches that are laid over weights as they are decoded.

use std::ops::Range;

use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, PatchKind, patch};

use crate::artifact::Artifact;
use crate::error::{Error, ErrorKind};
use crate::tensor::{Decoder, Tensor};

/// A stack of signatures, nearest to the weights first.
///
/// Nothing is written, and nothing is read but what is decoded. Whether a signature was made for
/// the weights that it is laid over, this does not ask: shapes must agree.
///
/// ```
/// use niwaki_container::{Artifact, Overlay};
/// use niwaki_codes::simd::Level;
/// use niwaki_tensors::Limits;
///
/// # let golden = |name| concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/").to_owned() + name;
/// let model = Artifact::open(golden("example.safetensors").as_ref(), &Limits::default())?;
/// let signature = Artifact::open(golden("example-signature.safetensors").as_ref(), &Limits::default())?;
/// let mut overlay = Overlay::default();
/// overlay.push(&signature, 0.5)?;
/// let mut weights = [0.0; 6];
/// overlay.at(model.get("w").unwrap(), None)?.dequantize_rows(Level::best(), 0..2, &mut weights)?;
/// assert_eq!(weights, [-3.0, 3.5, 0.0, 0.0, 2.0, -3.0]);
/// # Ok::<(), niwaki_container::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Overlay<'a> {
    layers: Vec<(&'a Artifact, f64)>,
}

/// The weights of one tensor through an [`Overlay`], as floats.
#[derive(Clone, Debug)]
pub struct OverlaidDecoder<'a> {
    pub(crate) base: Decoder<'a>,
    pub(crate) layers: Vec<Layer<'a>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Layer<'a> {
    pub(crate) kind: PatchKind,
    pub(crate) alpha: f64,
    pub(crate) values: Values<'a>,
}

#[derive(Clone, Debug)]
pub(crate) enum Values<'a> {
    /// One for each weight.
    Weights(Box<Decoder<'a>>),
    /// One for each row.
    Rows(Vec<f32>),
}

impl<'a> Overlay<'a> {
    /// Lays one more signature on top, its values times `alpha`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoSignature`] for a file that is none, or whose alpha is not finite.
    pub fn push(&mut self, signature: &'a Artifact, alpha: f64) -> Result<(), Error> {
        let is_signature = matches!(signature.metas(), [meta] if meta.signature.is_some());
        if !is_signature || !alpha.is_finite() {
            return Err(Error::from(ErrorKind::NoSignature { alpha }).at(signature.checkpoint().path()));
        }
        self.layers.push((signature, alpha));
        Ok(())
    }

    /// The weights of a tensor, an elastic one at `width`, the widest served for none. Factors of
    /// rows are decoded here, once for all calls.
    ///
    /// # Errors
    ///
    /// Those of [`Tensor::at`] and [`Decoder::dequantize_rows`], and [`ErrorKind::PatchForm`] for a
    /// signature whose tensor of that name has another shape.
    pub fn at(&self, tensor: Tensor<'a>, width: Option<Bits>) -> Result<OverlaidDecoder<'a>, Error> {
        let mut layers = Vec::new();
        for (signature, alpha) in &self.layers {
            let Some(values) = signature.get(tensor.name()) else { continue };
            let kind = kind(signature, tensor.name())?;
            let dims = tensor.shape().dims();
            let needs = if kind == PatchKind::Scale { dims.get(..1).unwrap_or_default() } else { dims };
            if values.shape().dims() != needs {
                let (needs, has) = (tensor.shape().to_string(), values.shape().to_string());
                let error = Error::from(ErrorKind::PatchForm { kind: kind.name(), needs, has });
                return Err(error.in_tensor(tensor.name()).at(signature.checkpoint().path()));
            }
            let decoder = values.at(None)?;
            let values = if kind == PatchKind::Scale {
                let mut factors = vec![0.0; values.shape().elements()];
                decoder.dequantize_rows(Level::best(), 0..1, &mut factors)?;
                Values::Rows(factors)
            } else {
                Values::Weights(Box::new(decoder))
            };
            layers.push(Layer { kind, alpha: *alpha, values });
        }
        Ok(OverlaidDecoder { base: tensor.at(width)?, layers })
    }
}

/// What the values of a signature's tensor mean.
fn kind(signature: &Artifact, name: &str) -> Result<PatchKind, Error> {
    let said = signature.metas().first().and_then(|meta| meta.signature.as_ref()?.get("kinds")?.get(name)?.as_str());
    match said {
        None => Ok(PatchKind::Add),
        Some(text) => PatchKind::from_name(text).ok_or_else(|| ErrorKind::Json(format!("kind `{text}`")).into()),
    }
}

impl OverlaidDecoder<'_> {
    /// Decodes whole rows into `out`, row by row, patches laid over them.
    ///
    /// # Errors
    ///
    /// Those of [`Decoder::dequantize_rows`].
    pub fn dequantize_rows(&self, level: Level, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        self.base.dequantize_rows(level, rows.clone(), out)?;
        let tensor = self.base.tensor();
        // The rows of a vector are its elements.
        let each = if tensor.shape().dims().len() < 2 { 1 } else { tensor.matrix().1.max(1) };
        let start = rows.start * tensor.matrix().1;
        let mut values = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let mut of_rows = vec![0.0; out.len()];
            layer.read(level, rows.clone(), (start, each), &mut of_rows)?;
            values.push(of_rows);
        }
        let stack = self.layers.iter().zip(&values).map(|(layer, of)| (layer.kind, layer.alpha, of.as_slice()));
        patch::lay(level, &stack.collect::<Vec<_>>(), out);
        Ok(())
    }
}

impl Layer<'_> {
    /// Its values for the rows, which begin with weight `start`; of a scale one for `each` weights.
    pub(crate) fn read(
        &self,
        level: Level,
        rows: Range<usize>,
        (start, each): (usize, usize),
        out: &mut [f32],
    ) -> Result<(), Error> {
        match &self.values {
            Values::Weights(values) => values.dequantize_rows(level, rows, out),
            Values::Rows(factors) => {
                for (at, out) in out.iter_mut().enumerate() {
                    *out = factors.get((start + at) / each).copied().unwrap_or(1.0);
                }
                Ok(())
            }
        }
    }
}
