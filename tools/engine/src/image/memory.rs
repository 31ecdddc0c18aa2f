//! Where values lie in the arena: decided once, ahead.
//!
//! The largest first, each at the lowest place where nothing lies that lives at the same time. Finding the smallest arena is as
//! hard as packing boxes; this is within a few percent of it on networks of this kind.

use std::ops::RangeInclusive;

/// Values begin at multiples of this, so that words of them can be read.
const ALIGNMENT: usize = 4;

/// A value that needs room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes.
    pub(crate) bytes: usize,
    /// The steps from that which makes it to the last that takes it.
    pub(crate) lives: RangeInclusive<usize>,
}

/// Where each begins, and the bytes of all.
pub(crate) fn place(rooms: &[Room]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..rooms.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(rooms[*at].bytes), *at));
    let mut places: Vec<Option<usize>> = vec![None; rooms.len()];
    let mut all = 0;
    for at in order {
        let room = &rooms[at];
        let meets = |other: &Room| room.lives.start() <= other.lives.end() && other.lives.start() <= room.lives.end();
        let placed = places.iter().zip(rooms).filter(|(_, other)| meets(other));
        let mut taken: Vec<(usize, usize)> =
            placed.filter_map(|(place, other)| place.map(|place| (place, place + other.bytes))).collect();
        taken.sort_unstable();
        let mut from = 0usize;
        for (begin, end) in taken {
            if from + room.bytes <= begin {
                break;
            }
            from = from.max(end.next_multiple_of(ALIGNMENT));
        }
        places[at] = Some(from);
        all = all.max(from + room.bytes);
    }
    (places.into_iter().flatten().collect(), all.next_multiple_of(ALIGNMENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(of: &[(usize, usize, usize)]) -> Vec<Room> {
        of.iter().map(|(bytes, from, to)| Room { bytes: *bytes, lives: *from..=*to }).collect()
    }

    #[test]
    fn a_chain_takes_two_neighbours() {
        let (places, all) = place(&rooms(&[(100, 0, 0), (400, 0, 1), (100, 1, 2), (10, 2, 3)]));
        assert_eq!((places, all), (vec![400, 0, 400, 0], 500));
    }

    #[test]
    fn what_lives_together_lies_apart() {
        let mut seed = 1u64;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % below
        };
        for _ in 0..200 {
            let all: Vec<Room> = (0..12)
                .map(|_| {
                    let from = next(20);
                    Room { bytes: 1 + next(50), lives: from..=from + next(5) }
                })
                .collect();
            let (places, arena) = place(&all);
            for (a, (x, from)) in all.iter().zip(&places).enumerate() {
                assert!(from + x.bytes <= arena && from % ALIGNMENT == 0);
                for (y, other) in all.iter().zip(&places).skip(a + 1) {
                    let together = x.lives.start() <= y.lives.end() && y.lives.start() <= x.lives.end();
                    let apart = from + x.bytes <= *other || other + y.bytes <= *from;
                    assert!(!together || apart, "{x:?} at {from}, {y:?} at {other}");
                }
            }
        }
    }
}
