use super::*;
use crate::attributes::{Attribute, Definition};
use crate::kernels::numbers;
use crate::ops::binary::Operation;
use crate::ops::unary::Function;
use crate::{Executor, Run};

fn floats(shape: &[usize], seed: u32) -> Tensor {
    Tensor::of(shape, numbers(shape.iter().product(), seed)).unwrap()
}

/// A convolution of `weights`, of which each window is padded so that a stride of 1 keeps the size.
fn conv(graph: &mut Graph, x: ValueId, weights: [usize; 4], stride: i64, groups: i64) -> ValueId {
    conv_with(graph, x, weights, (stride, groups, 0))
}

/// The same, `ceil` as pools have it.
fn conv_with(graph: &mut Graph, x: ValueId, weights: [usize; 4], (stride, groups, ceil): (i64, i64, i64)) -> ValueId {
    let pads = vec![weights[2] as i64 / 2; 4];
    let attributes = [
        ("pads".to_owned(), Attribute::Ints(pads)),
        ("strides".to_owned(), Attribute::Ints(vec![stride; 2])),
        ("group".to_owned(), Attribute::Int(groups)),
        ("ceil_mode".to_owned(), Attribute::Int(ceil)),
    ];
    let of = Definition { op: "Conv".into(), opset: 17, inputs: 3, outputs: 1, ..Definition::default() };
    let op = crate::ops::build(&Definition { attributes: attributes.into(), ..of }).unwrap().unwrap();
    let w = graph.weight("w", floats(&weights, 3));
    let b = graph.weight("b", floats(&weights[..1], 4));
    let y = graph.value("y");
    graph.push(Node { name: "conv".into(), op, inputs: vec![Some(x), Some(w), Some(b)], outputs: vec![Some(y)] });
    y
}

/// The largest of three by three, a stride of 2 apart.
fn pool(graph: &mut Graph, x: ValueId) -> ValueId {
    let ints = |name: &str, all: Vec<i64>| (name.to_owned(), Attribute::Ints(all));
    let attributes = [ints("kernel_shape", vec![3; 2]), ints("strides", vec![2; 2]), ints("pads", vec![1; 4])];
    let of = Definition { op: "MaxPool".into(), opset: 17, inputs: 1, outputs: 1, ..Definition::default() };
    let op = crate::ops::build(&Definition { attributes: attributes.into(), ..of }).unwrap().unwrap();
    let y = graph.value("y");
    graph.push(Node { name: "pool".into(), op, inputs: vec![Some(x)], outputs: vec![Some(y)] });
    y
}

fn binary(graph: &mut Graph, operation: Operation, a: ValueId, b: ValueId) -> ValueId {
    graph.node("binary", Binary { operation }, &[a, b])
}

/// A network of `channels` that has a shortcut, channels by themselves, a gate, and results on the way.
fn net(channels: usize) -> Graph {
    let mut graph = Graph::default();
    let x = graph.input("x", None, None);
    let stem = conv(&mut graph, x, [channels, 3, 3, 3], 2, 1);
    let stem = graph.node("relu", Relu, &[stem]);
    let each = conv(&mut graph, stem, [channels, 1, 3, 3], 1, channels as i64);
    let each = graph.node("clip", Clip { low: Some(0.0), high: Some(6.0) }, &[each]);
    let back = conv(&mut graph, each, [channels, channels, 1, 1], 1, 1);
    let sum = binary(&mut graph, Operation::Add, back, stem);
    let gate = conv(&mut graph, sum, [channels, channels, 1, 1], 1, 1);
    let gate = graph.node("gate", Unary { function: Function::Sigmoid, parameters: [0.0; 2] }, &[gate]);
    let gated = binary(&mut graph, Operation::Mul, sum, gate);
    let two = graph.weight("two", Tensor::scalar(2.0f32));
    let twice = binary(&mut graph, Operation::Mul, gated, two);
    let norm = [1, 2, 3].map(|seed| graph.weight("n", floats(&[channels], seed)));
    let var = graph.weight("v", Tensor::vector(vec![0.5f32; channels]));
    let op = BatchNormalization { epsilon: 1e-5, training: None };
    let norm = graph.node("norm", op, &[twice, norm[0], norm[1], norm[2], var]);
    let pool = pool(&mut graph, norm);
    let last = conv(&mut graph, pool, [2 * channels, channels, 5, 5], 2, 1);
    [gated, last].into_iter().for_each(|value| graph.output(value));
    graph
}

