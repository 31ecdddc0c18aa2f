//! Products of a 4096 x 14336 matrix with one row of inputs, as a checkpoint of every form stores it,
//! on one thread and on two, beside reading the stored bytes once.
//!
//! The matrix is compressed by the command line, opened, and multiplied through
//! [`niwaki_container::Operand`]; products are compared with the decoded weights first. Lines that begin
//! with `ratio` say the best of both in turns.
//!
//! ```text
//! cargo bench -p niwaki-benches --bench operands             # everything
//! cargo bench -p niwaki-benches --bench operands -- elastic  # what has `elastic` in its name
//! ```
#![allow(clippy::print_stdout, reason = "a bench reports to the terminal")]
#![allow(clippy::unwrap_used, reason = "a bench that fails must stop")]

use std::hint::black_box;

use niwaki_benches::{in_turns, normal, read};
use niwaki_codes::Bits;
use niwaki_codes::product::{Inputs, Kernel, Scratch};
use niwaki_codes::simd::Level;
use niwaki_conformance::cli::niwaki;
use niwaki_conformance::folder::Folder;
use niwaki_container::{Artifact, Operand, Overlay, Part, Tensor};
use niwaki_tensors::{Dtype, Limits, Overwrite, write_file};

const ROWS: usize = 4096;
const COLS: usize = 14336;
const TURNS: usize = 15;

/// A name, the recipe of its checkpoint, and the width that is read.
type Case = (&'static str, &'static str, Option<u32>);

const CASES: [Case; 16] = [
    ("f32", "", None),
    ("int4/g64/sym", "[[quantize]]\ntensors = \"w\"\nscheme = \"int4/g64/sym\"", None),
    ("int4/g64/affine", "[[quantize]]\ntensors = \"w\"\nscheme = \"int4/g64/affine\"", None),
    ("int8/row/sym", "[[quantize]]\ntensors = \"w\"\nscheme = \"int8/row/sym\"", None),
    ("q4_0", "[[quantize]]\ntensors = \"w\"\nscheme = \"q4_0\"", None),
    ("q8_0", "[[quantize]]\ntensors = \"w\"\nscheme = \"q8_0\"", None),
    ("q4_k", "[[quantize]]\ntensors = \"w\"\nscheme = \"q4_k\"", None),
    ("elastic/g64 at 2", "[[elastic]]\ntensors = \"w\"\ngroup = 64", Some(2)),
    ("elastic/g64 at 3", "[[elastic]]\ntensors = \"w\"\ngroup = 64", Some(3)),
    ("elastic/g64 at 4", "[[elastic]]\ntensors = \"w\"\ngroup = 64", Some(4)),
    ("elastic/g64 at 8", "[[elastic]]\ntensors = \"w\"\ngroup = 64", Some(8)),
    ("sparse 80 % f32", "[[mask]]\ntensors = \"w\"\npattern = { keep = 0.2 }", None),
    ("sparse 90 % f32", "[[mask]]\ntensors = \"w\"\npattern = { keep = 0.1 }", None),
    ("sparse 95 % f32", "[[mask]]\ntensors = \"w\"\npattern = { keep = 0.05 }", None),
    (
        "sparse 90 % int4/g64/sym",
        "[[mask]]\ntensors = \"w\"\npattern = { keep = 0.1 }\n[[quantize]]\ntensors = \"w\"\nscheme = \"int4/g64/sym\"",
        None,
    ),
    (
        "sparse 95 % int4/g64/sym",
        "[[mask]]\ntensors = \"w\"\npattern = { keep = 0.05 }\n[[quantize]]\ntensors = \"w\"\nscheme = \"int4/g64/sym\"",
        None,
    ),
];

fn main() {
    let named = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let folder = Folder::new("operands");
    let weights: Vec<u8> = normal(ROWS * COLS).iter().flat_map(|w| w.to_le_bytes()).collect();
    let source = folder.path().join("w.safetensors");
    write_file(&source, &[("w", Dtype::F32, &[ROWS, COLS], &weights)], &[], Overwrite::Replace).unwrap();
    let x = normal(COLS);
    for (name, recipe, width) in CASES.iter().filter(|(name, ..)| name.contains(&named)) {
        let mut path = source.clone();
        if !recipe.is_empty() {
            let recipe_path = folder.at("recipe.toml");
            std::fs::write(&recipe_path, format!("version = 1\n{recipe}\n")).unwrap();
            path = folder.path().join("coded.safetensors");
            let (from, to) = (folder.at("w.safetensors"), folder.at("coded.safetensors"));
            niwaki(["compress", &from, "-r", &recipe_path, "-o", &to, "--force", "-q"]).ok();
        }
        let artifact = Artifact::open(&path, &Limits::default()).unwrap();
        measure(name, artifact.get("w").unwrap(), width.map(|bits| Bits::new(bits).unwrap()), &x);
    }
}

