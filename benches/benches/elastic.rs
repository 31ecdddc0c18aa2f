//! Elastic codes in memory: normal weights to planes and back, and what each width loses.
//!
//! Each kernel is first checked against the scalar level. Then it is timed by criterion,
//! and once more in turns with its naive twin or floor: the lines that begin with `ratio`
//! say the best of both. The lines that begin with `table` compare each fit with a
//! quantizer made for the width alone: clipping searched, scale and offset in full
//! precision refined by least squares.
//!
//! ```text
//! cargo bench -p niwaki-benches --bench elastic            # everything
//! cargo bench -p niwaki-benches --bench elastic -- decode  # what has `decode` in its name
//! ```
#![allow(clippy::print_stdout, reason = "a bench reports to the terminal")]
#![allow(clippy::unwrap_used, reason = "a bench that fails must stop")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use niwaki_benches::{in_turns, normal};
use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, Elastic, ElasticParts, ElasticView, Scheme, Widths, planes};
use niwaki_quant::{ElasticDistortion, ElasticOut, Fit, Values, encode_elastic_rows};

const ROWS: usize = 512;
const COLS: usize = 4096;
const GROUP: usize = 64;
/// Rows that are checked against the scalar level.
const CHECKED: usize = 32;
/// Turns in which a kernel and its twin are compared.
const TURNS: usize = 5;

/// The parts of the matrix at all widths.
#[derive(Clone, PartialEq)]
struct Coded {
    base: Vec<u8>,
    fixes: Vec<Vec<u8>>,
    planes: Vec<Vec<u8>>,
}

fn scheme() -> Elastic {
    let Ok(Scheme::Elastic(scheme)) = format!("elastic/g{GROUP}").parse() else { panic!("no elastic scheme") };
    assert_eq!(scheme.widths, Widths::ALL);
    scheme
}

impl Coded {
    fn new(rows: usize) -> Self {
        let sizes = scheme().parts(rows, COLS).unwrap();
        let base = vec![1; sizes.base];
        Self { base, fixes: vec![vec![1; sizes.fix]; 6], planes: vec![vec![1; sizes.plane]; 8] }
    }

    fn encode(&mut self, level: Level, fit: Fit, weights: &[u8]) -> ElasticDistortion {
        let mut out = ElasticOut { base: &mut self.base, ..ElasticOut::default() };
        out.fixes[2..8].iter_mut().zip(&mut self.fixes).for_each(|(to, fix)| *to = Some(fix));
        out.planes.iter_mut().zip(&mut self.planes).for_each(|(to, plane)| *to = Some(plane));
        encode_elastic_rows(level, &scheme(), fit, Values::F32(weights), COLS, out).unwrap()
    }

    fn view(&self) -> ElasticView<'_> {
        let mut parts = ElasticParts { base: &self.base, ..ElasticParts::default() };
        parts.fixes[2..8].iter_mut().zip(&self.fixes).for_each(|(to, fix)| *to = Some(fix));
        parts.planes.iter_mut().zip(&self.planes).for_each(|(to, plane)| *to = Some(plane));
        let rows = self.planes[0].len() / (COLS / 8);
        ElasticView::new(scheme(), rows, COLS, parts).unwrap()
    }
}

/// The plain definition as one would write it first: floor codes, and for each width a
/// scale and an offset by least squares in `f64`; nothing stored compactly.
fn naive(weights: &[f32]) -> f64 {
    let mut noise = 0.0;
    for x in weights.chunks(GROUP) {
        let (low, high) = x.iter().fold((x[0], x[0]), |(low, high), x| (low.min(*x), high.max(*x)));
        let cell = (high - low) / 256.0;
        let codes: Vec<u32> = x.iter().map(|x| (((x - low) / cell).floor() as u32).min(255)).collect();
        for drop in 0..7 {
            let (mut q, mut qq, mut s, mut sq) = (0.0, 0.0, 0.0, 0.0);
            for (x, code) in x.iter().zip(&codes) {
                let (x, code) = (f64::from(*x), f64::from(code >> drop) + 0.5);
                (q, qq, s, sq) = (q + code, qq + code * code, s + x, sq + x * code);
            }
            let n = x.len() as f64;
            let scale = (n * sq - s * q) / (n * qq - q * q);
            let offset = (s - scale * q) / n;
            for (x, code) in x.iter().zip(&codes) {
                noise += (f64::from(*x) - offset - scale * (f64::from(code >> drop) + 0.5)).powi(2);
            }
        }
    }
    noise
}

