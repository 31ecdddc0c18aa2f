//! Masks by SparseGPT, and the weights that make up for what they drop.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use niwaki_conformance::folder::{Folder, bundled};
use niwaki_conformance::llama::write_llama;
use niwaki_conformance::nets::numbers;
use niwaki_conformance::scene::{attempt, json, run};
use niwaki_conformance::trained::refuse;
use niwaki_engine::dataset::Dataset;
use niwaki_engine::mask::MaskFile;
use niwaki_onnx::build::{Dim, attr_int, attr_ints, graph, initializer, model, node, value};
use niwaki_onnx::proto::{NodeProto, TensorProto};
use niwaki_onnx::{DataType, SaveOptions, save};
use niwaki_tensors::{Checkpoint, Dtype, Limits, Overwrite, write_file};

fn floats(path: &str, name: &str) -> Vec<f32> {
    let checkpoint = Checkpoint::open(path, &Limits::default()).unwrap();
    checkpoint.get(name).unwrap().f32s().unwrap().to_vec()
}

/// Whether weights are kept, in the order of a tensor.
fn bits(folder: &Folder, file: &str, (name, rows, cols): (&str, usize, usize)) -> Vec<bool> {
    let mask = MaskFile::open(folder.at(file).as_ref()).unwrap().mask(name, (rows, cols)).unwrap();
    (0..rows * cols).map(|at| mask.view().keeps(at / cols, at % cols).unwrap()).collect()
}

