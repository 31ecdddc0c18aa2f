//! Open checkpoints, and what their tensors are.

use std::ffi::{CStr, c_char, c_int};
use std::path::Path;
use std::sync::Arc;

use niwaki_container::Tensor;
use niwaki_tensors::{Checkpoint, Limits};

use crate::error::{Error, Line, Status, Text, ask, fenced, free};
use crate::memory;

/// Dimensions that a tensor has at most.
pub const MAX_DIMS: usize = 8;

/// An open checkpoint: a niwaki container, or anybody's safetensors file. `niwaki_artifact_free`.
#[derive(Debug)]
pub struct Artifact {
    pub(crate) opened: Arc<Opened>,
}

/// What handles share.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) artifact: niwaki_container::Artifact,
    /// Of each tensor.
    texts: Vec<Texts>,
}

#[derive(Debug)]
struct Texts {
    name: Line,
    dtype: Line,
    scheme: Line,
}

/// What one tensor is. Its texts live as long as the artifact, and whatever was prepared from it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TensorInfo {
    /// Its name.
    pub name: Text,
    /// The type that it was made from, such as `F32` or `BF16`.
    pub dtype: Text,
    /// How it is stored, such as `int4/g64/sym`; `dense` for the weights themselves.
    pub scheme: Text,
    /// How many dimensions there are.
    pub dims: usize,
    /// The dimensions, outermost first.
    pub shape: [usize; MAX_DIMS],
    /// Rows of its matrix: the first dimension, 1 for fewer than two.
    pub rows: usize,
    /// Columns of its matrix: the other dimensions.
    pub cols: usize,
    /// Bytes of everything that is stored of it.
    pub bytes: u64,
    /// Bit `n` says that it can be decoded at width `n`; 0 where it has one form.
    pub widths: u32,
    /// 1 where only those weights are stored that a mask or a list of positions names, else 0.
    pub masked: u32,
}

/// Bytes that a handle owns.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// The first one, of any alignment.
    pub data: *const u8,
    /// How many there are.
    pub len: usize,
}

/// Bytes of somebody's who promised not to touch them.
struct Lent(&'static [u8]);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl Opened {
    fn new(checkpoint: Checkpoint) -> Result<Self, Error> {
        let artifact = niwaki_container::Artifact::from_checkpoint(checkpoint)?;
        let texts = artifact.tensors().map(|tensor| Texts {
            name: Line::new(tensor.name()),
            dtype: Line::new(tensor.dtype().to_string()),
            scheme: Line::new(tensor.layout().scheme_text()),
        });
        Ok(Self { texts: texts.collect(), artifact })
    }

    /// The tensor of this number.
    pub(crate) fn tensor(&self, index: usize) -> Result<Tensor<'_>, Error> {
        let has = self.texts.len();
        let tensor = self.artifact.tensors().nth(index);
        tensor.ok_or_else(|| Error::caller(format!("tensor {index} of {has} is not there")))
    }
}

/// Opens, and hands the handle over.
///
/// # Safety
///
/// `out` and `error` are null or can be written.
unsafe fn open(
    out: *mut *mut Artifact,
    error: *mut *mut Error,
    checkpoint: impl FnOnce() -> Result<Checkpoint, Error>,
) -> Status {
    // SAFETY: the condition of this function.
    unsafe { fenced(error, || give(out, "out", || Ok(Artifact { opened: Arc::new(Opened::new(checkpoint()?)?) }))) }
}

/// Makes a handle; `out` is null where that does not succeed.
///
/// # Safety
///
/// `out` is null or can be written.
pub(crate) unsafe fn give<T>(
    out: *mut *mut T,
    what: &str,
    make: impl FnOnce() -> Result<T, Error>,
) -> Result<(), Error> {
    // SAFETY: the condition of this function; null is not looked at.
    let out = unsafe { out.as_mut() }.ok_or_else(|| null(what))?;
    *out = std::ptr::null_mut();
    *out = Box::into_raw(Box::new(make()?));
    Ok(())
}

/// What a handle is to.
///
/// # Safety
///
/// `handle` is null, or one of the library's that is not freed while `'a` lasts.
pub(crate) unsafe fn the<'a, T>(handle: *const T, what: &str) -> Result<&'a T, Error> {
    // SAFETY: the condition of this function.
    unsafe { handle.as_ref() }.ok_or_else(|| null(what))
}

pub(crate) fn null(what: &str) -> Error {
    Error::caller(format!("`{what}` is null"))
}

