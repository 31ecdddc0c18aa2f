//! Bit-planes of codes.

use crate::card::Theme;
use crate::error::exactly;
use crate::work::{Arg, Launch, blocks};
use crate::{Card, Error};

fn launch(kernel: &'static str, codes: usize) -> Result<Launch, Error> {
    let blocks = (blocks(codes.div_ceil(8), 256)?, 1);
    Ok(Launch { theme: Theme::Planes, kernel, blocks, threads: 256, shared: 0 })
}

impl Card {
    /// The planes of codes of one byte, that of bit 0 first: `ceil(n / 8)` bytes each.
    ///
    /// # Errors
    ///
    /// [`Error::TooMany`], [`Error::Driver`].
    pub fn split_planes(&self, codes: &[u8]) -> Result<[Vec<u8>; 8], Error> {
        let size = codes.len().div_ceil(8);
        let mut work = self.work(&[codes.len()], &[8 * size])?;
        work.upload(0, codes)?;
        if size > 0 {
            let sizes = [Arg::U64(codes.len() as u64), Arg::U64(size as u64)];
            let launch = launch("niwaki_split_planes", codes.len())?;
            work.launch(&launch, &[work.input(0), sizes[0], sizes[1], work.output(0)])?;
        }
        let done = work.download()?;
        Ok(std::array::from_fn(|plane| done.get(0)[plane * size..(plane + 1) * size].to_vec()))
    }

    /// The codes of so many of the most significant planes, that of the least bit first: of one byte, shifted down.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for more than eight planes or one of another length; as [`split_planes`](Self::split_planes).
    pub fn merge_planes(&self, planes: &[&[u8]], codes: usize) -> Result<Vec<u8>, Error> {
        let size = codes.div_ceil(8);
        let first =
            8usize.checked_sub(planes.len()).ok_or(Error::Length { what: "planes", needs: 8, has: planes.len() })?;
        planes.iter().try_for_each(|plane| exactly("plane", size, plane.len()))?;
        let mut all = vec![0; first * size];
        planes.iter().for_each(|plane| all.extend_from_slice(plane));
        let mut work = self.work(&[8 * size], &[codes])?;
        work.upload(0, &all)?;
        if size > 0 {
            let sizes = [Arg::U64(codes as u64), Arg::U64(size as u64), Arg::U32(first as u32)];
            let launch = launch("niwaki_merge_planes", codes)?;
            work.launch(&launch, &[&[work.input(0)][..], &sizes, &[work.output(0)]].concat())?;
        }
        Ok(work.download()?.get(0).to_vec())
    }
}
