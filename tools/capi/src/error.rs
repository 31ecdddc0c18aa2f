//! What went wrong, as a number and as a handle; and the fence that no panic crosses.

use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use niwaki_container::Blame;

/// Changes whenever a program has to be compiled anew: it is the number in `libniwaki.so.0`.
pub const ABI: u32 = 0;

/// What a function answers: nothing is wrong, or who has to act.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is done.
    Ok = 0,
    /// The disk, or the operating system in front of it.
    Io = 1,
    /// The file that was read: it is damaged, or none of ours.
    Input = 2,
    /// The arguments: a null handle, memory of another length or alignment, a width that is not served.
    Caller = 3,
    /// A limit on headers that protects from hostile files.
    Limit = 4,
    /// The machine, or another process on it.
    Environment = 5,
    /// The library itself: a panic was caught. Handles stay as they were.
    Internal = 6,
}

/// Text that a handle owns: UTF-8, with a zero byte behind it that `len` does not count. A null pointer for
/// none.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// The first byte.
    pub bytes: *const c_char,
    /// How many there are. Names of tensors may have zeros among them.
    pub len: usize,
}

/// Text with its zero byte.
#[derive(Debug)]
pub(crate) struct Line(String);

/// What was wrong, and where. It belongs to whoever was given it: `niwaki_error_free`.
#[derive(Debug)]
pub struct Error {
    status: Status,
    message: Line,
    path: Option<Line>,
    tensor: Option<Line>,
    hint: Option<Line>,
}

impl Text {
    pub(crate) const NONE: Self = Self { bytes: ptr::null(), len: 0 };
}

impl Line {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.push('\0');
        Self(text)
    }

    pub(crate) fn text(&self) -> Text {
        Text { bytes: self.0.as_ptr().cast(), len: self.0.len().saturating_sub(1) }
    }
}

impl Error {
    /// Arguments that do not fit.
    pub(crate) fn caller(message: impl Into<String>) -> Self {
        Self::new(Status::Caller, message)
    }

    /// What no file and no caller can be blamed for.
    #[cfg(not(unix))]
    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self::new(Status::Environment, message)
    }

    fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: Line::new(message), path: None, tensor: None, hint: None }
    }

    /// The same error, said of a tensor.
    pub(crate) fn in_tensor(mut self, name: &str) -> Self {
        self.tensor.get_or_insert_with(|| Line::new(name));
        self
    }
}

impl From<niwaki_container::Error> for Error {
    fn from(error: niwaki_container::Error) -> Self {
        let status = match error.blame() {
            Blame::Io => Status::Io,
            Blame::Caller => Status::Caller,
            Blame::Limit => Status::Limit,
            Blame::Environment => Status::Environment,
            _ => Status::Input,
        };
        Self {
            path: error.path().map(|path| Line::new(path.display().to_string())),
            tensor: error.tensor().map(Line::new),
            hint: error.hint().map(Line::new),
            ..Self::new(status, error.to_string())
        }
    }
}

/// Does a job behind the fence, and hands its error over.
///
/// # Safety
///
/// `error` is null or can be written.
pub(crate) unsafe fn fenced(error: *mut *mut Error, job: impl FnOnce() -> Result<(), Error>) -> Status {
    // Nothing is seen in a broken state afterwards: handles never change, and what a caller has lent is plain bytes.
    let done = catch_unwind(AssertUnwindSafe(job))
        .unwrap_or_else(|_| Err(Error::new(Status::Internal, "a panic was caught in the library")));
    let (status, handle) = match done {
        Ok(()) => (Status::Ok, ptr::null_mut()),
        Err(found) if error.is_null() => (found.status, ptr::null_mut()),
        Err(found) => (found.status, Box::into_raw(Box::new(found))),
    };
    if !error.is_null() {
        // SAFETY: not null, so it can be written: the condition of this function.
        unsafe { error.write(handle) };
    }
    status
}

/// What a handle that may be null says.
///
/// # Safety
///
/// `handle` is null, or one of the library's that was not freed.
pub(crate) unsafe fn ask<T, A>(handle: *const T, none: A, answer: impl FnOnce(&T) -> A) -> A {
    // SAFETY: null, or alive: the condition of this function.
    match unsafe { handle.as_ref() } {
        None => none,
        Some(handle) => answer(handle),
    }
}

/// Frees a handle; null is nothing.
///
/// # Safety
///
/// `handle` is null, or came from `Box::into_raw` and was not freed.
pub(crate) unsafe fn free<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: it came from a box and nobody has freed it: the condition of this function.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// The version of the library, such as `0.1.0`. It lives as long as the program.
#[unsafe(no_mangle)]
pub extern "C" fn niwaki_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };
    VERSION.as_ptr()
}

/// The ABI of the library that is running; `NIWAKI_ABI` is that of the header.
#[unsafe(no_mangle)]
pub extern "C" fn niwaki_abi() -> u32 {
    ABI
}

/// Whose fault it is; `NIWAKI_STATUS_OK` for null.
///
/// # Safety
///
/// `error` is null or was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_error_status(error: *const Error) -> Status {
    // SAFETY: the condition of this function.
    unsafe { ask(error, Status::Ok, |error| error.status) }
}

/// One line: file and tensor where they are known, what was found and what was expected.
///
/// # Safety
///
/// `error` is null or was not freed. The text lives as long as it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_error_message(error: *const Error) -> Text {
    // SAFETY: the condition of this function.
    unsafe { ask(error, Text::NONE, |error| error.message.text()) }
}

/// The file that it concerns, where one is known.
///
/// # Safety
///
/// `error` is null or was not freed. The text lives as long as it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_error_path(error: *const Error) -> Text {
    // SAFETY: the condition of this function.
    unsafe { ask(error, Text::NONE, |error| error.path.as_ref().map_or(Text::NONE, Line::text)) }
}

/// The tensor that it concerns, where one is known.
///
/// # Safety
///
/// `error` is null or was not freed. The text lives as long as it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_error_tensor(error: *const Error) -> Text {
    // SAFETY: the condition of this function.
    unsafe { ask(error, Text::NONE, |error| error.tensor.as_ref().map_or(Text::NONE, Line::text)) }
}

/// What can be done about it, where that is more than the message says.
///
/// # Safety
///
/// `error` is null or was not freed. The text lives as long as it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_error_hint(error: *const Error) -> Text {
    // SAFETY: the condition of this function.
    unsafe { ask(error, Text::NONE, |error| error.hint.as_ref().map_or(Text::NONE, Line::text)) }
}

/// Frees an error; null is nothing.
///
/// # Safety
///
/// `error` is null or was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_error_free(error: *mut Error) {
    // SAFETY: the condition of this function; errors come from a box in `fenced`.
    unsafe { free(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_answer() {
        let mut error = ptr::null_mut();
        // SAFETY: `error` is a pointer of this function's, and is freed once.
        unsafe {
            assert_eq!(fenced(&raw mut error, || panic!("planted")), Status::Internal);
            assert_eq!(niwaki_error_status(error), Status::Internal);
            let text = niwaki_error_message(error);
            assert_eq!(CStr::from_ptr(text.bytes), c"a panic was caught in the library");
            assert_eq!(text.len, 33);
            niwaki_error_free(error);
            assert_eq!(fenced(&raw mut error, || Ok(())), Status::Ok);
            assert!(error.is_null());
            assert_eq!(fenced(ptr::null_mut(), || Err(Error::caller("no"))), Status::Caller);
        }
    }
}
