//! Checkpoints with zeros where a mask drops weights.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use niwaki_codes::Mask;
use niwaki_tensors::{Dtype, Limits, check_output};
use serde::Serialize;

use super::MaskFile;
use crate::compress::Options;
use crate::error::{Error, ErrorKind};
use crate::export;
use crate::model::{Model, on_threads};
use crate::progress::Progress;
use crate::recalibrate::{Recalibration, graph_of, statistics};
use crate::source::{Names, Numbers, Opened, Source, SourceTensor, Weights};
use crate::target::check_folder;
use crate::train::write_weights;

/// How masks are applied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Application<'a> {
    /// Images on which running statistics are measured anew, instead of those that go with the masks.
    pub recalibrate: Option<Recalibration<'a>>,
    /// The model whose graph they run through; by default the checkpoint, an ONNX model.
    pub model: Option<&'a Path>,
    /// Whether the masks may be for other weights of the same shapes.
    pub transfer: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Tensors that are masked.
    pub tensors: usize,
    /// Weights of theirs that are kept.
    pub kept: u64,
    /// All weights of theirs.
    pub weights: u64,
    /// Running statistics that are others than the checkpoint's.
    pub statistics: usize,
}

/// A tensor with zeros.
struct Masked<'a> {
    base: SourceTensor<'a>,
    mask: Mask,
}

impl Weights for Masked<'_> {
    fn decode(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        self.base.decode(range.clone(), out)?;
        let (view, cols) = (self.mask.view(), self.mask.cols().max(1));
        for (out, at) in out.iter_mut().zip(range) {
            if view.keeps(at / cols, at % cols) != Some(true) {
                *out = 0.0;
            }
        }
        Ok(())
    }

    fn ensure_unchanged(&self) -> Result<(), Error> {
        self.base.ensure_unchanged()
    }
}

/// Writes a checkpoint with zeros for the weights that masks drop, and the running statistics that go with them: an ONNX
/// model as ONNX where the output is named so, all else as safetensors, decoded.
///
/// # Errors
///
/// Masks of tensors that are not there, of other shapes, or of other weights unless that is allowed; those of measuring,
/// reading and writing.
pub fn apply(
    checkpoint: &Path,
    masks: &MaskFile,
    how: Application<'_>,
    (out, options): (&Path, &Options),
    progress: Progress<'_>,
) -> Result<Applied, Error> {
    let opened = Opened::open(checkpoint, &Limits::default())?;
    let source = opened.source(None, Names::Own)?;
    let (seen, [kept, weights]) = masked(&source, masks, how.transfer)?;
    let anew = match how.recalibrate {
        None => masks.statistics()?,
        Some(data) => measured(&opened, &seen, how.model, (data, options), progress)?,
    };
    let statistics = anew.len();
    write(&with_statistics(&seen, anew)?, (out, options))?;
    Ok(Applied { tensors: masks.names().len(), kept, weights, statistics })
}

/// Writes a checkpoint as it is seen: an ONNX model as ONNX where the output is named so, all else as safetensors, decoded.
fn write(seen: &Source<'_>, (out, options): (&Path, &Options)) -> Result<(), Error> {
    match seen.opened() {
        Opened::Onnx(_) => {
            let mut model = Model::open(seen.opened().path())?;
            model.replace(seen, |tensor| tensor.is_patched())?;
            write_weights(&model, out, options.overwrite())
        }
        _ => export::safetensors(seen, out, options).map(drop),
    }
}

/// Refuses an output of a checkpoint that cannot be written, before any work is done.
pub(super) fn check_place(checkpoint: &Path, (out, options): (&Path, &Options)) -> Result<(), Error> {
    let is_file = |end: &str| out.extension().is_some_and(|e| e.eq_ignore_ascii_case(end));
    if is_file("onnx") && !checkpoint.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
        let what = "is named `.onnx`, and the weights are of no ONNX model".to_owned();
        return Err(Error::from(ErrorKind::Usage { what }).at(out));
    }
    match checkpoint.is_dir() && !is_file("safetensors") {
        true => check_folder(out, options.replace).map(drop),
        false => Ok(check_output(out, options.overwrite())?),
    }
}

