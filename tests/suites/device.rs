//! Models on microcontrollers: device images against the floats that they stand for, and C against device images.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::fs;
use std::path::Path;
use std::process::Command;

use niwaki_conformance::device::{compiled, compiler, vectors};
use niwaki_conformance::folder::{Folder, bundled, repository, sample};
use niwaki_conformance::nets::numbers;
use niwaki_conformance::residual::resnet;
use niwaki_conformance::scene::{json, run};
use niwaki_conformance::trained::refuse;
use niwaki_conformance::transcript::block;
use niwaki_engine::dataset::Dataset;
use niwaki_engine::image::input_codes;
use niwaki_engine::model::Model;
use niwaki_image::{Image, Work};
use niwaki_model::{Run, Tensor};
use niwaki_onnx::build::{Dim, attr_float, attr_int, attr_ints, graph, initializer, model, node, value};
use niwaki_onnx::proto::{NodeProto, TensorProto};
use niwaki_onnx::{DataType, SaveOptions, save};

/// A folder with the statistics of the bundled network.
fn calibrated(name: &str) -> Folder {
    let folder = Folder::new(name);
    run(&folder, &format!("calibrate {} --data {} -o @stats.safetensors", bundled("model.onnx"), sample()));
    folder
}

fn export(folder: &Folder, flags: &str) -> serde_json::Value {
    let from = bundled("model.onnx");
    json(folder, &format!("export {from} --stats {} --force {flags}", folder.at("stats.safetensors")))
}

fn accuracy(folder: &Folder, model: &str) -> f64 {
    json(folder, &format!("eval {model} --data {}", sample()))["accuracy"].as_f64().unwrap()
}

#[test]
fn the_bundled_network_is_nearly_as_right_in_integers() {
    let folder = calibrated("device-accuracy");
    let said = export(&folder, "--to image -o @f.image");
    assert_eq!((said["format"].as_str(), said["steps"].as_u64()), (Some("image"), Some(6)));
    let bytes = fs::read(folder.at("f.image")).unwrap();
    assert_eq!(said["image_bytes"].as_u64(), Some(bytes.len() as u64));
    // The largest two values that live at once: 28x28x8 and 28x28, or 14x14x8.
    assert_eq!(said["arena_bytes"].as_u64(), Some(28 * 28 * 8 + 14 * 14 * 8));
    let float = accuracy(&folder, &bundled("model.onnx"));
    let eight = accuracy(&folder, &folder.at("f.image"));
    assert!(eight >= float - 0.01, "{eight} in 8 bits, {float} in floats");
    export(&folder, "--to image --scheme int4/row/sym --fit lsq -o @four.image");
    let four = accuracy(&folder, &folder.at("four.image"));
    assert!(four >= float - 0.02, "{four} in 4 bits, {float} in floats");
    assert!(fs::metadata(folder.at("four.image")).unwrap().len() * 10 < 6 * bytes.len() as u64);
    export(&folder, "--to image --threads 1 -o @again.image");
    assert!(fs::read(folder.at("again.image")).unwrap() == bytes, "the same bytes every time");
}

/// The outputs of a model and of its image for some images, as numbers.
fn both(folder: &Folder, name: &str, images: usize) -> Vec<(Vec<f32>, Vec<f32>)> {
    let [onnx, image] = ["onnx", "image"].map(|kind| folder.at(&format!("{name}.{kind}")));
    run(folder, &format!("calibrate @{name}.onnx --data {} --limit 200 -o @{name}.safetensors", sample()));
    run(folder, &format!("export @{name}.onnx --to image --stats @{name}.safetensors -o @{name}.image"));
    let executor = Model::open(onnx.as_ref()).unwrap().executor().unwrap();
    let bytes = fs::read(image).unwrap();
    let image = Image::parse(&bytes).unwrap();
    let data = Dataset::open(sample().as_ref()).unwrap();
    let mut arena = vec![0; image.arena()];
    let mut pixels = vec![0.0; data.item_len()];
    let place = image.output();
    let pair = |item| {
        data.batch(std::iter::once(item), &mut pixels).unwrap();
        let tensor = Tensor::of([1, 1, 28, 28], pixels.clone()).unwrap();
        let floats = executor.run(vec![tensor], Run::default()).unwrap().outputs[0].get::<f32>().unwrap().to_vec();
        let made = niwaki_micro::run(&image, &input_codes(&image, &pixels), &mut arena).unwrap();
        let number = |q: &i8| place.scale * (f32::from(*q) - f32::from(place.zero));
        (floats, made.iter().map(number).collect())
    };
    (0..images).map(pair).collect()
}

