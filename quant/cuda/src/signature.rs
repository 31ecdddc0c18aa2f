//! What a robust training changed that an ordinary one did not (niwaki-quant's `signature::extract`).

use crate::card::Theme;
use crate::error::exactly;
use crate::work::{Arg, Launch, Work, blocks};
use crate::{Card, Error};

/// Weights that are added up together.
const BLOCK: usize = 4096;

/// Sums of each.
const SUMS: usize = 5;

fn work<'c>(card: &'c Card, of: [&[f32]; 3], outputs: &[usize]) -> Result<Work<'c>, Error> {
    let n = of[0].len();
    of.iter().try_for_each(|one| exactly("weights", n, one.len()))?;
    let mut work = card.work(&[4 * n; 3], outputs)?;
    for (nth, weights) in of.iter().enumerate() {
        work.upload(nth, bytemuck::cast_slice(weights))?;
    }
    Ok(work)
}

impl Card {
    /// Of `[init, standard, robust]` the sums of v a, a a, v v, standard² and (robust - standard)² of each block of 4096
    /// weights, with a = standard - init and v = robust - init.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for slices of different lengths, [`Error::Driver`].
    pub fn signature_moments(&self, of: [&[f32]; 3]) -> Result<Vec<[f64; SUMS]>, Error> {
        let n = of[0].len();
        let count = n.div_ceil(BLOCK);
        let mut work = work(self, of, &[8 * SUMS * count])?;
        let launch = Launch {
            theme: Theme::Signature,
            kernel: "niwaki_signature_moments",
            blocks: (blocks(count, 128 / 16)?, 1),
            threads: 128,
            shared: 0,
        };
        let [init, standard, robust] = [0, 1, 2].map(|nth| work.input(nth));
        work.launch(&launch, &[init, standard, robust, Arg::U64(n as u64), work.output(0)])?;
        Ok(work.download()?.numbers::<f64>(0).as_chunks::<SUMS>().0.to_vec())
    }

    /// The signature of `[init, standard, robust]`: `v - coefficient a`, rounded once.
    ///
    /// # Errors
    ///
    /// As [`signature_moments`](Self::signature_moments).
    pub fn signature(&self, of: [&[f32]; 3], coefficient: f64) -> Result<Vec<f32>, Error> {
        let n = of[0].len();
        let mut work = work(self, of, &[4 * n])?;
        let launch = Launch {
            theme: Theme::Signature,
            kernel: "niwaki_signature",
            blocks: (blocks(n, 128)?, 1),
            threads: 128,
            shared: 0,
        };
        let [init, standard, robust] = [0, 1, 2].map(|nth| work.input(nth));
        let numbers = [Arg::U64(n as u64), Arg::F64(coefficient)];
        work.launch(&launch, &[init, standard, robust, numbers[0], numbers[1], work.output(0)])?;
        Ok(work.download()?.numbers(0).to_vec())
    }
}
