//! Masks by criteria and by search, on the bundled network and on small ones.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use niwaki_conformance::folder::{Folder, bundled};
use niwaki_conformance::llama::write_llama;
use niwaki_conformance::nets::numbers;
use niwaki_conformance::residual::network;
use niwaki_conformance::scene::{json, run};
use niwaki_conformance::trained::refuse;
use niwaki_engine::jackpot::{Keep, Masking, Restriction, Start, search};
use niwaki_engine::mask::MaskFile;
use niwaki_engine::model::Model;
use niwaki_engine::train::{Lessons, Method, Settings, Task};
use niwaki_engine::{Budget, Ratio};
use niwaki_onnx::build::{Dim, attr_int, graph, initializer, model, node, value};
use niwaki_onnx::{DataType, SaveOptions, save};
use niwaki_tensors::{Checkpoint, Limits};
use serde_json::Value;

fn floats(path: &str, name: &str) -> Vec<f32> {
    let checkpoint = Checkpoint::open(path, &Limits::default()).unwrap();
    checkpoint.get(name).unwrap().f32s().unwrap().to_vec()
}

/// Names and shapes of the bundled network's tensors that are masked.
const MASKED: [(&str, usize, usize); 3] = [("conv1.weight", 8, 9), ("conv2.weight", 16, 72), ("fc1.weight", 64, 784)];

/// Whether weights are kept, in the order of a tensor.
fn bits(folder: &Folder, file: &str, (name, rows, cols): (&str, usize, usize)) -> Vec<bool> {
    let mask = MaskFile::open(folder.at(file).as_ref()).unwrap().mask(name, (rows, cols)).unwrap();
    (0..rows * cols).map(|at| mask.view().keeps(at / cols, at % cols).unwrap()).collect()
}

