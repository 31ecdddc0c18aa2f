//! A bound on what the widths of one side average.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::draws::Draws;
use crate::forms::{Side, Space, WINDOW};
use crate::{Error, ErrorKind};

/// An average above `bound - 0.5` and at most `bound`.
#[derive(Clone, Debug)]
pub(super) struct Goal {
    side: Side,
    bound: f64,
    /// What each layer that is not fixed has of this side, and all together.
    sizes: Vec<u64>,
    all: u64,
    /// Widths, narrowest first.
    ladder: Vec<u64>,
    /// Places on the ladder that meet the bound.
    known: Vec<usize>,
}

impl Goal {
    /// # Errors
    ///
    /// [`ErrorKind::Average`] where no widths meet the bound.
    pub(super) fn new(space: &Space, side: Side, bound: f64) -> Result<Self, Error> {
        let sizes: Vec<u64> = space.free().map(|layer| layer.of(side)).collect();
        let ladder: Vec<u64> = space.widths().iter().map(|bits| bits.get().into()).collect();
        let all = sizes.iter().sum();
        let mut goal = Self { side, bound, known: vec![0; sizes.len()], sizes, all, ladder };
        let widths = space.widths();
        let [least, most] = [widths.narrowest(), widths.widest()].map(|bits| f64::from(bits.get()));
        goal.known = goal.some().ok_or(ErrorKind::Average { side, asked: bound, least, most })?;
        Ok(goal)
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    pub(super) fn bound(&self) -> f64 {
        self.bound
    }

    pub(super) fn layers(&self) -> usize {
        self.sizes.len()
    }

    /// Whether these places on the ladder meet the bound.
    pub(super) fn met(&self, picks: &[usize]) -> bool {
        self.place(self.total(picks)) == Ordering::Equal
    }

    /// Changes places step by step until they meet the bound, or to those that are known to.
    pub(super) fn lead(&self, picks: &mut [usize], draws: &mut Draws) {
        let mut total = self.total(picks);
        loop {
            let place = self.place(total);
            if place == Ordering::Equal {
                return;
            }
            // A step that does not go beyond the other end of the window.
            let step = |layer: usize| {
                let (to, total) = self.step(picks[layer], place, self.sizes[layer], total)?;
                let stays = self.place(total) == place || self.place(total) == Ordering::Equal;
                stays.then_some((layer, to, total))
            };
            let steps: Vec<_> = (0..picks.len()).filter_map(step).collect();
            let Some((layer, to, next)) = steps.get(draws.below(steps.len())).copied() else {
                picks.copy_from_slice(&self.known);
                return;
            };
            picks[layer] = to;
            total = next;
        }
    }

    /// The next place of a layer towards the window, and the sum with it.
    fn step(&self, pick: usize, place: Ordering, size: u64, total: u64) -> Option<(usize, u64)> {
        let to = if place == Ordering::Greater { pick.checked_sub(1)? } else { pick + 1 };
        let bits = self.ladder.get(to)?;
        Some((to, total - size * self.ladder[pick] + size * bits))
    }

    fn total(&self, picks: &[usize]) -> u64 {
        self.sizes.iter().zip(picks).map(|(size, pick)| size * self.ladder[*pick]).sum()
    }

    /// Where a sum lies: below the window, within, or above.
    fn place(&self, total: u64) -> Ordering {
        let average = total as f64 / self.all as f64;
        if average > self.bound {
            Ordering::Greater
        } else if average > self.bound - WINDOW {
            Ordering::Equal
        } else {
            Ordering::Less
        }
    }

    /// Places that meet the bound, where there are some.
    ///
    /// Layers of which no step along the ladder is as wide as the window cannot miss it: step by step from the narrowest
    /// to the widest, some sum is within. So only the places of the others are tried, all of them. With gaps of up to g
    /// bits those are layers of the 2g-th part of the whole or more, 2g of them at most: on the worst ladder, `2,3,8`, they
    /// have 3^10 places.
    fn some(&self) -> Option<Vec<usize>> {
        let gap = self.ladder.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        let (large, small): (Vec<usize>, Vec<usize>) =
            (0..self.sizes.len()).partition(|layer| (2 * gap * self.sizes[*layer]) >= self.all);
        let mut picks = vec![0; self.sizes.len()];
        self.tried(&large, &small, &mut picks).then_some(picks)
    }

    /// Tries the places of large layers, one after the other, then walks along those of the small ones.
    fn tried(&self, large: &[usize], small: &[usize], picks: &mut [usize]) -> bool {
        let Some((layer, rest)) = large.split_first() else { return self.walked(small, picks) };
        (0..self.ladder.len()).any(|pick| {
            picks[*layer] = pick;
            self.tried(rest, small, picks)
        })
    }

    fn walked(&self, small: &[usize], picks: &mut [usize]) -> bool {
        small.iter().for_each(|layer| picks[*layer] = 0);
        let mut total = self.total(picks);
        for layer in small {
            while self.place(total) == Ordering::Less {
                let next = self.step(picks[*layer], Ordering::Less, self.sizes[*layer], total);
                let Some((to, sum)) = next else { break };
                (picks[*layer], total) = (to, sum);
            }
        }
        self.place(total) == Ordering::Equal
    }
}
