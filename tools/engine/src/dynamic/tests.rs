use std::path::Path;

use niwaki_model::ops::binary::{Binary, Operation};
use niwaki_model::ops::channels::ChannelGate;
use niwaki_model::ops::normalize::BatchNormalization;
use niwaki_model::ops::unary::Relu;
use niwaki_model::{Attribute, Definition, Executor, Graph, Node, Run, Tape, Tensor, ValueId};
use niwaki_prune::Ratio;
use niwaki_prune::dynamic::Target;

use super::heads::{self, Head};
use super::sites::{Site, sites};
use super::targets::Targets;
use super::{Dynamic, Pool};
use crate::model::Model;

/// Numbers between -1 and 1.
fn numbers(len: usize, seed: u64) -> Vec<f32> {
    niwaki_prune::layers::random_scores(len, seed).into_iter().map(|x| (2.0 * x - 1.0) as f32).collect()
}

fn floats(shape: &[usize], seed: u64) -> Tensor {
    Tensor::of(shape, numbers(shape.iter().product(), seed)).unwrap()
}

fn conv(graph: &mut Graph, name: &str, x: ValueId, shape: [usize; 4]) -> ValueId {
    let pads = Attribute::Ints(vec![shape[3] as i64 / 2; 4]);
    let of = Definition { op: "Conv".into(), opset: 17, inputs: 2, outputs: 1, ..Definition::default() };
    let op = Definition { attributes: [("pads".to_owned(), pads)].into(), ..of };
    let op = niwaki_model::ops::build(&op).unwrap().unwrap();
    let w = graph.weight(name, floats(&shape, shape.iter().sum::<usize>() as u64));
    let y = graph.value(format!("{name}/y"));
    graph.push(Node { name: name.into(), op, inputs: vec![Some(x), Some(w)], outputs: vec![Some(y)] });
    y
}

fn norm(graph: &mut Graph, x: ValueId, channels: usize) -> ValueId {
    let of = |graph: &mut Graph, x: f32| graph.weight("norm", Tensor::vector(vec![x; channels]));
    let all = [1.0, 0.1, 0.2, 1.5].map(|x| of(graph, x));
    let op = BatchNormalization { epsilon: 1e-5, training: None };
    graph.node("norm", op, &[x, all[0], all[1], all[2], all[3]])
}

/// A convolution, a residual block, and one that makes the result: named by nothing that says so.
fn residual() -> Graph {
    let mut graph = Graph::default();
    let x = graph.input("x", None, None);
    let a = conv(&mut graph, "a", x, [4, 2, 3, 3]);
    let a = norm(&mut graph, a, 4);
    let a = graph.node("relu", Relu, &[a]);
    let b = conv(&mut graph, "b", a, [6, 4, 3, 3]);
    let b = norm(&mut graph, b, 6);
    let b = graph.node("relu", Relu, &[b]);
    let c = conv(&mut graph, "c", b, [4, 6, 3, 3]);
    let c = norm(&mut graph, c, 4);
    let sum = graph.node("sum", Binary { operation: Operation::Add }, &[c, a]);
    let sum = graph.node("relu", Relu, &[sum]);
    let d = conv(&mut graph, "d", sum, [5, 4, 1, 1]);
    let d = graph.node("relu", Relu, &[d]);
    let e = conv(&mut graph, "e", d, [3, 5, 1, 1]);
    graph.output(e);
    graph
}

fn model(graph: Graph) -> Model {
    Model::of_graph(Path::new("made"), graph)
}

#[test]
fn sites_are_found_by_the_graph() {
    let model = model(residual());
    let found = sites(&model).unwrap();
    let maker = |site: &Site| {
        let nodes = model.graph().nodes();
        nodes.iter().find(|node| node.outputs.contains(&Some(site.place))).unwrap().op.name()
    };
    let all: Vec<_> = found.iter().map(|site| (site.name.as_str(), maker(site), site.before)).collect();
    // The last one makes the result; the mask of the block's last lies before the addition.
    let expected =
        [("a", "Relu", None), ("b", "Relu", Some(0)), ("c", "BatchNormalization", Some(1)), ("d", "Relu", Some(2))];
    assert_eq!(all, expected);
    let sources: Vec<_> = found.iter().map(|site| site.sources.clone()).collect();
    assert_eq!(sources, [None, Some(vec![0]), Some(vec![1]), Some(vec![0, 2])], "a sum has what either term has");
}

