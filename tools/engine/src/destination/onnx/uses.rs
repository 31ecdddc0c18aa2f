//! What the graph of a model does with its weights.

use std::collections::{BTreeMap, BTreeSet};

use niwaki_onnx::Attributes;
use niwaki_onnx::proto::{GraphProto, NodeProto};

/// What the nodes of a graph do with one weight, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is the right side of products, and nothing else.
    Product {
        /// Whether each of its rows belongs to one output, as `Gemm` with `transB` has it; else each
        /// of its columns does.
        outputs_first: bool,
        /// Whether products with a matrix of codes can stand for all of them.
        plain: bool,
    },
    /// Anything else, or nothing.
    Other,
}

/// The shape and the type of a dense initializer.
pub(super) type Known<'g> = BTreeMap<&'g str, (&'g [i64], i32)>;

/// How the graph uses each value that some node of it reads.
pub(super) fn uses(graph: &GraphProto) -> BTreeMap<&str, Use> {
    let known: Known<'_> = graph.initializer.iter().map(|t| (t.name(), (t.dims.as_slice(), t.data_type()))).collect();
    let mut found = BTreeMap::new();
    for node in &graph.node {
        for (at, name) in node.input.iter().enumerate() {
            merge(&mut found, name, one(node, at, &known));
        }
        inner(node).for_each(|graph| others(graph, &mut found));
    }
    graph.output.iter().for_each(|value| merge(&mut found, value.name(), Use::Other));
    found
}

fn merge<'g>(found: &mut BTreeMap<&'g str, Use>, name: &'g str, next: Use) {
    found
        .entry(name)
        .and_modify(|has| {
            *has = match (*has, next) {
                (Use::Product { outputs_first, plain }, Use::Product { outputs_first: again, plain: also })
                    if outputs_first == again =>
                {
                    Use::Product { outputs_first, plain: plain && also }
                }
                _ => Use::Other,
            };
        })
        .or_insert(next);
}

/// What a node does with its input number `at`.
fn one(node: &NodeProto, at: usize, known: &Known<'_>) -> Use {
    match (node.domain(), node.op_type(), at) {
        ("" | "ai.onnx", "MatMul", 1) => Use::Product { outputs_first: false, plain: true },
        ("" | "ai.onnx", "Gemm", 1) => gemm(node, known).unwrap_or(Use::Other),
        _ => Use::Other,
    }
}

/// The right side of a `Gemm`; none where its attributes are not what they should be.
fn gemm(node: &NodeProto, known: &Known<'_>) -> Option<Use> {
    let attributes = Attributes::new(node);
    let outputs_first = attributes.int_or("transB", 0).ok()? != 0;
    let alpha = attributes.float_or("alpha", 1.0).ok()?;
    let beta = attributes.float_or("beta", 1.0).ok()?;
    let left = attributes.int_or("transA", 0).ok()?;
    let weight = known.get(node.input.get(1)?.as_str());
    let outputs = weight.and_then(|(dims, _)| dims.get(usize::from(!outputs_first)).copied());
    let bias = match node.input.get(2).map(String::as_str) {
        None | Some("") => true,
        // A bias of another shape would have to be added by a node of its own.
        Some(name) => known.get(name).is_some_and(|(dims, kind)| {
            matches!(dims, [n] if Some(*n) == outputs) && weight.is_some_and(|(_, of)| of == kind) && beta == 1.0
        }),
    };
    Some(Use::Product { outputs_first, plain: alpha == 1.0 && left == 0 && bias })
}

/// The graphs that a node holds.
fn inner(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// Whatever a graph inside of a node reads is used otherwise.
fn others<'g>(graph: &'g GraphProto, found: &mut BTreeMap<&'g str, Use>) {
    for node in &graph.node {
        node.input.iter().for_each(|name| merge(found, name, Use::Other));
        inner(node).for_each(|graph| others(graph, found));
    }
    graph.output.iter().for_each(|value| merge(found, value.name(), Use::Other));
}

/// All names of values and nodes, those of inner graphs included.
pub(crate) fn names(graph: &GraphProto) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    collect(graph, &mut all);
    all
}

fn collect(graph: &GraphProto, all: &mut BTreeSet<String>) {
    let values = graph.input.iter().chain(&graph.output).chain(&graph.value_info);
    all.extend(values.map(|value| value.name().to_owned()));
    all.extend(graph.initializer.iter().map(|tensor| tensor.name().to_owned()));
    let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
    all.extend(sparse.map(|values| values.name().to_owned()));
    for node in &graph.node {
        all.extend(node.input.iter().chain(&node.output).cloned());
        all.insert(node.name().to_owned());
        inner(node).for_each(|graph| collect(graph, all));
    }
}

#[cfg(test)]
mod tests {
    use niwaki_onnx::DataType;
    use niwaki_onnx::build::{attr_float, attr_graph, attr_int, graph, initializer, node};

    use super::*;

    fn of(nodes: Vec<NodeProto>) -> Use {
        let tensors = vec![
            initializer("w", DataType::Float, &[4, 3], vec![0; 48]),
            initializer("bias", DataType::Float, &[3], vec![0; 12]),
            initializer("full", DataType::Float, &[2, 3], vec![0; 24]),
        ];
        let graph = graph("g", nodes, vec![], vec![], tensors);
        uses(&graph).get("w").copied().unwrap_or(Use::Other)
    }

    const PLAIN: Use = Use::Product { outputs_first: false, plain: true };

    #[test]
    fn products_are_told_from_other_uses() {
        let matmul = || node("MatMul", &["x", "w"], &["y"], vec![]);
        assert_eq!(of(vec![matmul()]), PLAIN);
        assert_eq!(of(vec![matmul(), node("MatMul", &["z", "w"], &["u"], vec![])]), PLAIN);
        assert_eq!(of(vec![node("MatMul", &["w", "x"], &["y"], vec![])]), Use::Other);
        assert_eq!(of(vec![matmul(), node("Gather", &["w", "i"], &["u"], vec![])]), Use::Other);
        let gemm = |inputs: &[&str], attributes| of(vec![node("Gemm", inputs, &["y"], attributes)]);
        assert_eq!(gemm(&["x", "w", "bias"], vec![]), PLAIN);
        let other = Use::Product { outputs_first: false, plain: false };
        assert_eq!(gemm(&["x", "w", "full"], vec![]), other);
        assert_eq!(gemm(&["x", "w", "unknown"], vec![]), other);
        assert_eq!(gemm(&["x", "w"], vec![attr_float("alpha", 2.0)]), other);
        assert_eq!(gemm(&["x", "w"], vec![attr_int("transA", 1)]), other);
        // Three biases are too few for rows of four.
        let first = |plain| Use::Product { outputs_first: true, plain };
        assert_eq!(gemm(&["x", "w", "bias"], vec![attr_int("transB", 1)]), first(false));
        assert_eq!(gemm(&["x", "w"], vec![attr_int("transB", 1)]), first(true));
        assert_eq!(gemm(&["x", "w"], vec![attr_float("transB", 1.0)]), Use::Other);
    }

    #[test]
    fn inner_graphs_count() {
        let inner = graph("inner", vec![node("MatMul", &["x", "w"], &["v"], vec![])], vec![], vec![], vec![]);
        let branch = node("If", &["c"], &["y"], vec![attr_graph("then_branch", inner)]);
        assert_eq!(of(vec![node("MatMul", &["x", "w"], &["u"], vec![]), branch]), Use::Other);
    }
}
