//! Weights that stand with a row for each input, as `MatMul` has them: what is done along the inputs is what is done to the
//! transpose.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use niwaki_conformance::folder::{Folder, bundled};
use niwaki_conformance::nets::numbers;
use niwaki_conformance::onnx_read::decoded;
use niwaki_conformance::scene::{attempt, json, run};
use niwaki_conformance::trained::refuse;
use niwaki_engine::mask::MaskFile;
use niwaki_onnx::build::{Dim, attr_int, graph, initializer, model, node, value};
use niwaki_onnx::proto::{NodeProto, TensorProto};
use niwaki_onnx::{DataType, SaveOptions, save};
use niwaki_tensors::{Checkpoint, Limits};

const INPUTS: usize = 784;
const OUTPUTS: usize = 24;

/// The transpose of a matrix whose rows have `cols` elements.
fn turned<T: Copy>(all: &[T], cols: usize) -> Vec<T> {
    (0..cols).flat_map(|col| all.iter().skip(col).step_by(cols).copied()).collect()
}

fn floats(path: &str, name: &str) -> Vec<f32> {
    let checkpoint = Checkpoint::open(path, &Limits::default()).unwrap();
    checkpoint.get(name).unwrap().f32s().unwrap().to_vec()
}

fn tensor(name: &str, shape: &[usize], all: &[f32]) -> TensorProto {
    initializer(name, DataType::Float, shape, all.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

fn write(folder: &Folder, out: &str, nodes: Vec<NodeProto>, weights: Vec<TensorProto>) {
    let inputs = [Dim::Named("batch"), Dim::Known(1), Dim::Known(28), Dim::Known(28)];
    let images = vec![value("images", DataType::Float, &inputs)];
    let scores = vec![value("scores", DataType::Float, &[Dim::Named("batch"), Dim::Known(10)])];
    let proto = model(21, graph("layers", nodes, images, scores, weights));
    save(&proto, folder.at(out).as_ref(), &SaveOptions::default()).unwrap();
}

/// Writes a network of two layers: the first a `Gemm` whose rows are outputs, or a `MatMul` whose rows are inputs; and the
/// first one's weights otherwise than usual.
fn network(folder: &Folder, out: &str, inputs_are_rows: bool, first: &[f32]) {
    let one = match inputs_are_rows {
        true => tensor("one", &[INPUTS, OUTPUTS], &turned(first, INPUTS)),
        false => tensor("one", &[OUTPUTS, INPUTS], first),
    };
    let nodes = vec![
        node("Flatten", &["images"], &["flat"], vec![]),
        match inputs_are_rows {
            true => node("MatMul", &["flat", "one"], &["hidden"], vec![]),
            false => node("Gemm", &["flat", "one"], &["hidden"], vec![attr_int("transB", 1)]),
        },
        node("Relu", &["hidden"], &["active"], vec![]),
        node("Gemm", &["active", "two"], &["scores"], vec![attr_int("transB", 1)]),
    ];
    write(folder, out, nodes, vec![one, tensor("two", &[10, OUTPUTS], &numbers(10 * OUTPUTS, 2))]);
}

/// Such networks of the same weights: `out.onnx` with outputs as rows, `in.onnx` with inputs.
fn both(name: &str) -> Folder {
    let folder = Folder::new(name);
    let first = numbers(OUTPUTS * INPUTS, 1);
    network(&folder, "out.onnx", false, &first);
    network(&folder, "in.onnx", true, &first);
    folder
}

/// Whether weights of the first layer are kept, output by output.
fn kept(folder: &Folder, file: &str, inputs_are_rows: bool) -> Vec<bool> {
    let (rows, cols) = if inputs_are_rows { (INPUTS, OUTPUTS) } else { (OUTPUTS, INPUTS) };
    let mask = MaskFile::open(folder.at(file).as_ref()).unwrap().mask("one", (rows, cols)).unwrap();
    let all: Vec<bool> = (0..rows * cols).map(|at| mask.view().keeps(at / cols, at % cols).unwrap()).collect();
    if inputs_are_rows { turned(&all, cols) } else { all }
}

/// Whether each run of m inputs keeps n, the last one of each output as many as it has.
fn has_runs(kept: &[bool], n: usize, m: usize) -> bool {
    let run = |run: &[bool]| run.iter().filter(|kept| **kept).count() == n.min(run.len());
    kept.chunks(INPUTS).all(|output| output.chunks(m).all(run))
}

#[test]
fn scores_keep_n_of_every_m_inputs() {
    let folder = both("orientation-score");
    let data = bundled("sample.safetensors");
    // Of five inputs the last run of 784 has four.
    for (n, m) in [(2, 4), (3, 5), (1, 8)] {
        for by in ["magnitude", "wanda"] {
            for (net, inputs_are_rows) in [("out", false), ("in", true)] {
                let more = if by == "wanda" { format!(" --data {data} --examples 64") } else { String::new() };
                let line = format!("mask score @{net}.onnx --by {by} --pattern {n}:{m}{more} -o @{net}.safetensors");
                let said = json(&folder, &format!("{line} --force"));
                let found = kept(&folder, &format!("{net}.safetensors"), inputs_are_rows);
                assert!(has_runs(&found, n, m), "{by} {n}:{m} of {net}");
                let count = found.iter().filter(|kept| **kept).count() as u64;
                assert_eq!(said["tensors"][0]["kept"].as_u64(), Some(count), "{said}");
            }
            assert!(kept(&folder, "out.safetensors", false) == kept(&folder, "in.safetensors", true), "{by} {n}:{m}");
        }
    }
    // Zeros stand where masks have them, and masks compare as ever.
    for net in ["out", "in"] {
        run(&folder, &format!("mask score @{net}.onnx --by magnitude --pattern 2:4 -o @{net}.safetensors --force"));
        run(&folder, &format!("mask apply @{net}.onnx @{net}.safetensors -o @{net}.zeros.onnx"));
        run(&folder, &format!("export @{net}.zeros.onnx --to safetensors -o @{net}.zeros.safetensors"));
    }
    let [straight, other] = ["out", "in"].map(|net| floats(&folder.at(&format!("{net}.zeros.safetensors")), "one"));
    assert_eq!(turned(&other, OUTPUTS), straight);
    let zeros: Vec<bool> = straight.iter().map(|w| *w != 0.0).collect();
    assert!(has_runs(&zeros, 2, 4));
    run(&folder, "mask score @in.onnx --by random --pattern 2:4 -o @random.safetensors");
    let compared = json(&folder, "mask compare @in.safetensors @random.safetensors");
    let (first, second) = (&compared["all"]["first"], &compared["all"]["second"]);
    assert_eq!((first.as_u64(), second), (Some((INPUTS * OUTPUTS / 2) as u64), first), "{compared}");
    assert!((compared["all"]["overlap"].as_f64().unwrap() - 0.5).abs() < 0.05, "{compared}");
}

#[test]
fn searches_keep_n_of_every_m_inputs_at_every_step() {
    let folder = both("orientation-search");
    let data = bundled("sample.safetensors");
    let search = |net: &str, more: &str, out: &str| {
        let line = format!("mask search @{net}.onnx --data {data} --pattern 2:4 --epochs 2 --batch 50 --lr 1");
        json(&folder, &format!("{line} {more} -o @{out}.safetensors"))
    };
    let said = search("in", "--threads 1", "in");
    search("in", "--threads 3", "again");
    assert!(fs::read(folder.at("in.safetensors")).unwrap() == fs::read(folder.at("again.safetensors")).unwrap());
    assert!(said["epochs"][0]["flips"].as_f64().unwrap() > 0.0, "{said}");
    let found = kept(&folder, "in.safetensors", true);
    assert!(has_runs(&found, 2, 4));
    search("out", "--threads 2", "out");
    assert!(found == kept(&folder, "out.safetensors", false));
    // It begins with the largest weights unless it is told otherwise, and goes on from a file.
    run(&folder, "mask score @in.onnx --by magnitude --pattern 2:4 -o @start.safetensors");
    assert!(kept(&folder, "start.safetensors", true) != found);
    search("in", &format!("--start {}", folder.at("start.safetensors")), "from-file");
    assert!(kept(&folder, "from-file.safetensors", true) == found);
    search("in", "--start random", "from-random");
    assert!(has_runs(&kept(&folder, "from-random.safetensors", true), 2, 4));
    run(&folder, "mask apply @in.onnx @in.safetensors -o @in.zeros.onnx");
    // As many weights, but not in every run.
    run(&folder, "mask score @in.onnx --by magnitude --sparsity 0.5 -o @share.safetensors");
    let line = format!("mask search @in.onnx --data {data} --pattern 2:4 --start {}", folder.at("share.safetensors"));
    refuse(&folder, &format!("{line} -o @no.safetensors"), "tensor `one`: the mask does not keep as many weights");
}

#[test]
fn recipes_keep_n_of_every_m_inputs() {
    let folder = both("orientation-recipe");
    for (n, m, codes) in [(2, 4, ""), (3, 5, ""), (1, 16, ""), (2, 4, "int8/tensor/sym")] {
        let quantize = format!("[[quantize]]\ntensors = \"one\"\nscheme = \"{codes}\"\n");
        let quantize = if codes.is_empty() { String::new() } else { quantize };
        let recipe = format!("version = 1\n{quantize}[[mask]]\ntensors = \"one\"\npattern = {{ n = {n}, m = {m} }}\n");
        fs::write(folder.at("r.toml"), recipe).unwrap();
        for net in ["out", "in"] {
            let line = format!("compress @{net}.onnx -r @r.toml --force");
            let report = json(&folder, &format!("{line} --threads 1 -o @{net}.safetensors"));
            run(&folder, &format!("{line} --threads 3 -o @again.safetensors"));
            let [one, three] = [net, "again"].map(|file| fs::read(folder.at(&format!("{file}.safetensors"))).unwrap());
            assert!(one == three, "{net} {n}:{m}");
            run(&folder, &format!("verify @{net}.safetensors"));
            run(&folder, &format!("export @{net}.safetensors --to safetensors -o @{net}.plain.safetensors --force"));
            let plan = json(&folder, &format!("plan @{net}.onnx -r @r.toml"));
            assert_eq!(plan["tensors"][0]["bytes_after"], report["tensors"][0]["bytes_after"], "{plan}");
        }
        let [straight, other] = ["out", "in"].map(|net| floats(&folder.at(&format!("{net}.plain.safetensors")), "one"));
        assert_eq!(turned(&other, OUTPUTS), straight, "{n}:{m} {codes}");
        if codes.is_empty() {
            assert!(has_runs(&straight.iter().map(|w| *w != 0.0).collect::<Vec<_>>(), n, m), "{n}:{m}");
        }
    }
    // What a recipe keeps is what a score keeps; a plan says where runs lie.
    fs::write(folder.at("r.toml"), "version = 1\n[[mask]]\ntensors = \"one\"\npattern = { n = 2, m = 4 }\n").unwrap();
    let note = json(&folder, "plan @in.onnx -r @r.toml")["tensors"][0]["note"].clone();
    assert_eq!(note, "its rows are inputs: 2:4 goes down its columns");
    run(&folder, "mask score @in.onnx --by magnitude --pattern 2:4 -o @m.safetensors");
    let file = folder.at("m.safetensors");
    let recipe = format!("version = 1\n[[mask]]\ntensors = \"one\"\npattern = {{ file = {file:?} }}\n");
    fs::write(folder.at("f.toml"), recipe).unwrap();
    for recipe in ["r", "f"] {
        run(&folder, &format!("compress @in.onnx -r @{recipe}.toml -o @{recipe}.safetensors"));
        run(&folder, &format!("export @{recipe}.safetensors --to safetensors -o @{recipe}.plain.safetensors"));
    }
    let of = |recipe: &str| floats(&folder.at(&format!("{recipe}.plain.safetensors")), "one");
    assert_eq!(of("r"), of("f"));
}

/// Statistics of both networks, with Gram matrices.
fn calibrated(name: &str) -> Folder {
    let folder = both(name);
    let data = bundled("sample.safetensors");
    for net in ["out", "in"] {
        let line = format!("calibrate @{net}.onnx --data {data} --limit 500 --gram -o @{net}.stats.safetensors");
        run(&folder, &line);
    }
    folder
}

#[test]
fn codes_of_an_onnx_model_make_up_for_errors_along_the_inputs() {
    let folder = calibrated("orientation-onnx");
    let compress = |net: &str, scheme: &str, fit: &str, to: &str, out: &str| {
        let line =
            format!("compress @{net}.onnx --only one --scheme {scheme} --fit {fit} --stats @{net}.stats.safetensors");
        json(&folder, &format!("{line} --to {to} -o @{out} --force"))
    };
    for scheme in ["int4/g16/sym", "int3/g28/affine", "int4/row/sym", "int8/row/affine", "int5/g24/sym"] {
        for fit in ["gptq", "gptq_order", "lsq"] {
            compress("out", scheme, fit, "onnx", "out.codes.onnx");
            compress("in", scheme, fit, "onnx", "in.codes.onnx");
            compress("out", scheme, fit, "safetensors", "codes.safetensors");
            run(&folder, "export @codes.safetensors --to safetensors -o @plain.safetensors --force");
            let plain = floats(&folder.at("plain.safetensors"), "one");
            for net in ["out", "in"] {
                let (dims, all) = decoded(&folder.at(&format!("{net}.codes.onnx")))["one"].clone();
                let all = if dims == [INPUTS, OUTPUTS] { turned(&all, OUTPUTS) } else { all };
                assert!(all == plain, "{scheme} {fit}: {net} {dims:?}");
            }
        }
    }
    let line = "compress @in.onnx --only one --scheme int4/g16/sym --fit gptq --stats @in.stats.safetensors --to onnx";
    for threads in [1, 3] {
        run(&folder, &format!("{line} --threads {threads} -o @{threads}.onnx"));
    }
    assert!(fs::read(folder.at("1.onnx")).unwrap() == fs::read(folder.at("3.onnx")).unwrap());
    // Statistics without matrices, and those of the other network.
    let data = bundled("sample.safetensors");
    run(&folder, &format!("calibrate @in.onnx --data {data} --limit 500 -o @few.safetensors"));
    let without = line.replace("in.stats", "few");
    refuse(&folder, &format!("{without} -o @no.onnx"), "tensor `one`: no Gram matrix of its inputs");
    refuse(
        &folder,
        &format!("{} -o @no.onnx", line.replace("in.stats", "out.stats")),
        "statistics of another checkpoint",
    );
    refuse(
        &folder,
        &format!("{} -o @no.onnx", line.replace("g16/sym", "tensor/sym")),
        "the fit gptq of int4/tensor/sym",
    );
}

/// What codes of the first layer change of its outputs, summed over images.
fn lost(images: &[f32], found: &[f32]) -> f64 {
    let own = numbers(OUTPUTS * INPUTS, 1);
    let change: Vec<f64> = found.iter().zip(&own).map(|(w, own)| f64::from(*w) - f64::from(*own)).collect();
    let dot = |image: &[f32], row: &[f64]| image.iter().zip(row).map(|(x, d)| f64::from(*x) * d).sum::<f64>();
    images.chunks(INPUTS).map(|image| change.chunks(INPUTS).map(|row| dot(image, row).powi(2)).sum::<f64>()).sum()
}

#[test]
fn codes_whose_rows_are_inputs_make_up_for_errors_row_by_row() {
    let folder = calibrated("orientation-gptq");
    let data = niwaki_engine::dataset::Dataset::open(bundled("sample.safetensors").as_ref()).unwrap();
    let mut images = vec![0.0f32; 100 * INPUTS];
    data.batch(0..100, &mut images).unwrap();
    for scheme in ["int3/g8/affine", "int4/row/sym", "int2/g24/affine"] {
        let [lsq, gptq, order] = ["lsq", "gptq", "gptq_order"].map(|fit| {
            let line = format!("compress @in.onnx --only one --scheme {scheme} --fit {fit} --force");
            let line = format!("{line} --stats @in.stats.safetensors");
            run(&folder, &format!("{line} --threads 1 -o @one.safetensors"));
            run(&folder, &format!("{line} --threads 3 -o @three.safetensors"));
            let [one, three] =
                ["one", "three"].map(|file| fs::read(folder.at(&format!("{file}.safetensors"))).unwrap());
            assert!(one == three, "{scheme} {fit}");
            run(&folder, "verify @one.safetensors");
            run(&folder, "export @one.safetensors --to safetensors -o @plain.safetensors --force");
            lost(&images, &turned(&floats(&folder.at("plain.safetensors"), "one"), OUTPUTS))
        });
        assert!(gptq.max(order) < 0.6 * lsq, "{scheme}: {lsq} {gptq} {order}");
    }
    // Where each weight has a grid of its own, both networks have the same codes.
    let [straight, other] = ["out", "in"].map(|net| {
        let line = format!("compress @{net}.onnx --only one --scheme int2/g1/sym --fit gptq --force");
        run(&folder, &format!("{line} --stats @{net}.stats.safetensors -o @one.safetensors"));
        run(&folder, "export @one.safetensors --to safetensors -o @plain.safetensors --force");
        floats(&folder.at("plain.safetensors"), "one")
    });
    assert!(turned(&other, OUTPUTS) == straight);
    // The search for schemes sees what is left of the outputs.
    let losses = |fit: &str| {
        let line = "search @in.onnx --stats @in.stats.safetensors --schemes int3/g8/affine,int4/g8/affine";
        let found = json(&folder, &format!("{line} --fit {fit} --budget 12bits -o @r.toml --force"));
        found["tensors"][0]["losses"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<_>>()
    };
    let (gptq, lsq) = (losses("gptq"), losses("lsq"));
    assert!(gptq.iter().zip(&lsq).all(|(gptq, lsq)| *gptq < 0.6 * lsq), "{gptq:?} {lsq:?}");
}

#[test]
fn weights_without_a_place_among_codes_or_runs_are_named() {
    let folder = Folder::new("orientation-refusals");
    let mut first = numbers(OUTPUTS * INPUTS, 1);
    // Output 5, input 9: in rows of inputs weight 9 * 24 + 5.
    first[5 * INPUTS + 9] = f32::NAN;
    network(&folder, "in.onnx", true, &first);
    fs::write(folder.at("r.toml"), "version = 1\n[[mask]]\ntensors = \"one\"\npattern = { n = 2, m = 4 }\n").unwrap();
    let at = format!("weight {}", 9 * OUTPUTS + 5);
    refuse(
        &folder,
        "mask score @in.onnx --by magnitude --pattern 2:4 -o @no.safetensors",
        &format!("`one`: {at} is NaN"),
    );
    let answer = attempt(&folder, "compress @in.onnx -r @r.toml -o @no.safetensors -q");
    assert!(answer.code == 2 && answer.err.contains("`one`") && answer.err.contains(&at), "{answer:?}");
    // Stacks of matrices have inputs in their midst.
    let nodes = vec![
        node("Reshape", &["images", "sizes"], &["wide"], vec![]),
        node("MatMul", &["wide", "stack"], &["many"], vec![]),
        node("ReduceMean", &["many", "axes"], &["scores"], vec![attr_int("keepdims", 0)]),
    ];
    let whole = |name: &str, all: &[i64]| {
        initializer(name, DataType::Int64, &[all.len()], all.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())
    };
    let stack = tensor("stack", &[2, 392, 10], &numbers(2 * 392 * 10, 3));
    write(&folder, "stack.onnx", nodes, vec![stack, whole("sizes", &[-1, 2, 1, 392]), whole("axes", &[1, 2])]);
    let what = "`stack`: n of every m along the inputs of products with weights of 3 dimensions is not supported";
    let line = "mask score @stack.onnx --by magnitude --only stack --pattern 2:4 -o @no.safetensors";
    refuse(&folder, line, what);
    let data = bundled("sample.safetensors");
    refuse(
        &folder,
        &format!("mask search @stack.onnx --only stack --data {data} --pattern 2:4 --epochs 1 -o @no.safetensors"),
        what,
    );
    fs::write(
        folder.at("s.toml"),
        "version = 1\n[[mask]]\ntensors = \"*\"\nmin_dims = 2\npattern = { n = 2, m = 4 }\n",
    )
    .unwrap();
    refuse(&folder, "compress @stack.onnx -r @s.toml -o @no.safetensors", what);
    run(&folder, "mask score @stack.onnx --by magnitude --only stack --sparsity 0.5 -o @yes.safetensors");
    assert!(!folder.path().join("no.safetensors").exists());
}
