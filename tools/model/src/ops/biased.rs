//! Gelu of a sum, as ONNX Runtime fuses them.

use crate::attributes::Definition;
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::binary::{Operation, combine};
use crate::ops::unary::{Function, Unary};
use crate::ops::{Built, some};
use crate::tensor::Tensor;

/// Gelu of the sum of two tensors, of which the second may be left out.
#[derive(Clone, Copy, Debug)]
pub struct BiasGelu {
    /// Whether by the hyperbolic tangent.
    pub fast: bool,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    match (definition.domain.as_str(), definition.op.as_str()) {
        ("com.microsoft", "BiasGelu") => some(BiasGelu { fast: false }),
        ("com.microsoft", "FastGelu") => some(BiasGelu { fast: true }),
        _ => Ok(None),
    }
}

impl Operator for BiasGelu {
    fn name(&self) -> &'static str {
        if self.fast { "FastGelu" } else { "BiasGelu" }
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let mut sum = inputs.take(0)?;
        if inputs.optional(1).is_some() {
            sum = combine(Operation::Add, sum, inputs.take(1)?, context)?;
        }
        let function = if self.fast { Function::FastGelu } else { Function::Gelu };
        Unary { function, parameters: [0.0; 2] }.run(&mut Inputs::new(vec![Some(sum)]), context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::ops::trial::{assert_close, definition, run, tensor};

    #[test]
    fn the_bias_is_added_first() {
        let inputs = [tensor(&[1, 2], &[0.5f32, -1.0]), tensor(&[2], &[0.5f32, 0.0])].map(Some);
        for op in ["BiasGelu", "FastGelu"] {
            let definition = Definition { domain: "com.microsoft".into(), ..definition(op, &[]) };
            let y = run(&definition, &inputs).unwrap();
            let truth = match op {
                "BiasGelu" => [0.841_344_746, -0.158_655_254],
                _ => [0.841_191_991, -0.158_808_009],
            };
            assert_close(&y[0], &truth);
        }
    }
}
