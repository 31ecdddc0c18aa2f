//! Steps that make each output of the input in the same place, and the softmax.

use niwaki_image::{Image, Onto, Step};

use crate::factor::{code, whole};
use crate::run::Parts;

/// Input plus what lies in the output.
pub(crate) fn add(step: &Step, times: i32, onto: Onto, parts: &mut Parts<'_>) {
    for (output, input) in parts.output.iter_mut().zip(parts.input) {
        let sum = over(*input, step.input_zero, times) + over(*output, onto.zero, onto.times);
        *output = code(whole(sum), step.output_zero, step.low, step.high);
    }
}

/// Input in steps of the output.
pub(crate) fn rescale(step: &Step, times: i32, parts: &mut Parts<'_>) {
    for (output, input) in parts.output.iter_mut().zip(parts.input) {
        *output = code(whole(over(*input, step.input_zero, times)), step.output_zero, step.low, step.high);
    }
}

/// A code in steps of the output, with 16 bits after the point: less than 2^30.
fn over(x: i8, zero: i8, times: i32) -> i32 {
    (i32::from(x) - i32::from(zero)) * times
}

/// Shares of 256, less 128.
pub(crate) fn softmax(image: &Image<'_>, step: &Step, table: usize, parts: &mut Parts<'_>) {
    let table = image.tensor(table).map(|table| table.table()).unwrap_or_default();
    let most = parts.input.iter().copied().fold(i8::MIN, i8::max);
    let power = |x: i8| {
        let below = (i32::from(most) - i32::from(x)) as usize;
        table.get(below).map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let sum: u32 = parts.input.iter().map(|x| power(*x)).sum();
    for (output, input) in parts.output.iter_mut().zip(parts.input) {
        // The largest entry is 2^20, the sum of 2048 of them 2^31.
        let share = (256 * power(*input) + sum / 2).checked_div(sum).unwrap_or(0) as i32;
        *output = code(share, i8::MIN, step.low, step.high);
    }
}
