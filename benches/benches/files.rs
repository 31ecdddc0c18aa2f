//! File to file: the whole job of `niwaki compress`, from a mapped checkpoint in the page
//! cache to a renamed output with report and digests.
//!
//! Beside it, in the same run, the least that any such tool does: hash the mapped source and
//! write a file of the output's size. Each result is opened and verified before it is timed.
//! Outputs are new files: replacing one makes some file systems write it to the disk first.
//!
//! ```text
//! cargo bench -p niwaki-benches --bench files
//! ```
#![allow(clippy::unwrap_used, reason = "a bench that fails must stop")]

use std::path::{Path, PathBuf};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use niwaki_benches::normal;
use niwaki_container::Artifact;
use niwaki_engine::{Destination, Names, Opened, Options, Plan, Preset, Tail, compress, recipe};
use niwaki_quant::Fit;
use niwaki_tensors::{Checkpoint, Dtype, Limits, Overwrite, write_file};
use rayon::prelude::*;

const ROWS: usize = 4096;
const COLS: usize = 14336;

fn write(path: &Path, dtype: Dtype, bytes: &[u8]) {
    let tensors = [("model.layers.0.mlp.down_proj.weight", dtype, &[ROWS, COLS][..], bytes)];
    write_file(path, &tensors, &[("format", "pt")], Overwrite::Replace).unwrap();
}

fn once(source: &Path, scheme: &str, out: &Path, threads: usize) -> niwaki_engine::Report {
    let opened = Opened::open(source, &Limits::default()).unwrap();
    let source = opened.source(None, Names::Own).unwrap();
    let recipe = Preset::Weights.recipe(recipe::scheme(scheme).unwrap(), Fit::MinMax).unwrap();
    let mut plan = Plan::new(&source, recipe, Tail::Short, Destination::default()).unwrap();
    let options = Options { threads, replace: true, ..Options::default() };
    compress(&source, &mut plan, out, &options, &|_, _| {}).unwrap()
}

/// Hash the source, write as many bytes as the output has, rename.
fn floor(source: &Path, bytes: usize, out: &Path, pool: &rayon::ThreadPool) {
    let checkpoint = Checkpoint::open(source, &Limits::default()).unwrap();
    let data = checkpoint.tensors().next().unwrap().bytes();
    let partial = out.with_extension("floor");
    let file = std::fs::File::create(&partial).unwrap();
    let zeros = vec![1u8; 1 << 20];
    pool.install(|| {
        data.par_chunks(1 << 20).for_each(|piece| {
            std::hint::black_box(blake3::hash(piece));
        });
        (0..bytes.div_ceil(zeros.len())).into_par_iter().for_each(|i| {
            let at = i * zeros.len();
            let piece = &zeros[..zeros.len().min(bytes - at)];
            std::os::unix::fs::FileExt::write_all_at(&file, piece, at as u64).unwrap();
        });
    });
    std::fs::rename(&partial, out).unwrap();
}

fn files(c: &mut Criterion) {
    let folder = std::env::temp_dir().join(format!("niwaki-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let weights = normal(ROWS * COLS);
    let sources = [(Dtype::F32, folder.join("f32.safetensors")), (Dtype::BF16, folder.join("bf16.safetensors"))];
    for (dtype, path) in &sources {
        let bytes: Vec<u8> = match dtype {
            Dtype::BF16 => weights.iter().flat_map(|w| bf16::from_f32(*w).to_le_bytes()).collect(),
            _ => weights.iter().flat_map(|w| w.to_le_bytes()).collect(),
        };
        write(path, *dtype, &bytes);
    }
    drop(weights);
    let out: PathBuf = folder.join("out.safetensors");
    for (dtype, source) in &sources {
        let input = (ROWS * COLS * dtype.bitsize() / 8) as u64;
        for scheme in ["int4/g32/sym", "int8/g32/sym", "elastic/g64"] {
            let report = once(source, scheme, &out, 2);
            let faults = niwaki_container::verify(&Artifact::open(&out, &Limits::default()).unwrap(), 2).faults;
            assert!(faults.is_empty(), "{faults:?}");
            let db = report.tensors[0].sqnr_db.unwrap();
            assert!(db > if scheme.starts_with("int4") { 21.2 } else { 44.0 }, "{scheme}: {db} dB");
            let mut group = c.benchmark_group(format!("file/{dtype}/{}", scheme.replace('/', "-")));
            group.sample_size(20).throughput(Throughput::Bytes(input));
            for threads in [1, 2] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let fresh = |path: &Path| drop(std::fs::remove_file(path));
                group.bench_function(format!("niwaki/{threads}"), |b| {
                    b.iter_batched(|| fresh(&out), |()| once(source, scheme, &out, threads), BatchSize::PerIteration);
                });
                let bytes = report.output_bytes as usize;
                let to = folder.join("floor.safetensors");
                group.bench_function(format!("floor/{threads}"), |b| {
                    b.iter_batched(|| fresh(&to), |()| floor(source, bytes, &to, &pool), BatchSize::PerIteration);
                });
            }
            group.finish();
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

criterion_group!(benches, files);
criterion_main!(benches);
