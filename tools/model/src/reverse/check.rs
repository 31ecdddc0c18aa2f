//! Compares gradients with finite differences, in f64.

use super::{Pass, Reverse, Seen};
use crate::operator::{Context, Inputs, Operator, Pool};
use crate::tensor::{Data, Tensor};

/// How far a gradient may be from the finite difference, and one of f32 from that of f64, relative to
/// the largest.
const TOLERANCE: f64 = 1e-5;

/// Checks the gradients of the inputs `wanted`, which are doubles, of a random combination of all outputs
/// that are floats: in f64 against central differences, then in f32 against f64.
pub(crate) fn gradients(op: &dyn Operator, inputs: &[Option<Tensor>], wanted: &[usize]) {
    checked(op, inputs, wanted, usize::MAX);
}

/// The same of the first output alone.
pub(crate) fn gradients_of_first(op: &dyn Operator, inputs: &[Option<Tensor>], wanted: &[usize]) {
    checked(op, inputs, wanted, 1);
}

fn checked(op: &dyn Operator, inputs: &[Option<Tensor>], wanted: &[usize], outputs: usize) {
    let exact = pulled(op, inputs, wanted, outputs);
    for at in wanted {
        let found = exact[*at]
            .as_ref()
            .and_then(|g| g.get::<f64>())
            .unwrap_or_else(|| panic!("{op:?}: no gradient of input {at}"))
            .to_vec();
        let x = inputs[*at].as_ref().and_then(|x| x.get::<f64>()).expect("an input of doubles").to_vec();
        assert_eq!(exact[*at].as_ref().map(Tensor::shape), inputs[*at].as_ref().map(Tensor::shape), "{op:?}");
        let largest = found.iter().fold(1e-3f64, |a, b| a.max(b.abs()));
        for k in 0..x.len() {
            let moved = |by: f64| {
                let mut inputs = inputs.to_vec();
                let shape = inputs[*at].as_ref().expect("it is there").shape().to_vec();
                let mut x = x.clone();
                x[k] += by;
                inputs[*at] = Tensor::of(shape, x);
                combination(run(op, &inputs).iter().take(outputs))
            };
            let step = 1e-5 * x[k].abs().max(1.0);
            // Of fourth order: what is left is rounding.
            let slope = (8.0 * (moved(step) - moved(-step)) - (moved(2.0 * step) - moved(-2.0 * step))) / (12.0 * step);
            let off = (slope - found[k]).abs();
            assert!(off <= TOLERANCE * largest, "{op:?}: input {at}, element {k}: {}, {slope} expected", found[k]);
        }
    }
    let single: Vec<_> = inputs.iter().map(|input| input.as_ref().map(narrowed)).collect();
    for (at, found) in pulled(op, &single, wanted, outputs).into_iter().enumerate() {
        let (Some(found), Some(exact)) = (found, &exact[at]) else { continue };
        let (found, exact) = (found.get::<f32>().expect("a gradient of singles"), exact.get::<f64>().expect("doubles"));
        let largest = exact.iter().fold(1e-3f64, |a, b| a.max(b.abs()));
        for (found, exact) in found.iter().zip(exact) {
            let off = (f64::from(*found) - exact).abs();
            assert!(off <= 10.0 * TOLERANCE * largest, "{op:?}: input {at} in f32: {found}, {exact} expected");
        }
    }
}

/// Numbers between -1 and 1.
pub(crate) fn numbers(len: usize, seed: u64) -> Vec<f64> {
    let number = |at: u64| {
        let mut x = (at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed.wrapping_mul(0xD1B5_4A32_D192_ED03));
        x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ x >> 31) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..len as u64).map(number).collect()
}

/// A tensor of numbers between -1 and 1.
pub(crate) fn random(shape: &[usize], seed: u64) -> Option<Tensor> {
    Tensor::of(shape, numbers(shape.iter().product(), seed))
}

fn narrowed(tensor: &Tensor) -> Tensor {
    match tensor.data() {
        Data::F64(all) => {
            let all = all.as_slice().iter().map(|x| *x as f32).collect::<Vec<_>>();
            Tensor::of(tensor.shape(), all).expect("as many")
        }
        _ => tensor.clone(),
    }
}

fn run(op: &dyn Operator, inputs: &[Option<Tensor>]) -> Vec<Tensor> {
    let pool = Pool::default();
    op.run(&mut Inputs::new(inputs.to_vec()), &Context::new(1 << 30, &pool)).unwrap_or_else(|e| panic!("{op:?}: {e}"))
}

/// What the gradient of output `at` is.
fn seed(at: usize, output: &Tensor) -> Option<Vec<f64>> {
    matches!(output.data(), Data::F64(_) | Data::F32(_)).then(|| numbers(output.len(), 77 + at as u64))
}

