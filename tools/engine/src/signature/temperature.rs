//! The temperature of attention as a signature.
//!
//! `softmax(QKᵀ / (T √d))` is linear in the query weights, so dividing their rows by T (of some
//! heads: the rows of those) is exact. A power of two loses nothing at all.

use std::path::Path;
use std::sync::Arc;

use niwaki_codes::{PatchKind, Shape};
use niwaki_tensors::Dtype;
use serde_json::json;

use super::about::{About, Architecture, Method};
use super::identity;
use super::write::{Encoding, write};
use crate::compress::Options;
use crate::error::{Error, ErrorKind};
use crate::plan::glob;
use crate::recipe::unmatched;
use crate::report::Report;
use crate::source::{Numbers, Source, SourceTensor};

/// Which attention gets which temperature.
#[derive(Clone, Debug, PartialEq)]
pub struct Temperature {
    /// What logits are divided by; above 1 smooths, below 1 sharpens.
    pub value: f64,
    /// Globs of the query projections: weights and biases.
    pub queries: Vec<String>,
    /// The heads that are meant, and how many the rows of a projection are divided among; none
    /// for all of them.
    pub heads: Option<(Vec<usize>, usize)>,
}

/// Writes the signature that gives the attention of `source` another temperature.
///
/// # Errors
///
/// A temperature that is not above 0, globs that match nothing, rows that the heads do not divide,
/// projections whose output is normalized before it meets the keys (the edit would be cancelled),
/// and those of reading and writing.
pub fn temperature(
    source: &Source<'_>,
    what: &Temperature,
    out: &Path,
    options: &Options,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Report, Error> {
    if !(what.value > 0.0 && (1.0 / what.value).is_normal() && what.value.is_finite()) {
        let what = format!("the temperature is {}; a number above 0 is expected", what.value);
        return Err(ErrorKind::Usage { what }.into());
    }
    let mut chosen: Vec<&SourceTensor<'_>> = Vec::new();
    for text in &what.queries {
        let glob = glob(text)?;
        let hits: Vec<_> = source.tensors().iter().filter(|t| t.is_float() && glob.is_match(t.name())).collect();
        if hits.is_empty() {
            let names = source.tensors().iter().map(SourceTensor::name);
            return Err(unmatched(format!("`--queries {text}`"), text, names));
        }
        chosen.extend(hits);
    }
    chosen.sort_by_key(|tensor| tensor.name().to_owned());
    chosen.dedup_by_key(|tensor| tensor.name().to_owned());
    let digests = options.pool()?.install(|| identity::digests(source))?;
    let mut about = About {
        method: Method::Temperature,
        architecture: Architecture::of(source),
        base: Some(identity::checkpoint(&digests)),
        report: json!({"temperature": what.value, "heads": what.heads}),
        ..About::default()
    };
    let mut tensors = Vec::with_capacity(chosen.len());
    for tensor in chosen {
        let name = tensor.name();
        check_normalized(source, name)?;
        let rows = tensor.shape().dims().first().copied().unwrap_or(1);
        let factors = factors(what, rows).map_err(|e| e.of(name))?;
        about.kinds.insert(name.to_owned(), PatchKind::Scale);
        about.touched.insert(name.to_owned(), digests.get(name).copied());
        let shape = Shape::new(&[rows]).map_err(|e| Error::below(e, crate::error::Blame::Input))?;
        tensors.push(SourceTensor::made(name.to_owned(), Dtype::F32, shape, Arc::new(Numbers(factors))));
    }
    write(source, tensors, &about, &Encoding::default(), out, (options, progress))
}

/// Refuses query weights whose output is normalized: the norm takes the factor away again.
fn check_normalized(source: &Source<'_>, name: &str) -> Result<(), Error> {
    let mut parts = name.rsplitn(3, '.');
    let (_, module, parent) = (parts.next(), parts.next().unwrap_or_default(), parts.next());
    let Some(query) = module.strip_suffix("_proj") else { return Ok(()) };
    let norm = format!("{}{query}_norm.weight", parent.map(|parent| format!("{parent}.")).unwrap_or_default());
    if source.get(&norm).is_none() {
        return Ok(());
    }
    let what = format!("its output is normalized by `{norm}`, which cancels any factor");
    Err(Error::from(ErrorKind::Usage { what }).of(name).hinting(format!("`--queries {norm}` edits the norm's gain")))
}

/// The factor of each row.
fn factors(what: &Temperature, rows: usize) -> Result<Vec<f32>, Error> {
    let factor = (1.0 / what.value) as f32;
    let Some((heads, count)) = &what.heads else { return Ok(vec![factor; rows]) };
    let usage = |what: String| Error::from(ErrorKind::Usage { what });
    if *count == 0 || !rows.is_multiple_of(*count) {
        return Err(usage(format!("{rows} rows cannot be divided among {count} heads")));
    }
    if let Some(head) = heads.iter().find(|head| *head >= count) {
        return Err(usage(format!("head {head}: there are {count}, counted from 0")));
    }
    let each = rows / count;
    Ok((0..rows).map(|row| if heads.contains(&(row / each)) { factor } else { 1.0 }).collect())
}
