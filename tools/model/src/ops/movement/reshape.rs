//! The same elements in another shape.

use super::integers;
use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::{axes, axis};
use crate::ops::{Built, some};
use crate::reverse::{Keeps, Pass, Pullback, Reverse};
use crate::tensor::{Tensor, elements};

/// Another shape, of which one dimension may be computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reshape {
    /// Whether 0 is a size, and not the input's.
    pub(crate) allow_zero: bool,
}

/// Two dimensions: all before an axis, and all from it on.
#[derive(Clone, Copy, Debug)]
struct Flatten {
    axis: i64,
}

/// Drops dimensions of size 1.
#[derive(Clone, Debug)]
struct Squeeze {
    axes: Option<Vec<i64>>,
}

/// Adds dimensions of size 1.
#[derive(Clone, Debug)]
struct Unsqueeze {
    axes: Option<Vec<i64>>,
}

pub(super) fn build(definition: &Definition) -> Built {
    match definition.op.as_str() {
        "Reshape" => some(Reshape { allow_zero: definition.flag("allowzero")? }),
        "Flatten" => some(Flatten { axis: definition.int("axis")?.unwrap_or(1) }),
        "Squeeze" => some(Squeeze { axes: definition.ints("axes")? }),
        "Unsqueeze" => some(Unsqueeze { axes: definition.ints("axes")? }),
        _ => Ok(None),
    }
}

fn reshaped(tensor: Tensor, shape: Vec<usize>) -> Result<Vec<Tensor>, Fault> {
    let found = format!("{} for {}", dims(&shape), dims(tensor.shape()));
    let tensor = tensor.reshaped(shape).ok_or_else(|| Fault::shape(found, "as many elements"))?;
    Ok(vec![tensor])
}

/// The shape that Reshape asks for.
pub(crate) fn resolve(wanted: &[i64], input: &[usize], allow_zero: bool) -> Result<Vec<usize>, Fault> {
    let wrong = || Fault::shape(format!("shape {wanted:?} for {}", dims(input)), "one that has as many elements");
    let mut shape = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (at, dim) in wanted.iter().enumerate() {
        shape.push(match dim {
            -1 if open.is_none() => {
                open = Some(at);
                1
            }
            0 if !allow_zero => *input.get(at).ok_or_else(wrong)?,
            dim => usize::try_from(*dim).map_err(|_| wrong())?,
        });
    }
    let (all, known) = (elements(input).ok_or_else(wrong)?, elements(&shape).ok_or_else(wrong)?);
    match open {
        // Of no elements, the open dimension has none.
        Some(at) if known == 0 && all == 0 => shape[at] = 0,
        Some(at) if known > 0 && all % known == 0 => shape[at] = all / known,
        None if known == all => {}
        _ => return Err(wrong()),
    }
    Ok(shape)
}

impl Operator for Reshape {
    fn name(&self) -> &'static str {
        "Reshape"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let shape = resolve(&inputs.integers(1)?, inputs.get(0)?.shape(), self.allow_zero)?;
        reshaped(inputs.take(0)?, shape)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl Operator for Flatten {
    fn name(&self) -> &'static str {
        "Flatten"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let tensor = inputs.take(0)?;
        let rank = tensor.rank();
        let at = if self.axis == rank as i64 { rank } else { axis(self.axis, rank)? };
        let (before, from) = tensor.shape().split_at(at);
        let large = || Fault::shape(dims(tensor.shape()), "sizes that fit");
        let shape = vec![elements(before).ok_or_else(large)?, elements(from).ok_or_else(large)?];
        reshaped(tensor, shape)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl Operator for Squeeze {
    fn name(&self) -> &'static str {
        "Squeeze"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let wanted = integers(inputs, 1, &self.axes)?;
        let tensor = inputs.take(0)?;
        let shape = tensor.shape();
        let gone = match wanted {
            Some(wanted) => axes(&wanted, shape.len())?,
            None => (0..shape.len()).filter(|at| shape[*at] == 1).collect(),
        };
        if let Some(at) = gone.iter().find(|at| shape[**at] != 1) {
            return Err(Fault::shape(format!("dimension {at} of {}", dims(shape)), "size 1"));
        }
        let shape = (0..shape.len()).filter(|at| !gone.contains(at)).map(|at| shape[at]).collect();
        reshaped(tensor, shape)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl Operator for Unsqueeze {
    fn name(&self) -> &'static str {
        "Unsqueeze"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let wanted = integers(inputs, 1, &self.axes)?.ok_or(Fault::Missing { input: 1 })?;
        let tensor = inputs.take(0)?;
        let new = axes(&wanted, tensor.rank() + wanted.len())?;
        let mut old = tensor.shape().iter().copied();
        let all = 0..tensor.rank() + new.len();
        let shape = all.map(|at| if new.contains(&at) { 1 } else { old.next().unwrap_or(1) }).collect();
        reshaped(tensor, shape)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

/// The gradient in the shape that the input had.
macro_rules! shape_back {
    ($($name:ident),*) => {
        $(impl Pullback for $name {
            fn keeps(&self, _: &[bool]) -> Keeps {
                Keeps::NOTHING
            }

            fn pull(&self, pass: &mut Pass, _: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
                let gradient = pass.take_gradient(0)?;
                Ok(reshaped(gradient, pass.shape(0)?.to_vec())?.into_iter().map(Some).collect())
            }
        })*
    };
}

shape_back!(Reshape, Flatten, Squeeze, Unsqueeze);
