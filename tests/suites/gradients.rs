//! Gradients of whole networks: in doubles those of PyTorch in double precision, whose marks
//! `tests/scripts/gradients_golden.py` writes to `tests/golden/gradients.json`; in single floats those in doubles.

use niwaki_conformance::folder::Folder;
use niwaki_conformance::nets::{Net, numbers, tensor};
use niwaki_conformance::transformer::{Family, Transformer, VOCABULARY};
use niwaki_engine::Given;
use niwaki_engine::model::Model;
use niwaki_model::{Dim, Dtype, Graph, Tape, Tensor, ValueId};
use serde_json::Value;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/gradients.json");
    let text = std::fs::read_to_string(path).expect("the golden file");
    serde_json::from_str(&text).expect("JSON")
}

fn doubles(tensor: &Tensor) -> Vec<f64> {
    match tensor.get::<f64>() {
        Some(all) => all.to_vec(),
        None => tensor.get::<f32>().expect("floats").iter().map(|x| f64::from(*x)).collect(),
    }
}

/// The norm of a gradient, and its products with made-up vectors, which no error of direction leaves as they are.
fn marks(gradient: &[f64]) -> Vec<f64> {
    let norm = gradient.iter().map(|x| x * x).sum::<f64>().sqrt();
    let product = |seed: u64| {
        let by = numbers(gradient.len(), 3_000 + seed);
        gradient.iter().zip(by).map(|(x, by)| x * f64::from(by)).sum()
    };
    std::iter::once(norm).chain((0..4).map(product)).collect()
}

fn check(name: &str, single: Net, double: Net) {
    let expected = &golden()[name];
    let (exact, _) = double.gradients();
    let (found, _) = single.gradients();
    assert_eq!(exact.len(), expected.as_object().expect("an object").len(), "as many weights as in PyTorch");
    let whole = exact.iter().map(|(_, g)| doubles(g).iter().map(|x| x * x).sum::<f64>()).sum::<f64>().sqrt();
    for ((weight, exact), (_, found)) in exact.iter().zip(&found) {
        let (exact, found) = (doubles(exact), doubles(found));
        let norm = marks(&exact)[0];
        let theirs = expected[weight].as_array().unwrap_or_else(|| panic!("no {weight} in the golden file"));
        for (ours, theirs) in marks(&exact).iter().zip(theirs) {
            let theirs = theirs.as_f64().expect("a number");
            assert!((ours - theirs).abs() <= 1e-9 * norm.max(1e-3), "{name}, {weight}: {ours}, PyTorch {theirs}");
        }
        let off = exact.iter().zip(&found).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        // A bias of keys changes nothing, since softmax takes it away: its gradient is rounding alone.
        let size = if norm <= 1e-9 * whole { whole } else { norm };
        assert!(off <= 1e-5 * size, "{name}, {weight}: off by {off} in f32, of {norm}");
    }
}

#[test]
fn gradients_of_a_resnet_are_those_of_pytorch() {
    check("resnet20", Net::resnet20(4, false), Net::resnet20(4, true));
}

#[test]
fn gradients_of_an_encoder_layer_are_those_of_pytorch() {
    check("encoder", Net::encoder([2, 9], 32, 4, false), Net::encoder([2, 9], 32, 4, true));
}

/// Inputs of a text for a graph of a folder: tokens, positions, every row of logits, empty caches.
fn text(graph: &Graph, tokens: usize) -> Vec<Tensor> {
    let whole = |all: Vec<i64>, rank: usize| {
        let shape = if rank == 2 { vec![1, tokens] } else { vec![tokens] };
        Tensor::of(shape, all).expect("as many as the shape says")
    };
    let input = |input: &niwaki_model::Input| {
        let dims = input.dims.as_deref().expect("known dimensions");
        match (input.dtype, graph.name(input.value)) {
            (Some(Dtype::I64), "input_ids") => {
                whole((0..tokens).map(|at| (at * 17 % VOCABULARY) as i64).collect(), dims.len())
            }
            (Some(Dtype::I64), "attention_mask") => {
                whole((0..tokens).map(|at| i64::from(at != 2)).collect(), dims.len())
            }
            (Some(Dtype::I64), "token_type_ids") => whole(vec![0; tokens], dims.len()),
            (Some(Dtype::I64), _) => whole((0..tokens as i64).collect(), dims.len()),
            _ => {
                let size = |dim: &Dim| if let Dim::Fixed(size) = dim { *size } else { 0 };
                Tensor::of::<f32>(dims.iter().map(size).collect::<Vec<_>>(), vec![]).expect("nothing")
            }
        }
    };
    graph.inputs().iter().map(input).collect()
}

