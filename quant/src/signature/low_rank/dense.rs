//! Small dense pieces: orthonormal columns, singular values, roots.

use alloc::vec;
use alloc::vec::Vec;

/// A matrix whose columns follow one another.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    rows: usize,
    count: usize,
    data: Vec<f64>,
}

/// Partial sums of a dot product: their order is fixed, whatever the compiler does.
const LANES: usize = 8;

/// A column whose length falls below this part of it beside earlier ones is rounding noise.
const DEPENDENT: f64 = 1e-14;

/// Sweeps of the Jacobi method; it converges quadratically, in some ten.
const SWEEPS: usize = 40;

impl Columns {
    /// All zeros.
    pub(super) fn zeros(rows: usize, count: usize) -> Self {
        Self { rows, count, data: vec![0.0; rows * count] }
    }

    /// Elements of a column.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn column(&self, at: usize) -> &[f64] {
        &self.data[at * self.rows..(at + 1) * self.rows]
    }

    pub(super) fn column_mut(&mut self, at: usize) -> &mut [f64] {
        &mut self.data[at * self.rows..(at + 1) * self.rows]
    }

    /// Two columns, the first before the second.
    fn pair(&mut self, first: usize, second: usize) -> (&mut [f64], &mut [f64]) {
        let (before, after) = self.data.split_at_mut(second * self.rows);
        (&mut before[first * self.rows..(first + 1) * self.rows], &mut after[..self.rows])
    }

    /// Writes rows from row `row` on, their first element into column `column`; elements beyond
    /// the last column are left out.
    pub(super) fn place<const N: usize>(&mut self, column: usize, row: usize, values: &[[f64; N]]) {
        for lane in 0..N.min(self.count - column) {
            let to = &mut self.column_mut(column + lane)[row..];
            to.iter_mut().zip(values).for_each(|(to, value)| *to = value[lane]);
        }
    }

    /// Sums of these columns, each with the coefficients of one column of `by` and a factor; as
    /// many as there are factors.
    pub(super) fn combined(&self, by: &Self, factors: &[f64]) -> Self {
        let mut result = Self::zeros(self.rows, factors.len());
        for (at, factor) in factors.iter().enumerate() {
            for (nth, coefficient) in by.column(at).iter().enumerate() {
                add(result.column_mut(at), coefficient * factor, self.column(nth));
            }
        }
        result
    }

    /// Its elements row by row, rounded.
    pub(super) fn by_rows(&self) -> Vec<f32> {
        let row = |row: usize| (0..self.count).map(move |at| self.data[at * self.rows + row] as f32);
        (0..self.rows).flat_map(row).collect()
    }

    /// The elements of its transpose row by row, rounded.
    pub(super) fn into_rows(self) -> Vec<f32> {
        self.data.into_iter().map(|x| x as f32).collect()
    }
}

/// `sum x[i] y[i]`.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    let ((xs, x), (ys, y)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (x, y) in xs.iter().zip(ys) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f64 = x.iter().zip(y).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}

/// `y += factor x`.
fn add(y: &mut [f64], factor: f64, x: &[f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += factor * x);
}

/// Makes the columns of `X` orthonormal: `X = Q R`, with `R` square and upper triangular. A
/// column that depends on earlier ones becomes zero.
///
/// Whence: modified Gram–Schmidt, each column twice, after which it is orthogonal to working
/// precision ([giraud], "twice is enough").
pub(super) fn orthonormalize(x: &mut Columns) -> Columns {
    let mut r = Columns::zeros(x.count, x.count);
    for at in 0..x.count {
        let before = sqrt(dot(x.column(at), x.column(at)));
        for _ in 0..2 {
            for earlier in 0..at {
                let (q, column) = x.pair(earlier, at);
                let along = dot(q, column);
                add(column, -along, q);
                r.column_mut(at)[earlier] += along;
            }
        }
        let column = x.column_mut(at);
        let length = sqrt(dot(column, column));
        if length <= before * DEPENDENT {
            column.fill(0.0);
            continue;
        }
        column.iter_mut().for_each(|x| *x /= length);
        r.column_mut(at)[at] = length;
    }
    r
}

/// Singular values of `X`, largest first, with `X = U S W'`: `X` becomes `U`, and `W` is
/// returned. Columns of `U` that belong to zeros are zero.
///
/// Whence: the one-sided Jacobi method ([hestenes]; [golub-van-loan, 8.6.3]): columns are turned
/// in pairs until all are orthogonal.
pub(super) fn jacobi(x: &mut Columns) -> (Columns, Vec<f64>) {
    let count = x.count;
    let mut w = Columns::zeros(count, count);
    (0..count).for_each(|at| w.column_mut(at)[at] = 1.0);
    for _ in 0..SWEEPS {
        let mut turned = false;
        for second in 1..count {
            for first in 0..second {
                let (p, q) = x.pair(first, second);
                if let Some((cosine, sine)) = rotation(p, q) {
                    turn((p, q), cosine, sine);
                    turn(w.pair(first, second), cosine, sine);
                    turned = true;
                }
            }
        }
        if !turned {
            break;
        }
    }
    let lengths: Vec<f64> = (0..count).map(|at| sqrt(dot(x.column(at), x.column(at)))).collect();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| lengths[*b].total_cmp(&lengths[*a]));
    let (mut u, mut sorted) = (Columns::zeros(x.rows, count), Columns::zeros(count, count));
    for (at, from) in order.iter().enumerate() {
        let length = lengths[*from];
        if length > 0.0 {
            add(u.column_mut(at), 1.0 / length, x.column(*from));
        }
        sorted.column_mut(at).copy_from_slice(w.column(*from));
    }
    *x = u;
    (sorted, order.iter().map(|at| lengths[*at]).collect())
}

/// Cosine and sine of the turn that makes two columns orthogonal; none where they are.
fn rotation(p: &[f64], q: &[f64]) -> Option<(f64, f64)> {
    let (pp, qq, pq) = (dot(p, p), dot(q, q), dot(p, q));
    // Rounding of a sum of as many products.
    let noise = f64::EPSILON * p.len() as f64;
    if pq.abs() <= noise * sqrt(pp) * sqrt(qq) {
        return None;
    }
    let zeta = (qq - pp) / (2.0 * pq);
    let tangent = 1.0 / (zeta.abs() + sqrt(1.0 + zeta * zeta));
    let tangent = if zeta < 0.0 { -tangent } else { tangent };
    let cosine = 1.0 / sqrt(1.0 + tangent * tangent);
    Some((cosine, cosine * tangent))
}

fn turn((p, q): (&mut [f64], &mut [f64]), cosine: f64, sine: f64) {
    for (p, q) in p.iter_mut().zip(q) {
        (*p, *q) = (cosine * *p - sine * *q, sine * *p + cosine * *q);
    }
}

/// The square root of a number that is not negative, within a few units of its last place:
/// `core` has none, and with one of our own all feature levels give the same bits.
///
/// Newton's method from half the exponent, which is within 7 % of the root.
pub(super) fn sqrt(x: f64) -> f64 {
    /// Halves the exponent's bias too.
    const BIAS: u64 = 1023 << 51;
    if x <= 0.0 || !x.is_finite() {
        return x.max(0.0);
    }
    if x < f64::MIN_POSITIVE {
        // Below it the bits do not say the exponent.
        return sqrt(x * (1_u64 << 54) as f64) / (1_u64 << 27) as f64;
    }
    let mut root = f64::from_bits((x.to_bits() >> 1) + BIAS);
    for _ in 0..5 {
        root = 0.5 * (root + x / root);
    }
    root
}

#[cfg(all(test, feature = "std"))]
mod tests;
