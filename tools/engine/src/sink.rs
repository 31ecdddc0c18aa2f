//! Outputs in formats of others.
//!
//! A tensor is a job of independent items, as in [`queue`]; each writes its share at a known
//! place, so the bytes do not hang on threads. There is no journal: a killed run begins anew.

mod codes;
mod gguf;
mod onnx;
mod tool;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use niwaki_quant::Distortion;
use niwaki_tensors::{Dtype, decode_f32};

use crate::encode::narrowed;
use crate::error::Error;
use crate::plan::Planned;
use crate::progress::{Progress, counting};
use crate::queue;
use crate::source::SourceTensor;

pub(crate) use gguf::gguf;
pub(crate) use onnx::onnx;
pub(crate) use tool::tool;

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

/// Writes elements that stand for themselves in the type `dtype`; what that lost, unless they
/// are copied.
fn elements(
    tensor: &SourceTensor<'_>,
    dtype: Dtype,
    range: Range<usize>,
    scratch: &mut Scratch,
    write: impl Fn(u64, &[u8]) -> Result<(), Error>,
) -> Result<Option<Distortion>, Error> {
    let size = dtype.bitsize() / 8;
    let at = range.start * size;
    if let Some(bytes) = tensor.elements().filter(|_| dtype == tensor.dtype()) {
        return write(at as u64, bytes.get(at..range.end * size).unwrap_or_default()).map(|()| None);
    }
    let Scratch { decoded, .. } = scratch;
    decoded.resize(range.len(), 0.0);
    tensor.decode(range, decoded)?;
    let narrow = narrowed(decoded, dtype);
    write(at as u64, &narrow)?;
    let mut again = vec![0.0; decoded.len()];
    decode_f32(dtype, &narrow, &mut again)?;
    Ok(Some(Distortion::between(decoded, &again)))
}

/// Bytes of source that `count` of a tensor's elements are.
fn share(planned: &Planned, count: usize) -> u64 {
    let bytes = (planned.bytes_before * count as u64).checked_div(planned.elements() as u64);
    bytes.unwrap_or(0).min(planned.bytes_before)
}

/// Does all work; what each tensor lost, in order.
fn run<W: Work>(
    works: Vec<W>,
    pool: &rayon::ThreadPool,
    total: u64,
    progress: Progress<'_>,
) -> Result<Vec<Option<Distortion>>, Error> {
    let done = counting(progress, total);
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
