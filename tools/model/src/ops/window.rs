//! Windows that slide over the spatial dimensions of an image.

use std::ops::Range;

use crate::attributes::Definition;
use crate::fault::{Fault, dims};

/// What is around the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    /// So much before each dimension, then so much after each.
    Explicit(Vec<usize>),
    /// As many results as strides fit in; what is odd comes after.
    SameUpper,
    /// The same; what is odd comes before.
    SameLower,
}

/// A window, as attributes say it.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) kernel: Option<Vec<usize>>,
    pub(crate) strides: Option<Vec<usize>>,
    pub(crate) dilations: Option<Vec<usize>>,
    pub(crate) padding: Padding,
    /// A last window that reaches past the end counts.
    pub(crate) ceil: bool,
}

/// A window along one dimension of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Places of the image.
    pub input: usize,
    /// Results.
    pub output: usize,
    /// Places of the window.
    pub kernel: usize,
    /// How far windows are apart.
    pub stride: usize,
    /// How far the places of a window are apart.
    pub dilation: usize,
    /// Padding before the image.
    pub before: usize,
    /// Padding after it.
    pub after: usize,
}

impl Span {
    /// The places of the window of a result that are within the image.
    pub(crate) fn taps(&self, output: usize) -> Range<usize> {
        let start = output * self.stride;
        let first = self.before.saturating_sub(start).div_ceil(self.dilation);
        let end = (self.input + self.before).saturating_sub(start).div_ceil(self.dilation).min(self.kernel);
        first.min(end)..end
    }

    /// The places of the image that windows of these results take, from the first one to the last; none where all are outside.
    pub(crate) fn reach(&self, outputs: Range<usize>) -> Range<usize> {
        let windows = outputs.map(|output| (output, self.taps(output))).filter(|(_, taps)| !taps.is_empty());
        let ends = windows.map(|(output, taps)| {
            let place = |tap| output * self.stride + tap * self.dilation - self.before;
            [place(taps.start), place(taps.end - 1) + 1]
        });
        let all = ends.reduce(|a, b| [a[0].min(b[0]), a[1].max(b[1])]);
        all.map_or(0..0, |[start, end]| start..end)
    }
}

/// How much longer than an image a window may be: it is walked through, place by place.
const FARTHEST: usize = 1 << 16;

impl Window {
    /// Whether a window of this kernel is each place by itself.
    pub(crate) fn is_single(&self, kernel: &[usize]) -> bool {
        let unpadded = !matches!(&self.padding, Padding::Explicit(pads) if pads.iter().any(|pad| *pad > 0));
        let ones = self.strides.iter().flatten().all(|stride| *stride == 1);
        kernel.iter().all(|places| *places == 1) && ones && unpadded
    }

    /// Whether a window of this kernel has three places next to each other along two dimensions, and moves by one.
    pub(crate) fn is_three_by_three(&self, kernel: &[usize]) -> bool {
        let ones = |all: &Option<Vec<usize>>| all.iter().flatten().all(|each| *each == 1);
        kernel == [3; 2] && ones(&self.strides) && ones(&self.dilations)
    }

    /// The window of a definition.
    ///
    /// # Errors
    ///
    /// Attributes that are none of a window.
    pub(crate) fn read(definition: &Definition) -> Result<Self, Fault> {
        let pads = definition.sizes("pads")?.unwrap_or_default();
        let padding = match definition.text("auto_pad")?.as_deref() {
            None | Some("NOTSET" | "") => Padding::Explicit(pads),
            Some("VALID") => Padding::Explicit(Vec::new()),
            Some("SAME_UPPER") => Padding::SameUpper,
            Some("SAME_LOWER") => Padding::SameLower,
            Some(other) => return Err(Fault::Unsupported(format!("auto_pad `{other}`"))),
        };
        Ok(Self {
            kernel: definition.sizes("kernel_shape")?,
            strides: definition.sizes("strides")?,
            dilations: definition.sizes("dilations")?,
            padding,
            ceil: definition.flag("ceil_mode")?,
        })
    }

    /// The window on an image of these spatial dimensions; `kernel` where the attributes do not say it.
    ///
    /// # Errors
    ///
    /// Attributes of another number of dimensions, and windows larger than the image.
    pub(crate) fn spans(&self, image: &[usize], kernel: Option<&[usize]>) -> Result<Vec<Span>, Fault> {
        let rank = image.len();
        let kernel = self.kernel.as_deref().or(kernel).ok_or_else(|| Fault::shape("no kernel_shape", "one"))?;
        let ones = vec![1; rank];
        let strides = self.strides.as_deref().unwrap_or(&ones);
        let dilations = self.dilations.as_deref().unwrap_or(&ones);
        for (what, all) in [("kernel", kernel), ("strides", strides), ("dilations", dilations)] {
            if all.len() != rank || all.contains(&0) {
                return Err(Fault::shape(format!("{what} {all:?}"), format!("{rank} numbers above 0")));
            }
        }
        let pads = match &self.padding {
            Padding::Explicit(pads) if !pads.is_empty() && pads.len() != 2 * rank => {
                return Err(Fault::shape(format!("pads {pads:?}"), format!("{} numbers", 2 * rank)));
            }
            Padding::Explicit(pads) => pads.as_slice(),
            _ => &[],
        };
        let one = |at: usize| {
            let mut span = Span {
                input: image[at],
                output: 0,
                kernel: kernel[at],
                stride: strides[at],
                dilation: dilations[at],
                before: pads.get(at).copied().unwrap_or(0),
                after: pads.get(rank + at).copied().unwrap_or(0),
            };
            self.place(&mut span).ok_or_else(|| {
                Fault::shape(
                    format!("an image of {}", dims(image)),
                    format!("one that a window of {} fits", dims(kernel)),
                )
            })?;
            Ok(span)
        };
        (0..rank).map(one).collect()
    }

