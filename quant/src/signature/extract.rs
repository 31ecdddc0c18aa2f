//! The signature of one tensor (Robust Weight Signatures, section 3): what a robust training
//! changed that an ordinary one did not.
//!
//! ```text
//! a = standard - init          v = robust - init
//! signature = v - c · a        c = <v,a> / <a,a>;  0 where a is 0
//! ```
//!
//! Each tensor is one vector. Sums are f64, over blocks of 4096 weights in sixteen lanes, and
//! blocks are added in order: whoever computes blocks apart and merges them in order gets the
//! same bits.

/// Lanes of every sum.
const LANES: usize = 16;

/// Sums over one tensor, or a part of it, of the three checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// ⟨v, a⟩.
    pub va: f64,
    /// ⟨a, a⟩.
    pub aa: f64,
    /// ⟨v, v⟩.
    pub vv: f64,
    /// ‖standard‖².
    pub standard: f64,
    /// ‖robust − standard‖².
    pub apart: f64,
}

impl Moments {
    /// Of one block; stops at the shortest of the three.
    pub fn of(init: &[f32], standard: &[f32], robust: &[f32]) -> Self {
        let mut lanes = [Self::default(); LANES];
        let all = init.chunks(LANES).zip(standard.chunks(LANES)).zip(robust.chunks(LANES));
        for ((init, standard), robust) in all {
            for (((lane, i), s), r) in lanes.iter_mut().zip(init).zip(standard).zip(robust) {
                let (i, s, r) = (f64::from(*i), f64::from(*s), f64::from(*r));
                let (a, v) = (s - i, r - i);
                lane.va += v * a;
                lane.aa += a * a;
                lane.vv += v * v;
                lane.standard += s * s;
                lane.apart += (r - s) * (r - s);
            }
        }
        let mut total = Self::default();
        lanes.iter().for_each(|lane| total.merge(lane));
        total
    }

    /// Adds the sums of the part that follows.
    pub fn merge(&mut self, next: &Self) {
        self.va += next.va;
        self.aa += next.aa;
        self.vv += next.vv;
        self.standard += next.standard;
        self.apart += next.apart;
    }

    /// What of `a` is taken away from `v`.
    pub fn coefficient(&self) -> f64 {
        if self.aa > 0.0 { self.va / self.aa } else { 0.0 }
    }

    /// ‖signature‖², without another pass.
    pub fn energy(&self) -> f64 {
        let along = if self.aa > 0.0 { self.va * self.va / self.aa } else { 0.0 };
        (self.vv - along).max(0.0)
    }

    /// The squares of the relative difference ‖robust − standard‖ / ‖standard‖ of several
    /// tensors together are the quotient of their sums; none where standard is 0.
    pub fn relative_difference_squared(&self) -> Option<f64> {
        (self.standard > 0.0).then(|| self.apart / self.standard)
    }
}

/// Writes the signature of a block: `v - coefficient · a`, rounded to f32 once. With the
/// coefficient 1 it is `robust - standard`, the difference without projection.
pub fn signature(init: &[f32], standard: &[f32], robust: &[f32], coefficient: f64, out: &mut [f32]) {
    for (((out, i), s), r) in out.iter_mut().zip(init).zip(standard).zip(robust) {
        let (i, s, r) = (f64::from(*i), f64::from(*s), f64::from(*r));
        *out = ((r - i) - coefficient * (s - i)) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u64, len: usize) -> impl Iterator<Item = f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        (0..len).map(move |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
    }

    fn three(seed: u64, len: usize) -> [Vec<f32>; 3] {
        let init: Vec<f32> = random(seed, len).collect();
        let near = |by: f32, seed| init.iter().zip(random(seed, len)).map(|(x, r)| x + by * r).collect::<Vec<_>>();
        let standard = near(0.05, seed + 1);
        let robust = standard.iter().zip(near(0.02, seed + 2)).map(|(s, r)| 0.7 * s + 0.3 * r).collect();
        [init, standard, robust]
    }

    /// Both formulas of papers.md 3.2, in f64 without rounding in between.
    fn oracle(init: &[f32], standard: &[f32], from: &[f64]) -> Vec<f64> {
        let a: Vec<f64> = standard.iter().zip(init).map(|(s, i)| f64::from(*s) - f64::from(*i)).collect();
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let c = dot(from, &a) / dot(&a, &a);
        from.iter().zip(&a).map(|(v, a)| v - c * a).collect()
    }

    #[test]
    fn it_is_orthogonal_to_the_standard_training_and_both_formulas_agree() {
        for (seed, len) in [(1, 7), (2, 64), (3, 1000), (4, 20_001)] {
            let [init, standard, robust] = three(seed, len);
            let moments = Moments::of(&init, &standard, &robust);
            let mut found = vec![0.0; len];
            signature(&init, &standard, &robust, moments.coefficient(), &mut found);
            let (mut dot, mut norm) = (0.0, 0.0);
            for ((x, s), i) in found.iter().zip(&standard).zip(&init) {
                let a = f64::from(*s) - f64::from(*i);
                dot += f64::from(*x) * a;
                norm += f64::from(*x) * f64::from(*x);
            }
            assert!(dot.abs() <= 1e-5 * norm.sqrt() * moments.aa.sqrt(), "{len}: {dot}");
            assert!((norm - moments.energy()).abs() <= 1e-4 * moments.vv, "{len}");
            let v: Vec<f64> = robust.iter().zip(&init).map(|(r, i)| f64::from(*r) - f64::from(*i)).collect();
            let d: Vec<f64> = robust.iter().zip(&standard).map(|(r, s)| f64::from(*r) - f64::from(*s)).collect();
            let (of_v, of_d) = (oracle(&init, &standard, &v), oracle(&init, &standard, &d));
            for ((found, v), d) in found.iter().zip(of_v).zip(of_d) {
                assert!((v - d).abs() < 1e-7 && (f64::from(*found) - v).abs() < 1e-7);
            }
        }
    }

    #[test]
    fn without_a_standard_training_nothing_is_taken_away() {
        let [init, _, robust] = three(9, 50);
        let moments = Moments::of(&init, &init, &robust);
        assert_eq!((moments.coefficient(), moments.energy()), (0.0, moments.vv));
        let mut found = vec![0.0; 50];
        signature(&init, &init, &robust, moments.coefficient(), &mut found);
        assert!(found.iter().zip(robust.iter().zip(&init)).all(|(x, (r, i))| *x == r - i));
        assert_eq!(Moments::default().relative_difference_squared(), None);
    }

    #[test]
    fn blocks_in_order_sum_to_the_same_bits() {
        let [init, standard, robust] = three(5, 10_000);
        let by = |step: usize| {
            let mut total = Moments::default();
            for at in (0..10_000).step_by(step) {
                let end = (at + step).min(10_000);
                total.merge(&Moments::of(&init[at..end], &standard[at..end], &robust[at..end]));
            }
            total
        };
        assert_eq!(by(4096), by(4096));
        assert!((by(4096).va - by(10_000).va).abs() < 1e-9);
    }
}
