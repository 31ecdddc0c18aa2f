//! Positions as rotations: RotaryEmbedding.

use rayon::prelude::*;

use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::{Built, some};
use crate::real::{Real, in_reals, reals, rounded};
use crate::tensor::Tensor;

/// Rotates pairs of numbers by angles that depend on the position.
#[derive(Clone, Copy, Debug)]
pub struct RotaryEmbedding {
    /// Pairs are neighbours, not the two halves.
    interleaved: bool,
    /// Numbers of each head that are rotated; 0 for all.
    rotated: usize,
    /// Heads, where rows are not told apart by shape; 0 where nothing says it.
    heads: usize,
    /// Where the inputs are: cosines, sines, positions.
    places: [usize; 3],
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    let places = match (definition.domain.as_str(), definition.op.as_str()) {
        ("", "RotaryEmbedding") => [1, 2, 3],
        ("com.microsoft", "RotaryEmbedding") => [2, 3, 1],
        _ => return Ok(None),
    };
    let number = |name: &str| {
        let found = definition.int(name)?.unwrap_or(0);
        usize::try_from(found).map_err(|_| Fault::shape(format!("{name} {found}"), "0 or more"))
    };
    some(RotaryEmbedding {
        interleaved: definition.flag("interleaved")?,
        rotated: number("rotary_embedding_dim")?,
        heads: number("num_heads")?,
        places,
    })
}

/// The sizes of what is rotated.
struct Sizes {
    batch: usize,
    heads: usize,
    rows: usize,
    size: usize,
    rotated: usize,
    /// Heads come after rows.
    rows_first: bool,
}

impl RotaryEmbedding {
    fn sizes(&self, shape: &[usize], columns: usize) -> Result<Sizes, Fault> {
        let wrong = || Fault::shape(format!("a shape of {}", dims(shape)), "rows of heads of an even size");
        let (batch, heads, rows, size, rows_first) = match *shape {
            [batch, heads, rows, size] => (batch, heads, rows, size, false),
            [batch, rows, wide] => {
                let heads = match (self.heads, self.rotated) {
                    // The size of a head is twice that of its angles.
                    (0, 0) => wide.checked_div(columns.saturating_mul(2)).ok_or_else(wrong)?,
                    (heads, _) => heads,
                };
                let size = wide.checked_div(heads).filter(|size| size * heads == wide).ok_or_else(wrong)?;
                (batch, heads, rows, size, true)
            }
            _ => return Err(wrong()),
        };
        let rotated = if self.rotated == 0 { size } else { self.rotated };
        if rotated > size || !rotated.is_multiple_of(2) || size == 0 {
            return Err(wrong());
        }
        Ok(Sizes { batch, heads, rows, size, rotated, rows_first })
    }

    /// The row of the angles for every row of every element of the batch.
    fn positions(&self, inputs: &Inputs, sizes: &Sizes, angles: &Tensor) -> Result<Vec<usize>, Fault> {
        let (batch, rows) = (sizes.batch, sizes.rows);
        let has = match *angles.shape() {
            [has, _] => has,
            [batch, rows, _] => batch * rows,
            _ => return Err(Fault::shape(format!("angles of {}", dims(angles.shape())), "2 or 3 dimensions")),
        };
        let found = match inputs.optional(self.places[2]) {
            None => (0..batch * rows).map(|at| at as i64).collect(),
            Some(_) => match inputs.integers(self.places[2])?.as_slice() {
                [first] => (0..batch * rows).map(|at| first.saturating_add((at % rows.max(1)) as i64)).collect(),
                all => all.to_vec(),
            },
        };
        let wrong = || {
            Fault::shape(
                format!("positions {:?}", &found[..found.len().min(8)]),
                format!("{} below {has}", batch * rows),
            )
        };
        if found.len() != batch * rows {
            return Err(wrong());
        }
        let fits = |position: &i64| usize::try_from(*position).ok().filter(|at| *at < has).ok_or_else(wrong);
        found.iter().map(fits).collect()
    }

    fn reals<T: Real>(&self, inputs: &Inputs, context: &Context<'_>) -> Result<Tensor, Fault> {
        let tensor = inputs.get(0)?;
        if tensor.is_empty() {
            return Ok(tensor.clone());
        }
        let x = reals::<T>(inputs, 0)?;
        let (cos, sin) = (reals::<T>(inputs, self.places[0])?, reals::<T>(inputs, self.places[1])?);
        let angles = inputs.get(self.places[0])?;
        let columns = angles.shape().last().copied().unwrap_or(0);
        let sizes = self.sizes(tensor.shape(), columns)?;
        let half = sizes.rotated / 2;
        if cos.len() != sin.len() || columns < half {
            return Err(Fault::shape(format!("angles of {}", dims(angles.shape())), format!("rows of {half}")));
        }
        let positions = self.positions(inputs, &sizes, angles)?;
        let mut out = T::buffer(context, tensor.shape())?;
        out.copy_from_slice(&x);
        out.par_chunks_mut(sizes.size).zip(x.par_chunks(sizes.size)).enumerate().for_each(|(at, (out, x))| {
            let row = match sizes.rows_first {
                true => at / sizes.heads,
                false => at / (sizes.heads * sizes.rows) * sizes.rows + at % sizes.rows,
            };
            let first = positions[row] * columns;
            let (cos, sin) = (&cos[first..first + half], &sin[first..first + half]);
            for (pair, (cos, sin)) in cos.iter().zip(sin).enumerate() {
                let (a, b) = if self.interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + half) };
                (out[a], out[b]) = (*cos * x[a] - *sin * x[b], *sin * x[a] + *cos * x[b]);
            }
        });
        rounded(tensor.dtype(), tensor.shape().to_vec(), out)
    }
}

impl Operator for RotaryEmbedding {
    fn name(&self) -> &'static str {
        "RotaryEmbedding"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        Ok(vec![in_reals!(inputs.get(0)?.dtype(), T => self.reals::<T>(inputs, context))?])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::operator::Pool;

    fn run(op: RotaryEmbedding, inputs: Vec<Option<Tensor>>) -> Result<Tensor, Fault> {
        let pool = Pool::default();
        Ok(op.run(&mut Inputs::new(inputs), &Context::new(1 << 30, &pool))?.remove(0))
    }

    #[test]
    fn pairs_turn_by_the_angle_of_their_position() {
        // Position 1 turns by a quarter.
        let inputs = || {
            vec![
                Tensor::of([1, 2, 4], vec![1.0f32, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]),
                Tensor::of([2, 2], vec![1.0f32, 1.0, 0.0, 0.0]),
                Tensor::of([2, 2], vec![0.0f32, 0.0, 1.0, 1.0]),
                Tensor::of([1, 2], vec![0i64, 1]),
            ]
        };
        let halves = RotaryEmbedding { interleaved: false, rotated: 0, heads: 1, places: [1, 2, 3] };
        let out = run(halves, inputs()).unwrap();
        assert_eq!(out.get::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0, -3.0, -4.0, 1.0, 2.0]);
        let neighbours = RotaryEmbedding { interleaved: true, rotated: 2, ..halves };
        let out = run(neighbours, inputs()).unwrap();
        assert_eq!(out.get::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0, -2.0, 1.0, 3.0, 4.0]);
        let mut far = inputs();
        far[3] = Tensor::of([1, 2], vec![0i64, 2]);
        assert!(run(halves, far).is_err());
        assert!(run(RotaryEmbedding { heads: 3, ..halves }, inputs()).is_err());
        assert!(run(RotaryEmbedding { rotated: 6, ..halves }, inputs()).is_err());
    }
}
