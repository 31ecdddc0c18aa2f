//! The Gram matrix of a layer's inputs.

use alloc::vec;
use alloc::vec::Vec;

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use crate::{Error, ErrorKind};

/// Rows of the matrix that are added to together.
const BAND: usize = 32;

/// Columns that the kernel deals with at once.
const TILE: usize = 16;

/// Rows that the kernel deals with at once.
const ROWS: usize = 4;

/// Values of each input that are added up before they go to the matrix.
const DEEP: usize = 64;

/// `X'X`, `[inputs, inputs]`, of all rows `X` that a layer saw: how large its inputs are, and how far they go together.
/// What a change of the layer's weights does to its outputs follows from it alone.
///
/// Products are exact and sums are of doubles, in an order that depends on neither threads nor SIMD level: 64 rows are
/// added up before they are added to the rest. Memory is `8 inputs²` bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Gram {
    inputs: usize,
    /// Row by row; of each row those from its band's first column on.
    sums: Vec<f64>,
    count: u64,
}

/// Some rows of a Gram matrix, and the values that are to be added to them.
#[derive(Debug)]
#[must_use = "values are only seen when every band was added to"]
pub struct Band<'g> {
    sums: &'g mut [f64],
    /// The first of its rows.
    first: usize,
    inputs: usize,
    values: &'g [f32],
}

impl Gram {
    /// Of a layer of so many inputs, which saw nothing yet.
    pub fn new(inputs: usize) -> Self {
        Self { inputs, sums: vec![0.0; inputs * inputs], count: 0 }
    }

    /// Inputs of the layer.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Rows that it saw.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of products of two inputs, of those that there are.
    pub fn get(&self, one: usize, other: usize) -> f64 {
        self.sums[one.min(other) * self.inputs + one.max(other)]
    }

    /// Of sums of products, `[inputs, inputs]` of them, over so many rows; those below the diagonal do not count.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Length`] for another number of them.
    pub fn of_sums(inputs: usize, sums: Vec<f64>, count: u64) -> Result<Self, Error> {
        crate::error::exactly("sums", inputs.saturating_mul(inputs), sums.len())?;
        Ok(Self { inputs, sums, count })
    }

    /// Of means of products, `inputs (inputs + 1) / 2` of them: of each input those with itself and those behind it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Length`] for another number of them.
    pub fn of_means(inputs: usize, means: &[f32]) -> Result<Self, Error> {
        crate::error::exactly("means", inputs * (inputs + 1) / 2, means.len())?;
        let mut gram = Self { count: 1, ..Self::new(inputs) };
        let mut rest = means;
        for (row, sums) in gram.sums.chunks_exact_mut(inputs.max(1)).enumerate() {
            let (own, behind) = rest.split_at(inputs - row);
            sums[row..].iter_mut().zip(own).for_each(|(sum, mean)| *sum = f64::from(*mean));
            rest = behind;
        }
        Ok(gram)
    }

    /// The means of products, as [`of_means`](Self::of_means) takes them.
    pub fn means(&self) -> Vec<f32> {
        let count = self.count.max(1) as f64;
        let rows = self.sums.chunks_exact(self.inputs.max(1)).enumerate();
        rows.flat_map(|(row, sums)| sums[row..].iter().map(move |sum| (sum / count) as f32)).collect()
    }

    /// The matrix of the same inputs, each divided by a number that is not 0.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Length`] for another number of divisors than inputs.
    pub fn divided(mut self, by: &[f32]) -> Result<Self, Error> {
        crate::error::exactly("divisors", self.inputs, by.len())?;
        for (row, sums) in self.sums.chunks_exact_mut(self.inputs.max(1)).enumerate() {
            let own = f64::from(by[row]);
            sums.iter_mut().zip(by).for_each(|(sum, other)| *sum /= own * f64::from(*other));
        }
        Ok(self)
    }

    /// The matrix of the same inputs in another order, which has each of them once.
    #[cfg(feature = "std")]
    pub(super) fn in_order(&self, order: &[usize]) -> Self {
        let mut turned = Self { count: self.count, ..Self::new(self.inputs) };
        for (row, sums) in turned.sums.chunks_exact_mut(self.inputs.max(1)).enumerate() {
            (row..self.inputs).for_each(|column| sums[column] = self.get(order[row], order[column]));
        }
        turned
    }

    /// What a change of weights does to an output: the mean of its square over all rows, `d' X'X d / rows`.
    pub fn mean_square(&self, change: &[f32]) -> f64 {
        let mut sum = 0.0;
        for ((row, d), sums) in change.iter().enumerate().zip(self.sums.chunks_exact(self.inputs.max(1))) {
            if *d != 0.0 {
                let behind = sums[row + 1..].iter().zip(&change[row + 1..]).map(|(h, e)| h * f64::from(*e));
                let d = f64::from(*d);
                sum += d * (d * sums[row] + 2.0 * behind.sum::<f64>());
            }
        }
        sum / self.count.max(1) as f64
    }