/// Signal to noise of the second of each pair, in dB.
fn signal(pairs: &[(Vec<f32>, Vec<f32>)]) -> f64 {
    let all = || pairs.iter().flat_map(|(a, b)| a.iter().zip(b));
    let mean = all().map(|(a, _)| f64::from(*a)).sum::<f64>() / all().count() as f64;
    let power: f64 = all().map(|(a, _)| (f64::from(*a) - mean).powi(2)).sum();
    let noise: f64 = all().map(|(a, b)| f64::from(a - b).powi(2)).sum();
    10.0 * (power / noise).log10()
}

#[test]
fn residual_blocks_are_added_where_they_lie() {
    let folder = Folder::new("device-resnet");
    resnet(folder.at("r.onnx").as_ref(), [1, 28], [2, 8], &[]);
    let pairs = both(&folder, "r", 100);
    // Noise of 8 bits on each of 14 layers: measured 27 dB, a layer that is wrong leaves next to none.
    assert!(signal(&pairs) > 20.0, "{} dB", signal(&pairs));
    let bytes = fs::read(folder.at("r.image")).unwrap();
    let image = Image::parse(&bytes).unwrap();
    let onto = image.steps().filter(|step| matches!(step.work, Work::Conv { onto: Some(_), .. })).count();
    assert_eq!(onto, 6, "every sum is a part of a convolution");
    // Two values of a block live at once, not three.
    assert_eq!(image.arena(), 2 * 28 * 28 * 8);
}

fn tensor(name: &str, shape: &[usize], spread: f32) -> TensorProto {
    let seed = name.bytes().map(u64::from).sum();
    let all = numbers(shape.iter().product(), seed);
    initializer(name, DataType::Float, shape, all.iter().flat_map(|x| (x * spread).to_le_bytes()).collect::<Vec<u8>>())
}

