//! Lottery jackpots: masks that are searched while the weights stay as they are (Zhang et al., *Lottery Jackpots Exist in
//! Pre-trained Models*, 2023).
//!
//! Each weight has a score. A step moves the scores along the gradients that they would have if a mask were a number,
//! whether their weights are kept or not; the mask keeps the weights of the highest scores, as many as it always does. The
//! *short restriction* lets only a share of the weights that would change places do so, those that gain most.

use alloc::vec;
use alloc::vec::Vec;
use core::iter::StepBy;
use core::ops::Range;

use niwaki_codes::Mask;

use crate::{Error, ErrorKind, NofM};

/// What share of the exchanges that a step asks for are done, from the beginning of a search to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Restriction {
    /// All of them, always: what the released code does.
    None,
    /// (1 - t)^power.
    Poly(u32),
    /// Half a cosine.
    Cosine,
}

impl Restriction {
    /// The share where `part` of the search is done, both from 0 to 1.
    pub fn share(self, part: f64) -> f64 {
        let left = (1.0 - part).clamp(0.0, 1.0);
        match self {
            Self::None => 1.0,
            Self::Poly(power) => (0..power).fold(1.0, |share, _| share * left),
            Self::Cosine => half_cosine(1.0 - left),
        }
    }
}

/// (1 + cos(πt)) / 2, of t from 0 to 1, by its series: no library has the same last bits everywhere.
fn half_cosine(t: f64) -> f64 {
    let x = core::f64::consts::PI * t;
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..24 {
        let n = f64::from(2 * k);
        term *= -x * x / (n * (n - 1.0));
        sum += term;
    }
    (f64::midpoint(1.0, sum)).clamp(0.0, 1.0)
}

/// Which weights a mask may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// So many, anywhere.
    Count(usize),
    /// n of every m along a row.
    NofM(NofM),
    /// n of every m down a column: along the inputs of weights whose rows are inputs.
    NofMDown(NofM),
}

/// The numbers of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// How far scores follow.
    pub rate: f32,
    /// How much of the last step stays.
    pub momentum: f32,
    /// How much of each score is added to its gradient.
    pub decay: f32,
    /// What gradients are multiplied with first.
    pub scale: f32,
}

/// The exchanges of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flips {
    /// Pairs of a kept weight and a dropped one that would have changed places.
    pub wanted: usize,
    /// Pairs that did.
    pub done: usize,
}

/// The search for the mask of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    rows: usize,
    cols: usize,
    slots: Slots,
    kept: Vec<bool>,
    scores: Vec<f32>,
    velocity: Vec<f32>,
}

