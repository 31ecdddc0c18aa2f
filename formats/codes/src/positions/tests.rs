//! Lists of positions against sorted vectors and one bit at a time.
#![cfg(feature = "alloc")]

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::simd::Level;

/// A small generator (xorshift), so that runs repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    /// `kept` places among `elements`, spread out or crowded into a stretch.
    fn places(&mut self, elements: usize, kept: usize, crowded: bool) -> Vec<usize> {
        let room = if crowded { (kept * 2).min(elements) } else { elements };
        let first = self.below(elements - room + 1);
        let mut places = BTreeSet::new();
        while places.len() < kept {
            places.insert(first + self.below(room));
        }
        places.into_iter().collect()
    }
}

fn encoded(elements: usize, places: &[usize]) -> Vec<u8> {
    let mut out = vec![0xa5; PositionsView::part_len(elements, places.len()).unwrap()];
    encode(elements, places.len(), places.iter().copied(), &mut out).unwrap();
    out
}

/// The words of the format, one bit at a time.
fn naive(elements: usize, kept: usize, bytes: &[u8]) -> Vec<usize> {
    let bit = |i: usize| usize::from(bytes[i / 8] >> (i % 8) & 1);
    let k = if kept == 0 || elements < 2 * kept { 0 } else { (elements / kept).ilog2() as usize };
    let upper = if kept == 0 { 0 } else { kept + ((elements - 1) >> k) + 1 };
    let lower = upper.div_ceil(8) * 8;
    let set = (0..upper).filter(|i| bit(*i) == 1).enumerate();
    set.map(|(i, at)| (at - i) << k | (0..k).map(|j| bit(lower + i * k + j) << j).sum::<usize>()).collect()
}

const SIZES: [(usize, usize); 16] = [
    (0, 0),
    (1, 0),
    (1, 1),
    (7, 7),
    (9, 5),
    (64, 1),
    (100, 50),
    (128, 64),
    (1000, 3),
    (1001, 500),
    (4096, 40),
    (65_537, 129),
    (1 << 20, 7),
    (1 << 33, 5),
    (1 << 58, 3),
    (usize::MAX, 2),
];

#[test]
fn what_is_encoded_is_handed_out_by_the_words_of_the_format() {
    let mut random = Random(7);
    for (elements, kept) in SIZES {
        for crowded in [false, true] {
            let places = match elements {
                usize::MAX => vec![random.below(elements / 2), usize::MAX - 1],
                _ => random.places(elements, kept, crowded),
            };
            let bytes = encoded(elements, &places);
            assert_eq!(naive(elements, kept, &bytes), places, "{kept} of {elements}");
            let view = PositionsView::new(elements, kept, &bytes).unwrap();
            assert_eq!(view.check(), Ok(()));
            assert!(view.iter().eq(places.iter().copied().zip(0..)), "{kept} of {elements}");
            assert_eq!((view.elements(), view.kept()), (elements, kept));
        }
    }
}

#[test]
fn any_range_is_counted_and_handed_out_from_any_remembered_count() {
    let mut random = Random(11);
    for (elements, kept) in SIZES.into_iter().filter(|(elements, _)| *elements < usize::MAX) {
        for crowded in [false, true] {
            let places = random.places(elements, kept, crowded);
            let bytes = encoded(elements, &places);
            let view = PositionsView::new(elements, kept, &bytes).unwrap();
            let below = |at: usize| places.partition_point(|place| *place < at);
            for _ in 0..200 {
                // Ends that are positions themselves, and beside them, are the hard ones.
                let mut end = || match (kept, random.below(2)) {
                    (1.., 0) => (places[random.below(kept)] + random.below(3)).saturating_sub(1).min(elements),
                    _ => random.below(elements + 1),
                };
                let (a, b) = (end(), end());
                let (start, end) = (a.min(b), a.max(b));
                let (first, last) = (below(start), below(end));
                let named = || alloc::format!("{start}..{end} of {elements}, {kept} kept");
                assert_eq!(view.kept_in(start..end, first), last - first, "{}", named());
                assert_eq!(view.kept_in(0..end, 0), last, "{}", named());
                let expected = places[first..last].iter().copied().zip(first..);
                assert!(view.iter_in(start..end, first).eq(expected), "{}", named());
            }
            assert_eq!(view.kept_in(0..usize::MAX, 0), kept);
        }
    }
}