fn measure(name: &str, tensor: Tensor<'_>, width: Option<Bits>, x: &[f32]) {
    let operand = tensor.prepare(Kernel::best(), width, &Overlay::default(), None).unwrap();
    check(&operand, tensor, width, x);
    // The parts that the width takes.
    let parts: Vec<&[u8]> = tensor.parts().filter(|(part, _)| takes(width, *part)).map(|(_, bytes)| bytes).collect();
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    for threads in [1, 2] {
        for rounded in [false, true] {
            if rounded && !name.starts_with(['i', 'q']) {
                continue;
            }
            let mut y = vec![0.0; ROWS];
            let job = || multiply(&operand, rounded, threads, x, &mut y);
            let floor = || {
                std::thread::scope(|scope| {
                    for at in 0..threads {
                        let parts = &parts;
                        scope.spawn(move || {
                            for part in parts {
                                let each = part.len().div_ceil(threads);
                                let some = part.chunks(each.max(1)).nth(at).unwrap_or_default();
                                black_box(read(Level::best(), some));
                            }
                        });
                    }
                });
            };
            let (best, floor) = in_turns(TURNS, job, floor);
            println!(
                "ratio {name} {}, {threads} threads: {:.2} ms, {:.1} GB/s; floor {:.2} ms: {:.0} %",
                if rounded { "rounded" } else { "floats" },
                best.as_secs_f64() * 1e3,
                bytes as f64 / best.as_secs_f64() / 1e9,
                floor.as_secs_f64() * 1e3,
                100.0 * floor.as_secs_f64() / best.as_secs_f64()
            );
        }
    }
}

/// Whether a width of elastic codes takes a part.
fn takes(width: Option<Bits>, part: Part) -> bool {
    match (part, width) {
        (Part::Plane(number), Some(width)) => u32::from(number) + width.get() >= 8,
        (Part::Fix(bits), Some(width)) => bits == width,
        _ => true,
    }
}

/// The products of all rows, each thread some of them.
fn multiply(operand: &Operand<'_>, rounded: bool, threads: usize, x: &[f32], y: &mut [f32]) {
    let sizes = operand.form(rounded).sizes(COLS);
    let (mut floats, mut sums, mut codes) = (vec![0.0; sizes.floats], vec![0; sizes.sums], vec![0; sizes.codes]);
    let scratch = Scratch { floats: &mut floats, sums: &mut sums, codes: &mut codes };
    let x = Inputs::new(Level::best(), operand.form(rounded), x, scratch).unwrap();
    let each = ROWS.div_ceil(threads);
    std::thread::scope(|scope| {
        for (at, y) in y.chunks_mut(each).enumerate() {
            scope.spawn(move || operand.gemv(at * each..at * each + y.len(), &x, y).unwrap());
        }
    });
}

/// Against the decoded weights in doubles, of some rows.
fn check(operand: &Operand<'_>, tensor: Tensor<'_>, width: Option<Bits>, x: &[f32]) {
    let (mut y, mut row) = (vec![0.0; ROWS], vec![0.0; COLS]);
    for rounded in [false, true] {
        multiply(operand, rounded, 2, x, &mut y);
        for at in (0..ROWS).step_by(397) {
            tensor.dequantize_rows(Level::Scalar, width, at..at + 1, &mut row).unwrap();
            let products = row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
            let (sum, size) = products.fold((0.0, 0.0), |(sum, size): (f64, f64), p| (sum + p, size + p.abs()));
            // Rounded inputs are within half a step of 127 of the largest of 32.
            let bound = if rounded { 2e-2 } else { 1e-5 };
            assert!((f64::from(y[at]) - sum).abs() <= bound * size, "row {at}: {} and {sum}", y[at]);
        }
    }
}
