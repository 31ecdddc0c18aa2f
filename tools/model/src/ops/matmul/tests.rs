use half::{bf16, f16};

use super::*;
use crate::operator::Pool;

fn run(op: &dyn Operator, inputs: Vec<Tensor>) -> Result<Tensor, Fault> {
    let pool = Pool::default();
    let mut inputs = Inputs::new(inputs.into_iter().map(Some).collect());
    Ok(op.run(&mut inputs, &Context::new(1 << 30, &pool))?.remove(0))
}

fn tensor(shape: &[usize], all: &[f32]) -> Tensor {
    Tensor::of(shape, all.to_vec()).unwrap()
}

#[test]
fn batches_broadcast() {
    // Two left matrices of 1x2, three right ones of 2x1.
    let left = tensor(&[2, 1, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
    let right = tensor(&[3, 2, 1], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    let out = run(&MatMul::default(), vec![left, right]).unwrap();
    assert_eq!(out.shape(), [2, 3, 1, 1]);
    assert_eq!(out.get::<f32>().unwrap(), [1.0, 2.0, 3.0, 3.0, 4.0, 7.0]);
}

#[test]
fn vectors_lose_their_dimension() {
    let vector = tensor(&[2], &[1.0, 10.0]);
    let matrix = tensor(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let out = run(&MatMul::default(), vec![vector.clone(), matrix.clone()]).unwrap();
    assert_eq!((out.shape(), out.get::<f32>().unwrap()), (&[2][..], &[31.0, 42.0][..]));
    let out = run(&MatMul::default(), vec![matrix, vector.clone()]).unwrap();
    assert_eq!(out.get::<f32>().unwrap(), [21.0, 43.0]);
    let out = run(&MatMul::default(), vec![vector.clone(), vector]).unwrap();
    assert_eq!((out.rank(), out.get::<f32>().unwrap()), (0, &[101.0][..]));
}

#[test]
fn halves_and_whole_numbers() {
    let half = |all: &[f32]| Tensor::of([2, 2], all.iter().map(|x| f16::from_f32(*x)).collect()).unwrap();
    let out = run(&MatMul::default(), vec![half(&[1.0, 2.0, 3.0, 4.0]), half(&[1.0, 0.5, 0.0, 1.0])]).unwrap();
    let seen: Vec<f32> = out.get::<f16>().unwrap().iter().map(|x| x.to_f32()).collect();
    assert_eq!(seen, [1.0, 2.5, 3.0, 5.5]);
    let whole = Tensor::of([1, 2], vec![3i64, 4]).unwrap();
    let out = run(&MatMul::default(), vec![whole.clone(), whole.reshaped([2, 1]).unwrap()]).unwrap();
    assert_eq!(out.get::<i64>().unwrap(), [25]);
}

#[test]
fn panels_of_halves_are_one_product() {
    // More elements than one panel has, either way it stands.
    let (k, n) = (700, 600);
    let weight: Vec<bf16> = (0..k * n).map(|at| bf16::from_f32((at % 7) as f32 - 3.0)).collect();
    let wide = Tensor::of([k, n], weight.iter().map(|x| x.to_f32()).collect::<Vec<f32>>()).unwrap();
    let left: Vec<f32> = (0..2 * k).map(|at| (at % 5) as f32).collect();
    for transposed in [false, true] {
        let (k, n) = if transposed { (n, k) } else { (k, n) };
        let left = Matrix::rows(&left, 2, k).unwrap();
        let mut out = [vec![0.0f32; 2 * n], vec![1.0; 2 * n]];
        let half = Tensor::of([k * n], weight.clone()).unwrap();
        for (tensor, out) in [&half, &wide].into_iter().zip(&mut out) {
            Right { tensor, k, n, transposed }.times(left, out, 1.0).unwrap();
        }
        assert_eq!(out[0], out[1]);
    }
}

#[test]
fn gemm_adds_what_broadcasts() {
    let gemm = Gemm { transpose_left: true, transpose_right: true, alpha: 0.5, beta: 2.0 };
    let left = tensor(&[2, 1], &[2.0, 4.0]);
    let right = tensor(&[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    let out = run(&gemm, vec![left.clone(), right.clone(), tensor(&[3], &[1.0, 2.0, 3.0])]).unwrap();
    assert_eq!(out.get::<f32>().unwrap(), [3.0, 6.0, 9.0]);
    let out = run(&gemm, vec![left.clone(), right.clone(), tensor(&[], &[1.0])]).unwrap();
    assert_eq!(out.get::<f32>().unwrap(), [3.0, 4.0, 5.0]);
    assert!(run(&gemm, vec![left, right, tensor(&[2, 3], &[0.0; 6])]).is_err());
}

#[test]
fn sizes_that_do_not_fit_are_said() {
    let fault = run(&MatMul::default(), vec![tensor(&[2, 3], &[0.0; 6]), tensor(&[2, 3], &[0.0; 6])]).unwrap_err();
    assert_eq!(fault.to_string(), "shapes 2x3 and 2x3, those of a product of matrices expected");
    assert!(run(&MatMul::default(), vec![tensor(&[], &[0.0]), tensor(&[1], &[0.0])]).is_err());
    let empty = run(&MatMul::default(), vec![tensor(&[2, 0], &[]), tensor(&[0, 2], &[])]).unwrap();
    assert_eq!(empty.get::<f32>().unwrap(), [0.0; 4]);
}

#[test]
fn weights_in_panels_change_no_bit() {
    let numbers = |shape: &[usize], seed| Tensor::of(shape, crate::kernels::numbers(shape.iter().product(), seed));
    let same = |op: &dyn Operator, inputs: Vec<Tensor>| {
        let constants = [None, Some(&inputs[1])];
        let ready = op.prepare(&constants).unwrap().expect("a constant of single floats");
        let made = [run(&*ready, inputs.clone()), run(op, inputs)];
        match made {
            [Ok(a), Ok(b)] => assert!(a.shape() == b.shape() && a.get::<f32>() == b.get::<f32>(), "{}", op.name()),
            [Err(a), Err(b)] => assert_eq!(a.to_string(), b.to_string()),
            [a, b] => panic!("{a:?} in panels, {b:?} without"),
        }
    };
    for (transposed, weights) in [(false, [33, 50]), (true, [50, 33])] {
        let w = numbers(&weights, 1).unwrap();
        for alpha in [None, Some(0.25)] {
            let product = MatMul { transpose_left: false, transpose_right: transposed, alpha };
            for left in [&[2, 3, 33][..], &[1, 33], &[33], &[0, 33], &[3, 34]] {
                same(&product, vec![numbers(left, 2).unwrap(), w.clone()]);
            }
            let sum = Gemm { transpose_left: false, transpose_right: transposed, alpha: 0.5, beta: 2.0 };
            for left in [&[7, 33][..], &[1, 33], &[2, 3, 33], &[33, 7]] {
                for addend in [&[50][..], &[], &[7, 1], &[3]] {
                    same(&sum, vec![numbers(left, 2).unwrap(), w.clone(), numbers(addend, 3).unwrap()]);
                }
            }
        }
    }
}

#[test]
fn what_is_not_put_into_panels() {
    let w = tensor(&[2, 2], &[1.0; 4]);
    let left = MatMul { transpose_left: true, ..MatMul::default() };
    assert!(left.prepare(&[None, Some(&w)]).unwrap().is_none());
    for other in [tensor(&[2], &[1.0; 2]), tensor(&[0, 2], &[]), Tensor::of([2, 2], vec![1.0f64; 4]).unwrap()] {
        assert!(MatMul::default().prepare(&[None, Some(&other)]).unwrap().is_none());
    }
    assert!(MatMul::default().prepare(&[Some(&w), None]).unwrap().is_none());
}
