//! Signatures from three checkpoints (Robust Weight Signatures, section 3), or from two.
//!
//! ```text
//! weights          v - c · a      a = standard - init, v = robust - init, c = <v,a> / <a,a>
//! batch norm       robust - standard of weight and bias; running statistics of robust as they are
//! interpolation    the weights of robust themselves
//! ```

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use globset::GlobMatcher;
use niwaki_codes::PatchKind;
use niwaki_quant::signature::extract::{Moments, signature};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;

use super::about::{About, Architecture, Method};
use super::identity;
use super::units::{Norm, Units};
use super::write::{Encoding, write};
use crate::blocks::BLOCK;
use crate::compress::Options;
use crate::error::{Error, ErrorKind};
use crate::plan::glob;
use crate::recipe::unmatched;
use crate::report::Report;
use crate::source::{Source, SourceTensor, Weights};

/// Weights whose products are summed at a time.
const RUN: usize = 4096;

/// Which layers are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Layers {
    /// All of them.
    #[default]
    All,
    /// So many, the first in depth.
    First(usize),
    /// The fewest whose signatures have this share of the sum of squares.
    Energy(f64),
}

/// Which tensors of batch normalizations are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Norms {
    /// Those of all layers, as the paper's code does.
    #[default]
    All,
    /// Those of the layers kept.
    Kept,
    /// None.
    None,
}

/// What is extracted.
#[derive(Clone, Debug, Default)]
pub struct Extraction {
    /// Which layers are kept.
    pub layers: Layers,
    /// Which tensors of batch normalizations are kept.
    pub norms: Norms,
    /// Globs of the tensors that may be touched; none for all but the classifier.
    pub only: Vec<String>,
    /// Whether weights are interpolated (WiSE-FT) instead of projected.
    pub interpolate: bool,
    /// How values are stored.
    pub encoding: Encoding,
}

/// The three checkpoints.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoints<'s, 'a> {
    /// What both trainings began with; none where weights are interpolated.
    pub init: Option<&'s Source<'a>>,
    /// Trained as usual.
    pub standard: &'s Source<'a>,
    /// Trained to be robust.
    pub robust: &'s Source<'a>,
}

/// One layer, as the extraction found it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerReport {
    /// Its name.
    pub name: String,
    /// ‖robust − standard‖ / ‖standard‖ over its weights; none where standard is 0.
    pub relative_difference: Option<f64>,
    /// ‖signature‖² of its weights over that of all layers.
    pub energy: f64,
    /// Weights of it that the signature touches.
    pub weights: u64,
    /// Whether it is kept.
    pub kept: bool,
}

/// What an extraction did.
#[derive(Clone, Debug, Serialize)]
pub struct Extracted {
    /// The layers in order of depth.
    pub layers: Vec<LayerReport>,
    /// Bytes of the standard checkpoint's weights, all of them: what a copy takes.
    pub copy_bytes: u64,
    /// Bytes of the signature's file.
    pub bytes: u64,
    /// Weights that the signature touches.
    pub weights: u64,
    /// What was written.
    #[serde(flatten)]
    pub report: Report,
}

