use super::*;
use crate::attributes::Attribute;
use crate::operator::Pool;

fn run(op: &str, attributes: Vec<(&str, Attribute)>, inputs: Vec<Option<Tensor>>) -> Result<Vec<Tensor>, Fault> {
    let domain = if op == "DynamicQuantizeLSTM" { "com.microsoft" } else { "" };
    let mut definition =
        Definition { op: op.to_owned(), domain: domain.to_owned(), opset: 14, ..Definition::default() };
    definition.attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let pool = Pool::default();
    build(&definition)?.unwrap().run(&mut Inputs::new(inputs), &Context::new(1 << 30, &pool))
}

fn affine() -> (&'static str, Attribute) {
    ("activations", Attribute::Texts(vec!["Affine".to_owned(); 2]))
}

fn tensor(shape: &[usize], all: &[f32]) -> Option<Tensor> {
    Tensor::of(shape, all.to_vec())
}

#[test]
fn both_directions_and_lengths() {
    // h = x + 10 h, one way with a weight of 1, the other with a weight of 2; the second sequence is short.
    let x = tensor(&[3, 2, 1], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    let inputs = vec![
        x,
        tensor(&[2, 1, 1], &[1.0, 2.0]),
        tensor(&[2, 1, 1], &[10.0, 10.0]),
        None,
        Some(Tensor::vector(vec![3i32, 2])),
    ];
    let both = ("direction", Attribute::Text("bidirectional".to_owned()));
    let out = run("RNN", vec![affine(), both], inputs).unwrap();
    assert_eq!(out[0].shape(), [3, 2, 2, 1]);
    let y = [1.0, 4.0, 642.0, 108.0, 12.0, 45.0, 64.0, 10.0, 123.0, 0.0, 6.0, 0.0];
    assert_eq!(out[0].get::<f32>().unwrap(), y);
    assert_eq!(out[1].get::<f32>().unwrap(), [123.0, 45.0, 642.0, 108.0]);
}

#[test]
fn the_batch_may_come_first() {
    let inputs = vec![
        tensor(&[2, 3, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        tensor(&[1, 1, 1], &[1.0]),
        tensor(&[1, 1, 1], &[10.0]),
    ];
    let one = ("activations", Attribute::Texts(vec!["Affine".to_owned()]));
    let out = run("RNN", vec![one, ("layout", Attribute::Int(1))], inputs).unwrap();
    assert_eq!((out[0].shape(), out[1].shape()), (&[2, 3, 1, 1][..], &[2, 1, 1][..]));
    assert_eq!(out[0].get::<f32>().unwrap(), [1.0, 12.0, 123.0, 4.0, 45.0, 456.0]);
    assert_eq!(out[1].get::<f32>().unwrap(), [123.0, 456.0]);
}

#[test]
fn resets_before_and_after_the_product() {
    // Gates z, r, h, all linear: z = 0, r = 2, the recurrence of h is 3 with a bias of 5.
    let inputs = || {
        vec![
            tensor(&[1, 1, 1], &[1.0]),
            tensor(&[1, 3, 1], &[0.0, 2.0, 1.0]),
            tensor(&[1, 3, 1], &[0.0, 0.0, 3.0]),
            tensor(&[1, 6], &[0.0, 0.0, 0.0, 0.0, 0.0, 5.0]),
            None,
            tensor(&[1, 1, 1], &[7.0]),
        ]
    };
    let early = run("GRU", vec![affine()], inputs()).unwrap();
    assert_eq!(early[1].get::<f32>().unwrap(), [1.0 + 2.0 * 7.0 * 3.0 + 5.0]);
    let late = run("GRU", vec![affine(), ("linear_before_reset", Attribute::Int(1))], inputs()).unwrap();
    assert_eq!(late[1].get::<f32>().unwrap(), [1.0 + 2.0 * (7.0 * 3.0 + 5.0)]);
}

#[test]
fn cells_are_seen_through_peepholes() {
    // Gates i, o, f, c, all linear; i = 1 + 1 c, o = 2 + 1 C, f = 3 + 1 c.
    let three = ("activations", Attribute::Texts(vec!["Affine".to_owned(); 3]));
    let inputs = vec![
        tensor(&[1, 1, 1], &[1.0]),
        tensor(&[1, 4, 1], &[1.0, 2.0, 3.0, 4.0]),
        tensor(&[1, 4, 1], &[0.0; 4]),
        None,
        None,
        None,
        tensor(&[1, 1, 1], &[10.0]),
        tensor(&[1, 3], &[1.0; 3]),
    ];
    let out = run("LSTM", vec![three], inputs).unwrap();
    let cell = 13.0 * 10.0 + 11.0 * 4.0;
    assert_eq!(out[2].get::<f32>().unwrap(), [cell]);
    assert_eq!(out[1].get::<f32>().unwrap(), [(2.0 + cell) * cell]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let good = || vec![tensor(&[1, 1, 1], &[1.0]), tensor(&[1, 1, 1], &[1.0]), tensor(&[1, 1, 1], &[1.0])];
    assert!(run("RNN", vec![], good()).is_ok());
    assert!(run("LSTM", vec![], good()).is_err());
    assert!(run("RNN", vec![affine()], good()).is_err());
    assert!(run("RNN", vec![("hidden_size", Attribute::Int(2))], good()).is_err());
    assert!(run("RNN", vec![("activations", Attribute::Texts(vec!["Best".to_owned()]))], good()).is_err());
    let mut long = good();
    long.extend([None, Some(Tensor::vector(vec![2i32]))]);
    assert!(run("RNN", vec![], long).is_err());
    let mut bias = good();
    bias.push(tensor(&[1, 1], &[1.0]));
    assert!(run("RNN", vec![], bias).is_err());
}

#[test]
fn codes_and_their_state_round() {
    // Two steps of one cell, all gates linear, i = o = f = 1 by their biases; the new cell takes x and h by
    // codes of weight (code - 3) / 2. What x is rounded to: levels of 255 / 255 = 1 from 0.
    let three = ("activations", Attribute::Texts(vec!["Affine".to_owned(); 3]));
    let codes = |last: u8| Tensor::of([1, 1, 4], vec![3u8, 3, 3, last]);
    let inputs = |scales: usize| {
        vec![
            tensor(&[2, 1, 1], &[255.0, 1.4]),
            codes(7),
            codes(1),
            tensor(&[1, 8], &[1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            None,
            None,
            None,
            None,
            tensor(&[1, scales], &vec![0.5; scales]),
            Tensor::of([1, scales], vec![3u8; scales]),
            tensor(&[1, scales], &vec![0.5; scales]),
            Tensor::of([1, scales], vec![3u8; scales]),
        ]
    };
    for scales in [1, 4] {
        let out = run("DynamicQuantizeLSTM", vec![three.clone()], inputs(scales)).unwrap();
        // c = 2 * 255 = 510 = h; then c = 510 + 2 * 1 - 510: 1.4 was rounded to 1, 510 is a level.
        assert_eq!(out[0].get::<f32>().unwrap(), [510.0, 2.0]);
        assert_eq!(out[2].get::<f32>().unwrap(), [2.0]);
    }
    // Two elements of a batch share the levels of the state: 0 to 510, 2 apart.
    let mut two = inputs(1);
    two[0] = tensor(&[1, 2, 1], &[0.0, 0.0]);
    two[5] = tensor(&[1, 2, 1], &[510.0, 2.9]);
    let out = run("DynamicQuantizeLSTM", vec![three.clone()], two).unwrap();
    assert_eq!(out[0].get::<f32>().unwrap(), [-510.0, -2.0]);
    for (index, wrong) in [(8, tensor(&[1, 3], &[0.5; 3])), (9, None), (1, tensor(&[1, 1, 4], &[0.0; 4]))] {
        let mut bad = inputs(4);
        bad[index] = wrong;
        let refused = run("DynamicQuantizeLSTM", vec![three.clone()], bad);
        assert_eq!(refused.is_err(), index != 9, "{index}");
    }
}
