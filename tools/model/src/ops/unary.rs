//! Functions of each element by itself.

mod back;

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;

use crate::attributes::Definition;
use crate::fault::Fault;
use crate::kernels::{math, parts};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::halves::Half;
use crate::ops::number::Number;
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::{Buffer, Data, Tensor};

/// max(x, 0).
#[derive(Clone, Copy, Debug)]
pub struct Relu;

/// A function of each element.
#[derive(Clone, Copy, Debug)]
pub struct Unary {
    /// Which.
    pub function: Function,
    /// Its parameters, where it has any.
    pub parameters: [f32; 2],
}

/// Makes the functions: how each computes a single float x and a double one, with parameters a and b.
macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident, $module:ident, |$x:ident, $a:ident, $b:ident| $single:expr, $double:expr;)*) => {
        /// A function of one number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Function {
            $($(#[$doc])* $name,)*
        }

        impl Function {
            /// That of this name.
            fn named(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What computes it.
            pub(crate) fn kernel(self) -> fn(Level, &mut [f32], [f32; 2]) {
                match self {
                    $(Self::$name => $module::run,)*
                }
            }

            fn double(self) -> fn(f64, [f64; 2]) -> f64 {
                match self {
                    $(Self::$name => $module::double,)*
                }
            }
        }

        $(mod $module {
            use super::*;

            stamp! {
                pub(super) fn run = body(x: &mut [f32], parameters: [f32; 2]) -> ();
            }

            #[inline(always)]
            fn body(x: &mut [f32], [$a, $b]: [f32; 2]) {
                let _ = ($a, $b);
                // A closure might not be inlined, and would then be compiled without the level's instructions.
                for x in x {
                    let $x = *x;
                    *x = $single;
                }
            }

            pub(super) fn double($x: f64, [$a, $b]: [f64; 2]) -> f64 {
                let _ = ($a, $b);
                $double
            }
        })*
    };
}

functions! {
    /// |x|.
    Abs, abs, |x, a, b| x.abs(), x.abs();
    /// The angle whose cosine is x.
    Acos, acos, |x, a, b| x.acos(), x.acos();
    /// The number whose hyperbolic cosine is x.
    Acosh, acosh, |x, a, b| f64::from(x).acosh() as f32, x.acosh();
    /// The angle whose sine is x.
    Asin, asin, |x, a, b| x.asin(), x.asin();
    /// The number whose hyperbolic sine is x.
    Asinh, asinh, |x, a, b| f64::from(x).asinh() as f32, x.asinh();
    /// The angle whose tangent is x.
    Atan, atan, |x, a, b| x.atan(), x.atan();
    /// The number whose hyperbolic tangent is x.
    Atanh, atanh, |x, a, b| f64::from(x).atanh() as f32, x.atanh();
    /// The least whole number that is not less.
    Ceil, ceil, |x, a, b| x.ceil(), x.ceil();
    /// x, or a (e^(x/a) - 1) where that is negative.
    Celu, celu, |x, a, b| if x > 0.0 { x } else { a * math::exp_m1(smaller(x / a)) }, if x > 0.0 { x } else { a * (x / a).exp_m1() };
    /// The cosine.
    Cos, cos, |x, a, b| x.cos(), x.cos();
    /// The hyperbolic cosine.
    Cosh, cosh, |x, a, b| x.cosh(), x.cosh();
    /// x, or a (e^x - 1) where that is negative.
    Elu, elu, |x, a, b| if x > 0.0 { x } else { a * math::exp_m1(smaller(x)) }, if x > 0.0 { x } else { a * x.exp_m1() };
    /// The error function.
    Erf, erf, |x, a, b| math::erf(x), libm::erf(x);
    /// e^x.
    Exp, exp, |x, a, b| math::exp(x), x.exp();
    /// Gelu by the hyperbolic tangent.
    FastGelu, fast_gelu, |x, a, b| 0.5 * x * (1.0 + math::tanh(TANH_GELU[0] * x * (1.0 + TANH_GELU[1] * x * x))), 0.5 * x * (1.0 + (std::f64::consts::FRAC_2_PI.sqrt() * x * (1.0 + 0.044715 * x * x)).tanh());
    /// The greatest whole number that is not greater.
    Floor, floor, |x, a, b| x.floor(), x.floor();
    /// x (1 + erf(x / √2)) / 2.
    Gelu, gelu, |x, a, b| 0.5 * x * (1.0 + math::erf(x * std::f32::consts::FRAC_1_SQRT_2)), 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2));
    /// a x + b, between 0 and 1.
    HardSigmoid, hard_sigmoid, |x, a, b| clip(a * x + b), (a * x + b).clamp(0.0, 1.0);
    /// x (x / 6 + 1/2), the second factor between 0 and 1.
    HardSwish, hard_swish, |x, a, b| x * clip(x / 6.0 + 0.5), x * (x / 6.0 + 0.5).clamp(0.0, 1.0);
    /// x, or a x where that is negative.
    LeakyRelu, leaky_relu, |x, a, b| if x < 0.0 { a * x } else { x }, if x < 0.0 { a * x } else { x };
    /// The natural logarithm.
    Log, log, |x, a, b| math::ln(x), x.ln();
    /// x tanh(ln(1 + e^x)).
    Mish, mish, |x, a, b| x * mish(x), x * x.exp().ln_1p().tanh();
    /// -x.
    Neg, neg, |x, a, b| -x, -x;
    /// x sigmoid(a x).
    QuickGelu, quick_gelu, |x, a, b| x * math::sigmoid(a * x), x / (1.0 + (-a * x).exp());
    /// 1 / x.
    Reciprocal, reciprocal, |x, a, b| 1.0 / x, 1.0 / x;
    /// max(x, 0).
    Relu, relu, |x, a, b| if x < 0.0 { 0.0 } else { x }, if x < 0.0 { 0.0 } else { x };
    /// The nearest whole number; of two, the even one.
    Round, round, |x, a, b| x.round_ties_even(), x.round_ties_even();
    /// b x, or b a (e^x - 1) where x is negative.
    Selu, selu, |x, a, b| if x > 0.0 { b * x } else { b * a * math::exp_m1(smaller(x)) }, if x > 0.0 { b * x } else { b * a * x.exp_m1() };
    /// x moved by b towards 0 where it is further than a from it, else 0.
    Shrink, shrink, |x, a, b| if x < -a { x + b } else if x > a { x - b } else { 0.0 }, if x < -a { x + b } else if x > a { x - b } else { 0.0 };
    /// 1 / (1 + e^-x).
    Sigmoid, sigmoid, |x, a, b| math::sigmoid(x), 1.0 / (1.0 + (-x).exp());
    /// -1, 0 or 1.
    Sign, sign, |x, a, b| if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x }, if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x };
    /// The sine.
    Sin, sin, |x, a, b| x.sin(), x.sin();
    /// The hyperbolic sine.
    Sinh, sinh, |x, a, b| x.sinh(), x.sinh();
    /// ln(1 + e^x).
    Softplus, softplus, |x, a, b| positive(x) + math::ln_1p(math::exp(-x.abs())), x.max(0.0) + (-x.abs()).exp().ln_1p();
    /// x / (1 + |x|).
    Softsign, softsign, |x, a, b| x / (1.0 + x.abs()), x / (1.0 + x.abs());
    /// The square root.
    Sqrt, sqrt, |x, a, b| x.sqrt(), x.sqrt();
    /// x sigmoid(a x), as ONNX 24 names it.
    Swish, swish, |x, a, b| x * math::sigmoid(a * x), x / (1.0 + (-a * x).exp());
    /// The tangent.
    Tan, tan, |x, a, b| x.tan(), x.tan();
    /// The hyperbolic tangent.
    Tanh, tanh, |x, a, b| math::tanh(x), x.tanh();
    /// x where it is more than a, else 0.
    ThresholdedRelu, thresholded_relu, |x, a, b| if x > a { x } else { 0.0 }, if x > a { x } else { 0.0 };
}

