//! What comes between the products of a transformer: activations that gate, and soft caps.

mod back;

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use crate::fault::{Fault, dims};
use crate::kernels::{math, parts};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::binary::{Operation, combine};
use crate::reverse::Reverse;
use crate::tensor::{Data, Dtype, Tensor};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x / (1 + e⁻ˣ).
    Silu,
    /// x Φ(x).
    Gelu,
    /// x Φ(x), by way of a hyperbolic tangent.
    GeluTanh,
    /// x, where it is positive, else 0.
    Relu,
}

impl Activation {
    /// What each number becomes.
    pub fn apply(self, all: &mut [f32]) {
        let level = Level::best();
        match self {
            Self::Silu => silu(level, all),
            Self::Gelu => gelu(level, all),
            Self::GeluTanh => gelu_tanh(level, all),
            Self::Relu => relu(level, all),
        }
    }
}

/// The activation of the first input, times the second where there is one.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// What the first input goes through.
    pub activation: Activation,
}

/// c tanh(x / c): numbers that stay between -c and c.
#[derive(Clone, Copy, Debug)]
pub struct SoftCap {
    /// The bound.
    pub cap: f32,
}

impl Operator for Gate {
    fn name(&self) -> &'static str {
        "Gate"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let mut gate = inputs.take(0)?;
        if gate.dtype() == Dtype::F64 {
            let mut y = self.activation.unary().run(&mut Inputs::new(vec![Some(gate)]), context)?.remove(0);
            if inputs.optional(1).is_some() {
                y = combine(Operation::Mul, y, inputs.take(1)?, context)?;
            }
            return Ok(vec![y]);
        }
        let by = inputs.optional(1).map(|_| inputs.elements::<f32>(1, "float")).transpose()?;
        let of_by = inputs.optional(1).map_or(gate.shape(), Tensor::shape);
        if of_by != gate.shape() {
            return Err(Fault::shape(format!("{} and {}", dims(gate.shape()), dims(of_by)), "equal shapes"));
        }
        let wrong = Fault::dtype(0, &gate, "float");
        let Data::F32(all) = gate.data_mut() else { return Err(wrong) };
        parts::each(all.to_mut(), 1, |first, part| {
            self.activation.apply(part);
            if let Some(by) = by {
                part.iter_mut().zip(&by[first..]).for_each(|(x, by)| *x *= *by);
            }
        });
        Ok(vec![gate])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl Operator for SoftCap {
    fn name(&self) -> &'static str {
        "SoftCap"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let mut x = inputs.take(0)?;
        if let Data::F64(all) = x.data_mut() {
            let cap = f64::from(self.cap);
            all.to_mut().iter_mut().for_each(|x| *x = (*x / cap).tanh() * cap);
            return Ok(vec![x]);
        }
        let wrong = Fault::dtype(0, &x, "float");
        let Data::F32(all) = x.data_mut() else { return Err(wrong) };
        parts::each(all.to_mut(), 1, |_, part| capped(Level::best(), part, self.cap));
        Ok(vec![x])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

stamp! {
    /// c tanh(x / c) in place.
    pub(crate) fn capped = capped_body(x: &mut [f32], cap: f32) -> ();
}
#[inline(always)]
fn capped_body(x: &mut [f32], cap: f32) {
    for x in x {
        *x = math::tanh(*x / cap) * cap;
    }
}

stamp! {
    fn silu = silu_body(x: &mut [f32]) -> ();
}
#[inline(always)]
fn silu_body(x: &mut [f32]) {
    for x in x {
        *x *= math::sigmoid(*x);
    }
}

stamp! {
    fn gelu = gelu_body(x: &mut [f32]) -> ();
}
#[inline(always)]
fn gelu_body(x: &mut [f32]) {
    for x in x {
        *x *= 0.5 * (1.0 + math::erf(*x * std::f32::consts::FRAC_1_SQRT_2));
    }
}

stamp! {
    fn gelu_tanh = gelu_tanh_body(x: &mut [f32]) -> ();
}
#[inline(always)]
fn gelu_tanh_body(x: &mut [f32]) {
    // √(2 / π)
    const ROOT: f32 = 0.797_884_6;
    for x in x {
        *x *= 0.5 * (1.0 + math::tanh(ROOT * (*x + 0.044_715 * *x * *x * *x)));
    }
}

stamp! {
    fn relu = relu_body(x: &mut [f32]) -> ();
}
#[inline(always)]
fn relu_body(x: &mut [f32]) {
    for x in x {
        *x = if *x < 0.0 { 0.0 } else { *x };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::operator::Pool;

    #[test]
    fn gates_multiply_and_caps_bound() {
        let pool = Pool::default();
        let context = Context::new(1 << 20, &pool);
        let x = vec![-2.0f32, 0.0, 1.0, 3.0];
        // Of the definitions in double precision.
        let expected = [
            (Activation::Silu, [-0.238_405_84, 0.0, 0.731_058_6, 2.857_722_3]),
            (Activation::Gelu, [-0.045_500_264, 0.0, 0.841_344_7, 2.995_950_2]),
            (Activation::GeluTanh, [-0.045_402_306, 0.0, 0.841_191_9, 2.996_362_6]),
            (Activation::Relu, [0.0, 0.0, 1.0, 3.0]),
        ];
        for (activation, expected) in expected {
            let inputs = vec![Some(Tensor::vector(x.clone())), Some(Tensor::vector(vec![1.0f32, 1.0, 2.0, 1.0]))];
            let out = Gate { activation }.run(&mut Inputs::new(inputs), &context).unwrap();
            for (at, (found, expected)) in out[0].get::<f32>().unwrap().iter().zip(expected).enumerate() {
                let expected: f32 = expected * [1.0, 1.0, 2.0, 1.0][at];
                assert!((found - expected).abs() <= 4.0 * f32::EPSILON * expected.abs().max(1.0), "{activation:?}");
            }
        }
        let capped = SoftCap { cap: 2.0 }.run(&mut Inputs::new(vec![Some(Tensor::vector(x))]), &context).unwrap();
        assert!(capped[0].get::<f32>().unwrap().iter().all(|x| x.abs() < 2.0));
        let odd = vec![Some(Tensor::vector(vec![1.0f32])), Some(Tensor::vector(vec![1.0f32; 2]))];
        assert!(Gate { activation: Activation::Relu }.run(&mut Inputs::new(odd), &context).is_err());
    }
}
