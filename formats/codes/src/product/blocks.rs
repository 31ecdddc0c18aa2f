//! Products of blocks: with floats decoded, or in registers; with rounded inputs exact by lanes.
//!
//! ```text
//! y = sum over lanes of four columns  (scale * t) * sum (q - middle) x  +  (base * t) * sum x
//! ```

use core::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::avx2::blocks as avx2;
use super::inputs::{Form, Inputs, Kind, Rounded};
#[cfg(target_arch = "x86_64")]
use super::x86_64::blocks as x86_64;
use super::{Kernel, SUMS, check, row_products, total};
use crate::{BlockGrid, BlockType, BlockView, Error, stamp, unpack_blocks};

/// Columns of a lane.
const LANE: usize = 4;

/// Weights of the longest block.
const LONGEST: usize = 256;

impl BlockView<'_> {
    /// The form of inputs that products are made for, of floats or of floats that are rounded.
    pub fn form(&self, rounded: bool) -> Form {
        if rounded { Form::Fours } else { Form::Plain }
    }

    /// The products of rows with inputs, one a row.
    ///
    /// # Errors
    ///
    /// Those of [`UniformView::products`](crate::UniformView::products).
    pub fn products(&self, kernel: Kernel, rows: Range<usize>, x: &Inputs<'_>, out: &mut [f32]) -> Result<(), Error> {
        check(&rows, (self.rows(), self.cols()), x, out.len())?;
        #[cfg(target_arch = "x86_64")]
        if let Kernel::Vnni(proof) = kernel
            && x86_64::can(self, x)
        {
            x86_64::products(proof, self, rows.start, x, out);
            return Ok(());
        }
        let level = kernel.level();
        for (row, y) in rows.zip(out) {
            *y = match (kernel, x.kind) {
                #[cfg(target_arch = "x86_64")]
                (Kernel::Avx2(proof), _) if avx2::can(self, x) => avx2::product(proof, self, row, x),
                (_, Kind::Rounded(x @ Rounded { eights: false, .. })) => {
                    let (mut sums, mut codes) = ([0.0; SUMS], [0; LONGEST]);
                    let kind = self.block_type();
                    let codes = codes.get_mut(..kind.elements()).unwrap_or_default();
                    for (at, block) in self.row_codes(row).chunks_exact(kind.bytes()).enumerate() {
                        unpack_blocks(level, kind, block, codes)?;
                        lanes(level, kind, block, codes, at * kind.elements(), x, &mut sums);
                    }
                    total(sums)
                }
                _ => {
                    // 512 columns are a whole number of blocks of every type.
                    let decode = |first, out: &mut [f32]| self.dequantize_cols(level, row, first, out);
                    let [y, ..] = row_products(level, self.cols(), core::slice::from_ref(x), decode)?;
                    y
                }
            };
        }
        Ok(())
    }
}

stamp! {
    /// Adds the lanes of a block whose first column is `first`.
    fn lanes = lanes_body(
        kind: BlockType, block: &[u8], codes: &[u8], first: usize, x: Rounded<'_>, sums: &mut [f32; SUMS],
    ) -> ();
}

#[inline(always)]
fn lanes_body(kind: BlockType, block: &[u8], codes: &[u8], first: usize, x: Rounded<'_>, sums: &mut [f32; SUMS]) {
    let lane = first / LANE;
    let inputs = x.codes.get(first..).unwrap_or(&[]).as_chunks::<LANE>().0.iter();
    let of_lanes = x.scales.get(lane..).unwrap_or(&[]).iter().zip(x.sums.get(lane..).unwrap_or(&[]));
    let each = kind.sub_block() / LANE;
    let mut grid = kind.grid(block, 0);
    for ((nth, codes), (x, (t, n))) in codes.as_chunks::<LANE>().0.iter().enumerate().zip(inputs.zip(of_lanes)) {
        if nth % each == 0 {
            grid = kind.grid(block, nth / each);
        }
        let (scale, base, numbers) = match grid {
            BlockGrid::Even { scale, middle, base } => (scale, base, codes.map(|q| i32::from(q) - i32::from(middle))),
            BlockGrid::Uneven { scale, table } => (scale, 0.0, codes.map(|q| i32::from(table[usize::from(q & 15)]))),
        };
        let part: i32 = numbers.iter().zip(x).map(|(number, x)| number * i32::from(*x)).sum();
        sums[(lane + nth) % SUMS] += (scale * t) * part as f32 + (base * t) * *n as f32;
    }
}
