//! Codes chosen by what is known of the inputs of their layers.
//!
//! ```text
//! clip, lsq    an error counts as much as its input is large     Stats: mean squares
//! gptq         columns make up for each other's errors           Stats: Gram matrices
//! ```

use niwaki_codes::simd::Level;
use niwaki_codes::{Grouping, Scheme, Symmetry, Uniform, UniformView};
use niwaki_container::Part;
use niwaki_quant::observe::{Inverse, Order};
use niwaki_quant::{Distortion, Fit, UniformOut, Values, encode_gptq_rows, encode_rows, encode_weighted_rows};
use rayon::prelude::*;

use crate::blocks::Block;
use crate::encode::{Place, Scratch, cut, not_encodable};
use crate::error::{Error, ErrorKind};
use crate::job::{ByWidth, Job};
use crate::plan::{Plan, Planned};
use crate::source::Source;
use crate::stats::{Layer, Stats};

/// The share of the mean square of a layer's inputs that is added to each, so that there is an inverse.
pub(crate) const DAMPING: f64 = 0.01;

/// How a tensor's codes hang on what is known of its layer's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighing {
    /// Errors count as much as the input that they meet is large.
    Importance,
    /// Columns make up for errors of those before them, in this order.
    Inverse(Order),
}

impl Weighing {
    /// How those of a fit by rows or groups do.
    pub(crate) fn of(fit: Fit, layer: &Layer<'_>) -> Result<Option<Self>, Error> {
        let gptq = fit.needs_inputs();
        if gptq && layer.turned() {
            let what = format!("the fit {fit} of weights whose rows are inputs");
            return Err(ErrorKind::Unsupported { what }.into());
        }
        if gptq && !layer.has_gram() {
            let what = format!("no Gram matrix of its inputs, which the fit {fit} needs");
            return Err(Error::from(ErrorKind::Usage { what }).hinting("`calibrate --gram` keeps them"));
        }
        Ok(match fit {
            Fit::MinMax => None,
            // The importance of a row's weights is the same for all of them.
            Fit::Clip | Fit::Lsq => (!layer.turned()).then_some(Self::Importance),
            Fit::Gptq => Some(Self::Inverse(Order::Given)),
            Fit::GptqOrder => Some(Self::Inverse(Order::Largest)),
        })
    }
}

impl Plan {
    /// The same plan, in which the fits of its tensors know what flows into their layers. Tensors that ask for `gptq` and of
    /// whose inputs nothing is known are fitted by `lsq`, and named in [`unknown`](Self::unknown).
    ///
    /// # Errors
    ///
    /// Statistics of another checkpoint; for a tensor that asks for `gptq`: a scheme or a mask that does not go with it,
    /// statistics without Gram matrices.
    pub fn calibrated_by(mut self, stats: Stats, source: &Source<'_>) -> Result<Self, Error> {
        let stats = match source.folded() {
            Some(folded) => folded.over_stats(stats, source)?,
            None => {
                stats.check(source)?;
                stats
            }
        };
        for planned in self.tensors.iter_mut().filter(|planned| !planned.taken) {
            let at = |e: Error, planned: &Planned| e.of(&planned.name).at(source.opened().path());
            match planned.weigh(stats.layer(&planned.name)) {
                Ok(true) => {}
                Ok(false) => self.unknown.push(planned.name.clone()),
                Err(e) => return Err(at(e, planned)),
            }
        }
        self.stats = Some(stats);
        Ok(self)
    }

    /// Refuses fits that need statistics where there are none.
    pub(crate) fn check_known(&self) -> Result<(), Error> {
        let blind = |planned: &&Planned| planned.fit.needs_inputs() && planned.weighing.is_none();
        match self.tensors.iter().find(blind) {
            Some(planned) => {
                let what = format!("the fit {} without statistics of the layers' inputs", planned.fit);
                let error = Error::from(ErrorKind::Usage { what }).of(&planned.name);
                Err(error.hinting("`calibrate --gram` makes them, `--stats` takes them"))
            }
            None => Ok(()),
        }
    }
}

impl Planned {
    /// Says how the codes hang on what is known of a layer; false where nothing is, and the fit asks for it.
    fn weigh(&mut self, layer: Option<Layer<'_>>) -> Result<bool, Error> {
        let gptq = self.fit.needs_inputs();
        let whole = match (self.layout.scheme, &self.selection) {
            (Some(Scheme::Uniform(Uniform { grouping, .. })), None) => grouping != Grouping::Tensor,
            _ => false,
        };
        if gptq && !whole {
            let scheme = self.layout.scheme.map_or_else(|| "floats".to_owned(), |scheme| scheme.to_string());
            let masked = if self.selection.is_some() { " under a mask" } else { "" };
            let what = format!("the fit {} of {scheme}{masked}", self.fit);
            return Err(Error::from(ErrorKind::Unsupported { what }).hinting("it is for codes by rows or groups"));
        }
        match layer {
            None if gptq => {
                self.fit = Fit::Lsq;
                return Ok(false);
            }
            Some(layer) if whole => self.weighing = Weighing::of(self.fit, &layer)?,
            _ => {}
        }
        Ok(true)
    }
}

/// What the encoder of a tensor knows; for each group of channels, of rows one.
pub(crate) enum Known {
    /// By column of a row, how much it matters.
    Importance(Vec<Vec<f32>>),
    /// The inverse of what a row is multiplied with, and the damping that was asked for.
    Inverses(Vec<Inverse>, f64),
}

