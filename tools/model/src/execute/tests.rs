use super::*;
use crate::ops::unary::Relu;

fn two_relus() -> Graph {
    let mut graph = Graph::default();
    let x = graph.input("x", Some(crate::Dtype::F32), Some(vec![Dim::Named("n".into()), Dim::Fixed(2)]));
    let a = graph.node("a", Relu, &[x]);
    let b = graph.node("b", Relu, &[a]);
    graph.output(a);
    graph.output(b);
    graph
}

fn x() -> Tensor {
    Tensor::of([1, 2], vec![-1.0f32, 2.0]).unwrap()
}

#[test]
fn results_that_are_used_again_stay_as_they_are() {
    let executor = Executor::new(two_relus()).unwrap();
    let outcome = executor.run(vec![x()], Run::default()).unwrap();
    assert_eq!(outcome.outputs.len(), 2);
    outcome.outputs.iter().for_each(|y| assert_eq!(y.get::<f32>().unwrap(), [0.0, 2.0]));
    // The input, and one copy of `a` for `b`.
    assert_eq!(outcome.peak_bytes, 16);
}

#[test]
fn values_are_observed_as_they_are_made() {
    let executor = Executor::new(two_relus()).unwrap();
    let mut seen = Vec::new();
    let mut observe = |value, tensor: &Tensor| seen.push((value, tensor.get::<f32>().unwrap().to_vec()));
    executor.run(vec![x()], Run { observe: Some(&mut observe), ..Run::default() }).unwrap();
    assert_eq!(seen.iter().map(|(value, _)| executor.graph().name(*value)).collect::<Vec<_>>(), ["x", "a", "b"]);
    assert_eq!(seen[0].1, [-1.0, 2.0]);
}

#[test]
fn a_run_stands_still_and_goes_on_with_other_weights() {
    use crate::ops::linear::Linear;
    let mut graph = Graph::default();
    let x = graph.input("x", None, None);
    let [one, two] =
        ["one", "two"].map(|name| graph.weight(name, Tensor::of([2, 2], vec![1.0f32, 0.0, 0.0, 1.0]).unwrap()));
    let a = graph.node("a", Linear::default(), &[x, one]);
    let b = graph.node("b", Linear::default(), &[a, two]);
    graph.output(b);
    let mut executor = Executor::changing(graph, &[one, two]).unwrap();
    let how = Run::default;
    let mut paused = executor.start(vec![self::x()], &mut how()).unwrap();
    executor.go_on(&mut paused, 1, &mut how()).unwrap();
    assert_eq!(paused.value(a).and_then(Tensor::get::<f32>), Some(&[-1.0, 2.0][..]));
    // Nobody takes it any more.
    assert!(paused.value(x).is_none());
    let twice = Tensor::of([2, 2], vec![2.0f32, 0.0, 0.0, 2.0]).unwrap();
    [one, two].into_iter().for_each(|weight| executor.set_weight(weight, twice.clone()));
    executor.go_on(&mut paused, 9, &mut how()).unwrap();
    assert_eq!(paused.value(b).and_then(Tensor::get::<f32>), Some(&[-2.0, 4.0][..]));
    let whole = executor.run(vec![self::x()], how()).unwrap().outputs;
    assert_eq!(whole[0].get::<f32>(), Some(&[-4.0, 8.0][..]));
}

#[test]
fn inputs_that_do_not_fit_are_refused_by_name() {
    let executor = Executor::new(two_relus()).unwrap();
    let refused = |inputs| executor.run(inputs, Run::default()).unwrap_err().to_string();
    assert_eq!(refused(vec![]), "0 inputs, 1 expected");
    assert_eq!(refused(vec![Tensor::of([2], vec![0.0f32; 2]).unwrap()]), "input `x`: 2, nx2 expected");
    assert_eq!(refused(vec![Tensor::of([1, 2], vec![0i64; 2]).unwrap()]), "input `x`: I64, F32 expected");
}

#[test]
fn graphs_that_cannot_be_run_are_refused() {
    let mut graph = two_relus();
    let lost = graph.value("lost");
    let y = graph.node("y", Relu, &[lost]);
    graph.output(y);
    assert_eq!(Executor::new(graph).unwrap_err().to_string(), "node `y`: value `lost` is made by no node");

    let mut graph = Graph::default();
    let (a, b) = (graph.value("a"), graph.value("b"));
    for (name, from, to) in [("there", a, b), ("back", b, a)] {
        let op = std::sync::Arc::new(Relu);
        graph.push(Node { name: name.into(), op, inputs: vec![Some(from)], outputs: vec![Some(to)] });
    }
    graph.output(a);
    assert_eq!(Executor::new(graph).unwrap_err().to_string(), "node `there`: takes what it makes itself");
}

/// Weights at half their size, plus a parameter.
#[derive(Debug)]
struct Halved;

impl Operator for Halved {
    fn name(&self) -> &'static str {
        "Halved"
    }

    fn run(&self, inputs: &mut Inputs, _: &Context<'_>) -> Result<Vec<Tensor>, crate::Fault> {
        let more = inputs.elements::<f32>(1, "float")?[0];
        let halves = inputs.elements::<f32>(0, "float")?.iter().map(|x| x / 2.0 + more).collect();
        Ok(vec![Tensor::vector(halves)])
    }
}

#[test]
fn a_transform_changes_what_all_takers_and_results_see() {
    let mut graph = Graph::default();
    let w = graph.weight("w", Tensor::vector(vec![2.0f32, -8.0]));
    let a = graph.node("a", Relu, &[w]);
    let b = graph.node("b", Relu, &[a]);
    [w, a, b].into_iter().for_each(|value| graph.output(value));
    let one = graph.weight("w/more", Tensor::vector(vec![1.0f32]));
    graph.transform(w, "w/halved", Halved, &[one]);
    let ten = graph.weight("a/more", Tensor::vector(vec![10.0f32]));
    graph.transform(a, "a/halved", Halved, &[ten]);
    let outputs = Executor::new(graph).unwrap().run(vec![], Run::default()).unwrap().outputs;
    let seen: Vec<_> = outputs.iter().map(|y| y.get::<f32>().unwrap().to_vec()).collect();
    assert_eq!(seen, [[2.0, -3.0], [11.0, 10.0], [11.0, 10.0]]);
}

#[test]
fn a_transform_of_what_it_makes_itself_is_a_cycle() {
    let mut graph = two_relus();
    let (a, b) = (graph.find("a").unwrap(), graph.find("b").unwrap());
    graph.transform(a, "a/halved", Halved, &[b]);
    assert!(matches!(Executor::new(graph).unwrap_err().kind(), ErrorKind::Cycle));
}
