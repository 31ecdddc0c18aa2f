//! What GPTQ needs of a layer's inputs.

use alloc::vec::Vec;

use niwaki_codes::simd::Level;

use super::{Factor, Gram};
use crate::Error;

/// In which order the columns of a layer are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they stand.
    Given,
    /// Those of the largest inputs first; of equal ones, as they stand.
    Largest,
}

/// The inverse of a damped Gram matrix in the order in which columns are rounded.
#[derive(Clone, Debug, PartialEq)]
pub struct Inverse {
    factor: Factor,
    /// The column at each place of the order.
    order: Vec<usize>,
    /// By column, what an error of its weights costs in the end, from 0 to 1.
    importance: Vec<f32>,
}

impl Gram {
    /// The inverse for an order; `damping` as for [`inverse_factor`](Self::inverse_factor).
    ///
    /// # Errors
    ///
    /// Those of [`inverse_factor`](Self::inverse_factor).
    pub fn inverse(&self, level: Level, damping: f64, order: Order) -> Result<Inverse, Error> {
        let mut places: Vec<usize> = (0..self.inputs()).collect();
        let factor = match order {
            Order::Given => self.inverse_factor(level, damping)?,
            Order::Largest => {
                self.check()?;
                places.sort_by(|one, other| self.get(*other, *other).total_cmp(&self.get(*one, *one)));
                let mut factor = self.in_order(&places).inverse_factor(level, damping)?;
                factor.dead = factor.dead.iter().map(|place| places[*place]).collect();
                factor
            }
        };
        let n = self.inputs();
        let mut importance = alloc::vec![0.0; n];
        for (place, column) in places.iter().enumerate() {
            let diagonal = factor.upper[place * n + place];
            importance[*column] = 1.0 / (diagonal * diagonal);
        }
        // Inputs that are always 0 cost nothing; weights behind them are rounded all the same.
        factor.dead.iter().for_each(|column| importance[*column] = 0.0);
        Ok(Inverse { factor, order: places, importance: importances(&importance) })
    }
}

impl Inverse {
    /// Inputs of the layer.
    pub fn inputs(&self) -> usize {
        self.order.len()
    }

    /// The upper factor, row by row, in the order of the columns.
    pub fn upper(&self) -> &[f64] {
        &self.factor.upper
    }

    /// The column at each place of the order.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// By column, what an error of its weights costs when those behind it make up for it, from 0 to 1.
    pub fn importance(&self) -> &[f32] {
        &self.importance
    }

    /// Inputs that were 0 in every row.
    pub fn dead(&self) -> &[usize] {
        &self.factor.dead
    }

    /// The damping that there was in the end.
    pub fn damping(&self) -> f64 {
        self.factor.damping
    }
}

/// Numbers of 0 or more as shares of the largest of them; ones where none is above 0.
pub fn importances(of: &[f64]) -> Vec<f32> {
    let most = of.iter().copied().fold(0.0, f64::max);
    if most > 0.0 { of.iter().map(|x| (x / most) as f32).collect() } else { of.iter().map(|_| 1.0).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_inputs_come_first() {
        let mut gram = Gram::new(4);
        gram.rows(Level::Scalar, &[1.0, 0.0, 3.0, 1.0, -1.0, 0.0, 4.0, 1.0, 0.5, 0.0, 1.0, -2.0]);
        let inverse = gram.inverse(Level::Scalar, 0.01, Order::Largest).expect("damped");
        assert_eq!((inverse.order(), inverse.dead(), inverse.inputs()), (&[2, 3, 0, 1][..], &[1][..], 4));
        let given = gram.inverse(Level::Scalar, 0.01, Order::Given).expect("damped");
        assert_eq!(
            (given.order(), given.upper()),
            (&[0, 1, 2, 3][..], &gram.inverse_factor(Level::Scalar, 0.01).expect("damped").upper[..])
        );
        assert!(inverse.importance()[2] == 1.0 && inverse.importance()[1] == 0.0, "{:?}", inverse.importance());
        // The last in an order has nobody to make up for it: its cost is its own input's.
        let last = |inverse: &Inverse, place: usize| 1.0 / inverse.upper()[place * 4 + place].powi(2);
        let mean = (gram.get(0, 0) + gram.get(2, 2) + gram.get(3, 3)) / 3.0;
        assert!((last(&given, 3) / (gram.get(3, 3) + 0.01 * mean) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn shares_are_of_the_largest() {
        assert_eq!(importances(&[1.0, 4.0, 0.0]), [0.25, 1.0, 0.0]);
        assert_eq!(importances(&[0.0, 0.0]), [1.0, 1.0]);
    }
}