fn weights(name: &str, shape: &[usize], seed: u64) -> TensorProto {
    let all = numbers(shape.iter().product(), seed);
    initializer(name, DataType::Float, shape, all.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

/// Writes a network on the bundled images.
fn network(folder: &Folder, out: &str, nodes: Vec<NodeProto>, weights: Vec<TensorProto>) {
    let inputs = [Dim::Named("batch"), Dim::Known(1), Dim::Known(28), Dim::Known(28)];
    let scores = value("scores", DataType::Float, &[]);
    let graph = graph("made", nodes, vec![value("images", DataType::Float, &inputs)], vec![scores], weights);
    save(&model(17, graph), &folder.path().join(out), &SaveOptions::default()).unwrap();
}

/// The bundled images, as a network takes them.
fn images() -> Vec<f32> {
    let data = Dataset::open(bundled("sample.safetensors").as_ref()).unwrap();
    let mut images = vec![0.0f32; 500 * 784];
    data.batch(0..500, &mut images).unwrap();
    images
}

/// Writes a network of two layers on the pixels: the first one's weights with outputs as rows, or the same with inputs as rows.
fn pixels(folder: &Folder, out: &str, inputs_are_rows: bool) {
    let first = numbers(784 * 12, 1);
    let (all, shape): (Vec<f32>, _) = match inputs_are_rows {
        true => ((0..784 * 12).map(|at| first[at % 12 * 784 + at / 12]).collect(), [784, 12]),
        false => (first, [12, 784]),
    };
    let bytes: Vec<u8> = all.iter().flat_map(|x| x.to_le_bytes()).collect();
    let nodes = vec![
        node("Flatten", &["images"], &["flat"], vec![]),
        node("Gemm", &["flat", "one"], &["hidden"], vec![attr_int("transB", i64::from(!inputs_are_rows))]),
        node("Relu", &["hidden"], &["active"], vec![]),
        node("Gemm", &["active", "two"], &["scores"], vec![attr_int("transB", 1)]),
    ];
    let all = vec![initializer("one", DataType::Float, &shape, bytes), weights("two", &[10, 12], 2)];
    network(folder, out, nodes, all);
}

/// The weights of the first layer of such a network, as a criterion leaves them; the masks are in `OUT.safetensors`.
fn pruned(folder: &Folder, [net, by, keep, out]: [&str; 4]) -> Vec<f32> {
    let sample = bundled("sample.safetensors");
    let data = if by == "magnitude" { String::new() } else { format!(" --data {sample} --examples 500") };
    let more = if by == "sparsegpt" { format!(" --updated @{out}.onnx") } else { String::new() };
    run(folder, &format!("mask score @{net} --by {by} {keep}{data}{more} -o @{out}.safetensors --force"));
    if by != "sparsegpt" {
        run(folder, &format!("mask apply @{net} @{out}.safetensors -o @{out}.onnx --force"));
    }
    run(folder, &format!("export @{out}.onnx --to safetensors -o @{out}.w.safetensors --force"));
    floats(&folder.at(&format!("{out}.w.safetensors")), "one")
}

/// What other weights change of the outputs of the first layer.
fn lost(images: &[f32], others: &[f32]) -> f64 {
    let change: Vec<f64> =
        others.iter().zip(numbers(784 * 12, 1)).map(|(w, own)| f64::from(*w) - f64::from(own)).collect();
    let dot = |image: &[f32], row: &[f64]| image.iter().zip(row).map(|(x, d)| f64::from(*x) * d).sum::<f64>();
    let of = |image: &[f32]| change.chunks(784).map(|row| dot(image, row).powi(2)).sum::<f64>();
    images.chunks(784).take(50).map(of).sum()
}

#[test]
fn outputs_change_less_than_by_other_criteria_and_rows_may_be_inputs() {
    let folder = Folder::new("gpt-pixels");
    let images = images();
    pixels(&folder, "straight.onnx", false);
    pixels(&folder, "turned.onnx", true);
    for (nth, keep) in ["--sparsity 0.75 --budget uniform", "--pattern 2:4"].into_iter().enumerate() {
        let found = pruned(&folder, ["straight.onnx", "sparsegpt", keep, "gpt"]);
        let [wanda, magnitude] =
            ["wanda", "magnitude"].map(|by| lost(&images, &pruned(&folder, ["straight.onnx", by, keep, by])));
        let gpt = lost(&images, &found);
        assert!(gpt < 0.5 * wanda.min(magnitude), "{keep}: {gpt}, {wanda}, {magnitude}");
        let by_rows = pruned(&folder, ["turned.onnx", "sparsegpt", keep, "by_rows"]);
        let kept = bits(&folder, "gpt.safetensors", ("one", 12, 784));
        let kept_by_rows = bits(&folder, "by_rows.safetensors", ("one", 784, 12));
        assert_eq!(kept.iter().filter(|kept| **kept).count(), [12 * 196, 12 * 392][nth]);
        for (output, input) in (0..12).flat_map(|output| (0..784).map(move |input| (output, input))) {
            let (at, other) = (output * 784 + input, input * 12 + output);
            assert_eq!((kept[at], found[at].to_bits()), (kept_by_rows[other], by_rows[other].to_bits()));
            assert!(kept[at] || found[at].to_bits() == 0);
            // What is always black does nothing.
            let dead = images.chunks(784).all(|image| image[input] == 0.0);
            assert!(!dead || found[at] == 0.0, "input {input}");
        }
        if nth == 1 {
            assert!(kept.chunks(4).all(|run| run.iter().filter(|kept| **kept).count() == 2));
        }
    }
}

#[test]
fn groups_of_channels_see_their_own_windows() {
    let folder = Folder::new("gpt-groups");
    let sample = bundled("sample.safetensors");
    let conv = |name: &str, from: &str, to: &str, more: Vec<niwaki_onnx::proto::AttributeProto>| {
        node("Conv", &[from, name], &[to], more)
    };
    let stem = || {
        (
            conv("stem", "images", "x", vec![attr_ints("pads", &[1; 4]), attr_ints("strides", &[3, 2])]),
            weights("stem", &[4, 1, 3, 3], 1),
        )
    };
    let images = images();
    let bytes: Vec<u8> = images[..64 * 784].iter().flat_map(|x| x.to_le_bytes()).collect();
    let input = [("images", Dtype::F32, &[64, 1, 28, 28][..], bytes.as_slice())];
    write_file(folder.at("in.safetensors").as_ref(), &input, &[], Overwrite::Refuse).unwrap();
    let kinds = [
        ("whole", [6, 4, 3, 3], vec![attr_ints("dilations", &[2, 1]), attr_ints("pads", &[0, 2, 1, 0])]),
        ("halves", [6, 2, 3, 2], vec![attr_int("group", 2), attr_ints("strides", &[2, 1])]),
        ("depthwise", [8, 1, 3, 3], vec![attr_int("group", 4), attr_ints("pads", &[1; 4])]),
    ];
    for (name, shape, attributes) in kinds {
        let (first, kernel) = stem();
        let second = conv("kernel", "x", "scores", attributes);
        network(&folder, &format!("{name}.onnx"), vec![first, second], vec![kernel, weights("kernel", &shape, 3)]);
        let outputs = |file: &str| {
            run(&folder, &format!("run @{file} --input @in.safetensors -o @out.safetensors --force"));
            floats(&folder.at("out.safetensors"), "scores")
        };
        let whole = outputs(&format!("{name}.onnx"));
        let lost = |by: &str| {
            let data = if by == "magnitude" { String::new() } else { format!(" --data {sample} --examples 100") };
            let more = if by == "sparsegpt" { " --updated @pruned.onnx" } else { "" };
            let line = format!("mask score @{name}.onnx --by {by} --only kernel --sparsity 0.5 --budget uniform");
            let said = json(&folder, &format!("{line}{data}{more} -o @m.safetensors --force"));
            let all: usize = shape.iter().product();
            assert_eq!(said["kept"].as_u64(), Some(all as u64 / 2), "{name} {by}: {said}");
            if by != "sparsegpt" {
                run(&folder, &format!("mask apply @{name}.onnx @m.safetensors -o @pruned.onnx --force"));
            }
            let changed = outputs("pruned.onnx");
            changed.iter().zip(&whole).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>()
        };
        let [gpt, magnitude] = ["sparsegpt", "magnitude"].map(lost);
        assert!(gpt < 0.9 * magnitude, "{name}: {gpt}, {magnitude}");
    }
}

#[test]
fn the_same_bytes_for_any_number_of_threads_and_all_else_stays() {
    let folder = Folder::new("gpt-threads");
    let (net, sample) = (bundled("model.onnx"), bundled("sample.safetensors"));
    let score = |threads: usize| {
        let line = format!("mask score {net} --by sparsegpt --data {sample} --examples 96 --sparsity 0.9");
        let to = format!("--updated @w{threads}.onnx -o @m{threads}.safetensors --threads {threads}");
        json(&folder, &format!("{line} {to}"))
    };
    let said = score(1);
    score(2);
    for file in ["m1.safetensors m2.safetensors", "w1.onnx w2.onnx"] {
        let (one, two) = file.split_once(' ').unwrap();
        assert!(fs::read(folder.at(one)).unwrap() == fs::read(folder.at(two)).unwrap(), "{file}");
    }
    // As many of each tensor as magnitudes keep.
    let magnitude = json(&folder, &format!("mask score {net} --by magnitude --sparsity 0.9 -o @m.safetensors"));
    for (one, other) in said["tensors"].as_array().unwrap().iter().zip(magnitude["tensors"].as_array().unwrap()) {
        assert_eq!((&one["name"], &one["kept"]), (&other["name"], &other["kept"]));
    }
    let accuracy = |file: &str| json(&folder, &format!("eval {file} --data {sample}"))["accuracy"].as_f64().unwrap();
    run(&folder, &format!("mask apply {net} @m.safetensors -o @magnitude.onnx"));
    let (gpt, magnitude) = (accuracy("@w1.onnx"), accuracy("@magnitude.onnx"));
    assert!(gpt > magnitude, "{gpt}, {magnitude}");
    run(&folder, "export @w1.onnx --to safetensors -o @w.safetensors");
    for name in ["conv1.bias", "fc1.bias", "fc2.weight", "fc2.bias"] {
        let of = |path: &str| floats(path, name).into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(of(&bundled("model.safetensors")), of(&folder.at("w.safetensors")), "{name}");
    }
    let (kept, after) =
        (bits(&folder, "m1.safetensors", ("fc1.weight", 64, 784)), floats(&folder.at("w.safetensors"), "fc1.weight"));
    assert!(kept.iter().zip(&after).all(|(kept, w)| *kept || w.to_bits() == 0));
    assert_ne!(after, floats(&bundled("model.safetensors"), "fc1.weight"), "weights make up for others");
    // A mask alone says that it is alone.
    let answer = attempt(
        &folder,
        &format!("mask score {net} --by sparsegpt --data {sample} --examples 9 --sparsity 0.5 -o @a.safetensors"),
    );
    assert!(answer.code == 0 && answer.err.contains("`--updated` writes them"), "{}", answer.err);
    // Of another checkpoint than the model's own, that is what is written.
    let line = format!("mask score {net} --weights {} --by sparsegpt", bundled("model.safetensors"));
    run(
        &folder,
        &format!("{line} --data {sample} --examples 96 --sparsity 0.9 --updated @c.safetensors -o @c.mask.safetensors"),
    );
    assert_eq!(floats(&folder.at("c.safetensors"), "fc1.weight"), after);
}

#[test]
fn decoders_are_pruned_layer_by_layer() {
    let folder = Folder::new("gpt-llama");
    write_llama(&folder.path().join("llama"));
    fs::write(folder.path().join("text.txt"), "abcdeXYZ0123".repeat(60)).unwrap();
    let score = "mask score @llama --data @text.txt --examples 4 --by sparsegpt --pattern 2:4";
    let said = json(&folder, &format!("{score} --updated @updated -o @m.safetensors"));
    assert_eq!((said["tensors"].as_array().unwrap().len(), said["kept"].as_u64()), (14, Some(61440)), "{said}");
    run(&folder, "mask apply @llama @m.safetensors -o @masked");
    run(&folder, "mask score @llama --by magnitude --pattern 2:4 -o @p.safetensors");
    run(&folder, "mask apply @llama @p.safetensors -o @plain");
    let apart = |file: &str| {
        let said = json(&folder, &format!("eval @{file} --against @llama --data @text.txt"));
        said["kl"].as_f64().unwrap()
    };
    let [updated, masked, magnitude] = ["updated", "masked", "plain"].map(apart);
    assert!(updated < masked && updated < magnitude, "{updated}, {masked}, {magnitude}");
    let file =
        |of: &str| Checkpoint::open(folder.path().join(of).join("model.safetensors"), &Limits::default()).unwrap();
    let (before, after) = (file("llama"), file("updated"));
    for tensor in before.tensors().filter(|tensor| tensor.name().contains("norm") || tensor.name().contains("embed")) {
        assert!(after.get(tensor.name()).unwrap().bytes() == tensor.bytes(), "{}", tensor.name());
    }
}

#[test]
fn what_cannot_be_pruned_is_refused_by_name() {
    let folder = Folder::new("gpt-hostile");
    let (net, sample) = (bundled("model.onnx"), bundled("sample.safetensors"));
    let refuse = |line: &str, what: &str| refuse(&folder, line, what);
    let score = format!("mask score {net} --by sparsegpt -o @no.safetensors");
    refuse(&format!("{score} --sparsity 0.5"), "the criterion sparsegpt without data");
    let score = format!("{score} --data {sample}");
    refuse(&format!("{score} --sparsity 1"), "from 0 to below 1");
    refuse(&format!("{score} --sparsity=-0.5"), "from 0 to below 1");
    refuse(&format!("{score} --pattern 5:4"), "5:4");
    refuse(&format!("{score} --sparsity 0.5 --damping=-1"), "damping of -1");
    refuse(&format!("{score} --sparsity 0.5 --damping inf"), "damping of inf");
    refuse(&format!("{score} --sparsity 0.5 --budget own"), "single weights");
    refuse(&format!("{score} --sparsity 0.5 --block 4x1"), "single weights");
    refuse(&format!("{score} --sparsity 0.5 --updated @no.safetensors"), "the same file");
    refuse(
        &format!("mask score {net} --by magnitude --sparsity 0.5 --updated @w.onnx -o @no.safetensors"),
        "`--updated`",
    );
    let bare = bundled("model.safetensors");
    refuse(&format!("mask score {bare} --by sparsegpt --sparsity 0.5 -o @no.safetensors"), "no graph");
    refuse(&format!("{score} --sparsity 0.5 --weights {bare} --updated @no.onnx"), "no ONNX model");
    fs::write(folder.at("there.onnx"), b"here already").unwrap();
    refuse(&format!("{score} --sparsity 0.5 --updated @there.onnx"), "there.onnx");
    // A weight, or a pixel, that is no number.
    let nodes = vec![
        node("Flatten", &["images"], &["flat"], vec![]),
        node("Gemm", &["flat", "one"], &["scores"], vec![attr_int("transB", 1)]),
    ];
    let mut all = numbers(784 * 10, 1);
    let one = |all: &[f32]| {
        initializer("one", DataType::Float, &[10, 784], all.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    };
    all[77] = f32::NAN;
    network(&folder, "nan.onnx", nodes, vec![one(&all)]);
    let line = "--only one --by sparsegpt --sparsity 0.5 -o @no.safetensors --updated @w.onnx --data";
    refuse(&format!("mask score @nan.onnx {line} {sample}"), "tensor `one`: weight 77 is NaN; finite numbers expected");
    let huge = vec![f32::MAX; 10 * 784];
    let big =
        initializer("big", DataType::Float, &[10, 784], huge.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
    let deep = vec![
        node("Flatten", &["images"], &["flat"], vec![]),
        node("Gemm", &["flat", "big"], &["hidden"], vec![attr_int("transB", 1)]),
        node("Gemm", &["hidden", "one"], &["scores"], vec![attr_int("transB", 1)]),
    ];
    network(&folder, "deep.onnx", deep, vec![big, weights("one", &[10, 10], 3)]);
    refuse(&format!("mask score @deep.onnx {line} {sample}"), "tensor `one`: input 0 of the layer is infinite");
}
