//! Uniform codes in memory: a 4096 x 14336 matrix of normal weights to codes and back.
//!
//! Each kernel is first checked against the scalar level. Then it is timed by criterion,
//! and once more in turns with its floor, which does no more than read the weights once
//! and write as many bytes of codes (or, for decoding, fill the output): the lines that
//! begin with `ratio` say the best of both and how near the kernel comes. Rates count
//! four bytes a weight, whatever the dtype. Above 100 % the kernel gains from fetching
//! ahead, which the floor leaves to the hardware.
//!
//! ```text
//! cargo bench -p niwaki-benches --bench uniform            # everything
//! cargo bench -p niwaki-benches --bench uniform -- lsq     # what has `lsq` in its name
//! ```
#![allow(clippy::print_stdout, reason = "a bench reports to the terminal")]
#![allow(clippy::unwrap_used, reason = "a bench that fails must stop")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use niwaki_benches::{cpu_time, in_turns, normal};
use niwaki_codes::half_floats::{bf16_to_f32, f16_to_f32};
use niwaki_codes::simd::Level;
use niwaki_codes::{Scheme, Uniform, UniformView, stamp};
use niwaki_quant::{Distortion, Fit, UniformOut, Values, encode_rows};
use rayon::ThreadPool;
use rayon::prelude::*;

const ROWS: usize = 4096;
const COLS: usize = 14336;
/// Rows of one piece of work.
const BLOCK: usize = 64;
/// Rows that are checked against the scalar level.
const CHECKED: usize = 128;
/// Turns in which kernel and floor are compared.
const TURNS: usize = 15;

/// Buffers for the codes of the matrix in one scheme.
struct Coded {
    scheme: Uniform,
    codes: Vec<u8>,
    scales: Vec<u8>,
}

impl Coded {
    fn new(text: &str) -> Self {
        let Ok(Scheme::Uniform(scheme)) = text.parse() else { panic!("{text} is not uniform") };
        let codes = vec![1; ROWS * scheme.row_bytes(COLS)];
        let scales = vec![1; scheme.groups(ROWS, COLS) * scheme.scale_type().bytes()];
        Self { scheme, codes, scales }
    }

    /// Encodes `rows` rows in blocks.
    fn encode(&mut self, level: Level, fit: Fit, values: Values<'_>, rows: usize) -> Distortion {
        let (codes, scales) = (self.codes.len() / ROWS * BLOCK, self.scales.len() / ROWS * BLOCK);
        let scheme = &self.scheme;
        let blocks = self.codes.par_chunks_mut(codes).zip(self.scales.par_chunks_mut(scales)).enumerate();
        let lost: Vec<Distortion> = blocks
            .take(rows / BLOCK)
            .map(|(i, (codes, scales))| {
                let values = values.slice(i * BLOCK * COLS..(i + 1) * BLOCK * COLS);
                let out = UniformOut { codes, scales, zeros: &mut [] };
                encode_rows(level, scheme, fit, values, COLS, out).unwrap()
            })
            .collect();
        lost.iter().fold(Distortion::default(), |mut all, block| {
            all.merge(block);
            all
        })
    }

    fn decode(&self, level: Level, out: &mut [f32]) {
        let view = UniformView::new(self.scheme, ROWS, COLS, &self.codes, &self.scales, None).unwrap();
        out.par_chunks_mut(ROWS / 2 * COLS).enumerate().for_each(|(i, out)| {
            let rows = i * (ROWS / 2)..i * (ROWS / 2) + out.len() / COLS;
            view.dequantize_rows(level, rows, out).unwrap();
        });
    }
}

stamp! {
    /// One pass: reads weights, scales, rounds and packs them with no more ado.
    fn one_pass = one_pass_body(values: Values<'_>, codes: Codes<'_>) -> ();
}

/// Where the floor's codes go.
enum Codes<'a> {
    Nibbles(&'a mut [u8]),
    Bytes(&'a mut [u8]),
}

#[inline(always)]
fn one_pass_body(values: Values<'_>, codes: Codes<'_>) {
    match values {
        Values::F32(bytes) => pass(bytes.as_chunks::<4>().0, |b| f32::from_le_bytes(*b), codes),
        Values::F16(bytes) => pass(bytes.as_chunks::<2>().0, |b| f16_to_f32(u16::from_le_bytes(*b)), codes),
        Values::Bf16(bytes) => pass(bytes.as_chunks::<2>().0, |b| bf16_to_f32(u16::from_le_bytes(*b)), codes),
    }
}

/// A code a byte, or the codes of the two halves of 4096 weights side by side: loops that
/// every compiler turns into vectors.
#[inline(always)]
fn pass<B>(weights: &[B], weight: impl Fn(&B) -> f32, codes: Codes<'_>) {
    match codes {
        Codes::Bytes(to) => {
            for (to, x) in to.iter_mut().zip(weights) {
                *to = code(weight(x)) as u8;
            }
        }
        Codes::Nibbles(to) => {
            for (to, x) in to.chunks_exact_mut(2048).zip(weights.chunks_exact(4096)) {
                let (low, high) = x.split_at(2048);
                for (to, (low, high)) in to.iter_mut().zip(low.iter().zip(high)) {
                    *to = (code(weight(low)) & 15 | code(weight(high)) << 4) as u8;
                }
            }
        }
    }
}

#[inline(always)]
fn code(x: f32) -> u32 {
    (x * 37.0 + 12_582_912.0).to_bits()
}

fn ratio(name: &str, bytes: usize, (kernel, floor): (Duration, Duration)) {
    let rate = |t: Duration| bytes as f64 / t.as_secs_f64() / 1e9;
    let share = 100.0 * floor.as_secs_f64() / kernel.as_secs_f64();
    println!(
        "ratio {name}: {:.1} ms, {:.2} GB/s; floor {:.2} GB/s; {share:.0} %",
        kernel.as_secs_f64() * 1e3,
        rate(kernel),
        rate(floor)
    );
}

/// The bytes of the first rows, by the level and by the scalar one.
fn check(coded: &mut Coded, fit: Fit, values: Values<'_>) {
    let mut lost = [Distortion::default(); 2];
    let parts = [Level::Scalar, Level::best()].map(|level| {
        lost[usize::from(level != Level::Scalar)] = coded.encode(level, fit, values, CHECKED);
        let codes = coded.codes.len() / ROWS * CHECKED;
        let scales = coded.scales.len() / ROWS * CHECKED;
        (coded.codes[..codes].to_vec(), coded.scales[..scales].to_vec())
    });
    assert!(lost[0] == lost[1] || Level::best() == Level::Scalar, "the levels disagree");
    assert!(parts[0] == parts[1], "the levels disagree");
}

/// One job: what is encoded how, on how many threads.
struct Job<'a> {
    name: String,
    scheme: &'a str,
    fit: Fit,
    values: Values<'a>,
}