fn whole(name: &str, all: &[i64]) -> TensorProto {
    initializer(name, DataType::Int64, &[all.len()], all.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

fn write(to: &str, nodes: Vec<NodeProto>, weights: Vec<TensorProto>, output: &str, outputs: &[Dim<'_>]) {
    let images = [Dim::Named("batch"), Dim::Known(1), Dim::Known(28), Dim::Known(28)];
    let inputs = vec![value("images", DataType::Float, &images)];
    let outputs = vec![value(output, DataType::Float, outputs)];
    let options = SaveOptions { overwrite: true, ..SaveOptions::default() };
    save(&model(17, graph("kinds", nodes, inputs, outputs, weights)), to.as_ref(), &options).unwrap();
}

/// One node of every kind that becomes steps, some of them in the ways that take a step of their own.
fn kinds(to: &str, softmax: bool) {
    let conv = |from: &str, name: &str, more| node("Conv", &[from, &format!("{name}.w")], &[name], more);
    let mut nodes = vec![
        conv("images", "a", vec![attr_ints("pads", &[1, 1, 1, 1]), attr_ints("strides", &[2, 2])]),
        node("Clip", &["a", "low", "high"], &["a6"], vec![]),
        conv(
            "a6",
            "deep",
            vec![attr_ints("pads", &[2, 2, 2, 2]), attr_ints("dilations", &[2, 2]), attr_int("group", 8)],
        ),
        conv("deep", "pairs", vec![attr_int("group", 4), attr_ints("pads", &[0, 1, 0, 1])]),
        node(
            "AveragePool",
            &["pairs"],
            &["mean"],
            vec![attr_ints("kernel_shape", &[2, 2]), attr_ints("strides", &[2, 2])],
        ),
        node("MaxPool", &["a6"], &["most"], vec![attr_ints("kernel_shape", &[2, 2]), attr_ints("strides", &[2, 2])]),
        // Both are taken later, so that neither can be added onto.
        node("Add", &["mean", "most"], &["sum"], vec![]),
        node("Relu", &["sum"], &["sum+"], vec![]),
        node("Add", &["mean", "sum+"], &["again"], vec![]),
        node("Add", &["again", "most"], &["thrice"], vec![]),
        node("BatchNormalization", &["thrice", "s", "t", "m", "v"], &["norm"], vec![attr_float("epsilon", 1e-5)]),
        node("Slice", &["norm", "from", "to", "axes", "by"], &["half"], vec![]),
        node("Pad", &["half", "pads"], &["padded"], vec![]),
        node("Relu", &["padded"], &["positive"], vec![]),
        node("Flatten", &["positive"], &["flat"], vec![]),
        node("MatMul", &["flat", "fc.w"], &["fc"], vec![]),
        node("Add", &["fc", "fc.b"], &["scores"], vec![]),
    ];
    let one = |name: &str, x: f32| initializer(name, DataType::Float, &[], x.to_le_bytes().to_vec());
    let eight = |name: &str, x: f32| {
        initializer(name, DataType::Float, &[8], [x; 8].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    };
    let weights = vec![
        tensor("a.w", &[8, 1, 3, 3], 0.6),
        one("low", 0.0),
        one("high", 2.0),
        tensor("deep.w", &[8, 1, 3, 3], 0.5),
        tensor("pairs.w", &[8, 2, 1, 3], 0.7),
        tensor("s", &[8], 2.0),
        eight("t", 0.1),
        eight("m", 0.3),
        eight("v", 0.8),
        whole("from", &[0, 0]),
        whole("to", &[1000, 1000]),
        whole("axes", &[2, 3]),
        whole("by", &[2, 2]),
        whole("pads", &[0, 2, 0, 0, 0, 1, 0, 0]),
        tensor("fc.w", &[11 * 16, 5], 0.2),
        tensor("fc.b", &[5], 0.5),
    ];
    let last = if softmax { "shares" } else { "scores" };
    if softmax {
        nodes.push(node("Softmax", &["scores"], &["shares"], vec![attr_int("axis", 1)]));
    }
    write(to, nodes, weights, last, &[Dim::Named("batch"), Dim::Known(5)]);
}

#[test]
fn nodes_of_every_kind_are_what_they_are_in_floats() {
    let folder = Folder::new("device-kinds");
    kinds(&folder.at("k.onnx"), false);
    kinds(&folder.at("s.onnx"), true);
    let pairs = both(&folder, "k", 100);
    assert!(signal(&pairs) > 25.0, "{} dB", signal(&pairs));
    let shares = both(&folder, "s", 100);
    assert!(signal(&shares) > 20.0, "{} dB", signal(&shares));
    let bytes = fs::read(folder.at("s.image")).unwrap();
    let image = Image::parse(&bytes).unwrap();
    let kinds: std::collections::BTreeSet<String> =
        image.steps().map(|step| format!("{:?}", step.work).split([' ', '(']).next().unwrap().to_owned()).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["Add", "AveragePool", "Conv", "MaxPool", "Rescale", "Softmax"]);
    // A channel that is wrong is seen.
    let mut wrong = pairs;
    wrong.iter_mut().for_each(|(_, b)| b[0] = -b[0]);
    assert!(signal(&wrong) < 15.0, "{} dB", signal(&wrong));
}

#[test]
fn c_makes_the_same_codes() {
    let folder = calibrated("device-c");
    kinds(&folder.at("s.onnx"), true);
    run(&folder, &format!("calibrate @s.onnx --data {} --limit 100 -o @s.safetensors", sample()));
    let (fashion, stats) = (bundled("model.onnx"), folder.at("stats.safetensors"));
    let cases = [
        ("eight", format!("export {fashion} --stats {stats}")),
        ("four", format!("export {fashion} --stats {stats} --scheme int4/row/sym")),
        ("kinds", "export @s.onnx --stats @s.safetensors --scheme int4/row/sym --fit clip".to_owned()),
    ];
    for (name, line) in cases {
        run(&folder, &format!("{line} --to image -o @{name}.image"));
        run(&folder, &format!("{line} --to c -o @{name}"));
        let text = vectors(folder.at(&format!("{name}.image")).as_ref(), sample().as_ref(), 100).unwrap();
        fs::write(folder.at(&format!("{name}/vectors.h")), text).unwrap();
        let Some((code, said)) = compiled(&folder, name, &[]) else { return };
        assert!(code == 0 && said.starts_with("equal 100 of 100, "), "{name}: {said}");
    }
    // One weight more, and it is seen.
    let source = fs::read_to_string(folder.at("eight/model.c")).unwrap();
    let (before, row) = source.split_once("rows2[] = {\n    {").unwrap();
    fs::write(folder.at("eight/model.c"), format!("{before}rows2[] = {{\n    {{9000 + {row}")).unwrap();
    let Some((code, said)) = compiled(&folder, "eight", &[]) else { return };
    assert!(code == 1 && !said.starts_with("equal 100 "), "{said}");
}

#[test]
fn the_program_of_the_guide_is_as_right_as_eval_says() {
    let Some(compiler) = compiler() else { return };
    let folder = calibrated("device-guide");
    export(&folder, "--to image -o @f.image");
    export(&folder, "--to c -o @mcu");
    let guide = fs::read_to_string(repository().join("tools/guide.md")).unwrap();
    fs::write(folder.at("mcu/classify.c"), block(&guide, "c").unwrap()).unwrap();
    // The file ends with 500 labels of eight bytes and 500 images.
    let bytes = fs::read(sample()).unwrap();
    let (labels, images) = bytes[bytes.len() - 500 * (784 + 8)..].split_at(500 * 8);
    let pixels: Vec<String> =
        images[..100 * 784].iter().map(|pixel| format!("({pixel} / 255.0f - 0.286f) / 0.353f")).collect();
    let labels: Vec<String> = labels.chunks(8).take(100).map(|label| label[0].to_string()).collect();
    let main = format!(
        "#include <stdint.h>\nuint32_t classify(const float *);\nstatic const float images[] = {{ {} }};\n\
         static const uint32_t labels[] = {{ {} }};\nint main(void) {{\n    int right = 0;\n\
         for (int i = 0; i < 100; i++) right += classify(images + 784 * i) == labels[i];\n    return right;\n}}\n",
        pixels.join(","),
        labels.join(",")
    );
    fs::write(folder.at("mcu/try.c"), main).unwrap();
    let sources = ["classify.c", "try.c", "model.c", "niwaki_micro.c"].map(|file| folder.at(&format!("mcu/{file}")));
    let mut line = Command::new(&compiler);
    line.args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1"]).args(sources).args(["-o", &folder.at("try")]);
    let done = line.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let right = Command::new(folder.at("try")).status().unwrap().code().unwrap();
    let said = json(&folder, &format!("eval @f.image --data {} --limit 100", sample()))["accuracy"].as_f64().unwrap();
    assert_eq!(f64::from(right) / 100.0, said);
}

#[test]
fn what_no_device_runs_is_named_at_once() {
    let folder = calibrated("device-refused");
    let nodes = vec![
        node("Conv", &["images", "w"], &["a"], vec![]),
        node("Sigmoid", &["a"], &["b"], vec![]),
        node("Relu", &["b"], &["c"], vec![]),
        node("Add", &["a", "one"], &["d"], vec![]),
        node("Mul", &["c", "d"], &["out"], vec![]),
    ];
    let one = initializer("one", DataType::Float, &[], 1f32.to_le_bytes().to_vec());
    let dims = [Dim::Named("batch"), Dim::Known(2), Dim::Known(26), Dim::Known(26)];
    write(&folder.at("odd.onnx"), nodes, vec![tensor("w", &[2, 1, 3, 3], 1.0), one], "out", &dims);
    run(&folder, &format!("calibrate @odd.onnx --data {} --limit 20 -o @odd.safetensors", sample()));
    for to in ["image", "c"] {
        refuse(
            &folder,
            &format!("export @odd.onnx --to {to} --stats @odd.safetensors -o @out"),
            "`b` (Sigmoid), `d` (Add: of a constant)",
        );
    }
    let (model, stats) = (bundled("model.onnx"), folder.at("stats.safetensors"));
    let refused = |flags: &str, what: &str| refuse(&folder, &format!("export {model} --to image -o @out{flags}"), what);
    refused("", "`--to image` without `--stats`");
    refused(&format!(" --stats {stats} --scheme int3/row/sym"), "a device image holds no such codes");
    refused(&format!(" --stats {stats} --scheme int8/g32/sym"), "a device image holds no such codes");
    refused(&format!(" --stats {stats} --fit gptq"), "`--fit gptq`");
    refused(&format!(" --stats {stats} --bits 4"), "`--bits` with `--to image`");
    refused(" --stats @odd.safetensors", "statistics of another checkpoint");
    let weights = bundled("model.safetensors");
    refuse(&folder, &format!("export {weights} --to image --stats {stats} -o @out"), "has no graph");
    refuse(&folder, &format!("export {model} --to onnx --scheme int8/row/sym -o @out"), "`--scheme` is for");
    run(&folder, &format!("export {model} --to image --stats {stats} -o @f.image"));
    refuse(&folder, &format!("export {model} --to image --stats {stats} -o @f.image"), "exists");
    refuse(
        &folder,
        &format!("eval @f.image --data {} --weights {weights}", sample()),
        "`--weights` with a device image",
    );
    let mut bytes = fs::read(folder.at("f.image")).unwrap();
    bytes[500] ^= 4;
    fs::write(folder.at("bad.image"), bytes).unwrap();
    refuse(&folder, &format!("eval @bad.image --data {}", sample()), "checksum");
}

#[test]
fn statistics_without_values_ask_for_new_ones() {
    let folder = calibrated("device-old");
    let bytes = fs::read(folder.at("stats.safetensors")).unwrap();
    let find = |what: &[u8], from: usize| from + bytes[from..].windows(what.len()).position(|at| at == what).unwrap();
    let from = find(br#",\"values\":{"#, 0);
    let to = find(b"}", from) + 1;
    let mut old = bytes.clone();
    // Spaces where values were: the header keeps its length.
    old[from..to].fill(b' ');
    fs::write(folder.at("old.safetensors"), old).unwrap();
    let line = format!("export {} --to image --stats @old.safetensors -o @out", bundled("model.onnx"));
    refuse(&folder, &line, "nothing of value `images`");
}

#[test]
fn resnet_20_stays_as_right_as_it_was() {
    let model = repository().join("../shared/data/resnet20-cifar10.onnx");
    let Some(cifar) = std::env::var_os("NIWAKI_CIFAR10").filter(|_| model.exists()) else {
        return println!("skipped: NIWAKI_CIFAR10 names no folder with CIFAR-10, or there is no `{}`", model.display());
    };
    let folder = Folder::new("device-resnet20");
    let (model, cifar) = (model.to_string_lossy(), Path::new(&cifar).display().to_string());
    let how = "--mean .485,.456,.406 --std .229,.224,.225";
    for split in ["train", "test"] {
        run(&folder, &format!("dataset import cifar10 {cifar} --split {split} {how} -o @{split}.safetensors"));
    }
    run(&folder, &format!("calibrate {model} --data @train.safetensors --limit 256 -o @stats.safetensors"));
    let accuracy = |model: &str| {
        json(&folder, &format!("eval {model} --data @test.safetensors --limit 1000"))["accuracy"].as_f64().unwrap()
    };
    let float = accuracy(&model);
    for (flags, points) in [("--scheme int8/row/sym", 0.01), ("--scheme int4/row/sym --fit lsq", 0.02)] {
        run(&folder, &format!("export {model} --to image --stats @stats.safetensors {flags} -o @r.image --force"));
        let found = accuracy(&folder.at("r.image"));
        println!("{flags}: {found}, {float} in floats");
        assert!(found >= float - points, "{found} with {flags}, {float} in floats");
    }
}
