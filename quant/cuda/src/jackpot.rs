//! The search for a mask whose weights change places (niwaki-prune's `jackpot`).

use crate::card::Theme;
use crate::error::{exactly, small};
use crate::select::digit_of;
use crate::work::{Arg, Launch, Work, blocks};
use crate::{Card, Error};

/// Threads of a block.
const THREADS: u32 = 256;

/// Outputs of a step.
const SCORES: usize = 0;
const VELOCITY: usize = 1;
const KEPT: usize = 2;
const EFFECTIVE: usize = 3;
const COUNTS: usize = 4;
const FAULTS: usize = 5;

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

/// A search that keeps so many weights of a tensor, anywhere in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// 1 for a weight that is kept, else 0.
    pub kept: Vec<u8>,
    /// The score of each weight.
    pub scores: Vec<f32>,
    /// What moves the scores on.
    pub velocity: Vec<f32>,
}

/// Whose ranks are looked at.
#[derive(Clone, Copy)]
enum Among {
    All = 0,
    Enter = 1,
    Leave = 2,
}

/// The weights of a step on the device.
struct Ranks<'w, 'c> {
    work: &'w mut Work<'c>,
    n: u32,
    blocks: u32,
    /// Ranks from here on are kept in the end.
    threshold: u64,
}

impl Ranks<'_, '_> {
    /// The k-th rank from the highest down, and how many ranks there are.
    fn nth(&mut self, among: Among, k: impl Fn(u64) -> u64) -> Result<(u64, u64), Error> {
        let (mut prefix, mut higher, mut keep, mut all) = (0u64, 0, 0, 0);
        for shift in (0..64).step_by(8).rev() {
            self.work.clear(COUNTS)?;
            let launch = Launch {
                theme: Theme::Jackpot,
                kernel: "niwaki_rank_digits",
                blocks: (self.blocks.min(512), 1),
                threads: THREADS,
                shared: 4 * 256,
            };
            let args = [
                self.work.output(SCORES),
                self.work.output(KEPT),
                Arg::U32(self.n),
                Arg::U32(among as u32),
                Arg::U64(self.threshold),
                Arg::U64(prefix),
                Arg::U32(shift),
                self.work.output(COUNTS),
            ];
            self.work.launch(&launch, &args)?;
            let counts = self.work.read::<u32>(COUNTS)?.iter().map(|count| u64::from(*count));
            if shift == 56 {
                all = counts.clone().sum();
                keep = k(all);
            }
            prefix = prefix << 8 | u64::from(digit_of(counts, keep, &mut higher));
        }
        Ok((prefix, all))
    }
}

impl Card {
    /// One step: `gradient` is that of the weights as the mask left them, `weights` are all of them, and in `effective`
    /// those change that change places. How many pairs would have, and how many did, of which `allowed` says how many may.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for slices of another length, [`Error::NotFinite`] for a score that is no number, and
    /// [`Error::Driver`]; the search is then as it was.
    pub fn jackpot_step(
        &self,
        search: &mut Search,
        [gradient, weights]: [&[f32]; 2],
        effective: &mut [f32],
        rates: Rates,
        allowed: impl Fn(u64) -> u64,
    ) -> Result<(u64, u64), Error> {
        let n = search.kept.len();
        for has in [gradient.len(), weights.len(), effective.len(), search.scores.len(), search.velocity.len()] {
            exactly("weights", n, has)?;
        }
        let count = search.kept.iter().map(|kept| u64::from(*kept)).sum::<u64>();
        let mut work = self.work(&[4 * n, 4 * n], &[4 * n, 4 * n, n, 4 * n, 4 * 256, 4])?;
        work.upload(0, bytemuck::cast_slice(gradient))?;
        work.upload(1, bytemuck::cast_slice(weights))?;
        work.begin_with(SCORES, bytemuck::cast_slice(&search.scores))?;
        work.begin_with(VELOCITY, bytemuck::cast_slice(&search.velocity))?;
        work.begin_with(KEPT, &search.kept)?;
        work.begin_with(EFFECTIVE, bytemuck::cast_slice(effective))?;
        work.clear(FAULTS)?;
        work.clear(COUNTS)?;
        let grid = (blocks(n, THREADS as usize)?, 1);
        descend(&mut work, small("weights", n)?, grid, rates)?;
        if work.read::<u32>(FAULTS)? != [0] {
            return Err(Error::NotFinite);
        }
        let mut flips = (0, 0);
        if count > 0 && count < n as u64 {
            let mut ranks = Ranks { work: &mut work, n: n as u32, blocks: grid.0, threshold: 0 };
            ranks.threshold = ranks.nth(Among::All, |_| count)?.0;
            let (enter, wanted) = ranks.nth(Among::Enter, &allowed)?;
            flips = (wanted, allowed(wanted));
            if flips.1 > 0 {
                // Of those that leave the lowest ones: all but the first of the rest.
                let leave = ranks.nth(Among::Leave, |all| all - flips.1 + 1)?.0;
                let threshold = ranks.threshold;
                swap(&mut work, n as u32, grid, [threshold, enter, leave])?;
            }
        }
        let done = work.download()?;
        search.scores.copy_from_slice(done.numbers(SCORES));
        search.velocity.copy_from_slice(done.numbers(VELOCITY));
        search.kept.copy_from_slice(done.get(KEPT));
        effective.copy_from_slice(done.numbers(EFFECTIVE));
        Ok(flips)
    }
}

fn descend(work: &mut Work<'_>, n: u32, blocks: (u32, u32), rates: Rates) -> Result<(), Error> {
    let launch = Launch { theme: Theme::Jackpot, kernel: "niwaki_descend", blocks, threads: THREADS, shared: 0 };
    let rates = [rates.rate, rates.momentum, rates.decay, rates.scale].map(Arg::F32);
    let to = [SCORES, VELOCITY, FAULTS].map(|nth| work.output(nth));
    work.launch(&launch, &[&[work.input(0), work.input(1), Arg::U32(n)][..], &rates, &to].concat())
}

fn swap(work: &mut Work<'_>, n: u32, blocks: (u32, u32), ranks: [u64; 3]) -> Result<(), Error> {
    let launch = Launch { theme: Theme::Jackpot, kernel: "niwaki_swap", blocks, threads: THREADS, shared: 0 };
    let (ranks, to) = (ranks.map(Arg::U64), [KEPT, EFFECTIVE].map(|nth| work.output(nth)));
    work.launch(&launch, &[&[work.output(SCORES), work.input(1), Arg::U32(n)][..], &ranks, &to].concat())
}
