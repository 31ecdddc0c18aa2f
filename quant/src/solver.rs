//! One grid for many weights, found in passes over pieces of them.
//!
//! A whole tensor or a long row does not fit a buffer. The solver asks for passes: each
//! pass observes every piece, merges the sums in order, and advances.
//!
//! ```
//! use niwaki_codes::{Scheme, simd::Level};
//! use niwaki_quant::{Fit, Solver, Step, Sums, Values};
//!
//! let Scheme::Uniform(scheme) = "int4/tensor/sym".parse()? else { unreachable!() };
//! let bytes: Vec<u8> = [0.5f32, -2.0, 1.0].iter().flat_map(|x| x.to_le_bytes()).collect();
//! let mut solver = Solver::new(&scheme, Fit::MinMax);
//! let point = loop {
//!     let mut sums = Sums::default();
//!     sums.merge(&solver.observe(Level::best(), Values::F32(&bytes))?);
//!     if let Step::Done(point) = solver.advance(sums) {
//!         break point;
//!     }
//! };
//! assert_eq!((point.scale, point.zero), (0.25, 8));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use niwaki_codes::simd::Level;
use niwaki_codes::{Uniform, stamp};

use crate::distortion::{LANES, TILE, fold};
use crate::grid::{Extent, Grid, GridPoint, NOT_FINITE, ROUNDER, Ruler, key};
use crate::range::extent;
use crate::trials::{Moments, TRIALS, trials};
use crate::{Error, ErrorKind, Fit, Values};

/// Rounds of least squares at most.
pub(crate) const ROUNDS: u32 = 8;

/// Finds the grid of one group of weights, in passes over them.
///
/// The same pieces give the same grid, whoever observes them; pieces of another
/// length may round the sums of a searched fit otherwise.
#[derive(Clone, Debug)]
pub struct Solver {
    grid: Grid,
    fit: Fit,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    Range,
    Search(Extent),
    Refine { best: GridPoint, error: f64, trial: GridPoint, round: u32 },
    Done(GridPoint),
}

/// What one pass found in some pieces.
#[derive(Clone, Copy, Debug)]
pub struct Sums {
    extent: Extent,
    errors: [f64; TRIALS],
    moments: Moments,
}

impl Default for Sums {
    fn default() -> Self {
        Self { extent: Extent::default(), errors: [0.0; TRIALS], moments: Moments::default() }
    }
}

impl Sums {
    /// Adds the sums of the pieces that follow.
    pub fn merge(&mut self, next: &Self) {
        self.extent = self.extent.with(&next.extent);
        self.errors.iter_mut().zip(next.errors).for_each(|(sum, more)| *sum += more);
        self.moments.merge(&next.moments);
    }
}

/// What a solver wants after a pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Another pass over all pieces.
    Again,
    /// Nothing: this is the grid. With F16 scales an infinite scale says that the
    /// weights are beyond what F16 holds.
    Done(GridPoint),
}

impl Solver {
    /// A solver for one group of the scheme. The grids of the fits that need the inputs of a layer are those of least
    /// squares.
    pub fn new(scheme: &Uniform, fit: Fit) -> Self {
        Self { grid: Grid::of(scheme), fit, stage: Stage::Range }
    }

    /// Looks at one piece. All pieces but the last hold a multiple of 4096 weights.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFinite`] with the index in this piece.
    pub fn observe(&self, level: Level, piece: Values<'_>) -> Result<Sums, Error> {
        let mut sums = Sums::default();
        let (tried, count) = self.trials();
        let mut x = [0.0; TILE];
        let mut at = 0;
        while at < piece.len() {
            let n = TILE.min(piece.len() - at);
            let padded = n.next_multiple_of(LANES);
            piece.slice(at..at + n).decode(level, &mut x[..n]);
            x[n..padded].fill(0.0);
            self.observe_tile(level, &tried[..count], &x[..padded], &mut sums);
            if sums.extent.key >= NOT_FINITE {
                let bad = x[..n].iter().position(|x| key(*x) >= NOT_FINITE).unwrap_or(0);
                return Err(ErrorKind::NotFinite { index: at + bad }.into());
            }
            at += n;
        }
        sums.moments.count = piece.len() as f64;
        Ok(sums)
    }

