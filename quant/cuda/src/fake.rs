//! Fake quantization with a learned step and offset.

use crate::card::Theme;
use crate::error::exactly;
use crate::work::{Arg, Launch, blocks};
use crate::{Card, Error};

/// Values whose slopes are added up in floats.
const RUN: usize = 1024;

/// A grid: `x' = step q + offset`, `q` from `low` to `high`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learned {
    /// The distance between neighbours.
    pub step: f32,
    /// What code 0 stands for.
    pub offset: f32,
    /// The least code.
    pub low: f32,
    /// The largest code.
    pub high: f32,
}

/// What a loss changes with, by the grid.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slopes {
    /// With the step.
    pub step: f64,
    /// With the offset.
    pub offset: f64,
}

impl Learned {
    fn words(&self) -> [Arg; 4] {
        [self.step, self.offset, self.low, self.high].map(Arg::F32)
    }
}

impl Card {
    /// Puts values onto a grid; NaN stays NaN.
    ///
    /// # Errors
    ///
    /// [`Error::TooMany`], [`Error::Driver`].
    pub fn fake_quantize(&self, grid: Learned, x: &[f32]) -> Result<Vec<f32>, Error> {
        let mut work = self.work(&[4 * x.len()], &[4 * x.len()])?;
        work.upload(0, bytemuck::cast_slice(x))?;
        let launch = Launch {
            theme: Theme::Fake,
            kernel: "niwaki_fake_quantize",
            blocks: (blocks(x.len(), 4 * 128)?, 1),
            threads: 128,
            shared: 0,
        };
        let n = Arg::U64(x.len() as u64);
        work.launch(&launch, &[&[work.input(0), n][..], &grid.words(), &[work.output(0)]].concat())?;
        Ok(work.download()?.numbers(0).to_vec())
    }

    /// Takes gradients of what [`fake_quantize`](Self::fake_quantize) made of `x` back: `gradients` become those of `x`.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for another number of gradients than values; as there.
    pub fn fake_quantize_back(&self, grid: Learned, x: &[f32], gradients: &mut [f32]) -> Result<Slopes, Error> {
        exactly("gradients", x.len(), gradients.len())?;
        let runs = x.len().div_ceil(RUN);
        let mut work = self.work(&[4 * x.len()], &[4 * x.len(), 8 * runs])?;
        work.upload(0, bytemuck::cast_slice(x))?;
        work.begin_with(0, bytemuck::cast_slice(gradients))?;
        let launch = Launch {
            theme: Theme::Fake,
            kernel: "niwaki_fake_quantize_back",
            blocks: (blocks(runs, 128 / 16)?, 1),
            threads: 128,
            shared: 0,
        };
        let (n, to) = (Arg::U64(x.len() as u64), [work.output(0), work.output(1)]);
        work.launch(&launch, &[&[work.input(0), n][..], &grid.words(), &to].concat())?;
        let done = work.download()?;
        gradients.copy_from_slice(done.numbers(0));
        let mut slopes = Slopes::default();
        for [step, offset] in done.numbers::<f32>(1).as_chunks::<2>().0 {
            slopes.step += f64::from(*step);
            slopes.offset += f64::from(*offset);
        }
        Ok(slopes)
    }
}
