//! Seeded mutations of seeds, for compilers without a fuzzer.

/// A stream of pseudo-random numbers (splitmix64) that repeats from run to run.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// The next number below `n`; 0 if there is none.
    pub fn below(&mut self, n: usize) -> usize {
        (self.number() % n.max(1) as u64) as usize
    }
}

/// Texts that parsers of numbers, JSON and paths tend to stumble over.
const WORDS: &[&[u8]] = &[
    b"0",
    b"-1",
    b"1e308",
    b"18446744073709551615",
    b"18446744073709551616",
    b"4294967296",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"[[",
    b"\"\"",
    b"\\u0000",
    b"\\ud800",
    b"../",
    b"/",
    b"\0",
    b"\xff\xfe",
    b"\xc3\xa9",
    b"\n",
    b" ",
    b",",
    b"/g0/",
    b"/f32",
    b"int9",
    b"\x00\x00\x00\x00\x00\x00\x00\x80",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
];

/// One of the seeds after one to eight small changes, more often few.
pub fn mutation(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let Some(seed) = seeds.get(random.below(seeds.len())) else { return Vec::new() };
    let mut bytes = seed.clone();
    let most = random.below(8);
    for _ in 0..=random.below(most + 1) {
        change(&mut bytes, seeds, random);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = (at + random.below(16)).min(bytes.len());
    match random.below(8) {
        0 => bytes.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1 << (random.number() % 8)),
        1 => bytes.iter_mut().skip(at).take(1).for_each(|b| *b = random.number() as u8),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        5 => {
            let word = WORDS[random.below(WORDS.len())];
            let over = if random.below(2) == 0 { at..at } else { at..end };
            bytes.splice(over, word.iter().copied());
        }
        6 => {
            let other = &seeds[random.below(seeds.len())];
            bytes.truncate(at);
            bytes.extend_from_slice(&other[random.below(other.len() + 1)..]);
        }
        _ => {
            let digit = bytes.iter().skip(at).position(u8::is_ascii_digit);
            if let Some(byte) = digit.and_then(|i| bytes.get_mut(at + i)) {
                *byte = b'0' + (random.number() % 10) as u8;
            }
        }
    }
    bytes.truncate(1 << 16);
}
