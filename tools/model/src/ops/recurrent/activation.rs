//! The functions of recurrent cells.

use crate::fault::Fault;
use crate::real::Real;

/// A function, with its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Activation {
    Sigmoid,
    Tanh,
    Relu,
    Affine(f32, f32),
    LeakyRelu(f32),
    ThresholdedRelu(f32),
    ScaledTanh(f32, f32),
    HardSigmoid(f32, f32),
    Elu(f32),
    Softsign,
    Softplus,
}

impl Activation {
    /// The function of a name. Parameters are taken from the lists by those that have some.
    pub(super) fn of(
        name: &str,
        alpha: &mut impl Iterator<Item = f32>,
        beta: &mut impl Iterator<Item = f32>,
    ) -> Result<Self, Fault> {
        let mut alpha = |default| alpha.next().unwrap_or(default);
        let mut beta = |default| beta.next().unwrap_or(default);
        Ok(match name.to_ascii_lowercase().as_str() {
            "sigmoid" => Self::Sigmoid,
            "tanh" => Self::Tanh,
            "relu" => Self::Relu,
            "affine" => Self::Affine(alpha(1.0), beta(0.0)),
            "leakyrelu" => Self::LeakyRelu(alpha(0.01)),
            "thresholdedrelu" => Self::ThresholdedRelu(alpha(1.0)),
            "scaledtanh" => Self::ScaledTanh(alpha(1.0), beta(1.0)),
            "hardsigmoid" => Self::HardSigmoid(alpha(0.2), beta(0.5)),
            "elu" => Self::Elu(alpha(1.0)),
            "softsign" => Self::Softsign,
            "softplus" => Self::Softplus,
            _ => return Err(Fault::Unsupported(format!("activation `{name}`"))),
        })
    }

    /// Its value.
    pub(super) fn at<T: Real>(self, x: T) -> T {
        let number = |x: f32| T::near(f64::from(x));
        match self {
            Self::Sigmoid => T::ONE / (T::ONE + (-x).exp()),
            Self::Tanh => x.tanh(),
            Self::Relu => x.max(T::ZERO),
            Self::Affine(alpha, beta) => number(alpha) * x + number(beta),
            Self::LeakyRelu(alpha) if x < T::ZERO => number(alpha) * x,
            Self::ThresholdedRelu(alpha) if x <= number(alpha) => T::ZERO,
            Self::LeakyRelu(_) | Self::ThresholdedRelu(_) => x,
            Self::ScaledTanh(alpha, beta) => number(alpha) * (number(beta) * x).tanh(),
            Self::HardSigmoid(alpha, beta) => (number(alpha) * x + number(beta)).max(T::ZERO).min(T::ONE),
            Self::Elu(alpha) if x < T::ZERO => number(alpha) * (x.exp() - T::ONE),
            Self::Elu(_) => x,
            Self::Softsign => x / (T::ONE + x.abs()),
            Self::Softplus => x.max(T::ZERO) + (-x.abs()).exp().ln_1p(),
        }
    }
}
