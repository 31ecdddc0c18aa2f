//! Steps of a plan: fixed size, one after the other.
//!
//! A real number `x` is a code `q` in -128..=127: `x = scale (q - zero)`. Values lie in the arena as rows, columns,
//! channels, the channels next to each other.

use crate::error::ErrorKind;
use crate::fields::Fields;

/// Bytes of the arena that are a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Where it begins.
    pub at: usize,
    /// Rows, columns, channels.
    pub shape: [usize; 3],
}

impl Area {
    /// How many values there are. Of a checked image they fit into the arena.
    pub const fn len(&self) -> usize {
        let [rows, cols, channels] = self.shape;
        rows.wrapping_mul(cols).wrapping_mul(channels)
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes.
    pub const fn range(&self) -> core::ops::Range<usize> {
        self.at..self.at.wrapping_add(self.len())
    }
}

/// A window that slides over rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its places, down and across.
    pub kernel: [usize; 2],
    /// How far windows are apart.
    pub stride: [usize; 2],
    /// How far places of a window are apart.
    pub dilation: [usize; 2],
    /// How far the first window begins before the image.
    pub before: [usize; 2],
}

/// A factor between -1 and 1: `multiplier / 2^shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Not `i32::MIN`.
    pub multiplier: i32,
    /// 31 to 62.
    pub shift: u8,
}

/// What is added to what a step makes: the codes that lie where its output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Onto {
    /// Their zero point.
    pub zero: i8,
    /// Steps of the output in one of theirs, times 65536; at most [`MOST_TIMES`](crate::MOST_TIMES).
    pub times: i32,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A convolution; a linear layer is one over a single place.
    Conv {
        /// How its windows lie.
        window: Window,
        /// Parts that channels are cut into; as many as channels of a depthwise convolution.
        groups: usize,
        /// The weights, by number of the tensor.
        weights: usize,
        /// Where a row of narrow codes is unpacked.
        scratch: usize,
        /// What it is added onto, where it is.
        onto: Option<Onto>,
    },
    /// The largest under each window.
    MaxPool(Window),
    /// The mean under each window, padding counted as zeros.
    AveragePool {
        /// How windows lie.
        window: Window,
        /// Steps of the output in one of a sum.
        times: Times,
    },
    /// Input and what lies in the output, added.
    Add {
        /// Steps of the output in one of the input, times 65536.
        times: i32,
        /// What lies there.
        onto: Onto,
    },
    /// The input in steps of the output, where that is another.
    Rescale {
        /// Steps of the output in one of the input, times 65536.
        times: i32,
    },
    /// Shares of 256, less 128.
    Softmax {
        /// The table of exponentials, by number of the tensor.
        table: usize,
    },
}

/// One step of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it reads.
    pub input: Area,
    /// The zero point of that.
    pub input_zero: i8,
    /// What it writes.
    pub output: Area,
    /// The zero point of that.
    pub output_zero: i8,
    /// The least code of the output.
    pub low: i8,
    /// The greatest.
    pub high: i8,
    /// What it does.
    pub work: Work,
}

pub(crate) const CONV: u8 = 1;
pub(crate) const MAX_POOL: u8 = 2;
pub(crate) const AVERAGE_POOL: u8 = 3;
pub(crate) const ADD: u8 = 4;
pub(crate) const RESCALE: u8 = 5;
pub(crate) const SOFTMAX: u8 = 6;
/// The flag of a convolution that is added onto something.
pub(crate) const ONTO: u8 = 1;

impl Step {
    /// Reads one of 64 bytes: what they say, which may be nonsense.
    pub(crate) fn read(bytes: &[u8; 64]) -> Result<Self, ErrorKind> {
        let mut fields = Fields(bytes);
        let (operation, flags) = (fields.u8(), fields.u8());
        let [low, high, input_zero, output_zero, onto_zero] = [(); 5].map(|()| fields.i8());
        let shift = fields.u8();
        let [input, output, scratch, tensor] = [(); 4].map(|()| fields.count());
        let input = Area { at: input, shape: fields.sizes() };
        let output = Area { at: output, shape: fields.sizes() };
        let kernel = fields.sizes();
        let bytes = |fields: &mut Fields<'_>| [(); 2].map(|()| usize::from(fields.u8()));
        let [stride, dilation, before] = [(); 3].map(|()| bytes(&mut fields));
        let window = Window { kernel, stride, dilation, before };
        let groups = usize::from(fields.u16());
        let (multiplier, onto_times) = (fields.i32(), fields.i32());
        let onto = Onto { zero: onto_zero, times: onto_times };
        let work = match operation {
            CONV => {
                let onto = (flags & ONTO != 0).then_some(onto);
                Work::Conv { window, groups, weights: tensor, scratch, onto }
            }
            MAX_POOL => Work::MaxPool(window),
            AVERAGE_POOL => Work::AveragePool { window, times: Times { multiplier, shift } },
            ADD => Work::Add { times: multiplier, onto },
            RESCALE => Work::Rescale { times: multiplier },
            SOFTMAX => Work::Softmax { table: tensor },
            other => return Err(ErrorKind::Operation(other)),
        };
        Ok(Self { input, input_zero, output, output_zero, low, high, work })
    }

    /// The window, where it has one.
    pub const fn window(&self) -> Option<&Window> {
        match &self.work {
            Work::Conv { window, .. } | Work::MaxPool(window) | Work::AveragePool { window, .. } => Some(window),
            _ => None,
        }
    }
}
