//! Safetensors of ours that say under a key of their metadata what they are, and hold tensors of floats.

use std::fmt::Display;

use niwaki_tensors::{Checkpoint, Dtype, TensorView};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind};

/// What a file says of itself under a key; `made` says in a hint how there are such files.
///
/// # Errors
///
/// A file that does not say it, says it otherwise, or is of another version than 1.
pub(crate) fn about<T: DeserializeOwned>(
    checkpoint: &Checkpoint,
    (key, made): (&str, &str),
    version: fn(&T) -> u32,
) -> Result<T, Error> {
    let wrong = |what: String| Error::from(ErrorKind::Unlike { what }).at(checkpoint.path());
    let metadata = checkpoint.metadata();
    let text = metadata.get(key).ok_or_else(|| wrong(format!("no `{key}` in its metadata")).hinting(made))?;
    let about: T = serde_json::from_str(text).map_err(|e| wrong(format!("`{key}` of its metadata: {e}")))?;
    match version(&about) {
        1 => Ok(about),
        version => Err(wrong(format!("version {version}, 1 expected"))),
    }
}

/// What a file is to say of itself.
///
/// # Errors
///
/// What JSON cannot say.
pub(crate) fn text(about: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(about).map_err(|e| ErrorKind::Unlike { what: e.to_string() }.into())
}

/// A tensor of single floats whose shape is as it should be, which `needs` says in words.
///
/// # Errors
///
/// One that is not there, or is otherwise.
pub(crate) fn floats<'c>(
    checkpoint: &'c Checkpoint,
    name: &str,
    fits: impl FnOnce(&[usize]) -> bool,
    needs: impl Display,
) -> Result<TensorView<'c>, Error> {
    let wrong = |what: String| Error::from(ErrorKind::Unlike { what }).of(name).at(checkpoint.path());
    let view = checkpoint.get(name).ok_or_else(|| wrong("is not there".to_owned()))?;
    match view.dtype() == Dtype::F32 && fits(view.shape()) {
        true => Ok(view),
        false => Err(wrong(format!("{} {:?}, F32 {needs} expected", view.dtype(), view.shape()))),
    }
}

/// The elements of such a tensor.
///
/// # Errors
///
/// Numbers that are not finite.
pub(crate) fn finite(checkpoint: &Checkpoint, view: &TensorView<'_>) -> Result<Vec<f32>, Error> {
    let mut all = vec![0.0; view.elements()];
    view.decode_f32(0..all.len(), &mut all)?;
    match all.iter().position(|x| !x.is_finite()) {
        None => Ok(all),
        Some(at) => {
            let what = format!("number {at} is not finite");
            Err(Error::from(ErrorKind::Unlike { what }).of(view.name()).at(checkpoint.path()))
        }
    }
}
