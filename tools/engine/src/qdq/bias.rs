//! Biases that make up for what rounding the weights moves outputs by on average.
//!
//! ```text
//! b'_o = b_o - sum over inputs i of (w'_oi - w_oi) mean(x_i)
//! ```
//!
//! (Nagel et al., *Data-Free Quantization Through Weight Equalization and Bias Correction*, 2019, section 4.2.) The means are
//! those that statistics know; of a convolution those of its channels, as if windows never reached beyond the image.

use niwaki_codes::simd::Level;
use niwaki_model::Tensor;
use niwaki_onnx::build::{initializer, node};
use niwaki_onnx::proto::{GraphProto, NodeProto};
use niwaki_onnx::{DataType, Model};
use niwaki_quant::fake_quant::{Learned, fake_quantize};

use super::Layer;
use crate::mask::matrix;
use crate::matrix::by_row;

/// What each output of a layer is to get more. `means` are of what a row is multiplied with, for each group of channels.
pub(super) fn corrections(weights: &Tensor, layer: Layer<'_>, grids: &[Learned], means: &[Vec<f64>]) -> Vec<f32> {
    let all = weights.get::<f32>().unwrap_or_default();
    let (rows, cols) = matrix(weights.shape());
    let by_row = by_row(all, cols, layer.turned);
    let (outputs, each) = if layer.turned { (cols, rows) } else { (rows, cols) };
    let level = Level::best();
    let mut near = vec![0.0; each];
    let correction = |(nth, (row, grid)): (usize, (&[f32], &Learned))| {
        fake_quantize(level, *grid, row, &mut near);
        let means = means.get(nth * means.len() / outputs.max(1)).map_or(&[][..], Vec::as_slice);
        let moved = near.iter().zip(row).zip(means).map(|((near, w), mean)| (f64::from(*near) - f64::from(*w)) * mean);
        -moved.sum::<f64>() as f32
    };
    by_row.chunks(each.max(1)).zip(grids).enumerate().map(correction).collect()
}

/// Lets the node that takes a value as its weight add more to each output: in its own bias, where that is fixed, else behind
/// it.
pub(super) fn add(graph: &mut GraphProto, model: &Model, (weight, dequantized): (&str, &str), more: &[f32]) {
    let takes = |node: &NodeProto| node.input.get(1).is_some_and(|name| name == dequantized);
    let Some(at) = graph.node.iter().position(takes) else { return };
    let name = format!("{weight}.bias.corrected");
    let of = |all: &[f32]| {
        let bytes: Vec<u8> = all.iter().flat_map(|x| x.to_le_bytes()).collect();
        initializer(&name, DataType::Float, &[all.len()], bytes)
    };
    let own = own_bias(graph, model, at);
    let node_at = &mut graph.node[at];
    match own {
        Own::None => {
            node_at.input.truncate(2);
            node_at.input.push(name.clone());
            graph.initializer.push(of(more));
        }
        Own::Fixed(old) if old.len() == more.len() => {
            let sum: Vec<f32> = old.iter().zip(more).map(|(old, more)| old + more).collect();
            let before = std::mem::replace(&mut node_at.input[2], name.clone());
            graph.initializer.push(of(&sum));
            drop_unused(graph, &before);
        }
        Own::Fixed(_) | Own::Other => {
            let Some(output) = node_at.output.first_mut() else { return };
            let before = std::mem::replace(output, format!("{weight}.product"));
            let product = output.clone();
            let mut tensor = of(more);
            if node_at.op_type() == "Conv" {
                // Along the channels.
                tensor.dims.extend([1, 1]);
            }
            graph.initializer.push(tensor);
            graph.node.insert(at + 1, node("Add", &[&product, &name], &[&before], Vec::new()));
        }
    }
}

/// Drops an initializer that no node takes any more.
fn drop_unused(graph: &mut GraphProto, name: &str) {
    // Graphs within nodes may take it without saying so.
    let takes = |node: &NodeProto| {
        let within = node.attribute.iter().any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty());
        within || node.input.iter().any(|input| input == name)
    };
    if graph.node.iter().any(takes) || graph.output.iter().any(|output| output.name() == name) {
        return;
    }
    graph.initializer.retain(|tensor| tensor.name() != name);
    graph.input.retain(|input| input.name() != name);
}

/// The bias that a node has itself.
enum Own {
    /// It may have one, and has none.
    None,
    /// It is always this.
    Fixed(Vec<f32>),
    /// It cannot have one, or one that is computed or scaled.
    Other,
}

