//! Compressed checkpoints in formats of others, and narrower ones of ours.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use niwaki_codes::Bits;
use niwaki_codes::simd::Level;
use niwaki_container::{Artifact, Kind, Part, Sliced, Tensor};
use niwaki_tensors::{Dtype, Entry, Layout, Writer, metadata_len};
use rayon::prelude::*;

use crate::compare::{check_bits, row_blocks};
use crate::compress::Options;
use crate::error::Error;
use crate::target::{Target, file_error};

/// Writes plain safetensors: every tensor under its own name, decoded to the type it had.
/// Elastic tensors are read at `bits`, by default at their widest. Returns the bytes written.
/// A folder gives a folder, as in [`compress`](crate::compress()).
///
/// # Errors
///
/// Those of reading and writing, and a width that a tensor does not serve.
pub fn safetensors(artifact: &Artifact, bits: Option<Bits>, out: &Path, options: &Options) -> Result<u64, Error> {
    check_bits(artifact, bits)?;
    let target = Target::new(artifact.checkpoint(), out, options)?;
    let outcome = write(artifact, bits, &target.file, options);
    target.close(artifact.checkpoint(), options, outcome)
}

/// Cuts an elastic checkpoint down to the widths up to `bits`. A folder gives a folder, as in
/// [`compress`](crate::compress()).
///
/// # Errors
///
/// Those of [`niwaki_container::slice`].
pub fn slice(artifact: &Artifact, bits: Bits, out: &Path, options: &Options) -> Result<Sliced, Error> {
    let target = Target::new(artifact.checkpoint(), out, options)?;
    let outcome = niwaki_container::slice(artifact, bits, &target.file, options.overwrite()).map_err(Error::from);
    let sliced = target.close(artifact.checkpoint(), options, outcome)?;
    if options.durable {
        let synced = File::open(&target.file).and_then(|file| file.sync_all());
        synced.map_err(|e| file_error(&e, &target.file))?;
    }
    Ok(sliced)
}

fn write(artifact: &Artifact, bits: Option<Bits>, out: &Path, options: &Options) -> Result<u64, Error> {
    let mut tensors: Vec<Tensor<'_>> = artifact.tensors().collect();
    // Wide types first, so that each element is aligned without pads between tensors.
    tensors.sort_by_key(|t| std::cmp::Reverse(exported(t).bitsize()));
    let entry =
        |t: &Tensor<'_>| Entry { name: t.name().to_owned(), dtype: exported(t), shape: t.shape().dims().to_vec() };
    let metadata = source_metadata(artifact);
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, *value)).collect();
    let layout = Layout::exact(tensors.iter().map(entry).collect(), metadata_len(&metadata))?;
    let bytes = layout.file_bytes();
    let writer = Writer::create(out, layout, options.overwrite())?;
    options.pool()?.install(|| {
        tensors.iter().enumerate().try_for_each(|(index, tensor)| match tensor.part(Part::Whole) {
            Some(bytes) => Ok(writer.write_at(index, 0, bytes)?),
            None => decoded(tensor, bits, &writer, index),
        })
    })?;
    writer.finish(&metadata, options.durable)?;
    Ok(bytes)
}

/// What the metadata of the source was.
fn source_metadata(artifact: &Artifact) -> BTreeMap<&str, &str> {
    let ours = artifact.metas().iter().flat_map(|meta| &meta.source_metadata);
    match artifact.kind() {
        Kind::Container => ours.map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        Kind::Plain => artifact.checkpoint().metadata(),
    }
}

fn decoded(tensor: &Tensor<'_>, bits: Option<Bits>, writer: &Writer, index: usize) -> Result<(), Error> {
    let (decoder, (_, cols)) = (tensor.at(bits)?, tensor.matrix());
    let dtype = exported(tensor);
    let size = dtype.bitsize() / 8;
    row_blocks(tensor.shape()).try_for_each(|rows| {
        let mut weights = vec![0.0; rows.len() * cols];
        decoder.dequantize_rows(Level::best(), rows.clone(), &mut weights)?;
        Ok(writer.write_at(index, (rows.start * cols * size) as u64, &narrowed(&weights, dtype))?)
    })
}

/// The type that a tensor is exported in: its own, or F16 for decoded weights that were
/// narrower, which holds all that those types hold.
fn exported(tensor: &Tensor<'_>) -> Dtype {
    match tensor.dtype() {
        dtype if tensor.layout().is_plain() => dtype,
        dtype @ (Dtype::F64 | Dtype::F32 | Dtype::BF16) => dtype,
        _ => Dtype::F16,
    }
}

/// Weights as `dtype`, rounded to nearest, ties to even.
fn narrowed(weights: &[f32], dtype: Dtype) -> Vec<u8> {
    fn each<const N: usize>(weights: &[f32], narrow: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
        weights.iter().flat_map(|w| narrow(*w)).collect()
    }
    match dtype {
        Dtype::F64 => each(weights, |w| f64::from(w).to_le_bytes()),
        Dtype::F32 => bytemuck::cast_slice(weights).to_vec(),
        Dtype::BF16 => each(weights, |w| half::bf16::from_f32(w).to_le_bytes()),
        _ => each(weights, |w| half::f16::from_f32(w).to_le_bytes()),
    }
}
