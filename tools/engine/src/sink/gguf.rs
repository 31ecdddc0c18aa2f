//! A GGUF file.

use std::path::Path;

use niwaki_codes::simd::Level;
use niwaki_codes::{BlockType, Scheme};
use niwaki_gguf::{Entry, GgmlType, Layout, Metadata, Value, Writer};
use niwaki_quant::{Distortion, encode_block_rows};

use super::{Scratch, Work, elements, share};
use crate::blocks::{Block, Blocks};
use crate::compress::Options;
use crate::destination::{GgufSeats, Seat};
use crate::encode::{block_error, not_finite};
use crate::error::{Error, ErrorKind};
use crate::plan::{Plan, Planned};
use crate::progress::Progress;
use crate::recipe::Mix;
use crate::recontain::Plain;
use crate::report::{Report, TensorReport, Totals};
use crate::source::{Coded, Source, SourceTensor, ggml_of};

/// Key under which the recipe travels.
const RECIPE_KEY: &str = "niwaki.recipe";

/// Writes the plan as one GGUF file.
pub(crate) fn gguf(
    source: &Source<'_>,
    plan: &Plan,
    seats: &GgufSeats,
    out: &Path,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Report, Error> {
    let tensors: Vec<_> = plan.tensors.iter().map(|t| (t, seated(source, seats, t))).collect();
    let mut entries = Vec::new();
    for (planned, tensor) in &tensors {
        let dims = planned.layout.shape.dims().to_vec();
        entries.push(Entry { name: planned.written.clone(), dims, ggml_type: ggml(planned, tensor)? });
    }
    for extra in &seats.extra {
        let dims = vec![extra.values.len()];
        entries.push(Entry { name: extra.name.clone(), dims, ggml_type: GgmlType::F32 });
    }
    let layout = Layout::new(&metadata(plan, seats, &entries), &entries).map_err(|e| Error::from(e).at(out))?;
    let output_bytes = layout.file_bytes();
    let writer = Writer::create(out, layout, options.overwrite())?;
    let works = tensors.iter().enumerate().map(|(entry, (planned, tensor))| Item {
        planned,
        tensor,
        writer: &writer,
        entry,
        blocks: blocks(planned, tensor),
    });
    let lost = super::run(works.collect(), &options.pool()?, plan.bytes_before(), progress)?;
    for (nth, extra) in seats.extra.iter().enumerate() {
        writer.write_at(tensors.len() + nth, 0, bytemuck::cast_slice(&extra.values))?;
    }
    writer.finish(options.durable)?;
    let report = |(planned, lost): (&Planned, Option<Distortion>)| {
        TensorReport::new(planned, &lost.map(|lost| vec![(0, lost)]).unwrap_or_default())
    };
    Ok(Report {
        input_bytes: source.opened().file_bytes(),
        output_bytes,
        bits_per_weight: Totals::of(plan).bits_per_weight(),
        tensors: plan.tensors.iter().zip(lost).map(report).collect(),
        digest: None,
        damped: Vec::new(),
        resumed: 0,
    })
}

/// The tensor as it is read for its seat.
fn seated<'a>(source: &Source<'a>, seats: &GgufSeats, planned: &Planned) -> SourceTensor<'a> {
    let tensor = source.tensors()[planned.index].clone();
    match seats.seats.get(planned.index) {
        Some(Seat::Tensor { transform, .. }) => tensor.under(*transform),
        _ => tensor,
    }
}

fn ggml(planned: &Planned, tensor: &SourceTensor<'_>) -> Result<GgmlType, Error> {
    let kind = match (planned.layout.scheme, tensor.opaque()) {
        (Some(Scheme::Block(kind)), _) => GgmlType::from_name(kind.name()),
        (None, Some(kind)) => Some(kind),
        (None, None) => ggml_of(planned.layout.dtype),
        _ => None,
    };
    let held = || ErrorKind::Held { format: "GGUF", scheme: planned.layout.scheme_text() };
    kind.ok_or_else(|| Error::from(held()).of(&planned.name))
}

/// The metadata of the source, and what is known of the types now.
fn metadata(plan: &Plan, seats: &GgufSeats, entries: &[Entry]) -> Metadata {
    let mut metadata = seats.metadata.clone();
    let quantized = entries.iter().any(|entry| entry.ggml_type.block_elements() > 1);
    if !plan.recipe.rules.is_empty() || metadata.get("general.file_type").is_none() {
        metadata.set("general.file_type", Value::U32(file_type(plan, seats, entries)));
    }
    if quantized {
        metadata.set("general.quantization_version", Value::U32(2));
    }
    if !plan.recipe.rules.is_empty() {
        metadata.set(RECIPE_KEY, Value::Text(plan.recipe.to_string()));
    }
    metadata
}

