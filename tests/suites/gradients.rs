//! Gradients of whole networks: in doubles those of PyTorch in double precision, whose marks
//! `tests/scripts/gradients_golden.py` writes to `tests/golden/gradients.json`; in single floats those in doubles.

use niwaki_conformance::nets::{Net, numbers};
use niwaki_model::Tensor;
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