#[test]
fn magnitudes_are_cut_by_one_threshold() {
    let folder = Folder::new("mask-magnitude");
    let (model, weights) = (bundled("model.onnx"), bundled("model.safetensors"));
    let said = json(&folder, &format!("mask score {model} --by magnitude --sparsity 0.9 -o @m.safetensors"));
    let mut all: Vec<f32> = MASKED.iter().flat_map(|(name, ..)| floats(&weights, name)).map(f32::abs).collect();
    all.sort_by(|a, b| b.total_cmp(a));
    let threshold = all[all.len() / 10 - 1];
    for (at, tensor) in MASKED.into_iter().enumerate() {
        let kept: Vec<bool> = floats(&weights, tensor.0).iter().map(|w| w.abs() >= threshold).collect();
        assert!(bits(&folder, "m.safetensors", tensor) == kept, "{}", tensor.0);
        let count = kept.iter().filter(|kept| **kept).count();
        assert_eq!(said["tensors"][at]["kept"].as_u64(), Some(count as u64), "{said}");
    }
    // The classifier is no part of it, and the checkpoint alone says the same.
    assert_eq!(said["tensors"].as_array().unwrap().len(), 3);
    run(
        &folder,
        &format!("mask score {weights} --by magnitude --sparsity 0.9 --only conv* --only fc1* -o @c.safetensors"),
    );
    for tensor in MASKED {
        assert!(bits(&folder, "c.safetensors", tensor) == bits(&folder, "m.safetensors", tensor));
    }
    // A tensor whose weights are all below the threshold keeps one, and it is said.
    let few = json(&folder, &format!("mask score {model} --by magnitude --sparsity 0.9999 -o @few.safetensors"));
    let guarded: Vec<&str> = few["guarded"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for tensor in few["tensors"].as_array().unwrap() {
        assert!(tensor["kept"].as_u64().unwrap() >= 1, "{few}");
        let least = floats(&weights, tensor["name"].as_str().unwrap()).into_iter().map(f32::abs).fold(0.0, f32::max);
        assert_eq!(guarded.contains(&tensor["name"].as_str().unwrap()), least < all[4], "{few}");
    }
    assert!(!guarded.is_empty(), "{few}");
    // Other budgets: the same share of each, and n of every m.
    let said =
        json(&folder, &format!("mask score {model} --by magnitude --sparsity 0.75 --budget uniform -o @u.safetensors"));
    for tensor in said["tensors"].as_array().unwrap() {
        assert!((tensor["sparsity"].as_f64().unwrap() - 0.75).abs() < 1e-9, "{tensor}");
    }
    run(&folder, &format!("mask score {model} --by magnitude --pattern 2:4 -o @n.safetensors"));
    for run in bits(&folder, "n.safetensors", MASKED[2]).chunks(4) {
        assert_eq!(run.iter().filter(|kept| **kept).count(), 2);
    }
    // Whole channels, and blocks of four weights: of a tensor all that a block has, or nothing.
    run(&folder, &format!("mask score {model} --by magnitude --sparsity 0.5 --block 1xall -o @rows.safetensors"));
    run(&folder, &format!("mask score {model} --by magnitude --sparsity 0.9 --block 4x1 -o @blocks.safetensors"));
    for tensor in MASKED {
        for row in bits(&folder, "rows.safetensors", tensor).chunks(tensor.2) {
            assert!(row.iter().all(|kept| *kept == row[0]), "{}", tensor.0);
        }
        let blocks = bits(&folder, "blocks.safetensors", tensor);
        let same = |at: usize| blocks[at] == blocks[at / tensor.2 / 4 * 4 * tensor.2 + at % tensor.2];
        assert!((0..blocks.len()).all(same), "{}", tensor.0);
    }
    let random = |seed: u64, out: &str| {
        run(&folder, &format!("mask score {model} --by random --sparsity 0.9 --seed {seed} -o @{out}"));
    };
    random(1, "r1.safetensors");
    random(2, "r2.safetensors");
    let compared = json(&folder, "mask compare @r1.safetensors @r2.safetensors");
    let (overlap, chance) = (compared["all"]["overlap"].as_f64().unwrap(), compared["all"]["chance"].as_f64().unwrap());
    assert!((overlap - chance).abs() < 0.05, "{compared}");
    let same = json(&folder, "mask compare @m.safetensors @m.safetensors");
    assert_eq!((same["all"]["overlap"].as_f64(), same["all"]["iou"].as_f64()), (Some(1.0), Some(1.0)));
}

#[test]
fn gradients_tell_weights_too_and_counts_are_taken_over() {
    let folder = Folder::new("mask-snip");
    let (model, sample) = (bundled("model.onnx"), bundled("sample.safetensors"));
    let data = format!("--data {sample} --examples 96");
    let score = |by: &str, more: &str, out: &str| {
        json(&folder, &format!("mask score {model} --by {by} --sparsity 0.9 {more} -o @{out}.safetensors"))
    };
    score("magnitude", "--budget l1", "m");
    let own = score("snip", &format!("{data} --budget own --threads 1"), "own");
    score("snip", &format!("{data} --budget own --threads 3"), "again");
    assert!(fs::read(folder.at("own.safetensors")).unwrap() == fs::read(folder.at("again.safetensors")).unwrap());
    let (kept, weights) = (own["kept"].as_f64().unwrap(), own["weights"].as_f64().unwrap());
    assert!((kept / weights - 0.1).abs() < 0.001, "{own}");
    score("snip", &format!("{data} --counts-of {}", folder.at("m.safetensors")), "s");
    score("gradient", &format!("{data} --counts-of {}", folder.at("m.safetensors")), "g");
    let compared = json(&folder, "mask compare @m.safetensors @s.safetensors");
    for tensor in compared["tensors"].as_array().unwrap() {
        assert_eq!(tensor["first"], tensor["second"], "{tensor}");
    }
    // What is large matters to the loss more often than chance has it.
    assert!(compared["all"]["overlap"].as_f64() > compared["all"]["chance"].as_f64(), "{compared}");
    assert_ne!(fs::read(folder.at("s.safetensors")).unwrap(), fs::read(folder.at("g.safetensors")).unwrap());
}

/// A network of two layers on the pixels themselves: the first one's weights with inputs as rows, or as columns.
fn pixels(folder: &Folder, out: &str, by_rows: bool) {
    let weights = |name: &str, shape: &[usize], seed: u64| {
        let all = numbers(shape.iter().product(), seed);
        initializer(name, DataType::Float, shape, all.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    };
    let first = if by_rows { weights("one", &[784, 12], 1) } else { weights("one", &[12, 784], 1) };
    let nodes = vec![
        node("Flatten", &["images"], &["flat"], vec![]),
        node("Gemm", &["flat", "one"], &["hidden"], vec![attr_int("transB", i64::from(!by_rows))]),
        node("Relu", &["hidden"], &["active"], vec![]),
        node("Gemm", &["active", "two"], &["scores"], vec![attr_int("transB", 1)]),
    ];
    let inputs = [Dim::Named("batch"), Dim::Known(1), Dim::Known(28), Dim::Known(28)];
    let graph = graph(
        "pixels",
        nodes,
        vec![value("images", DataType::Float, &inputs)],
        vec![value("scores", DataType::Float, &[Dim::Named("batch"), Dim::Known(10)])],
        vec![first, weights("two", &[10, 12], 2)],
    );
    save(&model(17, graph), &folder.path().join(out), &SaveOptions::default()).unwrap();
}

#[test]
fn wanda_weighs_by_what_flows_in_output_by_output() {
    let folder = Folder::new("mask-wanda");
    let sample = bundled("sample.safetensors");
    let data = niwaki_engine::dataset::Dataset::open(sample.as_ref()).unwrap();
    let mut images = vec![0.0f32; 500 * 784];
    data.batch(0..500, &mut images).unwrap();
    let norm = |pixel: usize| images.chunks(784).map(|image| f64::from(image[pixel]).powi(2)).sum::<f64>().sqrt();
    let norms: Vec<f64> = (0..784).map(norm).collect();
    for by_rows in [true, false] {
        let file = format!("pixels{}.onnx", u8::from(by_rows));
        pixels(&folder, &file, by_rows);
        let score = format!("mask score @{file} --by wanda --data {sample} --examples 500");
        run(&folder, &format!("{score} --sparsity 0.75 -o @share.safetensors --force"));
        run(&folder, &format!("{score} --pattern 2:4 -o @runs.safetensors --force"));
        let size = if by_rows { ("one", 784, 12) } else { ("one", 12, 784) };
        let place = |output: usize, input: usize| if by_rows { input * 12 + output } else { output * 784 + input };
        let weights = numbers(784 * 12, 1);
        let (share, runs) = (bits(&folder, "share.safetensors", size), bits(&folder, "runs.safetensors", size));
        for output in 0..12 {
            let worth = |input: usize| f64::from(weights[place(output, input)].abs()) * norms[input];
            // Scores are rounded to single floats: what is nearly equal may go either way.
            let mut all: Vec<f64> = (0..784).map(worth).collect();
            all.sort_by(|a, b| b.total_cmp(a));
            let least = all[195];
            assert_eq!((0..784).filter(|input| share[place(output, *input)]).count(), 196);
            for input in (0..784).filter(|input| (worth(*input) / least - 1.0).abs() > 1e-5) {
                assert_eq!(share[place(output, input)], worth(input) > least, "output {output}, input {input}");
            }
            for start in (0..784).step_by(4) {
                let mut four: Vec<usize> = (start..start + 4).collect();
                four.sort_by(|a, b| worth(*b).total_cmp(&worth(*a)));
                assert_eq!(four.iter().filter(|input| runs[place(output, **input)]).count(), 2);
                if worth(four[1]) > worth(four[2]) * (1.0 + 1e-5) {
                    assert!(
                        runs[place(output, four[0])] && runs[place(output, four[1])],
                        "output {output} from {start}"
                    );
                }
            }
        }
    }
    // Kernels have the norms of their channels: of one channel the magnitudes decide, kernel by kernel.
    let model = bundled("model.onnx");
    run(&folder, &format!("mask score {model} --by wanda --data {sample} --sparsity 0.5 -o @wanda.safetensors"));
    let weights = floats(&bundled("model.safetensors"), "conv1.weight");
    let kept = bits(&folder, "wanda.safetensors", MASKED[0]);
    for (weights, kept) in weights.chunks(9).zip(kept.chunks(9)) {
        let least = weights.iter().zip(kept).filter(|(_, kept)| **kept).map(|(w, _)| w.abs()).fold(f32::MAX, f32::min);
        assert_eq!(kept.iter().filter(|kept| **kept).count(), 5);
        assert!(weights.iter().zip(kept).all(|(w, kept)| *kept || w.abs() <= least));
    }
}

/// How the bundled network's masks are searched.
fn how(folder: &Folder, more: &str, out: &str) -> Value {
    let (model, sample) = (bundled("model.onnx"), bundled("sample.safetensors"));
    let line =
        format!("mask search {model} --data {sample} --sparsity 0.95 --epochs 4 --batch 50 --eval-data {sample}");
    json(folder, &format!("{line} {more} -o @{out}.safetensors"))
}

#[test]
fn a_search_finds_more_than_magnitudes_and_changes_no_weight() {
    let folder = Folder::new("mask-search");
    let (model, sample) = (bundled("model.onnx"), bundled("sample.safetensors"));
    let accuracy = |line: &str| json(&folder, line)["accuracy"].as_f64().unwrap();
    let said = how(&folder, "--threads 1", "jackpot");
    how(&folder, "--threads 3", "again");
    assert!(fs::read(folder.at("jackpot.safetensors")).unwrap() == fs::read(folder.at("again.safetensors")).unwrap());
    run(&folder, &format!("mask score {model} --by magnitude --sparsity 0.95 -o @magnitude.safetensors"));
    for name in ["jackpot", "magnitude"] {
        run(&folder, &format!("mask apply {model} @{name}.safetensors -o @{name}.onnx"));
        run(
            &folder,
            &format!("mask apply {} @{name}.safetensors -o @{name}.weights.safetensors", bundled("model.safetensors")),
        );
    }
    let searched = accuracy(&format!("eval @jackpot.onnx --data {sample}"));
    let magnitude = accuracy(&format!("eval @magnitude.onnx --data {sample}"));
    assert!(searched > magnitude + 0.05, "{searched} after a search, {magnitude} without");
    // What the search measured is what its masks do, in the graph and beside it.
    assert_eq!(said["epochs"][3]["eval_accuracy"].as_f64(), Some(searched), "{said}");
    let beside = format!("eval {model} --weights @jackpot.weights.safetensors --data {sample}");
    assert_eq!(accuracy(&beside), searched);
    // As many weights of each tensor as magnitudes keep, and those that are kept are those of the model.
    let compared = json(&folder, "mask compare @magnitude.safetensors @jackpot.safetensors");
    for tensor in compared["tensors"].as_array().unwrap() {
        assert_eq!(tensor["first"], tensor["second"], "{tensor}");
    }
    assert!(compared["all"]["overlap"].as_f64().unwrap() < 1.0, "{compared}");
    for tensor in MASKED {
        let (before, after) = (
            floats(&bundled("model.safetensors"), tensor.0),
            floats(&folder.at("jackpot.weights.safetensors"), tensor.0),
        );
        let kept = bits(&folder, "jackpot.safetensors", tensor);
        for ((before, after), kept) in before.iter().zip(&after).zip(kept) {
            assert_eq!(after.to_bits(), if kept { before.to_bits() } else { 0 }, "{}", tensor.0);
        }
    }
    for name in ["fc2.weight", "fc2.bias", "conv1.bias"] {
        let of = |path: &str| floats(path, name);
        assert_eq!(of(&bundled("model.safetensors")), of(&folder.at("jackpot.weights.safetensors")));
    }
    // With the mask in a recipe the weights are stored sparse, and are the same.
    let recipe = format!(
        "version = 1\n[[mask]]\ntensors = \"{{conv*,fc1}}.weight\"\npattern = {{ file = \"{}\" }}\n",
        folder.at("jackpot.safetensors").replace('\\', "/")
    );
    fs::write(folder.at("recipe.toml"), recipe).unwrap();
    run(&folder, &format!("compress {} -r @recipe.toml -o @sparse.safetensors", bundled("model.safetensors")));
    assert_eq!(accuracy(&format!("eval {model} --weights @sparse.safetensors --data {sample}")), searched);
}

#[test]
fn restriction_calms_a_search_and_the_start_is_what_was_asked_for() {
    let folder = Folder::new("mask-restriction");
    let flips = |said: &Value, epoch: usize| said["epochs"][epoch]["flips"].as_f64().unwrap();
    let free = how(&folder, "--schedule constant --restriction none", "free");
    let calm = how(&folder, "--schedule constant --restriction poly", "calm");
    // The last pass of a search of fourth powers exchanges (1/4)^4 of what wants to at most, rounded up: one a tensor.
    assert!(flips(&calm, 0) > 3.0 && flips(&calm, 3) <= 3.0 && flips(&free, 3) > 3.0, "{free} {calm}");
    // No step at all leaves the masks that it begins with.
    let (model, sample) = (bundled("model.onnx"), bundled("sample.safetensors"));
    let still = "--epochs 1 --batch 500 --lr 1e-30 --sparsity 0.9";
    run(&folder, &format!("mask search {model} --data {sample} {still} -o @still.safetensors"));
    run(&folder, &format!("mask score {model} --by magnitude --sparsity 0.9 -o @magnitude.safetensors"));
    for tensor in MASKED {
        assert!(bits(&folder, "still.safetensors", tensor) == bits(&folder, "magnitude.safetensors", tensor));
    }
    run(
        &folder,
        &format!("mask search {model} --data {sample} {still} --start @calm.safetensors -o @from.safetensors"),
    );
    let from = json(&folder, "mask compare @calm.safetensors @from.safetensors");
    assert_eq!(from["all"]["iou"].as_f64(), Some(1.0), "{from}");
    run(&folder, &format!("mask search {model} --data {sample} {still} --start random -o @random.safetensors"));
    let random = json(&folder, "mask compare @magnitude.safetensors @random.safetensors");
    assert!(random["all"]["overlap"].as_f64().unwrap() < 0.3, "{random}");
    // n of every m stay n of every m.
    let runs = "--epochs 2 --batch 50 --pattern 1:4";
    run(&folder, &format!("mask search {model} --data {sample} {runs} -o @runs.safetensors"));
    for run in bits(&folder, "runs.safetensors", MASKED[2]).chunks(4) {
        assert_eq!(run.iter().filter(|kept| **kept).count(), 1);
    }
}

#[test]
fn an_interrupted_search_goes_on_to_the_same_bytes() {
    let folder = Folder::new("mask-restart");
    let model = Model::open(bundled("model.onnx").as_ref()).unwrap();
    let data = Lessons::open(bundled("sample.safetensors").as_ref(), &model).unwrap();
    let method = Method::Sgd { momentum: 0.9, nesterov: false };
    let settings = Settings { epochs: 2, batch: 100, method, save_every: Some(2), ..Settings::default() };
    let masking = Masking {
        keep: Keep::Share(Ratio::new(0.1).unwrap(), Budget::Global),
        start: Start::Magnitude,
        gap: 0.99,
        restriction: Restriction::Poly(4),
    };
    let (whole, cut) = (folder.at("whole.safetensors"), folder.at("cut.safetensors"));
    search(&Task::new(&model, &data, whole.as_ref()), &settings, &masking, &mut |_| {}).unwrap();
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        search(&Task::new(&model, &data, cut.as_ref()), &settings, &masking, &mut |at| assert!(at.done < 800, "killed"))
            .map(|_| ())
    }));
    assert!(killed.is_err() && !Path::new(&cut).exists());
    let other = Masking { gap: 0.95, ..masking };
    let refused =
        search(&Task::new(&model, &data, cut.as_ref()), &settings, &other, &mut |_| {}).unwrap_err().to_string();
    assert!(refused.contains("of another training: `masks` was"), "{refused}");
    assert!(search(&Task::new(&model, &data, cut.as_ref()), &settings, &masking, &mut |_| {}).unwrap().resumed);
    assert!(fs::read(whole).unwrap() == fs::read(cut).unwrap());
}

