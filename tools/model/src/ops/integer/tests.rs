use super::*;
use crate::attributes::Attribute;
use crate::operator::Pool;

fn run(op: &str, attributes: &[(&str, &[i64])], inputs: Vec<Option<Tensor>>) -> Result<Tensor, Fault> {
    let mut definition = Definition { op: op.to_owned(), opset: 10, ..Definition::default() };
    for (name, all) in attributes {
        let value = if *name == "group" { Attribute::Int(all[0]) } else { Attribute::Ints(all.to_vec()) };
        definition.attributes.insert((*name).to_owned(), value);
    }
    let pool = Pool::default();
    Ok(build(&definition)?.unwrap().run(&mut Inputs::new(inputs), &Context::new(1 << 30, &pool))?.remove(0))
}

#[test]
fn sums_of_the_largest_differences_are_exact() {
    // 300 * 255 * -255 is more than f32 holds step by step.
    let left = Tensor::of([1, 300], vec![255u8; 300]).unwrap();
    let mut codes = vec![0u8; 300];
    codes[299] = 254;
    let right = Tensor::of([300, 1], codes).unwrap();
    let out = run("MatMulInteger", &[], vec![Some(left), Some(right), None, Some(Tensor::scalar(255u8))]).unwrap();
    assert_eq!(out.get::<i32>().unwrap(), [299 * 255 * -255 - 255]);
}

#[test]
fn rows_and_columns_have_zero_points() {
    let left = Tensor::of([2, 1], vec![10u8, 20]).unwrap();
    let right = Tensor::of([1, 2], vec![3i8, -4]).unwrap();
    let (rows, columns) = (Tensor::vector(vec![0u8, 10]), Tensor::vector(vec![1i8, -5]));
    let out = run("MatMulInteger", &[], vec![Some(left), Some(right), Some(rows), Some(columns)]).unwrap();
    assert_eq!(out.get::<i32>().unwrap(), [20, 10, 20, 10]);
}

#[test]
fn padding_is_the_zero_point() {
    let image = Tensor::of([1, 1, 1, 3], vec![2u8, 3, 4]).unwrap();
    let weight = Tensor::of([1, 1, 1, 2], vec![1u8, 1]).unwrap();
    let inputs = vec![Some(image), Some(weight), Some(Tensor::scalar(1u8))];
    let out = run("ConvInteger", &[("pads", &[0, 1, 0, 1])], inputs).unwrap();
    assert_eq!((out.shape(), out.get::<i32>().unwrap()), (&[1, 1, 1, 4][..], &[1, 3, 5, 3][..]));
}

#[test]
fn filters_have_scales() {
    let scalar = |x: f32| Some(Tensor::scalar(x));
    let inputs = vec![
        Tensor::of([1, 2, 1, 1], vec![4u8, 6]),
        scalar(0.5),
        Some(Tensor::scalar(2u8)),
        Tensor::of([2, 1, 1, 1], vec![3i8, -5]),
        Some(Tensor::vector(vec![2.0f32, 4.0])),
        Some(Tensor::vector(vec![0i8, 0])),
        scalar(1.0),
        Some(Tensor::scalar(100u8)),
        Some(Tensor::vector(vec![1i32, 0])),
    ];
    // (4 - 2) * 3 + 1 = 7, of 1 each; (6 - 2) * -5 = -20, of 2 each.
    let out = run("QLinearConv", &[("group", &[2])], inputs).unwrap();
    assert_eq!(out.get::<u8>().unwrap(), [107, 60]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let image = Tensor::of([1, 2, 2, 2], vec![0u8; 8]).unwrap();
    let weight = Tensor::of([2, 2, 3, 3], vec![0u8; 36]).unwrap();
    assert!(run("ConvInteger", &[], vec![Some(image.clone()), Some(weight.clone())]).is_err());
    let pads: (&str, &[i64]) = ("pads", &[1, 1, 1, 1]);
    assert!(run("ConvInteger", &[pads, ("group", &[3])], vec![Some(image.clone()), Some(weight.clone())]).is_err());
    assert!(run("ConvInteger", &[("group", &[0])], vec![Some(image.clone()), Some(weight.clone())]).is_err());
    let three = Some(Tensor::vector(vec![0u8; 3]));
    assert!(run("ConvInteger", &[pads], vec![Some(image.clone()), Some(weight), None, three]).is_err());
    assert!(run("MatMulInteger", &[], vec![Some(image), Some(Tensor::vector(vec![1.0f32, 1.0]))]).is_err());
}
