//! The only module with unsafe code: mapping files.

use std::fs::File;
use std::io;

use bytes::Bytes;
use memmap2::MmapOptions;

/// The first `len` bytes of a file, which the caller has seen it to have. What is cut from
/// them keeps the map alive.
pub(crate) fn map(file: &File, len: usize) -> io::Result<Bytes> {
    if len == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is read-only, and the `Bytes` made of it owns it for as long as any piece
    // of it lives. What no one can promise is that the file stays as it is: another process
    // may write to it or shorten it. Bytes written then change under a `&[u8]`, which the
    // language does not allow for. Decoding copies names and numbers out of the map once, and
    // checks texts after copying; what stays in it are the tensors' plain numbers, of which no
    // value is relied on. Reading beyond a shortened end raises SIGBUS, which ends the process;
    // opening says so in its documentation.
    let map = unsafe { MmapOptions::new().len(len).map(file)? };
    Ok(Bytes::from_owner(map))
}
