//! Slopes of functions of each element.

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use super::{Function, Relu, TANH_GELU, Unary, own};
use crate::fault::Fault;
use crate::kernels::{math, parts};
use crate::operator::Context;
use crate::reverse::{Keeps, Pass, Pullback, Reverse};
use crate::tensor::{Data, Tensor};

/// Multiplies a row of gradients with slopes.
type Kernel = fn(Level, &mut [f32], &[f32], f32);

impl Function {
    /// Whether the slope is made of the result, not of the number: which leaves the way there free to work
    /// in place.
    fn by_result(self) -> bool {
        matches!(self, Self::Relu | Self::Sigmoid | Self::Tanh | Self::Exp | Self::Sqrt | Self::Reciprocal)
    }

    /// Whether it is flat wherever it has a slope.
    fn is_step(self) -> bool {
        matches!(self, Self::Ceil | Self::Floor | Self::Round | Self::Sign)
    }

    #[allow(clippy::too_many_lines, reason = "a table")]
    /// The slope at x, or where the result is x ([`by_result`](Self::by_result)).
    fn slope(self, x: f64, [a, b]: [f64; 2]) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let one_if = |so: bool| f64::from(u8::from(so));
        match self {
            Self::Abs => x.signum() * one_if(x != 0.0),
            Self::Acos => -1.0 / (1.0 - x * x).sqrt(),
            Self::Acosh => 1.0 / (x * x - 1.0).sqrt(),
            Self::Asin => 1.0 / (1.0 - x * x).sqrt(),
            Self::Asinh => 1.0 / (x * x + 1.0).sqrt(),
            Self::Atan => 1.0 / (1.0 + x * x),
            Self::Atanh => 1.0 / (1.0 - x * x),
            Self::Celu => {
                if x > 0.0 {
                    1.0
                } else {
                    (x / a).exp()
                }
            }
            Self::Cos => -x.sin(),
            Self::Cosh => x.sinh(),
            Self::Elu => {
                if x > 0.0 {
                    1.0
                } else {
                    a * x.exp()
                }
            }
            Self::Erf => std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp(),
            Self::Exp => x,
            Self::FastGelu => {
                let root = std::f64::consts::FRAC_2_PI.sqrt();
                let t = (root * x * (1.0 + 0.044715 * x * x)).tanh();
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * root * (1.0 + 3.0 * 0.044715 * x * x)
            }
            Self::Gelu => {
                let below = 0.5 * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2));
                below
                    + x * (-0.5 * x * x).exp()
                        * (0.5 * std::f64::consts::FRAC_1_SQRT_2 * std::f64::consts::FRAC_2_SQRT_PI)
            }
            Self::HardSigmoid => a * one_if((0.0..=1.0).contains(&(a * x + b))),
            Self::HardSwish => match x {
                x if x < -3.0 => 0.0,
                x if x > 3.0 => 1.0,
                _ => x / 3.0 + 0.5,
            },
            Self::LeakyRelu => {
                if x < 0.0 {
                    a
                } else {
                    1.0
                }
            }
            Self::Log => 1.0 / x,
            Self::Mish => {
                let t = x.exp().ln_1p().tanh();
                t + x * (1.0 - t * t) * sigmoid(x)
            }
            Self::Neg => -1.0,
            Self::QuickGelu | Self::Swish => {
                let s = sigmoid(a * x);
                s + a * x * s * (1.0 - s)
            }
            Self::Reciprocal => -x * x,
            Self::Relu => one_if(x > 0.0),
            Self::Selu => {
                if x > 0.0 {
                    b
                } else {
                    b * a * x.exp()
                }
            }
            Self::Shrink => one_if(x.abs() > a),
            Self::Sigmoid => x * (1.0 - x),
            Self::Sin => x.cos(),
            Self::Sinh => x.cosh(),
            Self::Softplus => sigmoid(x),
            Self::Softsign => 1.0 / ((1.0 + x.abs()) * (1.0 + x.abs())),
            Self::Sqrt => 0.5 / x,
            Self::Tan => 1.0 / (x.cos() * x.cos()),
            Self::Tanh => 1.0 - x * x,
            Self::ThresholdedRelu => one_if(x > a),
            Self::Ceil | Self::Floor | Self::Round | Self::Sign => 0.0,
        }
    }

    /// What multiplies a row of gradients with slopes, for functions that networks have much of.
    fn fast(self) -> Option<Kernel> {
        Some(match self {
            Self::Relu => relu,
            Self::Sigmoid => sigmoid,
            Self::Tanh => tanh,
            Self::Exp => exp,
            Self::Gelu => gelu,
            Self::FastGelu => fast_gelu,
            Self::Swish | Self::QuickGelu => swish,
            Self::HardSwish => hard_swish,
            Self::LeakyRelu => leaky_relu,
            _ => return None,
        })
    }
}

