use super::*;
use crate::attributes::Attribute;
use crate::ops::trial::{assert_close, definition, elements, run, tensor};
use crate::tensor::Element;

const ALL: [&str; 10] = [
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceSumSquare",
];

/// The formula, number by number.
fn truth(op: &str, x: &[f64]) -> f64 {
    match op {
        "ReduceSum" => x.iter().sum(),
        "ReduceMean" => x.iter().sum::<f64>() / x.len() as f64,
        "ReduceMax" => x.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "ReduceMin" => x.iter().copied().fold(f64::INFINITY, f64::min),
        "ReduceProd" => x.iter().product(),
        "ReduceL1" => x.iter().map(|x| x.abs()).sum(),
        "ReduceL2" => x.iter().map(|x| x * x).sum::<f64>().sqrt(),
        "ReduceLogSum" => x.iter().sum::<f64>().ln(),
        "ReduceLogSumExp" => x.iter().map(|x| x.exp()).sum::<f64>().ln(),
        _ => x.iter().map(|x| x * x).sum(),
    }
}

fn reduced<T: Element>(op: &str, x: &[T], shape: &[usize], axes: &[i64], keep: i64) -> Tensor {
    let keep = ("keepdims", Attribute::Int(keep));
    let by_attribute = definition(op, &[("axes", Attribute::Ints(axes.to_vec())), keep.clone()]);
    let y = run(&by_attribute, &[Some(tensor(shape, x))]).unwrap().remove(0);
    let by_input = definition(op, &[keep]);
    let other = run(&by_input, &[Some(tensor(shape, x)), Some(Tensor::vector(axes.to_vec()))]).unwrap().remove(0);
    assert_eq!((y.shape(), y.data().to_bytes()), (other.shape(), other.data().to_bytes()));
    y
}

#[test]
fn every_reduction_is_its_formula_along_any_axes() {
    let shape = [3, 4, 1, 5, 2];
    let x: Vec<f32> = (0..120).map(|k| 0.5 + ((k * 37) % 41) as f32 / 40.0).collect();
    let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    for axes in [&[0i64][..], &[1], &[-1], &[0, 3], &[1, 2, 4], &[2], &[0, 1, 2, 3, 4], &[3, 4]] {
        let layout_axes: Vec<usize> = axes.iter().map(|a| a.rem_euclid(5) as usize).collect();
        let kept: Vec<usize> = (0..5).filter(|at| !layout_axes.contains(at)).collect();
        let mut groups: std::collections::BTreeMap<Vec<usize>, Vec<f64>> = Default::default();
        for (at, x) in wide.iter().enumerate() {
            let index = [at / 40, at / 10 % 4, 0, at / 2 % 5, at % 2];
            groups.entry(kept.iter().map(|k| index[*k]).collect()).or_default().push(*x);
        }
        for op in ALL {
            let expected: Vec<f64> = groups.values().map(|x| truth(op, x)).collect();
            let y = reduced(op, &x, &shape, axes, 0);
            assert_eq!(y.shape(), kept.iter().map(|k| shape[*k]).collect::<Vec<_>>());
            assert_close(&y, &expected);
            let y = reduced(op, &wide, &shape, axes, 1);
            assert_eq!(y.rank(), 5);
            let off = elements::<f64>(&y).iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off < 1e-9 * expected[0].abs().max(1.0), "{op} {axes:?}: {off}");
        }
    }
}

#[test]
fn long_rows_lose_no_digits() {
    let x = vec![0.1f32; 3_000_000];
    let y = reduced("ReduceSum", &x, &[3_000_000], &[0], 0);
    assert!((elements::<f32>(&y)[0] - 300_000.0).abs() < 0.5, "{y:?}");
    let y = reduced("ReduceMean", &x, &[1000, 3000], &[0], 0);
    assert!(elements::<f32>(&y).iter().all(|y| (y - 0.1).abs() < 1e-6));
}

#[test]
fn axes_that_are_left_out_are_all_or_none() {
    let x = tensor(&[2, 2], &[1i32, -2, 3, 4]);
    let all = run(&definition("ReduceSum", &[]), &[Some(x.clone())]).unwrap();
    assert_eq!((all[0].shape(), elements::<i32>(&all[0])), (&[1, 1][..], vec![6]));
    let none = definition("ReduceSumSquare", &[("noop_with_empty_axes", Attribute::Int(1))]);
    let same = run(&none, &[Some(x.clone())]).unwrap();
    assert_eq!((same[0].shape(), elements::<i32>(&same[0])), (&[2, 2][..], vec![1, 4, 9, 16]));
    let refused = run(&definition("ReduceSum", &[("axes", Attribute::Ints(vec![2]))]), &[Some(x)]).unwrap_err();
    assert_eq!(refused.to_string(), "axis 2, one of 2 dimensions expected");
}

#[test]
fn nothing_is_reduced_to_what_changes_nothing() {
    let x = Tensor::of([2, 0], Vec::<f32>::new()).unwrap();
    for (op, y) in [("ReduceSum", 0.0), ("ReduceProd", 1.0), ("ReduceMax", f32::NEG_INFINITY)] {
        let y2 = run(&definition(op, &[]), &[Some(x.clone()), Some(Tensor::vector(vec![1i64]))]).unwrap();
        assert_eq!(elements::<f32>(&y2[0]), [y, y], "{op}");
    }
}
