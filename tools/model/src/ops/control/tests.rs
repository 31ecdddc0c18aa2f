use std::sync::Arc;

use crate::attributes::{Attribute, Definition};
use crate::graph::{Graph, Node, ValueId};
use crate::ops::trial::{definition, run, tensor};
use crate::tensor::{Buffer, Data, Tensor};

fn node(graph: &mut Graph, definition: &Definition, inputs: &[ValueId]) -> ValueId {
    let op = crate::ops::build(definition).unwrap().unwrap();
    let output = graph.value("made");
    let inputs = inputs.iter().copied().map(Some).collect();
    graph.push(Node { name: definition.op.clone(), op, inputs, outputs: vec![Some(output)] });
    output
}

fn concat() -> Definition {
    definition("Concat", &[("axis", Attribute::Int(0))])
}

fn truth(value: bool) -> Tensor {
    Tensor::new([], Data::Bool(Buffer::from(vec![u8::from(value)]))).unwrap()
}

/// A graph that puts something captured after something else captured.
fn captures(weight: f32) -> Attribute {
    let mut graph = Graph::default();
    let x = graph.input("x", None, None);
    let w = graph.weight("w", tensor(&[1], &[weight]));
    let y = node(&mut graph, &concat(), &[x, w]);
    graph.output(y);
    Attribute::Graph(Arc::new(graph))
}

#[test]
fn a_branch_sees_its_own_values_of_around() {
    let mut one = definition("If", &[("then_branch", captures(1.0)), ("else_branch", captures(2.0))]);
    one.captures = 2;
    for (condition, expected) in [(true, [10.0f32, 1.0]), (false, [20.0, 2.0])] {
        let inputs = [truth(condition), tensor(&[1], &[10.0f32]), tensor(&[1], &[20.0f32])].map(Some);
        assert_eq!(run(&one, &inputs).unwrap()[0].get::<f32>().unwrap(), expected);
    }
    let refused = run(&one, &[Some(truth(true)), None, None]).unwrap_err();
    assert_eq!(refused.to_string(), "input 1 is missing");
    let refused = run(&one, &[truth(true), tensor(&[1], &[1i64]), tensor(&[1], &[1i64])].map(Some)).unwrap_err();
    assert_eq!(refused.to_string(), "in its graph: node `Concat`: input 1 is F32, the type of input 0 expected");
}

/// Puts the turn behind what is carried, and collects the captured value.
fn body() -> Attribute {
    let mut graph = Graph::default();
    let turn = graph.input("turn", None, None);
    let condition = graph.input("condition", None, None);
    let carried = graph.input("carried", None, None);
    let captured = graph.input("captured", None, None);
    let axes = graph.weight("axes", tensor(&[1], &[0i64]));
    let turn = node(&mut graph, &definition("Unsqueeze", &[]), &[turn, axes]);
    let longer = node(&mut graph, &concat(), &[carried, turn]);
    [condition, longer, captured].into_iter().for_each(|value| graph.output(value));
    Attribute::Graph(Arc::new(graph))
}

#[test]
fn a_loop_carries_and_collects() {
    let mut one = definition("Loop", &[("body", body())]);
    (one.captures, one.outputs) = (1, 2);
    let inputs = |most: i64| [Tensor::scalar(most), truth(true), tensor(&[1], &[7i64]), tensor(&[1], &[1.5f32])];
    let made = run(&one, &inputs(3).map(Some)).unwrap();
    assert_eq!(made[0].get::<i64>().unwrap(), [7, 0, 1, 2]);
    assert_eq!((made[1].shape(), made[1].get::<f32>().unwrap()), (&[3, 1][..], &[1.5; 3][..]));
    assert!(run(&one, &inputs(0).map(Some)).is_err());
    one.captures = 9;
    assert!(run(&one, &inputs(3).map(Some)).is_err());
}

#[test]
fn a_scan_goes_either_way_along_any_axis() {
    let mut graph = Graph::default();
    let before = graph.input("before", None, None);
    let part = graph.input("part", None, None);
    let longer = node(&mut graph, &concat(), &[before, part]);
    graph.output(longer);
    graph.output(part);
    let ints = |x: i64| Attribute::Ints(vec![x]);
    let mut one = definition(
        "Scan",
        &[
            ("body", Attribute::Graph(Arc::new(graph))),
            ("num_scan_inputs", Attribute::Int(1)),
            ("scan_input_axes", ints(1)),
            ("scan_input_directions", ints(1)),
            ("scan_output_axes", ints(-1)),
        ],
    );
    one.outputs = 2;
    let inputs = [tensor(&[0], &[0f32; 0]), tensor(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0])].map(Some);
    let made = run(&one, &inputs).unwrap();
    assert_eq!(made[0].get::<f32>().unwrap(), [3.0, 6.0, 2.0, 5.0, 1.0, 4.0]);
    assert_eq!((made[1].shape(), made[1].get::<f32>().unwrap()), (&[2, 3][..], &[3.0, 2.0, 1.0, 6.0, 5.0, 4.0][..]));
}