impl Known {
    /// What statistics say of a layer.
    pub(crate) fn of(layer: &Layer<'_>, weighing: Weighing, damping: f64) -> Result<Self, Error> {
        let order = match weighing {
            Weighing::Importance => return Ok(Self::Importance(layer.importance()?)),
            Weighing::Inverse(order) => order,
        };
        let grams = layer.grams()?.unwrap_or_default();
        let inverse = |gram: &niwaki_quant::observe::Gram| gram.inverse(Level::best(), damping, order);
        let all = grams.par_iter().map(inverse).collect::<Result<Vec<_>, _>>();
        let unlike = |e: niwaki_quant::Error| Error::from(ErrorKind::Unlike { what: e.to_string() }).of(layer.name());
        Ok(Self::Inverses(all.map_err(unlike)?, damping))
    }

    /// The damping that its inverses took, where that was more than was asked for.
    pub(crate) fn damping(&self) -> Option<f64> {
        let Self::Inverses(all, asked) = self else { return None };
        let most = all.iter().map(Inverse::damping).fold(0.0, f64::max);
        (most > *asked).then_some(most)
    }

    fn groups(&self) -> usize {
        match self {
            Self::Importance(all) => all.len(),
            Self::Inverses(all, _) => all.len(),
        }
    }

    /// Encodes whole rows of one group.
    fn encode(
        &self,
        group: usize,
        (scheme, fit): (&Uniform, Fit),
        values: Values<'_>,
        out: UniformOut<'_>,
    ) -> Result<Distortion, niwaki_quant::Error> {
        let level = Level::best();
        match self {
            Self::Importance(all) => encode_weighted_rows(level, scheme, fit, values, &all[group], out),
            Self::Inverses(all, _) => encode_gptq_rows(level, scheme, &all[group], values, out),
        }
    }
}

/// Encodes a block of whole rows and writes its share of every part.
pub(crate) fn block(job: &Job<'_>, b: &Block, known: &Known, scratch: &mut Scratch) -> Result<ByWidth, Error> {
    let (all, cols) = job.planned.layout.matrix();
    let Some(Scheme::Uniform(scheme)) = job.planned.layout.scheme else { return Ok(ByWidth::new()) };
    let each = (all / known.groups().max(1)).max(1);
    let mut lost = Distortion::default();
    let mut start = b.rows.start;
    while start < b.rows.end {
        let end = ((start / each + 1) * each).min(b.rows.end);
        let rows = Block { rows: start..end, cols: 0..cols };
        let place = Place::of_block(&rows, cols, &Scheme::Uniform(scheme));
        let values = job.source.values(rows.range(cols), &mut scratch.decoded)?;
        let (groups, scale) = (scheme.groups(end - start, cols), scheme.scale_type().bytes());
        let zeros = if job.part(Part::Zeros).is_some() { groups } else { 0 };
        let [codes, scales, zeros] =
            cut(&mut scratch.bytes, [(end - start) * scheme.row_bytes(cols), groups * scale, zeros]);
        let out = UniformOut { codes: &mut *codes, scales: &mut *scales, zeros: &mut *zeros };
        let measured = known.encode(start / each, (&scheme, job.planned.fit), values, out);
        let wrong = |e: niwaki_quant::Error| not_encodable(&e.offset(place.elements, place.groups), &job.planned.name);
        lost.merge(&measured.map_err(wrong)?);
        job.write(Part::Codes, place.code_bytes, codes)?;
        job.write(Part::Scales, place.groups * scale, scales)?;
        job.write(Part::Zeros, place.groups, zeros)?;
        start = end;
    }
    Ok(vec![(0, lost)])
}

/// What rows of weights are in codes.
pub(crate) fn rounded(
    known: Option<&Known>,
    (scheme, fit): (&Uniform, Fit),
    weights: &[f32],
    (rows, cols): (usize, usize),
) -> Result<Vec<f32>, Error> {
    let unlike = |e: &dyn std::fmt::Display| Error::from(ErrorKind::Unlike { what: e.to_string() });
    let each = (rows / known.map_or(1, Known::groups).max(1)).max(1);
    let mut all = vec![0.0; weights.len()];
    let parts = weights.chunks((each * cols).max(1)).zip(all.chunks_mut((each * cols).max(1)));
    for (group, (weights, decoded)) in parts.enumerate() {
        let (rows, values) = (weights.len() / cols.max(1), Values::F32(bytemuck::cast_slice(weights)));
        let (groups, affine) = (scheme.groups(rows, cols), scheme.symmetry == Symmetry::Affine);
        let mut codes = vec![0; rows * scheme.row_bytes(cols)];
        let (mut scales, mut zeros) =
            (vec![0; groups * scheme.scale_type().bytes()], vec![0; if affine { groups } else { 0 }]);
        let out = UniformOut { codes: &mut codes, scales: &mut scales, zeros: &mut zeros };
        let encoded = match known {
            Some(known) => known.encode(group, (scheme, fit), values, out),
            None => encode_rows(Level::best(), scheme, fit, values, cols, out),
        };
        encoded.map_err(|e| unlike(&e))?;
        let view = UniformView::new(*scheme, rows, cols, &codes, &scales, affine.then_some(&zeros));
        let view = view.map_err(|e| unlike(&e))?;
        view.dequantize_rows(Level::best(), 0..rows, decoded).map_err(|e| unlike(&e))?;
    }
    Ok(all)
}
