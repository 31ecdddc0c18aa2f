//! Writes of many threads, of which the system lets one at a time into a file.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError, TryLockError};

use crate::error::Error;

/// Writes that may wait; whoever brings more than these waits with them.
const WAITING: usize = 32;

/// Bytes and where they belong: which file, and which byte of it.
struct Write<'b> {
    file: usize,
    at: usize,
    bytes: Cow<'b, [u8]>,
}

/// What writes. While one thread holds it, others leave their bytes and go on; it writes those too.
pub(super) struct Pen<'b, W> {
    waiting: Mutex<VecDeque<Write<'b>>>,
    write: Mutex<W>,
}

impl<'b, W: FnMut(usize, usize, &[u8]) -> Result<(), Error>> Pen<'b, W> {
    pub(super) fn new(write: W) -> Self {
        Self { waiting: Mutex::default(), write: Mutex::new(write) }
    }

    /// Writes bytes, or leaves them to the thread that writes. All is written when every call has
    /// come back.
    ///
    /// # Errors
    ///
    /// That of a write, not always of one's own.
    pub(super) fn write(&self, file: usize, at: usize, bytes: Cow<'b, [u8]>) -> Result<(), Error> {
        let mut waiting = self.queue(|waiting| {
            waiting.push_back(Write { file, at, bytes });
            waiting.len()
        });
        // Whoever adds after the last look of the thread that writes finds the pen free.
        while waiting > 0 {
            let mut write = match self.write.try_lock() {
                Ok(write) => write,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if waiting <= WAITING => return Ok(()),
                Err(TryLockError::WouldBlock) => self.write.lock().unwrap_or_else(PoisonError::into_inner),
            };
            while let Some(Write { file, at, bytes }) = self.queue(VecDeque::pop_front) {
                write(file, at, &bytes)?;
            }
            drop(write);
            waiting = self.queue(|waiting| waiting.len());
        }
        Ok(())
    }

    fn queue<T>(&self, with: impl FnOnce(&mut VecDeque<Write<'b>>) -> T) -> T {
        with(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn everything_is_written_once() {
        for threads in [1, 2, 8] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0u8; 10_000];
            let pen = Pen::new(|_, at: usize, bytes: &[u8]| {
                out[at..at + bytes.len()].iter_mut().zip(bytes).for_each(|(out, byte)| *out += byte);
                Ok(())
            });
            let write = |at: usize| pen.write(0, at * 10, Cow::Owned(vec![at as u8 % 50 + 1; 10]));
            pool.install(|| (0..1000).into_par_iter().try_for_each(write)).unwrap();
            drop(pen);
            assert!(out.iter().enumerate().all(|(at, byte)| *byte == (at / 10) as u8 % 50 + 1), "{threads}");
        }
    }

    #[test]
    fn a_write_that_fails_is_told() {
        let pen = Pen::new(|file, _, _: &[u8]| match file {
            0 => Ok(()),
            _ => Err(ErrorKind::NotFinite { index: 1 }.into()),
        });
        pen.write(0, 0, Cow::Borrowed(&[1])).unwrap();
        pen.write(1, 0, Cow::Borrowed(&[1])).unwrap_err();
    }
}