    /// Sees rows with a value for each input; what fills none at the end is left out.
    pub fn rows(&mut self, level: Level, values: &[f32]) {
        self.bands(values).into_iter().for_each(|band| band.add(level));
    }

    /// The same in parts, which may be added to in any order and by several threads: the sums are the same.
    pub fn bands<'g>(&'g mut self, values: &'g [f32]) -> Vec<Band<'g>> {
        let inputs = self.inputs.max(1);
        let values = &values[..values.len() / inputs * inputs];
        self.count += (values.len() / inputs) as u64;
        let bands = self.sums.chunks_mut(BAND * inputs).enumerate();
        bands.map(|(nth, sums)| Band { sums, first: nth * BAND, inputs, values }).collect()
    }

    /// That of the first inputs alone.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Length`] for more than there are.
    pub fn first(&self, inputs: usize) -> Result<Self, Error> {
        crate::error::exactly("inputs", inputs, inputs.min(self.inputs))?;
        let rows = self.sums.chunks_exact(self.inputs.max(1)).take(inputs);
        Ok(Self { inputs, sums: rows.flat_map(|row| &row[..inputs]).copied().collect(), count: self.count })
    }

    /// Adds what another saw of the same layer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Length`] for one of another number of inputs.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        crate::error::exactly("inputs", self.inputs, other.inputs)?;
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, more)| *sum += more);
        self.count += other.count;
        Ok(())
    }

    /// The first input whose values, or their products, are no finite numbers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Input`].
    pub fn check(&self) -> Result<(), Error> {
        // What is no number in some product is none in the square of an input either.
        match (0..self.inputs).find(|at| !self.get(*at, *at).is_finite()) {
            Some(index) => Err(ErrorKind::Input { index }.into()),
            None => Ok(()),
        }
    }
}

impl Band<'_> {
    /// Adds the values.
    pub fn add(self, level: Level) {
        add(level, self.sums, self.first, self.inputs, self.values);
    }
}

stamp! {
    /// Adds products of inputs to the rows of the matrix from `first` on.
    fn add = add_body(sums: &mut [f64], first: usize, inputs: usize, values: &[f32]) -> ();
}

#[inline(always)]
fn add_body(sums: &mut [f64], first: usize, inputs: usize, values: &[f32]) {
    let count = sums.len() / inputs;
    let mut left = [[0.0; BAND]; DEEP];
    let mut right = [[0.0; TILE]; DEEP];
    for values in values.chunks(DEEP * inputs) {
        let deep = values.len() / inputs;
        copy(values, inputs, first, &mut left);
        for column in (first..inputs).step_by(TILE) {
            copy(values, inputs, column, &mut right);
            let width = TILE.min(inputs - column);
            for row in (0..count).step_by(ROWS) {
                let products = multiply(&left[..deep], row, &right[..deep]);
                for (sums, products) in sums[row * inputs..].chunks_mut(inputs).zip(&products) {
                    let sums = &mut sums[column..column + width];
                    sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
                }
            }
        }
    }
}

/// Columns of rows of values from `column` on, zeros where there are none.
#[inline(always)]
fn copy<const N: usize>(values: &[f32], inputs: usize, column: usize, to: &mut [[f64; N]]) {
    let width = N.min(inputs - column);
    for (row, to) in values.chunks_exact(inputs).zip(to) {
        to[..width].iter_mut().zip(&row[column..column + width]).for_each(|(to, x)| *to = f64::from(*x));
        to[width..].fill(0.0);
    }
}

