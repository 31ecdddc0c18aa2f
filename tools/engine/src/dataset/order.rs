//! The order in which a pass over the data takes its items.

use super::draws::Draws;

/// What these numbers are drawn for.
const PURPOSE: u64 = 0x6f72_6465_7200;

/// All numbers below `items` in an order drawn for pass number `epoch`.
///
/// Fisher and Yates' shuffle as Durstenfeld wrote it (1964): from the last place down to the
/// second, the item there changes places with one at a place drawn from those up to it. The
/// draws are [`splitmix64`](super)'s, so seed and epoch fix the order on every machine.
///
/// # Examples
///
/// ```
/// use niwaki_engine::dataset::shuffled;
///
/// assert_eq!(shuffled(5, 0, 0), shuffled(5, 0, 0));
/// assert_ne!(shuffled(1000, 0, 0), shuffled(1000, 0, 1));
/// ```
pub fn shuffled(items: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..items).collect();
    let mut draws = Draws::new(seed, PURPOSE, epoch);
    for last in (1..items).rev() {
        order.swap(last, draws.below(last + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_comes_once_and_every_order_is_as_likely() {
        let mut order = shuffled(100, 3, 4);
        order.sort_unstable();
        assert!(order.into_iter().eq(0..100));
        assert_eq!((shuffled(0, 1, 1), shuffled(1, 1, 1)), (vec![], vec![0]));
        let mut counts = [0u32; 27];
        for epoch in 0..6000 {
            let order = shuffled(3, 0, epoch);
            counts[order[0] * 9 + order[1] * 3 + order[2]] += 1;
        }
        let seen: Vec<u32> = counts.into_iter().filter(|&c| c > 0).collect();
        // Six orders, 1000 each; five standard deviations are 144.
        assert!(seen.len() == 6 && seen.iter().all(|c| c.abs_diff(1000) < 144), "{seen:?}");
    }

    #[test]
    fn the_order_is_fixed() {
        assert_eq!(shuffled(10, 0, 0), [9, 7, 4, 1, 6, 8, 3, 5, 2, 0]);
    }
}
