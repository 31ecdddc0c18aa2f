//! One test for each rule that opening tolerates.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod made;

use made::{Made, key, string, tensor};
use niwaki_gguf::{parse, verify};
use niwaki_tensors::Limits;

fn faults_of(bytes: &[u8]) -> Vec<String> {
    let header = parse(bytes, &Limits::default()).unwrap();
    verify(&header, bytes).iter().map(ToString::to_string).collect()
}

fn faults(made: &Made) -> Vec<String> {
    faults_of(&made.bytes())
}

fn texts(items: &[&str]) -> Vec<u8> {
    let mut out = [&8u32.to_le_bytes()[..], &(items.len() as u64).to_le_bytes()].concat();
    items.iter().for_each(|item| out.extend(string(item)));
    out
}

#[test]
fn a_good_file_has_none() {
    assert_eq!(faults(&Made::new()), [""; 0]);
}

#[test]
fn padding_that_is_not_zero() {
    let mut made = Made::new();
    made.data[29] = 1;
    made.data[127] = 1;
    let start = parse(&made.bytes(), &Limits::default()).unwrap().data_start;
    let said = |at: usize| format!("the padding is not zero at byte {at}");
    assert_eq!(faults(&made), [said(start + 29), said(start + 127)]);
    let mut bytes = Made::new().bytes();
    bytes[start - 1] = 9;
    assert_eq!(faults_of(&bytes), [said(start - 1)]);
}

#[test]
fn gaps_order_and_ends() {
    let mut made = Made::new();
    made.tensors[1] = tensor("b", &[32, 2], 8, 64);
    made.data.splice(32..32, [7; 32]);
    assert_eq!(faults(&made), ["bytes 24 to 64 of the data, before tensor `b`, belong to none"]);
    let mut made = Made::new();
    made.tensors.swap(0, 1);
    assert_eq!(faults(&made), ["tensor `a` stands before one that is listed earlier"]);
    let mut made = Made::new();
    made.data.extend([1; 40]);
    let has = made.bytes().len();
    assert_eq!(faults(&made), [format!("the last 40 of {has} bytes belong to no tensor")]);
    let mut made = Made::new();
    made.data.truncate(100);
    assert_eq!(faults(&made), ["28 bytes of padding are missing at the end"]);
}

#[test]
fn keys_that_are_missing_or_wrong() {
    let mut made = Made::new();
    made.keys.clear();
    let missing = |key: &str| format!("the key `{key}` is missing");
    assert_eq!(faults(&made), [missing("general.architecture"), missing("general.quantization_version")]);
    made.keys.push(key("general.architecture", 0, [1]));
    made.keys.push(key("general.quantization_version", 4, [3, 0, 0, 0]));
    made.keys.push(key("general.Näme", 0, [1]));
    assert_eq!(
        faults(&made),
        [
            "key `general.architecture` is of type u8; string is expected",
            "key `general.quantization_version` is 3; 2 is expected",
            "key `general.Näme` has other characters than a to z, 0 to 9, `_`, `-` and `.`",
        ]
    );
}

#[test]
fn tokenizers_that_do_not_add_up() {
    let types = [&5u32.to_le_bytes()[..], &1u64.to_le_bytes(), &[1, 0, 0, 0]].concat();
    let made = Made::new()
        .with_key(key("tokenizer.ggml.tokens", 9, texts(&["a", "b"])))
        .with_key(key("tokenizer.ggml.token_type", 9, types.clone()))
        .with_key(key("tokenizer.ggml.scores", 9, types))
        .with_key(key("tokenizer.ggml.merges", 8, string("a b")))
        .with_key(key("tokenizer.ggml.bos_token_id", 4, [1, 0, 0, 0]))
        .with_key(key("tokenizer.ggml.eos_token_id", 4, [2, 0, 0, 0]))
        .with_tensor(tensor("token_embd.weight", &[0, 3], 0, 128));
    assert_eq!(
        faults(&made),
        [
            "key `tokenizer.ggml.token_type` has 1 elements; there are 2 tokens",
            "key `tokenizer.ggml.scores` is of type array of i32; array of f32 is expected",
            "key `tokenizer.ggml.merges` is of type string; array of string is expected",
            "key `tokenizer.ggml.eos_token_id` is 2; there are 2 tokens",
            "tensor `token_embd.weight` has 3 rows; there are 2 tokens",
        ]
    );
}

#[test]
fn tensors_that_no_engine_reads() {
    let long = "n".repeat(64);
    let mut made = Made::new()
        .with_tensor(tensor(&long, &[1], 77, 128))
        .with_tensor(tensor("d", &[32], 9, 160))
        .with_tensor(tensor("e", &[1], 36, 224));
    made.data.resize(256, 0);
    assert_eq!(
        faults(&made),
        [
            format!("tensor `{long}`: its name has 64 bytes; ggml reads up to 63"),
            format!("tensor `{long}`: type 77 is unknown"),
            "tensor `d`: Q8_1 is a type of activations, not of weights".to_owned(),
            "tensor `e`: type 36 is one that ggml has retired".to_owned(),
        ]
    );
}

#[test]
fn numbers_that_are_not_finite() {
    let mut made = Made::new();
    made.data[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    made.data[20..24].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
    made.data[32 + 34..32 + 36].copy_from_slice(&[0x00, 0x7c]);
    assert_eq!(
        faults(&made),
        [
            "tensor `a`: 2 values are not finite, the first in element 1",
            "tensor `b`: 1 scales are not finite, the first in block 1",
        ]
    );
}

#[test]
fn every_type_with_half_scales_shows_a_nan() {
    // Offsets of the halves, copied from the description of the blocks.
    let cases: [(u32, u64, usize, &[usize]); 12] = [
        (2, 32, 18, &[0]),
        (3, 32, 20, &[0, 2]),
        (6, 32, 22, &[0]),
        (7, 32, 24, &[0, 2]),
        (8, 32, 34, &[0]),
        (10, 256, 84, &[80, 82]),
        (11, 256, 110, &[108]),
        (12, 256, 144, &[0, 2]),
        (13, 256, 176, &[0, 2]),
        (14, 256, 210, &[208]),
        (20, 32, 18, &[0]),
        (23, 256, 136, &[0]),
    ];
    for (id, elements, bytes, halves) in cases {
        for at in 0..bytes - 1 {
            let mut made = Made::new().with_tensor(tensor("c", &[elements], id, 128));
            made.data.resize((128 + bytes).next_multiple_of(32), 0);
            made.data[128 + at..128 + at + 2].copy_from_slice(&[0x01, 0xfc]);
            // A pattern between two halves touches neither's exponent as a whole.
            assert_eq!(faults(&made).len(), usize::from(halves.contains(&at)), "type {id} at {at}");
        }
    }
}
