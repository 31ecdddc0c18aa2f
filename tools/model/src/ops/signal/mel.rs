//! Weights from frequencies to mels: MelWeightMatrix.

use super::{count, elements, floats};
use crate::attributes::Definition;
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::element_type::dtype;
use crate::ops::{Built, some};
use crate::tensor::{Dtype, Tensor};

/// Triangles of equal width in mels.
#[derive(Clone, Copy, Debug)]
struct MelWeightMatrix {
    dtype: Dtype,
}

pub(super) fn build(definition: &Definition) -> Built {
    some(MelWeightMatrix { dtype: dtype(definition.int("output_datatype")?.unwrap_or(1))? })
}

fn number(inputs: &Inputs, index: usize) -> Result<f64, Fault> {
    let tensor = inputs.get(index)?;
    match floats(tensor).as_deref() {
        Some([one]) => Ok(*one),
        _ => Err(Fault::dtype(index, tensor, "one float")),
    }
}

impl Operator for MelWeightMatrix {
    fn name(&self) -> &'static str {
        "MelWeightMatrix"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let (mels, length, rate) = (count(inputs, 0)?, count(inputs, 1)?, count(inputs, 2)?);
        let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
        let (low, high) = (mel(number(inputs, 3)?), mel(number(inputs, 4)?));
        let lines = length / 2 + 1;
        let mut out = vec![0f64; context.len::<f64>(&[lines, mels])?];
        context.len::<f64>(&[mels])?;
        let step = (high - low) / (mels as f64 + 2.0);
        let line = |at: usize| {
            let hertz = 700.0 * (10f64.powf((at as f64 * step + low) / 2595.0) - 1.0);
            let line = ((length as f64 + 1.0) * hertz / rate as f64).floor();
            // What is no place in the spectrum is refused.
            if (0.0..lines as f64).contains(&line) {
                return Ok(line as usize);
            }
            Err(Fault::shape(format!("a frequency of {hertz}"), format!("one between 0 and half of {rate}")))
        };
        for at in 0..mels {
            let (from, centre, to) = (line(at)?, line(at + 1)?, line(at + 2)?);
            if from == centre {
                out[centre * mels + at] = 1.0;
            }
            for x in from..=centre {
                if from != centre {
                    out[x * mels + at] = (x - from) as f64 / (centre - from) as f64;
                }
            }
            for x in centre..to {
                out[x * mels + at] = (to - x) as f64 / (to - centre) as f64;
            }
        }
        Ok(vec![Tensor::new([lines, mels], elements(self.dtype, &out)?).ok_or(Fault::Missing { input: 0 })?])
    }
}