/// The sum of made-up multiples of the first output, in doubles; and where gradients are asked for, those.
fn mixed(graph: &Graph, wanted: &[ValueId]) -> (f64, Vec<Option<Tensor>>, usize) {
    let tape = Tape::new(graph.clone(), wanted.to_vec()).expect("a model that gradients flow through");
    let there = tape.forward(text(graph, 7), None).expect("a text that fits");
    let y = &there.outputs[0];
    let by = tensor(y.shape(), numbers(y.len(), 5), true);
    let sum =
        y.get::<f64>().expect("doubles").iter().zip(by.get::<f64>().expect("doubles")).map(|(y, by)| y * by).sum();
    let mut seeds = vec![None; there.outputs.len()];
    seeds[0] = Some(by);
    (sum, tape.backward(there, seeds).expect("gradients").gradients, tape.stops().len())
}

#[test]
fn gradients_of_transformers_in_folders_are_those_of_finite_differences() {
    for family in [Family::Llama, Family::Gemma3, Family::Bert, Family::DistilBert] {
        let folder = Folder::new("gradients");
        Transformer { family, layers: vec![0, 1], idle: vec![] }.write(folder.path(), 1);
        let (model, _) = Model::of_folder(folder.path(), Given::default()).expect("a folder");
        let mut graph = model.graph().clone();
        // All weights as doubles.
        let floats: Vec<(ValueId, Vec<usize>, Vec<f64>)> = graph
            .weights()
            .filter(|(_, w)| w.rank() > 0 && matches!(w.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16))
            .map(|(value, w)| (value, w.shape().to_vec(), widened(w)))
            .collect();
        for (value, shape, all) in &floats {
            graph.set_weight(*value, Tensor::of(shape.as_slice(), all.clone()).expect("as many"));
        }
        let wanted: Vec<ValueId> = floats.iter().map(|(value, ..)| *value).collect();
        let (_, gradients, stops) = mixed(&graph, &wanted);
        assert_eq!(stops, 0, "{family:?}: a gradient ends somewhere");
        for (nth, ((value, shape, all), gradient)) in floats.iter().zip(&gradients).enumerate() {
            let name = graph.name(*value).to_owned();
            let Some(gradient) = gradient else {
                // A pooler is no part of hidden states.
                assert!(name.contains("pooler"), "{family:?}: no gradient of {name}");
                continue;
            };
            let along: Vec<f64> = numbers(all.len(), nth as u64).into_iter().map(f64::from).collect();
            let moved = |by: f64| {
                let mut graph = graph.clone();
                let all = all.iter().zip(&along).map(|(x, d)| x + by * d).collect();
                graph.set_weight(*value, Tensor::of(shape.as_slice(), all).expect("as many"));
                mixed(&graph, &[]).0
            };
            let step = 1e-4;
            let slope = (8.0 * (moved(step) - moved(-step)) - (moved(2.0 * step) - moved(-2.0 * step))) / (12.0 * step);
            let found: f64 = doubles(gradient).iter().zip(&along).map(|(g, d)| g * d).sum();
            let size = doubles(gradient).iter().map(|g| g * g).sum::<f64>().sqrt().max(1e-6);
            assert!((slope - found).abs() <= 1e-6 * size.max(1.0), "{family:?}, {name}: {found}, {slope} expected");
        }
    }
}

fn widened(tensor: &Tensor) -> Vec<f64> {
    use niwaki_model::Data;
    match tensor.data() {
        Data::F16(all) => all.as_slice().iter().map(|x| x.to_f64()).collect(),
        Data::Bf16(all) => all.as_slice().iter().map(|x| x.to_f64()).collect(),
        _ => doubles(tensor),
    }
}
