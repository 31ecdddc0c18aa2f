use std::collections::BTreeMap;

use super::*;
use crate::attributes::Attribute;
use crate::kernels::numbers;
use crate::operator::Pool;

#[derive(Clone, Debug)]
struct Case {
    x: [usize; 4],
    /// Output channels, kernel, groups.
    w: (usize, [usize; 2], usize),
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [usize; 4],
}

impl Case {
    fn weights(&self) -> [usize; 4] {
        [self.w.0, self.x[1] / self.w.2, self.w.1[0], self.w.1[1]]
    }

    fn operator(&self) -> Arc<dyn Operator> {
        let ints = |all: &[usize]| Attribute::Ints(all.iter().map(|x| *x as i64).collect());
        let attributes = BTreeMap::from([
            ("strides".to_owned(), ints(&self.strides)),
            ("dilations".to_owned(), ints(&self.dilations)),
            ("pads".to_owned(), ints(&self.pads)),
            ("group".to_owned(), Attribute::Int(self.w.2 as i64)),
        ]);
        build(&Definition { op: "Conv".into(), opset: 17, attributes, ..Definition::default() }).unwrap().unwrap()
    }

    /// The definition, in f64.
    fn expected(&self, x: &[f32], w: &[f32], b: &[f32]) -> (Vec<usize>, Vec<f64>) {
        let [n, c, height, width] = self.x;
        let (out, k, groups) = self.w;
        let size = |at: usize| {
            (self.x[at + 2] + self.pads[at] + self.pads[at + 2] - (k[at] - 1) * self.dilations[at] - 1)
                / self.strides[at]
                + 1
        };
        let (rows, cols, each) = (size(0), size(1), c / groups);
        let mut y = Vec::new();
        for (n, o) in (0..n).flat_map(|n| (0..out).map(move |o| (n, o))) {
            for (p, q) in (0..rows).flat_map(|p| (0..cols).map(move |q| (p, q))) {
                let mut sum = f64::from(b[o]);
                for (ch, i, j) in (0..each).flat_map(|c| (0..k[0]).flat_map(move |i| (0..k[1]).map(move |j| (c, i, j))))
                {
                    let row = (p * self.strides[0] + i * self.dilations[0]).wrapping_sub(self.pads[0]);
                    let col = (q * self.strides[1] + j * self.dilations[1]).wrapping_sub(self.pads[1]);
                    if row < height && col < width {
                        let channel = o / (out / groups) * each + ch;
                        let x = x[((n * c + channel) * height + row) * width + col];
                        sum += f64::from(x) * f64::from(w[((o * each + ch) * k[0] + i) * k[1] + j]);
                    }
                }
                y.push(sum);
            }
        }
        (vec![n, out, rows, cols], y)
    }

    fn check(&self) {
        let [one, three, ready] = self.bits();
        assert!(one == three && one == ready, "{self:?}: threads change the sum");
    }

    /// What one thread and three make with weights that may change, and two with weights that do not: all of them as the
    /// definition has it.
    fn bits(&self) -> [Vec<u32>; 3] {
        let (x, w) = (numbers(self.x.iter().product(), 1), numbers(self.weights().iter().product(), 2));
        let b = numbers(self.w.0, 3);
        let (shape, expected) = self.expected(&x, &w, &b);
        let tensors = || {
            [Tensor::of(self.x, x.clone()), Tensor::of(self.weights(), w.clone()), Tensor::of([self.w.0], b.clone())]
        };
        let operator = self.operator();
        let ready = operator.prepare(&tensors().each_ref().map(Option::as_ref)).unwrap().unwrap();
        let pool = Pool::default();
        [(&operator, 1), (&operator, 3), (&ready, 2)].map(|(operator, threads)| {
            let threads = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut inputs = Inputs::new(tensors().to_vec());
            let y = threads.install(|| operator.run(&mut inputs, &Context::new(1 << 30, &pool))).unwrap().remove(0);
            assert_eq!(y.shape(), shape, "{self:?}");
            let y = y.get::<f32>().unwrap();
            for (y, expected) in y.iter().zip(&expected) {
                assert!((f64::from(*y) - expected).abs() <= 1e-5 * (1.0 + expected.abs()), "{self:?}: {y} {expected}");
            }
            y.iter().map(|y| y.to_bits()).collect()
        })
    }
}