/// The least squared error of one group by a quantizer of `bits` bits of its own.
fn dedicated(x: &[f32], bits: Bits) -> f64 {
    let (low, high) = x.iter().fold((x[0], x[0]), |(low, high), x| (low.min(*x), high.max(*x)));
    let (low, high) = (f64::from(low), f64::from(high));
    let top = f64::from(bits.levels() - 1);
    let mut best = f64::INFINITY;
    for i in 0..70 {
        let half = (high - low) / 2.0 * (1.0 - f64::from(i) / 100.0);
        let (mut offset, mut step) = ((low + high) / 2.0 - half, 2.0 * half / top);
        for _ in 0..8 {
            let (mut q, mut qq, mut s, mut sq, mut ss) = (0.0, 0.0, 0.0, 0.0, 0.0);
            for x in x {
                let x = f64::from(*x);
                let code = ((x - offset) / step).round().clamp(0.0, top);
                (q, qq, s, sq, ss) = (q + code, qq + code * code, s + x, sq + x * code, ss + x * x);
            }
            let n = x.len() as f64;
            step = (n * sq - s * q) / (n * qq - q * q);
            offset = (s - step * q) / n;
            best = best.min(ss - offset * s - step * sq);
        }
    }
    best
}

/// Decibels of each width: a quantizer of its own, then every fit.
fn table(weights: &[f32], bytes: &[u8]) {
    let few = &weights[..COLS * 32];
    let signal: f64 = few.iter().map(|x| f64::from(*x).powi(2)).sum();
    let alone = Bits::all().map(|bits| {
        let noise: f64 = few.chunks(GROUP).map(|x| dedicated(x, bits)).sum();
        10.0 * (signal / noise).log10()
    });
    let alone: Vec<f64> = alone.collect();
    let line = |name: &str, all: &[f64]| {
        let all: Vec<String> = all.iter().map(|db| format!("{db:6.2}")).collect();
        println!("table {name:>10} | {}", all.join(" | "));
    };
    line("bits", &Bits::all().map(|b| f64::from(b.get())).collect::<Vec<_>>());
    line("dedicated", &alone);
    for fit in Fit::ALL {
        let lost = Coded::new(32).encode(Level::best(), fit, &bytes[..COLS * 32 * 4]);
        let all: Vec<f64> = Bits::all().map(|b| lost.at(b).unwrap().sqnr_db().unwrap()).collect();
        line(&fit.to_string(), &all);
        let bound = if fit == Fit::MinMax { 1.1 } else { 0.2 };
        assert!(all.iter().zip(&alone).all(|(db, alone)| *db > alone - bound), "{fit} is beyond {bound} dB");
    }
}

fn ratio(name: &str, twin: &str, (kernel, other): (Duration, Duration)) {
    let each = |t: Duration| t.as_secs_f64() * 1e9 / (ROWS * COLS) as f64;
    let rate = |t: Duration| (ROWS * COLS * 4) as f64 / t.as_secs_f64() / 1e9;
    println!(
        "ratio {name}: {:.2} ns a weight, {:.2} GB/s of f32; {twin} {:.2} ns, {:.2} GB/s; {:.2} times as fast",
        each(kernel),
        rate(kernel),
        each(other),
        rate(other),
        other.as_secs_f64() / kernel.as_secs_f64()
    );
}