/// Products of `ROWS` columns on the left from `row` on with all on the right.
#[inline(always)]
fn multiply(left: &[[f64; BAND]], row: usize, right: &[[f64; TILE]]) -> [[f64; TILE]; ROWS] {
    let mut sums = [[0.0; TILE]; ROWS];
    for (left, right) in left.iter().zip(right) {
        for (nth, sums) in sums.iter_mut().enumerate() {
            let x = left[row + nth];
            for (sum, y) in sums.iter_mut().zip(right) {
                *sum += x * y;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that are not alike, with few bits: their products add up exactly.
    fn values(len: usize) -> Vec<f32> {
        (0..len).map(|at| ((at * 7919 + at * at * 31) % 257) as f32 / 16.0 - 8.0).collect()
    }

    #[test]
    fn sums_are_those_of_products() {
        for (inputs, rows) in [(1, 1), (3, 70), (9, 128), (33, 5), (50, 150), (64, 64), (97, 200)] {
            let all = values(inputs * rows + inputs - 1);
            for level in Level::all() {
                let mut gram = Gram::new(inputs);
                gram.rows(level, &all);
                assert_eq!((gram.inputs(), gram.count()), (inputs, rows as u64));
                for (one, other) in (0..inputs).flat_map(|one| (0..inputs).map(move |other| (one, other))) {
                    let product = |row: &[f32]| f64::from(row[one]) * f64::from(row[other]);
                    let sum: f64 = all.chunks_exact(inputs).map(product).sum();
                    assert_eq!(gram.get(one, other), sum, "{inputs} inputs, {one} and {other}, {level:?}");
                }
            }
        }
        Gram::new(0).rows(Level::Scalar, &[1.0]);
    }

    #[test]
    fn parts_are_added_in_any_order_and_matrices_to_each_other() {
        let all = values(70 * 40);
        let (first, rest) = all.split_at(70 * 13);
        let mut whole = Gram::new(70);
        whole.rows(Level::best(), first);
        whole.rows(Level::best(), rest);
        let (mut one, mut other) = (Gram::new(70), Gram::new(70));
        one.bands(first).into_iter().rev().for_each(|band| band.add(Level::Scalar));
        other.rows(Level::Scalar, rest);
        one.merge(&other).expect("as many inputs");
        assert_eq!(one, whole);
        let kind = one.merge(&Gram::new(3)).map_err(|e| e.kind());
        assert_eq!(kind, Err(ErrorKind::Length { buffer: "inputs", needs: 70, has: 3 }));
    }

    #[test]
    fn means_go_there_and_back_and_say_what_a_change_does() {
        let (inputs, rows) = (37, 64);
        let all = values(inputs * rows);
        let mut gram = Gram::new(inputs);
        gram.rows(Level::best(), &all);
        let means = gram.means();
        assert_eq!((means.len(), means[1]), (37 * 38 / 2, (gram.get(0, 1) / 64.0) as f32));
        let again = Gram::of_means(inputs, &means).expect("as many means");
        assert_eq!((again.means(), again.count()), (means, 1));
        assert_eq!(again.get(36, 2), gram.get(2, 36) / 64.0);
        let change: Vec<f32> = (0..inputs).map(|at| if at % 3 == 0 { 0.0 } else { at as f32 / 8.0 - 2.0 }).collect();
        let output = |row: &[f32]| row.iter().zip(&change).map(|(x, d)| f64::from(*x) * f64::from(*d)).sum::<f64>();
        let direct = all.chunks_exact(inputs).map(|row| output(row).powi(2)).sum::<f64>() / 64.0;
        assert!((again.mean_square(&change) / direct - 1.0).abs() < 1e-12, "{direct}");
        let kind = Gram::of_means(3, &[0.0; 5]).map_err(|e| e.kind());
        assert_eq!(kind, Err(ErrorKind::Length { buffer: "means", needs: 6, has: 5 }));
    }

    #[test]
    fn sums_that_others_added_are_taken_as_they_are() {
        let gram = Gram::of_sums(2, vec![4.0, 6.0, 0.0, 9.0], 2).expect("two by two");
        assert_eq!((gram.get(1, 0), gram.count(), gram.means()), (6.0, 2, vec![2.0, 3.0, 4.5]));
        let kind = Gram::of_sums(2, vec![0.0; 3], 1).map_err(|e| e.kind());
        assert_eq!(kind, Err(ErrorKind::Length { buffer: "sums", needs: 4, has: 3 }));
    }

    #[test]
    fn divided_inputs_have_the_matrix_of_the_quotients() {
        let (inputs, by) = (5, [0.5, 4.0, 1.0, 0.125, 2.0]);
        let all = values(inputs * 70);
        let quotients: Vec<f32> = all.iter().zip(by.iter().cycle()).map(|(x, by)| x / by).collect();
        let (mut gram, mut needs) = (Gram::new(inputs), Gram::new(inputs));
        gram.rows(Level::best(), &all);
        needs.rows(Level::best(), &quotients);
        // Powers of two: nothing is rounded.
        let found = gram.clone().divided(&by).expect("as many divisors");
        for (one, other) in (0..inputs).flat_map(|one| (0..inputs).map(move |other| (one, other))) {
            assert_eq!(found.get(one, other), needs.get(one, other), "{one} and {other}");
        }
        assert_eq!(found.count(), 70);
        let kind = gram.divided(&by[1..]).map_err(|e| e.kind());
        assert_eq!(kind, Err(ErrorKind::Length { buffer: "divisors", needs: 5, has: 4 }));
    }

    #[test]
    fn what_is_no_number_is_found() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut gram = Gram::new(40);
            let mut all = values(40 * 3);
            gram.rows(Level::best(), &all);
            assert_eq!(gram.check(), Ok(()));
            all[40 + 35] = wrong;
            gram.rows(Level::best(), &all);
            assert_eq!(gram.check().map_err(|e| e.kind()), Err(ErrorKind::Input { index: 35 }));
        }
    }
}
