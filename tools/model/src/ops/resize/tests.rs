use super::*;
use crate::attributes::Attribute;
use crate::operator::Pool;

fn resize(attributes: &[(&str, &str)], input: Tensor, scales: &[f32], sizes: &[i64]) -> Result<Tensor, Fault> {
    let mut definition = Definition { op: "Resize".to_owned(), opset: 19, ..Definition::default() };
    for (name, value) in attributes {
        definition.attributes.insert((*name).to_owned(), Attribute::Text((*value).to_owned()));
    }
    let pool = Pool::default();
    let scales = (!scales.is_empty()).then(|| Tensor::vector(scales.to_vec()));
    let sizes = (!sizes.is_empty()).then(|| Tensor::vector(sizes.to_vec()));
    let mut inputs = Inputs::new(vec![Some(input), None, scales, sizes]);
    Ok(build(&definition)?.unwrap().run(&mut inputs, &Context::new(1 << 20, &pool))?.remove(0))
}

fn row(all: &[f32]) -> Tensor {
    Tensor::of([1, 1, 1, all.len()], all.to_vec()).unwrap()
}

#[test]
fn nearest_of_any_type() {
    let codes = Tensor::of([1, 1, 2, 2], vec![1u8, 2, 3, 4]).unwrap();
    let out = resize(&[], codes, &[1.0, 1.0, 2.0, 1.0], &[]).unwrap();
    assert_eq!((out.shape(), out.get::<u8>().unwrap()), (&[1, 1, 4, 2][..], &[1, 2, 1, 2, 3, 4, 3, 4][..]));
}

#[test]
fn linear_between_pixels() {
    let out = resize(&[("mode", "linear")], row(&[0.0, 4.0]), &[], &[1, 1, 1, 4]).unwrap();
    assert_eq!(out.get::<f32>().unwrap(), [0.0, 1.0, 3.0, 4.0]);
    let corners = [("mode", "linear"), ("coordinate_transformation_mode", "align_corners")];
    let out = resize(&corners, row(&[0.0, 3.0]), &[], &[1, 1, 2, 4]).unwrap();
    assert_eq!(out.get::<f32>().unwrap(), [0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0]);
}

#[test]
fn whole_numbers_are_rounded() {
    let codes = Tensor::of([1, 1, 1, 2], vec![0u8, 255]).unwrap();
    let out = resize(&[("mode", "cubic")], codes, &[1.0, 1.0, 1.0, 2.0], &[]).unwrap();
    // -0.75 / 64 * ... below 0 saturates, as does what is above 255.
    assert_eq!(out.get::<u8>().unwrap()[0], 0);
    assert_eq!(out.get::<u8>().unwrap()[3], 255);
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e30] {
        assert!(resize(&[], row(&[1.0, 2.0]), &[1.0, 1.0, 1.0, scale], &[]).is_err(), "{scale}");
    }
    assert!(resize(&[], row(&[1.0]), &[1.0], &[]).is_err());
    assert!(resize(&[], row(&[1.0]), &[], &[1, 1, 1, -1]).is_err());
    assert!(resize(&[], row(&[1.0]), &[], &[1, 1, 1, i64::MAX]).is_err());
    assert!(resize(&[], row(&[1.0]), &[], &[]).is_err());
    assert!(resize(&[("mode", "best")], row(&[1.0]), &[1.0; 4], &[]).is_err());
    assert!(resize(&[("coordinate_transformation_mode", "tf_crop_and_resize")], row(&[1.0]), &[2.0; 4], &[]).is_err());
}
