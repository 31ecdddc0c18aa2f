//! Outputs in formats of others.
//!
//! A tensor is a job of independent items, as in [`queue`]; each writes its share at a known
//! place, so the bytes do not hang on threads. There is no journal: a killed run begins anew.

mod gguf;
mod tool;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use niwaki_quant::Distortion;

use crate::error::Error;
use crate::queue;

pub(crate) use gguf::gguf;
pub(crate) use tool::tool;

/// Told the bytes of source done so far, and all there are.
pub(crate) type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Buffers that a thread keeps from item to item.
#[derive(Default)]
pub(crate) struct Scratch {
    decoded: Vec<f32>,
    bytes: Vec<u8>,
}

/// The work on one tensor.
trait Work: Sync {
    /// How many items there are.
    fn items(&self) -> usize;

    /// Does one; what it lost, where something can be lost.
    fn item(&self, index: usize, scratch: &mut Scratch) -> Result<Option<Distortion>, Error>;

    /// Bytes of source that item `index` deals with.
    fn bytes(&self, index: usize) -> u64;
}

struct Job<'a, W> {
    work: W,
    /// What each item lost, in order.
    lost: Mutex<Vec<Option<Distortion>>>,
    done: &'a (dyn Fn(u64) + Sync),
}

impl<W: Work> queue::Job for Job<'_, W> {
    type Scratch = Scratch;

    fn begin(&self) -> Result<usize, Error> {
        let items = self.work.items();
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = vec![None; items];
        Ok(items)
    }

    fn run(&self, index: usize, scratch: &mut Scratch) -> Result<(), Error> {
        let lost = self.work.item(index, scratch)?;
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)[index] = lost;
        (self.done)(self.work.bytes(index));
        Ok(())
    }

    fn advance(&self) -> Result<Option<usize>, Error> {
        Ok(None)
    }
}

/// Does all work; what each tensor lost, in order.
fn run<W: Work>(
    works: Vec<W>,
    pool: &rayon::ThreadPool,
    total: u64,
    progress: Progress<'_>,
) -> Result<Vec<Option<Distortion>>, Error> {
    let so_far = AtomicU64::new(0);
    let done = |bytes: u64| progress(so_far.fetch_add(bytes, Ordering::Relaxed) + bytes, total);
    let jobs: Vec<_> = works.into_iter().map(|work| Job { work, lost: Mutex::default(), done: &done }).collect();
    queue::run(&jobs, pool)?;
    let lost = |job: Job<'_, W>| {
        let items = job.lost.into_inner().unwrap_or_else(PoisonError::into_inner);
        items.into_iter().flatten().reduce(|mut total, next| {
            total.merge(&next);
            total
        })
    };
    Ok(jobs.into_iter().map(lost).collect())
}