#[test]
fn lengths_are_those_of_the_law() {
    let len = |elements, kept| PositionsView::part_len(elements, kept).unwrap();
    assert_eq!([len(0, 0), len(1 << 40, 0), len(1, 1), len(8, 8), len(80, 5)], [0, 0, 1, 2, 5]);
    // One weight of a hundred: 6 low bits, and 2 + 36/64 upper ones.
    assert_eq!(len(1_000_000, 10_000), (10_000 + 999_999 / 64 + 1usize).div_ceil(8) + 7500);
    let error = |elements, kept| PositionsView::part_len(elements, kept).unwrap_err().kind();
    assert_eq!(error(4, 5), ErrorKind::Range { needs: 5, has: 4 });
    assert_eq!(error(usize::MAX, usize::MAX), ErrorKind::Overflow);
}

#[test]
fn what_no_encoder_writes_is_named() {
    let bytes = encoded(80, &[3, 17, 18, 41, 79]);
    let kind = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = bytes.clone();
        change(&mut changed);
        PositionsView::new(80, 5, &changed).and_then(|view| view.check()).unwrap_err().kind()
    };
    let length = |has| ErrorKind::PartLength { part: "positions", needs: 5, has };
    assert_eq!(kind(&|b| b.truncate(4)), length(4));
    assert_eq!(kind(&|b| b.push(0)), length(6));
    assert_eq!(kind(&|b| b[0] ^= 1), ErrorKind::PositionCount { needs: 5, has: 4 });
    assert_eq!(kind(&|b| b[1] |= 2), ErrorKind::PositionCount { needs: 5, has: 6 });
    let stray = ErrorKind::StrayBits { part: "positions", row: 0 };
    assert_eq!(kind(&|b| b[1] |= 4), stray);
    assert_eq!(kind(&|b| b[4] |= 0x10), stray);
    // 17 and 18 changed places; then both are 18; then the last is 80.
    let position = |kept, has, least| ErrorKind::Position { kept, has, least, end: 80 };
    assert_eq!(kind(&|b| (b[2], b[3]) = (0x23, 0x91)), position(2, 17, 19));
    assert_eq!(kind(&|b| (b[2], b[3]) = (0x23, 0x92)), position(2, 18, 19));
    assert_eq!(kind(&|b| (b[1], b[4]) = (0x02, 0x00)), position(4, 80, 42));
}

#[test]
fn an_encoder_refuses_what_is_no_ascending_list() {
    let mut out = [0; 5];
    let mut kind = |places: &[usize]| encode(80, 5, places.iter().copied(), &mut out).unwrap_err().kind();
    let position = |kept, has, least| ErrorKind::Position { kept, has, least, end: 80 };
    assert_eq!(kind(&[3, 17, 17, 41, 79]), position(2, 17, 18));
    assert_eq!(kind(&[3, 17, 18, 41, 80]), position(4, 80, 42));
    assert_eq!(kind(&[3, 17, 18, 41]), ErrorKind::PositionCount { needs: 5, has: 4 });
    assert_eq!(kind(&[3, 17, 18, 41, 60, 61]), ErrorKind::PositionCount { needs: 5, has: 6 });
    let length = encode(80, 5, [], &mut [0; 4]).unwrap_err().kind();
    assert_eq!(length, ErrorKind::PartLength { part: "positions", needs: 5, has: 4 });
}

#[test]
fn unchecked_bytes_hand_out_only_what_was_asked_for() {
    let mut random = Random(13);
    for round in 0..4000 {
        let elements = 1 + random.below(if round % 8 == 0 { 1 << 61 } else { 300 });
        let kept = random.below(elements.min(40) + 1);
        let mut bytes = vec![0; PositionsView::part_len(elements, kept).unwrap()];
        bytes.iter_mut().for_each(|byte| *byte = random.below(256) as u8 & random.below(256) as u8);
        let Ok(view) = PositionsView::new(elements, kept, &bytes) else { continue };
        let whole: Vec<_> = view.iter().collect();
        assert!(whole.len() <= kept);
        if view.check().is_ok() {
            assert!(whole.iter().map(|(place, _)| *place).eq(naive(elements, kept, &bytes)));
        }
        let (start, before) = (random.below(elements + 9), random.below(kept + 9));
        let end = random.below(elements + 9);
        assert!(view.kept_in(start..end, before) <= kept.saturating_sub(before));
        for (place, index) in view.iter_in(start..end, before) {
            assert!((start..end).contains(&place) && place < elements && (before..kept).contains(&index));
        }
        assert_eq!(view.iter_in(start..end, usize::MAX).next(), None);
        assert_eq!(view.kept_in(start..end, usize::MAX), 0);
    }
}

