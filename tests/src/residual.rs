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
