//! Gradients of arithmetic.

use super::{Binary, Operation, Side, combine, made, stretch};
use crate::fault::Fault;
use crate::kernels::parts;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::spread::{Spread, gathered};
use crate::ops::unary::{Function, Unary};
use crate::real::{Real, in_reals};
use crate::reverse::{Keeps, Pass, Pullback};
use crate::tensor::{Buffer, Tensor};

impl Pullback for Binary {
    fn keeps(&self, wanted: &[bool]) -> Keeps {
        match self.operation {
            Operation::Add | Operation::Sub => Keeps::NOTHING,
            Operation::Mul => Keeps::crosswise(wanted),
            Operation::Div => Keeps::crosswise(wanted).input(1),
            _ => Keeps::NOTHING.input(0).input(1),
        }
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let mut gradient = Some(pass.take_gradient(0)?);
        let mut found = vec![None; 2];
        if pass.wants(1) {
            // Where the left operand wants none, the gradient is changed in place.
            let own = if pass.wants(0) { gradient.clone() } else { gradient.take() };
            let own = own.ok_or(Fault::Missing { input: 0 })?;
            found[1] = Some(gathered(self.of_right(own, pass, context)?, pass.shape(1)?, context)?);
        }
        if let Some(gradient) = gradient.filter(|_| pass.wants(0)) {
            found[0] = Some(gathered(self.of_left(gradient, pass, context)?, pass.shape(0)?, context)?);
        }
        Ok(found)
    }
}

impl Binary {
    /// The gradient of the left operand, as large as the result.
    fn of_left(self, g: Tensor, pass: &Pass, context: &Context<'_>) -> Result<Tensor, Fault> {
        let times = |g: Tensor, x: &Tensor| combine(Operation::Mul, g, x.clone(), context);
        match self.operation {
            Operation::Mul => times(g, pass.input(1)?),
            Operation::Div => combine(Operation::Div, g, pass.input(1)?.clone(), context),
            Operation::Max => of_three(g, pass, context, |g, a, b| if a >= b { g } else { 0.0 }),
            Operation::Min => of_three(g, pass, context, |g, a, b| if a <= b { g } else { 0.0 }),
            Operation::PRelu => of_three(g, pass, context, |g, a, b| if a < 0.0 { g * b } else { g }),
            Operation::Pow => {
                of_three(g, pass, context, |g, a, b| if b == 0.0 { 0.0 } else { g * b * a.powf(b - 1.0) })
            }
            _ => Ok(g),
        }
    }

    /// The gradient of the right operand, as large as the result.
    fn of_right(self, g: Tensor, pass: &Pass, context: &Context<'_>) -> Result<Tensor, Fault> {
        match self.operation {
            Operation::Sub => {
                let minus = Unary { function: Function::Neg, parameters: [0.0; 2] };
                minus.run(&mut Inputs::new(vec![Some(g)]), context)?.pop().ok_or(Fault::Missing { input: 0 })
            }
            Operation::Mul => combine(Operation::Mul, g, pass.input(0)?.clone(), context),
            Operation::Div => of_three(g, pass, context, |g, a, b| -g * a / (b * b)),
            Operation::Max => of_three(g, pass, context, |g, a, b| if a >= b { 0.0 } else { g }),
            Operation::Min => of_three(g, pass, context, |g, a, b| if a <= b { 0.0 } else { g }),
            Operation::PRelu => of_three(g, pass, context, |g, a, _| if a < 0.0 { g * a } else { 0.0 }),
            Operation::Pow => of_three(g, pass, context, |g, a, b| if a == 0.0 { 0.0 } else { g * a.powf(b) * a.ln() }),
            _ => Ok(g),
        }
    }
}

/// A tensor of a gradient and both operands, computed in f64 and rounded once.
fn of_three(
    gradient: Tensor,
    pass: &Pass,
    context: &Context<'_>,
    of: impl Fn(f64, f64, f64) -> f64 + Sync,
) -> Result<Tensor, Fault> {
    in_reals!(gradient.dtype(), T => reals_of_three::<T>(&gradient, pass, context, of))
}

fn reals_of_three<T: Real>(
    gradient: &Tensor,
    pass: &Pass,
    context: &Context<'_>,
    of: impl Fn(f64, f64, f64) -> f64 + Sync,
) -> Result<Tensor, Fault> {
    let spread = Spread::new([gradient.shape(), pass.shape(0)?, pass.shape(1)?])?;
    let (a, b) = (pass.elements::<T>(0)?, pass.elements::<T>(1)?);
    let g = gradient.get::<T>().ok_or_else(|| Fault::dtype(0, gradient, "the type of the value"))?;
    let mut out = T::buffer(context, &spread.shape)?;
    parts::each(&mut out, 1, |start, out| {
        spread.stretches(start, out.len(), |at, len, offsets| {
            let sides = [(0, g), (1, a), (2, b)].map(|(nth, x)| stretch(&spread, nth, x, offsets, len));
            for (k, y) in out[at..at + len].iter_mut().enumerate() {
                let [g, a, b] = sides.map(|side| match side {
                    Side::Row(x) => x[k].wide(),
                    Side::One(x) => x.wide(),
                    Side::Here => 0.0,
                });
                *y = T::near(of(g, a, b));
            }
        });
    });
    made(spread.shape.clone(), T::wrap(Buffer::from(out)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reverse::check::{gradients, numbers, random};

    /// Numbers between a half and three halves.
    fn positive(shape: &[usize], seed: u64) -> Option<Tensor> {
        Tensor::of(shape, numbers(shape.iter().product(), seed).into_iter().map(|x| 1.0 + x / 2.0).collect())
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        use Operation::{Add, Div, Max, Min, Mul, PRelu, Pow, Sub};
        let shapes: [[&[usize]; 2]; 6] = [
            [&[2, 3], &[2, 3]],
            [&[2, 3, 4], &[3, 1]],
            [&[4], &[2, 3, 4]],
            [&[2, 1, 2], &[3, 1]],
            [&[], &[3]],
            [&[5], &[1]],
        ];
        for operation in [Add, Sub, Mul, Div, Max, Min, PRelu, Pow] {
            for [a, b] in shapes {
                let left = if operation == Pow { positive(a, 1) } else { random(a, 1) };
                let right = if operation == Div { positive(b, 2) } else { random(b, 2) };
                let inputs = [left, right];
                let op = Binary { operation };
                gradients(&op, &inputs, &[0, 1]);
                gradients(&op, &inputs, &[0]);
                gradients(&op, &inputs, &[1]);
            }
        }
    }
}
