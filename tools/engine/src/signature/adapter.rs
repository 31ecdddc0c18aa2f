//! Low-rank adapters of PEFT as signatures, and signatures as such adapters.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use niwaki_codes::simd::Level;
use niwaki_codes::{PatchKind, Shape};
use niwaki_quant::signature::low_rank::{Factors, low_rank};
use niwaki_tensors::{Dtype, Limits, TensorView, decodes_to_f32};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;

use super::about::{About, Architecture, Method};
use super::identity;
use super::opened::Signature;
use super::peft::{Adapter, Layer, LowRank, Module, write as write_adapter};
use super::write::{Encoding, write};
use crate::compress::Options;
use crate::error::{Blame, Error, ErrorKind};
use crate::report::Report;
use crate::source::{Source, SourceTensor, Weights};

/// Writes the adapter at `adapter` as a signature for `base`: differences are added, and tensors
/// that were trained whole take the place of the base model's.
///
/// # Errors
///
/// Those of [`Adapter::open`]; adapters for tensors that `base` does not have, or of other shapes;
/// and those of reading and writing.
pub fn import(
    adapter: &Path,
    base: &Source<'_>,
    encoding: &Encoding,
    out: &Path,
    options: &Options,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Report, Error> {
    let adapter = Adapter::open(adapter, &Limits::default())?;
    let digests = options.pool()?.install(|| identity::digests(base))?;
    let mut about = About {
        method: Method::Adapter,
        architecture: Architecture::of(base),
        base: Some(identity::checkpoint(&digests)),
        report: json!({"base_model": adapter.base_model()}),
        ..About::default()
    };
    let path = adapter.checkpoint().path();
    let mut tensors: Vec<SourceTensor<'_>> = Vec::new();
    for (name, view) in adapter.replaced() {
        let target = target(base, name, view.shape(), path)?;
        about.kinds.insert(name.to_owned(), PatchKind::Blend);
        let added = adapter.differences().iter().find(|difference| difference.tensor() == name);
        let dtype = if decodes_to_f32(view.dtype()) { view.dtype() } else { Dtype::F32 };
        let whole = Whole { view, added: added.cloned() };
        tensors.push(SourceTensor::made(name.to_owned(), dtype, *target.shape(), Arc::new(whole)));
    }
    for difference in adapter.differences() {
        let name = difference.tensor();
        if about.kinds.contains_key(name) {
            continue;
        }
        // PEFT looks at the layer to see whether it stores its weight transposed; here the shape tells.
        let turned = base.get(name).is_some_and(|tensor| tensor.shape().dims() != difference.shape().dims());
        let difference = if turned { difference.transposed()? } else { difference.clone() };
        let target = target(base, name, difference.shape().dims(), path)?;
        tensors.push(SourceTensor::made(
            name.to_owned(),
            encoding.float,
            *target.shape(),
            Arc::new(Difference(difference)),
        ));
    }
    tensors.sort_by_key(|tensor| tensor.name().to_owned());
    about.touched = tensors.iter().map(|t| (t.name().to_owned(), digests.get(t.name()).copied())).collect();
    write(base, tensors, &about, encoding, out, (options, progress))
}

/// The tensor of the base that an adapter's belongs to.
fn target<'s, 'a>(
    base: &'s Source<'a>,
    name: &str,
    dims: &[usize],
    path: &Path,
) -> Result<&'s SourceTensor<'a>, Error> {
    let wrong = |why: String| Error::from(ErrorKind::Adapter { why }).of(name).at(path);
    let tensor = base.get(name).ok_or_else(|| wrong("is not in the base checkpoint".to_owned()))?;
    if tensor.shape().dims() != dims {
        let found = Shape::new(dims).map_or_else(|e| e.to_string(), |shape| shape.to_string());
        return Err(wrong(format!("is {found}, {} expected as in the base checkpoint", tensor.shape())));
    }
    Ok(tensor)
}

/// A difference of low rank.
struct Difference(LowRank);

impl Weights for Difference {
    fn decode(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        rows(&self.0, range, out)
    }

    fn ensure_unchanged(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// The elements `range` of a difference: whole rows are computed.
fn rows(difference: &LowRank, range: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
    let cols = (difference.shape().elements() / difference.shape().rows().max(1)).max(1);
    let rows = range.start / cols..range.end.div_ceil(cols);
    let mut all = vec![0.0; rows.len() * cols];
    difference.rows(rows.clone(), &mut all)?;
    let first = range.start - rows.start * cols;
    out.copy_from_slice(all.get(first..first + range.len()).unwrap_or_default());
    Ok(())
}

/// A tensor that was trained whole, and what an adapter adds to it.
struct Whole<'a> {
    view: TensorView<'a>,
    added: Option<LowRank>,
}

impl Weights for Whole<'_> {
    fn decode(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        self.view.decode_f32(range.clone(), out)?;
        if let Some(added) = &self.added {
            let mut values = vec![0.0; out.len()];
            rows(added, range, &mut values)?;
            out.iter_mut().zip(values).for_each(|(out, x)| *out += x);
        }
        Ok(())
    }

    fn ensure_unchanged(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// What an export to PEFT did.
#[derive(Clone, Debug, Serialize)]
pub struct Exported {
    /// The matrices.
    pub tensors: Vec<ExportedTensor>,
    /// Tensors of the signature that an adapter has no place for.
    pub left_out: Vec<String>,
    /// Bytes of the adapter's weights.
    pub output_bytes: u64,
}

/// One matrix of an adapter.
#[derive(Clone, Debug, Serialize)]
pub struct ExportedTensor {
    /// Its name.
    pub name: String,
    /// Rank of the factors.
    pub rank: usize,
    /// ‖difference − product‖ / ‖difference‖.
    pub relative_error: f64,
}

/// Writes the differences of a signature as an adapter of PEFT: of each matrix the nearest of rank
/// `rank`, or less where it has fewer rows or columns.
///
/// # Errors
///
/// A signature without differences of matrices, and those of reading and writing.
pub fn export_peft(
    signature: &Signature,
    rank: usize,
    dtype: Dtype,
    out: &Path,
    options: &Options,
) -> Result<Exported, Error> {
    let source = signature.source()?;
    let is_matrix = |tensor: &&SourceTensor<'_>| {
        signature.about().kind(tensor.name()) == PatchKind::Add
            && matches!(tensor.shape().dims().len(), 2 | 4)
            && tensor.name().ends_with(".weight")
    };
    let (matrices, rest): (Vec<_>, Vec<_>) = source.tensors().iter().partition(is_matrix);
    if matrices.is_empty() {
        let what = "has no difference of a matrix called `….weight`; adapters hold nothing else".to_owned();
        return Err(Error::from(ErrorKind::Patch { what }).at(signature.opened().path()));
    }
    let factor = |tensor: &&SourceTensor<'_>| -> Result<(Factors, usize), Error> {
        let (rows, cols) = tensor.matrix();
        let rank = rank.min(rows).min(cols);
        let read = |range: Range<usize>, out: &mut [f32]| tensor.decode(range.start * cols..range.end * cols, out);
        let factors = low_rank(Level::best(), (rows, cols), rank, |range, out| read(range, out).map_err(Failed::Read));
        match factors {
            Ok(factors) => Ok((factors, rank)),
            Err(Failed::Read(error)) => Err(error),
            Err(Failed::Factors(error)) => Err(Error::below(error, Blame::Caller).of(tensor.name())),
        }
    };
    let found: Vec<_> = options.pool()?.install(|| matrices.par_iter().map(factor).collect());
    let found = found.into_iter().collect::<Result<Vec<_>, _>>()?;
    let modules: Vec<Module<'_>> = matrices
        .iter()
        .zip(&found)
        .map(|(tensor, (factors, rank))| Module {
            tensor: tensor.name(),
            shape: tensor.shape().dims(),
            layer: if tensor.name().contains("embed") { Layer::Embedding } else { Layer::Linear },
            rank: *rank,
            b: &factors.b,
            a: &factors.a,
        })
        .collect();
    let output_bytes = write_adapter(out, &modules, dtype, options)?;
    let tensors = matrices.iter().zip(&found).map(|(tensor, (factors, rank))| ExportedTensor {
        name: tensor.name().to_owned(),
        rank: *rank,
        relative_error: factors.relative_error,
    });
    Ok(Exported {
        tensors: tensors.collect(),
        left_out: rest.iter().map(|tensor| tensor.name().to_owned()).collect(),
        output_bytes,
    })
}

/// Why a matrix has no factors.
enum Failed {
    Read(Error),
    Factors(niwaki_quant::Error),
}

impl From<niwaki_quant::Error> for Failed {
    fn from(error: niwaki_quant::Error) -> Self {
        Self::Factors(error)
    }
}
