//! The way back through an operator: gradients of its outputs become gradients of its inputs.

#[cfg(test)]
pub(crate) mod check;

use crate::fault::Fault;
use crate::operator::{Context, integers};
use crate::real::made;
use crate::tensor::{Buffer, Dtype, Element, Tensor};

/// What becomes of gradients at an operator.
#[derive(Clone, Copy)]
pub enum Reverse<'o> {
    /// There is no way back: a graph that needs one is refused.
    Missing,
    /// What it computes does not change with small changes of its inputs (whole numbers, rounding,
    /// comparisons): gradients end here, and [`Tape::stops`](crate::Tape::stops) lists it.
    Stops,
    /// Gradients flow through.
    Flows(&'o dyn Pullback),
}

/// Takes gradients back through an operator.
pub trait Pullback: Send + Sync {
    /// What [`pull`](Self::pull) looks at, where gradients of the inputs in `wanted` are asked for.
    /// Shapes are always there.
    fn keeps(&self, wanted: &[bool]) -> Keeps;

    /// The gradients of the inputs, in order; none for those that nobody wants, and for those that the
    /// outputs do not change with.
    ///
    /// # Errors
    ///
    /// Values that it needs and that are not there, and those of computing.
    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault>;
}

/// The inputs and outputs of an operator whose values the way back needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keeps {
    inputs: u64,
    outputs: u64,
}

impl Keeps {
    /// None.
    pub const NOTHING: Self = Self { inputs: 0, outputs: 0 };

    /// This input too; those after the first 64 are always kept.
    #[must_use]
    pub const fn input(self, at: usize) -> Self {
        Self { inputs: self.inputs | if at < 64 { 1 << at } else { 0 }, ..self }
    }

    /// This input too, where it is so.
    #[must_use]
    pub const fn input_if(self, at: usize, so: bool) -> Self {
        if so { self.input(at) } else { self }
    }

    /// This output too.
    #[must_use]
    pub const fn output(self, at: usize) -> Self {
        Self { outputs: self.outputs | if at < 64 { 1 << at } else { 0 }, ..self }
    }

    /// What a product of two inputs needs: of each the other, where its gradient is wanted.
    #[must_use]
    pub const fn crosswise(wanted: &[bool]) -> Self {
        let of_left = !wanted.is_empty() && wanted[0];
        let of_right = wanted.len() > 1 && wanted[1];
        Self::NOTHING.input_if(1, of_left).input_if(0, of_right)
    }

    pub(crate) fn has_input(self, at: usize) -> bool {
        at >= 64 || self.inputs >> at & 1 == 1
    }

    pub(crate) fn has_output(self, at: usize) -> bool {
        at >= 64 || self.outputs >> at & 1 == 1
    }
}

/// A value of the way there.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: Dtype,
    /// None where it was not kept.
    pub(crate) value: Option<Tensor>,
}

impl Seen {
    pub(crate) fn of(tensor: &Tensor, kept: bool) -> Self {
        Self { shape: tensor.shape().to_vec(), dtype: tensor.dtype(), value: kept.then(|| tensor.clone()) }
    }
}

/// One operation on the way back: what it took and made, and the gradients of what it made.
#[derive(Debug)]
pub struct Pass {
    pub(crate) inputs: Vec<Option<Seen>>,
    pub(crate) outputs: Vec<Seen>,
    pub(crate) gradients: Vec<Option<Tensor>>,
    pub(crate) wanted: Vec<bool>,
}

impl Pass {
    /// How many places for inputs there are, filled or not.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// The value of input `at`, which [`Pullback::keeps`] asked for.
    ///
    /// # Errors
    ///
    /// [`Fault::Missing`].
    pub fn input(&self, at: usize) -> Result<&Tensor, Fault> {
        self.seen(at)?.value.as_ref().ok_or(Fault::Missing { input: at })
    }

    /// Whether input `at` is there.
    pub fn has(&self, at: usize) -> bool {
        self.inputs.get(at).is_some_and(Option::is_some)
    }