/// Text of the caller's that ends with a zero byte.
///
/// # Safety
///
/// `text` is null, or ends with a zero byte and is not written while `'a` lasts.
unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a CStr, Error> {
    match text.is_null() {
        true => Err(null(what)),
        // SAFETY: the condition of this function.
        false => Ok(unsafe { CStr::from_ptr(text) }),
    }
}

#[cfg(unix)]
fn path(text: &CStr) -> Result<&Path, Error> {
    use std::os::unix::ffi::OsStrExt;
    Ok(Path::new(std::ffi::OsStr::from_bytes(text.to_bytes())))
}

#[cfg(not(unix))]
fn path(text: &CStr) -> Result<&Path, Error> {
    text.to_str().map(Path::new).map_err(|_| Error::caller("`path` is not UTF-8"))
}

/// Opens a `.safetensors` file, an index (`*.json`), or a folder that holds either. Headers are read, weights
/// are mapped: the files must not be written to while anything of them is in use. A file that is shortened ends
/// the process when its end is read.
///
/// # Safety
///
/// `path` ends with a zero byte; `out` can be written; `error` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_open(path: *const c_char, out: *mut *mut Artifact, error: *mut *mut Error) -> Status {
    // SAFETY: the condition of this function.
    unsafe {
        open(out, error, || {
            let path = self::path(text(path, "path")?)?;
            Checkpoint::open(path, &Limits::default()).map_err(niwaki_container::Error::from).map_err(Error::from)
        })
    }
}

/// Opens one safetensors file that is in memory. Nothing is copied: the bytes must stay, unchanged, until the
/// artifact and everything that was prepared from it are freed. Errors call them `bytes`.
///
/// # Safety
///
/// `len` bytes can be read at `bytes` for as long as said; `out` can be written; `error` is null or can be
/// written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_open_bytes(
    bytes: *const u8,
    len: usize,
    out: *mut *mut Artifact,
    error: *mut *mut Error,
) -> Status {
    // SAFETY: the condition of this function. The bytes are borrowed for as long as the handles live, which
    // the caller keeps them for.
    unsafe {
        open(out, error, || {
            let bytes = Lent(memory::read(bytes, len, "bytes")?);
            let opened = Checkpoint::from_owner("bytes", bytes, &Limits::default());
            opened.map_err(niwaki_container::Error::from).map_err(Error::from)
        })
    }
}

/// Opens one safetensors file that is open for reading already, and maps it. The descriptor stays the caller's,
/// and may be closed at once; its position does not matter. Errors call it `fd N`. Only on Unix.
///
/// # Safety
///
/// `fd` is not closed during the call; `out` can be written; `error` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_open_fd(fd: c_int, out: *mut *mut Artifact, error: *mut *mut Error) -> Status {
    // SAFETY: the condition of this function.
    unsafe { open(out, error, || by_descriptor(fd)) }
}

#[cfg(unix)]
fn by_descriptor(fd: c_int) -> Result<Checkpoint, Error> {
    use std::os::fd::BorrowedFd;
    if fd < 0 {
        return Err(Error::caller(format!("`fd` is {fd}, which no open file has")));
    }
    // SAFETY: not -1; one that is not open is refused by the system, and one that is open stays so during
    // the call, which the caller promised.
    let fd_again = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
    let file = fd_again.map_err(|why| Error::caller(format!("`fd` {fd}: {why}")))?.into();
    let opened = Checkpoint::from_file(format!("fd {fd}"), file, &Limits::default());
    opened.map_err(niwaki_container::Error::from).map_err(Error::from)
}

#[cfg(not(unix))]
fn by_descriptor(_: c_int) -> Result<Checkpoint, Error> {
    Err(Error::environment("files are not opened by descriptor on this system"))
}

/// Frees an artifact; null is nothing. What was prepared from it stays as it is.
///
/// # Safety
///
/// `artifact` is null or was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_artifact_free(artifact: *mut Artifact) {
    // SAFETY: the condition of this function; artifacts come from a box in `give`.
    unsafe { free(artifact) }
}

/// How many tensors there are; 0 for null. They are numbered from 0, in the order of their data.
///
/// # Safety
///
/// `artifact` is null or was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_tensor_count(artifact: *const Artifact) -> usize {
    // SAFETY: the condition of this function.
    unsafe { ask(artifact, 0, |artifact| artifact.opened.texts.len()) }
}

