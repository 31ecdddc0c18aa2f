use super::*;
use crate::attributes::Attribute;
use crate::operator::Pool;

fn run(op: &str, outputs: usize, attributes: &[(&str, &[i64])], input: Tensor) -> Result<Vec<Tensor>, Fault> {
    let mut definition = Definition { op: op.to_owned(), outputs, inputs: 1, opset: 22, ..Definition::default() };
    for (name, all) in attributes {
        let value = if name.ends_with('s') || *name == "kernel_shape" {
            Attribute::Ints(all.to_vec())
        } else {
            Attribute::Int(all[0])
        };
        definition.attributes.insert((*name).to_owned(), value);
    }
    let pool = Pool::default();
    build(&definition)?.unwrap().run(&mut Inputs::new(vec![Some(input)]), &Context::new(1 << 30, &pool))
}

fn image() -> Tensor {
    Tensor::of([1, 1, 3, 3], (1..=9).map(|x| x as f32).collect()).unwrap()
}

#[test]
fn maxima_and_their_places() {
    let attributes: &[(&str, &[i64])] = &[("kernel_shape", &[2, 2]), ("pads", &[1, 0, 0, 1]), ("strides", &[2, 1])];
    let plain = run("MaxPool", 1, attributes, image()).unwrap();
    assert_eq!(plain[0].get::<f32>().unwrap(), [2.0, 3.0, 3.0, 8.0, 9.0, 9.0]);
    let both = run("MaxPool", 2, attributes, image()).unwrap();
    assert_eq!(both[0].get::<f32>(), plain[0].get::<f32>());
    assert_eq!(both[1].get::<i64>().unwrap(), [1, 2, 2, 7, 8, 8]);
    let columns = [attributes, &[("storage_order", &[1])]].concat();
    assert_eq!(run("MaxPool", 2, &columns, image()).unwrap()[1].get::<i64>().unwrap(), [3, 6, 6, 5, 8, 8]);
}

#[test]
fn means_count_padding_where_asked() {
    let attributes: &[(&str, &[i64])] = &[("kernel_shape", &[2, 2]), ("pads", &[1, 1, 0, 0]), ("strides", &[2, 2])];
    let out = run("AveragePool", 1, attributes, image()).unwrap();
    assert_eq!(out[0].get::<f32>().unwrap(), [1.0, 2.5, 5.5, 7.0]);
    let counted = [attributes, &[("count_include_pad", &[1])]].concat();
    let out = run("AveragePool", 1, &counted, image()).unwrap();
    assert_eq!(out[0].get::<f32>().unwrap(), [0.25, 1.25, 2.75, 7.0]);
}

#[test]
fn global_pools_take_the_whole_image() {
    let all = |op| run(op, 1, &[], image()).unwrap().remove(0);
    assert_eq!(all("GlobalAveragePool").shape(), [1, 1, 1, 1]);
    assert_eq!(all("GlobalAveragePool").get::<f32>().unwrap(), [5.0]);
    assert_eq!(all("GlobalMaxPool").get::<f32>().unwrap(), [9.0]);
    assert_eq!(all("GlobalLpPool").get::<f32>().unwrap(), [285f32.sqrt()]);
}

#[test]
fn whole_numbers_and_doubles_are_pooled_as_they_are() {
    let attributes: &[(&str, &[i64])] = &[("kernel_shape", &[2]), ("dilations", &[2])];
    let bytes = Tensor::of([1, 1, 4], vec![-128i8, -128, -128, 5]).unwrap();
    assert_eq!(run("MaxPool", 1, attributes, bytes).unwrap()[0].get::<i8>().unwrap(), [-128, 5]);
    let wide = Tensor::of([1, 1, 4], vec![1.0f64, 2.0, 1e-17, 0.0]).unwrap();
    assert_eq!(run("AveragePool", 1, attributes, wide).unwrap()[0].get::<f64>().unwrap(), [0.5, 1.0]);
}

#[test]
fn images_that_do_not_fit_are_refused() {
    assert!(run("MaxPool", 1, &[("kernel_shape", &[4, 4])], image()).is_err());
    assert!(run("MaxPool", 1, &[], image()).is_err());
    assert!(run("AveragePool", 1, &[("kernel_shape", &[2])], image()).is_err());
    assert!(run("AveragePool", 1, &[("kernel_shape", &[1])], Tensor::vector(vec![1.0f32])).is_err());
    let huge = &[("kernel_shape", &[1, 1][..]), ("pads", &[0, i64::MAX, 0, 0])];
    assert!(run("MaxPool", 1, huge, image()).is_err());
    assert!(run("LpPool", 1, &[("kernel_shape", &[1, 1]), ("strides", &[0, 1])], image()).is_err());
}