#[test]
fn running_statistics_follow_a_search_and_can_be_measured_for_other_masks() {
    let folder = Folder::new("mask-norms");
    network(&folder.path().join("net.onnx"), 1);
    let sample = bundled("sample.safetensors");
    run(
        &folder,
        &format!("train @net.onnx --init random --data {sample} --epochs 3 --batch 50 --lr 0.05 -o @trained.onnx"),
    );
    let search = "--sparsity 0.5 --epochs 2 --batch 50";
    let said = json(
        &folder,
        &format!("mask search @trained.onnx --data {sample} {search} --eval-data {sample} -o @j.safetensors"),
    );
    run(&folder, "mask apply @trained.onnx @j.safetensors -o @j.onnx");
    let found = json(&folder, &format!("eval @j.onnx --data {sample}"));
    assert_eq!(found["accuracy"], said["epochs"][1]["eval_accuracy"], "masks come with their statistics");
    // Factors and shifts stay; statistics do not.
    run(&folder, "export @j.onnx --to safetensors -o @after.safetensors");
    run(&folder, "export @trained.onnx --to safetensors -o @before.safetensors");
    let of = |file: &str, name: &str| floats(&folder.at(file), name);
    assert_eq!(of("after.safetensors", "bnb1.weight"), of("before.safetensors", "bnb1.weight"));
    assert_ne!(of("after.safetensors", "bnb1.running_var"), of("before.safetensors", "bnb1.running_var"));
    // One-shot masks bring none; measured anew they do better.
    run(&folder, "mask score @trained.onnx --by magnitude --sparsity 0.5 -o @m.safetensors");
    run(&folder, "mask apply @trained.onnx @m.safetensors -o @m.onnx");
    run(&folder, &format!("mask apply @trained.onnx @m.safetensors --recalibrate {sample} -o @r.onnx"));
    run(
        &folder,
        &format!(
            "mask apply @before.safetensors @m.safetensors --recalibrate {sample} --model @net.onnx -o @r.safetensors"
        ),
    );
    let loss = |line: &str| json(&folder, &format!("eval {line} --data {sample}"))["loss"].as_f64().unwrap();
    assert!(loss("@r.onnx") < loss("@m.onnx"));
    assert_eq!(loss("@net.onnx --weights @r.safetensors"), loss("@r.onnx"));
    // Images that are cut and mirrored have other statistics, the same ones always.
    let cut = |threads: usize, out: &str| {
        let flags = format!("--recalibrate {sample} --crop 4 --flip --threads {threads}");
        run(&folder, &format!("mask apply @trained.onnx @m.safetensors {flags} -o @{out}"));
        fs::read(folder.at(out)).unwrap()
    };
    let first = cut(1, "c1.onnx");
    assert!(first == cut(3, "c3.onnx") && first != fs::read(folder.at("r.onnx")).unwrap());
}

