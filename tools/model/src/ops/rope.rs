//! Positions as rotations of pairs, one from each half of a head.

mod back;

mod frequencies;

pub use frequencies::{Frequencies, Scaling};

use rayon::prelude::*;

use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::real::{Real, reals};
use crate::reverse::Reverse;
use crate::tensor::{Data, Tensor};

/// Cosines and sines `[T, size / 2]` for positions `[T]`.
#[derive(Clone, Debug)]
pub struct Angles {
    /// How fast each pair turns.
    pub frequencies: Frequencies,
}

/// Rotates heads [T, heads, size]: inputs are these, and cosines and sines as [`Angles`] gives
/// them. What they do not reach of a head stays as it is.
#[derive(Clone, Copy, Debug)]
pub struct Rotate;

impl Operator for Angles {
    fn name(&self) -> &'static str {
        "RotaryAngles"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let positions = inputs.integers(0)?;
        let last = positions.iter().copied().max().unwrap_or(0);
        let seen = usize::try_from(last).unwrap_or(0).saturating_add(1);
        let turns = self.frequencies.at(seen);
        let scale = self.frequencies.amplitude();
        let shape = vec![positions.len(), turns.len()];
        let (mut cos, mut sin) = (context.buffer(&shape)?, context.buffer(&shape)?);
        let rows = cos.chunks_exact_mut(turns.len().max(1)).zip(sin.chunks_exact_mut(turns.len().max(1)));
        for ((cos, sin), position) in rows.zip(positions) {
            for ((cos, sin), turn) in cos.iter_mut().zip(sin).zip(&turns) {
                // The angle is a single float, as it was when models were trained.
                let angle = f64::from(position as f32 * turn);
                *cos = (angle.cos() * scale) as f32;
                *sin = (angle.sin() * scale) as f32;
            }
        }
        let made = |all: Vec<f32>| {
            let found = all.len();
            Tensor::of(shape.clone(), all).ok_or_else(|| Fault::shape(format!("{found} angles"), dims(&shape)))
        };
        Ok(vec![made(cos)?, made(sin)?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}

impl Operator for Rotate {
    fn name(&self) -> &'static str {
        "Rotate"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let mut x = inputs.take(0)?;
        let shape = x.shape().to_vec();
        let of_angles = inputs.get(1)?.shape();
        let wrong =
            || Fault::shape(format!("heads {} and angles {}", dims(&shape), dims(of_angles)), "those of rotations");
        let (&[times, heads, size], &[rows, half]) = (shape.as_slice(), of_angles) else { return Err(wrong()) };
        if rows != times
            || of_angles != inputs.get(2)?.shape()
            || half.checked_mul(2).is_none_or(|turned| turned > size)
        {
            return Err(wrong());
        }
        if half == 0 || x.is_empty() {
            return Ok(vec![x]);
        }
        let dtype = Fault::dtype(0, &x, "float");
        let sizes = [heads, size, half];
        match x.data_mut() {
            Data::F32(all) => rotate(all.to_mut(), sizes, inputs.elements(1, "float")?, inputs.elements(2, "float")?),
            // Angles are single floats, as models have them.
            Data::F64(all) => rotate(all.to_mut(), sizes, &reals(inputs, 1)?, &reals(inputs, 2)?),
            _ => return Err(dtype),
        }
        Ok(vec![x])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

/// Rotates rows of heads, each by its own cosines and sines.
fn rotate<T: Real>(all: &mut [T], [heads, size, half]: [usize; 3], cos: &[T], sin: &[T]) {
    let rows = all.par_chunks_exact_mut(heads * size).zip(cos.par_chunks_exact(half));
    rows.zip(sin.par_chunks_exact(half)).for_each(|((row, cos), sin)| {
        for head in row.chunks_exact_mut(size) {
            let (first, rest) = head.split_at_mut(half);
            for ((a, b), (cos, sin)) in first.iter_mut().zip(rest).zip(cos.iter().zip(sin)) {
                (*a, *b) = (*a * *cos - *b * *sin, *b * *cos + *a * *sin);
            }
        }
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::operator::Pool;

    #[test]
    fn a_pair_turns_by_its_position_and_keeps_its_length() {
        let pool = Pool::default();
        let context = Context::new(1 << 20, &pool);
        let frequencies = Frequencies { size: 4, base: 10_000.0, scaling: Scaling::None };
        let positions = Tensor::vector(vec![0i64, 3]);
        let angles = Angles { frequencies }.run(&mut Inputs::new(vec![Some(positions)]), &context).unwrap();
        let x = Tensor::of([2, 1, 5], vec![1.0f32, 0.0, 0.0, 2.0, 7.0, 1.0, 0.0, 0.0, 2.0, 7.0]).unwrap();
        let inputs = vec![Some(x), Some(angles[0].clone()), Some(angles[1].clone())];
        let out = Rotate.run(&mut Inputs::new(inputs), &context).unwrap();
        let out = out[0].get::<f32>().unwrap();
        assert_eq!(out[..5], [1.0, 0.0, 0.0, 2.0, 7.0]);
        // Pairs are (0, 2) and (1, 3); they turn by 3 and by 3 / 100.
        let expected = [3f32.cos(), -2.0 * 0.03f32.sin(), 3f32.sin(), 2.0 * 0.03f32.cos(), 7.0];
        for (found, expected) in out[5..].iter().zip(expected) {
            assert!((found - expected).abs() <= 2.0 * f32::EPSILON, "{found}, {expected} expected");
        }
        let few = vec![
            Some(Tensor::of([2, 1, 3], vec![0.0f32; 6]).unwrap()),
            Some(angles[0].clone()),
            Some(angles[1].clone()),
        ];
        assert!(Rotate.run(&mut Inputs::new(few), &context).is_err());
    }
}
