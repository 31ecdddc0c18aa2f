//! A small residual network in ONNX, that can be trained.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use niwaki_onnx::build::{Dim, attr_float, attr_int, attr_ints, graph, initializer, model, node, value};
use niwaki_onnx::proto::TensorProto;
use niwaki_onnx::{DataType, SaveOptions, save};

fn floats(name: &str, shape: &[usize], of: impl Fn(usize) -> f32) -> TensorProto {
    let bytes: Vec<u8> = (0..shape.iter().product()).flat_map(|at| of(at).to_le_bytes()).collect();
    initializer(name, DataType::Float, shape, bytes)
}

/// Writes a small residual network with batch normalization for the bundled images, whose weights are nothing yet.
///
/// # Panics
///
/// If it cannot be written.
pub fn network(to: &Path, blocks: usize) {
    let conv = |name: &str, from: &str, stride: i64| {
        let attributes = vec![attr_ints("pads", &[1; 4]), attr_ints("strides", &[stride; 2])];
        node("Conv", &[from, &format!("{name}.weight")], &[name], attributes)
    };
    let norm = |name: &str, from: &str| {
        let of = |what: &str| format!("{name}.{what}");
        let all = [of("weight"), of("bias"), of("running_mean"), of("running_var")];
        let inputs = [from, &all[0], &all[1], &all[2], &all[3]];
        node("BatchNormalization", &inputs, &[name], vec![attr_float("epsilon", 1e-5)])
    };
    let relu = |from: &str, to: &str| node("Relu", &[from], &[to], vec![]);
    let mut nodes = vec![conv("stem", "images", 2), norm("bn", "stem"), relu("bn", "x0")];
    let mut names = vec!["bn".to_owned()];
    let mut weights = vec![
        floats("stem.weight", &[8, 1, 3, 3], |_| 0.0),
        floats("fc.weight", &[10, 8], |_| 0.0),
        floats("fc.bias", &[10], |_| 0.0),
    ];
    for block in 1..=blocks {
        let of = |what: &str| format!("{what}{block}");
        let before = format!("x{}", block - 1);
        nodes.extend([
            conv(&of("one"), &before, 1),
            norm(&of("bna"), &of("one")),
            relu(&of("bna"), &of("a")),
            conv(&of("two"), &of("a"), 1),
            norm(&of("bnb"), &of("two")),
            node("Add", &[&of("bnb"), &before], &[&of("sum")], vec![]),
            relu(&of("sum"), &of("x")),
        ]);
        names.extend([of("bna"), of("bnb")]);
        weights.extend([of("one"), of("two")].map(|name| floats(&format!("{name}.weight"), &[8, 8, 3, 3], |_| 0.0)));
    }
    nodes.extend([
        node("GlobalAveragePool", &[&format!("x{blocks}")], &["pooled"], vec![]),
        node("Flatten", &["pooled"], &["flat"], vec![]),
        node("Gemm", &["flat", "fc.weight", "fc.bias"], &["scores"], vec![attr_int("transB", 1)]),
    ]);
    for name in names {
        for what in ["weight", "bias", "running_mean", "running_var"] {
            weights.push(floats(&format!("{name}.{what}"), &[8], |_| 1.0));
        }
    }
    let images = [Dim::Named("batch"), Dim::Known(1), Dim::Known(28), Dim::Known(28)];
    let inputs = vec![value("images", DataType::Float, &images)];
    let outputs = vec![value("scores", DataType::Float, &[Dim::Named("batch"), Dim::Known(10)])];
    let options = SaveOptions { overwrite: true, ..SaveOptions::default() };
    save(&model(17, graph("small", nodes, inputs, outputs, weights)), to, &options).unwrap();
}