fn combination<'o>(outputs: impl Iterator<Item = &'o Tensor>) -> f64 {
    let each = |(at, output): (usize, &Tensor)| -> f64 {
        let (Some(seed), Some(y)) = (seed(at, output), output.get::<f64>()) else { return 0.0 };
        seed.iter().zip(y).map(|(g, y)| g * y).sum()
    };
    outputs.enumerate().map(each).sum()
}

/// The gradients of inputs, with only what is kept to be seen.
fn pulled(op: &dyn Operator, inputs: &[Option<Tensor>], wanted: &[usize], of: usize) -> Vec<Option<Tensor>> {
    let Reverse::Flows(back) = op.reverse() else { panic!("{op:?}: no way back") };
    let wanted: Vec<bool> = (0..inputs.len()).map(|at| wanted.contains(&at)).collect();
    let keeps = back.keeps(&wanted);
    let outputs = run(op, inputs);
    let gradient = |(at, output): (usize, &Tensor)| {
        let seed = seed(at, output)?;
        match output.data() {
            Data::F64(_) => Tensor::of(output.shape(), seed),
            _ => Tensor::of(output.shape(), seed.into_iter().map(|x| x as f32).collect()),
        }
    };
    let see = |(at, input): (usize, &Option<Tensor>)| input.as_ref().map(|x| Seen::of(x, keeps.has_input(at)));
    let mut pass = Pass {
        inputs: inputs.iter().enumerate().map(see).collect(),
        gradients: outputs.iter().take(of).enumerate().map(gradient).collect(),
        outputs: outputs.iter().enumerate().map(|(at, y)| Seen::of(y, keeps.has_output(at))).collect(),
        wanted,
    };
    let pool = Pool::default();
    let mut found = back.pull(&mut pass, &Context::new(1 << 30, &pool)).unwrap_or_else(|e| panic!("{op:?}: {e}"));
    found.resize(inputs.len(), None);
    found
}

mod tests {
    use super::*;
    use crate::fault::Fault;
    use crate::reverse::{Keeps, Pullback};

    /// x², with a way back that is off by a little, or that looks at what it did not ask for.
    #[derive(Debug)]
    struct Wrong {
        slope: f64,
        keeps: bool,
    }

    impl Operator for Wrong {
        fn name(&self) -> &'static str {
            "Wrong"
        }

        fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
            let x = inputs.take(0)?;
            match x.data() {
                Data::F64(all) => Ok(vec![Tensor::vector(all.as_slice().iter().map(|x| x * x).collect::<Vec<_>>())]),
                Data::F32(all) => Ok(vec![Tensor::vector(all.as_slice().iter().map(|x| x * x).collect::<Vec<_>>())]),
                _ => Err(Fault::dtype(0, &x, "a float")),
            }
        }

        fn reverse(&self) -> Reverse<'_> {
            Reverse::Flows(self)
        }
    }

    impl Pullback for Wrong {
        fn keeps(&self, _: &[bool]) -> Keeps {
            Keeps::NOTHING.input_if(0, self.keeps)
        }

        fn pull(&self, pass: &mut Pass, _: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
            let (x, g) = (pass.input(0)?, pass.gradient(0).ok_or(Fault::Missing { input: 0 })?);
            let found = match (x.data(), g.data()) {
                (Data::F64(x), Data::F64(g)) => {
                    let pairs = x.as_slice().iter().zip(g.as_slice());
                    Tensor::vector(pairs.map(|(x, g)| self.slope * x * g).collect::<Vec<_>>())
                }
                (Data::F32(x), Data::F32(g)) => {
                    let pairs = x.as_slice().iter().zip(g.as_slice());
                    Tensor::vector(pairs.map(|(x, g)| self.slope as f32 * x * g).collect::<Vec<_>>())
                }
                _ => return Err(Fault::Missing { input: 0 }),
            };
            Ok(vec![Some(found)])
        }
    }

    #[test]
    fn right_gradients_pass() {
        gradients(&Wrong { slope: 2.0, keeps: true }, &[random(&[9], 1)], &[0]);
    }

    #[test]
    #[should_panic(expected = "expected")]
    fn gradients_that_are_off_by_a_thousandth_are_found() {
        gradients(&Wrong { slope: 2.002, keeps: true }, &[random(&[9], 1)], &[0]);
    }

    #[test]
    #[should_panic(expected = "input 0 is missing")]
    fn values_that_were_not_asked_for_are_not_there() {
        gradients(&Wrong { slope: 2.0, keeps: false }, &[random(&[9], 1)], &[0]);
    }
}