    /// Looks at all weights of a group at once, where the error of each counts as much as its importance says: numbers
    /// of 0 to 1. Both are whole vectors; what fills them up is 0, and of no importance.
    ///
    /// The range is that of all weights, important or not.
    #[cfg(feature = "alloc")]
    pub(crate) fn weigh(&self, level: Level, x: &[f32], importance: &[f32]) -> Sums {
        let mut sums = Sums::default();
        let (tried, count) = self.trials();
        for (x, w) in x.chunks(TILE).zip(importance.chunks(TILE)) {
            match &self.stage {
                Stage::Range => sums.extent = sums.extent.with(&extent(level, x, self.grid.symmetry)),
                Stage::Search(_) => {
                    for (trial, sum) in tried[..count].iter().zip(&mut sums.errors) {
                        *sum += f64::from(fold(weighted_error(level, x, w, self.grid.ruler(*trial))));
                    }
                }
                Stage::Refine { trial, .. } => {
                    let lanes = weighted_moments(level, x, w, self.grid.ruler(*trial));
                    let [count, error, code, square, weight, product] = lanes.map(|lane| f64::from(fold(lane)));
                    sums.moments.merge(&Moments { count, error, code, square, weight, product });
                }
                Stage::Done(_) => {}
            }
        }
        sums
    }

    fn trials(&self) -> ([GridPoint; TRIALS], usize) {
        match self.stage {
            Stage::Search(extent) => trials(&self.grid, extent),
            _ => ([GridPoint::default(); TRIALS], 0),
        }
    }

    fn observe_tile(&self, level: Level, tried: &[GridPoint], x: &[f32], sums: &mut Sums) {
        match &self.stage {
            Stage::Range => sums.extent = sums.extent.with(&extent(level, x, self.grid.symmetry)),
            Stage::Search(_) => {
                for (trial, sum) in tried.iter().zip(&mut sums.errors) {
                    *sum += f64::from(fold(error(level, x, self.grid.ruler(*trial))));
                }
            }
            Stage::Refine { trial, .. } => {
                let lanes = moments(level, x, self.grid.ruler(*trial));
                let [error, code, square, weight, product] = lanes.map(|lane| f64::from(fold(lane)));
                sums.moments.merge(&Moments { count: 0.0, error, code, square, weight, product });
            }
            Stage::Done(_) => {}
        }
    }

    /// Takes the merged sums of one whole pass.
    pub fn advance(&mut self, sums: Sums) -> Step {
        let (stage, step) = match &self.stage {
            Stage::Range => self.after_range(sums.extent),
            Stage::Search(_) => self.after_search(&sums),
            Stage::Refine { best, error, trial, round } => {
                self.after_round((*best, *error), *trial, *round, &sums.moments)
            }
            Stage::Done(point) => (self.stage.clone(), Step::Done(*point)),
        };
        self.stage = stage;
        step
    }

    fn after_range(&self, extent: Extent) -> (Stage, Step) {
        let point = self.grid.min_max(extent);
        if self.fit == Fit::MinMax || !point.scale.is_finite() || point.scale == 0.0 {
            return done(point);
        }
        (Stage::Search(extent), Step::Again)
    }

    fn after_search(&self, sums: &Sums) -> (Stage, Step) {
        let (tried, count) = self.trials();
        let (mut best, mut error) = (tried[0], sums.errors[0]);
        for (trial, sum) in tried[..count].iter().zip(sums.errors).skip(1) {
            if sum < error {
                (best, error) = (*trial, sum);
            }
        }
        match self.fit {
            Fit::Lsq | Fit::Gptq | Fit::GptqOrder => {
                (Stage::Refine { best, error, trial: best, round: 0 }, Step::Again)
            }
            Fit::MinMax | Fit::Clip => done(best),
        }
    }

