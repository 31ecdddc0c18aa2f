//! Recurrent layers: RNN, GRU, LSTM, and the LSTM of codes of 8 bits.

mod activation;
mod cell;
mod quantized;

use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::kernels::mm::{Matrix, Target, Way, mm};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::{Built, some};
use crate::real::{Real, in_reals, reals, rounded};
use crate::tensor::Tensor;
use activation::Activation;
use cell::{Cell, Layer, State};
use quantized::Quantized;

/// A recurrent layer, in one direction or both.
#[derive(Clone, Debug)]
pub struct Recurrent {
    cell: Cell,
    /// Whether each direction starts at the end.
    backward: Vec<bool>,
    /// Those of each direction, one after the other.
    functions: Vec<Activation>,
    clip: Option<f32>,
    hidden: Option<usize>,
    /// The batch is the first dimension.
    batch_first: bool,
    /// The state of an LSTM is rounded to 8 bits before each product.
    rounds: bool,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    let cell = match (definition.domain.as_str(), definition.op.as_str()) {
        ("", "RNN") => Cell::Rnn,
        ("", "GRU") => Cell::Gru { late_reset: definition.flag("linear_before_reset")? },
        ("", "LSTM") | ("com.microsoft", "DynamicQuantizeLSTM") => {
            Cell::Lstm { coupled: definition.flag("input_forget")? }
        }
        _ => return Ok(None),
    };
    let backward = match definition.text("direction")?.as_deref() {
        None | Some("" | "forward") => vec![false],
        Some("reverse") => vec![true],
        Some("bidirectional") => vec![false, true],
        Some(other) => return Err(Fault::Unsupported(format!("direction `{other}`"))),
    };
    let each = cell.functions();
    let names = definition.texts("activations")?.unwrap_or_else(|| {
        each.iter().cycle().take(each.len() * backward.len()).map(|name| (*name).to_owned()).collect()
    });
    if names.len() != each.len() * backward.len() {
        let needs = format!("{}", each.len() * backward.len());
        return Err(Fault::shape(format!("{} activations", names.len()), needs));
    }
    let mut alpha = definition.floats("activation_alpha")?.unwrap_or_default().into_iter();
    let mut beta = definition.floats("activation_beta")?.unwrap_or_default().into_iter();
    let functions = names.iter().map(|name| Activation::of(name, &mut alpha, &mut beta)).collect::<Result<_, _>>()?;
    let hidden = match definition.int("hidden_size")? {
        None => None,
        Some(size) => {
            Some(usize::try_from(size).map_err(|_| Fault::shape(format!("hidden_size {size}"), "1 or more"))?)
        }
    };
    let layer = Recurrent {
        cell,
        backward,
        functions,
        clip: definition.float("clip")?.filter(|clip| *clip > 0.0),
        hidden,
        batch_first: definition.flag("layout")?,
        rounds: false,
    };
    if definition.domain.is_empty() { some(layer) } else { some(Quantized::new(layer)) }
}

/// The sizes of a layer.
#[derive(Clone, Copy)]
struct Sizes {
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    directions: usize,
}

/// Exchanges the first two dimensions of blocks of `inner` elements.
fn exchanged<T: Copy>(all: &[T], first: usize, second: usize, inner: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(all.len());
    for b in 0..second {
        for a in 0..first {
            out.extend_from_slice(&all[(a * second + b) * inner..][..inner]);
        }
    }
    out
}

impl Recurrent {
    fn sizes(&self, inputs: &Inputs) -> Result<Sizes, Fault> {
        let (x, w, r) = (inputs.get(0)?.shape(), inputs.get(1)?.shape(), inputs.get(2)?.shape());
        let directions = self.backward.len();
        let wrong = || {
            let found = format!("shapes {}, {} and {}", dims(x), dims(w), dims(r));
            Fault::shape(found, format!("those of {directions} recurrent layers of {} gates", self.cell.gates()))
        };
        let (&[first, second, input], &[_, _, hidden]) = (x, r) else { return Err(wrong()) };
        let rows = hidden.checked_mul(self.cell.gates()).ok_or_else(wrong)?;
        let fits = w == [directions, rows, input] && r == [directions, rows, hidden];
        if !fits || hidden == 0 || self.hidden.is_some_and(|own| own != hidden) {
            return Err(wrong());
        }
        let (steps, batch) = if self.batch_first { (second, first) } else { (first, second) };
        Ok(Sizes { steps, batch, input, hidden, directions })
    }

