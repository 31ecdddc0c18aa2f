use super::*;
use crate::fault::Fault;
use crate::graph::Graph;
use crate::reverse::{Pass, Pullback};
use crate::tensor::Data;

/// x times itself, to be kept or not: a small operator with a way back.
#[derive(Debug)]
struct Square;

impl Operator for Square {
    fn name(&self) -> &'static str {
        "Square"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let mut x = inputs.take(0)?;
        if let Data::F32(x) = x.data_mut() {
            x.to_mut().iter_mut().for_each(|x| *x *= *x);
        }
        Ok(vec![x])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl Pullback for Square {
    fn keeps(&self, _: &[bool]) -> Keeps {
        Keeps::NOTHING.input(0)
    }

    fn pull(&self, pass: &mut Pass, _: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        let mut gradient = pass.take_gradient(0)?;
        let x = pass.elements::<f32>(0)?;
        if let Data::F32(g) = gradient.data_mut() {
            g.to_mut().iter_mut().zip(x).for_each(|(g, x)| *g *= 2.0 * x);
        }
        Ok(vec![Some(gradient)])
    }
}

/// ((x + w)²)² … with a value used twice on the way.
fn chain(length: usize) -> (Graph, [ValueId; 2]) {
    use crate::ops::binary::{Binary, Operation};
    let mut graph = Graph::default();
    let x = graph.input("x", None, None);
    let w = graph.weight("w", Tensor::vector(vec![0.5f32, -0.25]));
    let mut value = graph.node("sum", Binary { operation: Operation::Add }, &[x, w]);
    for at in 0..length {
        let square = graph.node(format!("square {at}"), Square, &[value]);
        value = graph.node(format!("add {at}"), Binary { operation: Operation::Add }, &[square, value]);
    }
    graph.output(value);
    (graph, [x, w])
}

fn gradients(tape: &Tape) -> (Vec<f32>, Vec<f32>, usize) {
    let forward = tape.forward(vec![Tensor::vector(vec![0.1f32, 0.3])], None).unwrap();
    let one = Tensor::vector(vec![1.0f32, 1.0]);
    let back = tape.backward(forward, vec![Some(one)]).unwrap();
    let of = |at: usize| back.gradients[at].as_ref().unwrap().get::<f32>().unwrap().to_vec();
    (of(0), of(1), back.peak_bytes)
}

#[test]
fn gradients_of_values_that_are_used_twice_are_added() {
    let (graph, wanted) = chain(3);
    let tape = Tape::new(graph, wanted.to_vec()).unwrap();
    let (of_x, of_w, _) = gradients(&tape);
    let by_hand = |x: f64| {
        let (mut y, mut slope) = (x, 1.0);
        for _ in 0..3 {
            (y, slope) = (y * y + y, slope * (2.0 * y + 1.0));
        }
        slope
    };
    for (found, x) in of_x.iter().zip([0.6, 0.05]) {
        assert!((f64::from(*found) / by_hand(x) - 1.0).abs() < 1e-6);
    }
    assert_eq!(of_x, of_w);
    assert!(tape.stops().is_empty());
}

#[test]
fn segments_give_the_same_bits_in_less_memory() {
    let (graph, wanted) = chain(40);
    let whole = Tape::new(graph.clone(), wanted.to_vec()).unwrap();
    let (of_x, of_w, peak) = gradients(&whole);
    let mut cut = Tape::new(graph, wanted.to_vec()).unwrap();
    let x = || vec![Tensor::vector(vec![0.1f32, 0.3])];
    let limit = peak as u64 * 2 / 3;
    cut.fit(x(), limit).unwrap();
    assert!(cut.segments() > 1);
    let (x_again, w_again, less) = gradients(&cut);
    assert_eq!((x_again, w_again), (of_x, of_w));
    assert!(less as u64 <= limit, "{less} bytes, {limit} allowed, {peak} without");
    let refused = cut.fit(x(), 16).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Memory { limit: 16, .. }), "{refused}");
    assert_eq!(gradients(&cut).2, less, "a refusal changes nothing");
}

#[test]
fn operators_without_a_way_back_are_refused_all_at_once() {
    #[derive(Debug)]
    struct Opaque;
    impl Operator for Opaque {
        fn name(&self) -> &'static str {
            "Opaque"
        }

        fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
            Ok(vec![inputs.take(0)?])
        }
    }
    let mut graph = Graph::default();
    let x = graph.input("x", None, None);
    let a = graph.node("a", Opaque, &[x]);
    let b = graph.node("b", Opaque, &[x]);
    graph.output(a);
    graph.output(b);
    let unwanted = Tape::new(graph.clone(), vec![]).unwrap();
    assert!(unwanted.forward(vec![Tensor::scalar(1.0f32)], None).is_ok());
    let refused = Tape::new(graph, vec![x]).unwrap_err().to_string();
    assert_eq!(refused, "operators that gradients do not pass: `a` (Opaque), `b` (Opaque)");
}

#[test]
fn hooks_have_parameters_and_losses_of_their_own() {
    use crate::ops::binary::{Binary, Operation};
    let mut graph = Graph::default();
    let x = graph.input("x", None, None);
    let w = graph.weight("w", Tensor::vector(vec![2.0f32, -1.0]));
    let y = graph.node("y", Binary { operation: Operation::Mul }, &[x, w]);
    graph.output(y);
    // The weight is seen through a step size of its own, whose square is a second loss.
    let step = graph.weight("w/step", Tensor::vector(vec![0.5f32, 3.0]));
    let seen = graph.transform(w, "w/scaled", Binary { operation: Operation::Mul }, &[step]);
    let penalty = graph.node("w/penalty", Square, &[step]);
    graph.output(penalty);
    let tape = Tape::new(graph, vec![w, step, seen]).unwrap();
    let there = tape.forward(vec![Tensor::vector(vec![3.0f32, 5.0])], None).unwrap();
    assert_eq!(there.outputs[0].get::<f32>().unwrap(), [3.0, -15.0]);
    let one = || Some(Tensor::vector(vec![1.0f32, 1.0]));
    let back = tape.backward(there, vec![one(), one()]).unwrap();
    let of = |at: usize| back.gradients[at].as_ref().unwrap().get::<f32>().unwrap().to_vec();
    assert_eq!(of(0), [1.5, 15.0], "x step");
    assert_eq!(of(1), [3.0 * 2.0 + 1.0, -5.0 + 6.0], "x w, and twice the step");
    assert_eq!(of(2), [3.0, 5.0], "a value in between");
}

#[test]
fn gradients_end_where_nothing_changes_and_that_is_said() {
    use crate::ops::unary::{Function, Unary};
    let mut graph = Graph::default();
    let w = graph.weight("w", Tensor::vector(vec![0.4f32]));
    let rounded = graph.node("rounded", Unary { function: Function::Round, parameters: [0.0; 2] }, &[w]);
    let y = graph.node("y", Square, &[rounded]);
    graph.output(y);
    let tape = Tape::new(graph, vec![w]).unwrap();
    assert_eq!(tape.stops(), [Stop { node: "rounded".to_owned(), op: "Round" }]);
    let there = tape.forward(vec![], None).unwrap();
    let back = tape.backward(there, vec![Some(Tensor::vector(vec![1.0f32]))]).unwrap();
    assert!(back.gradients[0].is_none());
}
