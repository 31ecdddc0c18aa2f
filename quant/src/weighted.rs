//! Rows of which some weights matter more than others.
//!
//! ```text
//! loss of a group on a grid = sum over its columns j of importance_j (x_j - x'_j)²
//! ```
//!
//! Ranges are tried, and least squares done, as for the fits `clip` and `lsq`; only the sums are weighted. With the mean
//! squares of a layer's inputs for importance the loss is that of the outputs, where inputs do not go together: what
//! llama.cpp calls an importance matrix.

use alloc::vec;
use alloc::vec::Vec;

use niwaki_codes::simd::Level;
use niwaki_codes::{Grouping, Uniform};

use crate::distortion::LANES;
use crate::encode::UniformOut;
use crate::grid::{GridPoint, NOT_FINITE, key};
use crate::lines::Lines;
use crate::{Distortion, Error, ErrorKind, Fit, Solver, Step, Values};

/// Encodes whole rows of as many weights as there are importances, each from 0 to 1, by the fit `clip` or `lsq`; `min_max`
/// looks at no importance.
///
/// # Errors
///
/// Those of [`encode_rows`](crate::encode_rows), and [`ErrorKind::NeedsInputs`] for fits that need more.
pub fn encode_weighted_rows(
    level: Level,
    scheme: &Uniform,
    fit: Fit,
    values: Values<'_>,
    importance: &[f32],
    out: UniformOut<'_>,
) -> Result<Distortion, Error> {
    if fit.needs_inputs() {
        return Err(ErrorKind::NeedsInputs.into());
    }
    let cols = importance.len();
    let group = group_of(scheme, cols)?;
    let mut lines = Lines::new(level, scheme, (values.len(), cols), out)?;
    let groups = Groups::new(importance, group);
    let (mut row, mut padded) = (vec![0.0; cols], Vec::new());
    let mut points = Vec::with_capacity(groups.count());
    let rows = values.len().checked_div(cols).unwrap_or(0);
    for at in 0..rows {
        values.slice(at * cols..(at + 1) * cols).decode(level, &mut row);
        finite(&row).map_err(|e| e.offset(at * cols, 0))?;
        points.clear();
        for (nth, x) in row.chunks(group).enumerate() {
            let point = groups.point(level, (scheme, fit), nth, x, &mut padded);
            points.push(point.map_err(|e| e.offset(0, at * groups.count() + nth))?);
        }
        lines.on_grids(&row, group, &points)?;
    }
    Ok(lines.finish())
}

/// Weights that share a grid, of rows of `cols`.
pub(crate) fn group_of(scheme: &Uniform, cols: usize) -> Result<usize, Error> {
    match scheme.grouping {
        Grouping::Tensor => Err(ErrorKind::WholeTensor.into()),
        Grouping::Row => Ok(cols.max(1)),
        Grouping::Group(g) => Ok(g.get()),
    }
}

/// Refuses weights that are infinite or no numbers.
pub(crate) fn finite(row: &[f32]) -> Result<(), Error> {
    match row.iter().position(|x| key(*x) >= NOT_FINITE) {
        Some(index) => Err(ErrorKind::NotFinite { index }.into()),
        None => Ok(()),
    }
}

/// The importances of a row, group by group, each filled up to whole vectors.
pub(crate) struct Groups(Vec<Vec<f32>>);

impl Groups {
    pub(crate) fn new(importance: &[f32], group: usize) -> Self {
        Self(importance.chunks(group.max(1)).map(|group| filled(group, Vec::new())).collect())
    }

    /// How many groups a row has.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The grid of the finite weights of a group.
    pub(crate) fn point(
        &self,
        level: Level,
        (scheme, fit): (&Uniform, Fit),
        group: usize,
        x: &[f32],
        padded: &mut Vec<f32>,
    ) -> Result<GridPoint, Error> {
        *padded = filled(x, core::mem::take(padded));
        let mut solver = Solver::new(scheme, fit);
        loop {
            match solver.advance(solver.weigh(level, padded, &self.0[group])) {
                Step::Again => {}
                Step::Done(point) if point.scale.is_finite() => return Ok(point),
                Step::Done(_) => return Err(ErrorKind::ScaleOverflow { group: 0 }.into()),
            }
        }
    }
}

/// Numbers filled up with zeros to whole vectors, in a buffer that is done with.
fn filled(of: &[f32], mut buffer: Vec<f32>) -> Vec<f32> {
    buffer.clear();
    buffer.extend_from_slice(of);
    buffer.resize(of.len().next_multiple_of(LANES), 0.0);
    buffer
}