/// The columns of some rows, read with so much room at a time; those that are none as `u32::MAX`.
fn columns(
    view: &PositionsView<'_>,
    level: Level,
    (cols, row, before): (usize, usize, usize),
    room: usize,
) -> Vec<Vec<u32>> {
    let (mut reader, mut out) = (view.columns(cols, row, before), vec![0; room]);
    let mut all = Vec::new();
    for _ in row..(view.elements() / cols).min(row + 40) {
        let mut of_row = Vec::new();
        loop {
            let (next, count) = (reader.before(), reader.read(level, &mut out));
            assert_eq!(reader.before(), next + count);
            if count == 0 {
                break;
            }
            of_row.extend(out[..count].iter().map(|at| if (*at as usize) < cols { *at } else { u32::MAX }));
        }
        all.push(of_row);
        reader.next_row();
    }
    all
}

#[test]
fn columns_are_those_of_the_positions_of_each_row_on_every_level() {
    let mut random = Random(17);
    for (elements, kept) in SIZES.into_iter().filter(|(elements, _)| (1..1 << 33).contains(elements)) {
        for (crowded, cols) in [1, 3, 8, 50, 64, 1000, elements].into_iter().flat_map(|c| [(false, c), (true, c)]) {
            let places = random.places(elements, kept, crowded);
            let bytes = encoded(elements, &places);
            let view = PositionsView::new(elements, kept, &bytes).unwrap();
            // From a row in which weights are kept, and from the first.
            let some = places.get(kept / 2).map_or(0, |place| (place / cols).min(elements / cols));
            for row in [0, some] {
                let below = |at: usize| places.partition_point(|place| *place < at);
                let expected: Vec<Vec<u32>> = (row..(elements / cols).min(row + 40))
                    .map(|row| (row * cols, below(row * cols)..below((row + 1) * cols)))
                    .map(|(first, some)| places[some].iter().map(|place| (place - first) as u32).collect())
                    .collect();
                for (level, room) in Level::all().flat_map(|level| [16, 21, 512].map(|room| (level, room))) {
                    let found = columns(&view, level, (cols, row, below(row * cols)), room);
                    assert_eq!(found, expected, "{kept} of {elements}, {cols} columns, {room} {}", level.name());
                }
            }
        }
    }
}

#[test]
fn columns_of_unchecked_bytes_are_the_same_on_every_level() {
    let mut random = Random(19);
    for _ in 0..4000 {
        let elements = 1 + random.below(3000);
        let kept = random.below(elements.min(400) + 1);
        let mut bytes = vec![0; PositionsView::part_len(elements, kept).unwrap()];
        bytes.iter_mut().for_each(|byte| *byte = random.below(256) as u8 & random.below(256) as u8);
        // As many bits are set as there should be, wherever they are.
        let has = PositionsView::new(elements, kept, &bytes);
        let has = has.map_or_else(
            |error| if let ErrorKind::PositionCount { has, .. } = error.kind() { has } else { 0 },
            |_| kept,
        );
        let upper = Sizes::new(elements, kept).unwrap().upper_bits;
        let (mut wrong, mut bit) = (has.abs_diff(kept), 0);
        while wrong > 0 && bit < upper {
            if (bytes[bit / 8] >> (bit % 8) & 1 == 1) == (has > kept) {
                (bytes[bit / 8], wrong) = (bytes[bit / 8] ^ 1 << (bit % 8), wrong - 1);
            }
            bit += 1;
        }
        let view = PositionsView::new(elements, kept, &bytes).unwrap();
        let at = (1 + random.below(elements), random.below(9), random.below(kept + 9));
        let first = columns(&view, Level::Scalar, at, 512);
        assert!(first.iter().map(Vec::len).sum::<usize>() <= kept);
        for level in Level::all() {
            assert_eq!(columns(&view, level, at, 21), first, "{}", level.name());
        }
    }
}
