//! Products of small matrices.
//!
//! Every element is a sum in the order of the depth, whatever tile it falls into; products and sums are rounded apart.

use niwaki_codes::stamp;

/// Rows and columns of a tile.
const ROWS: usize = 4;
const COLS: usize = 32;

/// A matrix within a slice: element (i, p) is `data[i * row + p * step]`.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) data: &'a [f32],
    pub(super) row: usize,
    pub(super) step: usize,
}

stamp! {
    /// Adds to `out` of `rows` rows the product of `a`, `rows x depth`, and `b`, `depth x cols`; `size` is cols and depth.
    pub(super) fn add_product = add_product_body(a: Left<'_>, b: &[f32], size: [usize; 2], out: &mut [f32]) -> ();
}

#[inline(always)]
fn add_product_body(a: Left<'_>, b: &[f32], [cols, depth]: [usize; 2], out: &mut [f32]) {
    let mut from = 0;
    for rows in out.chunks_mut((ROWS * cols).max(1)) {
        if rows.len() == ROWS * cols {
            band::<ROWS>(a, from, (b, cols, depth), rows);
            from += ROWS;
        } else {
            for row in rows.chunks_mut(cols) {
                band::<1>(a, from, (b, cols, depth), row);
                from += 1;
            }
        }
    }
}

/// R rows of the product, from row `from` of `a`.
#[inline(always)]
fn band<const R: usize>(a: Left<'_>, from: usize, b: (&[f32], usize, usize), out: &mut [f32]) {
    let cols = b.1;
    let mut at = 0;
    while at + COLS <= cols {
        tile::<R, COLS>(a, from, b, at, out);
        at += COLS;
    }
    while at + 8 <= cols {
        tile::<R, 8>(a, from, b, at, out);
        at += 8;
    }
    while at < cols {
        tile::<R, 1>(a, from, b, at, out);
        at += 1;
    }
}

/// R rows and W columns, kept in registers.
#[inline(always)]
fn tile<const R: usize, const W: usize>(
    a: Left<'_>,
    from: usize,
    (b, cols, depth): (&[f32], usize, usize),
    at: usize,
    out: &mut [f32],
) {
    let mut sums = [[0.0; W]; R];
    for (r, sums) in sums.iter_mut().enumerate() {
        sums.copy_from_slice(&out[r * cols + at..][..W]);
    }
    for p in 0..depth {
        let b = &b[p * cols + at..][..W];
        for (r, sums) in sums.iter_mut().enumerate() {
            let x = a.data[(from + r) * a.row + p * a.step];
            for w in 0..W {
                sums[w] += x * b[w];
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        out[r * cols + at..][..W].copy_from_slice(sums);
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use niwaki_codes::simd::Level;

    use super::*;
    use crate::draws::Draws;

    #[test]
    fn products_are_those_of_the_definition() {
        let mut draws = Draws::new(1, 0, 0);
        let mut some = |n: usize| (0..n).map(|_| draws.unit() as f32 - 0.5).collect::<Vec<f32>>();
        for (rows, cols, depth) in [(1, 1, 1), (4, 32, 3), (5, 41, 7), (9, 8, 0), (3, 77, 20)] {
            let (a, b, first) = (some(rows * depth), some(depth * cols), some(rows * cols));
            let mut expected = first.clone();
            for (at, out) in expected.iter_mut().enumerate() {
                (0..depth).for_each(|p| *out += a[at / cols * depth + p] * b[p * cols + at % cols]);
            }
            let turned: Vec<f32> = (0..rows * depth).map(|at| a[at % rows * depth + at / rows]).collect();
            for level in Level::all() {
                let lefts = [Left { data: &a, row: depth, step: 1 }, Left { data: &turned, row: 1, step: rows }];
                for left in lefts {
                    let mut out = first.clone();
                    add_product(level, left, &b, [cols, depth], &mut out);
                    assert_eq!(out, expected, "{rows} {cols} {depth}");
                }
            }
        }
    }
}
