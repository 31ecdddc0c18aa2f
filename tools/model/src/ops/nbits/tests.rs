use super::*;
use crate::attributes::Attribute;
use crate::operator::Pool;

fn run(attributes: &[(&str, i64)], inputs: Vec<Option<Tensor>>) -> Result<Tensor, Fault> {
    let mut definition =
        Definition { op: "MatMulNBits".to_owned(), domain: "com.microsoft".to_owned(), ..Definition::default() };
    for (name, value) in attributes {
        definition.attributes.insert((*name).to_owned(), Attribute::Int(*value));
    }
    let pool = Pool::default();
    Ok(build(&definition)?.unwrap().run(&mut Inputs::new(inputs), &Context::new(1 << 30, &pool))?.remove(0))
}

/// One-hot rows, so that the product is the decoded matrix.
fn identity(k: usize) -> Option<Tensor> {
    Tensor::of([k, k], (0..k * k).map(|at| if at % (k + 1) == 0 { 1.0f32 } else { 0.0 }).collect())
}

const SIZE: [(&str, i64); 3] = [("K", 18), ("N", 2), ("block_size", 16)];

#[test]
fn four_bits_are_decoded() {
    // Two rows of two blocks; each byte holds the codes 1 and 10.
    let codes = Tensor::of([2, 2, 8], vec![0xa1u8; 32]);
    let scales = Tensor::vector(vec![1.0f32, 2.0, 3.0, 4.0]);
    let out = run(&SIZE, vec![identity(18), codes.clone(), Some(scales.clone())]).unwrap();
    let seen = out.get::<f32>().unwrap();
    assert_eq!(out.shape(), [18, 2]);
    assert_eq!(&seen[..4], [-7.0, -21.0, 2.0, 6.0]);
    assert_eq!(&seen[32..], [-14.0, -28.0, 4.0, 8.0]);
    // Zero points of 0 and 1, then of 2 and 3.
    let zeros = Tensor::vector(vec![0x10u8, 0x32]);
    let bias = Tensor::vector(vec![100.0f32, 200.0]);
    let inputs = vec![identity(18), codes, Some(scales), Some(zeros), None, Some(bias)];
    let out = run(&SIZE, inputs).unwrap();
    assert_eq!(&out.get::<f32>().unwrap()[32..], [100.0, 192.0, 118.0, 228.0]);
}

#[test]
fn eight_and_two_bits_are_decoded() {
    let codes = Tensor::of([1, 1, 16], (120..136).collect::<Vec<u8>>());
    let one = Some(Tensor::vector(vec![2.0f32]));
    let size = [("K", 16), ("N", 1), ("block_size", 16), ("bits", 8)];
    let out = run(&size, vec![identity(16), codes, one.clone()]).unwrap();
    assert_eq!(out.get::<f32>().unwrap()[..3], [-16.0, -14.0, -12.0]);
    let codes = Tensor::of([1, 1, 4], vec![0b11_10_01_00u8; 4]);
    let size = [("K", 16), ("N", 1), ("block_size", 16), ("bits", 2)];
    let out = run(&size, vec![identity(16), codes, one]).unwrap();
    assert_eq!(out.get::<f32>().unwrap()[..4], [-4.0, -2.0, 0.0, 2.0]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let codes = || Tensor::of([2, 2, 8], vec![0u8; 32]);
    let scales = || Some(Tensor::vector(vec![1.0f32; 4]));
    assert!(run(&SIZE, vec![identity(18), codes(), scales()]).is_ok());
    assert!(run(&SIZE, vec![identity(17), codes(), scales()]).is_err());
    assert!(run(&SIZE, vec![identity(18), codes(), Some(Tensor::vector(vec![1.0f32; 3]))]).is_err());
    assert!(run(&SIZE, vec![identity(18), Tensor::of([31], vec![0u8; 31]), scales()]).is_err());
    assert!(run(&SIZE, vec![identity(18), codes(), scales(), Some(Tensor::vector(vec![0u8; 3]))]).is_err());
    assert!(run(&[("K", 18), ("N", -2), ("block_size", 16)], vec![]).is_err());
    assert!(run(&[("K", 18), ("N", 2), ("block_size", 17)], vec![]).is_err());
    let hostile = [("K", i64::MAX), ("N", i64::MAX), ("block_size", 1 << 40)];
    assert!(run(&hostile, vec![identity(18), codes(), scales()]).is_err());
}