#[test]
fn masks_of_all_that_fires_lose_nothing() {
    let model = model(residual());
    let all = sites(&model).unwrap();
    let target = Target::Mass(Ratio::new(1.0).unwrap());
    let mut graph = model.graph().clone();
    let mut marked = Vec::new();
    for site in &all {
        let targets = graph.value("targets");
        graph.transform(site.place, "gate", ChannelGate, &[targets]);
        let op = std::sync::Arc::new(Targets { target });
        let node = Node { name: "targets".into(), op, inputs: vec![Some(site.place)], outputs: vec![Some(targets)] };
        graph.push(node);
        marked.push(targets);
    }
    let mut off = 0;
    let mut look = |value: ValueId, tensor: &Tensor| {
        if marked.contains(&value) {
            off += tensor.get::<f32>().unwrap().iter().filter(|x| **x == 0.0).count();
        }
    };
    // Small images, of which some channels fire nowhere.
    let x = floats(&[16, 2, 2, 2], 1);
    let run = |graph: Graph, how: Run<'_>| {
        let made = Executor::new(graph).unwrap().run(vec![x.clone()], how).unwrap().outputs;
        made[0].get::<f32>().unwrap().to_vec()
    };
    let gated = run(graph, Run { observe: Some(&mut look), ..Run::default() });
    let dense = run(model.graph().clone(), Run::default());
    assert!(off > 0, "nothing was left out");
    // What is left out has less than 1e-5 of what fires.
    assert!(gated.iter().zip(&dense).all(|(a, b)| (a - b).abs() < 1e-4));
}

/// Gradients of the backbone and of heads, where targets have that weight and what comes out is times `out`.
fn pulled(joint: bool, weight: f32, out: f32) -> [Vec<Vec<f32>>; 2] {
    let model = model(residual());
    let all = sites(&model).unwrap();
    let heads: Vec<Head> = all
        .iter()
        .enumerate()
        .map(|(nth, site)| Head {
            weight: floats(&[site.outputs, site.inputs], 7 + nth as u64),
            bias: floats(&[site.outputs], 17 + nth as u64),
        })
        .collect();
    let mut graph = model.graph().clone();
    let backbone: Vec<ValueId> =
        graph.weights().filter(|(_, tensor)| tensor.rank() == 4).map(|(value, _)| value).collect();
    let learns = graph.weight("weight", Tensor::vector(vec![weight]));
    let target = Target::Mass(Ratio::new(0.8).unwrap());
    let how = Dynamic { joint, pool: Pool::Max, ..Dynamic::new(target) };
    let placed = heads::place(&mut graph, (&all, &heads), &how, Some(learns));
    let of_heads = placed.iter().flat_map(|placed| [placed.weight, placed.bias]);
    let wanted: Vec<ValueId> = backbone.iter().copied().chain(of_heads).collect();
    let tape = Tape::new(graph, wanted).unwrap();
    let forward = tape.forward(vec![floats(&[3, 2, 5, 5], 2)], None).unwrap();
    let shape = forward.outputs[0].shape().to_vec();
    let seed = numbers(shape.iter().product(), 3).into_iter().map(|x| x * out).collect::<Vec<_>>();
    let back = tape.backward(forward, vec![Tensor::of(shape, seed)]).unwrap().gradients;
    let of = |all: &[Option<Tensor>]| -> Vec<Vec<f32>> {
        all.iter().map(|g| g.as_ref().and_then(Tensor::get::<f32>).unwrap_or_default().to_vec()).collect()
    };
    [of(&back[..backbone.len()]), of(&back[backbone.len()..])]
}

fn some(all: &[Vec<f32>]) -> bool {
    all.iter().flatten().any(|g| *g != 0.0)
}

#[test]
fn targets_reach_the_backbone_only_where_training_is_joint_and_classes_never_reach_heads() {
    for joint in [false, true] {
        let ([with, heads], [without, none]) = (pulled(joint, 0.25, 1.0), pulled(joint, 0.0, 1.0));
        assert_eq!(with == without, !joint, "joint {joint}: the backbone");
        assert!(some(&with) && some(&without) && some(&heads) && !some(&none));
        let [_, alone] = pulled(joint, 0.25, 0.0);
        assert_eq!(heads, alone, "joint {joint}: heads without classes");
    }
}