/// Writes the signature that `robust` has beyond `standard`.
///
/// `progress` is told the bytes of source done so far, and all there are.
///
/// # Errors
///
/// Checkpoints of different architectures, globs that match nothing, and those of reading and
/// writing.
pub fn extract(
    from: Checkpoints<'_, '_>,
    what: &Extraction,
    out: &Path,
    options: &Options,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Extracted, Error> {
    let Checkpoints { standard, robust, .. } = from;
    if matches!(what.layers, Layers::Energy(share) if !(share > 0.0 && share <= 1.0)) {
        return Err(ErrorKind::Usage { what: "`--energy` is a share above 0 and at most 1".to_owned() }.into());
    }
    let pool = options.pool()?;
    let units = Units::of(standard);
    let candidates = candidates(standard, &units, what)?;
    let mut found = Vec::with_capacity(candidates.len());
    for index in &candidates {
        found.push(pool.install(|| Found::new(from, *index, units.norm(*index), what.interpolate))?);
    }
    let (layers, kept) = choose(&units, &candidates, &found, what)?;
    let tensors: Vec<_> = found.iter().filter(|found| kept.contains(&found.index)).collect();
    let digests = pool.install(|| identity::digests(standard))?;
    let mut about = About {
        method: if what.interpolate { Method::Interpolation } else { Method::Projection },
        architecture: Architecture::of(standard),
        base: Some(identity::checkpoint(&digests)),
        init: match from.init {
            Some(init) => Some(identity::checkpoint(&pool.install(|| identity::digests(init))?)),
            None => None,
        },
        report: json!({ "layers": layers }),
        ..About::default()
    };
    for found in &tensors {
        let name = found.difference.standard.name();
        about.touched.insert(name.to_owned(), digests.get(name).copied());
        if found.kind != PatchKind::Add {
            about.kinds.insert(name.to_owned(), found.kind);
        }
    }
    let made = tensors.iter().map(|found| found.tensor(what.encoding.float)).collect();
    let report = write(robust, made, &about, &what.encoding, out, (options, progress))?;
    Ok(Extracted {
        layers,
        copy_bytes: standard.tensors().iter().map(SourceTensor::stored_bytes).sum(),
        bytes: report.output_bytes,
        weights: tensors.iter().map(|found| found.elements() as u64).sum(),
        report,
    })
}

/// Tensors that may be touched, by their index in the standard checkpoint.
fn candidates(standard: &Source<'_>, units: &Units, what: &Extraction) -> Result<Vec<usize>, Error> {
    let globs = what.only.iter().map(|text| glob(text)).collect::<Result<Vec<GlobMatcher>, _>>()?;
    let mut matched = vec![false; globs.len()];
    let mut candidates = Vec::new();
    for (index, tensor) in standard.tensors().iter().enumerate().filter(|(_, tensor)| tensor.is_float()) {
        let mut hit = false;
        for (glob, matched) in globs.iter().zip(&mut matched) {
            let hits = glob.is_match(tensor.name());
            *matched |= hits;
            hit |= hits;
        }
        let named = if globs.is_empty() { !units.is_classifier(index) } else { hit };
        if named && tensor.shape().elements() > 0 && !(what.norms == Norms::None && units.norm(index) != Norm::No) {
            candidates.push(index);
        }
    }
    match matched.iter().position(|matched| !matched) {
        Some(at) => {
            let names = standard.tensors().iter().map(SourceTensor::name);
            Err(unmatched(format!("`--only {}`", what.only[at]), &what.only[at], names))
        }
        None => Ok(candidates),
    }
}

/// The layers as they were found, and the tensors to keep.
fn choose(
    units: &Units,
    candidates: &[usize],
    found: &[Found<'_>],
    what: &Extraction,
) -> Result<(Vec<LayerReport>, BTreeSet<usize>), Error> {
    let of = |index: &usize| candidates.binary_search(index).ok().and_then(|at| found.get(at));
    let weights = |tensors: &[usize]| -> Vec<&Found<'_>> {
        tensors.iter().filter(|index| units.norm(**index) == Norm::No).filter_map(of).collect()
    };
    // A layer is a unit with weights of more than one dimension.
    let is_layer = |(_, tensors): &&(String, Vec<usize>)| {
        weights(tensors).iter().any(|found| found.difference.standard.shape().dims().len() > 1)
    };
    let layers: Vec<&(String, Vec<usize>)> = units.units.iter().filter(is_layer).collect();
    let sums: Vec<Moments> = layers.iter().map(|(_, tensors)| total(&weights(tensors))).collect();
    let all: f64 = sums.iter().map(Moments::energy).sum();
    let kept = match what.layers {
        Layers::All => vec![true; layers.len()],
        Layers::First(count) if count == 0 || count > layers.len() => {
            let what =
                format!("`--layers {count}`: there are {} layers with weights that may be touched", layers.len());
            return Err(ErrorKind::Usage { what }.into());
        }
        Layers::First(count) => (0..layers.len()).map(|at| at < count).collect(),
        Layers::Energy(share) => by_energy(&sums, share * all),
    };
    let mut reports = Vec::with_capacity(layers.len());
    for (((name, tensors), sums), kept) in layers.iter().zip(&sums).zip(&kept) {
        reports.push(LayerReport {
            name: name.clone(),
            relative_difference: sums.relative_difference_squared().map(f64::sqrt),
            energy: if all > 0.0 { sums.energy() / all } else { 0.0 },
            weights: weights(tensors).iter().map(|found| found.elements() as u64).sum(),
            kept: *kept,
        });
    }
    let chosen: BTreeSet<&str> = reports.iter().filter(|layer| layer.kept).map(|layer| layer.name.as_str()).collect();
    let everything = what.layers == Layers::All;
    let mut tensors = BTreeSet::new();
    for (name, indices) in &units.units {
        let keep = |index: &&usize| match units.norm(**index) {
            Norm::No => everything || chosen.contains(name.as_str()),
            _ => everything || what.norms == Norms::All || chosen.contains(name.as_str()),
        };
        tensors.extend(indices.iter().filter(keep).filter(|index| of(index).is_some()));
    }
    Ok((reports, tensors))
}

fn total(found: &[&Found<'_>]) -> Moments {
    let mut total = Moments::default();
    found.iter().for_each(|found| total.merge(&found.moments));
    total
}

/// The fewest layers that have `needs` together.
fn by_energy(sums: &[Moments], needs: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..sums.len()).collect();
    order.sort_by(|a, b| sums[*b].energy().total_cmp(&sums[*a].energy()));
    let (mut kept, mut has) = (vec![false; sums.len()], 0.0);
    for at in order {
        if has >= needs {
            break;
        }
        has += sums[at].energy();
        kept[at] = true;
    }
    kept
}

/// One tensor of the three checkpoints.
struct Found<'a> {
    index: usize,
    kind: PatchKind,
    moments: Moments,
    difference: Difference<'a>,
}