/// The number of the tensor of that name.
///
/// # Safety
///
/// `artifact` was not freed; `name` ends with a zero byte; `index` can be written; `error` is null or can be
/// written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_tensor_find(
    artifact: *const Artifact,
    name: *const c_char,
    index: *mut usize,
    error: *mut *mut Error,
) -> Status {
    // SAFETY: the condition of this function.
    unsafe {
        fenced(error, || {
            let (opened, name) = (&the(artifact, "artifact")?.opened, text(name, "name")?.to_string_lossy());
            let index = index.as_mut().ok_or_else(|| null("index"))?;
            let found = opened.artifact.tensors().position(|tensor| tensor.name() == name);
            let missing = || Error::caller(format!("tensor `{}` is not there", name.escape_debug())).in_tensor(&name);
            *index = found.ok_or_else(missing)?;
            Ok(())
        })
    }
}

/// What the tensor of that number is.
///
/// # Safety
///
/// `artifact` was not freed; `info` can be written; `error` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_tensor_info(
    artifact: *const Artifact,
    index: usize,
    info: *mut TensorInfo,
    error: *mut *mut Error,
) -> Status {
    // SAFETY: the condition of this function; `info` is written as a whole.
    unsafe {
        fenced(error, || {
            let opened = &the(artifact, "artifact")?.opened;
            let tensor = opened.tensor(index)?;
            let texts = opened.texts.get(index).ok_or_else(|| null("index"))?;
            if info.is_null() {
                return Err(null("info"));
            }
            info.write(described(tensor, texts));
            Ok(())
        })
    }
}

fn described(tensor: Tensor<'_>, texts: &Texts) -> TensorInfo {
    let mut shape = [0; MAX_DIMS];
    shape.iter_mut().zip(tensor.shape().dims()).for_each(|(to, from)| *to = *from);
    let (rows, cols) = tensor.matrix();
    TensorInfo {
        name: texts.name.text(),
        dtype: texts.dtype.text(),
        scheme: texts.scheme.text(),
        dims: tensor.shape().dims().len(),
        shape,
        rows,
        cols,
        bytes: tensor.bytes(),
        widths: tensor.widths().map_or(0, |widths| widths.iter().fold(0, |all, bits| all | 1 << bits.get())),
        masked: tensor.masked().into(),
    }
}

/// The stored bytes of a part of a tensor: `codes`, `scales`, `mask` and so on, as the format names them, or
/// the empty text for a tensor that is stored as it is. They live as long as the artifact and whatever was
/// prepared from it.
///
/// # Safety
///
/// `artifact` was not freed; `part` ends with a zero byte; `out` can be written; `error` is null or can be
/// written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_part(
    artifact: *const Artifact,
    index: usize,
    part: *const c_char,
    out: *mut Bytes,
    error: *mut *mut Error,
) -> Status {
    // SAFETY: the condition of this function; `out` is written as a whole.
    unsafe {
        fenced(error, || {
            let tensor = the(artifact, "artifact")?.opened.tensor(index)?;
            let part = text(part, "part")?.to_string_lossy();
            if out.is_null() {
                return Err(null("out"));
            }
            let found = tensor.parts().find(|(has, _)| has.suffix() == part).map(|(_, bytes)| bytes);
            let has = || tensor.parts().map(|(has, _)| format!("`{}`", has.suffix())).collect::<Vec<_>>().join(", ");
            let missing =
                || format!("tensor `{}` has no part `{}`; it has {}", tensor.name(), part.escape_debug(), has());
            let bytes = found.ok_or_else(|| Error::caller(missing()).in_tensor(tensor.name()))?;
            out.write(Bytes { data: bytes.as_ptr(), len: bytes.len() });
            Ok(())
        })
    }
}

/// The digest over all tensors as the metadata has it, 32 bytes of BLAKE3. A plain checkpoint has none.
/// `niwaki_verify` says whether it is that of what is stored.
///
/// # Safety
///
/// `artifact` was not freed; 32 bytes can be written at `digest`; `error` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_digest(artifact: *const Artifact, digest: *mut u8, error: *mut *mut Error) -> Status {
    // SAFETY: the condition of this function.
    unsafe {
        fenced(error, || {
            let artifact = &the(artifact, "artifact")?.opened.artifact;
            if digest.is_null() {
                return Err(null("digest"));
            }
            let none =
                || Error::caller(format!("`{}`: is no niwaki container", artifact.checkpoint().path().display()));
            let has = artifact.digest().ok_or_else(none)?;
            memory::write(digest, 32, "digest")?.copy_from_slice(&has.0);
            Ok(())
        })
    }
}