    /// An input of so many elements for each direction; none where it is left out.
    fn per_direction<T: Real>(inputs: &Inputs, index: usize, shape: &[usize]) -> Result<Option<Vec<T>>, Fault> {
        let Some(tensor) = inputs.optional(index) else { return Ok(None) };
        if tensor.shape() != shape {
            return Err(Fault::shape(format!("input {index} of {}", dims(tensor.shape())), dims(shape)));
        }
        Ok(Some(reals::<T>(inputs, index)?.into_owned()))
    }

    /// The first state, one direction after the other.
    fn initial<T: Real>(&self, inputs: &Inputs, index: usize, sizes: &Sizes) -> Result<Vec<T>, Fault> {
        let Sizes { batch, hidden, directions, .. } = *sizes;
        let shape = if self.batch_first { [batch, directions, hidden] } else { [directions, batch, hidden] };
        Ok(match Self::per_direction(inputs, index, &shape)? {
            Some(all) if self.batch_first => exchanged(&all, batch, directions, hidden),
            Some(all) => all,
            None => vec![T::ZERO; directions * batch * hidden],
        })
    }

    /// Steps of each element of the batch.
    fn lengths(inputs: &Inputs, sizes: &Sizes) -> Result<Vec<usize>, Fault> {
        if inputs.optional(4).is_none() {
            return Ok(vec![sizes.steps; sizes.batch]);
        }
        let all = inputs.integers(4)?;
        let fits = |length: &i64| usize::try_from(*length).ok().filter(|length| *length <= sizes.steps);
        let lengths: Option<Vec<usize>> = all.iter().map(fits).collect();
        lengths.filter(|all| all.len() == sizes.batch).ok_or_else(|| {
            Fault::shape(format!("sequence lengths {all:?}"), format!("{} of up to {}", sizes.batch, sizes.steps))
        })
    }

    fn reals<T: Real>(&self, inputs: &Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let sizes = self.sizes(inputs)?;
        let Sizes { steps, batch, input, hidden, directions } = sizes;
        let wide = self.cell.gates() * hidden;
        context.len::<f64>(&[steps.max(1), directions, batch, wide])?;
        let lengths = Self::lengths(inputs, &sizes)?;
        let x = reals::<T>(inputs, 0)?;
        let x = if self.batch_first { exchanged(&x, batch, steps, input).into() } else { x };
        let (w, r) = (reals::<T>(inputs, 1)?, reals::<T>(inputs, 2)?);
        let bias = Self::per_direction::<T>(inputs, 3, &[directions, 2 * wide])?;
        let is_lstm = matches!(self.cell, Cell::Lstm { .. });
        let peepholes = if is_lstm { Self::per_direction::<T>(inputs, 7, &[directions, 3 * hidden])? } else { None };
        let mut last = self.initial::<T>(inputs, 5, &sizes)?;
        let mut cells = if is_lstm { self.initial::<T>(inputs, 6, &sizes)? } else { Vec::new() };
        let mut y = T::buffer(context, &[steps, directions, batch, hidden])?;
        y.fill(T::ZERO);
        let mut gates = T::buffer(context, &[steps, batch, wide])?;
        for (direction, backward) in self.backward.iter().enumerate() {
            let of = |all: &[T], size: usize| direction * size..((direction + 1) * size).min(all.len());
            let bias = bias.as_deref().map(|all| &all[of(all, 2 * wide)]);
            self.feed(&mut gates, &x, &w[of(&w, wide * input)], bias, &sizes)?;
            let layer = Layer {
                cell: self.cell,
                functions: &self.functions[direction * self.cell.functions().len()..],
                clip: self.clip.map(|clip| T::near(f64::from(clip))),
                rounds: self.rounds,
                batch,
                hidden,
                recurrence: &r[of(&r, wide * hidden)],
                late_bias: bias.filter(|_| self.is_late()).map_or(&[], |bias| &bias[wide + 2 * hidden..]),
                peepholes: peepholes.as_deref().map_or(&[], |all| &all[of(all, 3 * hidden)]),
            };
            let states = of(&last, batch * hidden);
            let cell = if is_lstm { cells[states.clone()].to_vec() } else { Vec::new() };
            let mut state = State {
                hidden: last[states.clone()].to_vec(),
                cell,
                gates: vec![T::ZERO; batch * wide],
                scratch: vec![T::ZERO; batch * hidden],
            };
            let run = Pass { backward: *backward, direction, sizes, lengths: &lengths, gates: &gates };
            run.over(&layer, &mut state, &mut y)?;
            last[states.clone()].copy_from_slice(&state.hidden);
            if is_lstm {
                cells[states].copy_from_slice(&state.cell);
            }
        }
        self.results(inputs, &sizes, y, [last, cells])
    }

    fn is_late(&self) -> bool {
        self.cell == Cell::Gru { late_reset: true }
    }