impl<'a> Found<'a> {
    fn new(from: Checkpoints<'_, 'a>, index: usize, norm: Norm, interpolate: bool) -> Result<Self, Error> {
        let standard = &from.standard.tensors()[index];
        let robust = twin(standard, from.robust, "robust")?;
        let init = from.init.map(|init| twin(standard, init, "initial")).transpose()?;
        let mut difference = Difference {
            init: init.unwrap_or(standard).clone(),
            standard: standard.clone(),
            robust: robust.clone(),
            part: Part::Robust,
        };
        let moments = difference.moments()?;
        let kind = match norm {
            _ if interpolate => PatchKind::Blend,
            Norm::Statistic => PatchKind::Blend,
            Norm::Affine | Norm::No => PatchKind::Add,
        };
        difference.part = match norm {
            _ if kind == PatchKind::Blend => Part::Robust,
            Norm::Affine => Part::Off(1.0),
            _ => Part::Off(moments.coefficient()),
        };
        Ok(Self { index, kind, moments, difference })
    }

    fn elements(&self) -> usize {
        self.difference.standard.shape().elements()
    }

    fn tensor(&self, float: niwaki_tensors::Dtype) -> SourceTensor<'a> {
        let standard = &self.difference.standard;
        // Statistics and interpolated weights keep what their type held.
        let dtype = if self.kind == PatchKind::Blend { self.difference.robust.float_dtype() } else { float };
        SourceTensor::made(standard.name().to_owned(), dtype, *standard.shape(), Arc::new(self.difference.clone()))
    }
}

/// The tensor of the same name and shape.
fn twin<'s, 'a>(
    standard: &SourceTensor<'_>,
    other: &'s Source<'a>,
    which: &str,
) -> Result<&'s SourceTensor<'a>, Error> {
    let unlike = |what: String| Error::from(ErrorKind::Unlike { what }).of(standard.name()).at(other.opened().path());
    let twin = other.get(standard.name()).ok_or_else(|| unlike(format!("is not in the {which} checkpoint")))?;
    if twin.shape() != standard.shape() || !twin.is_float() {
        let (found, expected) = (twin.shape(), standard.shape());
        return Err(unlike(format!(
            "is {found} {} in the {which} checkpoint, {expected} floats expected",
            twin.dtype()
        )));
    }
    Ok(twin)
}

/// What becomes of the values of three tensors.
#[derive(Clone)]
struct Difference<'a> {
    init: SourceTensor<'a>,
    standard: SourceTensor<'a>,
    robust: SourceTensor<'a>,
    part: Part,
}

#[derive(Clone, Copy)]
enum Part {
    /// The robust weights.
    Robust,
    /// Their difference, less this much of the standard training.
    Off(f64),
}

impl Difference<'_> {
    fn moments(&self) -> Result<Moments, Error> {
        let elements = self.standard.shape().elements();
        let piece = |at: usize| -> Result<Moments, Error> {
            let range = at * BLOCK..((at + 1) * BLOCK).min(elements);
            let [init, standard, robust] = self.read(range)?;
            let mut total = Moments::default();
            for ((i, s), r) in init.chunks(RUN).zip(standard.chunks(RUN)).zip(robust.chunks(RUN)) {
                total.merge(&Moments::of(i, s, r));
            }
            Ok(total)
        };
        let pieces: Vec<_> = (0..elements.div_ceil(BLOCK)).into_par_iter().map(piece).collect();
        let mut total = Moments::default();
        for piece in pieces {
            total.merge(&piece?);
        }
        if !total.vv.is_finite() || !total.aa.is_finite() {
            let what = "holds NaN or infinite weights in one of the checkpoints".to_owned();
            return Err(Error::from(ErrorKind::Unlike { what }).of(self.standard.name()));
        }
        Ok(total)
    }

    fn read(&self, range: Range<usize>) -> Result<[Vec<f32>; 3], Error> {
        let read = |tensor: &SourceTensor<'_>| {
            let mut out = vec![0.0; range.len()];
            tensor.decode(range.clone(), &mut out).map(|()| out)
        };
        Ok([read(&self.init)?, read(&self.standard)?, read(&self.robust)?])
    }
}

impl Weights for Difference<'_> {
    fn decode(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        match self.part {
            Part::Robust => self.robust.decode(range, out),
            Part::Off(coefficient) => {
                let [init, standard, robust] = self.read(range)?;
                signature(&init, &standard, &robust, coefficient, out);
                Ok(())
            }
        }
    }

    fn ensure_unchanged(&self) -> Result<(), Error> {
        self.init.ensure_unchanged()?;
        self.standard.ensure_unchanged()?;
        self.robust.ensure_unchanged()
    }
}
