//! Work cut into parts of a fixed size, so that results do not depend on the number of threads.

use rayon::prelude::*;

/// Elements of one part: 64 KiB of floats.
pub(crate) const PART: usize = 1 << 14;

/// Calls `work` on parts of `out`, each with the offset at which it begins. Parts other than the
/// last are a multiple of `unit` elements.
pub(crate) fn each<T: Send>(out: &mut [T], unit: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let part = size(unit);
    match out.len() {
        0 => {}
        len if len <= part => work(0, out),
        _ => of(out, part, work),
    }
}

/// Calls `work` on parts of `part` elements of `out`, each with the offset at which it begins.
pub(crate) fn of<T: Send>(out: &mut [T], part: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    out.par_chunks_mut(part.max(1)).enumerate().for_each(|(at, out)| work(at * part, out));
}

/// The multiple of `unit` that is the size of a part.
fn size(unit: usize) -> usize {
    let unit = unit.max(1);
    (PART / unit).max(1) * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_units_and_cover_everything() {
        for (len, unit) in [(0, 1), (5, 1), (PART, 7), (PART + 1, 1), (3 * PART + 5, 100), (3 * PART, 2 * PART)] {
            let mut out = vec![usize::MAX; len];
            each(&mut out, unit, |at, out| {
                assert_eq!(at % unit, 0);
                out.iter_mut().enumerate().for_each(|(k, x)| *x = at + k);
            });
            assert!(out.iter().enumerate().all(|(at, x)| at == *x));
        }
    }
}
