//! One of two graphs: If.

use super::{graph, is_pure, on_tensors, run, take_all, truth};
use crate::attributes::Definition;
use crate::execute::Executor;
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::{Built, some};
use crate::tensor::Tensor;
use crate::value::{OnValues, Value, take};

/// Runs one graph where a condition holds, else the other.
#[derive(Debug)]
struct If {
    then: Executor,
    otherwise: Executor,
}

pub(super) fn build(definition: &Definition) -> Built {
    some(If { then: graph(definition, "then_branch")?, otherwise: graph(definition, "else_branch")? })
}

impl Operator for If {
    fn name(&self) -> &'static str {
        "If"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        on_tensors(self, inputs, context)
    }

    fn on_values(&self) -> Option<&dyn OnValues> {
        Some(self)
    }

    fn is_pure(&self) -> bool {
        is_pure(&self.then) && is_pure(&self.otherwise)
    }
}

impl OnValues for If {
    fn run_values(&self, mut inputs: Vec<Option<Value>>, context: &Context<'_>) -> Result<Vec<Value>, Fault> {
        let first = self.then.graph().inputs().len();
        let second = self.otherwise.graph().inputs().len();
        if truth(&take(&mut inputs, 0)?.into_tensor(0)?, 0)? {
            let captured = take_all(&mut inputs, 1..1 + first)?;
            run(&self.then, captured, context)
        } else {
            let captured = take_all(&mut inputs, 1 + first..1 + first + second)?;
            run(&self.otherwise, captured, context)
        }
    }
}
