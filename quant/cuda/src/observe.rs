//! What is remembered of numbers: ranges, counts, sums of squares and of products.

use crate::card::Theme;
use crate::error::{exactly, small};
use crate::work::{Arg, Launch, Work, blocks};
use crate::{Card, Error, Numbers};

/// Numbers of a row that one block looks at.
pub(crate) const SPAN: usize = 1 << 16;

/// Rows that one thread looks at, of a column.
const DEEP: usize = 256;

/// Bins of a histogram.
const BINS: usize = 8193;

/// How far some numbers reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The largest magnitude; of two the negative one. Not finite where some number is not.
    pub extreme: f32,
    /// The least; infinite where there is none.
    pub low: f32,
    /// The greatest; infinite, and negative, where there is none.
    pub high: f32,
}

/// Puts the ranges of parts together: part p of range r is at `p * apart + r * step`.
fn together(parts: [&[u32]; 3], range: usize, count: usize, step: usize, apart: usize) -> Range {
    let all = |of: &'static dyn Fn(u32, u32) -> u32, bits: &[u32]| {
        (0..count).map(|part| bits[range * step + part * apart]).reduce(of).unwrap_or(0)
    };
    let key = all(&|a, b| a.max(b), parts[0]);
    let low = all(&|a, b| f32::from_bits(a).min(f32::from_bits(b)).to_bits(), parts[1]);
    let high = all(&|a, b| f32::from_bits(a).max(f32::from_bits(b)).to_bits(), parts[2]);
    Range { extreme: f32::from_bits(key.rotate_right(1)), low: f32::from_bits(low), high: f32::from_bits(high) }
}

/// Starts the kernel for ranges of rows of the work's first input, to outputs of keys, lows and highs.
pub(crate) fn row_ranges(
    work: &mut Work<'_>,
    numbers: Numbers<'_>,
    (rows, cols): (usize, usize),
    outputs: [usize; 3],
) -> Result<(), Error> {
    let parts = cols.div_ceil(SPAN);
    let names = ["niwaki_row_ranges_f32", "niwaki_row_ranges_bf16", "niwaki_row_ranges_f16"];
    let launch = Launch {
        theme: Theme::Ranges,
        kernel: numbers.of_type(names),
        blocks: (small("parts of rows", rows * parts)?, 1),
        threads: 256,
        shared: 3 * 8 * 4,
    };
    let sizes = [small("columns", cols)?, small("parts", parts)?, SPAN as u32].map(Arg::U32);
    let to = outputs.map(|nth| work.output(nth));
    work.launch(&launch, &[&[work.input(0)][..], &sizes, &to].concat())
}

/// A grid of threads for columns, and for runs of rows, of which there are so many.
fn columns(theme: Theme, kernel: &'static str, cols: usize, runs: usize) -> Result<Launch, Error> {
    const MOST: usize = 65_535;
    if runs > MOST {
        return Err(Error::TooMany { what: "rows", most: MOST * DEEP, has: runs * DEEP });
    }
    Ok(Launch { theme, kernel, blocks: (blocks(cols, 256)?, runs as u32), threads: 256, shared: 0 })
}

impl Card {
    /// The range of each row of `cols` numbers.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for numbers that are not whole rows, [`Error::TooMany`], [`Error::Driver`].
    pub fn row_ranges(&self, numbers: Numbers<'_>, cols: usize) -> Result<Vec<Range>, Error> {
        let rows = numbers.len().checked_div(cols).unwrap_or(0);
        exactly("numbers", rows * cols, numbers.len())?;
        if rows == 0 {
            return Ok(Vec::new());
        }
        let parts = cols.div_ceil(SPAN);
        let mut work = self.work(&[numbers.bytes().len()], &[4 * rows * parts; 3])?;
        work.upload(0, numbers.bytes())?;
        row_ranges(&mut work, numbers, (rows, cols), [0, 1, 2])?;
        let done = work.download()?;
        let found = [0, 1, 2].map(|nth| done.numbers::<u32>(nth));
        Ok((0..rows).map(|row| together(found, row, parts, parts, 1)).collect())
    }

    /// The range of each of `cols` columns.
    ///
    /// # Errors
    ///
    /// As [`row_ranges`](Self::row_ranges).
    pub fn column_ranges(&self, numbers: Numbers<'_>, cols: usize) -> Result<Vec<Range>, Error> {
        let rows = numbers.len().checked_div(cols).unwrap_or(0);
        exactly("numbers", rows * cols, numbers.len())?;
        if rows == 0 {
            return Ok(Vec::new());
        }
        let runs = rows.div_ceil(DEEP);
        let names = ["niwaki_column_ranges_f32", "niwaki_column_ranges_bf16", "niwaki_column_ranges_f16"];
        let launch = columns(Theme::Ranges, numbers.of_type(names), cols, runs)?;
        let mut work = self.work(&[numbers.bytes().len()], &[4 * runs * cols; 3])?;
        work.upload(0, numbers.bytes())?;
        let sizes = [small("rows", rows)?, small("columns", cols)?, DEEP as u32].map(Arg::U32);
        let to = [0, 1, 2].map(|nth| work.output(nth));
        work.launch(&launch, &[&[work.input(0)][..], &sizes, &to].concat())?;
        let done = work.download()?;
        let found = [0, 1, 2].map(|nth| done.numbers::<u32>(nth));
        Ok((0..cols).map(|column| together(found, column, runs, 1, cols)).collect())
    }

