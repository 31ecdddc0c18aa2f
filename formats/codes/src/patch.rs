//! What a patch does to weights: the arithmetic that readers of patched tensors share.
//!
//! ```text
//! add      x + alpha · s                      differences
//! blend    (1 - alpha) · x + alpha · s        weights that take the place of others
//! scale    x · (1 + alpha · (f - 1))          a factor for each row
//! ```
//!
//! Patches of a stack are applied one after the other in f64, from the stored weight, which is
//! exact there; the sum is rounded to f32 once, to nearest, ties to even. Each operation is
//! rounded by itself, so every machine and every instruction set gives the same bits.

use crate::stamp;

/// What the values of a patch mean for the weights of a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PatchKind {
    /// Differences that are added.
    #[default]
    Add,
    /// Weights that take the place of those there.
    Blend,
    /// One factor for each row.
    Scale,
}

impl PatchKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Add, Self::Blend, Self::Scale];

    /// The word for it in files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Blend => "blend",
            Self::Scale => "scale",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Applies one patch to `weights`, whose values for it are `values`: as many, of
    /// [`Scale`](Self::Scale) each row's factor over again. Stops at the shorter side.
    pub fn apply(self, level: crate::simd::Level, alpha: f64, values: &[f32], weights: &mut [f64]) {
        match self {
            Self::Add => add(level, alpha, values, weights),
            Self::Blend => blend(level, alpha, values, weights),
            Self::Scale => scale(level, alpha, values, weights),
        }
    }

    /// Takes back what [`apply`](Self::apply) did, but for rounding. What cannot be taken back
    /// stays as it is: a blend at 1, a factor of 0.
    pub fn take_back(self, level: crate::simd::Level, alpha: f64, values: &[f32], weights: &mut [f64]) {
        match self {
            Self::Add => add(level, -alpha, values, weights),
            Self::Blend if alpha == 1.0 => {}
            Self::Blend => {
                for (x, s) in weights.iter_mut().zip(values) {
                    *x = (*x - alpha * f64::from(*s)) / (1.0 - alpha);
                }
            }
            Self::Scale => {
                for (x, f) in weights.iter_mut().zip(values) {
                    let factor = factor(alpha, *f);
                    *x = if factor == 0.0 { *x } else { *x / factor };
                }
            }
        }
    }
}

/// The values of one patch for a run of weights: what they mean, alpha, and one for each weight.
pub type Values<'v> = (PatchKind, f64, &'v [f32]);

/// Weights that are widened at a time.
const RUN: usize = 512;

