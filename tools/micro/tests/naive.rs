//! Every kind of step against a version that is short enough to be believed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_image::{Area, Draft, DraftTensor, Image, Kind, Onto, Place, Row, Step, Times, Window, Work};
use niwaki_micro::run;

/// Numbers that look random, the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn code(&mut self) -> i8 {
        self.next(256) as u8 as i8
    }

    fn size(&mut self, from: usize, to: usize) -> usize {
        from + self.next((to - from + 1) as u64) as usize
    }
}

fn window(numbers: &mut Numbers) -> Window {
    let kernel = [numbers.size(1, 4), numbers.size(1, 4)];
    let two = |numbers: &mut Numbers, to| [numbers.size(1, to), numbers.size(1, to)];
    let (stride, dilation) = (two(numbers, 3), two(numbers, 2));
    Window { kernel, stride, dilation, before: [numbers.size(0, 2), numbers.size(0, 2)] }
}

/// How many windows begin in an image, at most four.
fn outputs(window: &Window, input: [usize; 3]) -> [usize; 2] {
    [0, 1].map(|side| ((input[side] - 1 + window.before[side]) / window.stride[side] + 1).min(4))
}

/// The input under a place of a window; none beside the image.
fn under(window: &Window, image: [usize; 3], out: [usize; 2], tap: [usize; 2]) -> Option<usize> {
    let at = [0, 1].map(|side| {
        let at = (out[side] * window.stride[side] + tap[side] * window.dilation[side]) as isize;
        usize::try_from(at - window.before[side] as isize).ok().filter(|at| *at < image[side])
    });
    Some((at[0]? * image[1] + at[1]?) * image[2])
}

fn shifted(x: i128, multiplier: i32, shift: u32) -> i128 {
    (x * i128::from(multiplier) + (1 << (shift - 1))) >> shift
}

fn held(x: i128, zero: i8, (low, high): (i8, i8)) -> i8 {
    (x + i128::from(zero)).clamp(low.into(), high.into()) as i8
}

/// An image with one step; what lies in its output before; the input.
struct Case {
    draft: Draft,
    there: Vec<i8>,
    input: Vec<i8>,
    codes: Vec<i32>,
}

impl Case {
    fn new(step: Step, tensors: Vec<DraftTensor>, codes: Vec<i32>, numbers: &mut Numbers) -> Self {
        let place = |area| Place { area, zero: 0, scale: 1.0 };
        let (input, there) =
            [step.input, step.output].map(|area| (0..area.len()).map(|_| numbers.code()).collect()).into();
        let scratch = codes.len();
        let arena = step.input.len() + step.output.len() + scratch;
        let draft = Draft {
            arena,
            input: place(step.input),
            output: place(step.output),
            steps: vec![step],
            tensors,
            widths: Vec::new(),
        };
        Self { draft, there, input, codes }
    }

    fn step(&self) -> Step {
        self.draft.steps[0]
    }

    fn run(&self) -> Vec<i8> {
        self.run_image(&Image::parse(&self.draft.write().unwrap()).unwrap())
    }

    fn run_image(&self, image: &Image<'_>) -> Vec<i8> {
        let mut arena = vec![0; image.arena()];
        arena[self.step().output.range()].copy_from_slice(&self.there);
        run(image, &self.input, &mut arena).unwrap().to_vec()
    }
}

fn step(numbers: &mut Numbers, input: [usize; 3], output: [usize; 3], work: Work) -> Step {
    let (a, b) = (numbers.code(), numbers.code());
    let input = Area { at: 0, shape: input };
    Step {
        input,
        input_zero: numbers.code(),
        output: Area { at: input.len(), shape: output },
        output_zero: numbers.code(),
        low: a.min(b).min(-60),
        high: a.max(b),
        work,
    }
}

/// Two codes in a byte.
fn halves(codes: &[i32]) -> Vec<u8> {
    codes.chunks(2).map(|two| (two[0] & 15 | two.get(1).unwrap_or(&0) << 4) as u8).collect()
}

