use super::*;
use crate::attributes::Attribute;
use crate::ops::trial::definition;
use crate::reverse::check::{gradients, numbers, random};

/// Dimensions of images with images and channels before them; output channels, groups; kernel; strides;
/// dilations; padding.
type Case = (&'static [usize], [usize; 2], &'static [i64], &'static [i64], &'static [i64], &'static [i64]);

const CASES: [Case; 12] = [
    (&[2, 3, 5, 6], [4, 1], &[3, 3], &[1, 1], &[1, 1], &[1, 1, 1, 1]),
    (&[3, 2, 7, 7], [5, 1], &[3, 3], &[2, 2], &[1, 1], &[1, 1, 1, 1]),
    (&[1, 2, 6, 8], [9, 1], &[3, 3], &[2, 2], &[1, 1], &[0, 0, 1, 1]),
    (&[2, 4, 5, 5], [3, 1], &[1, 1], &[1, 1], &[1, 1], &[0, 0, 0, 0]),
    (&[2, 4, 5, 4], [3, 1], &[1, 1], &[2, 2], &[1, 1], &[0, 0, 0, 0]),
    (&[2, 4, 6, 5], [4, 4], &[3, 3], &[1, 1], &[1, 1], &[1, 1, 1, 1]),
    (&[2, 4, 7, 9], [8, 4], &[3, 5], &[2, 1], &[1, 1], &[1, 2, 1, 2]),
    (&[1, 2, 9, 9], [2, 1], &[3, 3], &[1, 1], &[2, 2], &[2, 2, 2, 2]),
    (&[1, 2, 9, 8], [2, 1], &[3, 3], &[2, 2], &[2, 2], &[2, 2, 2, 2]),
    (&[2, 3, 9], [4, 1], &[4], &[3], &[1], &[2, 1]),
    (&[1, 2, 3, 4, 4], [2, 1], &[2, 3, 3], &[1, 1, 2], &[1, 1, 1], &[0, 1, 1, 0, 1, 1]),
    (&[1, 1, 11, 10], [1, 1], &[7, 7], &[4, 3], &[1, 1], &[3, 3, 3, 3]),
];

fn operator((x, [_, groups], kernel, strides, dilations, pads): Case) -> std::sync::Arc<dyn crate::Operator> {
    let ints = |all: &[i64]| Attribute::Ints(all.to_vec());
    let attributes = [
        ("kernel_shape", ints(kernel)),
        ("strides", ints(strides)),
        ("dilations", ints(dilations)),
        ("pads", ints(pads)),
        ("group", Attribute::Int(groups as i64)),
    ];
    assert_eq!(x.len() - 2, kernel.len());
    crate::ops::build(&definition("Conv", &attributes)).unwrap().unwrap()
}

fn weights((x, [out, groups], kernel, ..): Case) -> Vec<usize> {
    let mut shape = vec![out, x[1] / groups];
    shape.extend(kernel.iter().map(|k| *k as usize));
    shape
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for case in CASES {
        let op = operator(case);
        let inputs = [random(case.0, 1), random(&weights(case), 2), random(&[case.1[0]], 3)];
        gradients(&*op, &inputs, &[0, 1, 2]);
    }
}

#[test]
fn large_images_and_any_number_of_threads_give_the_same() {
    for case in [
        (&[20, 8, 16, 16][..], [16, 1], &[3i64, 3][..], &[1i64, 1][..], &[1i64, 1][..], &[1i64, 1, 1, 1][..]),
        (&[12, 16, 9, 8], [32, 1], &[3, 3], &[1, 1], &[1, 1], &[1, 0, 1, 2]),
        (&[9, 16, 15, 17], [24, 1], &[3, 3], &[2, 2], &[1, 1], &[1, 1, 1, 1]),
        (&[5, 24, 7, 7], [24, 24], &[3, 3], &[1, 1], &[1, 1], &[1, 1, 1, 1]),
        (&[40, 16, 4, 4], [32, 1], &[1, 1], &[1, 1], &[1, 1], &[0, 0, 0, 0]),
    ] {
        let op = operator(case);
        let single = |shape: &[usize], seed| {
            let all = numbers(shape.iter().product(), seed).into_iter().map(|x| x as f32).collect();
            Tensor::of(shape, all).unwrap()
        };
        let (x, w) = (single(case.0, 1), single(&weights(case), 2));
        let pool = crate::Pool::default();
        let context = Context::new(1 << 30, &pool);
        let inputs = vec![Some(x.clone()), Some(w.clone())];
        let y = op.run(&mut crate::Inputs::new(inputs), &context).unwrap().remove(0);
        let g = single(y.shape(), 3);
        let pull = |x: &Tensor, w: &Tensor, g: &Tensor| {
            let crate::Reverse::Flows(back) = op.reverse() else { panic!("no way back") };
            let seen = |tensor: &Tensor| crate::reverse::Seen::of(tensor, true);
            let mut pass = Pass {
                inputs: vec![Some(seen(x)), Some(seen(w))],
                outputs: vec![seen(&y)],
                gradients: vec![Some(g.clone())],
                wanted: vec![true, true],
            };
            back.pull(&mut pass, &context).unwrap()
        };
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| pull(&x, &w, &g))
        };
        let wide = |tensor: &Tensor| {
            let all = tensor.get::<f32>().unwrap().iter().map(|x| f64::from(*x)).collect();
            Tensor::of(tensor.shape(), all).unwrap()
        };
        let (one, three, exact) = (on(1), on(3), pull(&wide(&x), &wide(&w), &wide(&g)));
        for at in 0..2 {
            let single = |all: &[Option<Tensor>]| all[at].as_ref().unwrap().get::<f32>().unwrap().to_vec();
            assert_eq!(single(&one), single(&three), "{case:?}");
            let exact = exact[at].as_ref().unwrap().get::<f64>().unwrap();
            let largest = exact.iter().fold(0f64, |a, b| a.max(b.abs()));
            for (found, exact) in single(&one).iter().zip(exact) {
                assert!((f64::from(*found) - exact).abs() <= 1e-5 * largest, "{case:?}: {found}, {exact} expected");
            }
        }
    }
}