    /// The shape of input `at`.
    ///
    /// # Errors
    ///
    /// [`Fault::Missing`].
    pub fn shape(&self, at: usize) -> Result<&[usize], Fault> {
        self.seen(at).map(|seen| seen.shape.as_slice())
    }

    /// The type of the elements of input `at`.
    ///
    /// # Errors
    ///
    /// [`Fault::Missing`].
    pub fn dtype(&self, at: usize) -> Result<Dtype, Fault> {
        self.seen(at).map(|seen| seen.dtype)
    }

    /// The elements of input `at`, which [`Pullback::keeps`] asked for.
    ///
    /// # Errors
    ///
    /// [`Fault::Missing`], and [`Fault::Dtype`] for elements of another type.
    pub fn elements<T: Element>(&self, at: usize) -> Result<&[T], Fault> {
        let tensor = self.input(at)?;
        tensor.get().ok_or_else(|| Fault::dtype(at, tensor, "the type of its gradient"))
    }

    /// The whole numbers of input `at`, which [`Pullback::keeps`] asked for, of type int32 or int64.
    ///
    /// # Errors
    ///
    /// As [`elements`](Self::elements).
    pub fn integers(&self, at: usize) -> Result<Vec<i64>, Fault> {
        integers(self.input(at)?, at)
    }

    /// A gradient of input `at`, in its shape.
    ///
    /// # Errors
    ///
    /// Elements that are not as many as it has.
    pub fn of_input<T: Element>(&self, at: usize, all: Vec<T>) -> Result<Tensor, Fault> {
        let found = all.len();
        made(self.shape(at)?.to_vec(), T::wrap(Buffer::from(all)), found)
    }

    /// The value of output `at`, which [`Pullback::keeps`] asked for.
    ///
    /// # Errors
    ///
    /// [`Fault::Missing`].
    pub fn output(&self, at: usize) -> Result<&Tensor, Fault> {
        self.outputs.get(at).and_then(|seen| seen.value.as_ref()).ok_or(Fault::Missing { input: at })
    }

    /// The elements of output `at`, which [`Pullback::keeps`] asked for.
    ///
    /// # Errors
    ///
    /// As [`elements`](Self::elements).
    pub fn output_elements<T: Element>(&self, at: usize) -> Result<&[T], Fault> {
        let tensor = self.output(at)?;
        tensor.get().ok_or_else(|| Fault::dtype(at, tensor, "the type of its gradient"))
    }

    /// The shape of output `at`.
    ///
    /// # Errors
    ///
    /// [`Fault::Missing`].
    pub fn output_shape(&self, at: usize) -> Result<&[usize], Fault> {
        self.outputs.get(at).map(|seen| seen.shape.as_slice()).ok_or(Fault::Missing { input: at })
    }

    /// Whether the gradient of input `at` is wanted.
    pub fn wants(&self, at: usize) -> bool {
        self.wanted.get(at).copied().unwrap_or(false)
    }

    /// The gradient of output `at`; none where the result does not change with it.
    pub fn gradient(&self, at: usize) -> Option<&Tensor> {
        self.gradients.get(at)?.as_ref()
    }

    /// The gradient of output `at`, which is then no longer here; it may be changed in place.
    ///
    /// # Errors
    ///
    /// [`Fault::Missing`].
    pub fn take_gradient(&mut self, at: usize) -> Result<Tensor, Fault> {
        self.gradients.get_mut(at).and_then(Option::take).ok_or(Fault::Missing { input: at })
    }

    /// The elements of the gradient of output `at`.
    ///
    /// # Errors
    ///
    /// [`Fault::Missing`], and [`Fault::Dtype`] for elements of another type.
    pub fn gradient_elements<T: Element>(&self, at: usize) -> Result<&[T], Fault> {
        let tensor = self.gradient(at).ok_or(Fault::Missing { input: at })?;
        tensor.get().ok_or_else(|| Fault::dtype(at, tensor, "the type of the value"))
    }

    fn seen(&self, at: usize) -> Result<&Seen, Fault> {
        self.inputs.get(at).and_then(Option::as_ref).ok_or(Fault::Missing { input: at })
    }
}