macro_rules! slopes {
    ($($name:ident, $body:ident, |$x:ident, $a:ident| $slope:expr;)*) => {
        $(stamp! {
            fn $name = $body(g: &mut [f32], x: &[f32], a: f32) -> ();
        }
        #[inline(always)]
        fn $body(g: &mut [f32], x: &[f32], $a: f32) {
            let _ = $a;
            for (g, x) in g.iter_mut().zip(x) {
                let $x = *x;
                *g *= $slope;
            }
        })*
    };
}

slopes! {
    sigmoid, sigmoid_body, |y, a| y * (1.0 - y);
    tanh, tanh_body, |y, a| 1.0 - y * y;
    exp, exp_body, |y, a| y;
    gelu, gelu_body, |x, a| 0.5 * (1.0 + math::erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * math::exp(-0.5 * x * x) * NORMAL;
    fast_gelu, fast_gelu_body, |x, a| {
        let t = math::tanh(TANH_GELU[0] * x * (1.0 + TANH_GELU[1] * x * x));
        0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * TANH_GELU[0] * (1.0 + 3.0 * TANH_GELU[1] * x * x)
    };
    swish, swish_body, |x, a| {
        let s = math::sigmoid(a * x);
        s * (1.0 + a * x * (1.0 - s))
    };
    hard_swish, hard_swish_body, |x, a| if x < -3.0 { 0.0 } else if x > 3.0 { 1.0 } else { x / 3.0 + 0.5 };
    leaky_relu, leaky_relu_body, |x, a| if x < 0.0 { a } else { 1.0 };
}

/// 1 / √(2π).
const NORMAL: f32 = 0.398_942_3;

stamp! {
    fn relu = relu_body(g: &mut [f32], y: &[f32], a: f32) -> ();
}
#[inline(always)]
fn relu_body(g: &mut [f32], y: &[f32], _: f32) {
    for (g, y) in g.iter_mut().zip(y) {
        *g = if *y > 0.0 { *g } else { 0.0 };
    }
}

impl Unary {
    /// Whether gradients flow through, or stop.
    pub(super) fn way_back(&self) -> Reverse<'_> {
        if self.function.is_step() { Reverse::Stops } else { Reverse::Flows(self) }
    }
}

impl Pullback for Unary {
    fn keeps(&self, _: &[bool]) -> Keeps {
        match self.function {
            Function::Neg => Keeps::NOTHING,
            function if function.by_result() => Keeps::NOTHING.output(0),
            _ => Keeps::NOTHING.input(0),
        }
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let gradient = pass.take_gradient(0)?;
        let at = match self.function {
            Function::Neg => None,
            function if function.by_result() => Some(pass.output(0)?),
            _ => Some(pass.input(0)?),
        };
        self.sloped(gradient, at, context).map(|gradient| vec![Some(gradient)])
    }
}

