//! Memory of the caller's, looked at before it is used.

use std::ffi::c_void;
use std::mem;
use std::ops::Range;
use std::slice;

use bytemuck::Pod;

use crate::error::Error;

/// What scratch begins at a multiple of, in bytes.
pub const SCRATCH_ALIGNMENT: usize = 64;

/// Memory that a call may use for its own purposes, and whose contents mean nothing before and after it. It
/// begins at a multiple of `NIWAKI_SCRATCH_ALIGNMENT` bytes, and no other call uses it at the same time. Null
/// and 0 where none is needed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    /// The first byte.
    pub data: *mut c_void,
    /// Bytes.
    pub len: usize,
}

/// Elements that are read.
///
/// # Safety
///
/// `data` is null, or `len` elements can be read there and nobody writes them while `'a` lasts.
pub(crate) unsafe fn read<'a, T: Pod>(data: *const T, len: usize, what: &str) -> Result<&'a [T], Error> {
    check(data, len, what)?;
    if len == 0 {
        return Ok(&[]);
    }
    // SAFETY: not null, aligned, and shorter than the address space: `check`; readable: the condition of this
    // function. Every bit pattern is a `Pod`.
    Ok(unsafe { slice::from_raw_parts(data, len) })
}

/// Elements that are written.
///
/// # Safety
///
/// `data` is null, or `len` elements can be read and written there and nobody else does while `'a` lasts.
pub(crate) unsafe fn write<'a, T: Pod>(data: *mut T, len: usize, what: &str) -> Result<&'a mut [T], Error> {
    check(data, len, what)?;
    if len == 0 {
        return Ok(&mut []);
    }
    // SAFETY: as in `read`; nobody else looks: the condition of this function.
    Ok(unsafe { slice::from_raw_parts_mut(data, len) })
}

/// Refuses what cannot be so many elements.
pub(crate) fn check<T>(data: *const T, len: usize, what: &str) -> Result<(), Error> {
    if len == 0 {
        return Ok(());
    }
    if data.is_null() {
        return Err(Error::caller(format!("`{what}` is null; {len} elements expected")));
    }
    let (at, align) = (data as usize, align_of::<T>());
    if !at.is_multiple_of(align) {
        return Err(Error::caller(format!("`{what}` begins {} bytes past a multiple of {align}", at % align)));
    }
    let bytes = len.checked_mul(size_of::<T>()).filter(|bytes| *bytes <= isize::MAX as usize);
    if bytes.is_none_or(|bytes| at.checked_add(bytes).is_none()) {
        return Err(Error::caller(format!("`{what}` of {len} elements does not fit into the address space")));
    }
    Ok(())
}

/// The addresses of some memory.
pub(crate) fn span<T>(data: *const T, bytes: usize) -> Range<usize> {
    data as usize..(data as usize).saturating_add(bytes)
}

/// Refuses memory that is written and overlaps other memory of the same call.
pub(crate) fn apart(all: &[(&str, Range<usize>)]) -> Result<(), Error> {
    for (at, (a, one)) in all.iter().enumerate() {
        for (b, other) in all.iter().skip(at + 1) {
            if one.start.max(other.start) < one.end.min(other.end) {
                return Err(Error::caller(format!("`{a}` and `{b}` overlap")));
            }
        }
    }
    Ok(())
}

/// Bytes that a part of scratch takes, up to where the next may begin.
pub(crate) fn padded<T>(len: usize) -> usize {
    let bytes = len.saturating_mul(size_of::<T>());
    bytes.checked_next_multiple_of(SCRATCH_ALIGNMENT).unwrap_or(usize::MAX)
}

impl Scratch {
    /// Its bytes, where there are enough of them.
    ///
    /// # Safety
    ///
    /// That of [`write`].
    pub(crate) unsafe fn room<'a>(self, needs: usize) -> Result<Room<'a>, Error> {
        if needs == 0 {
            return Ok(Room(&mut []));
        }
        if self.len < needs {
            return Err(Error::caller(format!("`scratch` needs {needs} bytes, has {}", self.len)));
        }
        if !(self.data as usize).is_multiple_of(SCRATCH_ALIGNMENT) {
            let past = self.data as usize % SCRATCH_ALIGNMENT;
            return Err(Error::caller(format!("`scratch` begins {past} bytes past a multiple of {SCRATCH_ALIGNMENT}")));
        }
        // SAFETY: the condition of this function.
        Ok(Room(unsafe { write(self.data.cast::<u8>(), needs, "scratch") }?))
    }
}

/// Scratch of which parts are taken.
pub(crate) struct Room<'a>(&'a mut [u8]);

impl<'a> Room<'a> {
    /// The next part.
    pub(crate) fn take<T: Pod>(&mut self, len: usize) -> Result<&'a mut [T], Error> {
        if len == 0 {
            return Ok(&mut []);
        }
        let rest = mem::take(&mut self.0);
        let (needs, has) = (padded::<T>(len), rest.len());
        let short = || Error::caller(format!("`scratch` lacks {} bytes", needs.saturating_sub(has)));
        let (part, rest) = rest.split_at_mut_checked(needs).ok_or_else(short)?;
        self.0 = rest;
        let bytes = part.get_mut(..len * size_of::<T>()).ok_or_else(short)?;
        bytemuck::try_cast_slice_mut(bytes).map_err(|why| Error::caller(format!("`scratch`: {why}")))
    }

    /// The same memory, once more from its beginning.
    pub(crate) fn again(&mut self) -> Room<'_> {
        Room(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    #[test]
    fn parts_begin_at_multiples_and_do_not_overlap() {
        let mut bytes = vec![0u64; 64];
        let start = bytes.as_ptr().align_offset(SCRATCH_ALIGNMENT);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut bytes[start..]);
        let mut room = Room(&mut bytes[..192]);
        let a = room.take::<f64>(3).unwrap();
        let b = room.take::<i8>(65).unwrap();
        assert_eq!((a.len(), b.len()), (3, 65));
        assert_eq!(b.as_ptr() as usize - a.as_ptr() as usize, 64);
        assert!(room.take::<u8>(0).unwrap().is_empty());
        assert!(room.take::<u8>(1).is_err());
    }

    #[test]
    fn what_cannot_be_memory_is_refused() {
        // SAFETY: what is refused is not looked at.
        unsafe {
            assert!(read::<f32>(ptr::null(), 1, "x").is_err());
            assert!(read::<f32>(ptr::null(), 0, "x").unwrap().is_empty());
            assert!(read::<f32>(ptr::without_provenance(65), 1, "x").is_err());
            assert!(read::<f32>(ptr::without_provenance(64), usize::MAX / 2, "x").is_err());
            assert!(write::<u8>(ptr::without_provenance_mut(usize::MAX - 1), 9, "y").is_err());
        }
        assert!(apart(&[("x", 0..4), ("y", 4..8), ("scratch", 8..8)]).is_ok());
        assert!(apart(&[("x", 0..5), ("y", 4..8)]).is_err());
    }
}