/// Numbers of a weight of its own.
fn made(name: &str, shape: &[usize], middle: f32, spread: f32) -> TensorProto {
    let seed = name.bytes().fold(7u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let all = crate::nets::numbers(shape.iter().product(), seed);
    floats(name, shape, |at| middle + spread * all[at])
}

/// A residual network for small images as it grows in ONNX.
#[derive(Default)]
struct Resnet {
    nodes: Vec<niwaki_onnx::proto::NodeProto>,
    weights: Vec<TensorProto>,
}

impl Resnet {
    fn node(&mut self, op: &str, name: &str, inputs: &[&str]) -> String {
        self.nodes.push(node(op, inputs, &[name], vec![]));
        name.to_owned()
    }

    fn conv(&mut self, from: &str, name: &str, [inputs, outputs, kernel, stride]: [usize; 4]) -> String {
        let weight = format!("{name}.weight");
        let spread = (6.0 / (inputs * kernel * kernel) as f32).sqrt();
        self.weights.push(made(&weight, &[outputs, inputs, kernel, kernel], 0.0, spread));
        let attributes = vec![attr_ints("pads", &[kernel as i64 / 2; 4]), attr_ints("strides", &[stride as i64; 2])];
        self.nodes.push(node("Conv", &[from, &weight], &[name], attributes));
        name.to_owned()
    }

    fn linear(&mut self, from: &str, name: &str, shape: [usize; 2]) -> String {
        let weight = format!("{name}.weight");
        self.weights.push(made(&weight, &shape, 0.0, 0.4));
        self.node("MatMul", name, &[from, &weight])
    }

    /// Batch normalization; of an `idle` one that gives nothing.
    fn norm(&mut self, from: &str, channels: usize, idle: bool) -> String {
        let name = format!("{from}.bn");
        let of = |what: &str| format!("{name}.{what}");
        let (scale, spread) = if idle { (0.0, 0.0) } else { (1.0, 0.3) };
        self.weights.extend([
            made(&of("weight"), &[channels], scale, spread),
            made(&of("bias"), &[channels], 0.0, spread),
            made(&of("running_mean"), &[channels], 0.0, 0.1),
            made(&of("running_var"), &[channels], 1.0, 0.5),
        ]);
        let all = ["weight", "bias", "running_mean", "running_var"].map(of);
        let inputs = [from, &all[0], &all[1], &all[2], &all[3]];
        self.nodes.push(node("BatchNormalization", &inputs, &[&name], vec![attr_float("epsilon", 1e-5)]));
        name
    }
}

/// Writes a residual network of three stages of `blocks` basic blocks for images `[channels, size, size]`, whose shortcuts are
/// 1x1 convolutions where the shape changes: with 16 `width`s ResNet-20 of three blocks, ResNet-32 of five, ResNet-56 of nine
/// [lottery layers, 4]. Blocks that are `idle` add nothing: their last normalization gives zeros. Weights are made up.
///
/// # Panics
///
/// If it cannot be written.
pub fn resnet(to: &Path, [channels, size]: [usize; 2], [blocks, width]: [usize; 2], idle: &[usize]) {
    let mut net = Resnet::default();
    let stem = net.conv("images", "stem", [channels, width, 3, 1]);
    let stem = net.norm(&stem, width, false);
    let mut x = net.node("Relu", "stem.relu", &[&stem]);
    let mut from = width;
    for block in 0..3 * blocks {
        let out = width << (block / blocks);
        let stride = if out == from { 1 } else { 2 };
        let name = |what: &str| format!("block{block}.{what}");
        let y = net.conv(&x, &name("one"), [from, out, 3, stride]);
        let y = net.norm(&y, out, false);
        let y = net.node("Relu", &name("relu"), &[&y]);
        let y = net.conv(&y, &name("two"), [out, out, 3, 1]);
        let y = net.norm(&y, out, idle.contains(&block));
        let short = if stride == 1 { x.clone() } else { net.conv(&x, &name("short"), [from, out, 1, 2]) };
        let sum = net.node("Add", &name("sum"), &[&y, &short]);
        x = net.node("Relu", &name("out"), &[&sum]);
        from = out;
    }
    let pooled = net.node("GlobalAveragePool", "pooled", &[&x]);
    let flat = net.node("Flatten", "flat", &[&pooled]);
    net.weights.extend([made("fc.weight", &[10, from], 0.0, 0.3), made("fc.bias", &[10], 0.0, 0.1)]);
    net.nodes.push(node("Gemm", &[&flat, "fc.weight", "fc.bias"], &["scores"], vec![attr_int("transB", 1)]));
    let images = [Dim::Named("batch"), Dim::Known(channels), Dim::Known(size), Dim::Known(size)];
    let inputs = vec![value("images", DataType::Float, &images)];
    let outputs = vec![value("scores", DataType::Float, &[Dim::Named("batch"), Dim::Known(10)])];
    let options = SaveOptions { overwrite: true, ..SaveOptions::default() };
    save(&model(17, graph("resnet", net.nodes, inputs, outputs, net.weights)), to, &options).unwrap();
}

/// Writes an encoder of so many layers of attention and two linear layers, without normalization, for 4 tokens of 8 numbers.
/// Weights are made up; their names begin with the layer's number.
///
/// # Panics
///
/// If it cannot be written.
pub fn encoder(to: &Path, layers: usize) {
    let mut net = Resnet::default();
    let mut x = "tokens".to_owned();
    for layer in 0..layers {
        let name = |what: &str| format!("{layer}.{what}");
        let [q, k, v] = ["q", "k", "v"].map(|what| net.linear(&x, &name(what), [8, 8]));
        net.nodes.push(node("Transpose", &[&k], &[&name("turned")], vec![attr_ints("perm", &[0, 2, 1])]));
        let scores = net.node("MatMul", &name("scores"), &[&q, &name("turned")]);
        let shares = net.node("Softmax", &name("shares"), &[&scores]);
        let mixed = net.node("MatMul", &name("mixed"), &[&shares, &v]);
        let attended = net.linear(&mixed, &name("o"), [8, 8]);
        let half = net.node("Add", &name("half"), &[&x, &attended]);
        let up = net.linear(&half, &name("up"), [8, 16]);
        let up = net.node("Relu", &name("relu"), &[&up]);
        let down = net.linear(&up, &name("down"), [16, 8]);
        x = net.node("Add", &name("whole"), &[&half, &down]);
    }
    net.linear(&x, "head", [8, 3]);
    let dims = |last: usize| [Dim::Named("batch"), Dim::Known(4), Dim::Known(last)];
    let inputs = vec![value("tokens", DataType::Float, &dims(8))];
    let outputs = vec![value("head", DataType::Float, &dims(3))];
    let options = SaveOptions { overwrite: true, ..SaveOptions::default() };
    save(&model(17, graph("encoder", net.nodes, inputs, outputs, net.weights)), to, &options).unwrap();
}