#[test]
fn convolutions_are_their_definition() {
    let base = Case { x: [2, 4, 9, 11], w: (6, [3, 3], 1), strides: [1, 1], dilations: [1, 1], pads: [1, 1, 1, 1] };
    base.check();
    for strides in [[1, 2], [2, 1], [2, 2], [3, 4]] {
        Case { strides, ..base.clone() }.check();
    }
    for pads in [[0; 4], [2, 0, 1, 3], [0, 5, 0, 0]] {
        Case { pads, ..base.clone() }.check();
        Case { pads, strides: [2, 2], dilations: [1, 2], ..base.clone() }.check();
    }
    Case { dilations: [2, 3], ..base.clone() }.check();
    for (channels, w) in
        [(4, (8, [3, 3], 4)), (4, (4, [3, 3], 4)), (6, (9, [2, 3], 3)), (5, (7, [1, 1], 1)), (3, (64, [7, 7], 1))]
    {
        Case { x: [1, channels, 9, 11], w, ..base.clone() }.check();
        Case { x: [9, channels, 8, 7], w, strides: [2, 2], ..base.clone() }.check();
    }
    // One by one, as it lies; rows shorter than a vector; one output.
    let one = Case { w: (16, [1, 1], 1), pads: [0; 4], ..base.clone() };
    one.check();
    for x in [[1, 4, 2, 3], [1, 4, 1, 8], [2, 4, 1, 1], [3, 4, 3, 17]] {
        Case { x, ..one.clone() }.check();
        Case { x, ..base.clone() }.check();
    }
    Case { x: [1, 4, 3, 3], pads: [0; 4], ..base }.check();
}

#[test]
fn weights_that_change_are_spread_over_tiles_where_there_are_many() {
    let base = Case { x: [9, 16, 8, 8], w: (16, [3, 3], 1), strides: [1, 1], dilations: [1, 1], pads: [1, 1, 1, 1] };
    let wide = Case { x: [2, 16, 17, 35], w: (32, [3, 3], 1), ..base.clone() };
    let uneven = Case { x: [11, 12, 8, 9], w: (24, [3, 3], 1), pads: [2, 0, 1, 3], ..base.clone() };
    for case in [base.clone(), wide, uneven] {
        let [one, three, ready] = case.bits();
        assert!(one == three, "{case:?}: threads change the sum");
        assert!(one != ready, "{case:?}: no other sums");
    }
    // Few tiles, and single outputs.
    Case { x: [5, 16, 8, 8], ..base.clone() }.check();
    Case { x: [90, 16, 3, 3], pads: [0; 4], ..base }.check();
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let case = Case { x: [1, 4, 5, 5], w: (4, [3, 3], 1), strides: [1, 1], dilations: [1, 1], pads: [0; 4] };
    let run = |x: &[usize], w: &[usize]| {
        let of = |shape: &[usize]| Tensor::of(shape.to_vec(), vec![0.0f32; shape.iter().product()]);
        let mut inputs = Inputs::new(vec![of(x), of(w)]);
        case.operator().run(&mut inputs, &Context::new(1 << 20, &Pool::default())).map(drop).unwrap_err().to_string()
    };
    assert!(run(&[1, 3, 5, 5], &[4, 4, 3, 3]).contains("images 1x3x5x5 and weights 4x4x3x3"));
    assert!(run(&[1, 4, 2, 5], &[4, 4, 3, 3]).contains("an image of 2x5, one that a window of 3x3 fits expected"));
    assert!(run(&[4], &[4, 4, 3, 3]).contains("images 4 and weights"));
    assert!(run(&[1, 4, 600, 600], &[4, 4, 3, 3]).contains("the limit is 1048576"));
    // Far more padding than image: of which hardly anything is an output's, and of which all is.
    let of = |shape: &[usize]| Tensor::of(shape.to_vec(), vec![0.0f32; shape.iter().product()]).unwrap();
    let (x, w, pool) = (of(&[1, 4, 5, 5]), of(&[16, 4, 3, 3]), Pool::default());
    let context = Context::new(1 << 20, &pool);
    for stride in [1 << 40, 1] {
        let operator = Case { strides: [1, stride], pads: [0, 1 << 40, 0, 0], ..case.clone() }.operator();
        let plain = operator.run(&mut Inputs::new(vec![Some(x.clone()), Some(w.clone())]), &context);
        let operator: &dyn std::any::Any = &*operator;
        let blocked = operator.downcast_ref::<Conv>().unwrap().blocked(&w, None, true).unwrap();
        for refused in [plain, blocked.run(&mut Inputs::new(vec![Some(x.clone())]), &context)] {
            assert!(refused.map(drop).unwrap_err().to_string().contains("the limit is 1048576"), "{stride}");
        }
    }
}
