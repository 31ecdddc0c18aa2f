//! Codes chosen by what is known of the inputs of their layers.
//!
//! ```text
//! clip, lsq    an error counts as much as its input is large     Stats: mean squares
//! gptq         inputs make up for each other's errors            Stats: Gram matrices
//! ```
//!
//! Codes stand as the weights do, and groups go along their rows. Where these are inputs, as `MatMul` of ONNX has them, all
//! weights of a group have the same input: for `clip` and `lsq` none counts more than another, and `gptq` goes from row to
//! row. An ONNX model gets codes of the transpose, whose groups go along the inputs.

use niwaki_codes::simd::Level;
use niwaki_codes::{Grouping, Scheme, Symmetry, Uniform, UniformView};
use niwaki_container::Part;
use niwaki_quant::observe::{Inverse, Order};
use niwaki_quant::{Distortion, ErrorKind as Fault, Fit, UniformOut, Values};
use niwaki_quant::{encode_gptq_columns, encode_gptq_rows, encode_rows, encode_weighted_rows};
use rayon::prelude::*;

use crate::blocks::Block;
use crate::encode::{Place, Scratch, cut, not_encodable};
use crate::error::{Error, ErrorKind};
use crate::job::{ByWidth, Job};
use crate::masked::floats;
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
    /// Columns, which are inputs, make up for errors of those before them, in this order.
    Inverse(Order),
    /// Rows, which are inputs, do.
    Down(Order),
}

