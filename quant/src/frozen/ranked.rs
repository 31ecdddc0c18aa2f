//! Values in their order, whatever codes stand for them.

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

/// Codes in their own order.
pub(super) const ASCENDING: [u8; 256] = {
    let mut order = [0; 256];
    let mut code = 0;
    while code < 256 {
        order[code] = code as u8;
        code += 1;
    }
    order
};

/// What up to 256 codes stand for, sorted.
pub(super) struct Ranked {
    /// By code.
    values: [f32; 256],
    /// Different finite values in ascending order, and the smallest code of each.
    levels: [f32; 256],
    codes: [u8; 256],
    count: usize,
    /// Sums of neighbouring levels: twice the middles between them.
    sums: [f64; 256],
}

impl Ranked {
    pub(super) const EMPTY: Self =
        Self { values: [f32::NAN; 256], levels: [0.0; 256], codes: [0; 256], count: 0, sums: [0.0; 256] };

    /// Takes the value of each code. `order` lists the codes so that their values most likely rise or
    /// fall; of two that always stand for the same number, the larger may be left out.
    pub(super) fn set(&mut self, level: Level, values: &[f32], order: &[u8]) {
        let order = order.get(..values.len()).unwrap_or(order);
        self.values[..values.len()].copy_from_slice(values);
        self.count = order.len();
        for ((to, code), from) in self.levels.iter_mut().zip(&mut self.codes).zip(order) {
            (*to, *code) = (self.values[usize::from(*from)], *from);
        }
        let ends = [self.levels[0], self.levels[order.len() - 1]];
        let finite = ends.iter().all(|end| end.is_finite());
        match slope(level, &self.levels[..self.count]) {
            [true, _] if finite => {}
            [_, true] if finite => {
                self.levels[..self.count].reverse();
                self.codes[..self.count].reverse();
            }
            _ => self.sort(),
        }
        sums(level, &self.levels[..self.count], &mut self.sums);
    }

    /// Brings listed values into order, without those that are no numbers and all but the smallest code
    /// of each.
    fn sort(&mut self) {
        let mut pairs = [(0.0, 0); 256];
        let pairs = &mut pairs[..self.count];
        for (pair, from) in pairs.iter_mut().zip(self.levels.iter().zip(&self.codes)) {
            *pair = (*from.0, *from.1);
        }
        pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        self.count = 0;
        for (value, code) in pairs.iter().filter(|pair| pair.0.is_finite()) {
            match self.count.checked_sub(1) {
                // The two zeros are equal and yet sorted.
                Some(last) if self.levels[last] == *value => self.codes[last] = self.codes[last].min(*code),
                _ => {
                    (self.levels[self.count], self.codes[self.count]) = (*value, *code);
                    self.count += 1;
                }
            }
        }
    }

    /// Moves codes to their targets; says how many moved.
    pub(super) fn recode(&self, targets: &[f32], codes: &mut [u8]) -> usize {
        let mut moved = 0;
        for (target, code) in targets.iter().zip(codes) {
            let next = self.nearest(*target, *code);
            moved += usize::from(*code != next);
            *code = next;
        }
        moved
    }

    /// The code of the nearest value.
    fn nearest(&self, target: f32, present: u8) -> u8 {
        let Some(last) = self.count.checked_sub(1) else { return present };
        let twice = 2.0 * f64::from(target);
        let at = self.sums[..last].partition_point(|sum| *sum < twice);
        // Of two at the same distance, `at` is the lower.
        let other = if at < last && self.sums[at] == twice { at + 1 } else { at };
        let held = self.values[usize::from(present)];
        if held == self.levels[at] || held == self.levels[other] {
            return present;
        }
        self.codes[at].min(self.codes[other])
    }
}

stamp! {
    /// Whether all values rise, and whether all fall.
    fn slope = slope_body(values: &[f32]) -> [bool; 2];
}

#[inline(always)]
fn slope_body(values: &[f32]) -> [bool; 2] {
    let (mut rise, mut fall) = (true, true);
    for (a, b) in values.iter().zip(values.get(1..).unwrap_or(&[])) {
        rise &= a < b;
        fall &= a > b;
    }
    [rise, fall]
}

stamp! {
    fn sums = sums_body(levels: &[f32], out: &mut [f64; 256]) -> ();
}

#[inline(always)]
fn sums_body(levels: &[f32], out: &mut [f64; 256]) {
    for (out, (a, b)) in out.iter_mut().zip(levels.iter().zip(levels.get(1..).unwrap_or(&[]))) {
        *out = f64::from(*a) + f64::from(*b);
    }
}