/// A bit for each, the lowest of a byte first.
fn bits(all: impl Iterator<Item = bool>) -> Vec<u8> {
    let all: Vec<bool> = all.collect();
    all.chunks(8).map(|eight| eight.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
}

/// Codes of rows as a kind stores them.
fn stored(kind: Kind, codes: &[i32], cols: usize) -> Vec<u8> {
    let rows = || codes.chunks(cols);
    let wide = |row: &[i32]| row.iter().map(|code| *code as u8).collect::<Vec<u8>>();
    let kept = |row: &[i32]| row.iter().copied().filter(|code| *code != 0).collect::<Vec<i32>>();
    let masks = || rows().flat_map(|row| bits(row.iter().map(|code| *code != 0)));
    match kind {
        Kind::Int4 => rows().flat_map(halves).collect(),
        Kind::Sparse4 => masks().chain(rows().flat_map(|row| halves(&kept(row)))).collect(),
        Kind::Sparse8 => masks().chain(rows().flat_map(|row| wide(&kept(row)))).collect(),
        _ => rows().flat_map(wide).collect(),
    }
}

fn row(numbers: &mut Numbers) -> Row {
    Row {
        bias: numbers.next(20_000) as i32 - 10_000,
        times: Times { multiplier: i32::MAX - numbers.next(1 << 30) as i32, shift: 31 + numbers.size(4, 12) as u8 },
    }
}

/// A convolution of weights of a kind; of elastic ones the code has as many bits as the widest, and is no number yet.
fn conv(numbers: &mut Numbers, kind: Kind, widths: &[u8]) -> Case {
    let groups = numbers.size(1, 3);
    let (each, rows) = (numbers.size(1, 5), groups * numbers.size(1, 3));
    let window = window(numbers);
    let input = [numbers.size(1, 6), numbers.size(1, 6), groups * each];
    let [down, across] = outputs(&window, input);
    let cols = window.kernel[0] * window.kernel[1] * each;
    let (low, count) = match (kind, widths.last()) {
        (Kind::Int4 | Kind::Sparse4, _) => (-8, 16),
        (_, Some(widest)) => (0, 1 << widest),
        _ => (-128, 256),
    };
    let mut codes: Vec<i32> = (0..rows * cols).map(|_| numbers.next(count) as i32 + low).collect();
    if kind.sparse() {
        codes.iter_mut().filter(|_| numbers.next(3) > 0).for_each(|code| *code = 0);
    }
    let packed = match widths.last() {
        None => stored(kind, &codes, cols),
        Some(widest) => (0..*widest)
            .rev()
            .flat_map(|bit| codes.chunks(cols).flat_map(move |row| bits(row.iter().map(move |q| q >> bit & 1 == 1))))
            .collect(),
    };
    let all = (0..rows * widths.len().max(1)).map(|_| row(numbers)).collect();
    let tensor = DraftTensor { kind, cols, codes: packed, rows: all };
    let onto = (numbers.next(2) == 0).then(|| Onto { zero: numbers.code(), times: numbers.next(200_000) as i32 });
    let output = [down, across, rows];
    let scratch = input.iter().product::<usize>() + output.iter().product::<usize>();
    let work = Work::Conv { window, groups, weights: 0, scratch, onto };
    let step = step(numbers, input, output, work);
    let mut case = Case::new(step, vec![tensor], codes, numbers);
    case.draft.widths = widths.to_vec();
    case
}

fn naive_conv(case: &Case) -> Vec<i8> {
    naive_of(case, &case.codes, &case.draft.tensors[0].rows)
}

fn naive_of(case: &Case, codes: &[i32], rows: &[Row]) -> Vec<i8> {
    let Step { input, input_zero, output, output_zero, low, high, work } = case.step();
    let Work::Conv { window, groups, onto, .. } = work else { panic!("a convolution") };
    let cols = codes.len() / rows.len();
    let each = input.shape[2] / groups;
    let mut made = Vec::new();
    for y in 0..output.shape[0] {
        for x in 0..output.shape[1] {
            for (channel, row) in rows.iter().enumerate() {
                let group = channel / (rows.len() / groups);
                let mut sum = i128::from(row.bias);
                for (tap, codes) in codes[channel * cols..][..cols].chunks(each).enumerate() {
                    let tap = [tap / window.kernel[1], tap % window.kernel[1]];
                    let at = under(&window, input.shape, [y, x], tap);
                    for (nth, code) in codes.iter().enumerate() {
                        let x = at.map_or(input_zero, |at| case.input[at + group * each + nth]);
                        sum += i128::from(*code) * i128::from(x);
                    }
                }
                let Times { multiplier, shift } = row.times;
                let steps = match onto {
                    None => shifted(sum, multiplier, shift.into()),
                    Some(onto) => {
                        let more = i128::from(case.there[made.len()]) - i128::from(onto.zero);
                        let sum = shifted(sum, multiplier, u32::from(shift) - 16).clamp(-(1 << 30), 1 << 30);
                        shifted(sum + more * i128::from(onto.times), 1, 16)
                    }
                };
                made.push(held(steps, output_zero, (low, high)));
            }
        }
    }
    made
}

#[test]
fn convolutions_are_sums_of_products() {
    let mut numbers = Numbers(7);
    let mut seen = std::collections::BTreeSet::new();
    let kinds = [Kind::Int8, Kind::Int4, Kind::Sparse8, Kind::Sparse4];
    for nth in 0..6_000 {
        let case = conv(&mut numbers, kinds[nth % 4], &[]);
        let made = case.run();
        assert_eq!(made, naive_conv(&case), "case {nth}: {:?}", case.step());
        seen.extend(made);
    }
    assert!(seen.len() > 200, "codes of all sizes, not those at the ends: {}", seen.len());
}

#[test]
fn a_prefix_is_the_network_of_a_narrower_width() {
    let mut numbers = Numbers(13);
    for nth in 0..1_000 {
        let widths: Vec<u8> = (2..=8).filter(|_| numbers.next(2) == 0).collect();
        if widths.is_empty() {
            continue;
        }
        let case = conv(&mut numbers, Kind::Elastic, &widths);
        let bytes = case.draft.write().unwrap();
        let image = Image::parse(&bytes).unwrap();
        let cuts: Vec<(u8, usize)> = image.widths().collect();
        assert_eq!((cuts.len(), cuts.last().unwrap().1), (widths.len(), bytes.len()));
        let rows = &case.draft.tensors[0].rows;
        for ((width, end), rows) in cuts.iter().zip(rows.chunks(rows.len() / widths.len())) {
            let cut = Image::parse(&bytes[..*end]).unwrap();
            assert_eq!(
                (cut.width(), cut.widths().len()),
                (Some(*width), cuts.iter().filter(|cut| cut.1 <= *end).count())
            );
            let odd = |q: &i32| 2 * (q >> (widths.last().unwrap() - width)) + 1 - (1 << width);
            let codes: Vec<i32> = case.codes.iter().map(odd).collect();
            let expected = naive_of(&case, &codes, rows);
            assert_eq!(case.run_image(&cut), expected, "case {nth}, {width} bits: {:?}", case.step());
            assert_eq!(case.run_image(&image.at(*width).unwrap()), expected);
        }
        assert_eq!(image.at(9).map(|image| image.arena()), None);
    }
}

#[test]
fn the_comparison_sees_a_changed_weight() {
    let mut numbers = Numbers(11);
    let mut differ = 0;
    for _ in 0..50 {
        let mut case = conv(&mut numbers, Kind::Int8, &[]);
        case.codes[0] += 40;
        differ += usize::from(case.run() != naive_conv(&case));
    }
    assert!(differ > 20, "{differ} of 50");
}

#[test]
fn pools_look_at_what_is_in_the_image() {
    let mut numbers = Numbers(3);
    for nth in 0..2_000 {
        let window = window(&mut numbers);
        let input = [numbers.size(1, 6), numbers.size(1, 6), numbers.size(1, 3)];
        let [down, across] = outputs(&window, input);
        let times = Times { multiplier: 1 << 30 | numbers.next(1 << 30) as i32, shift: 33 };
        let mean = nth % 2 == 0;
        let work = if mean { Work::AveragePool { window, times } } else { Work::MaxPool(window) };
        let step = step(&mut numbers, input, [down, across, input[2]], work);
        let case = Case::new(step, Vec::new(), Vec::new(), &mut numbers);
        let mut expected = Vec::new();
        for (y, x, channel) in
            (0..down).flat_map(|y| (0..across).flat_map(move |x| (0..input[2]).map(move |channel| (y, x, channel))))
        {
            let taps = (0..window.kernel[0]).flat_map(|a| (0..window.kernel[1]).map(move |b| [a, b]));
            let codes: Vec<i8> =
                taps.filter_map(|tap| under(&window, input, [y, x], tap)).map(|at| case.input[at + channel]).collect();
            let ends = (step.low, step.high);
            expected.push(if mean {
                let sum = codes.iter().map(|code| i128::from(*code) - i128::from(step.input_zero)).sum();
                held(shifted(sum, times.multiplier, 33), step.output_zero, ends)
            } else {
                codes.into_iter().max().unwrap_or(i8::MIN).clamp(ends.0, ends.1)
            });
        }
        assert_eq!(case.run(), expected, "case {nth}: {step:?}");
    }
}

#[test]
fn sums_have_steps_of_their_own() {
    let mut numbers = Numbers(5);
    for nth in 0..500 {
        let shape = [numbers.size(1, 4), numbers.size(1, 4), numbers.size(1, 4)];
        let times = numbers.next(1 << 18) as i32;
        let onto = Onto { zero: numbers.code(), times: numbers.next(1 << 18) as i32 };
        let adds = nth % 2 == 0;
        let work = if adds { Work::Add { times, onto } } else { Work::Rescale { times } };
        let step = step(&mut numbers, shape, shape, work);
        let case = Case::new(step, Vec::new(), Vec::new(), &mut numbers);
        let one = |(x, there): (&i8, &i8)| {
            let x = (i128::from(*x) - i128::from(step.input_zero)) * i128::from(times);
            let there = (i128::from(*there) - i128::from(onto.zero)) * i128::from(onto.times);
            held(shifted(x + if adds { there } else { 0 }, 1, 16), step.output_zero, (step.low, step.high))
        };
        let expected: Vec<i8> = case.input.iter().zip(&case.there).map(one).collect();
        assert_eq!(case.run(), expected, "case {nth}: {step:?}");
    }
}

#[test]
fn shares_add_up() {
    let scale = 0.1f64;
    let power = |below: usize| ((-(below as f64) * scale).exp() * f64::from(1 << 20)).round() as u32;
    let codes = (0..256).flat_map(|below| power(below).to_le_bytes()).collect();
    let table = DraftTensor { kind: Kind::Exponentials, cols: 256, codes, rows: Vec::new() };
    let mut numbers = Numbers(9);
    for _ in 0..200 {
        let shape = [1, 1, numbers.size(1, 12)];
        let mut step = step(&mut numbers, shape, shape, Work::Softmax { table: 0 });
        (step.low, step.high) = (-128, 127);
        let case = Case::new(step, vec![table.clone()], Vec::new(), &mut numbers);
        let powers: Vec<f64> = case.input.iter().map(|x| (f64::from(*x) * scale).exp()).collect();
        for (share, power) in case.run().iter().zip(&powers) {
            let exact = power / powers.iter().sum::<f64>() * 256.0 - 128.0;
            // Half a step, and what the rounding of entries of 2^20 adds to a share of 256.
            assert!((f64::from(*share) - exact.min(127.0)).abs() <= 0.5 + 256.0 * 12.0 / f64::from(1 << 20));
        }
    }
}
