//! The relaxation: steps along the hulls of the tensors' choices, the steepest first.

use alloc::vec;
use alloc::vec::Vec;

use super::Kept;

/// A step of a tensor from one choice on its hull to the next.
struct Step {
    tensor: usize,
    to: usize,
    cost: u64,
    saves: f64,
}

impl Step {
    /// Loss saved by cost.
    fn price(&self) -> f64 {
        self.saves / self.cost as f64
    }
}

/// What the relaxation found.
pub(super) struct Relaxed {
    /// The choice of each tensor where λ has it: all steps before the first that did not fit.
    pub(super) picks: Vec<usize>,
    /// As much of the budget as these leave.
    pub(super) spare: u64,
    /// The same choices and whatever steps after that one fit as well.
    pub(super) filled: Vec<usize>,
    /// λ, where some step did not fit.
    pub(super) price: Option<f64>,
    /// No allocation loses less.
    pub(super) bound: f64,
}

/// Takes steps while they fit into what the cheapest choices leave of the budget.
pub(super) fn relax(tensors: &[Vec<Kept>], mut spare: u64) -> Relaxed {
    let mut steps: Vec<Step> = tensors.iter().enumerate().flat_map(|(tensor, kept)| hull(tensor, kept)).collect();
    // Of one tensor the steps come in their order, which is that of their prices, and the sort is stable.
    steps.sort_by(|a, b| b.price().total_cmp(&a.price()));
    let mut picks = vec![0; tensors.len()];
    let fits = steps.iter().position(|step| {
        step.cost > spare || {
            spare -= step.cost;
            picks[step.tensor] = step.to;
            false
        }
    });
    let loss: f64 = tensors.iter().zip(&picks).map(|(kept, pick)| kept[*pick].loss).sum();
    let Some(first) = fits else {
        return Relaxed { filled: picks.clone(), picks, spare, price: None, bound: loss };
    };
    let price = steps[first].price();
    let (mut filled, mut left) = (picks.clone(), spare);
    let mut closed = vec![false; tensors.len()];
    for step in &steps[first..] {
        if step.cost <= left && !closed[step.tensor] {
            left -= step.cost;
            filled[step.tensor] = step.to;
        } else {
            closed[step.tensor] = true;
        }
    }
    Relaxed { picks, spare, filled, price: Some(price), bound: loss - price * spare as f64 }
}

/// The steps between the corners of a tensor's lower hull, prices falling.
fn hull(tensor: usize, kept: &[Kept]) -> Vec<Step> {
    let step = |from: usize, to: usize| Step {
        tensor,
        to,
        cost: kept[to].cost - kept[from].cost,
        saves: kept[from].loss - kept[to].loss,
    };
    let mut corners: Vec<usize> = Vec::with_capacity(kept.len());
    for at in 0..kept.len() {
        while let [.., before, last] = corners[..] {
            if step(before, last).price() > step(last, at).price() {
                break;
            }
            corners.pop();
        }
        corners.push(at);
    }
    corners.windows(2).map(|pair| step(pair[0], pair[1])).collect()
}
