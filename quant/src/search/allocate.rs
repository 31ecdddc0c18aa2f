//! One choice for each tensor, so that all fit a budget and the sum of their losses is least: the multiple-choice knapsack
//! problem.
//!
//! 1. Of each tensor the choices that are dearer than another and no better are left out.
//! 2. Relaxation: each step along the lower hull of a tensor's choices has a price, loss saved by cost. Taken from the
//!    steepest on, the first step that does not fit has the price λ, the multiplier of the budget in the Lagrangian. With
//!    λ, no choice of all is below `bound = Σ min(loss + λ cost) - λ budget`; the steps taken are a first solution.
//! 3. Refinement: tensors are opened one after the other, those first that change most cheaply at λ. A state is a cost and
//!    a loss of the tensors that are open; the others stay where λ has them. A state goes where another is no dearer
//!    and no worse, and where it cannot beat the best solution so far even if the tensors that are not open yet change at
//!    the cheapest rate of any of them (Pisinger, *A minimal algorithm for the multiple-choice knapsack problem*, 1995).
//!
//! Where all tensors were opened, or no state is left, the best solution is the best there is. Where states would be more
//! than a limit, those that promise most stay, and the gap to the bound says what may be missing.

use alloc::vec;
use alloc::vec::Vec;

use crate::{Error, ErrorKind};

mod refine;
mod relax;

/// States of a search, at most, where callers have no reason for others: 32 MB, and for a while as much as half of them times
/// the choices of a tensor.
pub const STATES: usize = 1 << 20;

/// One way to store a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// What it takes of the budget, in its unit.
    pub cost: u64,
    /// What it loses; finite.
    pub loss: f64,
}

/// A choice for each tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// For each tensor the place of its choice in the list handed over.
    pub choices: Vec<usize>,
    /// What they take together.
    pub cost: u64,
    /// What they lose together, added in the order of the tensors.
    pub loss: f64,
    /// No allocation of this budget loses less: the Lagrangian's bound.
    pub bound: f64,
    /// Whether none loses less than this one, but for rounding.
    pub exact: bool,
}

impl Allocation {
    /// The loss above the bound, 0 or more.
    pub fn gap(&self) -> f64 {
        (self.loss - self.bound).max(0.0)
    }
}

/// A choice that is worth its cost, and where it stands in the caller's list.
#[derive(Clone, Copy, Debug)]
struct Kept {
    cost: u64,
    loss: f64,
    place: usize,
}

/// The allocation of least loss that costs no more than the budget. `states` bounds the states of the search
/// ([`STATES`]), at 32 bytes each.
///
/// # Errors
///
/// [`ErrorKind::NoChoices`], [`ErrorKind::Loss`] for one that is not finite, and [`ErrorKind::Budget`], with the least
/// cost, where nothing fits.
///
/// # Examples
///
/// ```
/// use niwaki_quant::search::allocate::{Choice, STATES, allocate};
///
/// let of = |cost, loss| Choice { cost, loss };
/// let first = [of(20, 9.0), of(40, 1.0)];
/// let second = [of(10, 2.0), of(20, 1.0), of(40, 0.0)];
/// let best = allocate(&[&first, &second], 60, STATES)?;
/// assert_eq!((best.choices, best.cost, best.loss, best.exact), (vec![1, 1], 60, 2.0, true));
/// # Ok::<(), niwaki_quant::Error>(())
/// ```
pub fn allocate(tensors: &[&[Choice]], budget: u64, states: usize) -> Result<Allocation, Error> {
    let kept = worthwhile(tensors)?;
    let least = kept.iter().filter_map(|kept| kept.first()).fold(0u64, |sum, kept| sum.saturating_add(kept.cost));
    if least > budget {
        return Err(ErrorKind::Budget { budget, least }.into());
    }
    let relaxed = relax::relax(&kept, budget - least);
    let (picks, exact) = match relaxed.price {
        None => (relaxed.picks.clone(), true),
        Some(price) => refine::refine(&kept, &relaxed, price, states.min(1 << 31)),
    };
    let chosen = || kept.iter().zip(&picks).map(|(kept, pick)| &kept[*pick]);
    let loss = chosen().map(|choice| choice.loss).sum();
    Ok(Allocation {
        choices: chosen().map(|choice| choice.place).collect(),
        cost: chosen().map(|choice| choice.cost).sum(),
        loss,
        bound: relaxed.bound.min(loss),
        exact,
    })
}

/// Of each tensor the choices that lose less than all that cost no more, cheapest first.
fn worthwhile(tensors: &[&[Choice]]) -> Result<Vec<Vec<Kept>>, Error> {
    let mut all = Vec::with_capacity(tensors.len());
    for (tensor, choices) in tensors.iter().enumerate() {
        if let Some(choice) = choices.iter().position(|choice| !choice.loss.is_finite()) {
            return Err(ErrorKind::Loss { tensor, choice }.into());
        }
        let places = choices.iter().enumerate();
        let mut sorted: Vec<Kept> =
            places.map(|(place, choice)| Kept { cost: choice.cost, loss: choice.loss, place }).collect();
        sorted.sort_by(|a, b| a.cost.cmp(&b.cost).then(a.loss.total_cmp(&b.loss)));
        let first = *sorted.first().ok_or(ErrorKind::NoChoices { tensor })?;
        let mut kept = vec![first];
        let mut best = first.loss;
        for choice in sorted {
            if choice.loss < best {
                best = choice.loss;
                kept.push(choice);
            }
        }
        all.push(kept);
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
