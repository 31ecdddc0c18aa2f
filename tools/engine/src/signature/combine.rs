//! Several signatures in one, and how alike they are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use niwaki_codes::{Mask, PatchKind, patch};
use niwaki_prune::{Pattern, Ratio};
use niwaki_quant::signature::combine::{Dare, add, elect};
use rayon::prelude::*;
use serde_json::json;

use super::about::{About, Method};
use super::opened::Patch;
use super::write::{Encoding, write};
use crate::blocks::BLOCK;
use crate::compress::Options;
use crate::error::{Blame, Error, ErrorKind};
use crate::masked::magnitude_mask;
use crate::report::Report;
use crate::source::{Source, SourceTensor, Weights};

/// How differences of several signatures become one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum How {
    /// Their sum, each alpha once.
    #[default]
    Sum,
    /// TIES: of each its largest magnitudes, one sign for each weight, the mean of those that have it.
    Ties {
        /// The share of magnitudes of each tensor that counts.
        density: Ratio,
    },
    /// DARE: weights dropped at random, the others scaled up, summed.
    Dare {
        /// The share that stays.
        density: Ratio,
        /// Seed of the draws.
        seed: u64,
    },
}

/// Writes one signature that stands for all of `patches`.
///
/// Weights that take the place of others are averaged by their alphas, factors are multiplied.
///
/// # Errors
///
/// Signatures of different architectures, tensors whose values mean different things in them, and
/// those of reading and writing.
pub fn combine(
    patches: &[Patch<'_>],
    how: How,
    encoding: &Encoding,
    out: &Path,
    options: &Options,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Report, Error> {
    let Some(first) = patches.first() else {
        return Err(ErrorKind::Usage { what: "no signature is given".to_owned() }.into());
    };
    let about = about(patches, how)?;
    let sources = patches.iter().map(|patch| patch.signature.source()).collect::<Result<Vec<_>, _>>()?;
    let mut tensors = Vec::with_capacity(about.touched.len());
    for name in about.touched.keys() {
        let parts: Vec<_> = (0..)
            .zip(patches.iter().zip(&sources))
            .filter_map(|(nth, (patch, source))| Some((nth, patch.alpha, source.get(name)?.clone())))
            .collect();
        let kind = about.kind(name);
        let Some((shape, own)) = parts.first().map(|(.., tensor)| (*tensor.shape(), tensor.float_dtype())) else {
            continue;
        };
        let dtype = if kind == PatchKind::Add { encoding.float } else { own };
        let combined = options.pool()?.install(|| Combined::new(name, kind, how, parts))?;
        tensors.push(SourceTensor::made(name.clone(), dtype, shape, Arc::new(combined)));
    }
    write(&first.signature.source()?, tensors, &about, encoding, out, (options, progress))
}

fn about(patches: &[Patch<'_>], how: How) -> Result<About, Error> {
    let Some(first) = patches.first().map(|patch| patch.signature.about()) else { return Ok(About::default()) };
    let mut all = About { method: Method::Combination, ..first.clone() };
    for patch in patches {
        let (about, path) = (patch.signature.about(), patch.signature.opened().path());
        if !patch.alpha.is_finite() {
            return Err(
                ErrorKind::Usage { what: format!("alpha is {}; a finite number is expected", patch.alpha) }.into()
            );
        }
        if let Some((name, dims)) =
            about.architecture.0.iter().find(|(name, dims)| first.architecture.0.get(*name) != Some(dims))
        {
            let what = format!("dimensions {dims:?}, {:?} expected", first.architecture.0.get(name));
            return Err(Error::from(ErrorKind::Architecture { what }).of(name).at(path));
        }
        all.base = all.base.filter(|base| about.base == Some(*base));
        all.init = all.init.filter(|init| about.init == Some(*init));
        for (name, digest) in &about.touched {
            if first.touched.contains_key(name) || all.touched.contains_key(name) {
                if all.kind(name) != about.kind(name) {
                    let (a, b) = (all.kind(name).name(), about.kind(name).name());
                    let what = format!("values mean `{b}`, `{a}` expected as in the other signatures");
                    return Err(Error::from(ErrorKind::Unlike { what }).of(name).at(path));
                }
            } else if about.kind(name) != PatchKind::Add {
                all.kinds.insert(name.clone(), about.kind(name));
            }
            // Made for different weights: for none that is known.
            let known = all.touched.entry(name.clone()).or_insert(*digest);
            *known = known.filter(|known| *digest == Some(*known));
        }
    }
    let how = match how {
        How::Sum => json!({"how": "sum"}),
        How::Ties { density } => json!({"how": "ties", "density": density.get()}),
        How::Dare { density, seed } => json!({"how": "dare", "density": density.get(), "seed": seed}),
    };
    let of: Vec<_> = patches
        .iter()
        .map(|patch| json!({"alpha": patch.alpha, "digest": patch.signature.digest_of_contents().to_string()}))
        .collect();
    all.report = json!({"combination": how, "signatures": of});
    Ok(all)
}

/// One tensor of several signatures.
struct Combined<'a> {
    kind: PatchKind,
    parts: Vec<Share<'a>>,
    elects: bool,
}

struct Share<'a> {
    alpha: f64,
    tensor: SourceTensor<'a>,
    trim: Trim,
}

/// Which of its values count.
enum Trim {
    All,
    Largest(Mask),
    Drawn(Dare),
}

impl<'a> Combined<'a> {
    fn new(name: &str, kind: PatchKind, how: How, parts: Vec<(u64, f64, SourceTensor<'a>)>) -> Result<Self, Error> {
        let mut shares = Vec::with_capacity(parts.len());
        for (nth, alpha, tensor) in parts {
            let trim = match how {
                _ if kind != PatchKind::Add => Trim::All,
                How::Sum => Trim::All,
                How::Ties { density } => {
                    Trim::Largest(magnitude_mask(&tensor, &Pattern::Keep(density), &mut Vec::new())?)
                }
                How::Dare { density, seed } => {
                    // A stream for each tensor of each signature.
                    let stream = niwaki_container::Digest::of(format!("{nth}\0{name}").as_bytes());
                    let stream = stream.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                    Trim::Drawn(Dare::new(seed, stream, density.get()))
                }
            };
            shares.push(Share { alpha, tensor, trim });
        }
        Ok(Self { kind, parts: shares, elects: matches!(how, How::Ties { .. }) && kind == PatchKind::Add })
    }
}

impl Share<'_> {
    fn decode(&self, range: &Range<usize>) -> Result<Vec<f32>, Error> {
        let mut values = vec![0.0; range.len()];
        self.tensor.decode(range.clone(), &mut values)?;
        let (_, cols) = self.tensor.matrix();
        match &self.trim {
            Trim::All => {}
            Trim::Largest(mask) => {
                for (value, at) in values.iter_mut().zip(range.clone()) {
                    let (row, col) = (at / cols, at % cols);
                    let byte = mask.bytes().get(row * cols.div_ceil(8) + col / 8).copied().unwrap_or(0);
                    if byte >> (col % 8) & 1 == 0 {
                        *value = 0.0;
                    }
                }
            }
            Trim::Drawn(dare) => {
                for (value, at) in values.iter_mut().zip(range.clone()) {
                    *value = (f64::from(*value) * dare.factor(at as u64)) as f32;
                }
            }
        }
        Ok(values)
    }
}

impl Weights for Combined<'_> {
    fn decode(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        let values = self.parts.iter().map(|part| part.decode(&range)).collect::<Result<Vec<_>, _>>()?;
        if self.elects {
            let scaled =
                |(part, values): (&Share<'_>, &Vec<f32>)| values.iter().map(|x| part.alpha * f64::from(*x)).collect();
            elect(&self.parts.iter().zip(&values).map(scaled).collect::<Vec<Vec<f64>>>(), out);
            return Ok(());
        }
        let start = if self.kind == PatchKind::Scale { 1.0 } else { 0.0 };
        let mut total = vec![start; range.len()];
        let alphas: f64 = self.parts.iter().map(|part| part.alpha).sum();
        for (part, values) in self.parts.iter().zip(&values) {
            match self.kind {
                PatchKind::Add => add(part.alpha, values, &mut total),
                PatchKind::Blend => add(part.alpha / alphas, values, &mut total),
                PatchKind::Scale => {
                    total.iter_mut().zip(values).for_each(|(total, f)| *total *= patch::factor(part.alpha, *f));
                }
            }
        }
        if let Some(at) = total.iter().position(|x| !x.is_finite()) {
            let what = "the alphas of averaged weights sum to 0, or the sum is beyond f32".to_owned();
            let name = self.parts.first().map_or("", |part| part.tensor.name());
            return Err(Error::from(ErrorKind::Below {
                what: format!("tensor `{name}`: weight {}: {what}", range.start + at),
                blame: Blame::Caller,
            })
            .of(name));
        }
        out.iter_mut().zip(&total).for_each(|(out, x)| *out = *x as f32);
        Ok(())
    }

    fn ensure_unchanged(&self) -> Result<(), Error> {
        self.parts.iter().try_for_each(|part| part.tensor.ensure_unchanged())
    }
}

/// The cosine of each pair of signatures over all differences; tensors that one of them lacks are
/// zero there. None where a signature is zero.
///
/// # Errors
///
/// Signatures that give a tensor different shapes, and those of reading.
pub fn similarity(patches: &[Patch<'_>], options: &Options) -> Result<Vec<Vec<Option<f64>>>, Error> {
    let sources = patches.iter().map(|patch| patch.signature.source()).collect::<Result<Vec<_>, _>>()?;
    let differences = |(patch, source): (&Patch<'_>, &Source<'_>)| -> Vec<(String, usize)> {
        let add = source.tensors().iter().filter(|t| patch.signature.about().kind(t.name()) == PatchKind::Add);
        add.map(|tensor| (tensor.name().to_owned(), tensor.shape().elements())).collect()
    };
    let mut sizes: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (name, size) in patches.iter().zip(&sources).flat_map(differences) {
        sizes.entry(name).or_default().insert(size);
    }
    let count = patches.len();
    let mut gram = vec![0.0; count * count];
    let pool = options.pool()?;
    for (name, sizes) in sizes {
        let (Some(elements), 1) = (sizes.first().copied(), sizes.len()) else {
            return Err(
                Error::from(ErrorKind::Unlike { what: "has different shapes in the signatures".to_owned() }).of(&name)
            );
        };
        let piece = |at: usize| -> Result<Vec<f64>, Error> {
            let range = at * BLOCK..((at + 1) * BLOCK).min(elements);
            let read = |source: &Source<'_>| {
                let mut values = vec![0.0; range.len()];
                source.get(&name).map_or(Ok(()), |tensor| tensor.decode(range.clone(), &mut values)).map(|()| values)
            };
            let values = sources.iter().map(read).collect::<Result<Vec<Vec<f32>>, _>>()?;
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            Ok((0..count * count).map(|at| dot(&values[at / count], &values[at % count])).collect())
        };
        let pieces: Vec<_> = pool.install(|| (0..elements.div_ceil(BLOCK)).into_par_iter().map(piece).collect());
        for piece in pieces {
            gram.iter_mut().zip(piece?).for_each(|(total, x)| *total += x);
        }
    }
    let cosine = |a: usize, b: usize| {
        let norms = (gram[a * count + a] * gram[b * count + b]).sqrt();
        (norms > 0.0).then(|| (gram[a * count + b] / norms).clamp(-1.0, 1.0))
    };
    Ok((0..count).map(|a| (0..count).map(|b| cosine(a, b)).collect()).collect())
}