    /// What comes from the input at every step, biases included.
    fn feed<T: Real>(&self, gates: &mut [T], x: &[T], w: &[T], bias: Option<&[T]>, sizes: &Sizes) -> Result<(), Fault> {
        let wide = self.cell.gates() * sizes.hidden;
        let rows = sizes.steps * sizes.batch;
        let right = Matrix::rows(w, wide, sizes.input)?.transposed();
        mm(Target::rows(gates, rows, wide)?, Matrix::rows(x, rows, sizes.input)?, right, Way::replace())?;
        let Some(bias) = bias else { return Ok(()) };
        let (of_input, of_state) = bias.split_at(wide);
        let early = if self.is_late() { 2 * sizes.hidden } else { wide };
        for row in gates.chunks_mut(wide) {
            row.iter_mut().zip(of_input).for_each(|(gate, bias)| *gate += *bias);
            row.iter_mut().zip(&of_state[..early]).for_each(|(gate, bias)| *gate += *bias);
        }
        Ok(())
    }

    /// All states, the last ones, and those of the cells.
    fn results<T: Real>(
        &self,
        inputs: &Inputs,
        sizes: &Sizes,
        y: Vec<T>,
        last: [Vec<T>; 2],
    ) -> Result<Vec<Tensor>, Fault> {
        let Sizes { steps, batch, hidden, directions, .. } = *sizes;
        let dtype = inputs.get(0)?.dtype();
        let mut results = Vec::new();
        if self.batch_first {
            // From steps, directions, batch to batch, steps, directions.
            let y = exchanged(&y, steps * directions, batch, hidden);
            results.push(rounded(dtype, vec![batch, steps, directions, hidden], y)?);
        } else {
            results.push(rounded(dtype, vec![steps, directions, batch, hidden], y)?);
        }
        for (at, state) in last.into_iter().enumerate() {
            if at == 1 && !matches!(self.cell, Cell::Lstm { .. }) {
                break;
            }
            let (shape, state) = match self.batch_first {
                true => (vec![batch, directions, hidden], exchanged(&state, directions, batch, hidden)),
                false => (vec![directions, batch, hidden], state),
            };
            results.push(rounded(dtype, shape, state)?);
        }
        Ok(results)
    }
}

/// One direction through all steps.
struct Pass<'a, T> {
    backward: bool,
    direction: usize,
    sizes: Sizes,
    lengths: &'a [usize],
    /// What comes from the input, for every step and element of the batch.
    gates: &'a [T],
}

impl<T: Real> Pass<'_, T> {
    fn over(&self, layer: &Layer<'_, T>, state: &mut State<T>, y: &mut [T]) -> Result<(), Fault> {
        let Sizes { steps, batch, hidden, directions, .. } = self.sizes;
        let wide = layer.cell.gates() * hidden;
        let mut active = vec![false; batch];
        if batch == 0 {
            return Ok(());
        }
        for step in 0..steps {
            for (at, length) in self.lengths.iter().enumerate() {
                active[at] = step < *length;
                if let Some(time) = self.time(step, *length) {
                    let from = (time * batch + at) * wide;
                    state.gates[at * wide..(at + 1) * wide].copy_from_slice(&self.gates[from..from + wide]);
                }
            }
            layer.step(state, &active)?;
            for (at, length) in self.lengths.iter().enumerate() {
                if let Some(time) = self.time(step, *length) {
                    let to = ((time * directions + self.direction) * batch + at) * hidden;
                    y[to..to + hidden].copy_from_slice(&state.hidden[at * hidden..(at + 1) * hidden]);
                }
            }
        }
        Ok(())
    }

    /// When a step is taken; none for those past the end.
    fn time(&self, step: usize, length: usize) -> Option<usize> {
        if self.backward { length.checked_sub(step + 1) } else { (step < length).then_some(step) }
    }
}

impl Operator for Recurrent {
    fn name(&self) -> &'static str {
        match self.cell {
            Cell::Rnn => "RNN",
            Cell::Gru { .. } => "GRU",
            Cell::Lstm { .. } => "LSTM",
        }
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        in_reals!(inputs.get(0)?.dtype(), T => self.reals::<T>(inputs, context))
    }

    fn macs(&self, inputs: &[Option<&[usize]>], _: &[&[usize]]) -> u64 {
        let dim =
            |input: usize, at: usize| inputs.get(input).copied().flatten().and_then(|shape| shape.get(at).copied());
        let factors = [dim(0, 0), dim(0, 1), dim(1, 0), dim(1, 1)];
        let columns = dim(1, 2).unwrap_or(0).saturating_add(dim(2, 2).unwrap_or(0));
        factors.iter().fold(columns as u64, |all, dim| all.saturating_mul(dim.unwrap_or(0) as u64))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
