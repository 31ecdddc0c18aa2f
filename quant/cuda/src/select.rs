//! The k-th largest magnitude.

use crate::card::Theme;
use crate::error::exactly;
use crate::work::{Arg, Launch, blocks};
use crate::{Card, Error, Numbers};

/// Digits of a magnitude: where the bits above begin, where it begins, and how many bits it has.
const DIGITS: [(u32, u32, u32); 3] = [(31, 20, 11), (20, 10, 10), (10, 0, 10)];

impl Card {
    /// The bits of the `keep`-th largest magnitude, and how many weights of just this magnitude are among the `keep`
    /// largest: niwaki-prune's threshold.
    ///
    /// # Errors
    ///
    /// [`Error::NotFinite`], [`Error::Length`] for fewer weights than that or none, [`Error::Driver`].
    pub fn threshold(&self, weights: Numbers<'_>, keep: u64) -> Result<(u32, u64), Error> {
        let wanted = usize::try_from(keep).unwrap_or(usize::MAX).max(1);
        exactly("weights", wanted.max(weights.len()), weights.len())?;
        let mut work = self.work(&[weights.bytes().len()], &[8 << 11, 4])?;
        work.upload(0, weights.bytes())?;
        let names = ["niwaki_magnitude_digits_f32", "niwaki_magnitude_digits_bf16", "niwaki_magnitude_digits_f16"];
        let (mut prefix, mut larger) = (0, 0);
        for (above, shift, bits) in DIGITS {
            work.clear(0)?;
            work.clear(1)?;
            let launch = Launch {
                theme: Theme::Select,
                kernel: weights.of_type(names),
                blocks: (blocks(weights.len(), 16 / weights.size() * 512)?.min(self.busy), 1),
                threads: 512,
                shared: 4 << bits,
            };
            let words = [above, prefix, shift, bits].map(Arg::U32);
            let (n, to) = (Arg::U64(weights.len() as u64), [work.output(0), work.output(1)]);
            work.launch(&launch, &[&[work.input(0), n][..], &words, &to].concat())?;
            let done = work.download()?;
            if done.numbers::<u32>(1) != [0] {
                return Err(Error::NotFinite);
            }
            let digit = digit_of(done.numbers::<u64>(0).iter().copied().take(1 << bits), keep, &mut larger);
            prefix = prefix << bits | digit;
        }
        Ok((prefix, keep - larger))
    }
}

/// The digit at which so many are reached, from the largest down; `larger` grows by those above it.
pub(crate) fn digit_of(
    counts: impl DoubleEndedIterator<Item = u64> + ExactSizeIterator,
    keep: u64,
    larger: &mut u64,
) -> u32 {
    for (digit, count) in counts.enumerate().rev() {
        if *larger + count >= keep {
            return digit as u32;
        }
        *larger += count;
    }
    0
}