    /// Counts the results along one dimension; none where there are none.
    fn place(&self, span: &mut Span) -> Option<()> {
        if span.kernel > span.input.checked_add(FARTHEST)? {
            return None;
        }
        let reach = (span.kernel - 1).checked_mul(span.dilation)?.checked_add(1)?;
        if self.padding != Padding::SameUpper && self.padding != Padding::SameLower {
            let padded = span.input.checked_add(span.before)?.checked_add(span.after)?;
            let free = padded.checked_sub(reach)?;
            span.output = if self.ceil { free.div_ceil(span.stride) } else { free / span.stride } + 1;
            // The last window starts in the image, or before it.
            if self.ceil && (span.output - 1).checked_mul(span.stride)? >= span.input + span.before {
                span.output -= 1;
            }
            isize::try_from(padded).ok()?;
        } else {
            span.output = span.input.div_ceil(span.stride);
            let last = span.output.saturating_sub(1).checked_mul(span.stride)?;
            let all = last.checked_add(reach)?.saturating_sub(span.input);
            isize::try_from(all.checked_add(span.input)?).ok()?;
            span.before = if self.padding == Padding::SameUpper { all / 2 } else { all.div_ceil(2) };
            span.after = all - span.before;
        }
        isize::try_from(reach.checked_add(span.output.checked_mul(span.stride)?)?).ok()?;
        Some(())
    }
}

impl Span {
    /// The input under place `tap` of the window of result `at`.
    pub(crate) fn under(&self, at: usize, tap: usize) -> Option<usize> {
        (at * self.stride + tap * self.dilation).checked_sub(self.before).filter(|at| *at < self.input)
    }

    /// The results whose windows have an input under place `tap`: from, to.
    pub(crate) fn results(&self, tap: usize) -> (usize, usize) {
        let from = self.before.saturating_sub(tap * self.dilation).div_ceil(self.stride);
        let end = (self.input + self.before).saturating_sub(tap * self.dilation).div_ceil(self.stride);
        (from.min(self.output), end.clamp(from.min(self.output), self.output))
    }

    /// How many places of the window of result `at` have an input, or padding too, under them.
    pub(crate) fn count(&self, at: usize, padding: bool) -> usize {
        match padding {
            false => (0..self.kernel).filter(|tap| self.under(at, *tap).is_some()).count(),
            true => {
                let padded = self.input + self.before + self.after;
                (0..self.kernel).filter(|tap| at * self.stride + tap * self.dilation < padded).count()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(padding: Padding, ceil: bool) -> Window {
        Window { kernel: Some(vec![3]), strides: Some(vec![2]), dilations: None, padding, ceil }
    }

    #[test]
    fn results_are_counted() {
        let explicit = |pads: [usize; 2]| Padding::Explicit(pads.to_vec());
        let outputs = |padding, ceil, input: usize| window(padding, ceil).spans(&[input], None).unwrap()[0].output;
        assert_eq!(outputs(explicit([0, 0]), false, 6), 2);
        assert_eq!(outputs(explicit([0, 0]), true, 6), 3);
        // The third window would start past the image.
        assert_eq!(outputs(explicit([0, 2]), true, 4), 2);
        let same = window(Padding::SameLower, false).spans(&[6], None).unwrap()[0];
        assert_eq!((same.output, same.before, same.after), (3, 1, 0));
    }

    #[test]
    fn windows_know_what_is_under_them() {
        let span = Span { input: 4, output: 3, kernel: 3, stride: 2, dilation: 1, before: 1, after: 2 };
        assert_eq!(span.under(0, 0), None);
        assert_eq!(span.under(1, 2), Some(3));
        for tap in 0..3 {
            let (from, to) = span.results(tap);
            let has: Vec<usize> = (0..3).filter(|at| span.under(*at, tap).is_some()).collect();
            assert_eq!(has, (from..to).collect::<Vec<_>>(), "tap {tap}");
        }
        assert_eq!((span.count(0, false), span.count(0, true)), (2, 3));
    }

    #[test]
    fn hostile_windows_are_refused() {
        let mut hostile = window(Padding::Explicit(vec![usize::MAX, 1]), false);
        assert!(hostile.spans(&[4], None).is_err());
        hostile = window(Padding::SameUpper, false);
        hostile.dilations = Some(vec![usize::MAX]);
        assert!(hostile.spans(&[4], None).is_err());
        hostile.dilations = Some(vec![0]);
        assert!(hostile.spans(&[4], None).is_err());
        assert!(window(Padding::Explicit(vec![]), false).spans(&[2], None).is_err());
        assert!(window(Padding::Explicit(vec![]), false).spans(&[4, 4], None).is_err());
    }
}