#[cfg(all(test, feature = "std"))]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use niwaki_codes::{Scheme, Symmetry, UniformView};

    use super::*;
    use crate::encode_rows;

    fn uniform(text: &str) -> Uniform {
        match text.parse() {
            Ok(Scheme::Uniform(scheme)) => scheme,
            other => panic!("{other:?}"),
        }
    }

    fn values(len: usize) -> Vec<f32> {
        (0..len).map(|at| ((at * 7919 + at * at * 31) % 257) as f32 / 64.0 - 2.0 + (at % 7) as f32 * 0.1).collect()
    }

    /// What rows decode to.
    fn decoded(
        scheme: &Uniform,
        x: &[f32],
        cols: usize,
        encode: impl Fn(Values<'_>, UniformOut<'_>) -> Distortion,
    ) -> Vec<f32> {
        let rows = x.len() / cols;
        let groups = scheme.groups(rows, cols);
        let affine = usize::from(scheme.symmetry == Symmetry::Affine);
        let mut codes = vec![0; rows * scheme.row_bytes(cols)];
        let (mut scales, mut zeros) = (vec![0; groups * scheme.scale_type().bytes()], vec![0; groups * affine]);
        let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        let lost =
            encode(Values::F32(&bytes), UniformOut { codes: &mut codes, scales: &mut scales, zeros: &mut zeros });
        let view = UniformView::new(*scheme, rows, cols, &codes, &scales, (affine > 0).then_some(&zeros)).unwrap();
        let mut out = vec![0.0; x.len()];
        view.dequantize_rows(Level::best(), 0..rows, &mut out).unwrap();
        assert_eq!(lost.elements, x.len() as u64);
        let noise = Distortion::between(x, &out).noise;
        assert!((lost.noise - noise).abs() <= 1e-5 * noise, "{lost:?}");
        out
    }

    fn loss(x: &[f32], y: &[f32], importance: &[f32]) -> f64 {
        let each = x.iter().zip(y).zip(importance.iter().cycle());
        each.map(|((x, y), w)| f64::from(*w) * f64::from(x - y).powi(2)).sum()
    }

    #[test]
    fn what_matters_is_nearer_than_without_weights() {
        for (text, cols) in
            [("int4/g32/sym", 80), ("int3/g64/affine", 128), ("int4/row/sym", 100), ("int2/row/affine", 50)]
        {
            let (scheme, x) = (uniform(text), values(cols * 6));
            let importance: Vec<f32> = (0..cols).map(|at| if at % 5 == 0 { 1.0 } else { 0.01 }).collect();
            for fit in [Fit::Clip, Fit::Lsq] {
                let weighted = decoded(&scheme, &x, cols, |values, out| {
                    encode_weighted_rows(Level::best(), &scheme, fit, values, &importance, out).unwrap()
                });
                let plain = decoded(&scheme, &x, cols, |values, out| {
                    encode_rows(Level::best(), &scheme, fit, values, cols, out).unwrap()
                });
                let (weighted, plain) = (loss(&x, &weighted, &importance), loss(&x, &plain, &importance));
                assert!(weighted < plain * 0.98, "{text} {fit}: {weighted} and {plain}");
            }
        }
    }

    #[test]
    fn levels_agree_and_equal_importance_is_the_plain_fit_of_rows() {
        let (scheme, x, cols) = (uniform("int4/row/affine"), values(600), 100);
        let of = |level| {
            decoded(&scheme, &x, cols, |values, out| {
                encode_weighted_rows(level, &scheme, Fit::Lsq, values, &[1.0; 100], out).unwrap()
            })
        };
        let plain = decoded(&scheme, &x, cols, |values, out| {
            encode_rows(Level::best(), &scheme, Fit::Lsq, values, cols, out).unwrap()
        });
        for level in Level::all() {
            assert_eq!(of(level), plain, "{level:?}");
        }
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        let scheme = uniform("int4/g16/sym");
        let mut x = values(64);
        x[37] = f32::NAN;
        let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        let encode = |values, fit, codes: &mut [u8]| {
            let out = UniformOut { codes, scales: &mut [0; 8], zeros: &mut [] };
            encode_weighted_rows(Level::best(), &scheme, fit, values, &[1.0; 32], out).map_err(|e| e.kind())
        };
        assert_eq!(encode(Values::F32(&bytes), Fit::Clip, &mut [0; 32]), Err(ErrorKind::NotFinite { index: 37 }));
        assert_eq!(encode(Values::F32(&bytes), Fit::Gptq, &mut [0; 32]), Err(ErrorKind::NeedsInputs));
        let short = ErrorKind::Length { buffer: "codes", needs: 32, has: 31 };
        assert_eq!(encode(Values::F32(&bytes), Fit::Clip, &mut [0; 31]), Err(short));
        let large: Vec<u8> = [1e8f32; 64].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(encode(Values::F32(&large), Fit::Clip, &mut [0; 32]), Err(ErrorKind::ScaleOverflow { group: 0 }));
        assert!(encode(Values::F32(&bytes[..100]), Fit::Clip, &mut [0; 16]).is_err());
    }
}