/// Writes a checkpoint with other weights, by name; all other tensors as they are.
///
/// # Errors
///
/// A name that the checkpoint does not have, or has in another size; those of reading and writing.
pub(super) fn write_with(
    checkpoint: &Path,
    weights: Vec<(String, Vec<f32>)>,
    place: (&Path, &Options),
) -> Result<(), Error> {
    let opened = Opened::open(checkpoint, &Limits::default())?;
    let source = opened.source(None, Names::Own)?;
    let mut tensors = source.tensors().to_vec();
    for (name, values) in weights {
        let wrong = |what: String| Error::from(ErrorKind::Unlike { what }).of(&name).at(checkpoint);
        let tensor = tensors.iter_mut().find(|tensor| tensor.name() == name);
        let tensor = tensor.ok_or_else(|| wrong("is not in the checkpoint".to_owned()))?;
        if tensor.shape().elements() != values.len() {
            return Err(wrong(format!("shape {}, {} weights expected", tensor.shape(), values.len())));
        }
        *tensor = tensor.remade(Arc::new(Numbers(values)));
    }
    write(&source.with_tensors(tensors, source.seals().clone()), place)
}

/// The checkpoint as the masks leave it, how many weights these keep, and of how many.
fn masked<'a>(source: &Source<'a>, masks: &MaskFile, transfer: bool) -> Result<(Source<'a>, [u64; 2]), Error> {
    let path = source.opened().path();
    let mut tensors = source.tensors().to_vec();
    let (mut kept, mut all) = (0, 0);
    for name in masks.names() {
        let Some(tensor) = tensors.iter_mut().find(|tensor| tensor.name() == name) else {
            let why = format!("the checkpoint `{}` has no such tensor", path.display());
            return Err(Error::from(ErrorKind::Mask { why }).of(name).at(&masks.path));
        };
        let mask = masks.mask(name, tensor.matrix())?;
        if !transfer && masks.is_for_others(name, tensor).map_err(|e| e.of(name).at(path))? {
            let why = format!("is for other weights than those of `{}`", path.display());
            let e = Error::from(ErrorKind::Mask { why }).of(name).at(&masks.path);
            return Err(e.hinting("`--transfer` masks other weights of the same shapes"));
        }
        kept += mask.view().kept() as u64;
        all += tensor.shape().elements() as u64;
        *tensor = tensor.remade(Arc::new(Masked { base: tensor.clone(), mask }));
    }
    Ok((source.with_tensors(tensors, source.seals().clone()), [kept, all]))
}

/// Running statistics that the masked model has on images.
fn measured(
    checkpoint: &Opened,
    seen: &Source<'_>,
    model: Option<&Path>,
    (data, options): (Recalibration<'_>, &Options),
    progress: Progress<'_>,
) -> Result<Vec<(String, Vec<f32>)>, Error> {
    let weights = model.map(|_| checkpoint.path());
    let (mut model, _) = Model::of_file(graph_of(checkpoint, model)?, weights)?;
    model.replace(seen, |tensor| tensor.is_patched())?;
    on_threads(options.threads, || statistics(&model, data, progress))
}

/// The checkpoint with other running statistics.
fn with_statistics<'a>(source: &Source<'a>, anew: Vec<(String, Vec<f32>)>) -> Result<Source<'a>, Error> {
    let mut tensors = source.tensors().to_vec();
    for (name, values) in anew {
        let wrong = |what: String| Error::from(ErrorKind::Unlike { what }).of(&name).at(source.opened().path());
        let tensor = tensors.iter_mut().find(|tensor| tensor.name() == name);
        let tensor = tensor.ok_or_else(|| wrong("a running statistic that is not in the checkpoint".to_owned()))?;
        if tensor.shape().elements() != values.len() || tensor.dtype() != Dtype::F32 {
            let (found, needs) = (tensor.shape(), values.len());
            return Err(wrong(format!("is {} {found}, {needs} F32 expected", tensor.dtype())));
        }
        *tensor = tensor.remade(Arc::new(Numbers(values)));
    }
    Ok(source.with_tensors(tensors, source.seals().clone()))
}
