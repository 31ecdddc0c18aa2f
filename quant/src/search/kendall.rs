//! How far two lists of numbers order the same things alike.

use alloc::vec;
use alloc::vec::Vec;

/// Kendall's rank correlation τ-b: pairs in the same order less pairs in the other, of all that are tied in neither list
/// (by their geometric mean). From -1 to 1; none where a list has no two different numbers, holds a NaN, or the lengths
/// differ.
///
/// Sorts and merges (Knight, *A computer method for calculating Kendall's tau with ungrouped data*, 1966), so n numbers take
/// O(n log n).
///
/// # Examples
///
/// ```
/// use niwaki_quant::search::kendall;
///
/// assert_eq!(kendall(&[1.0, 2.0, 3.0], &[10.0, 30.0, 20.0]), Some(1.0 / 3.0));
/// ```
pub fn kendall(a: &[f32], b: &[f32]) -> Option<f64> {
    if a.len() != b.len() || a.iter().chain(b).any(|x| x.is_nan()) {
        return None;
    }
    // Zeros of both signs are equal: adding 0 leaves one of them.
    let mut pairs: Vec<(f32, f32)> = a.iter().zip(b).map(|(a, b)| (a + 0.0, b + 0.0)).collect();
    pairs.sort_unstable_by(|x, y| x.0.total_cmp(&y.0).then(x.1.total_cmp(&y.1)));
    let of_a = tied(&pairs, |x, y| x.0 == y.0);
    let of_both = tied(&pairs, |x, y| x == y);
    let mut second: Vec<f32> = pairs.iter().map(|pair| pair.1).collect();
    let turned = sorted(&mut second);
    let of_b = tied(&second, |x, y| x == y);
    let all = choose_two(pairs.len());
    let (left, right) = ((all - of_a) as f64, (all - of_b) as f64);
    if left == 0.0 || right == 0.0 {
        return None;
    }
    // Pairs tied in neither list, less twice those that are turned.
    let net = all as i64 - of_a as i64 - of_b as i64 + of_both as i64 - 2 * turned as i64;
    // The root of a square is exact, so equal orders give 1.
    Some(net as f64 / (left * right).sqrt())
}

fn choose_two(n: usize) -> u64 {
    let n = n as u64;
    n * n.saturating_sub(1) / 2
}

/// Pairs within runs of equals.
fn tied<T>(sorted: &[T], same: impl FnMut(&T, &T) -> bool) -> u64 {
    sorted.chunk_by(same).map(|run| choose_two(run.len())).sum()
}

/// Sorts by merging, and counts the pairs that stood the other way round.
fn sorted(all: &mut [f32]) -> u64 {
    let (mut turned, mut width) = (0, 1);
    let mut merged = vec![0.0; all.len()];
    while width < all.len() {
        for (run, out) in all.chunks(2 * width).zip(merged.chunks_mut(2 * width)) {
            let (mut left, mut right) = run.split_at(width.min(run.len()));
            for out in out {
                match (left, right) {
                    ([x, rest @ ..], [y, ..]) if x <= y => (*out, left) = (*x, rest),
                    ([x, rest @ ..], []) => (*out, left) = (*x, rest),
                    (_, [y, rest @ ..]) => {
                        turned += left.len() as u64;
                        (*out, right) = (*y, rest);
                    }
                    ([], []) => {}
                }
            }
        }
        all.copy_from_slice(&merged);
        width *= 2;
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Draws;

    /// By the definition, pair by pair.
    fn naive(a: &[f32], b: &[f32]) -> Option<f64> {
        let sign = |x: f32, y: f32| f64::from(u8::from(x > y)) - f64::from(u8::from(x < y));
        let (mut net, mut of_a, mut of_b) = (0.0, 0.0, 0.0);
        for i in 0..a.len() {
            for j in 0..i {
                let (x, y) = (sign(a[i], a[j]), sign(b[i], b[j]));
                net += x * y;
                of_a += x * x;
                of_b += y * y;
            }
        }
        (of_a > 0.0 && of_b > 0.0).then(|| net / f64::sqrt(of_a * of_b))
    }

    #[test]
    fn tau_is_that_of_the_definition() {
        let mut draws = Draws::new(1, 0, 0);
        for n in 0..60 {
            for levels in [1, 2, 5, 1000] {
                let mut some = || (0..n).map(|_| draws.below(levels) as f32 - 2.0).collect::<Vec<f32>>();
                let (a, b) = (some(), some());
                assert_eq!(kendall(&a, &b), naive(&a, &b), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn equal_and_turned_orders_are_the_ends() {
        let up: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let down: Vec<f32> = up.iter().map(|x| -x).collect();
        assert_eq!((kendall(&up, &up), kendall(&up, &down)), (Some(1.0), Some(-1.0)));
        assert_eq!(kendall(&[0.0, -0.0, 1.0], &[2.0, 2.0, 3.0]), Some(1.0));
        assert_eq!(kendall(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(kendall(&[1.0, f32::NAN], &[1.0, 2.0]), None);
        assert_eq!(kendall(&[1.0], &[1.0, 2.0]), None);
    }
}
