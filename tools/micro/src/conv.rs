//! Convolutions, depthwise ones and linear layers.
//!
//! One row of weights after the other goes over the whole image, so that narrow codes are unpacked once. Places of a window
//! that lie next to each other in the image do so in the weights too: `k` places across are one product of `k` times the
//! channels. A place beside the image counts as the zero point of the input, which `bias` took away:
//!
//! ```text
//! Σ over all places  =  Σ w x of those in the image  +  zero (Σ w - Σ w of those in the image)
//! ```

use niwaki_image::{Image, Kind, Onto, Row, Step, Window, Work};

use crate::factor::{code, times, times16, whole};
use crate::narrow;
use crate::run::Parts;
use crate::taps::{Side, Taps};

/// A weight's code, as the image or the arena has it.
pub(crate) trait Code: Copy {
    /// The code.
    fn code(self) -> i8;
}

impl Code for i8 {
    fn code(self) -> i8 {
        self
    }
}

impl Code for u8 {
    fn code(self) -> i8 {
        self as i8
    }
}

/// The number of a weight: its code, or the odd one in the middle between twice this code and twice the next.
fn number<W: Code, const ODD: bool>(weight: W) -> i32 {
    let code = i32::from(weight.code());
    if ODD { 2 * code + 1 } else { code }
}

/// Does a convolution.
pub(crate) fn conv(image: &Image<'_>, step: &Step, parts: &mut Parts<'_>) {
    let Work::Conv { window, groups, weights, onto, .. } = &step.work else { return };
    let Some(tensor) = image.tensor(*weights) else { return };
    let layer = Layer::new(step, window, *groups, *onto);
    let each = tensor.rows.checked_div(*groups).unwrap_or(0);
    let (mut group, mut left) = (0, each);
    let mut kept = tensor.kept();
    for (channel, numbers) in tensor.numbers().enumerate() {
        if left == 0 {
            (group, left) = (group + 1, each);
        }
        left -= usize::from(left > 0);
        let codes = tensor.row(channel);
        let place = Channel { channel, group, numbers };
        match tensor.kind {
            Kind::Int8 => {
                layer.row::<_, false>(parts.input, parts.output, codes, place);
                continue;
            }
            Kind::Elastic => {
                narrow::join(tensor.plane_rows(channel), parts.scratch);
            }
            Kind::Sparse8 | Kind::Sparse4 => kept = narrow::scatter(tensor.kind, codes, kept, parts.scratch),
            _ => narrow::unpack(codes, parts.scratch),
        }
        if tensor.width() == 8 {
            layer.row::<_, true>(parts.input, parts.output, parts.scratch, place);
        } else {
            layer.row::<_, false>(parts.input, parts.output, parts.scratch, place);
        }
    }
}

/// An output channel.
#[derive(Clone, Copy)]
struct Channel {
    channel: usize,
    /// Which of the groups of channels it sees.
    group: usize,
    numbers: Row,
}

/// What all output channels share.
struct Layer<'s> {
    step: &'s Step,
    onto: Option<Onto>,
    down: Side,
    across: Side,
    /// Channels of a group.
    each: usize,
    /// Whether places of a window across lie next to each other.
    joined: bool,
}

impl<'s> Layer<'s> {
    fn new(step: &'s Step, window: &Window, groups: usize, onto: Option<Onto>) -> Self {
        let [down, across] = Side::both(window, &step.input);
        let each = step.input.shape[2].checked_div(groups).unwrap_or(0);
        Self { step, onto, down, across, each, joined: groups == 1 && across.dilation == 1 }
    }

    /// One channel of the output.
    fn row<W: Code, const ODD: bool>(&self, input: &[i8], output: &mut [i8], codes: &[W], place: Channel) {
        let [rows, cols, channels] = self.step.output.shape;
        let total: i32 = codes.iter().map(|w| number::<W, ODD>(*w)).sum();
        let mut at = place.channel;
        for y in 0..rows {
            let down = self.down.taps(y);
            for x in 0..cols {
                let taps = [down, self.across.taps(x)];
                let whole = down.len() == self.down.kernel && taps[1].len() == self.across.kernel;
                let mut sum = place.numbers.bias;
                if whole {
                    self.runs(input, codes, taps, place.group, |w, x| sum += dot::<W, ODD>(w, x));
                } else {
                    let mut beside = total;
                    self.runs(input, codes, taps, place.group, |w, x| {
                        sum += dot::<W, ODD>(w, x);
                        beside -= w.iter().map(|w| number::<W, ODD>(*w)).sum::<i32>();
                    });
                    sum += beside * i32::from(self.step.input_zero);
                }
                if let Some(output) = output.get_mut(at) {
                    *output = self.code(sum, *output, place.numbers);
                }
                at += channels;
            }
        }
    }

    /// Weights and inputs of a window, as far as they lie next to each other.
    #[inline(always)]
    fn runs<W: Code>(
        &self,
        input: &[i8],
        codes: &[W],
        [down, across]: [Taps; 2],
        group: usize,
        mut each: impl FnMut(&[W], &[i8]),
    ) {
        let [_, width, channels] = self.step.input.shape;
        let mut run = |weight: usize, from: usize, len: usize| {
            if let (Some(w), Some(x)) = (codes.get(weight..weight + len), input.get(from..from + len)) {
                each(w, x);
            }
        };
        for (nth, row) in (down.from..down.to).enumerate() {
            let line = (down.at + nth * self.down.dilation) * width + across.at;
            let weight = (row * self.across.kernel + across.from) * self.each;
            if self.joined {
                run(weight, line * channels, across.len() * channels);
                continue;
            }
            for tap in 0..across.len() {
                let from = (line + tap * self.across.dilation) * channels + group * self.each;
                run(weight + tap * self.each, from, self.each);
            }
        }
    }

    /// The code of a sum; `there` is what lies where it goes.
    #[inline]
    fn code(&self, sum: i32, there: i8, numbers: Row) -> i8 {
        let Step { output_zero, low, high, .. } = *self.step;
        let steps = match self.onto {
            None => times(sum, numbers.times),
            Some(Onto { zero, times }) => {
                whole(times16(sum, numbers.times) + (i32::from(there) - i32::from(zero)) * times)
            }
        };
        code(steps, output_zero, low, high)
    }
}

/// `Σ w x`. [`niwaki_image`] made sure that it stays within 32 bits.
#[inline]
fn dot<W: Code, const ODD: bool>(w: &[W], x: &[i8]) -> i32 {
    w.iter().zip(x).map(|(w, x)| number::<W, ODD>(*w) * i32::from(*x)).sum()
}
