//! Gradients of softmax, from its results: dx = y (dy - Σ y dy), and for its logarithm dx = dy - e^y Σ dy.

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use super::{Kind, Softmax};
use crate::fault::Fault;
use crate::kernels::weights::dot;
use crate::kernels::{lanes, math, parts};
use crate::operator::Context;
use crate::ops::unary::own;
use crate::reverse::{Keeps, Pass, Pullback};
use crate::tensor::{Data, Tensor};

stamp! {
    /// Makes each g y (g - sum).
    fn share = share_body(g: &mut [f32], y: &[f32], sum: f32) -> ();
}
#[inline(always)]
fn share_body(g: &mut [f32], y: &[f32], sum: f32) {
    for (g, y) in g.iter_mut().zip(y) {
        *g = *y * (*g - sum);
    }
}

stamp! {
    /// Makes each g g - e^y sum.
    fn logarithm = logarithm_body(g: &mut [f32], y: &[f32], sum: f32) -> ();
}
#[inline(always)]
fn logarithm_body(g: &mut [f32], y: &[f32], sum: f32) {
    for (g, y) in g.iter_mut().zip(y) {
        *g -= math::exp(*y) * sum;
    }
}

impl Softmax {
    fn row_back(&self, level: Level, g: &mut [f32], y: &[f32]) {
        match self.kind {
            Kind::Softmax => share(level, g, y, dot(level, g, y)),
            _ => logarithm(level, g, y, lanes::sum(level, g)),
        }
    }
}

impl Pullback for Softmax {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING.output(0)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let mut gradient = own(pass.take_gradient(0)?, context)?;
        let (long, inner) = self.rows(pass.shape(0)?)?;
        if long == 0 || inner == 0 {
            return Ok(vec![Some(gradient)]);
        }
        match gradient.data_mut() {
            Data::F32(g) => {
                let (y, level) = (pass.output_elements::<f32>(0)?, Level::best());
                parts::each(g.to_mut(), long * inner, |start, g| {
                    for (g, y) in g.chunks_exact_mut(long * inner).zip(y[start..].chunks_exact(long * inner)) {
                        if inner == 1 {
                            self.row_back(level, g, y);
                            continue;
                        }
                        for column in 0..inner {
                            let of =
                                |all: &[f32]| -> Vec<f32> { all[column..].iter().step_by(inner).copied().collect() };
                            let mut one = of(g);
                            self.row_back(level, &mut one, &of(y));
                            g[column..].iter_mut().step_by(inner).zip(one).for_each(|(g, one)| *g = one);
                        }
                    }
                });
            }
            Data::F64(g) => {
                let y = pass.output_elements::<f64>(0)?;
                for (g, y) in g.to_mut().chunks_exact_mut(long * inner).zip(y.chunks_exact(long * inner)) {
                    for column in 0..inner {
                        let places = || (0..long).map(|k| k * inner + column);
                        let sum: f64 =
                            places().map(|at| if self.kind == Kind::Softmax { g[at] * y[at] } else { g[at] }).sum();
                        places().for_each(|at| {
                            g[at] = match self.kind {
                                Kind::Softmax => y[at] * (g[at] - sum),
                                _ => g[at] - y[at].exp() * sum,
                            };
                        });
                    }
                }
            }
            _ => return Err(Fault::dtype(0, &gradient, "a float")),
        }
        Ok(vec![Some(gradient)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reverse::check::{gradients, random};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for kind in [Kind::Softmax, Kind::LogSoftmax] {
            for (axis, flat) in [(-1, false), (0, false), (1, false), (1, true), (2, true)] {
                gradients(&Softmax { kind, axis, flat }, &[random(&[2, 5, 3], 1)], &[0]);
            }
        }
    }
}
