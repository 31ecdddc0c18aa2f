//! The forms in which a network's layers can run, and the space of their widths.
//!
//! A form of a layer is the width of its weights and of its input, which weights share a scale, and whether the grids of
//! both are symmetric (EQ-Net). Its text is that of the flag `--form`:
//!
//! ```text
//! w4a8/row/sym           weights of 4 bits, one step a row; input of 8 bits; both grids symmetric
//! w2a2/tensor/affine     2 bits each, one step for all weights; both grids have an offset
//! w4a4/row/sym/affine    symmetric weights, an input with an offset
//! w4/row/sym             weights of 4 bits; the input stays as it is
//! ```
//!
//! Inputs always share one scale.

use core::fmt;
use core::str::FromStr;

use niwaki_codes::{Bits, Grouping, Symmetry, Uniform};

use crate::{Error, ErrorKind};

#[cfg(feature = "alloc")]
mod prior;
#[cfg(feature = "alloc")]
mod space;

#[cfg(feature = "alloc")]
pub use prior::Prior;
#[cfg(feature = "alloc")]
pub use space::{Configuration, LayerBits, LayerSize, Pick, Space};

/// How far below a bound an average may lie, in bits (EQ-Net's released code).
pub const WINDOW: f64 = 0.5;

/// Which weights share a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// All of the tensor.
    Tensor,
    /// One row: one output channel.
    Row,
}

impl From<Granularity> for Grouping {
    fn from(granularity: Granularity) -> Self {
        match granularity {
            Granularity::Tensor => Self::Tensor,
            Granularity::Row => Self::Row,
        }
    }
}

/// Which of a layer's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Its weights.
    Weights,
    /// Its input.
    Activations,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Weights, Self::Activations];
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weights => "weights",
            Self::Activations => "activations",
        })
    }
}

/// What a form says beside widths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Style {
    /// Which weights share a step.
    pub granularity: Granularity,
    /// Where zero lies on the grid of the weights.
    pub weights: Symmetry,
    /// The same of the input; of no consequence where that has no grid.
    pub activations: Symmetry,
}

impl Style {
    /// All eight.
    pub const ALL: [Self; 8] = {
        use Granularity::{Row, Tensor};
        use Symmetry::{Affine, Symmetric};
        [
            Self { granularity: Tensor, weights: Symmetric, activations: Symmetric },
            Self { granularity: Tensor, weights: Symmetric, activations: Affine },
            Self { granularity: Tensor, weights: Affine, activations: Symmetric },
            Self { granularity: Tensor, weights: Affine, activations: Affine },
            Self { granularity: Row, weights: Symmetric, activations: Symmetric },
            Self { granularity: Row, weights: Symmetric, activations: Affine },
            Self { granularity: Row, weights: Affine, activations: Symmetric },
            Self { granularity: Row, weights: Affine, activations: Affine },
        ]
    };
}

/// The form of one layer.
///
/// # Examples
///
/// ```
/// use niwaki_quant::forms::Form;
///
/// let form: Form = "w4a8/row/sym/affine".parse()?;
/// assert_eq!((form.weights.get(), form.activations.map(|bits| bits.get())), (4, Some(8)));
/// assert_eq!(form.to_string(), "w4a8/row/sym/affine");
/// # Ok::<(), niwaki_quant::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// Width of the weights.
    pub weights: Bits,
    /// Width of the input; none where it stays as it is.
    pub activations: Option<Bits>,
    /// Steps and offsets.
    pub style: Style,
}

impl Form {
    /// The scheme of the weights' codes.
    pub fn scheme(&self) -> Uniform {
        Uniform::new(self.weights, self.style.granularity.into(), self.style.weights)
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}", self.weights)?;
        if let Some(bits) = self.activations {
            write!(f, "a{bits}")?;
        }
        f.write_str(match self.style.granularity {
            Granularity::Tensor => "/tensor/",
            Granularity::Row => "/row/",
        })?;
        f.write_str(name(self.style.weights))?;
        if self.activations.is_some() && self.style.activations != self.style.weights {
            write!(f, "/{}", name(self.style.activations))?;
        }
        Ok(())
    }
}

impl FromStr for Form {
    type Err = Error;

    /// Reads the text form; each form has one spelling. Anything else is [`ErrorKind::FormText`].
    fn from_str(text: &str) -> Result<Self, Error> {
        read(text).ok_or_else(|| ErrorKind::FormText.into())
    }
}

fn read(text: &str) -> Option<Form> {
    let mut parts = text.split('/');
    let widths = parts.next()?.strip_prefix('w')?;
    let (weights, activations) = match widths.split_once('a') {
        Some((weights, activations)) => (weights, Some(bits(activations)?)),
        None => (widths, None),
    };
    let granularity = match parts.next()? {
        "tensor" => Granularity::Tensor,
        "row" => Granularity::Row,
        _ => return None,
    };
    let of_weights = symmetry(parts.next()?)?;
    let of_activations = match parts.next() {
        None => of_weights,
        Some(text) => symmetry(text).filter(|other| activations.is_some() && *other != of_weights)?,
    };
    let style = Style { granularity, weights: of_weights, activations: of_activations };
    parts.next().is_none().then_some(Form { weights: bits(weights)?, activations, style })
}

/// A width in text: one digit.
fn bits(text: &str) -> Option<Bits> {
    match text.as_bytes() {
        [digit] => Bits::new(u32::from(digit.checked_sub(b'0')?)).ok(),
        _ => None,
    }
}

fn symmetry(text: &str) -> Option<Symmetry> {
    [Symmetry::Symmetric, Symmetry::Affine].into_iter().find(|symmetry| name(*symmetry) == text)
}

fn name(symmetry: Symmetry) -> &'static str {
    match symmetry {
        Symmetry::Symmetric => "sym",
        Symmetry::Affine => "affine",
    }
}

#[cfg(feature = "alloc")]
#[cfg(test)]
mod tests;