/// √(2/π), and the factor of the cube within.
const TANH_GELU: [f32; 2] = [0.797_884_6, 0.044_715];

/// x, but not more than 0.
#[inline(always)]
fn smaller(x: f32) -> f32 {
    math::smaller(x, 0.0)
}

/// x, but not less than 0.
#[inline(always)]
fn positive(x: f32) -> f32 {
    math::larger(x, 0.0)
}

/// x, but between 0 and 1.
#[inline(always)]
fn clip(x: f32) -> f32 {
    math::smaller(math::larger(x, 0.0), 1.0)
}

/// tanh(ln(1 + e^x)) = (e^2x + 2 e^x) / (e^2x + 2 e^x + 2), by the exponential that is not above 1.
#[inline(always)]
fn mish(x: f32) -> f32 {
    let e = math::exp(-x.abs());
    let (above, below) = (1.0 + 2.0 * e, e * (e + 2.0));
    if x > 0.0 { above / (above + 2.0 * e * e) } else { below / (below + 2.0) }
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    let microsoft = definition.domain == "com.microsoft";
    let function = match definition.op.as_str() {
        "Relu" => return some(Relu),
        // Those with more inputs are of another family.
        "FastGelu" | "QuickGelu" if !microsoft || definition.inputs > 1 => return Ok(None),
        "Gelu" => match definition.text("approximate")?.as_deref() {
            None | Some("none") => Function::Gelu,
            Some("tanh") => Function::FastGelu,
            Some(other) => return Err(Fault::Unsupported(format!("approximation `{other}`"))),
        },
        name => match Function::named(name) {
            Some(function) => function,
            None => return Ok(None),
        },
    };
    let parameter = |name: &str, default: f32| Ok(definition.float(name)?.unwrap_or(default));
    let parameters = match function {
        Function::Celu | Function::Elu | Function::ThresholdedRelu => [parameter("alpha", 1.0)?, 0.0],
        Function::Swish => [parameter("alpha", 1.0)?, 0.0],
        Function::QuickGelu => [parameter("alpha", 1.702)?, 0.0],
        Function::LeakyRelu => [parameter("alpha", 0.01)?, 0.0],
        Function::HardSigmoid => [parameter("alpha", 0.2)?, parameter("beta", 0.5)?],
        Function::Selu => [parameter("alpha", 1.673_263_2)?, parameter("gamma", 1.050_701)?],
        Function::Shrink => [parameter("lambd", 0.5)?, parameter("bias", 0.0)?],
        _ => [0.0; 2],
    };
    some(Unary { function, parameters })
}

