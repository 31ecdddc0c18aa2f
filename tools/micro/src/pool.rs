//! Pools: the largest code, or the mean, under each window.

use niwaki_image::{Step, Times, Window};

use crate::factor::{code, times};
use crate::run::Parts;
use crate::taps::Side;

/// The largest code under each window.
pub(crate) fn largest(step: &Step, window: &Window, parts: &mut Parts<'_>) {
    let most = |codes: i32, x: i8| codes.max(x.into());
    each(step, window, parts, (step.low.into(), most), |most| most.min(step.high.into()) as i8);
}

/// The mean under each window; what is beside the image counts as 0.
pub(crate) fn mean(step: &Step, window: &Window, by: Times, parts: &mut Parts<'_>) {
    let zero = i32::from(step.input_zero);
    let mean = |sum| code(times(sum, by), step.output_zero, step.low, step.high);
    each(step, window, parts, (0, |sum, x| sum + i32::from(x) - zero), mean);
}

/// Makes each output of the codes under its window: from a start, with each of them, in the end.
#[inline(always)]
fn each(
    step: &Step,
    window: &Window,
    parts: &mut Parts<'_>,
    (start, with): (i32, impl Fn(i32, i8) -> i32),
    end: impl Fn(i32) -> i8,
) {
    let [down, across] = Side::both(window, &step.input);
    let ([_, width, channels], [rows, cols, _]) = (step.input.shape, step.output.shape);
    let mut outputs = parts.output.iter_mut();
    for y in 0..rows {
        let lines = down.taps(y);
        for x in 0..cols {
            let places = across.taps(x);
            for channel in 0..channels {
                let mut all = start;
                for line in 0..lines.len() {
                    let line = (lines.at + line * down.dilation) * width + places.at;
                    for place in 0..places.len() {
                        let at = (line + place * across.dilation) * channels + channel;
                        all = parts.input.get(at).map_or(all, |x| with(all, *x));
                    }
                }
                if let Some(output) = outputs.next() {
                    *output = end(all);
                }
            }
        }
    }
}