/// llama.cpp's number for the mix of types, which is shown to people (engines go by the types
/// themselves): of another recipe than a mix that of the type that most weights of matrices
/// have.
fn file_type(plan: &Plan, seats: &GgufSeats, entries: &[Entry]) -> u32 {
    if let Some(mix) = Mix::of_recipe(&plan.recipe, &seats.facts()) {
        return mix.number();
    }
    let weights = |kind: GgmlType| -> usize {
        let of_kind = entries.iter().filter(|entry| entry.ggml_type == kind && entry.dims.len() > 1);
        of_kind.map(|entry| entry.dims.iter().product::<usize>()).sum()
    };
    let most = GgmlType::ALL.iter().copied().max_by_key(|kind| weights(*kind)).unwrap_or(GgmlType::F32);
    match most {
        GgmlType::F32 => 0,
        GgmlType::F16 => 1,
        GgmlType::BF16 => 32,
        kind => Mix::from_name(&kind.name().to_lowercase()).map_or(0, Mix::number),
    }
}

fn blocks(planned: &Planned, tensor: &SourceTensor<'_>) -> Blocks {
    let (rows, cols) = tensor.matrix();
    match planned.layout.scheme {
        _ if tensor.opaque().is_some() => Blocks::of_rows(1, planned.bytes_after as usize),
        // Codes come by whole rows.
        Some(_) if tensor.scheme().is_some() => Blocks::of_rows(rows, cols),
        Some(scheme) => Blocks::new(rows, cols, scheme),
        None => Blocks::of_runs(rows, cols),
    }
}

/// One tensor on its way into the file.
struct Item<'a> {
    planned: &'a Planned,
    tensor: &'a SourceTensor<'a>,
    writer: &'a Writer,
    entry: usize,
    blocks: Blocks,
}

impl Item<'_> {
    fn write(&self, at: usize, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.writer.write_at(self.entry, at as u64, bytes)?)
    }

    fn encode(&self, kind: BlockType, block: &Block, scratch: &mut Scratch) -> Result<Option<Distortion>, Error> {
        let (_, cols) = self.tensor.matrix();
        let start = block.start(cols);
        let at = start / kind.elements() * kind.bytes();
        if block.cols == (0..cols)
            && let Some(coded) = self.tensor.codes(block.rows.clone())?
        {
            match &coded {
                Coded::Blocks(has, bytes) if *has == kind => return self.write(at, bytes).map(|()| None),
                _ => {}
            }
            if let Some(bytes) = Plain::of(&coded, cols).and_then(|plain| plain.blocks(kind, cols)) {
                self.write(at, &bytes)?;
                return self.lost(kind, block, &bytes, scratch).map(Some);
            }
        }
        let Scratch { decoded, bytes } = scratch;
        let values = self.tensor.values(block.range(cols), decoded)?;
        bytes.resize(block.elements() / kind.elements() * kind.bytes(), 0);
        let row = block.cols.len();
        let measured = encode_block_rows(Level::best(), kind, values, row, bytes)
            .map_err(|e| block_error(e.offset(start, start / kind.elements()), &self.planned.name))?;
        self.write(at, bytes)?;
        Ok(Some(measured))
    }

    /// What codes lost that were laid out anew.
    fn lost(&self, kind: BlockType, block: &Block, bytes: &[u8], scratch: &mut Scratch) -> Result<Distortion, Error> {
        let (_, cols) = self.tensor.matrix();
        let start = block.start(cols);
        scratch.decoded.resize(block.elements(), 0.0);
        self.tensor.decode(block.range(cols), &mut scratch.decoded)?;
        if let Some(at) = scratch.decoded.iter().position(|x| !x.is_finite()) {
            return Err(not_finite(start + at, &self.planned.name));
        }
        let below = |e| Error::below(e, crate::error::Blame::Input);
        let view = niwaki_codes::BlockView::new(kind, block.rows.len(), cols, bytes).map_err(below)?;
        let mut again = vec![0.0; block.elements()];
        view.dequantize_rows(Level::best(), 0..block.rows.len(), &mut again).map_err(below)?;
        Ok(Distortion::between(&scratch.decoded, &again))
    }
}

impl Work for Item<'_> {
    fn items(&self) -> usize {
        self.blocks.len()
    }

    fn item(&self, index: usize, scratch: &mut Scratch) -> Result<Option<Distortion>, Error> {
        self.tensor.ensure_unchanged()?;
        let block = self.blocks.get(index);
        if self.tensor.opaque().is_some() && self.planned.layout.scheme.is_none() {
            let bytes = self.tensor.stored();
            return self.write(0, bytes.first().copied().unwrap_or_default()).map(|()| None);
        }
        let (_, cols) = self.tensor.matrix();
        match self.planned.layout.scheme {
            Some(Scheme::Block(kind)) => self.encode(kind, &block, scratch),
            _ => {
                let dtype = self.planned.layout.dtype;
                elements(self.tensor, dtype, block.range(cols), scratch, |at, bytes| self.write(at as usize, bytes))
            }
        }
    }

    fn bytes(&self, index: usize) -> u64 {
        share(self.planned, self.blocks.get(index).elements())
    }
}