    /// How often numbers fall into each of the 8193 bins of niwaki-quant's histograms.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub fn histogram(&self, numbers: Numbers<'_>) -> Result<Vec<u64>, Error> {
        let mut work = self.work(&[numbers.bytes().len()], &[8 * BINS])?;
        work.upload(0, numbers.bytes())?;
        work.clear(0)?;
        let each = 16 / numbers.size() * 512;
        let launch = Launch {
            theme: Theme::Counts,
            kernel: numbers.of_type(["niwaki_histogram_f32", "niwaki_histogram_bf16", "niwaki_histogram_f16"]),
            blocks: (blocks(numbers.len(), each)?.min(self.busy), 1),
            threads: 512,
            shared: 4 * BINS,
        };
        work.launch(&launch, &[work.input(0), Arg::U64(numbers.len() as u64), work.output(0)])?;
        Ok(work.download()?.numbers(0).to_vec())
    }

    /// The sum of squares of each of `cols` columns, in doubles: of runs of 256 rows first, in order.
    ///
    /// # Errors
    ///
    /// As [`row_ranges`](Self::row_ranges).
    pub fn second_moments(&self, numbers: Numbers<'_>, cols: usize) -> Result<Vec<f64>, Error> {
        let rows = numbers.len().checked_div(cols).unwrap_or(0);
        exactly("numbers", rows * cols, numbers.len())?;
        if rows == 0 {
            return Ok(vec![0.0; cols]);
        }
        let runs = rows.div_ceil(DEEP);
        let names = ["niwaki_second_moments_f32", "niwaki_second_moments_bf16", "niwaki_second_moments_f16"];
        let first = columns(Theme::Moments, numbers.of_type(names), cols, runs)?;
        let second = columns(Theme::Moments, "niwaki_add_runs", cols, 1)?;
        let mut work = self.work(&[numbers.bytes().len()], &[8 * runs * cols, 8 * cols])?;
        work.upload(0, numbers.bytes())?;
        let [rows, cols, runs] = [small("rows", rows)?, small("columns", cols)?, small("runs", runs)?].map(Arg::U32);
        work.launch(&first, &[work.input(0), rows, cols, Arg::U32(DEEP as u32), work.output(0)])?;
        work.launch(&second, &[work.output(0), runs, cols, work.output(1)])?;
        Ok(work.download()?.numbers(1).to_vec())
    }
}

/// The upper half of a Gram matrix that stays on the device while rows go by.
pub struct GramSums<'c> {
    inputs: usize,
    /// Rows that go to the device at a time: a multiple of those that are added up first.
    most: usize,
    work: Work<'c>,
}

impl<'c> GramSums<'c> {
    /// Rows whose products are added up before they are added to the rest.
    const DEEP: usize = 64;

    /// Of so many inputs, none of which was seen.
    ///
    /// # Errors
    ///
    /// [`Error::TooMany`], [`Error::Driver`].
    pub fn new(card: &'c Card, inputs: usize) -> Result<Self, Error> {
        Self::at_a_time(card, inputs, (1 << 20) / inputs.max(1))
    }

    /// The same with room for so many rows on the device, to the next 64: sums are the same.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn at_a_time(card: &'c Card, inputs: usize, rows: usize) -> Result<Self, Error> {
        let most = rows.max(1).next_multiple_of(Self::DEEP);
        let mut work = card.work(&[4 * most * inputs], &[8 * inputs * inputs])?;
        work.clear(0)?;
        Ok(Self { inputs, most, work })
    }

    /// Adds rows with a number for each input, in the order of niwaki-quant's `Gram`: 64 rows of the call first.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for numbers that are not whole rows, [`Error::TooMany`], [`Error::Driver`].
    pub fn rows(&mut self, numbers: Numbers<'_>) -> Result<(), Error> {
        let inputs = self.inputs;
        exactly("numbers", numbers.len().checked_div(inputs).unwrap_or(0) * inputs, numbers.len())?;
        if numbers.is_empty() {
            return Ok(());
        }
        let side = blocks(inputs, 64)?;
        let launch = Launch {
            theme: Theme::Gram,
            kernel: numbers.of_type(["niwaki_gram_f32", "niwaki_gram_bf16", "niwaki_gram_f16"]),
            blocks: (side, side),
            threads: 256,
            shared: 2 * 16 * 64 * 4,
        };
        let columns = Arg::U32(small("inputs", inputs)?);
        let row = inputs * numbers.size();
        for some in numbers.bytes().chunks(self.most * row) {
            let rows = Arg::U32(small("rows", some.len() / row)?);
            self.work.wait()?;
            self.work.upload_some(0, some)?;
            self.work.launch(&launch, &[self.work.input(0), rows, columns, self.work.output(0)])?;
        }
        Ok(())
    }

    /// The sums of products, `[inputs, inputs]`, of which those on and above the diagonal count; those below are 0.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub fn into_sums(mut self) -> Result<Vec<f64>, Error> {
        Ok(self.work.read(0)?.to_vec())
    }
}

impl std::fmt::Debug for GramSums<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GramSums").field("inputs", &self.inputs).finish_non_exhaustive()
    }
}