impl Unary {
    /// A gradient times the slopes at numbers, or where those are the results.
    pub(crate) fn sloped(&self, gradient: Tensor, at: Option<&Tensor>, context: &Context<'_>) -> Result<Tensor, Fault> {
        let mut gradient = own(gradient, context)?;
        let parameters = self.parameters.map(f64::from);
        let wrong = || Fault::shape("a value of another type", "that of its gradient");
        match gradient.data_mut() {
            Data::F32(g) => {
                let g = g.to_mut();
                let x = at.map(|x| x.get::<f32>().ok_or_else(wrong)).transpose()?;
                match (self.function.fast(), x) {
                    (_, None) => parts::each(g, 1, |_, g| g.iter_mut().for_each(|g| *g = -*g)),
                    (Some(kernel), Some(x)) => {
                        let level = Level::best();
                        parts::each(g, 1, |at, g| kernel(level, g, &x[at..at + g.len()], self.parameters[0]));
                    }
                    (None, Some(x)) => parts::each(g, 1, |at, g| {
                        for (g, x) in g.iter_mut().zip(&x[at..]) {
                            *g = (f64::from(*g) * self.function.slope(f64::from(*x), parameters)) as f32;
                        }
                    }),
                }
            }
            Data::F64(g) => {
                let x = at.map(|x| x.get::<f64>().ok_or_else(wrong)).transpose()?;
                for (at, g) in g.to_mut().iter_mut().enumerate() {
                    *g *= x.map_or(-1.0, |x| self.function.slope(x[at], parameters));
                }
            }
            _ => return Err(wrong()),
        }
        Ok(gradient)
    }
}

impl Pullback for Relu {
    fn keeps(&self, wanted: &[bool]) -> Keeps {
        Unary { function: Function::Relu, parameters: [0.0; 2] }.keeps(wanted)
    }

    fn pull(&self, pass: &mut Pass, context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        Unary { function: Function::Relu, parameters: [0.0; 2] }.pull(pass, context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::reverse::check::{gradients, numbers};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        use Function as F;
        let near = |middle: f64, spread: f64| {
            Tensor::of([3, 17], numbers(51, 9).into_iter().map(|x| middle + spread * x).collect())
        };
        let all = [
            (F::Abs, [0.0; 2]),
            (F::Asinh, [0.0; 2]),
            (F::Atan, [0.0; 2]),
            (F::Celu, [0.7, 0.0]),
            (F::Cos, [0.0; 2]),
            (F::Cosh, [0.0; 2]),
            (F::Elu, [0.7, 0.0]),
            (F::Erf, [0.0; 2]),
            (F::Exp, [0.0; 2]),
            (F::FastGelu, [0.0; 2]),
            (F::Gelu, [0.0; 2]),
            (F::HardSigmoid, [0.2, 0.5]),
            (F::HardSwish, [0.0; 2]),
            (F::LeakyRelu, [0.1, 0.0]),
            (F::Mish, [0.0; 2]),
            (F::Neg, [0.0; 2]),
            (F::QuickGelu, [1.702, 0.0]),
            (F::Relu, [0.0; 2]),
            (F::Selu, [1.67, 1.05]),
            (F::Shrink, [0.5, 0.2]),
            (F::Sigmoid, [0.0; 2]),
            (F::Sin, [0.0; 2]),
            (F::Sinh, [0.0; 2]),
            (F::Softplus, [0.0; 2]),
            (F::Softsign, [0.0; 2]),
            (F::Swish, [1.0, 0.0]),
            (F::Tan, [0.0; 2]),
            (F::Tanh, [0.0; 2]),
            (F::ThresholdedRelu, [0.3, 0.0]),
        ];
        for (function, parameters) in all {
            gradients(&Unary { function, parameters }, &[near(0.0, 1.3)], &[0]);
        }
        for function in [F::Acos, F::Asin, F::Atanh] {
            gradients(&Unary { function, parameters: [0.0; 2] }, &[near(0.0, 0.8)], &[0]);
        }
        for function in [F::Log, F::Sqrt, F::Reciprocal, F::Acosh] {
            gradients(&Unary { function, parameters: [0.0; 2] }, &[near(2.5, 1.0)], &[0]);
        }
        gradients(&Relu, &[near(0.0, 2.0)], &[0]);
        assert!(matches!(Unary { function: F::Round, parameters: [0.0; 2] }.way_back(), Reverse::Stops));
    }
}
