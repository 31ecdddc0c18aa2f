//! One step of a cell.

use super::activation::Activation;
use super::quantized::round;
use crate::fault::Fault;
use crate::kernels::mm::{Matrix, Target, Way, mm};
use crate::real::Real;

/// Which cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Rnn,
    Gru {
        /// The reset gate acts on the product with the state, not on the state.
        late_reset: bool,
    },
    Lstm {
        /// What is not let in is forgotten.
        coupled: bool,
    },
}

impl Cell {
    /// How many gates it has.
    pub(super) fn gates(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Gru { .. } => 3,
            Self::Lstm { .. } => 4,
        }
    }

    /// Its functions, where the definition names none.
    pub(super) fn functions(self) -> &'static [&'static str] {
        match self {
            Self::Rnn => &["Tanh"],
            Self::Gru { .. } => &["Sigmoid", "Tanh"],
            Self::Lstm { .. } => &["Sigmoid", "Tanh", "Tanh"],
        }
    }
}

/// One direction of a cell: what does not change from step to step.
pub(super) struct Layer<'a, T> {
    pub(super) cell: Cell,
    pub(super) functions: &'a [Activation],
    pub(super) clip: Option<T>,
    /// The state of an LSTM is rounded to 8 bits before each product.
    pub(super) rounds: bool,
    pub(super) batch: usize,
    pub(super) hidden: usize,
    /// Gates times hidden rows of hidden numbers.
    pub(super) recurrence: &'a [T],
    /// The bias of the recurrence of the last gate, of a GRU whose reset is late; else empty.
    pub(super) late_bias: &'a [T],
    /// Of an LSTM: from the cell state to the input, output and forget gates; else empty.
    pub(super) peepholes: &'a [T],
}

/// What changes.
pub(super) struct State<T> {
    pub(super) hidden: Vec<T>,
    pub(super) cell: Vec<T>,
    /// Gates times hidden numbers for each element of the batch.
    pub(super) gates: Vec<T>,
    pub(super) scratch: Vec<T>,
}

impl<T: Real> Layer<'_, T> {
    /// Computes the next state of those elements of the batch that are `active`; `state.gates` hold
    /// what comes from the input.
    pub(super) fn step(&self, state: &mut State<T>, active: &[bool]) -> Result<(), Fault> {
        let (h, wide) = (self.hidden, self.cell.gates() * self.hidden);
        let late = matches!(self.cell, Cell::Gru { .. });
        // The last gate of a GRU is multiplied for itself.
        let together = if late { 2 * h } else { wide };
        let mut hidden = &state.hidden;
        if self.rounds {
            state.scratch.copy_from_slice(hidden);
            round(&mut state.scratch)?;
            hidden = &state.scratch;
        }
        let left = Matrix::rows(hidden, self.batch, h)?;
        let right = Matrix::rows(&self.recurrence[..together * h], together, h)?.transposed();
        let add = Way { add: true, ..Way::replace() };
        mm(Target::strided(&mut state.gates, (self.batch, together), wide)?, left, right, add)?;
        match self.cell {
            Cell::Rnn => self.rnn(state, active),
            Cell::Gru { late_reset } => return self.gru(state, active, late_reset),
            Cell::Lstm { coupled } => self.lstm(state, active, coupled),
        }
        Ok(())
    }

    /// A function of a clipped number.
    fn at(&self, function: usize, x: T) -> T {
        let x = match self.clip {
            Some(clip) => x.max(-clip).min(clip),
            None => x,
        };
        self.functions[function].at(x)
    }

    fn rnn(&self, state: &mut State<T>, active: &[bool]) {
        let rows = state.hidden.chunks_mut(self.hidden).zip(state.gates.chunks(self.hidden)).zip(active);
        for ((hidden, gates), _) in rows.filter(|(_, active)| **active) {
            hidden.iter_mut().zip(gates).for_each(|(hidden, gate)| *hidden = self.at(0, *gate));
        }
    }

    fn gru(&self, state: &mut State<T>, active: &[bool], late_reset: bool) -> Result<(), Fault> {
        let h = self.hidden;
        // The reset gate, and what is multiplied with the last gate's recurrence.
        for (gates, hidden) in state.gates.chunks_mut(3 * h).zip(state.hidden.chunks(h)) {
            gates[..2 * h].iter_mut().for_each(|gate| *gate = self.at(0, *gate));
            if !late_reset {
                // The reset gate is used here for the last time.
                gates[h..2 * h].iter_mut().zip(hidden).for_each(|(gate, hidden)| *gate = *gate * *hidden);
            }
        }
        let right = Matrix::rows(&self.recurrence[2 * h * h..], h, h)?.transposed();
        let State { hidden, gates, scratch, .. } = state;
        let left = match late_reset {
            true => Matrix::rows(hidden, self.batch, h)?,
            false => Matrix::strided(&gates[h..], (self.batch, h), (3 * h, 1))?,
        };
        mm(Target::rows(scratch, self.batch, h)?, left, right, Way::replace())?;
        let rows = hidden.chunks_mut(h).zip(gates.chunks(3 * h)).zip(scratch.chunks(h)).zip(active);
        for (((hidden, gates), product), _) in rows.filter(|(_, active)| **active) {
            for (at, hidden) in hidden.iter_mut().enumerate() {
                let from_state = match late_reset {
                    true => gates[h + at] * (product[at] + self.late_bias.get(at).copied().unwrap_or(T::ZERO)),
                    false => product[at],
                };
                let new = self.at(1, gates[2 * h + at] + from_state);
                *hidden = (T::ONE - gates[at]) * new + gates[at] * *hidden;
            }
        }
        Ok(())
    }

    fn lstm(&self, state: &mut State<T>, active: &[bool], coupled: bool) {
        let h = self.hidden;
        let peephole = |gate: usize, at: usize| self.peepholes.get(gate * h + at).copied().unwrap_or(T::ZERO);
        let rows = state.hidden.chunks_mut(h).zip(state.cell.chunks_mut(h)).zip(state.gates.chunks(4 * h)).zip(active);
        for (((hidden, cell), gates), _) in rows.filter(|(_, active)| **active) {
            for at in 0..h {
                let old = cell[at];
                let input = self.at(0, gates[at] + peephole(0, at) * old);
                let forget = match coupled {
                    true => T::ONE - input,
                    false => self.at(0, gates[2 * h + at] + peephole(2, at) * old),
                };
                cell[at] = forget * old + input * self.at(1, gates[3 * h + at]);
                let output = self.at(0, gates[h + at] + peephole(1, at) * cell[at]);
                hidden[at] = output * self.functions[2].at(cell[at]);
            }
        }
    }
}
