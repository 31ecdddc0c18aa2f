//! The places of a window that lie in an image.

use niwaki_image::{Area, Window};

/// A window along one side of an image.
#[derive(Clone, Copy)]
pub(crate) struct Side {
    pub(crate) input: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    pub(crate) before: usize,
}

/// Consecutive places of a window that lie in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taps {
    /// The first of them.
    pub(crate) from: usize,
    /// One past the last.
    pub(crate) to: usize,
    /// Where in the image the first is.
    pub(crate) at: usize,
}

impl Side {
    /// Those of a window, down and across.
    pub(crate) fn both(window: &Window, input: &Area) -> [Self; 2] {
        let Window { kernel, stride, dilation, before } = *window;
        let side = |at: usize| Self {
            input: input.shape[at],
            kernel: kernel[at],
            stride: stride[at],
            dilation: dilation[at],
            before: before[at],
        };
        [side(0), side(1)]
    }

    /// Those of the window of output `at`.
    #[inline]
    pub(crate) fn taps(&self, at: usize) -> Taps {
        let start = at * self.stride;
        let places = |distance: usize| match self.dilation {
            1 => distance,
            by => (distance + by - 1).checked_div(by).unwrap_or(0),
        };
        let from = places(self.before.saturating_sub(start));
        let to = places((self.input + self.before).saturating_sub(start)).min(self.kernel);
        let at = (start + from * self.dilation).saturating_sub(self.before);
        Taps { from: from.min(to), to, at }
    }
}

impl Taps {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.to - self.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_are_those_in_the_image() {
        for (input, kernel, stride, dilation, before) in
            [(5, 3, 1, 1, 1), (6, 3, 2, 1, 0), (4, 2, 2, 2, 1), (3, 5, 1, 1, 2), (7, 3, 3, 3, 4), (2, 3, 1, 2, 2)]
        {
            let side = Side { input, kernel, stride, dilation, before };
            for out in 0..4 {
                let place = |tap: usize| (out * stride + tap * dilation) as isize - before as isize;
                let inside = |tap: &usize| (0..input as isize).contains(&place(*tap));
                let expected: std::vec::Vec<usize> = (0..kernel).filter(inside).collect();
                let found = side.taps(out);
                assert_eq!((found.from..found.to).collect::<std::vec::Vec<_>>(), expected, "{input} {kernel} {out}");
                if let Some(first) = expected.first() {
                    assert_eq!(found.at as isize, place(*first));
                }
            }
        }
    }
}
