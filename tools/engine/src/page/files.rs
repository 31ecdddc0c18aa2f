//! Checkpoints, signatures, masks, elastic networks and recipes.

use std::path::Path;

use niwaki_codes::simd::Level;
use niwaki_container::{Artifact, Kind, Tensor};
use niwaki_quant::wdr::{Deviation, Distribution};
use niwaki_tensors::{Checkpoint, Limits, decodes_to_f32};

use super::answers;
use super::section::{Cell, Column, Section, Size, Table, bytes, number, shape};
use crate::elastic::ElasticFile;
use crate::error::Error;
use crate::inspect::inspect;
use crate::mask::MaskFile;
use crate::recipe::{Action, Recipe};
use crate::signature::Signature;
use crate::source::Opened;

/// Weights of a tensor at most of which the distribution is looked at.
const LOOKED_AT: usize = 1 << 26;

/// What is in a checkpoint, or in a file of ours in its format.
pub(super) fn checkpoint(name: String, path: &Path) -> Result<Section, Error> {
    let opened = Opened::open(path, &Limits::default())?;
    let section = match opened.artifact() {
        Some(artifact) if artifact.kind() == Kind::Container => match artifact.metas() {
            [meta] if meta.signature.is_some() => signature(path)?,
            _ => compressed(artifact),
        },
        Some(artifact) if says(artifact.checkpoint(), "niwaki.elastic") => elastic(path)?,
        Some(artifact) if is_mask(artifact.checkpoint()) => masks(path)?,
        _ => inventory(&opened)?,
    };
    Ok(Section { name, ..section })
}

fn says(checkpoint: &Checkpoint, key: &str) -> bool {
    checkpoint.metadata().contains_key(key)
}

fn is_mask(checkpoint: &Checkpoint) -> bool {
    says(checkpoint, "niwaki.mask") || checkpoint.tensors().any(|view| view.name().ends_with(".mask"))
}

/// A container: its report, and which weights it keeps.
fn compressed(artifact: &Artifact) -> Section {
    // Of shards each has a report of its own tensors.
    let mut sections = artifact.metas().iter().map(|meta| answers::compress(&meta.report));
    let mut section = sections.next().unwrap_or_default();
    let (after, elements) = (artifact.tensors().map(|t| t.bytes()).sum::<u64>(), weights(artifact.tensors()));
    for more in sections {
        for (table, more) in section.tables.iter_mut().zip(more.tables) {
            table.rows.extend(more.rows);
        }
    }
    if artifact.metas().len() > 1 {
        let bits = after as f64 * 8.0 / (elements.max(1)) as f64;
        section.facts = vec![
            ("files", artifact.metas().len().to_string()),
            ("bytes", bytes(after as f64)),
            ("bits a weight", number(bits)),
        ];
        section.plots.clear();
        section.size = Some(Size { before: None, bytes: after, bits });
    }
    let kept = |tensor: &Tensor<'_>| {
        let kept = tensor.layout().kept?;
        Some((tensor.name().to_owned(), kept.weights as f64, tensor.shape().elements() as f64))
    };
    let kept: Vec<_> = artifact.tensors().filter_map(|tensor| kept(&tensor)).collect();
    if !kept.is_empty() {
        section.tables.extend(answers::densities_of(kept.into_iter()).tables);
    }
    let digest = artifact.digest().map(|digest| digest.to_string().chars().take(16).collect());
    section.facts.extend(digest.map(|digest| ("digest", digest)));
    let meta = artifact.metas().first();
    section.text = meta.and_then(|meta| meta.recipe.clone());
    section.tables.extend(meta.and_then(patches));
    section
}

fn weights<'a>(tensors: impl Iterator<Item = Tensor<'a>>) -> u64 {
    tensors.map(|tensor| tensor.shape().elements() as u64).sum()
}

/// The signatures that were merged.
fn patches(meta: &niwaki_container::Meta) -> Option<Table> {
    let row = |patch: &niwaki_container::Patch| {
        vec![
            Cell::text(patch.name.clone()),
            Cell::text(number(patch.alpha)),
            Cell::bar(Some(patch.bytes as f64), bytes),
        ]
    };
    let columns = vec![Column::Text("patch"), Column::Number("alpha"), Column::Number("size")];
    let rows: Vec<_> = meta.patches.iter().map(row).collect();
    (!rows.is_empty()).then(|| Table { title: "Merged patches".to_owned(), columns, rows })
}

fn signature(path: &Path) -> Result<Section, Error> {
    let signature = Signature::open(path, &Limits::default())?;
    let about = signature.about();
    let mut section = answers::signature(&about.report);
    section.facts = vec![
        ("method", about.method.name().to_owned()),
        ("tensors", about.touched.len().to_string()),
        ("size", bytes(signature.bytes().len() as f64)),
    ];
    Ok(section)
}

