//! The only module with unsafe code: mapping files, and giving mapped pages back.

use std::fs::File;
use std::io;
use std::ops::Range;

use memmap2::{Mmap, MmapOptions};

/// What is about to happen to a range of mapped bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// They are read soon: begin to fetch them from the disk.
    WillNeed,
    /// They are read now: fetch them and enter them in the page table, all at once.
    Populate,
    /// They are not read again for a while: take them out of this process's resident memory.
    /// Reading them later fetches them anew.
    DontNeed,
}

/// A read-only map of a whole file.
pub(crate) struct Map {
    map: Mmap,
}

impl Map {
    /// Maps the first `len` bytes, which the caller has seen the file to have.
    pub(crate) fn new(file: &File, len: usize) -> io::Result<Self> {
        // SAFETY: the map is read-only and private to `Map`, which lives as long as any borrow
        // of its bytes. What no one can promise is that the file stays as it is: another
        // process may write to it or shorten it. Bytes written then change under a `&[u8]`,
        // which the language does not allow for; this crate and its callers only ever copy
        // plain numbers out of them and rely on none of their values, so that a change gives
        // wrong numbers and no worse. Reading beyond a shortened end raises SIGBUS, which ends
        // the process. Opening says so in its documentation, and `MappedFile::ensure_unchanged`
        // looks at the file's length and time.
        let map = unsafe { MmapOptions::new().len(len).map(file)? };
        Ok(Self { map })
    }

    /// The mapped bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Passes advice to the kernel. Ranges that reach beyond the map are cut.
    #[cfg(unix)]
    pub(crate) fn advise(&self, range: Range<usize>, advice: Advice) -> io::Result<()> {
        let end = range.end.min(self.map.len());
        let Some(len) = end.checked_sub(range.start).filter(|len| *len > 0) else { return Ok(()) };
        match advice {
            Advice::WillNeed => self.map.advise_range(memmap2::Advice::WillNeed, range.start, len),
            Advice::Populate => self.populate(range.start, len),
            // SAFETY: `DontNeed` may change what memory reads where pages are private and
            // written. These are shared pages of a file, mapped read-only: the next read
            // finds the same file, in the page cache or on the disk.
            Advice::DontNeed => unsafe {
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, len)
            },
        }
    }

    #[cfg(not(unix))]
    pub(crate) fn advise(&self, _: Range<usize>, _: Advice) -> io::Result<()> {
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn populate(&self, offset: usize, len: usize) -> io::Result<()> {
        match self.map.advise_range(memmap2::Advice::PopulateRead, offset, len) {
            // Kernels before 5.14 do not know it.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                self.map.advise_range(memmap2::Advice::WillNeed, offset, len)
            }
            done => done,
        }
    }

    #[cfg(all(unix, not(target_os = "linux")))]
    fn populate(&self, offset: usize, len: usize) -> io::Result<()> {
        self.map.advise_range(memmap2::Advice::WillNeed, offset, len)
    }
}
