//! Patches: merged into a checkpoint, file to file, and laid over it as it is read.
//!
//! Beside merging, in the same run, a copy of the file by the system and its hash by one thread,
//! which are the least that merging takes; the patch touches two of sixteen tensors, as signatures
//! do, or all of them. What is written is checked: taken off again,
//! it is the file that it was made from.
//!
//! ```text
//! cargo bench -p niwaki-benches --bench signatures
//! ```
#![allow(clippy::unwrap_used, reason = "a bench that fails must stop")]

use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use niwaki_benches::normal;
use niwaki_container::Digest;
use niwaki_engine::signature::{
    Application, Checkpoints, Encoding, Extraction, Patch, Signature, apply, extract, overlaid, remove,
};
use niwaki_engine::{Destination, Names, Opened, Options, Plan, Preset, Ratio, Tail, compress, recipe};
use niwaki_quant::Fit;
use niwaki_tensors::{Dtype, Limits, Overwrite, write_file};

const ROWS: usize = 1024;
const COLS: usize = 3584;
const TENSORS: usize = 16;

fn write(path: &Path, shift: usize) {
    let mut weights = normal(ROWS * COLS + 64);
    let turned: Vec<f32> = normal(ROWS * COLS + 64).iter().rev().copied().collect();
    weights.iter_mut().zip(&turned).for_each(|(x, d)| *x += 0.2 * shift as f32 * d);
    let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
    let names: Vec<String> = (0..TENSORS).map(|i| format!("layers.{i}.weight")).collect();
    let tensors: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(i, name)| (name.as_str(), Dtype::F32, &[ROWS, COLS][..], &bytes[i * 4..(i + ROWS * COLS) * 4]))
        .collect();
    write_file(path, &tensors, &[], Overwrite::Replace).unwrap();
}

fn open(path: &Path) -> Opened {
    Opened::open(path, &Limits::default()).unwrap()
}

fn signature(folder: &Path, name: &str, what: &Extraction) -> Signature {
    let [init, standard, robust] =
        ["init", "standard", "robust"].map(|name| open(&folder.join(format!("{name}.safetensors"))));
    let [i, s, r] = [&init, &standard, &robust].map(|opened| opened.source(None, Names::Own).unwrap());
    let out = folder.join(format!("{name}.safetensors"));
    let from = Checkpoints { init: Some(&i), standard: &s, robust: &r };
    extract(from, what, &out, &Options { replace: true, ..Options::default() }, &|_, _| {}).unwrap();
    Signature::open(&out, &Limits::default()).unwrap()
}

fn merged(base: &Path, signature: &Signature, out: &Path, threads: usize) {
    let opened = open(base);
    let patch = Patch { signature, alpha: 1.0, transfer: false };
    let options = Options { threads, replace: true, ..Options::default() };
    let how = Application { out: Some(out), allow_loss: true };
    apply(&opened, &[patch], how, &options, &|_, _| {}).unwrap();
}

fn signatures(c: &mut Criterion) {
    let folder = std::env::temp_dir().join(format!("niwaki-bench-signatures-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (shift, name) in ["init", "standard", "robust"].iter().enumerate() {
        write(&folder.join(format!("{name}.safetensors")), shift);
    }
    let standard = folder.join("standard.safetensors");
    let codes = folder.join("codes.safetensors");
    {
        let opened = open(&standard);
        let source = opened.source(None, Names::Own).unwrap();
        let recipe = Preset::Weights.recipe(recipe::scheme("int8/row/sym").unwrap(), Fit::MinMax).unwrap();
        let mut plan = Plan::new(&source, recipe, Tail::Short, Destination::default()).unwrap();
        compress(&source, &mut plan, &codes, &Options::default(), &|_, _| {}).unwrap();
    }
    let int8 = Encoding::of_text("int8/row/sym").unwrap();
    let sparse = Encoding { keep: Some(Ratio::new(0.01).unwrap()), ..Encoding::of_text("int8/g64/sym").unwrap() };
    let few = vec!["layers.0.*".to_owned(), "layers.1.*".to_owned()];
    let of = |only: Vec<String>, encoding| Extraction { only, encoding, ..Extraction::default() };
    let all = vec!["*".to_owned()];
    let cases = [
        ("f32/two-of-16", &standard, signature(&folder, "few", &of(few.clone(), int8))),
        ("f32/all", &standard, signature(&folder, "all", &of(all.clone(), int8))),
        ("int8/two-of-16", &codes, signature(&folder, "few8", &of(few, int8))),
        ("int8/sparse-1-percent", &codes, signature(&folder, "sparse", &of(all, sparse))),
    ];
    let (out, back) = (folder.join("out.safetensors"), folder.join("back.safetensors"));
    for (name, base, signature) in &cases {
        let bytes = std::fs::metadata(base).unwrap().len();
        merged(base, signature, &out, 2);
        remove(&open(&out), signature.name(), &back, &Options { replace: true, ..Options::default() }, &|_, _| {})
            .unwrap();
        assert!(std::fs::read(&back).unwrap() == std::fs::read(base).unwrap(), "{name} does not come back");
        let mut group = c.benchmark_group(format!("merge/{name}"));
        group.sample_size(20).throughput(Throughput::Bytes(bytes));
        let fresh = |path: &Path| drop(std::fs::remove_file(path));
        for threads in [1, 2] {
            group.bench_function(format!("niwaki/{threads}"), |b| {
                b.iter_batched(|| fresh(&out), |()| merged(base, signature, &out, threads), BatchSize::PerIteration);
            });
        }
        group.bench_function("copy", |b| {
            b.iter_batched(|| fresh(&back), |()| std::fs::copy(base, &back).unwrap(), BatchSize::PerIteration);
        });
        let bytes = std::fs::read(base).unwrap();
        group.bench_function("hash", |b| b.iter(|| Digest::of(&bytes)));
        group.finish();
    }
    // Opening the container and its overlay; then, apart, one row of a tensor that is touched.
    let (_, base, signature) = &cases[2];
    let patch = [Patch { signature, alpha: 0.5, transfer: false }];
    c.bench_function("overlay/open", |b| {
        b.iter(|| overlaid(&open(base), None, Names::Own, &patch).map(|source| source.tensors().len()).unwrap());
    });
    std::fs::remove_dir_all(&folder).unwrap();
}

criterion_group!(benches, signatures);
criterion_main!(benches);