impl Weighing {
    /// How those of a fit by rows or groups do, whose rows are inputs where they are `turned`.
    pub(crate) fn of(fit: Fit, layer: &Layer<'_>, turned: bool) -> Result<Option<Self>, Error> {
        if fit.needs_inputs() && !layer.has_gram() {
            let what = format!("no Gram matrix of its inputs, which the fit {fit} needs");
            return Err(Error::from(ErrorKind::Usage { what }).hinting("`calibrate --gram` keeps them"));
        }
        let inverse = if turned { Self::Down } else { Self::Inverse };
        Ok(match fit {
            Fit::MinMax => None,
            // The importance of a row's weights is the same for all of them where rows are inputs.
            Fit::Clip | Fit::Lsq => (!turned).then_some(Self::Importance),
            Fit::Gptq => Some(inverse(Order::Given)),
            Fit::GptqOrder => Some(inverse(Order::Largest)),
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
            let tensor = &source.tensors()[planned.index];
            let across = self.to.across(planned.index, tensor.coding().is_some());
            match planned.weigh(stats.layer(&planned.name), across.is_some()) {
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
        let coded = |planned: &Planned| planned.layout.scheme.is_some() && planned.fit.needs_inputs();
        let blind = |planned: &&Planned| coded(planned) && planned.weighing.is_none();
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
    /// Says how the codes hang on what is known of a layer; false where nothing is, and the fit asks for it. Codes may be
    /// those of the transpose.
    fn weigh(&mut self, layer: Option<Layer<'_>>, across: bool) -> Result<bool, Error> {
        // What stays floats is not rounded.
        let Some(scheme) = self.layout.scheme else { return Ok(true) };
        let gptq = self.fit.needs_inputs();
        let whole = match (scheme, &self.selection) {
            (Scheme::Uniform(Uniform { grouping, .. }), None) => grouping != Grouping::Tensor,
            _ => false,
        };
        if gptq && !whole {
            let masked = if self.selection.is_some() { " under a mask" } else { "" };
            let what = format!("the fit {} of {scheme}{masked}", self.fit);
            return Err(Error::from(ErrorKind::Unsupported { what }).hinting("it is for codes by rows or groups"));
        }
        match layer {
            None if gptq => {
                self.fit = Fit::Lsq;
                return Ok(false);
            }
            Some(layer) if whole => self.weighing = Weighing::of(self.fit, &layer, layer.turned() != across)?,
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
    /// The same where rows are inputs.
    Down(Box<Inverse>, f64),
}

impl Known {
    /// What statistics say of a layer.
    pub(crate) fn of(layer: &Layer<'_>, weighing: Weighing, damping: f64) -> Result<Self, Error> {
        let order = match weighing {
            Weighing::Importance => return Ok(Self::Importance(layer.importance()?)),
            Weighing::Inverse(order) | Weighing::Down(order) => order,
        };
        let grams = layer.grams()?.unwrap_or_default();
        let inverse = |gram: &niwaki_quant::observe::Gram| gram.inverse(Level::best(), damping, order);
        let all = grams.par_iter().map(inverse).collect::<Result<Vec<_>, _>>();
        let unlike = |e: niwaki_quant::Error| Error::from(ErrorKind::Unlike { what: e.to_string() }).of(layer.name());
        let mut all = all.map_err(unlike)?;
        match (weighing, all.pop()) {
            (Weighing::Down(_), Some(only)) => Ok(Self::Down(Box::new(only), damping)),
            (_, last) => {
                all.extend(last);
                Ok(Self::Inverses(all, damping))
            }
        }
    }

    /// The damping that its inverses took, where that was more than was asked for.
    pub(crate) fn damping(&self) -> Option<f64> {
        let (most, asked) = match self {
            Self::Importance(_) => return None,
            Self::Inverses(all, asked) => (all.iter().map(Inverse::damping).fold(0.0, f64::max), asked),
            Self::Down(inverse, asked) => (inverse.damping(), asked),
        };
        (most > *asked).then_some(most)
    }

    /// Groups of channels.
    pub(crate) fn groups(&self) -> usize {
        match self {
            Self::Importance(all) => all.len(),
            Self::Inverses(all, _) => all.len(),
            Self::Down(..) => 1,
        }
    }

    /// Encodes whole rows of one group; where rows are inputs, all of them, in columns that begin and end where groups do.
    pub(crate) fn encode(
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
            Self::Down(inverse, _) => encode_gptq_columns(level, scheme, inverse, values, out),
        }
    }
}

/// Encodes a block of whole rows, or columns where rows are inputs, and writes its share of every part.
pub(crate) fn block(job: &Job<'_>, b: &Block, known: &Known, scratch: &mut Scratch) -> Result<ByWidth, Error> {
    let Some(Scheme::Uniform(scheme)) = job.planned.layout.scheme else { return Ok(ByWidth::new()) };
    if let Known::Down(..) = known {
        return columns(job, &scheme, b, known, scratch);
    }
    let (all, cols) = job.planned.layout.matrix();
    let each = (all / known.groups().max(1)).max(1);
    let mut lost = Distortion::default();
    let mut start = b.rows.start;
    while start < b.rows.end {
        let end = ((start / each + 1) * each).min(b.rows.end);
        let rows = Block { rows: start..end, cols: 0..cols };
        let place = Place::of_block(&rows, cols, &Scheme::Uniform(scheme));
        let values = job.source.values(rows.range(cols), &mut scratch.decoded)?;
        let mut coded = Coded::of(job, &scheme, (end - start, cols), &mut scratch.bytes);
        let measured = known.encode(start / each, (&scheme, job.planned.fit), values, coded.out());
        let wrong = |e: niwaki_quant::Error| not_encodable(&e.offset(place.elements, place.groups), &job.planned.name);
        lost.merge(&measured.map_err(wrong)?);
        coded.write(job, place)?;
        start = end;
    }
    Ok(vec![(0, lost)])
}

/// Encodes some columns of all rows, which are inputs, and writes what each row has of them.
fn columns(job: &Job<'_>, scheme: &Uniform, b: &Block, known: &Known, scratch: &mut Scratch) -> Result<ByWidth, Error> {
    let ((rows, cols), width) = (job.planned.layout.matrix(), b.cols.len());
    let mut band = Vec::with_capacity(rows * width);
    for row in 0..rows {
        let range = row * cols + b.cols.start..row * cols + b.cols.end;
        band.extend_from_slice(floats(job.source, range.start, range.end, job.run.level, &mut scratch.decoded)?);
    }
    let each = scheme.groups(1, width).max(1);
    let line = |row: usize| Block { rows: row..row + 1, cols: b.cols.clone() };
    let place = |row: usize| Place::of_block(&line(row), cols, &Scheme::Uniform(*scheme));
    let wrong = |e: niwaki_quant::Error| {
        let e = match e.kind() {
            Fault::NotFinite { index } => {
                Fault::NotFinite { index: place(index / width).elements + index % width }.into()
            }
            Fault::ScaleOverflow { group } => {
                Fault::ScaleOverflow { group: place(group / each).groups + group % each }.into()
            }
            _ => e,
        };
        not_encodable(&e, &job.planned.name)
    };
    let mut coded = Coded::of(job, scheme, (rows, width), &mut scratch.bytes);
    let values = Values::F32(bytemuck::cast_slice(&band));
    let lost = known.encode(0, (scheme, job.planned.fit), values, coded.out()).map_err(wrong)?;
    coded.rows(rows).enumerate().try_for_each(|(row, coded)| coded.write(job, place(row)))?;
    Ok(vec![(0, lost)])
}

/// Codes, scales and zero points of some rows.
struct Coded<'c> {
    codes: &'c mut [u8],
    scales: &'c mut [u8],
    zeros: &'c mut [u8],
    /// Bytes of a scale.
    scale: usize,
}

impl<'c> Coded<'c> {
    /// Room for so many rows and columns.
    fn of(job: &Job<'_>, scheme: &Uniform, (rows, cols): (usize, usize), buffer: &'c mut Vec<u8>) -> Self {
        let (groups, scale) = (scheme.groups(rows, cols), scheme.scale_type().bytes());
        let zeros = if job.part(Part::Zeros).is_some() { groups } else { 0 };
        let [codes, scales, zeros] = cut(buffer, [rows * scheme.row_bytes(cols), groups * scale, zeros]);
        Self { codes, scales, zeros, scale }
    }

    fn out(&mut self) -> UniformOut<'_> {
        UniformOut { codes: &mut *self.codes, scales: &mut *self.scales, zeros: &mut *self.zeros }
    }

    /// Those of each row.
    fn rows(self, rows: usize) -> impl Iterator<Item = Self> {
        let Self { codes, scales, zeros, scale } = self;
        let [code, each, zero] = [codes.len(), scales.len(), zeros.len()].map(|len| len / rows.max(1));
        let (mut codes, mut scales, mut zeros) = (codes, scales, zeros);
        (0..rows).map(move |_| Self {
            codes: codes.split_off_mut(..code).unwrap_or_default(),
            scales: scales.split_off_mut(..each).unwrap_or_default(),
            zeros: zeros.split_off_mut(..zero).unwrap_or_default(),
            scale,
        })
    }

    /// Writes them.
    fn write(&self, job: &Job<'_>, place: Place) -> Result<(), Error> {
        job.write(Part::Codes, place.code_bytes, self.codes)?;
        job.write(Part::Scales, place.groups * self.scale, self.scales)?;
        job.write(Part::Zeros, place.groups, self.zeros)
    }
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