#[test]
fn decoders_are_masked_without_their_embeddings() {
    let folder = Folder::new("mask-llama");
    write_llama(&folder.path().join("llama"));
    fs::write(folder.path().join("text.txt"), "abcdeXYZ0123".repeat(60)).unwrap();
    // In one shot, too: two of every four inputs of each output.
    let score = "mask score @llama --data @text.txt --examples 4 --pattern 2:4 --by";
    for by in ["magnitude", "wanda", "snip"] {
        let said = json(&folder, &format!("{score} {by} -o @{by}.safetensors"));
        assert_eq!((said["tensors"].as_array().unwrap().len(), said["kept"].as_u64()), (14, Some(61440)), "{said}");
    }
    let overlap = json(&folder, "mask compare @magnitude.safetensors @wanda.safetensors")["all"]["overlap"].as_f64();
    assert!(overlap.unwrap() > 0.6 && overlap.unwrap() < 1.0, "{overlap:?}");
    let search = "mask search @llama --data @text.txt --pattern 2:4 --epochs 3 --batch 2 --lr 20 --gap 0.9999 --eval-data @text.txt";
    let said = json(&folder, &format!("{search} -o @j.safetensors"));
    // Seven matrices in each of two layers.
    assert_eq!(said["tensors"].as_u64(), Some(14), "{said}");
    run(&folder, "mask apply @llama @j.safetensors -o @masked");
    let found = json(&folder, "eval @masked --data @text.txt");
    let last = said["epochs"][2]["eval_loss"].as_f64().unwrap();
    assert!((found["loss"].as_f64().unwrap() - last).abs() < 1e-4 * last, "{said} {found}");
    let first = said["epochs"][0]["loss"].as_f64().unwrap();
    assert!(last < first, "{said}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let folder = Folder::new("mask-hostile");
    let (model, sample) = (bundled("model.onnx"), bundled("sample.safetensors"));
    let refuse = |line: &str, what: &str| refuse(&folder, line, what);
    let score = format!("mask score {model} --sparsity 0.9 -o @no.safetensors --by");
    refuse(&format!("{score} magnitudes"), "no criterion `magnitudes`");
    refuse(&format!("{score} snip"), "the criterion snip without data");
    refuse(
        &format!("mask score {} --sparsity 0.9 --by snip -o @no.safetensors", bundled("model.safetensors")),
        "no graph",
    );
    refuse(&format!("{score} magnitude --only nothing*"), "matches no tensor");
    refuse(&format!("{score} magnitude --block 0x4"), "expected rows and columns");
    refuse(&format!("{score} wanda --data {sample} --block 4x1"), "by magnitude, random, snip or gradient");
    refuse(&format!("mask score {model} --by magnitude --sparsity 1 -o @no.safetensors"), "from 0 to below 1");
    refuse(&format!("mask score {model} --by magnitude --pattern 5:4 -o @no.safetensors"), "5:4");
    let search = format!("mask search {model} --data {sample} -o @no.safetensors --sparsity 0.9");
    refuse(&format!("{search} --optimizer adam"), "SGD with momentum");
    refuse(&format!("{search} --budget own"), "a search begins with magnitudes");
    refuse(&format!("{search} --start {sample}"), "no tensor `NAME.mask`");
    // Masks of another checkpoint, of another shape, and none.
    run(&folder, &format!("mask score {model} --by magnitude --sparsity 0.9 -o @m.safetensors"));
    run(&folder, &format!("train {model} --data {sample} --epochs 1 --lr 0.001 -o @other.onnx"));
    refuse("mask apply @other.onnx @m.safetensors -o @no.onnx", "is for other weights");
    run(&folder, "mask apply @other.onnx @m.safetensors --transfer -o @yes.onnx");
    network(&folder.path().join("net.onnx"), 1);
    refuse("mask apply @net.onnx @m.safetensors -o @no.onnx", "has no such tensor");
    refuse(&format!("mask apply {model} {sample} -o @no.onnx"), "no tensor `NAME.mask`");
    run(&folder, "mask score @other.onnx --by magnitude --only conv1* --sparsity 0.5 -o @one.safetensors");
    refuse("mask compare @m.safetensors @one.safetensors", "no mask");
    // A mask that was cut short in its metadata or bits.
    let bytes = fs::read(folder.at("m.safetensors")).unwrap();
    let at = bytes.windows(7).position(|w| w == b"digests").unwrap();
    let mut edited = bytes.clone();
    edited[at..at + 7].copy_from_slice(b"digestz");
    fs::write(folder.at("edited.safetensors"), &edited).unwrap();
    refuse(&format!("mask apply {model} @edited.safetensors -o @no.onnx"), "has no `digests`");
    fs::write(folder.at("cut.safetensors"), &bytes[..bytes.len() - 9]).unwrap();
    refuse(&format!("mask apply {model} @cut.safetensors -o @no.onnx"), "cut.safetensors");
}