fn masks(path: &Path) -> Result<Section, Error> {
    let file = MaskFile::open(path)?;
    let names = file.names();
    let counted = names.iter().map(|name| {
        let mask = file.own(name)?;
        Ok(((*name).to_owned(), mask.kept() as f64, (mask.rows() * mask.cols()) as f64))
    });
    let counted = counted.collect::<Result<Vec<_>, Error>>()?;
    Ok(Section { kind: "masks".to_owned(), ..answers::densities_of(counted.into_iter()) })
}

/// Weights that run at many widths: how they are distributed.
fn elastic(path: &Path) -> Result<Section, Error> {
    let file = ElasticFile::open(path)?;
    let mut rows = Vec::new();
    for name in file.layers() {
        let Some(view) = file.checkpoint().get(name) else { continue };
        let kurtosis = distribution(&view)?;
        rows.push(vec![
            Cell::text(name),
            Cell::text(shape(view.shape().iter().map(|dim| *dim as u64))),
            Cell::bar(kurtosis.map(|of| of.kurtosis), number),
            Cell::bar(kurtosis.map(|of| of.skewness), number),
        ]);
    }
    let columns =
        vec![Column::Text("layer"), Column::Text("shape"), Column::Number("kurtosis"), Column::Number("skewness")];
    let title = "Distribution of weights (uniform: kurtosis 1.8; normal: 3)".to_owned();
    Ok(Section {
        kind: "elastic network".to_owned(),
        facts: vec![
            ("widths", file.widths().to_string()),
            ("layers", rows.len().to_string()),
            ("bytes", bytes(file.checkpoint().data_bytes() as f64)),
        ],
        tables: vec![Table { title, columns, rows }],
        ..Section::default()
    })
}

/// How the weights of a tensor are distributed; none where they are no floats, or too many to look at.
fn distribution(view: &niwaki_tensors::TensorView<'_>) -> Result<Option<Distribution>, Error> {
    if !decodes_to_f32(view.dtype()) || view.elements() > LOOKED_AT {
        return Ok(None);
    }
    let mut weights = vec![0.0; view.elements()];
    view.decode_f32(0..weights.len(), &mut weights)?;
    // Weights that are not finite have no distribution.
    Ok(Distribution::of(Level::best(), &weights, Deviation::Biased).unwrap_or_default())
}

/// Anything else: what is in it.
fn inventory(opened: &Opened) -> Result<Section, Error> {
    let found = inspect(opened)?;
    let row = |tensor: &crate::inspect::TensorInspection| {
        vec![
            Cell::text(tensor.name.clone()),
            Cell::text(shape(tensor.shape.iter().map(|dim| *dim as u64))),
            Cell::text(tensor.scheme.clone().unwrap_or_else(|| tensor.dtype.clone())),
            Cell::bar(Some(tensor.bytes as f64), bytes),
        ]
    };
    let columns =
        vec![Column::Text("tensor"), Column::Text("shape"), Column::Text("stored as"), Column::Number("bytes")];
    let rows = found.tensors.iter().map(row).collect();
    let mut facts = vec![("weights", number(found.parameters as f64)), ("bytes", bytes(found.bytes as f64))];
    facts.extend(found.macs.map(|macs| ("multiply-accumulates", number(macs as f64))));
    let bits = found.bytes as f64 * 8.0 / found.parameters.max(1) as f64;
    Ok(Section {
        kind: format!("checkpoint ({})", found.kind),
        facts,
        tables: vec![Table { title: "Size of each tensor".to_owned(), columns, rows }],
        size: Some(Size { before: None, bytes: found.bytes, bits }),
        ..Section::default()
    })
}

/// The rules of a recipe.
pub(super) fn recipe(name: String, recipe: &Recipe) -> Result<Section, Error> {
    let row = |rule: &crate::recipe::Rule| {
        let (kind, scheme, fit) = match &rule.action {
            Action::Keep => ("keep", "–".to_owned(), "–".to_owned()),
            Action::Encode { scheme, fit, .. } => ("encode", scheme.to_string(), fit.to_string()),
            Action::Mask(_) => ("mask", "–".to_owned(), "–".to_owned()),
        };
        vec![Cell::text(rule.tensors.clone()), Cell::text(kind), Cell::text(scheme), Cell::text(fit)]
    };
    let columns = vec![Column::Text("tensors"), Column::Text("rule"), Column::Text("scheme"), Column::Text("fit")];
    let rows = recipe.rules.iter().map(row).collect();
    Ok(Section {
        name,
        kind: "recipe".to_owned(),
        facts: vec![("rules", recipe.rules.len().to_string())],
        tables: vec![Table { title: "Rules; the last that matches holds".to_owned(), columns, rows }],
        text: Some(recipe.to_string()),
        ..Section::default()
    })
}
