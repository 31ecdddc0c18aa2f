use half::{bf16, f16};

use super::*;
use crate::kernels::numbers;
use crate::operator::Pool;
use crate::ops::gate::Gate;
use crate::ops::linear::Linear;

const WIDTH: usize = 40;
/// Two parts and a rest.
const CHANNELS: usize = 300;
const OUT: usize = 33;

fn floats(shape: &[usize], seed: u32) -> Tensor {
    Tensor::of(shape, numbers(shape.iter().product(), seed)).unwrap()
}

/// The inputs for rows of x; without what is gated, without biases.
fn inputs(rows: usize, gated: bool, biased: bool) -> Vec<Option<Tensor>> {
    let bias = |len: usize, seed| biased.then(|| floats(&[len], seed));
    vec![
        Some(floats(&[rows, WIDTH], 1)),
        Some(floats(&[CHANNELS, WIDTH], 2)),
        bias(CHANNELS, 3),
        gated.then(|| floats(&[CHANNELS, WIDTH], 4)),
        bias(CHANNELS, 5).filter(|_| gated),
        Some(floats(&[OUT, CHANNELS], 6)),
        bias(OUT, 7),
    ]
}

fn run(op: &dyn Operator, inputs: Vec<Option<Tensor>>) -> Vec<Tensor> {
    let pool = Pool::default();
    op.run(&mut Inputs::new(inputs), &Context::new(1 << 20, &pool)).unwrap()
}

/// What the nodes make that this stands for, with a mask between them; the sum of the magnitudes that each number is made of;
/// and how many channels each row of the mask has.
fn masked(op: &FeedForward, inputs: &[Option<Tensor>]) -> (Vec<f32>, Vec<f32>, Vec<i64>) {
    let linear = |x: &Tensor, at: usize| {
        run(&Linear { heads: None }, vec![Some(x.clone()), inputs[at].clone(), inputs[at + 1].clone()]).remove(0)
    };
    let x = inputs[0].as_ref().unwrap();
    let hidden = run(&Gate { activation: op.activation }, vec![Some(linear(x, 1))]).remove(0);
    let mut all = hidden.get::<f32>().unwrap().to_vec();
    all.iter_mut().filter(|a| a.abs() < op.threshold).for_each(|a| *a = 0.0);
    let counts = all.chunks(CHANNELS).map(|row| row.iter().filter(|a| **a != 0.0).count() as i64).collect();
    if inputs[3].is_some() {
        all.iter_mut().zip(linear(x, 3).get::<f32>().unwrap()).for_each(|(a, by)| *a *= *by);
    }
    let last = inputs[5].as_ref().unwrap().get::<f32>().unwrap();
    let size = |row: &[f32], to: usize| row.iter().zip(&last[to * CHANNELS..]).map(|(a, w)| (a * w).abs()).sum::<f32>();
    let sizes = all.chunks(CHANNELS).flat_map(|row| (0..OUT).map(move |to| size(row, to))).collect();
    let y = linear(&Tensor::of(hidden.shape(), all.clone()).unwrap(), 5);
    (y.get::<f32>().unwrap().to_vec(), sizes, counts)
}

#[test]
fn one_row_or_many_are_masked_layers() {
    for (activation, threshold) in [(Activation::Silu, 0.2), (Activation::Gelu, 0.1), (Activation::Relu, 0.4)] {
        let op = FeedForward::new(activation, threshold);
        for (gated, biased) in [(true, false), (true, true), (false, true)] {
            for rows in [1, 2, 9] {
                let inputs = inputs(rows, gated, biased);
                let ((y, sizes, there), made) = (masked(&op, &inputs), run(&op, inputs));
                assert_eq!((made[0].shape(), made[1].get::<i64>().unwrap()), (&[rows, OUT][..], there.as_slice()));
                assert!(there.iter().all(|count| (20..CHANNELS as i64 - 20).contains(count)), "{there:?}");
                for ((found, y), size) in made[0].get::<f32>().unwrap().iter().zip(&y).zip(sizes) {
                    // The same products in another order; each of two sums rounds as often as it has terms, and a bias.
                    let bound = (CHANNELS + 1) as f32 * f32::EPSILON * (size + 1.0);
                    assert!((found - y).abs() <= bound, "{activation:?} {rows}: {found} {y}");
                }
            }
        }
    }
}