/// A score as a number that orders like it.
fn key(score: f32) -> u32 {
    let bits = score.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

impl Search {
    /// Begins with a mask: its weights have the score 1, the others `gap`, a little less.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Slots`] for a mask that does not keep what `slots` say.
    pub fn new(mask: &Mask, slots: Slots, gap: f32) -> Result<Self, Error> {
        let (rows, cols) = (mask.rows(), mask.cols());
        let kept: Vec<bool> = (0..rows)
            .flat_map(|row| (0..cols).map(move |col| (row, col)))
            .map(|(row, col)| mask.view().keeps(row, col).unwrap_or(false))
            .collect();
        let scores = kept.iter().map(|kept| if *kept { 1.0 } else { gap }).collect();
        Self { rows, cols, slots, velocity: vec![0.0; kept.len()], kept, scores }.checked()
    }

    /// Goes on where another one was: what [`state`](Self::state) gave.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Count`] for another number of weights, [`ErrorKind::Slots`] as in [`new`](Self::new), and
    /// [`ErrorKind::NotFinite`].
    pub fn restored(mut self, [kept, scores, velocity]: [Vec<f32>; 3]) -> Result<Self, Error> {
        let needs = self.kept.len();
        if let Some(has) = [&kept, &scores, &velocity].map(Vec::len).into_iter().find(|has| *has != needs) {
            return Err(ErrorKind::Count { needs: needs as u64, has: has as u64 }.into());
        }
        let odd = scores.iter().chain(&velocity).position(|x| !x.is_finite());
        if let Some(at) = odd {
            let value = scores.iter().chain(&velocity).nth(at).copied().unwrap_or(f32::NAN);
            return Err(ErrorKind::NotFinite { index: (at % needs.max(1)) as u64, value }.into());
        }
        self.kept = kept.into_iter().map(|kept| kept != 0.0).collect();
        (self.scores, self.velocity) = (scores, velocity);
        self.checked()
    }

    /// Which weights are kept (1 or 0), the scores, and what stays of their last step.
    pub fn state(&self) -> [Vec<f32>; 3] {
        let kept = self.kept.iter().map(|kept| if *kept { 1.0 } else { 0.0 }).collect();
        [kept, self.scores.clone(), self.velocity.clone()]
    }

    fn checked(self) -> Result<Self, Error> {
        let fits = match self.slots {
            Slots::Count(count) => self.kept.iter().filter(|kept| **kept).count() == count,
            Slots::NofM(run) | Slots::NofMDown(run) => {
                self.runs(run).all(|part| part.clone().filter(|at| self.kept[*at]).count() == run.n().min(part.len()))
            }
        };
        if fits { Ok(self) } else { Err(ErrorKind::Slots.into()) }
    }

    /// The runs of at most m weights, one line after the other: rows, or columns where runs go down them.
    fn runs(&self, run: NofM) -> impl Iterator<Item = StepBy<Range<usize>>> {
        let (lines, len, step, next) = match self.slots {
            Slots::NofMDown(_) => (self.cols, self.rows, self.cols, 1),
            _ => (self.rows, self.cols, 1, self.cols),
        };
        let part = move |line: usize, start: usize| {
            let end = (start + run.m()).min(len);
            (line * next + start * step..line * next + end * step).step_by(step)
        };
        (0..lines).flat_map(move |line| (0..len).step_by(run.m()).map(move |start| part(line, start)))
    }

    /// Where a weight stands in the order of the lines that runs go along.
    fn place(&self, at: usize) -> usize {
        match self.slots {
            Slots::NofMDown(_) => at % self.cols * self.rows + at / self.cols,
            _ => at,
        }
    }

    /// Writes the weights as the mask leaves them.
    pub fn apply(&self, weights: &[f32], effective: &mut [f32]) {
        for ((out, w), kept) in effective.iter_mut().zip(weights).zip(&self.kept) {
            *out = if *kept { *w } else { 0.0 };
        }
    }

    /// The mask.
    ///
    /// # Errors
    ///
    /// None of a search that began.
    pub fn mask(&self) -> Result<Mask, Error> {
        Ok(Mask::from_fn(self.rows, self.cols, |row, col| self.kept[row * self.cols + col])?)
    }

    /// Whether some weight is kept that others say is not, or dropped that they say is kept: `effective` has to be what
    /// the mask leaves of `weights`. The first that differs.
    pub fn differs(&self, weights: &[f32], effective: &[f32]) -> Option<usize> {
        let all = weights.iter().zip(effective).zip(&self.kept);
        all.into_iter().position(|((w, found), kept)| found.to_bits() != if *kept { w.to_bits() } else { 0 })
    }

    /// One step: `gradient` is that of the weights as the mask left them, `weights` are all of them, and in `effective`
    /// those change that change places, of which the share `share` may, rounded up.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Count`] for slices of another length, [`ErrorKind::NotFinite`] for the first score that is no number.
    pub fn step(
        &mut self,
        gradient: &[f32],
        weights: &[f32],
        effective: &mut [f32],
        rates: Rates,
        share: f64,
    ) -> Result<Flips, Error> {
        let needs = self.kept.len();
        if let Some(has) = [gradient.len(), weights.len(), effective.len()].into_iter().find(|has| *has != needs) {
            return Err(ErrorKind::Count { needs: needs as u64, has: has as u64 }.into());
        }
        self.descend(gradient, weights, rates);
        if let Some((at, value)) = self.scores.iter().enumerate().find(|(_, score)| !score.is_finite()) {
            return Err(ErrorKind::NotFinite { index: at as u64, value: *value }.into());
        }
        let (enter, leave) = match self.slots {
            Slots::Count(count) => self.exchange(count, share),
            Slots::NofM(run) | Slots::NofMDown(run) => self.exchange_in_runs(run, share),
        };
        let wanted = enter.0;
        for (enter, leave) in enter.1.iter().zip(&leave) {
            (self.kept[*enter], self.kept[*leave]) = (true, false);
            (effective[*enter], effective[*leave]) = (weights[*enter], 0.0);
        }
        Ok(Flips { wanted, done: leave.len() })
    }

    /// Moves the scores: SGD with momentum.
    fn descend(&mut self, gradient: &[f32], weights: &[f32], rates: Rates) {
        let Rates { rate, momentum, decay, scale } = rates;
        let all = self.scores.iter_mut().zip(&mut self.velocity).zip(gradient.iter().zip(weights));
        for ((score, velocity), (g, w)) in all {
            *velocity = momentum * *velocity + (g * scale * w + decay * *score);
            *score -= rate * *velocity;
        }
    }

    /// The order in which weights are kept: high scores first; of equal ones those that are kept, then those before.
    fn before(&self, a: usize, b: usize) -> core::cmp::Ordering {
        let rank = |at: usize| (core::cmp::Reverse(key(self.scores[at])), !self.kept[at], at);
        rank(a).cmp(&rank(b))
    }

    /// How many would enter, those that do, and as many that leave.
    fn exchange(&self, count: usize, share: f64) -> ((usize, Vec<usize>), Vec<usize>) {
        if count == 0 || count == self.kept.len() {
            return ((0, Vec::new()), Vec::new());
        }
        let mut keys: Vec<u32> = self.scores.iter().map(|score| key(*score)).collect();
        let (_, threshold, _) = keys.select_nth_unstable_by(count - 1, |a, b| b.cmp(a));
        let threshold = *threshold;
        let above = self.scores.iter().filter(|score| key(**score) > threshold).count();
        // Of those at the threshold the kept ones stay first.
        let mut ties = count - above;
        let mut stays = vec![false; self.kept.len()];
        for kept in [true, false] {
            for at in (0..self.kept.len()).filter(|at| self.kept[*at] == kept && key(self.scores[*at]) == threshold) {
                stays[at] = ties > 0;
                ties = ties.saturating_sub(1);
            }
        }
        let belongs = |at: usize| key(self.scores[at]) > threshold || stays[at];
        let (mut enter, mut leave) = (Vec::new(), Vec::new());
        for at in 0..self.kept.len() {
            match (self.kept[at], belongs(at)) {
                (false, true) => enter.push(at),
                (true, false) => leave.push(at),
                _ => {}
            }
        }
        let wanted = enter.len();
        enter.sort_unstable_by(|a, b| self.before(*a, *b));
        leave.sort_unstable_by(|a, b| self.before(*b, *a));
        let done = allowed(wanted, share);
        enter.truncate(done);
        leave.truncate(done);
        ((wanted, enter), leave)
    }

    /// The same within runs: pairs of one run, of which those stay that gain most.
    fn exchange_in_runs(&self, run: NofM, share: f64) -> ((usize, Vec<usize>), Vec<usize>) {
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        let mut order: Vec<usize> = Vec::with_capacity(run.m());
        for part in self.runs(run) {
            order.clear();
            order.extend(part);
            order.sort_unstable_by(|a, b| self.before(*a, *b));
            let (first, last) = order.split_at(run.n().min(order.len()));
            let enter = first.iter().filter(|at| !self.kept[**at]);
            let leave = last.iter().rev().filter(|at| self.kept[**at]);
            pairs.extend(enter.copied().zip(leave.copied()));
        }
        let wanted = pairs.len();
        let gain = |(enter, leave): &(usize, usize)| self.scores[*enter] - self.scores[*leave];
        let places = |(enter, leave): &(usize, usize)| (self.place(*enter), self.place(*leave));
        pairs.sort_unstable_by(|a, b| gain(b).total_cmp(&gain(a)).then(places(a).cmp(&places(b))));
        pairs.truncate(allowed(wanted, share));
        let (enter, leave) = pairs.into_iter().unzip();
        ((wanted, enter), leave)
    }
}

/// A share of so many, rounded up.
fn allowed(wanted: usize, share: f64) -> usize {
    let part = share.clamp(0.0, 1.0) * wanted as f64;
    let whole = part as usize;
    (whole + usize::from(part > whole as f64)).min(wanted)
}

#[cfg(test)]
mod tests;
