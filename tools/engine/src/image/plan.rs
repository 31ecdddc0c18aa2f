//! A plan in the making: steps over values that have no place yet.

use niwaki_image::{Area, Draft, DraftTensor, Kind, Place, Step, Work};

use super::grid::Grid;
use super::memory::{Room, place};

/// A value: the room that it is in, how it lies there, and what its codes mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Held {
    pub(crate) room: usize,
    /// Rows, columns, channels.
    pub(crate) shape: [usize; 3],
    pub(crate) grid: Grid,
}

impl Held {
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// What a step says of it before it has a place.
    pub(crate) fn area(&self) -> Area {
        Area { at: 0, shape: self.shape }
    }

    /// The same values as one row of numbers.
    pub(crate) fn flat(self) -> Self {
        Self { shape: [1, 1, self.len()], ..self }
    }
}

struct Laid {
    step: Step,
    input: usize,
    output: usize,
}

/// Steps, the rooms that they use, and tensors.
#[derive(Default)]
pub(crate) struct Plan {
    laid: Vec<Laid>,
    /// Bytes of each room.
    rooms: Vec<usize>,
    pub(crate) tensors: Vec<DraftTensor>,
}

impl Plan {
    /// A new room for a value of this shape.
    pub(crate) fn room(&mut self, shape: [usize; 3]) -> usize {
        self.rooms.push(shape.iter().product());
        self.rooms.len() - 1
    }

    /// Adds a step: from a value to another, whose codes have ends.
    pub(crate) fn step(&mut self, input: Held, output: Held, (low, high): (i8, i8), work: Work) {
        let step = Step {
            input: input.area(),
            input_zero: input.grid.zero,
            output: output.area(),
            output_zero: output.grid.zero,
            low,
            high,
            work,
        };
        self.laid.push(Laid { step, input: input.room, output: output.room });
    }

    /// Adds a tensor; its number.
    pub(crate) fn tensor(&mut self, tensor: DraftTensor) -> usize {
        self.tensors.push(tensor);
        self.tensors.len() - 1
    }

    pub(crate) fn steps(&self) -> usize {
        self.laid.len()
    }

    /// Bytes of the row that a step unpacks.
    fn scratch(&self, step: &Step) -> usize {
        match step.work {
            Work::Conv { weights, .. } => {
                self.tensors.get(weights).filter(|tensor| tensor.kind != Kind::Int8).map_or(0, |tensor| tensor.cols)
            }
            _ => 0,
        }
    }

    /// Gives everything a place.
    pub(crate) fn settle(self, input: Held, output: Held) -> Draft {
        let last = self.laid.len();
        let mut rooms: Vec<Room> = self.rooms.iter().map(|bytes| Room { bytes: *bytes, lives: last..=0 }).collect();
        let mut live = |room: usize, at: usize| {
            let lives = &mut rooms[room].lives;
            *lives = at.min(*lives.start())..=at.max(*lives.end());
        };
        live(input.room, 0);
        live(output.room, last);
        for (at, laid) in self.laid.iter().enumerate() {
            live(laid.input, at);
            live(laid.output, at);
        }
        rooms.extend(
            self.laid.iter().enumerate().map(|(at, laid)| Room { bytes: self.scratch(&laid.step), lives: at..=at }),
        );
        let (places, arena) = place(&rooms);
        let steps = self.laid.iter().zip(&places[self.rooms.len()..]).map(|(laid, row)| {
            let mut step = laid.step;
            (step.input.at, step.output.at) = (places[laid.input], places[laid.output]);
            if let Work::Conv { scratch, .. } = &mut step.work {
                *scratch = *row;
            }
            step
        });
        let end = |held: Held| Place {
            area: Area { at: places[held.room], shape: held.shape },
            zero: held.grid.zero,
            scale: held.grid.scale,
        };
        let (input, output, steps) = (end(input), end(output), steps.collect());
        Draft { arena, input, output, steps, tensors: self.tensors, widths: Vec::new() }
    }
}
