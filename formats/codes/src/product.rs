//! Products of packed rows with inputs: `y = w . x` without decoded weights in memory.
//!
//! Inputs are floats, or floats rounded to codes of 8 bits in blocks of 32 ([`Inputs::new`]).
//!
//! ```text
//! row of codes    q q q q q q q q | q q q q q q q q | ..   scale s and middle z a group
//! inputs          x x x x x x x x | x x x x x x x x | ..   scale t a block of 32, where rounded
//! lane            0               | 1               | ..   eight columns, four above 4 bits
//!
//! y = sum over lanes (s * t) * sum over its columns (q - z) * x
//! ```
//!
//! With rounded inputs the sum of a lane is an exact integer, and lanes are added up in sixteen
//! sums in one order: every kernel gives the same bits. With floats the order of sums is the
//! kernel's own, one for any number of threads; each lies within `cols * 2^-24 * sum s 2^b |x|` of
//! the exact product of the decoded weights.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod blocks;
mod decoded;
mod inputs;
mod kept;
mod plain;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(all(test, feature = "std"))]
mod tests;

use core::ops::Range;

pub use decoded::{BLOCK, INPUTS, dot, row_products};
pub use inputs::{Form, Inputs, Scratch, Sizes};
pub use kept::KeptSums;

use crate::simd::Level;
use crate::uniform::Parts;
use crate::{Error, ErrorKind, UniformView};

#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Vnni};

/// Sums that a row is spread over.
pub(crate) const SUMS: usize = 16;

/// Columns that inputs are padded to.
pub(crate) const CHUNK: usize = 128;

/// Kernels for products on this CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// One body for every instruction set, stamped: the definition.
    Plain(Level),
    /// AVX2 with FMA, F16C and BMI2.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// AVX-512 with VNNI and VBMI.
    #[cfg(target_arch = "x86_64")]
    Vnni(Vnni),
}

impl Kernel {
    /// The fastest of this CPU.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(proof) = Vnni::detect() {
            return Self::Vnni(proof);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(proof) = Avx2::detect() {
            return Self::Avx2(proof);
        }
        Self::Plain(Level::best())
    }

    /// Every one of this CPU, slowest first.
    pub fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let more = [Avx2::detect().map(Self::Avx2), Vnni::detect().map(Self::Vnni)];
        #[cfg(not(target_arch = "x86_64"))]
        let more = [None; 0];
        Level::all().map(Self::Plain).chain(more.into_iter().flatten())
    }

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain(level) => level.name(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2-products",
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(_) => "avx512-vnni",
        }
    }

    /// What decodes beside it.
    pub fn level(self) -> Level {
        match self {
            Self::Plain(level) => level,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(proof) => Level::Avx2(proof),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(proof) => Level::Avx512(proof.avx512()),
        }
    }
}

impl UniformView<'_> {
    /// The form of inputs that a kernel reads fastest, of floats or of floats that are rounded.
    /// Products with any other are right too, and slower.
    pub fn form(&self, kernel: Kernel, rounded: bool) -> Form {
        let four = self.scheme().bits.get() == 4;
        match kernel {
            _ if rounded => {
                if four && lanes_fit(self.parts()) {
                    Form::Eights
                } else {
                    Form::Fours
                }
            }
            #[cfg(target_arch = "x86_64")]
            Kernel::Vnni(_) if four && x86_64::fits(self.parts()) => Form::Turned,
            _ => Form::Plain,
        }
    }

    /// The products of rows with inputs, one a row: `out[i]` is that of row `rows.start + i`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Range`] for rows that are not there, inputs of another length than a row, or
    /// an `out` of another length than there are rows.
    pub fn products(&self, kernel: Kernel, rows: Range<usize>, x: &Inputs<'_>, out: &mut [f32]) -> Result<(), Error> {
        check(&rows, (self.rows(), self.cols()), x, out.len())?;
        let parts = self.parts();
        #[cfg(target_arch = "x86_64")]
        if let Kernel::Vnni(proof) = kernel
            && x86_64::can(parts, x)
        {
            x86_64::products(proof, parts, rows.start, x, out);
            return Ok(());
        }
        #[cfg(target_arch = "x86_64")]
        if let Kernel::Avx2(proof) = kernel
            && avx2::can(parts, x)
        {
            rows.zip(out).for_each(|(row, y)| *y = avx2::product(proof, parts, row, x));
            return Ok(());
        }
        let exact = x.form() == self.form(kernel, true) && lanes_fit(parts);
        for (row, y) in rows.zip(out) {
            *y = match exact {
                true => plain::rounded(kernel.level(), parts, row, x),
                false => decoded::uniform(kernel.level(), parts, row, x),
            };
        }
        Ok(())
    }
}

/// Whether each lane is of one group and one block of inputs.
fn lanes_fit(parts: &Parts<'_>) -> bool {
    run(parts).is_multiple_of(32)
}

/// Columns that share a grid; of whole rows a multiple of everything that is asked.
fn run(parts: &Parts<'_>) -> usize {
    let run = parts.run();
    if run >= parts.cols { parts.cols.next_multiple_of(CHUNK).max(CHUNK) } else { run }
}

/// Refuses what does not fit.
pub(crate) fn check(rows: &Range<usize>, (has, cols): (usize, usize), x: &Inputs<'_>, out: usize) -> Result<(), Error> {
    crate::rows::rows_there(rows, has)?;
    if x.len() != cols {
        return Err(ErrorKind::Range { needs: cols, has: x.len() }.into());
    }
    if out != rows.len() {
        return Err(ErrorKind::Range { needs: rows.len(), has: out }.into());
    }
    Ok(())
}

/// The sixteen sums of a row, added up in one order.
#[inline(always)]
pub(crate) fn total(mut sums: [f32; SUMS]) -> f32 {
    let mut half = SUMS / 2;
    while half > 0 {
        let (low, high) = sums.split_at_mut(half);
        low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
        half /= 2;
    }
    sums[0]
}