fn made(graph: Graph, x: Tensor) -> Vec<Vec<u32>> {
    let outputs = Executor::new(graph).unwrap().run(vec![x], Run::default()).unwrap().outputs;
    outputs.iter().map(|y| y.get::<f32>().unwrap().iter().map(|x| x.to_bits()).collect()).collect()
}

fn count<T: crate::Operator>(graph: &Graph) -> usize {
    graph.nodes().iter().filter(|node| (&*node.op as &dyn Any).is::<T>()).count()
}

#[test]
fn results_are_the_same_to_the_bit() {
    for channels in [16, 24, 40] {
        let mut plain = net(channels);
        plain.fuse().unwrap();
        let mut blocked = plain.clone();
        blocked.block().unwrap();
        assert_eq!(count::<Conv>(&blocked), 0, "{channels} channels");
        assert_eq!([count::<ToBlocks>(&blocked), count::<FromBlocks>(&blocked)], [0, 2], "{channels} channels");
        // One image on several threads, and many with a thread each.
        for shape in [[1, 3, 45, 38], [9, 3, 15, 12]] {
            let x = floats(&shape, 7);
            assert!(made(plain.clone(), x.clone()) == made(blocked.clone(), x), "{channels} channels, {shape:?}");
        }
    }
}

#[test]
fn what_is_added_may_be_in_blocks_or_apart_or_repeated() {
    for (added, image) in
        [(vec![2, 32, 9, 7], 9), (vec![32, 1, 1], 9), (vec![2, 32, 1, 1], 9), (vec![5, 2, 32, 9, 7], 0)]
    {
        let mut graph = Graph::default();
        let [x, add] = ["x", "add"].map(|name| graph.input(name, None, None));
        let stem = conv(&mut graph, x, [32, 3, 3, 3], 1, 1);
        let back = conv(&mut graph, stem, [32, 32, 5, 5], 1, 1);
        let sum = binary(&mut graph, Operation::Add, back, add);
        let relu = graph.node("relu", Relu, &[sum]);
        let last = conv(&mut graph, relu, [32, 32, 1, 1], 1, 1);
        graph.output(last);
        graph.fuse().unwrap();
        let mut blocked = graph.clone();
        blocked.block().unwrap();
        assert_eq!([count::<Conv>(&blocked), count::<FromBlocks>(&blocked)], [0, 1]);
        let run = |graph: Graph| {
            let inputs = vec![floats(&[2, 3, 9, 7], 7), floats(&added, 8)];
            let outcome = Executor::new(graph).unwrap().run(inputs, Run::default());
            outcome.map(|made| made.outputs[0].get::<f32>().unwrap().to_vec())
        };
        // Of five dimensions it fits nothing that is a convolution's.
        assert!(image == 0 || run(graph.clone()).unwrap() == run(blocked.clone()).unwrap(), "{added:?}");
        assert_eq!(run(graph).is_ok(), run(blocked).is_ok(), "{added:?}");
    }
}