    fn after_round(
        &self,
        (mut best, mut error): (GridPoint, f64),
        trial: GridPoint,
        round: u32,
        moments: &Moments,
    ) -> (Stage, Step) {
        // Round 0 only measures the codes of the best grid so far.
        match round {
            0 => {}
            _ if moments.error < error => (best, error) = (trial, moments.error),
            _ => return done(best),
        }
        let (scale, zero) = moments.refit(&self.grid, (trial.scale, trial.zero.into()));
        let trial = GridPoint { scale, zero: zero as u8 };
        if round == ROUNDS || trial == best || !trial.scale.is_finite() || trial.scale == 0.0 {
            return done(best);
        }
        (Stage::Refine { best, error, trial, round: round + 1 }, Step::Again)
    }
}

fn done(point: GridPoint) -> (Stage, Step) {
    (Stage::Done(point), Step::Done(point))
}

stamp! {
    fn error = error_body(x: &[f32], ruler: Ruler) -> [f32; LANES];
}

stamp! {
    fn moments = moments_body(x: &[f32], ruler: Ruler) -> [[f32; LANES]; 5];
}

#[cfg(feature = "alloc")]
stamp! {
    fn weighted_error = weighted_error_body(x: &[f32], w: &[f32], ruler: Ruler) -> [f32; LANES];
}

#[cfg(feature = "alloc")]
stamp! {
    fn weighted_moments = weighted_moments_body(x: &[f32], w: &[f32], ruler: Ruler) -> [[f32; LANES]; 6];
}

// All return lanes, not sums: next to a fold the compiler cuts the loop's vectors to
// the fold's pairs.

/// The squared error of one tile on one grid.
#[inline(always)]
fn error_body(x: &[f32], ruler: Ruler) -> [f32; LANES] {
    let mut sum = [0.0; LANES];
    for x in x.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            let error = x[i] - (ruler.rounded(x[i]) - ROUNDER) * ruler.scale;
            sum[i] += error * error;
        }
    }
    sum
}

/// Squared error and moments of one tile on one grid: error, code, square, weight and
/// product.
#[inline(always)]
fn moments_body(x: &[f32], ruler: Ruler) -> [[f32; LANES]; 5] {
    let mut sums = [[0.0; LANES]; 5];
    for x in x.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            let q = ruler.rounded(x[i]) - ROUNDER;
            let error = x[i] - q * ruler.scale;
            sums[0][i] += error * error;
            sums[1][i] += q;
            sums[2][i] += q * q;
            sums[3][i] += x[i];
            sums[4][i] += q * x[i];
        }
    }
    sums
}

/// The squared error of one tile on one grid, each weight as important as is said.
#[cfg(feature = "alloc")]
#[inline(always)]
fn weighted_error_body(x: &[f32], w: &[f32], ruler: Ruler) -> [f32; LANES] {
    let mut sum = [0.0; LANES];
    for (x, w) in x.as_chunks::<LANES>().0.iter().zip(w.as_chunks::<LANES>().0) {
        for i in 0..LANES {
            let error = x[i] - (ruler.rounded(x[i]) - ROUNDER) * ruler.scale;
            sum[i] += w[i] * (error * error);
        }
    }
    sum
}

/// Importance, squared error and moments of one tile on one grid, each weight as important as is said.
#[cfg(feature = "alloc")]
#[inline(always)]
fn weighted_moments_body(x: &[f32], w: &[f32], ruler: Ruler) -> [[f32; LANES]; 6] {
    let mut sums = [[0.0; LANES]; 6];
    for (x, w) in x.as_chunks::<LANES>().0.iter().zip(w.as_chunks::<LANES>().0) {
        for i in 0..LANES {
            let q = ruler.rounded(x[i]) - ROUNDER;
            let error = x[i] - q * ruler.scale;
            sums[0][i] += w[i];
            sums[1][i] += w[i] * (error * error);
            sums[2][i] += w[i] * q;
            sums[3][i] += w[i] * (q * q);
            sums[4][i] += w[i] * x[i];
            sums[5][i] += w[i] * (q * x[i]);
        }
    }
    sums
}