fn encode(c: &mut Criterion, pool: &ThreadPool, job: &Job<'_>) {
    let mut coded = Coded::new(job.scheme);
    pool.install(|| check(&mut coded, job.fit, job.values));
    let bytes = 4 * ROWS * COLS;
    let mut group = c.benchmark_group("encode");
    group.sample_size(10).throughput(Throughput::Bytes(bytes as u64));
    let mut ran = false;
    group.bench_function(&job.name, |b| {
        ran = true;
        b.iter(|| pool.install(|| black_box(coded.encode(Level::best(), job.fit, job.values, ROWS))));
    });
    group.finish();
    if !ran {
        return;
    }
    let each = if coded.scheme.bits.get() == 8 { 1 } else { 2 };
    let mut floor = vec![1; ROWS * COLS / each];
    let mut lost = Distortion::default();
    let times = in_turns(
        TURNS,
        || lost = pool.install(|| coded.encode(Level::best(), job.fit, job.values, ROWS)),
        || {
            let pieces = floor.par_chunks_mut(BLOCK * COLS / each).enumerate();
            pool.install(|| {
                pieces.for_each(|(i, codes)| {
                    let values = job.values.slice(i * BLOCK * COLS..(i + 1) * BLOCK * COLS);
                    let codes = if each == 1 { Codes::Bytes(codes) } else { Codes::Nibbles(codes) };
                    one_pass(Level::best(), values, codes);
                })
            });
        },
    );
    ratio(&job.name, bytes, times);
    println!("      {}: {:.3} dB", job.name, lost.sqnr_db().unwrap());
    if let (1, Some(before)) = (pool.current_num_threads(), pool.install(cpu_time)) {
        pool.install(|| black_box(coded.encode(Level::best(), job.fit, job.values, ROWS)));
        let used = pool.install(cpu_time).unwrap() - before;
        println!("      {}: {:.0} ms of CPU time", job.name, used.as_secs_f64() * 1e3);
    }
}

fn decode(c: &mut Criterion, pool: &ThreadPool, name: &str, scheme: &str, single: &[u8]) {
    let mut coded = Coded::new(scheme);
    coded.encode(Level::best(), Fit::MinMax, Values::F32(single), ROWS);
    let (mut out, mut scalar) = (vec![0.0; ROWS * COLS], vec![0.0; ROWS * COLS]);
    pool.install(|| coded.decode(Level::Scalar, &mut scalar));
    pool.install(|| coded.decode(Level::best(), &mut out));
    assert!(out == scalar, "the levels disagree");
    drop(scalar);
    let size = size_of_val(&out[..]);
    let mut group = c.benchmark_group("decode");
    group.sample_size(10).throughput(Throughput::Bytes(size as u64));
    let mut ran = false;
    group.bench_function(name, |b| {
        ran = true;
        b.iter(|| pool.install(|| coded.decode(Level::best(), black_box(&mut out))));
    });
    group.finish();
    if !ran {
        return;
    }
    let mut floor = vec![1u8; size];
    let times = in_turns(
        TURNS,
        || pool.install(|| coded.decode(Level::best(), black_box(&mut out))),
        || pool.install(|| floor.par_chunks_mut(size / 2).for_each(|half| black_box(half).fill(7))),
    );
    ratio(name, size, times);
}

fn uniform(c: &mut Criterion) {
    let weights = normal(ROWS * COLS);
    let single: Vec<u8> = weights.iter().flat_map(|x| x.to_le_bytes()).collect();
    let brain: Vec<u8> = weights.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
    drop(weights);
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for (dtype, values) in [("f32", Values::F32(&single)), ("bf16", Values::Bf16(&brain))] {
            for scheme in ["int4/g32/sym", "int8/g32/sym"] {
                let name = format!("{dtype} to {scheme} min_max, {threads} threads");
                encode(c, &pool, &Job { name, scheme, fit: Fit::MinMax, values });
            }
        }
        decode(c, &pool, &format!("int4/g32/sym to f32, {threads} threads"), "int4/g32/sym", &single);
        decode(c, &pool, &format!("int8/g32/sym to f32, {threads} threads"), "int8/g32/sym", &single);
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for fit in [Fit::Clip, Fit::Lsq] {
        let name = format!("f32 to int4/g32/sym {fit}, 1 threads");
        encode(c, &pool, &Job { name, scheme: "int4/g32/sym", fit, values: Values::F32(&single) });
    }
}

criterion_group!(benches, uniform);
criterion_main!(benches);
