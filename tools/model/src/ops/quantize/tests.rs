use super::*;
use crate::attributes::Attribute;
use crate::operator::Pool;

fn run(op: &str, attributes: &[(&str, i64)], inputs: Vec<Tensor>) -> Result<Vec<Tensor>, Fault> {
    let mut definition = Definition { op: op.to_owned(), opset: 21, ..Definition::default() };
    for (name, value) in attributes {
        definition.attributes.insert((*name).to_owned(), Attribute::Int(*value));
    }
    let pool = Pool::default();
    let mut inputs = Inputs::new(inputs.into_iter().map(Some).collect());
    build(&definition)?.unwrap().run(&mut inputs, &Context::new(1 << 30, &pool))
}

fn floats(shape: &[usize], all: &[f32]) -> Tensor {
    Tensor::of(shape, all.to_vec()).unwrap()
}

#[test]
fn codes_are_rounded_to_even_and_saturate() {
    let x = floats(&[6], &[1.0, 3.0, -1.0, 1e9, f32::NEG_INFINITY, f32::NAN]);
    let out = run("QuantizeLinear", &[], vec![x, Tensor::scalar(2.0f32), Tensor::scalar(10u8)]).unwrap();
    assert_eq!(out[0].get::<u8>().unwrap(), [10, 12, 10, 255, 0, 10]);
}

#[test]
fn four_bits_and_blocks() {
    // Two rows, blocks of 2 along the last dimension, the last one short.
    let x = floats(&[2, 3], &[1.0, -9.0, 4.0, 2.0, 20.0, -3.0]);
    let scale = floats(&[2, 2], &[1.0, 2.0, 0.5, 1.0]);
    let attributes = &[("axis", -1), ("block_size", 2), ("output_dtype", 22)];
    let out = run("QuantizeLinear", attributes, vec![x, scale.clone()]).unwrap();
    assert_eq!(out[0].get::<i8>().unwrap(), [1, -8, 2, 4, 7, -3]);
    let back = run("DequantizeLinear", &[("axis", 1), ("block_size", 2)], vec![out[0].clone(), scale]).unwrap();
    assert_eq!(back[0].get::<f32>().unwrap(), [1.0, -8.0, 4.0, 2.0, 3.5, -3.0]);
}

#[test]
fn scales_along_an_axis() {
    let codes = Tensor::of([2, 2, 2], vec![1u8, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    let (scale, zero) = (floats(&[2], &[1.0, 10.0]), Tensor::vector(vec![0u8, 4]));
    let of = |axis| {
        let inputs = vec![codes.clone(), scale.clone(), zero.clone()];
        run("DequantizeLinear", &[("axis", axis)], inputs).unwrap()[0].get::<f32>().unwrap().to_vec()
    };
    assert_eq!(of(1), [1.0, 2.0, -10.0, 0.0, 5.0, 6.0, 30.0, 40.0]);
    assert_eq!(of(0), [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0]);
    assert_eq!(of(-1), [1.0, -20.0, 3.0, 0.0, 5.0, 20.0, 7.0, 40.0]);
    // Blocks along the first dimension: each place after it has scales of its own.
    let scale = floats(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let out = run("DequantizeLinear", &[("axis", 0), ("block_size", 2)], vec![codes, scale]).unwrap();
    assert_eq!(out[0].get::<f32>().unwrap(), [1.0, 4.0, 9.0, 16.0, 5.0, 12.0, 21.0, 32.0]);
}

#[test]
fn ranges_hold_zero() {
    let out = run("DynamicQuantizeLinear", &[], vec![floats(&[3], &[0.0, 51.0, 25.5])]).unwrap();
    assert_eq!(out[0].get::<u8>().unwrap(), [0, 255, 128]);
    assert_eq!((out[1].get::<f32>().unwrap(), out[2].get::<u8>().unwrap()), (&[0.2f32][..], &[0u8][..]));
}

#[test]
fn scales_that_do_not_fit_are_refused() {
    let x = floats(&[2, 3], &[0.0; 6]);
    let fault = run("QuantizeLinear", &[], vec![x.clone(), floats(&[2], &[1.0; 2])]).unwrap_err();
    assert_eq!(fault.to_string(), "a scale of 2, one of 3 expected");
    assert!(run("QuantizeLinear", &[("axis", 5)], vec![x.clone(), floats(&[3], &[1.0; 3])]).is_err());
    assert!(run("QuantizeLinear", &[("block_size", -1)], vec![x.clone(), Tensor::scalar(1.0f32)]).is_err());
    assert!(run("QuantizeLinear", &[("output_dtype", 17)], vec![x.clone(), Tensor::scalar(1.0f32)]).is_err());
    let two = Tensor::vector(vec![0u8, 0]);
    assert!(run("QuantizeLinear", &[], vec![x.clone(), Tensor::scalar(1.0f32), two]).is_err());
    assert!(run("DequantizeLinear", &[], vec![x, Tensor::scalar(1.0f32)]).is_err());
}
