//! Blocks of ggml in memory: a 4096 x 14336 matrix of normal weights on one thread.
//!
//! The bytes of the first rows are checked against the scalar level, and what the encoder
//! says it lost against what the blocks decode to. The lines that begin with `lost` say the
//! decibels and the best CPU time of a few runs, finding what was lost included. Types with
//! one scale for 32 weights are also encoded from bf16; rates count four bytes a weight.
//!
//! ```text
//! cargo bench -p niwaki-benches --bench blocks             # every type
//! cargo bench -p niwaki-benches --bench blocks -- q4_k     # one of them
//! ```
#![allow(clippy::print_stdout, reason = "a bench reports to the terminal")]
#![allow(clippy::unwrap_used, reason = "a bench that fails must stop")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use niwaki_benches::{cpu_time, normal};
use niwaki_codes::simd::Level;
use niwaki_codes::{BlockType, BlockView};
use niwaki_quant::{Distortion, Values, encode_block_rows};

const ROWS: usize = 4096;
const COLS: usize = 14336;
/// Rows that are checked.
const CHECKED: usize = 128;
/// Runs of which the one that took least CPU time counts.
const RUNS: usize = 3;

fn encode(level: Level, kind: BlockType, weights: Values<'_>, out: &mut [u8]) -> Distortion {
    encode_block_rows(level, kind, weights, COLS, out).unwrap()
}

/// The bytes of the first rows at two levels, and the difference to what they decode to.
fn check(kind: BlockType, weights: Values<'_>) {
    let weights = weights.slice(0..CHECKED * COLS);
    let mut parts = [Level::Scalar, Level::best()].map(|level| {
        let mut out = vec![1; CHECKED * kind.row_bytes(COLS).unwrap()];
        let lost = encode(level, kind, weights, &mut out);
        (out, lost)
    });
    assert!(parts[0] == parts[1], "the levels disagree");
    let (out, lost) = &mut parts[0];
    let mut decoded = vec![0.0; CHECKED * COLS];
    let view = BlockView::new(kind, CHECKED, COLS, out).unwrap();
    view.dequantize_rows(Level::Scalar, 0..CHECKED, &mut decoded).unwrap();
    let mut floats = vec![0.0; CHECKED * COLS];
    weights.decode(Level::Scalar, &mut floats);
    let (ours, theirs) = (lost.sqnr_db().unwrap(), Distortion::between(&floats, &decoded).sqnr_db().unwrap());
    assert!((ours - theirs).abs() < 0.001, "{ours} dB said, {theirs} dB decoded");
}

fn bench(c: &mut Criterion, name: &str, kind: BlockType, weights: Values<'_>) {
    check(kind, weights);
    let mut out = vec![1; ROWS * kind.row_bytes(COLS).unwrap()];
    let mut group = c.benchmark_group("blocks");
    group.sample_size(10).throughput(Throughput::Bytes(4 * weights.len() as u64));
    let mut ran = false;
    group.bench_function(name, |b| {
        ran = true;
        b.iter(|| black_box(encode(Level::best(), kind, weights, &mut out)));
    });
    group.finish();
    if !ran {
        return;
    }
    let (mut lost, mut best) = (Distortion::default(), Duration::MAX);
    for _ in 0..RUNS {
        let before = cpu_time();
        lost = encode(Level::best(), kind, weights, &mut out);
        if let (Some(before), Some(after)) = (before, cpu_time()) {
            best = best.min(after - before);
        }
    }
    println!("lost  {name}: {:.3} dB, {:.3} s of CPU time", lost.sqnr_db().unwrap(), best.as_secs_f64());
}

fn blocks(c: &mut Criterion) {
    let weights = normal(ROWS * COLS);
    let single: Vec<u8> = weights.iter().flat_map(|x| x.to_le_bytes()).collect();
    let brain: Vec<u8> = weights.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
    drop(weights);
    for kind in BlockType::ALL {
        bench(c, kind.name(), kind, Values::F32(&single));
    }
    for kind in [BlockType::Q4_0, BlockType::Q4_1, BlockType::Q5_0, BlockType::Q5_1, BlockType::Q8_0] {
        bench(c, &format!("{kind} from bf16"), kind, Values::Bf16(&brain));
    }
}

criterion_group!(benches, blocks);
criterion_main!(benches);
