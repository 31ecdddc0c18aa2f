//! Graphs with something taken out of them.

use std::collections::BTreeSet;

use crate::proto::{GraphProto, NodeProto};

/// The graphs that a node holds.
fn inner(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// What a node takes, the graphs that it holds included.
fn taken<'g>(node: &'g NodeProto, all: &mut BTreeSet<&'g str>) {
    all.extend(node.input.iter().map(String::as_str).filter(|name| !name.is_empty()));
    for graph in inner(node) {
        all.extend(graph.output.iter().map(|output| output.name()));
        graph.node.iter().for_each(|node| taken(node, all));
    }
}

/// Lets nodes that take a value take another one instead, in graphs within nodes too. Results of the graph keep theirs.
pub fn bypass(graph: &mut GraphProto, value: &str, by: &str) {
    for node in &mut graph.node {
        for input in node.input.iter_mut().filter(|input| *input == value) {
            by.clone_into(input);
        }
        for attribute in &mut node.attribute {
            let graphs = attribute.g.iter_mut().chain(&mut attribute.graphs);
            graphs.for_each(|graph| {
                for output in graph.output.iter_mut().filter(|output| output.name() == value) {
                    output.name = Some(by.to_owned());
                }
                bypass(graph, value, by);
            });
        }
    }
}

/// Drops the nodes that no result needs, the initializers that only they took, and what is said of values that are no more.
pub fn drop_unneeded(graph: &mut GraphProto) {
    let (nodes, initializers, values) = unneeded(graph);
    let mut keep = nodes.iter();
    graph.node.retain(|_| keep.next().copied().unwrap_or(true));
    let gone = |name: &str| initializers.contains(name);
    graph.initializer.retain(|tensor| !gone(tensor.name()));
    graph.sparse_initializer.retain(|tensor| !gone(tensor.values.as_ref().map_or("", |values| values.name())));
    graph.input.retain(|input| !gone(input.name()));
    graph.value_info.retain(|value| !values.contains(value.name()) && !gone(value.name()));
    let annotated = |name: &str| values.contains(name) || gone(name);
    graph.quantization_annotation.retain(|one| !annotated(one.tensor_name()));
}

/// Whether each node is needed; the initializers that go with the others, and the values that these made.
fn unneeded(graph: &GraphProto) -> (Vec<bool>, BTreeSet<String>, BTreeSet<String>) {
    let mut needed: BTreeSet<&str> = graph.output.iter().map(|output| output.name()).collect();
    let mut keep = vec![false; graph.node.len()];
    // Nodes stand behind those whose values they take; where they do not, another round finds them.
    loop {
        let before = needed.len();
        for (node, keep) in graph.node.iter().zip(&mut keep).rev() {
            if !*keep && node.output.iter().any(|output| needed.contains(output.as_str())) {
                *keep = true;
                taken(node, &mut needed);
            }
        }
        if needed.len() == before {
            break;
        }
    }
    let (mut took, mut made) = (BTreeSet::new(), BTreeSet::new());
    for (node, _) in graph.node.iter().zip(&keep).filter(|(_, keep)| !**keep) {
        taken(node, &mut took);
        made.extend(node.output.iter().cloned());
    }
    let dense = graph.initializer.iter().map(|tensor| tensor.name());
    let sparse = graph.sparse_initializer.iter().filter_map(|tensor| Some(tensor.values.as_ref()?.name()));
    let gone = dense.chain(sparse).filter(|name| took.contains(name) && !needed.contains(name));
    let gone = gone.map(str::to_owned).collect();
    (keep, gone, made)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::DataType;
    use crate::build::{Dim, attr_graph, graph, initializer, node, value};

    fn names(all: &[NodeProto]) -> Vec<&str> {
        all.iter().map(|node| node.output[0].as_str()).collect()
    }

    fn small() -> GraphProto {
        let of = |name: &str| value(name, DataType::Float, &[Dim::Known(2)]);
        let weight = |name: &str| initializer(name, DataType::Float, &[2], vec![0; 8]);
        let within = graph("then", vec![node("Neg", &["b"], &["n"], vec![])], vec![], vec![of("n")], vec![]);
        let nodes = vec![
            node("Mul", &["x", "w"], &["a"], vec![]),
            node("Mul", &["a", "v"], &["m"], vec![]),
            node("Add", &["a", "m"], &["b"], vec![]),
            node("If", &["c"], &["y"], vec![attr_graph("then_branch", within)]),
        ];
        let mut graph =
            graph("g", nodes, vec![of("x"), of("v")], vec![of("y")], ["w", "v", "c", "own"].map(weight).into());
        graph.value_info = vec![of("a"), of("m"), of("b")];
        graph
    }

    #[test]
    fn what_a_bypassed_value_needed_goes_and_all_else_stays() {
        let mut graph = small();
        drop_unneeded(&mut graph);
        assert_eq!(graph, small(), "all is needed, by a graph within a node too");
        bypass(&mut graph, "b", "a");
        drop_unneeded(&mut graph);
        assert_eq!(names(&graph.node), ["a", "y"]);
        let weights: Vec<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
        assert_eq!(weights, ["w", "c", "own"], "what nothing took before is not what was removed");
        assert_eq!(graph.input.iter().map(|input| input.name()).collect::<Vec<_>>(), ["x"]);
        assert_eq!(graph.value_info.iter().map(|value| value.name()).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn results_of_graphs_within_nodes_follow() {
        let mut graph = small();
        let within = graph.node[3].attribute[0].g.as_mut().unwrap();
        within.output[0].name = Some("b".to_owned());
        within.node.clear();
        bypass(&mut graph, "b", "a");
        assert_eq!(graph.node[3].attribute[0].g.as_ref().unwrap().output[0].name(), "a");
        assert_eq!(graph.node[2].output, ["b"]);
    }
}
