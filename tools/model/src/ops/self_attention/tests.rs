use super::*;
use crate::operator::Pool;

fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 * 4.0 - 2.0
    };
    (0..len).map(next).collect()
}

fn tensor(shape: [usize; 3], seed: u32) -> Tensor {
    Tensor::of(shape, numbers(shape.iter().product(), seed)).unwrap()
}

fn run(op: SelfAttention, inputs: Vec<Option<Tensor>>) -> Vec<Tensor> {
    let pool = Pool::default();
    op.run(&mut Inputs::new(inputs), &Context::new(1 << 30, &pool)).unwrap()
}

/// The definition, in double precision.
fn naive(op: SelfAttention, q: &Tensor, k: &Tensor, v: &Tensor) -> Vec<f64> {
    let (&[times, heads, size], &[keys, kv, width]) = (q.shape(), v.shape()) else { panic!("three dimensions") };
    let [q, k, v] = [q, k, v].map(|x| x.get::<f32>().unwrap());
    let mut out = vec![0.0; times * heads * width];
    for (at, out) in out.chunks_mut(width).enumerate() {
        let (time, head) = (at / heads, at % heads);
        let own = keys - times + time;
        let score = |key: usize| {
            let from = (key * kv + head / (heads / kv)) * size;
            let pairs = q[at * size..][..size].iter().zip(&k[from..]);
            let x = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() * f64::from(op.scale);
            let x = op.cap.map_or(x, |cap| (x / f64::from(cap)).tanh() * f64::from(cap));
            let seen = match op.sees {
                Sees::All => true,
                Sees::Before => key <= own,
                Sees::Window(window) => key <= own && key + window > own,
            };
            if seen { x.exp() } else { 0.0 }
        };
        let scores: Vec<f64> = (0..keys).map(score).collect();
        let sum: f64 = scores.iter().sum();
        for (key, score) in scores.iter().enumerate() {
            let from = (key * kv + head / (heads / kv)) * width;
            out.iter_mut().zip(&v[from..]).for_each(|(y, v)| *y += score / sum * f64::from(*v));
        }
    }
    out
}

const KINDS: [SelfAttention; 4] = [
    SelfAttention { scale: 0.4, sees: Sees::Before, cap: None },
    SelfAttention { scale: 0.4, sees: Sees::Window(7), cap: None },
    SelfAttention { scale: 0.4, sees: Sees::Window(1), cap: Some(1.5) },
    SelfAttention { scale: 0.4, sees: Sees::All, cap: Some(2.0) },
];

#[test]
fn attention_is_that_of_the_definition() {
    for op in KINDS {
        for times in [1, 2, 40, 70] {
            let (q, k, v) = (tensor([times, 4, 6], 1), tensor([times, 2, 6], 2), tensor([times, 2, 5], 3));
            let out = run(op, vec![Some(q.clone()), Some(k.clone()), Some(v.clone())]);
            assert_eq!(out[0].shape(), [times, 4, 5]);
            let expected = naive(op, &q, &k, &v);
            for (found, expected) in out[0].get::<f32>().unwrap().iter().zip(expected) {
                // Values are below 2; scores below 10 round by less than 2^-19, and so do weights.
                assert!(
                    (f64::from(*found) - expected).abs() < 2f64.powi(-16),
                    "{op:?} at {times}: {found}, {expected}"
                );
            }
        }
    }
}

#[test]
fn what_came_before_is_appended_to_in_place() {
    let times = 9;
    let (q, k, v) = (tensor([times, 4, 6], 1), tensor([times, 2, 6], 2), tensor([times, 2, 6], 3));
    let part = |x: &Tensor, range: std::ops::Range<usize>| {
        let each: usize = x.shape()[1..].iter().product();
        let all = x.get::<f32>().unwrap()[range.start * each..range.end * each].to_vec();
        Tensor::of([range.len(), x.shape()[1], x.shape()[2]], all).unwrap()
    };
    for op in &KINDS[..3] {
        let whole = run(*op, vec![Some(q.clone()), Some(k.clone()), Some(v.clone())]);
        let mut cache = [(); 2].map(|()| Tensor::of::<f32>([0, 2, 6], Vec::with_capacity(1000)).unwrap());
        let at = cache[0].get::<f32>().unwrap().as_ptr();
        for (start, end) in [(0, 4), (4, 5), (5, 9)] {
            let [past_key, past_value] = cache;
            let now = [&q, &k, &v].map(|x| Some(part(x, start..end)));
            let mut out = run(*op, now.into_iter().chain([Some(past_key), Some(past_value)]).collect());
            let value = out.pop().unwrap();
            cache = [out.pop().unwrap(), value];
            let expected = part(&whole[0], start..end);
            let pairs = out[0].get::<f32>().unwrap().iter().zip(expected.get::<f32>().unwrap());
            // The same sums in another order, of weights that are 1 together and values below 2.
            pairs.for_each(|(a, b)| assert!((a - b).abs() <= 32.0 * f32::EPSILON, "{a}, {b} expected"));
        }
        assert_eq!(cache[0].get::<f32>(), k.get::<f32>());
        assert_eq!(cache[1].get::<f32>(), v.get::<f32>());
        assert_eq!(cache[0].get::<f32>().unwrap().as_ptr(), at);
    }
}

#[test]
fn a_mask_hides_keys_of_its_own_text() {
    let (q, k, v) = (tensor([6, 2, 4], 1), tensor([6, 2, 4], 2), tensor([6, 2, 4], 3));
    let op = KINDS[3];
    let batch = |x: &Tensor| Some(x.clone().reshaped([2, 3, 2, 4]).unwrap());
    let mask = Tensor::of([2, 3], vec![1i64, 1, 0, 0, 0, 0]).unwrap();
    let out = run(op, vec![batch(&q), batch(&k), batch(&v), None, None, Some(mask)]);
    assert_eq!(out[0].shape(), [2, 3, 2, 4]);
    let first =
        |x: &Tensor, times: usize| Tensor::of([times, 2, 4], x.get::<f32>().unwrap()[..times * 8].to_vec()).unwrap();
    let expected = naive(op, &first(&q, 2), &first(&k, 2), &first(&v, 2));
    let found = out[0].get::<f32>().unwrap();
    found.iter().zip(expected).for_each(|(a, b)| assert!((f64::from(*a) - b).abs() < 2f64.powi(-16)));
    assert!(found[24..].iter().all(|x| *x == 0.0));
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let pool = Pool::default();
    let context = Context::new(1 << 30, &pool);
    let x = |shape: [usize; 3]| Some(tensor(shape, 1));
    let wrong = [
        vec![x([2, 3, 4]), x([2, 2, 4]), x([2, 2, 4])],
        vec![x([2, 4, 4]), x([2, 2, 4]), x([3, 2, 4])],
        vec![x([2, 4, 4]), x([2, 2, 4]), x([2, 2, 4]), x([1, 2, 5]), x([1, 2, 4])],
        vec![x([2, 4, 4]), x([2, 2, 4]), x([2, 2, 4]), x([1, 2, 4]), x([2, 2, 4])],
        vec![x([2, 4, 4]), x([2, 2, 4])],
    ];
    for inputs in wrong {
        assert!(KINDS[0].run(&mut Inputs::new(inputs), &context).is_err());
    }
}
