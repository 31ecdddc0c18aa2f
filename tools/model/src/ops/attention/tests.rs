use super::*;
use crate::attributes::Attribute;
use crate::operator::Pool;
use crate::tensor::Tensor;

fn run(
    op: &str,
    outputs: usize,
    attributes: &[(&str, i64)],
    inputs: Vec<Option<Tensor>>,
) -> Result<Vec<Tensor>, Fault> {
    let mut definition = Definition { op: op.to_owned(), opset: 23, outputs, ..Definition::default() };
    if op == "MultiHeadAttention" {
        definition.domain = "com.microsoft".to_owned();
    }
    for (name, value) in attributes {
        definition.attributes.insert((*name).to_owned(), Attribute::Int(*value));
    }
    let pool = Pool::default();
    build(&definition)?.unwrap().run(&mut Inputs::new(inputs), &Context::new(1 << 30, &pool))
}

fn tensor(shape: &[usize], all: &[f32]) -> Option<Tensor> {
    Tensor::of(shape, all.to_vec())
}

#[test]
fn equal_keys_give_the_mean_of_what_is_seen() {
    // Two queries, three keys that are all alike.
    let inputs = || {
        vec![
            tensor(&[1, 1, 2, 1], &[1.0, 2.0]),
            tensor(&[1, 1, 3, 1], &[1.0; 3]),
            tensor(&[1, 1, 3, 1], &[3.0, 6.0, 9.0]),
        ]
    };
    let out = run("Attention", 1, &[], inputs()).unwrap();
    assert_eq!(out[0].get::<f32>().unwrap(), [6.0, 6.0]);
    let out = run("Attention", 1, &[("is_causal", 1)], inputs()).unwrap();
    assert_eq!(out[0].get::<f32>().unwrap(), [3.0, 4.5]);
    let mut masked = inputs();
    masked.push(Tensor::new([2, 2], Data::Bool(crate::Buffer::from(vec![0, 1, 1, 1]))));
    // The mask says nothing of the third key, so it is not seen.
    let out = run("Attention", 1, &[], masked).unwrap();
    assert_eq!(out[0].get::<f32>().unwrap(), [6.0, 4.5]);
}

#[test]
fn heads_share_keys_in_groups() {
    // Four heads of queries, two of keys: one after the other.
    let inputs = vec![tensor(&[1, 1, 4], &[1.0; 4]), tensor(&[1, 1, 2], &[1.0; 2]), tensor(&[1, 1, 2], &[5.0, 7.0])];
    let out = run("Attention", 1, &[("q_num_heads", 4), ("kv_num_heads", 2)], inputs).unwrap();
    assert_eq!((out[0].shape(), out[0].get::<f32>().unwrap()), (&[1, 1, 4][..], &[5.0, 5.0, 7.0, 7.0][..]));
}

#[test]
fn keys_of_before_come_first() {
    let inputs = vec![
        tensor(&[1, 2, 1], &[1.0; 2]),
        tensor(&[1, 2, 1], &[1.0; 2]),
        tensor(&[1, 2, 1], &[4.0, 8.0]),
        None,
        None,
        None,
        tensor(&[1, 1, 1, 1], &[1.0]),
        tensor(&[1, 1, 1, 1], &[2.0]),
    ];
    let out = run("MultiHeadAttention", 3, &[("num_heads", 1), ("unidirectional", 1)], inputs).unwrap();
    assert_eq!(out[0].get::<f32>().unwrap()[0], 3.0);
    assert!((out[0].get::<f32>().unwrap()[1] - 14.0 / 3.0).abs() < 1e-6);
    assert_eq!((out[2].shape(), out[2].get::<f32>().unwrap()), (&[1, 1, 3, 1][..], &[2.0, 4.0, 8.0][..]));
}

#[test]
fn what_does_not_fit_is_refused() {
    let one = || tensor(&[1, 1, 2], &[1.0; 2]);
    assert!(run("Attention", 1, &[], vec![one(), one(), one()]).is_err());
    assert!(run("Attention", 1, &[("q_num_heads", 0)], vec![one(), one(), one()]).is_err());
    let heads = [("q_num_heads", 2), ("kv_num_heads", 2)];
    assert!(run("Attention", 1, &heads, vec![one(), one(), one()]).is_ok());
    assert!(run("Attention", 1, &heads, vec![one(), one(), tensor(&[1, 2, 2], &[1.0; 4])]).is_err());
    assert!(run("Attention", 1, &heads, vec![one(), one(), one(), tensor(&[3, 1], &[0.0; 3])]).is_err());
    assert!(run("Attention", 1, &heads, vec![one(), one(), one(), None, tensor(&[1, 1, 1, 1], &[0.0])]).is_err());
    assert!(run("MultiHeadAttention", 1, &[("num_heads", 2)], vec![one(), one(), one(), one()]).is_err());
}
