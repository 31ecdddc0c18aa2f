//! Running statistics of a patched model, measured on data and kept with the patch.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use niwaki_codes::PatchKind;
use niwaki_container::{Artifact, Digest};
use niwaki_tensors::{Checkpoint, Dtype, Limits};

use super::about::About;
use super::identity;
use super::merge::merged;
use super::opened::{Patch, Signature};
use super::write::{Encoding, write};
use crate::compress::Options;
use crate::dataset::Dataset;
use crate::error::{Error, ErrorKind};
use crate::given::Given;
use crate::model::{Model, on_threads};
use crate::recalibrate::{graph_of, statistics};
use crate::source::{Names, Numbers, Opened, Source, SourceTensor};
use crate::target::file_error;

/// The last of `patches` with the running statistics that the model has on `data` once all of them are applied, instead
/// of any that the signature itself holds: they come and go with that patch. An alpha below 1 mixes them with the
/// checkpoint's own, as the released code of robust weight signatures (Cai, Zhang and Wang, 2023) mixes them with those
/// of the robust model.
///
/// The graph is that of `model`, by default of the checkpoint itself, which is then an ONNX model.
///
/// # Errors
///
/// No patch; an alpha outside of 0 to 1; models that do not run or have no running statistics; data that does not fit;
/// and those of [`overlaid`](super::overlaid).
pub fn recalibrated(
    opened: &Opened,
    patches: &[Patch<'_>],
    model: Option<&Path>,
    data: &Dataset,
    options: &Options,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Signature, Error> {
    let Some(last) = patches.last() else {
        return Err(ErrorKind::Usage { what: "no patch to recalibrate with".to_owned() }.into());
    };
    if !(0.0..=1.0).contains(&last.alpha) {
        let what = format!("recalibration with an alpha of {}: from 0 to 1 expected", last.alpha);
        let e = Error::from(ErrorKind::Usage { what });
        return Err(e.hinting("a variance beyond the measured one may be below 0"));
    }
    // What the patches may be applied to is for `apply` to say, which knows the checkpoint's stack.
    let seen: Vec<Patch<'_>> = patches.iter().map(|patch| Patch { transfer: true, ..*patch }).collect();
    let weights = model.map(|_| opened.path());
    let (model, _) = Model::of_file(graph_of(opened, model)?, Given { weights, patches: &seen, ..Given::default() })?;
    let measured = on_threads(options.threads, || statistics(&model, data.into(), progress))?;
    let mut about = last.signature.about().clone();
    let (source, stack) = (opened.source(None, Names::Own)?, merged(opened)?);
    let mut tensors = Vec::new();
    for (name, values) in measured {
        let Some(tensor) = source.get(&name) else {
            let what = "is a running statistic of the model, and not in the checkpoint".to_owned();
            return Err(Error::from(ErrorKind::Unlike { what }).of(&name).at(opened.path()));
        };
        about.touched.insert(name.clone(), original(&stack, &source, tensor)?);
        about.kinds.insert(name.clone(), PatchKind::Blend);
        tensors.push(SourceTensor::made(name, Dtype::F32, *tensor.shape(), Arc::new(Numbers(values))));
    }
    with(last.signature, tensors, &about, options)
}

/// The digest that a tensor has without the patches that are merged into it.
fn original(stack: &[Signature], source: &Source<'_>, tensor: &SourceTensor<'_>) -> Result<Option<Digest>, Error> {
    match stack.iter().find_map(|signature| signature.about().touched.get(tensor.name())) {
        Some(digest) => Ok(*digest),
        None => identity::of_tensor(source, tensor).map(Some),
    }
}

/// A signature with some tensors more, or instead of those that it has under their names.
fn with(
    signature: &Signature,
    tensors: Vec<SourceTensor<'_>>,
    about: &About,
    options: &Options,
) -> Result<Signature, Error> {
    let source = signature.source()?;
    let others = source.tensors().iter().filter(|old| tensors.iter().all(|new| new.name() != old.name()));
    let all = others.cloned().chain(tensors.iter().cloned()).collect();
    let folder = Scratch::new()?;
    let path = folder.0.join("recalibrated.safetensors");
    let options = Options { threads: options.threads, ..Options::default() };
    write(&source, all, about, &Encoding::default(), &path, (&options, &|_, _| {}))?;
    let bytes: Arc<[u8]> = fs::read(&path).map_err(|e| file_error(&e, &path))?.into();
    let limits = Limits::default();
    let artifact = Artifact::from_checkpoint(Checkpoint::from_bytes(signature.opened().path(), bytes, &limits)?)?;
    Signature::of(Opened::Tensors(Box::new(artifact)), signature.name().to_owned())
}

/// A folder that is there as long as it is needed.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("niwaki-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        // Fails where something of that name is: nobody else's files are written through.
        fs::create_dir(&path).map_err(|e| file_error(&e, &path))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be deleted is in the system's folder for temporary files, and small.
        let _ = fs::remove_dir_all(&self.0);
    }
}
