//! Products of rows that are decoded a chunk at a time: any scheme, any form of inputs.

use core::convert::Infallible;
use core::ops::Range;

use super::inputs::{Inputs, Kind};
#[cfg(target_arch = "x86_64")]
use super::x86_64;
use super::{CHUNK, Kernel, SUMS, check, total};
use crate::simd::Level;
use crate::uniform::Parts;
use crate::{Bits, ElasticView, Error, dequantize, stamp};

/// Weights that are decoded at a time: they stay in the nearest cache.
pub const BLOCK: usize = 512;

/// Inputs that a row is multiplied with at a time.
pub const INPUTS: usize = 8;

stamp! {
    fn add_products = add(w: &[f32], x: &[f32], sums: &mut [f32; SUMS]) -> ();
}

#[inline(always)]
fn add(w: &[f32], x: &[f32], sums: &mut [f32; SUMS]) {
    let n = w.len().min(x.len());
    let ((ws, w_rest), (xs, x_rest)) = (w[..n].as_chunks::<SUMS>(), x[..n].as_chunks::<SUMS>());
    // Four times as many sums hide how long an addition takes.
    let mut more = [[0.0f32; SUMS]; 4];
    let ((w_fours, ws), (x_fours, xs)) = (ws.as_chunks::<4>(), xs.as_chunks::<4>());
    for (w, x) in w_fours.iter().zip(x_fours) {
        for (sums, (w, x)) in more.iter_mut().zip(w.iter().zip(x)) {
            for at in 0..SUMS {
                sums[at] += w[at] * x[at];
            }
        }
    }
    for (w, x) in ws.iter().zip(xs) {
        for at in 0..SUMS {
            more[0][at] += w[at] * x[at];
        }
    }
    for (sum, (w, x)) in more[0].iter_mut().zip(w_rest.iter().zip(x_rest)) {
        *sum += *w * *x;
    }
    for at in 0..SUMS {
        sums[at] += (more[0][at] + more[1][at]) + (more[2][at] + more[3][at]);
    }
}

/// The product of a row of floats with inputs; stops at the shorter side.
///
/// ```
/// use niwaki_codes::{product::{Inputs, dot}, simd::Level};
///
/// assert_eq!(dot(Level::best(), &[3.0, 0.5], &Inputs::plain(&[1.0, 2.0])), 4.0);
/// ```
pub fn dot(level: Level, w: &[f32], x: &Inputs<'_>) -> f32 {
    let mut sums = [0.0; SUMS];
    add_block(level, w, 0, x, &mut sums);
    total(sums)
}

/// The products of one row of `cols` weights with inputs, of which the first [`INPUTS`] count.
///
/// `decode` is given blocks of the row in order: the number of the first column, a multiple of
/// [`BLOCK`], and room for the weights from it on.
///
/// # Errors
///
/// Those of `decode`.
///
/// ```
/// use core::convert::Infallible;
/// use niwaki_codes::{product::{Inputs, row_products}, simd::Level};
///
/// let x = [Inputs::plain(&[1.0, 2.0]), Inputs::plain(&[0.0, 4.0])];
/// let Ok(y) = row_products(Level::best(), 2, &x, |_, weights| {
///     weights.copy_from_slice(&[3.0, 0.5]);
///     Ok::<(), Infallible>(())
/// });
/// assert_eq!(y[..2], [4.0, 2.0]);
/// ```
pub fn row_products<E>(
    level: Level,
    cols: usize,
    x: &[Inputs<'_>],
    mut decode: impl FnMut(usize, &mut [f32]) -> Result<(), E>,
) -> Result<[f32; INPUTS], E> {
    let (mut sums, mut block) = ([[0.0; SUMS]; INPUTS], [0.0; BLOCK]);
    for first in (0..cols).step_by(BLOCK) {
        let n = BLOCK.min(cols - first);
        let Some(weights) = block.get_mut(..n) else { break };
        decode(first, weights)?;
        for (x, sums) in x.iter().zip(&mut sums) {
            add_block(level, weights, first, x, sums);
        }
    }
    Ok(sums.map(total))
}

/// Adds the products of the weights from column `first` on.
fn add_block(level: Level, weights: &[f32], first: usize, x: &Inputs<'_>, sums: &mut [f32; SUMS]) {
    if let Kind::Plain(x) = x.kind {
        return add_products(level, weights, x.get(first..).unwrap_or(&[]), sums);
    }
    for (at, weights) in weights.chunks(CHUNK).enumerate() {
        let mut some = [0.0; CHUNK];
        x.floats(first + at * CHUNK, &mut some);
        add_products(level, weights, &some, sums);
    }
}

/// The product of a row that `decode` gives by columns, of which there are `cols`.
fn product(level: Level, cols: usize, x: &Inputs<'_>, mut decode: impl FnMut(usize, &mut [f32])) -> f32 {
    let Ok([y, ..]) = row_products(level, cols, core::slice::from_ref(x), |first, out| {
        decode(first, out);
        Ok::<(), Infallible>(())
    });
    y
}

/// The product of a row of evenly spaced codes.
pub(super) fn uniform(level: Level, parts: &Parts<'_>, row: usize, x: &Inputs<'_>) -> f32 {
    product(level, parts.cols, x, |first, out| dequantize::columns(level, parts, row, first, out))
}

impl ElasticView<'_> {
    /// The products of rows at `width` with inputs, one a row.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Width`](crate::ErrorKind::Width) for a width that is not served; those of
    /// [`UniformView::products`](crate::UniformView::products).
    pub fn products(
        &self,
        kernel: Kernel,
        width: Bits,
        rows: Range<usize>,
        x: &Inputs<'_>,
        out: &mut [f32],
    ) -> Result<(), Error> {
        check(&rows, (self.rows(), self.cols()), x, out.len())?;
        self.scheme().widths.up_to(width)?;
        #[cfg(target_arch = "x86_64")]
        if let (Kernel::Vnni(proof), Kind::Plain(x)) = (kernel, x.kind)
            && x86_64::elastic::fits(self)
        {
            x86_64::elastic::products(proof, (self, width), rows.start, x, out);
            return Ok(());
        }
        let level = kernel.level();
        for (row, y) in rows.zip(out) {
            *y = product(level, self.cols(), x, |first, out| self.decode(level, width, row, first, out));
        }
        Ok(())
    }
}