/// Applies a stack of patches to a run of weights, the first of them first, and rounds once.
///
/// ```
/// use niwaki_codes::{patch, PatchKind, simd::Level};
///
/// let mut weights = [1.0, 2.0];
/// let stack = [(PatchKind::Add, 0.5, &[4.0, 0.0][..]), (PatchKind::Scale, 1.0, &[0.5, 0.5][..])];
/// patch::lay(Level::best(), &stack, &mut weights);
/// assert_eq!(weights, [1.5, 1.0]);
/// ```
pub fn lay(level: crate::simd::Level, stack: &[Values<'_>], weights: &mut [f32]) {
    let mut wide = [0.0; RUN];
    for (at, weights) in weights.chunks_mut(RUN).enumerate() {
        let Some(wide) = wide.get_mut(..weights.len()) else { continue };
        widen(level, weights, wide);
        for (kind, alpha, values) in stack {
            kind.apply(level, *alpha, values.get(at * RUN..).unwrap_or_default(), wide);
        }
        narrow(level, wide, weights);
    }
}

/// What a row is multiplied by.
#[inline(always)]
pub fn factor(alpha: f64, f: f32) -> f64 {
    1.0 + alpha * (f64::from(f) - 1.0)
}

stamp! {
    fn add = add_body(alpha: f64, values: &[f32], weights: &mut [f64]) -> ();
}

#[inline(always)]
fn add_body(alpha: f64, values: &[f32], weights: &mut [f64]) {
    for (x, s) in weights.iter_mut().zip(values) {
        *x += alpha * f64::from(*s);
    }
}

stamp! {
    fn blend = blend_body(alpha: f64, values: &[f32], weights: &mut [f64]) -> ();
}

#[inline(always)]
fn blend_body(alpha: f64, values: &[f32], weights: &mut [f64]) {
    for (x, s) in weights.iter_mut().zip(values) {
        *x = (1.0 - alpha) * *x + alpha * f64::from(*s);
    }
}

stamp! {
    fn scale = scale_body(alpha: f64, values: &[f32], weights: &mut [f64]) -> ();
}

#[inline(always)]
fn scale_body(alpha: f64, values: &[f32], weights: &mut [f64]) {
    for (x, f) in weights.iter_mut().zip(values) {
        *x *= factor(alpha, *f);
    }
}

stamp! {
    /// The weights as f64.
    pub fn widen = widen_body(weights: &[f32], out: &mut [f64]) -> ();
}

#[inline(always)]
fn widen_body(weights: &[f32], out: &mut [f64]) {
    for (x, out) in weights.iter().zip(out) {
        *out = f64::from(*x);
    }
}

stamp! {
    /// The weights as f32, rounded to nearest, ties to even.
    pub fn narrow = narrow_body(weights: &[f64], out: &mut [f32]) -> ();
}

#[inline(always)]
fn narrow_body(weights: &[f64], out: &mut [f32]) {
    for (x, out) in weights.iter().zip(out) {
        *out = *x as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Level;

    fn applied(kind: PatchKind, alpha: f64, x: &[f32], s: &[f32]) -> [f32; 4] {
        let (mut wide, mut out) = ([0.0; 4], [0.0; 4]);
        let mut bits = None;
        for level in Level::all() {
            widen(level, x, &mut wide);
            kind.apply(level, alpha, s, &mut wide);
            narrow(level, &wide, &mut out);
            let now = out.map(f32::to_bits);
            assert_eq!(*bits.get_or_insert(now), now, "{}", level.name());
        }
        out
    }

    #[test]
    fn each_kind_is_its_formula() {
        let (x, s) = ([1.0, -2.0, 0.5, 3.0], [0.5, 0.5, -1.0, 2.0]);
        assert_eq!(applied(PatchKind::Add, 0.5, &x, &s), [1.25, -1.75, 0.0, 4.0]);
        assert_eq!(applied(PatchKind::Blend, 0.25, &x, &s), [0.875, -1.375, 0.125, 2.75]);
        assert_eq!(applied(PatchKind::Scale, 1.0, &x, &s), [0.5, -1.0, -0.5, 6.0]);
        assert_eq!(applied(PatchKind::Scale, 0.5, &x, &s), [0.75, -1.5, 0.0, 4.5]);
    }

    #[test]
    fn ends_are_exact_and_the_sum_is_rounded_once() {
        let (x, s) = ([0.1, 1e-30, -7.25, 3.4e38], [1e30, 0.3, 1.1e-38, -1e-3]);
        assert_eq!(applied(PatchKind::Blend, 1.0, &x, &s), s);
        for kind in PatchKind::ALL {
            assert_eq!(applied(kind, 0.0, &x, &s), x);
        }
        // 2^24 + 1/2 + 1/2: two roundings to f32 would lose both halves.
        let (mut wide, mut out) = ([16_777_216.0], [0.0]);
        for _ in 0..4 {
            PatchKind::Add.apply(Level::best(), 1.0, &[0.5], &mut wide);
        }
        narrow(Level::best(), &wide, &mut out);
        assert_eq!(out, [16_777_218.0]);
    }

    #[test]
    fn what_was_applied_is_taken_back_but_for_rounding() {
        let (x, s) = ([1.5, -2.0, 0.5, 3.0], [0.7, 0.5, -1.0, 2.0]);
        for (kind, alpha) in [(PatchKind::Add, 0.3), (PatchKind::Blend, 0.3), (PatchKind::Scale, 0.9)] {
            let mut wide = x.map(f64::from);
            kind.apply(Level::best(), alpha, &s, &mut wide);
            kind.take_back(Level::best(), alpha, &s, &mut wide);
            assert!(wide.iter().zip(x).all(|(a, b)| (a - b).abs() < 1e-12), "{}", kind.name());
        }
        let mut gone = [4.0];
        PatchKind::Blend.take_back(Level::best(), 1.0, &[9.0], &mut gone);
        PatchKind::Scale.take_back(Level::best(), 1.0, &[0.0], &mut gone);
        assert_eq!(gone, [4.0]);
    }

    #[test]
    fn a_kind_goes_by_its_name() {
        assert!(PatchKind::ALL.iter().all(|kind| PatchKind::from_name(kind.name()) == Some(*kind)));
        assert_eq!(PatchKind::from_name("replace"), None);
    }
}
