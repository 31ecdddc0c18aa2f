//! Rows of a table, by number.

mod back;

use crate::fault::{Fault, dims};
use crate::kernels::weights::Stored;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::linear::made;
use crate::reverse::Reverse;
use crate::tensor::{Buffer, Data, Tensor};

/// Rows of a table: inputs are numbers [..], and the table [rows, width] of single or half floats,
/// which stays as it is. The result [.., width] is of single floats.
#[derive(Clone, Copy, Debug)]
pub struct Embedding {
    /// What each number is multiplied with.
    pub scale: f32,
}

impl Operator for Embedding {
    fn name(&self) -> &'static str {
        "Embedding"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let (ids, table) = (inputs.integers(0)?, inputs.get(1)?);
        let &[rows, width] = table.shape() else {
            return Err(Fault::shape(format!("a table {}", dims(table.shape())), "[rows, width]"));
        };
        if let Some(table) = table.get::<f64>() {
            let mut shape = inputs.get(0)?.shape().to_vec();
            shape.push(width);
            let mut out = Vec::with_capacity(ids.len() * width);
            for id in &ids {
                let row = place(*id, rows)?;
                out.extend(table[row * width..][..width].iter().map(|x| x * f64::from(self.scale)));
            }
            let len = out.len();
            return crate::real::made(shape, Data::F64(Buffer::from(out)), len).map(|y| vec![y]);
        }
        rows_of(inputs, (Stored::of(table, 1)?, [rows, width]), self.scale, context)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

/// The row of a number.
fn place(id: i64, rows: usize) -> Result<usize, Fault> {
    let row = usize::try_from(id).ok().filter(|row| *row < rows);
    row.ok_or_else(|| Fault::shape(format!("row {id}"), format!("less than {rows}")))
}

/// The one result of a table: the rows of the numbers that are the first input, times `scale`.
pub(super) fn rows_of(
    inputs: &Inputs,
    (table, [rows, width]): (Stored<'_>, [usize; 2]),
    scale: f32,
    context: &Context<'_>,
) -> Result<Vec<Tensor>, Fault> {
    let ids = inputs.integers(0)?;
    let mut shape = inputs.get(0)?.shape().to_vec();
    shape.push(width);
    let mut out = context.buffer(&shape)?;
    for (id, out) in ids.iter().zip(out.chunks_exact_mut(width.max(1))) {
        table.widen(place(*id, rows)? * width, out);
        if scale != 1.0 {
            out.iter_mut().for_each(|x| *x *= scale);
        }
    }
    made(shape, out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use half::f16;

    use super::*;
    use crate::operator::Pool;

    #[test]
    fn rows_come_in_the_order_that_is_asked_for() {
        let pool = Pool::default();
        let table = Tensor::of([2, 2], [1.0, 2.0, 3.0, 4.0].map(f16::from_f32).to_vec()).unwrap();
        let run = |ids: Vec<i64>| {
            let inputs = vec![Some(Tensor::vector(ids)), Some(table.clone())];
            Embedding { scale: 2.0 }.run(&mut Inputs::new(inputs), &Context::new(1 << 20, &pool))
        };
        let out = run(vec![1, 0, 1]).unwrap().remove(0);
        assert_eq!((out.shape(), out.get::<f32>().unwrap()), (&[3, 2][..], &[6.0, 8.0, 2.0, 4.0, 6.0, 8.0][..]));
        assert_eq!(run(vec![2]).unwrap_err().to_string(), "row 2, less than 2 expected");
        assert!(run(vec![-1]).is_err());
    }
}
