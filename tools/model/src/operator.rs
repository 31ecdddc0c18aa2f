//! What every operator is.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex};

use crate::fault::Fault;
use crate::reverse::Reverse;
use crate::tensor::{Data, Element, Tensor, elements};
use crate::value::OnValues;

/// One operation of a graph, its attributes read.
///
/// What it computes depends on its inputs alone, not on threads. It may change an input in place
/// where nobody else sees it: [`Inputs::take`].
pub trait Operator: fmt::Debug + Any + Send + Sync {
    /// Its name, as ONNX has it.
    fn name(&self) -> &'static str;

    /// Computes the outputs, in order; those at the end that nobody asked for may be left out.
    ///
    /// # Errors
    ///
    /// Inputs that do not fit.
    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault>;

    /// Multiplications that are followed by an addition, for inputs and outputs of these shapes:
    /// of convolutions and products of matrices; 0 for all else.
    fn macs(&self, _inputs: &[Option<&[usize]>], _outputs: &[&[usize]]) -> u64 {
        0
    }

    /// The same operator, made ready for inputs that are always these, where that saves time: with
    /// weights in the order in which it takes them.
    ///
    /// # Errors
    ///
    /// Inputs that do not fit.
    fn prepare(&self, _constants: &[Option<&Tensor>]) -> Result<Option<Arc<dyn Operator>>, Fault> {
        Ok(None)
    }

    /// The way back for gradients.
    fn reverse(&self) -> Reverse<'_> {
        Reverse::Missing
    }

    /// What it does with lists of tensors and with nothing; none of operators that take and make tensors alone.
    fn on_values(&self) -> Option<&dyn OnValues> {
        None
    }

    /// Whether equal inputs always give equal outputs, so that it may be computed ahead.
    fn is_pure(&self) -> bool {
        true
    }
}

/// The inputs of one operation; those left out are none.
#[derive(Debug, Default)]
pub struct Inputs(Vec<Option<Tensor>>);

impl Inputs {
    /// These, in order.
    pub fn new(inputs: Vec<Option<Tensor>>) -> Self {
        Self(inputs)
    }

    /// How many places there are, filled or not.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no places.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Input `index`.
    ///
    /// # Errors
    ///
    /// [`Fault::Missing`].
    pub fn get(&self, index: usize) -> Result<&Tensor, Fault> {
        self.optional(index).ok_or(Fault::Missing { input: index })
    }

    /// Input `index`, where it is there.
    pub fn optional(&self, index: usize) -> Option<&Tensor> {
        self.0.get(index)?.as_ref()
    }

    /// Input `index`, which is then no longer here. Its elements are changed in place where nobody
    /// else sees them.
    ///
    /// # Errors
    ///
    /// [`Fault::Missing`].
    pub fn take(&mut self, index: usize) -> Result<Tensor, Fault> {
        self.0.get_mut(index).and_then(Option::take).ok_or(Fault::Missing { input: index })
    }

    /// The elements of input `index`.
    ///
    /// # Errors
    ///
    /// [`Fault::Missing`], and [`Fault::Dtype`] for elements of another type.
    pub fn elements<T: Element>(&self, index: usize, needs: &'static str) -> Result<&[T], Fault> {
        let tensor = self.get(index)?;
        tensor.get().ok_or_else(|| Fault::dtype(index, tensor, needs))
    }

    /// The whole numbers of input `index`, which are of type int32 or int64.
    ///
    /// # Errors
    ///
    /// As [`elements`](Self::elements).
    pub fn integers(&self, index: usize) -> Result<Vec<i64>, Fault> {
        integers(self.get(index)?, index)
    }

    /// All of them, in order.
    pub fn into_vec(self) -> Vec<Option<Tensor>> {
        self.0
    }
}

/// The whole numbers of a tensor, which is input `index`.
///
/// # Errors
///
/// [`Fault::Dtype`] for elements that are neither int32 nor int64.
pub(crate) fn integers(tensor: &Tensor, index: usize) -> Result<Vec<i64>, Fault> {
    if let Some(all) = tensor.get::<i64>() {
        return Ok(all.to_vec());
    }
    let all = tensor.get::<i32>().ok_or_else(|| Fault::dtype(index, tensor, "int32 or int64"))?;
    Ok(all.iter().map(|x| i64::from(*x)).collect())
}

/// What operators have from whoever runs them.
#[derive(Debug)]
pub struct Context<'c> {
    limit: u64,
    pool: &'c Pool,
}

impl<'c> Context<'c> {
    /// Buffers come from `pool`; a result larger than `limit` bytes is refused.
    pub fn new(limit: u64, pool: &'c Pool) -> Self {
        Self { limit, pool }
    }

    /// The most bytes that a result may take.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Elements for a result of that shape.
    ///
    /// # Errors
    ///
    /// [`Fault::TooLarge`].
    pub fn len<T>(&self, shape: &[usize]) -> Result<usize, Fault> {
        let each = size_of::<T>() as u128;
        match elements(shape) {
            Some(len) if len as u128 * each <= u128::from(self.limit) => Ok(len),
            _ => {
                let bytes = shape.iter().fold(each, |all, dim| all.saturating_mul((*dim).max(1) as u128));
                Err(Fault::TooLarge { bytes, limit: self.limit })
            }
        }
    }

    /// A buffer for a result of that shape. What is in it is not said: all of it has to be written.
    ///
    /// # Errors
    ///
    /// [`Fault::TooLarge`].
    pub fn buffer(&self, shape: &[usize]) -> Result<Vec<f32>, Fault> {
        Ok(self.pool.take(self.len::<f32>(shape)?))
    }

    /// A buffer of that many elements for work in between; give it back by [`put`](Self::put).
    pub fn scratch(&self, len: usize) -> Vec<f32> {
        self.pool.take(len)
    }

    /// Takes a buffer back that is no longer used.
    pub fn put(&self, buffer: Vec<f32>) {
        self.pool.put(buffer);
    }
}

/// Buffers that are used again: fresh memory costs more than the arithmetic on it.
#[derive(Debug, Default)]
pub struct Pool {
    free: Mutex<Vec<Vec<f32>>>,
}

/// Elements below which a buffer is not kept.
const SMALL: usize = 1024;

impl Pool {
    fn take(&self, len: usize) -> Vec<f32> {
        let found = (len >= SMALL).then(|| {
            let mut free = self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            // The smallest that is large enough, but not by more than a third: what is cut off is filled
            // again when all of it is needed.
            let fits = |b: &Vec<f32>| b.capacity() >= len && b.capacity() / 4 * 3 <= len;
            let fit = free.iter().enumerate().filter(|(_, b)| fits(b));
            let best = fit.min_by_key(|(_, b)| b.capacity()).map(|(at, _)| at);
            best.map(|at| free.swap_remove(at))
        });
        match found.flatten() {
            Some(mut buffer) => {
                buffer.truncate(len);
                buffer.resize(len, 0.0);
                buffer
            }
            None => vec![0.0; len],
        }
    }

    /// Takes the memory of a value back, where it is no one else's.
    pub(crate) fn free(&self, tensor: Tensor) {
        if let Data::F32(buffer) = tensor.into_data()
            && buffer.is_alone()
        {
            self.put(buffer.into_vec());
        }
    }

    pub(crate) fn put(&self, buffer: Vec<f32>) {
        if buffer.capacity() >= SMALL {
            self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(buffer);
        }
    }
}
