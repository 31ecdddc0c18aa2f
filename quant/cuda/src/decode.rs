//! From packed codes to weights, and to products.

use niwaki_codes::{Grouping, Symmetry, Uniform};

use crate::card::Theme;
use crate::encode::{Fit, words};
use crate::error::{exactly, small};
use crate::work::{Arg, Launch, Work, blocks};
use crate::{Card, Error};

/// Packed codes of whole rows, borrowed.
#[derive(Clone, Copy)]
struct Coded<'a> {
    scheme: &'a Uniform,
    rows: usize,
    cols: usize,
    parts: [&'a [u8]; 3],
}

impl Coded<'_> {
    fn check(&self) -> Result<(), Error> {
        let groups = self.scheme.groups(self.rows, self.cols);
        let zeros = groups * usize::from(self.scheme.symmetry == Symmetry::Affine);
        exactly("codes", self.rows * self.scheme.row_bytes(self.cols), self.parts[0].len())?;
        exactly("scales", groups * self.scheme.scale_type().bytes(), self.parts[1].len())?;
        exactly("zeros", zeros, self.parts[2].len())
    }

    /// What kernels are told behind the parts.
    fn words(&self) -> Result<[Arg; 5], Error> {
        let group = match self.scheme.grouping {
            Grouping::Group(g) => g.get(),
            Grouping::Row => self.cols,
            Grouping::Tensor => return Err(Error::Length { what: "group", needs: self.cols, has: usize::MAX }),
        };
        let [bits, flags] = words(self.scheme, Fit::MinMax);
        let sizes = [small("rows", self.rows)?, small("columns", self.cols)?, small("group", group)?];
        let [rows, cols, group] = sizes.map(Arg::U32);
        Ok([rows, cols, group, bits, flags])
    }

    fn upload(&self, work: &mut Work<'_>) -> Result<[Arg; 3], Error> {
        for (nth, part) in self.parts.iter().enumerate() {
            work.upload(nth, part)?;
        }
        Ok([0, 1, 2].map(|nth| work.input(nth)))
    }
}

impl Card {
    /// Decodes whole rows of codes with a scale a group or a row: `parts` are codes, scales and zero points.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for parts of another length and a grouping by tensor, [`Error::TooMany`], [`Error::Driver`].
    pub fn decode(&self, scheme: &Uniform, (rows, cols): (usize, usize), parts: [&[u8]; 3]) -> Result<Vec<f32>, Error> {
        let coded = Coded { scheme, rows, cols, parts };
        coded.check()?;
        if rows * cols == 0 {
            return Ok(Vec::new());
        }
        let words = coded.words()?;
        let mut work = self.work(&parts.map(<[u8]>::len), &[4 * rows * cols])?;
        let from = coded.upload(&mut work)?;
        let launch = Launch {
            theme: Theme::Decode,
            kernel: "niwaki_decode",
            blocks: (blocks(rows * cols.div_ceil(8), 256)?, 1),
            threads: 256,
            shared: 0,
        };
        work.launch(&launch, &[&from[..], &words, &[work.output(0)]].concat())?;
        Ok(work.download()?.numbers(0).to_vec())
    }

    /// The product of each row with inputs. Sums are in one order, and fused; each lies within
    /// `2 cols 2^-24 sum |x' x|` of the exact one.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode), and [`Error::Length`] for another number of inputs than columns.
    pub fn gemv(
        &self,
        scheme: &Uniform,
        (rows, cols): (usize, usize),
        parts: [&[u8]; 3],
        x: &[f32],
    ) -> Result<Vec<f32>, Error> {
        let coded = Coded { scheme, rows, cols, parts };
        coded.check()?;
        exactly("inputs", cols, x.len())?;
        if rows * cols == 0 {
            return Ok(vec![0.0; rows]);
        }
        let words = coded.words()?;
        let [codes, scales, zeros] = parts.map(<[u8]>::len);
        let mut work = self.work(&[codes, scales, zeros, 4 * cols], &[4 * rows])?;
        let from = coded.upload(&mut work)?;
        work.upload(3, bytemuck::cast_slice(x))?;
        let launch = Launch {
            theme: Theme::Decode,
            kernel: "niwaki_gemv",
            blocks: (blocks(rows, 256 / 32)?, 1),
            threads: 256,
            shared: 0,
        };
        work.launch(&launch, &[&from[..], &[work.input(3)], &words, &[work.output(0)]].concat())?;
        Ok(work.download()?.numbers(0).to_vec())
    }
}
