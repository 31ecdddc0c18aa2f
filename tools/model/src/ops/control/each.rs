//! A graph for each tensor of a list: SequenceMap.

use super::{graph, is_pure, run, take_all};
use crate::attributes::Definition;
use crate::execute::Executor;
use crate::fault::Fault;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::sequence::{no_tensors, room};
use crate::ops::{Built, some};
use crate::tensor::Tensor;
use crate::value::{OnValues, Value};

/// Runs a graph for each tensor of a list, and makes a list of each of its results. Of other lists it takes the tensors at
/// the same place, other tensors as they are.
#[derive(Debug)]
struct Each {
    body: Executor,
    captures: usize,
}

pub(super) fn build(definition: &Definition) -> Built {
    let body = graph(definition, "body")?;
    let (has, needs) = (body.graph().inputs().len(), definition.inputs);
    if has != needs || needs == definition.captures {
        return Err(Fault::shape(format!("a body of {has} inputs"), format!("{needs}, as many as the node")));
    }
    some(Each { body, captures: definition.captures })
}

impl Operator for Each {
    fn name(&self) -> &'static str {
        "SequenceMap"
    }

    fn run(&self, _: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        Err(no_tensors(self.name()))
    }

    fn on_values(&self) -> Option<&dyn OnValues> {
        Some(self)
    }

    fn is_pure(&self) -> bool {
        is_pure(&self.body)
    }
}

impl OnValues for Each {
    fn run_values(&self, mut inputs: Vec<Option<Value>>, context: &Context<'_>) -> Result<Vec<Value>, Fault> {
        let own = inputs.len().saturating_sub(self.captures);
        let given = take_all(&mut inputs, 0..own)?;
        let captured = take_all(&mut inputs, own..own + self.captures)?;
        let Some(Value::List(first)) = given.first() else {
            return Err(Fault::kind(0, given.first().unwrap_or(&Value::Nothing), "a list"));
        };
        let turns = first.len();
        let mut made: Vec<(Vec<Tensor>, usize)> = vec![(Vec::new(), 0); self.body.graph().outputs().len()];
        for turn in 0..turns {
            let one = |(at, value): (usize, &Value)| match value {
                Value::List(all) if all.len() == turns => Ok(Value::Tensor(all[turn].clone())),
                Value::List(all) => {
                    Err(Fault::shape(format!("input {at} of {} tensors", all.len()), format!("{turns} as input 0")))
                }
                other => Ok(other.clone()),
            };
            let mut taken = given.iter().enumerate().map(one).collect::<Result<Vec<_>, _>>()?;
            taken.extend(captured.iter().cloned());
            for (at, ((all, bytes), value)) in made.iter_mut().zip(run(&self.body, taken, context)?).enumerate() {
                let tensor = value.into_tensor(at)?;
                *bytes = bytes.saturating_add(room(&tensor));
                context.len::<u8>(&[*bytes])?;
                all.push(tensor);
            }
        }
        Ok(made.into_iter().map(|(all, _)| Value::List(all)).collect())
    }
}
