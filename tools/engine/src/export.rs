//! Compressed checkpoints as plain safetensors, and narrower ones of ours.

use std::fs::File;
use std::path::Path;

use niwaki_codes::Bits;
use niwaki_container::Sliced;
use niwaki_tensors::{Dtype, Entry, Layout, Writer, metadata_len};
use rayon::prelude::*;

use crate::compare::row_blocks;
use crate::compress::Options;
use crate::encode::narrowed;
use crate::error::{Error, ErrorKind};
use crate::source::{Opened, Source, SourceTensor};
use crate::target::{Target, file_error};

/// Writes plain safetensors: every tensor under its own name, decoded to the type it had.
/// Returns the bytes written. A folder gives a folder, as in [`compress`](crate::compress()).
///
/// # Errors
///
/// Those of reading and writing.
pub fn safetensors(source: &Source<'_>, out: &Path, options: &Options) -> Result<u64, Error> {
    source.check_complete()?;
    let target = Target::new(source, out, options)?;
    let outcome = write(source, &target.file, options);
    target.close(source, options, outcome)
}

/// Cuts an elastic checkpoint down to the widths up to `bits`. A folder gives a folder, as in
/// [`compress`](crate::compress()).
///
/// # Errors
///
/// Those of [`niwaki_container::slice`].
pub fn slice(source: &Source<'_>, bits: Bits, out: &Path, options: &Options) -> Result<Sliced, Error> {
    let Some(artifact) = source.opened().artifact() else {
        let format = if matches!(source.opened(), Opened::Onnx(_)) { "ONNX" } else { "GGUF" };
        let what = format!("is {format}; only elastic files of niwaki can be cut");
        return Err(Error::from(ErrorKind::Usage { what }).at(source.opened().path()));
    };
    let target = Target::new(source, out, options)?;
    let outcome = niwaki_container::slice(artifact, bits, &target.file, options.overwrite()).map_err(Error::from);
    let sliced = target.close(source, options, outcome)?;
    if options.durable {
        let synced = File::open(&target.file).and_then(|file| file.sync_all());
        synced.map_err(|e| file_error(&e, &target.file))?;
    }
    Ok(sliced)
}

fn write(source: &Source<'_>, out: &Path, options: &Options) -> Result<u64, Error> {
    let mut tensors: Vec<&SourceTensor<'_>> = source.tensors().iter().collect();
    // Wide types first, so that each element is aligned without pads between tensors.
    tensors.sort_by_key(|t| std::cmp::Reverse(exported(t).bitsize()));
    let entry = |t: &&SourceTensor<'_>| Entry {
        name: t.name().to_owned(),
        dtype: exported(t),
        shape: t.shape().dims().to_vec(),
    };
    let metadata = source.texts();
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let layout = Layout::exact(tensors.iter().map(entry).collect(), metadata_len(&metadata))?;
    let bytes = layout.file_bytes();
    let writer = Writer::create(out, layout, options.overwrite())?;
    options.pool()?.install(|| {
        tensors.iter().enumerate().try_for_each(|(index, tensor)| match tensor.elements() {
            Some(bytes) => Ok(writer.write_at(index, 0, bytes)?),
            None => decoded(tensor, &writer, index),
        })
    })?;
    writer.finish(&metadata, options.durable)?;
    Ok(bytes)
}

fn decoded(tensor: &SourceTensor<'_>, writer: &Writer, index: usize) -> Result<(), Error> {
    let (_, cols) = tensor.matrix();
    let dtype = exported(tensor);
    let size = dtype.bitsize() / 8;
    row_blocks(tensor.shape()).try_for_each(|rows| {
        let mut weights = vec![0.0; rows.len() * cols];
        tensor.decode(rows.start * cols..rows.end * cols, &mut weights)?;
        Ok(writer.write_at(index, (rows.start * cols * size) as u64, &narrowed(&weights, dtype))?)
    })
}

/// The type that a tensor is exported in: its own, or F16 for decoded weights that were
/// narrower, which holds all that those types hold.
fn exported(tensor: &SourceTensor<'_>) -> Dtype {
    match tensor.dtype() {
        dtype if tensor.elements().is_some() => dtype,
        dtype @ (Dtype::F64 | Dtype::F32 | Dtype::BF16) => dtype,
        _ => Dtype::F16,
    }
}