fn own_bias(graph: &GraphProto, model: &Model, at: usize) -> Own {
    let node = &graph.node[at];
    let scaled = node.attribute.iter().any(|one| matches!(one.name(), "alpha" | "beta") && one.f() != 1.0);
    if !matches!(node.op_type(), "Conv" | "Gemm") || scaled {
        return Own::Other;
    }
    match node.input.get(2).map_or("", String::as_str) {
        "" => Own::None,
        bias => {
            let found = model.initializers().find(|one| one.name() == bias);
            let read = found.and_then(|found| model.read(found).ok()).filter(|read| read.dtype == DataType::Float);
            read.map_or(Own::Other, |read| {
                let numbers = read.bytes.chunks_exact(4).filter_map(|x| Some(f32::from_le_bytes(x.try_into().ok()?)));
                Own::Fixed(numbers.collect())
            })
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use niwaki_codes::Bits;
    use niwaki_onnx::build::{Dim, attr_float, graph, model, value};
    use niwaki_onnx::{Limits, SaveOptions, save};

    use super::*;

    /// What becomes of a node that takes `x`, a weight and perhaps a bias of 1, 2, with 10, 20 more.
    fn added(name: &str, node: NodeProto) -> GraphProto {
        let of = |name: &str| value(name, DataType::Float, &[Dim::Known(2)]);
        let floats = |all: [f32; 2]| all.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let bias = initializer("b", DataType::Float, &[2], floats([1.0, 2.0]));
        let nodes = vec![node, build_node("Relu", &["y"], &["z"])];
        let proto = model(17, graph("g", nodes, vec![of("x"), of("w.dequantized")], vec![of("z")], vec![bias]));
        let path = std::env::temp_dir().join(format!("niwaki-bias-{name}-{}.onnx", std::process::id()));
        save(&proto, &path, &SaveOptions { overwrite: true, ..SaveOptions::default() }).unwrap();
        let model = Model::open(&path, &Limits::default()).unwrap();
        let mut graph = proto.graph.unwrap();
        add(&mut graph, &model, ("w", "w.dequantized"), &[10.0, 20.0]);
        std::fs::remove_file(path).unwrap();
        graph
    }

    fn build_node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
        node(op, inputs, outputs, vec![])
    }

    fn numbers(graph: &GraphProto, name: &str) -> Option<Vec<f32>> {
        let tensor = graph.initializer.iter().find(|tensor| tensor.name() == name)?;
        Some(tensor.raw_data().chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect())
    }

    #[test]
    fn a_bias_is_where_the_node_can_have_one_or_behind_it() {
        let corrected = "w.bias.corrected";
        for op in ["Conv", "Gemm"] {
            let with = added("with", build_node(op, &["x", "w.dequantized", "b"], &["y"]));
            assert_eq!(with.node[0].input, ["x", "w.dequantized", corrected]);
            assert_eq!((numbers(&with, corrected), numbers(&with, "b")), (Some(vec![11.0, 22.0]), None));
            let without = added("without", build_node(op, &["x", "w.dequantized"], &["y"]));
            assert_eq!(without.node[0].input, ["x", "w.dequantized", corrected]);
            assert_eq!(numbers(&without, corrected), Some(vec![10.0, 20.0]));
            assert_eq!(without.node.len(), 2);
        }
        let scaled = node("Gemm", &["x", "w.dequantized", "b"], &["y"], vec![attr_float("beta", 0.5)]);
        for node in [build_node("MatMul", &["x", "w.dequantized"], &["y"]), scaled] {
            let behind = added("behind", node);
            let ops: Vec<&str> = behind.node.iter().map(|node| node.op_type()).collect();
            assert_eq!(ops[1..], ["Add", "Relu"]);
            assert_eq!(behind.node[0].output, ["w.product"]);
            assert_eq!(
                (&behind.node[1].input[..], &behind.node[1].output[..]),
                (&["w.product".to_owned(), corrected.to_owned()][..], &["y".to_owned()][..])
            );
            assert_eq!(numbers(&behind, corrected), Some(vec![10.0, 20.0]));
        }
    }

    #[test]
    fn what_outputs_move_by_on_average_is_taken_back() {
        // Steps of 1: weights become 1, 2 and 0, -1.
        let weights = Tensor::of([2, 2], vec![0.75f32, 2.25, 0.25, -0.75]).unwrap();
        let grids = [Learned::new(Bits::MAX, true, 1.0, 0.0); 2];
        let of =
            |turned, means: &[f64]| corrections(&weights, Layer { weight: "w", turned }, &grids, &[means.to_vec()]);
        assert_eq!(of(false, &[2.0, 4.0]), [-(0.25 * 2.0 - 0.25 * 4.0), -(-0.25 * 2.0 - 0.25 * 4.0)]);
        assert_eq!(of(true, &[2.0, 4.0]), [-(0.25 * 2.0 - 0.25 * 4.0), -(-0.25 * 2.0 - 0.25 * 4.0)]);
        // Two groups, each of one output.
        let two =
            corrections(&weights, Layer { weight: "w", turned: false }, &grids, &[vec![2.0, 4.0], vec![0.0, 8.0]]);
        assert_eq!(two, [0.5, 2.0]);
    }
}
