//! The refinement: states of the tensors that are open, cheapest changes first.

use alloc::vec;
use alloc::vec::Vec;

use super::Kept;
use super::relax::Relaxed;

/// What the open tensors cost and lose more than where λ has them.
#[derive(Clone, Copy)]
struct State {
    /// Cost above the budget, that of the tensors not open included.
    over: i128,
    loss: f64,
    /// The state before, and the choice of the tensor opened last.
    before: u32,
    pick: u32,
}

/// The least that a unit of cost more, or less, loses beyond λ, of tensors that are not open yet.
#[derive(Clone, Copy)]
struct Rates {
    more: f64,
    less: f64,
}

impl Rates {
    const NONE: Self = Self { more: f64::INFINITY, less: f64::INFINITY };

    fn of(kept: &[Kept], pick: usize, price: f64) -> Self {
        let at = kept[pick];
        let mut rates = Self::NONE;
        for other in kept {
            let lost = other.loss - at.loss;
            if other.cost > at.cost {
                rates.more = rates.more.min((lost / (other.cost - at.cost) as f64 + price).max(0.0));
            } else if other.cost < at.cost {
                rates.less = rates.less.min((lost / (at.cost - other.cost) as f64 - price).max(0.0));
            }
        }
        rates
    }

    fn least(self, other: Self) -> Self {
        Self { more: self.more.min(other.more), less: self.less.min(other.less) }
    }

    /// The least loss that a state can end with, above that where λ has all.
    fn bound(self, price: f64, over: i128, loss: f64) -> f64 {
        if over > 0 {
            loss + (price + self.less) * over as f64
        } else {
            loss - (price - self.more).max(0.0) * -over as f64
        }
    }
}

/// The best solution so far: a state of the layer of the tensor opened last, or none.
struct Best {
    loss: f64,
    at: Option<(usize, u32)>,
}

/// The choices of the best solution, and whether none is better.
pub(super) fn refine(tensors: &[Vec<Kept>], relaxed: &Relaxed, price: f64, limit: usize) -> (Vec<usize>, bool) {
    let rates: Vec<Rates> =
        tensors.iter().zip(&relaxed.picks).map(|(kept, pick)| Rates::of(kept, *pick, price)).collect();
    let mut order: Vec<usize> = (0..tensors.len()).filter(|at| tensors[*at].len() > 1).collect();
    let cheapest = |at: usize| rates[at].more.min(rates[at].less);
    order.sort_by(|a, b| cheapest(*a).total_cmp(&cheapest(*b)));
    // The rates of the tensors after each.
    let mut after = vec![Rates::NONE; order.len()];
    for at in (1..order.len()).rev() {
        after[at - 1] = after[at].least(rates[order[at]]);
    }

    let above = |picks: &[usize]| {
        let pairs = picks.iter().zip(&relaxed.picks).zip(tensors);
        pairs.map(|((pick, from), kept)| kept[*pick].loss - kept[*from].loss).sum::<f64>()
    };
    let mut best = Best { loss: above(&relaxed.filled).min(0.0), at: None };
    let start = State { over: -i128::from(relaxed.spare), loss: 0.0, before: 0, pick: 0 };
    let mut layers: Vec<Vec<State>> = vec![vec![start]];
    let (mut room, mut exact) = (limit, true);
    for (opened, tensor) in order.iter().enumerate() {
        let bound = |over: i128, loss: f64| after[opened].bound(price, over, loss);
        let mut next = opening(&layers[opened], &tensors[*tensor], relaxed.picks[*tensor], |over, loss| {
            bound(over, loss) < best.loss
        });
        // Once something was left out, the rest of the room is for all tensors alike.
        let share = if exact { room / 2 } else { room / (2 * (order.len() - opened)) };
        if next.len() > share {
            exact = false;
            thin(&mut next, room / (2 * (order.len() - opened)), bound);
        }
        if next.is_empty() {
            break;
        }
        for (at, state) in next.iter().enumerate().filter(|(_, state)| state.over <= 0) {
            if state.loss < best.loss {
                best = Best { loss: state.loss, at: Some((opened + 1, at as u32)) };
            }
        }
        room -= next.len();
        layers.push(next);
    }
    (traced(&layers, &order, relaxed, &best), exact)
}

/// Keeps so many states, those that promise most; of equal ones those nearest to the budget.
fn thin(states: &mut Vec<State>, count: usize, bound: impl Fn(i128, f64) -> f64) {
    let promise = |state: &State| bound(state.over, state.loss);
    let nearer = |a: &State, b: &State| a.over.unsigned_abs().cmp(&b.over.unsigned_abs());
    states.sort_by(|a, b| promise(a).total_cmp(&promise(b)).then_with(|| nearer(a, b)));
    states.truncate(count);
}

/// The states with one tensor more open.
fn opening(last: &[State], kept: &[Kept], from: usize, promising: impl Fn(i128, f64) -> bool) -> Vec<State> {
    let mut next = Vec::new();
    for (before, state) in last.iter().enumerate() {
        for (pick, choice) in kept.iter().enumerate() {
            let over = state.over + i128::from(choice.cost) - i128::from(kept[from].cost);
            let loss = state.loss + (choice.loss - kept[from].loss);
            if promising(over, loss) {
                next.push(State { over, loss, before: before as u32, pick: pick as u32 });
            }
        }
    }
    next.sort_by(|a, b| a.over.cmp(&b.over).then(a.loss.total_cmp(&b.loss)));
    let mut least = f64::INFINITY;
    next.retain(|state| {
        let better = state.loss < least;
        least = least.min(state.loss);
        better
    });
    next
}

/// The choices that led to the best state.
fn traced(layers: &[Vec<State>], order: &[usize], relaxed: &Relaxed, best: &Best) -> Vec<usize> {
    let Some((mut layer, mut at)) = best.at else {
        return if best.loss < 0.0 { relaxed.filled.clone() } else { relaxed.picks.clone() };
    };
    let mut picks = relaxed.picks.clone();
    while layer > 0 {
        let state = layers[layer][at as usize];
        layer -= 1;
        picks[order[layer]] = state.pick as usize;
        at = state.before;
    }
    picks
}