#[test]
fn what_is_skipped_is_masked_multiplication_to_the_bit() {
    let op = FeedForward::new(Activation::Silu, 0.3);
    let inputs = inputs(1, true, true);
    let slice = |at: usize| inputs[at].as_ref().unwrap().get::<f32>().unwrap();
    let at = |weights: usize, channel: usize| {
        Stored::F32(slice(weights)).dot(channel, slice(0)) + slice(weights + 1)[channel]
    };
    let mut activated: Vec<f32> = (0..CHANNELS).map(|channel| at(1, channel)).collect();
    Activation::Silu.apply(&mut activated);
    let mut y = vec![0.0f32; OUT];
    for part in (0..CHANNELS).collect::<Vec<_>>().chunks(PART) {
        for (to, y) in y.iter_mut().enumerate() {
            // All channels are multiplied: those of less than the threshold with 0.
            let mask = |channel: usize| if activated[channel].abs() < 0.3 { 0.0 } else { activated[channel] };
            let of = |channel: &usize| mask(*channel) * at(3, *channel) * slice(5)[to * CHANNELS + channel];
            *y += part.iter().fold(0.0, |sum, channel| sum + of(channel));
        }
    }
    y.iter_mut().zip(slice(6)).for_each(|(y, bias)| *y += *bias);
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let constants: Vec<_> = inputs.iter().map(Option::as_ref).collect();
        let ready = op.prepare(&constants).unwrap().unwrap();
        let found = pool.install(|| run(ready.as_ref(), inputs.clone()));
        assert_eq!(found[0].get::<f32>().unwrap(), y, "{threads} threads");
    }
}

#[test]
fn a_threshold_of_0_leaves_all_and_nothing_hides() {
    let made = run(&FeedForward::new(Activation::Silu, 0.0), inputs(1, true, false));
    assert_eq!(made[1].get::<i64>().unwrap(), [CHANNELS as i64]);
    for rows in [1, 2] {
        let none = run(&FeedForward::new(Activation::Silu, 1e9), inputs(rows, true, true));
        assert_eq!(none[1].get::<i64>().unwrap(), vec![0; rows]);
        let bias = floats(&[OUT], 7);
        assert!(none[0].get::<f32>().unwrap().chunks(OUT).all(|row| row == bias.get::<f32>().unwrap()));
        let mut odd = inputs(rows, true, false);
        odd[0] = Some(Tensor::of([rows, WIDTH], vec![f32::NAN; rows * WIDTH]).unwrap());
        let made = run(&FeedForward::new(Activation::Silu, 1e9), odd);
        assert!(made[0].get::<f32>().unwrap().iter().all(|y| y.is_nan()));
    }
}

#[test]
fn halves_are_what_they_stand_for() {
    let op = FeedForward::new(Activation::Silu, 0.2);
    for rows in [1, 3] {
        let [mut plain, mut short, mut brain] = [(); 3].map(|()| inputs(rows, true, false));
        for at in [1, 3, 5] {
            let tensor = plain[at].clone().unwrap();
            // Seven bits, which all three types have.
            let all: Vec<f32> = tensor.get::<f32>().unwrap().iter().map(|x| (x * 64.0).round() / 64.0).collect();
            short[at] = Tensor::of(tensor.shape(), all.iter().map(|x| f16::from_f32(*x)).collect());
            brain[at] = Tensor::of(tensor.shape(), all.iter().map(|x| bf16::from_f32(*x)).collect());
            plain[at] = Tensor::of(tensor.shape(), all);
        }
        let [plain, short, brain] = [plain, short, brain].map(|inputs| run(&op, inputs).remove(0));
        assert_eq!(plain.get::<f32>(), short.get::<f32>());
        assert_eq!(plain.get::<f32>(), brain.get::<f32>());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let wrong = |at: usize, tensor: Tensor| {
        let (pool, mut inputs) = (Pool::default(), inputs(1, true, true));
        inputs[at] = Some(tensor);
        FeedForward::new(Activation::Silu, 0.0)
            .run(&mut Inputs::new(inputs), &Context::new(1 << 20, &pool))
            .unwrap_err()
    };
    let needs = "[.., width], [channels, width], the same, [out, channels] expected";
    let found = "inputs 1x40 and weights 300x40, 299x40, 33x300";
    assert_eq!(wrong(3, floats(&[299, WIDTH], 1)).to_string(), format!("{found}, {needs}"));
    assert!(wrong(0, floats(&[1, 39], 1)).to_string().contains("inputs 1x39"));
    assert!(wrong(5, floats(&[OUT, 7], 1)).to_string().ends_with(needs));
    assert_eq!(wrong(4, floats(&[7], 1)).to_string(), "a bias of 7, 300 expected");
    assert!(wrong(1, Tensor::vector(vec![0.0f32; 3])).to_string().starts_with("weights 3"));
}