#[test]
fn pairs_change_no_bit() {
    let shapes = [[1, 3, 40, 300], [1, 3, 9, 8], [9, 3, 15, 12], [2, 3, 1, 1]];
    for (channels, kernel, stride) in [(16, 3, 1), (40, 3, 2), (72, 5, 1), (24, 5, 3), (32, 1, 2)] {
        let mut graph = Graph::default();
        let x = graph.input("x", None, None);
        let stem = conv(&mut graph, x, [24, 3, 3, 3], 1, 1);
        let wide = conv(&mut graph, stem, [channels, 24, 1, 1], 1, 1);
        let wide = graph.node("clip", Clip { low: Some(0.0), high: Some(0.7) }, &[wide]);
        let each = conv(&mut graph, wide, [channels, 1, kernel, kernel], stride, channels as i64);
        let each = graph.node("relu", Relu, &[each]);
        graph.output(each);
        graph.fuse().unwrap();
        let mut blocked = graph.clone();
        blocked.block().unwrap();
        assert_eq!([count::<BlockedPair>(&blocked), blocked.nodes().len()], [1, 3], "{channels} channels");
        for shape in shapes {
            let x = floats(&shape, 7);
            let macs = |graph: &Graph| {
                Executor::new(graph.clone()).unwrap().run(vec![x.clone()], Run::default()).unwrap().macs
            };
            assert_eq!(macs(&graph), macs(&blocked), "{channels} channels, {shape:?}");
            assert!(made(graph.clone(), x.clone()) == made(blocked.clone(), x), "{channels} channels, {shape:?}");
        }
    }
}

#[test]
fn tiles_make_what_windows_make() {
    let mut graph = Graph::default();
    let x = graph.input("x", None, None);
    let stem = conv(&mut graph, x, [40, 3, 3, 3], 1, 1);
    let stem = graph.node("relu", Relu, &[stem]);
    let back = conv(&mut graph, stem, [40, 40, 3, 3], 1, 1);
    let sum = binary(&mut graph, Operation::Add, back, stem);
    let last = conv(&mut graph, sum, [24, 40, 3, 3], 1, 1);
    graph.output(last);
    graph.fuse().unwrap();
    let mut blocked = graph.clone();
    blocked.block().unwrap();
    for shape in [[1, 3, 45, 38], [9, 3, 15, 12], [3, 3, 1, 1], [0, 3, 6, 6]] {
        let run = |graph: &Graph| {
            let made = Executor::new(graph.clone()).unwrap().run(vec![floats(&shape, 7)], Run::default()).unwrap();
            made.outputs[0].get::<f32>().unwrap().to_vec()
        };
        let (plain, blocked) = (run(&graph), run(&blocked));
        let most = plain.iter().fold(0.0, |most: f32, y| most.max(y.abs()));
        assert_eq!(plain.len(), blocked.len());
        assert!(plain.iter().zip(&blocked).all(|(a, b)| (a - b).abs() <= 4e-6 * most), "{shape:?}");
    }
}

#[test]
fn what_is_not_worth_it_stays() {
    // A convolution alone, few channels, groups, and what no convolution has: a last window past the end.
    let mut graph = Graph::default();
    let x = graph.input("x", None, None);
    let alone = conv(&mut graph, x, [16, 32, 3, 3], 1, 1);
    let few = [0, 1].into_iter().fold(x, |x, at| conv(&mut graph, x, [5, if at == 0 { 32 } else { 5 }, 3, 3], 1, 1));
    let groups = [0, 1].into_iter().fold(x, |x, _| conv(&mut graph, x, [32, 16, 3, 3], 1, 2));
    let ceil = [0, 1].into_iter().fold(x, |x, _| conv_with(&mut graph, x, [32, 32, 3, 3], (2, 1, 1)));
    [alone, few, groups, ceil].into_iter().for_each(|value| graph.output(value));
    graph.fuse().unwrap();
    let before = graph.nodes().len();
    graph.block().unwrap();
    assert_eq!([graph.nodes().len(), count::<Conv>(&graph)], [before, 7]);
}

#[test]
fn images_of_another_size_are_refused_as_before() {
    let mut graph = net(16);
    graph.fuse().unwrap();
    graph.block().unwrap();
    let executor = Executor::new(graph).unwrap();
    for shape in [&[1, 4, 45, 38][..], &[1, 3, 45], &[1, 1, 8, 8, 16]] {
        assert!(executor.run(vec![floats(shape, 1)], Run::default()).is_err(), "{shape:?}");
    }
}
