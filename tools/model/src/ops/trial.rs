//! Runs one operator for a test.

use crate::attributes::{Attribute, Definition};
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Pool};
use crate::tensor::{Element, Tensor};

/// A definition of the newest opset.
pub(crate) fn definition(op: &str, attributes: &[(&str, Attribute)]) -> Definition {
    let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Definition { op: op.to_owned(), opset: 22, inputs: 1, outputs: 1, attributes, ..Definition::default() }
}

/// What an operator makes of inputs.
pub(crate) fn run(definition: &Definition, inputs: &[Option<Tensor>]) -> Result<Vec<Tensor>, Fault> {
    let definition = Definition { inputs: inputs.len(), ..definition.clone() };
    let operator = super::build(&definition)?.ok_or_else(|| Fault::Unsupported(definition.op.clone()))?;
    operator.run(&mut Inputs::new(inputs.to_vec()), &Context::new(1 << 30, &Pool::default()))
}

/// The first output, of an operator without attributes.
pub(crate) fn simple(op: &str, inputs: &[Tensor]) -> Result<Tensor, Fault> {
    let inputs: Vec<_> = inputs.iter().cloned().map(Some).collect();
    run(&definition(op, &[]), &inputs).map(|outputs| outputs[0].clone())
}

/// A tensor of these elements.
pub(crate) fn tensor<T: Element>(shape: &[usize], elements: &[T]) -> Tensor {
    Tensor::of(shape, elements.to_vec()).expect("as many elements as the shape says")
}

/// The elements of a tensor of that type.
pub(crate) fn elements<T: Element>(tensor: &Tensor) -> Vec<T> {
    tensor.get().expect("elements of that type").to_vec()
}

/// Whether floats are close.
pub(crate) fn assert_close(found: &Tensor, truth: &[f64]) {
    let found: Vec<f32> = elements(found);
    assert_eq!(found.len(), truth.len());
    for (found, truth) in found.iter().zip(truth) {
        let off = (f64::from(*found) - truth).abs();
        assert!(off <= 1e-5 * truth.abs().max(1.0), "{found}, {truth} expected");
    }
}