impl Operator for Relu {
    fn name(&self) -> &'static str {
        "Relu"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        Unary { function: Function::Relu, parameters: [0.0; 2] }.run(inputs, context)
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl Operator for Unary {
    fn name(&self) -> &'static str {
        self.function.name()
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        if let Some(half) = Half::among(inputs) {
            return half.run(inputs, 1, |inputs| self.run(inputs, context));
        }
        let mut tensor = own(inputs.take(0)?, context)?;
        match tensor.data_mut() {
            Data::F32(x) => apply(self.function, self.parameters, x.to_mut()),
            Data::F64(x) => {
                let (function, parameters) = (self.function.double(), self.parameters.map(f64::from));
                parts::each(x.to_mut(), 1, |_, x| x.iter_mut().for_each(|x| *x = function(*x, parameters)));
            }
            Data::I64(x) => self.whole(x)?,
            Data::I32(x) => self.whole(x)?,
            Data::I16(x) => self.whole(x)?,
            Data::I8(x) => self.whole(x)?,
            Data::U64(x) => self.whole(x)?,
            Data::U32(x) => self.whole(x)?,
            Data::U16(x) => self.whole(x)?,
            Data::U8(x) => self.whole(x)?,
            _ => return Err(Fault::dtype(0, &tensor, "a number")),
        }
        Ok(vec![tensor])
    }

    fn reverse(&self) -> Reverse<'_> {
        self.way_back()
    }
}

impl Unary {
    fn whole<T: Number>(&self, x: &mut Buffer<T>) -> Result<(), Fault> {
        let function: fn(T) -> T = match self.function {
            Function::Abs => T::abs,
            Function::Neg => T::neg,
            Function::Sign => T::sign,
            Function::Relu => |x| x.larger(T::default()),
            Function::Shrink => {
                let [a, b] = self.parameters.map(f64::from);
                let of = |x: T| T::from_float(Function::Shrink.double()(x.cast(), [a, b]));
                x.to_mut().iter_mut().for_each(|x| *x = of(*x));
                return Ok(());
            }
            _ => return Err(Fault::Dtype { input: 0, found: T::DTYPE, needs: "a float" }),
        };
        parts::each(x.to_mut(), 1, |_, x| x.iter_mut().for_each(|x| *x = function(*x)));
        Ok(())
    }
}

/// Applies a function to every element.
pub(crate) fn apply(function: Function, parameters: [f32; 2], x: &mut [f32]) {
    let (level, kernel) = (Level::best(), function.kernel());
    parts::each(x, 1, |_, x| kernel(level, x, parameters));
}

/// A tensor whose elements nobody else sees: a copy where somebody does.
///
/// # Errors
///
/// [`Fault::TooLarge`].
pub(crate) fn own(mut tensor: Tensor, context: &Context<'_>) -> Result<Tensor, Fault> {
    if let Data::F32(x) = tensor.data()
        && !x.is_alone()
    {
        let mut copy = context.buffer(tensor.shape())?;
        let x = x.as_slice();
        parts::each(&mut copy, 1, |at, copy| copy.copy_from_slice(&x[at..at + copy.len()]));
        *tensor.data_mut() = Data::F32(Buffer::from(copy));
    }
    Ok(tensor)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
