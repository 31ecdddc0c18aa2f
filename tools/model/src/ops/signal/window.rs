//! Windows: Hann, Hamming, Blackman.

use std::f64::consts::TAU;

use super::{count, elements};
use crate::attributes::Definition;
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::element_type::dtype;
use crate::ops::{Built, some};
use crate::tensor::{Dtype, Tensor};

/// A sum of cosines over one period.
#[derive(Clone, Copy, Debug)]
struct Window {
    name: &'static str,
    /// Factors of cos(0), cos(x) and cos(2x).
    factors: [f64; 3],
    periodic: bool,
    dtype: Dtype,
}

pub(super) fn build(definition: &Definition) -> Built {
    let (name, factors) = match definition.op.as_str() {
        "HannWindow" => ("HannWindow", [0.5, -0.5, 0.0]),
        "HammingWindow" => ("HammingWindow", [25.0 / 46.0, 25.0 / 46.0 - 1.0, 0.0]),
        "BlackmanWindow" => ("BlackmanWindow", [0.42, -0.5, 0.08]),
        _ => return Ok(None),
    };
    let periodic = definition.int("periodic")?.unwrap_or(1) != 0;
    let dtype = dtype(definition.int("output_datatype")?.unwrap_or(1))?;
    some(Window { name, factors, periodic, dtype })
}

impl Operator for Window {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let size = count(inputs, 0)?;
        context.len::<f64>(&[size])?;
        let period = if self.periodic { size } else { size.saturating_sub(1) };
        let [constant, once, twice] = self.factors;
        let at = |n: usize| {
            let x = TAU * n as f64 / period as f64;
            constant + once * x.cos() + twice * (2.0 * x).cos()
        };
        // A window of one place has no period.
        let all: Vec<f64> = (0..size).map(|n| if period == 0 { 1.0 } else { at(n) }).collect();
        Ok(vec![Tensor::new([size], elements(self.dtype, &all)?).ok_or(Fault::Missing { input: 0 })?])
    }
}
