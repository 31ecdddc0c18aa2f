use super::*;
use crate::attributes::Attribute;
use crate::operator::Pool;
use crate::ops::trial::{definition, tensor};

/// What an operator makes of values, of 1024 bytes at most.
fn on_values(definition: &Definition, inputs: &[Option<Value>]) -> Result<Value, Fault> {
    let op = crate::ops::build(definition)?.unwrap();
    let pool = Pool::default();
    let made = op.on_values().unwrap().run_values(inputs.to_vec(), &Context::new(1024, &pool));
    made.map(|mut all| all.remove(0))
}

fn bare(op: &str) -> Definition {
    definition(op, &[])
}

fn floats(all: &[f32]) -> Value {
    tensor(&[all.len()], all).into()
}

fn of(value: &Value) -> Vec<Vec<f32>> {
    value.tensors().iter().map(|tensor| tensor.get::<f32>().unwrap().to_vec()).collect()
}

fn at(place: i64) -> Option<Value> {
    Some(Tensor::scalar(place).into())
}

#[test]
fn positions_count_from_either_end() {
    let abc = Value::List([1.0f32, 2.0, 3.0].map(|x| tensor(&[1], &[x])).to_vec());
    let found = |op: &str, inputs: &[Option<Value>]| of(&on_values(&bare(op), inputs).unwrap()).concat();
    let (list, nine) = (|| Some(abc.clone()), || Some(floats(&[9.0])));
    assert_eq!(found("SequenceInsert", &[list(), nine()]), [1.0, 2.0, 3.0, 9.0]);
    assert_eq!(found("SequenceInsert", &[list(), nine(), at(-3)]), [1.0, 9.0, 2.0, 3.0]);
    assert_eq!(found("SequenceInsert", &[list(), nine(), at(3)]), [1.0, 2.0, 3.0, 9.0]);
    assert_eq!(found("SequenceErase", &[list()]), [1.0, 2.0]);
    assert_eq!(found("SequenceErase", &[list(), at(-3)]), [2.0, 3.0]);
    assert_eq!(found("SequenceAt", &[list(), at(0)]), [1.0]);
    let refused = |op: &str, inputs: &[Option<Value>]| on_values(&bare(op), inputs).unwrap_err().to_string();
    assert_eq!(refused("SequenceAt", &[list(), at(3)]), "position 3, one of 3 expected");
    assert_eq!(refused("SequenceInsert", &[list(), nine(), at(-5)]), "position -5, one of 4 expected");
    assert_eq!(refused("SequenceErase", &[Some(Value::List(vec![]))]), "an empty list, a tensor to remove expected");
    assert_eq!(refused("SequenceAt", &[nine(), at(0)]), "input 0 is a tensor, a list expected");
    assert_eq!(refused("SequenceInsert", &[list(), list()]), "input 1 is a list, a tensor expected");
    assert_eq!(refused("OptionalGetElement", &[Some(Value::Nothing)]), "input 0 is nothing, something expected");
    let integers = Some(tensor(&[1], &[1i64]).into());
    let text = "input 3 is I64, the type of the list's other tensors expected";
    assert_eq!(refused("SequenceInsert", &[list(), integers]), text);
}

#[test]
fn lists_are_as_bounded_as_tensors() {
    let many = Value::List(vec![tensor(&[1], &[0.0f32]); 16]);
    let refused = on_values(&bare("SequenceInsert"), &[Some(many), Some(floats(&[1.0]))]).unwrap_err();
    assert_eq!(refused.to_string(), "a result of 1088 bytes, the limit is 1024");
    let wide = tensor(&[1 << 20], &vec![0.0f32; 1 << 20]);
    assert!(matches!(on_values(&bare("SplitToSequence"), &[Some(wide.into())]), Err(Fault::TooLarge { .. })));
}

#[test]
fn pieces_are_of_the_sizes_that_are_said() {
    let x = || Some(tensor(&[2, 5], &(0..10).map(|x| x as f32).collect::<Vec<_>>()).into());
    let along = definition("SplitToSequence", &[("axis", Attribute::Int(-1))]);
    let shapes = |inputs: &[Option<Value>], of: &Definition| {
        let list = on_values(of, inputs).unwrap();
        list.tensors().iter().map(|tensor| tensor.shape().to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(shapes(&[x(), at(2)], &along), [[2, 2], [2, 2], [2, 1]]);
    assert_eq!(shapes(&[x(), Some(tensor(&[2], &[4i64, 1]).into())], &along), [[2, 4], [2, 1]]);
    let bare = [("axis", Attribute::Int(0)), ("keepdims", Attribute::Int(0))];
    assert_eq!(shapes(&[x()], &definition("SplitToSequence", &bare)), [[5], [5]]);
    for wrong in [at(0), at(-1), Some(tensor(&[2], &[4i64, 2]).into()), Some(tensor(&[1, 1], &[5i64]).into())] {
        let refused = on_values(&along, &[x(), wrong]).unwrap_err().to_string();
        assert!(refused.ends_with("5 in all expected"), "{refused}");
    }
}

#[test]
fn nothing_is_computed_ahead_into_a_list() {
    let op = crate::ops::build(&bare("SequenceConstruct")).unwrap().unwrap();
    let pool = Pool::default();
    let made = op.run(&mut Inputs::new(vec![Some(Tensor::scalar(1.0f32))]), &Context::new(1024, &pool));
    assert!(matches!(made, Err(Fault::Unsupported(_))));
}