fn encode(c: &mut Criterion, weights: &[f32], bytes: &[u8]) {
    let mut group = c.benchmark_group("elastic/encode");
    group.sample_size(10).throughput(Throughput::Bytes(bytes.len() as u64));
    for fit in Fit::ALL {
        let [mut scalar, mut best] = [Coded::new(CHECKED), Coded::new(CHECKED)];
        let few = &bytes[..CHECKED * COLS * 4];
        assert_eq!(scalar.encode(Level::Scalar, fit, few), best.encode(Level::best(), fit, few));
        assert!(scalar == best, "the levels disagree");
        let mut coded = Coded::new(ROWS);
        let mut ran = false;
        group.bench_function(fit.to_string(), |b| {
            ran = true;
            b.iter(|| black_box(coded.encode(Level::best(), fit, bytes)));
        });
        if ran {
            let kernel = || {
                black_box(coded.encode(Level::best(), fit, bytes));
            };
            let twin = || {
                black_box(naive(weights));
            };
            ratio(&format!("encode {fit}"), "naive min_max", in_turns(TURNS, kernel, twin));
        }
    }
    group.finish();
}

fn decode(c: &mut Criterion, bytes: &[u8]) {
    let mut coded = Coded::new(ROWS);
    coded.encode(Level::best(), Fit::Clip, bytes);
    let view = coded.view();
    let (mut out, mut scalar) = (vec![0.0; ROWS * COLS], vec![0.0; CHECKED * COLS]);
    let mut group = c.benchmark_group("elastic/decode");
    group.sample_size(10).throughput(Throughput::Bytes(bytes.len() as u64));
    for bits in Bits::all() {
        view.dequantize_rows(Level::Scalar, bits, 0..CHECKED, &mut scalar).unwrap();
        view.dequantize_rows(Level::best(), bits, 0..ROWS, &mut out).unwrap();
        assert!(out.starts_with(&scalar), "the levels disagree");
        let mut ran = false;
        let mut kernel = || view.dequantize_rows(Level::best(), bits, 0..ROWS, black_box(&mut out)).unwrap();
        group.bench_function(bits.to_string(), |b| {
            ran = true;
            b.iter(&mut kernel);
        });
        if ran {
            let mut floor = vec![1.0f32; ROWS * COLS];
            ratio(&format!("decode {bits} bits"), "fill", in_turns(TURNS, kernel, || black_box(&mut floor).fill(7.0)));
        }
    }
    group.finish();
}

fn split_and_merge(c: &mut Criterion) {
    let codes: Vec<u8> = (0..ROWS * COLS).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut parts = vec![vec![0; codes.len() / 8]; 8];
    let mut back = vec![0; codes.len()];
    let split = |level, parts: &mut [Vec<u8>]| {
        let parts = parts.iter_mut().rev().zip(0..);
        parts.for_each(|(plane, bit)| planes::split(level, bit, &codes, plane).unwrap());
    };
    let merge = |level, parts: &[Vec<u8>], back: &mut [u8]| {
        let parts: Vec<&[u8]> = parts.iter().map(|plane| &plane[..]).collect();
        planes::merge(level, &parts, back).unwrap();
    };
    split(Level::best(), &mut parts);
    merge(Level::Scalar, &parts, &mut back);
    assert!(back == codes, "the levels disagree");
    let mut group = c.benchmark_group("elastic/planes");
    group.sample_size(10).throughput(Throughput::Bytes(codes.len() as u64));
    group.bench_function("split", |b| b.iter(|| split(Level::best(), &mut parts)));
    group.bench_function("split naive", |b| b.iter(|| split(Level::Scalar, &mut parts)));
    group.bench_function("merge", |b| b.iter(|| merge(Level::best(), &parts, &mut back)));
    group.bench_function("merge naive", |b| b.iter(|| merge(Level::Scalar, &parts, &mut back)));
    group.finish();
}

fn elastic(c: &mut Criterion) {
    let weights = normal(ROWS * COLS);
    let bytes: Vec<u8> = weights.iter().flat_map(|x| x.to_le_bytes()).collect();
    table(&weights, &bytes);
    encode(c, &weights, &bytes);
    decode(c, &bytes);
    split_and_merge(c);
}

criterion_group!(benches, elastic);
criterion_main!(benches);
