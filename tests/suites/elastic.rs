//! Networks that run at many widths: trained, measured, and refused, on the bundled network.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use niwaki_codes::{Bits, Widths};
use niwaki_conformance::folder::{Folder, bundled, part_of_sample, sample};
use niwaki_conformance::llama::write_llama;
use niwaki_conformance::scene::{attempt, json, run};
use niwaki_conformance::trained::refuse;
use niwaki_engine::elastic::{Elastic, train};
use niwaki_engine::model::Model;
use niwaki_engine::train::{Lessons, Method, Settings, Task};
use niwaki_tensors::{Checkpoint, Dtype, Limits, Overwrite, write_file};
use serde_json::Value;

const FORMS: &str = "--form w8a8/row/sym --form w2a2/row/sym --form w2a2/tensor/affine --form w4a8/row/sym/affine";

/// The first 100 of the bundled images.
fn few(folder: &Folder) -> String {
    part_of_sample(folder, "few.safetensors", 0..100)
}

fn trains(folder: &Folder, more: &str, out: &str) -> Value {
    trains_on(folder, &sample(), more, out)
}

fn trains_on(folder: &Folder, data: &str, more: &str, out: &str) -> Value {
    let model = bundled("model.onnx");
    json(folder, &format!("elastic train {model} --data {data} --batch 50 {more} -o @{out}"))
}

/// Accuracies and losses, form by form.
fn measured(folder: &Folder, weights: &str, more: &str) -> Vec<[f64; 2]> {
    let (model, data) = (bundled("model.onnx"), sample());
    let said = json(folder, &format!("elastic eval {model} --weights @{weights} --data {data} {more}"));
    let number = |form: &Value, key: &str| form[key].as_f64().unwrap();
    said["forms"].as_array().unwrap().iter().map(|form| [number(form, "accuracy"), number(form, "loss")]).collect()
}

fn floats(path: &str, name: &str) -> Vec<f32> {
    let checkpoint = Checkpoint::open(path, &Limits::default()).unwrap();
    checkpoint.get(name).unwrap().f32s().unwrap().to_vec()
}

#[test]
fn training_makes_narrow_forms_better_from_one_set_of_weights() {
    let folder = Folder::new("elastic-train");
    trains(&folder, "--epochs 0", "fitted.safetensors");
    for name in ["conv1.weight", "fc2.bias"] {
        assert_eq!(floats(&folder.at("fitted.safetensors"), name), floats(&bundled("model.safetensors"), name));
    }
    let dense = json(&folder, &format!("eval {} --data {}", bundled("model.onnx"), sample()));
    let fitted = measured(&folder, "fitted.safetensors", FORMS);
    assert!((fitted[0][0] - dense["accuracy"].as_f64().unwrap()).abs() < 0.01, "8 bits are nearly floats: {fitted:?}");
    assert!(fitted[1][1] > fitted[0][1] && fitted[2][1] > fitted[0][1], "2 bits lose: {fitted:?}");
    let said = trains(&folder, &format!("--epochs 3 --eval-data {}", sample()), "trained.safetensors");
    let file = fs::read(folder.at("trained.safetensors")).unwrap();
    let trained = measured(&folder, "trained.safetensors", FORMS);
    assert!(trained[1][0] > fitted[1][0] + 0.02 && trained[2][0] > fitted[2][0] + 0.02, "{trained:?} {fitted:?}");
    assert!(trained[0][0] > fitted[0][0], "{trained:?} {fitted:?}");
    // What is measured after the last pass is the widest form.
    let last = said["epochs"][2]["eval_accuracy"].as_f64().unwrap();
    assert_eq!(last, trained[0][0], "{said}");
    // Measuring changes nothing, and no result hangs on threads.
    let again = measured(&folder, "trained.safetensors", &format!("{FORMS} --threads 1"));
    assert_eq!(again, measured(&folder, "trained.safetensors", &format!("{FORMS} --threads 3")));
    assert!(fs::read(folder.at("trained.safetensors")).unwrap() == file);
    // Offsets as they were learned are other grids, where there are some.
    let learned = measured(&folder, "trained.safetensors", &format!("{FORMS} --float-offsets"));
    assert!(learned[..2] == trained[..2] && learned[2] != trained[2], "{learned:?} {trained:?}");
}

#[test]
fn bytes_do_not_hang_on_threads_but_on_seed_and_losses() {
    let folder = Folder::new("elastic-threads");
    let data = few(&folder);
    let of = |more: &str, out: &str| {
        trains_on(&folder, &data, &format!("--epochs 1 {more}"), out);
        fs::read(folder.at(out)).unwrap()
    };
    let one = of("--threads 1", "one.safetensors");
    assert!(one == of("--threads 3", "three.safetensors"));
    for (more, out) in [("--seed 1", "seed"), ("--no-shape", "shape"), ("--no-guide", "guide")] {
        assert!(one != of(more, &format!("{out}.safetensors")), "{more}");
    }
}

#[test]
fn an_interrupted_training_goes_on_to_the_same_bytes() {
    let folder = Folder::new("elastic-interrupted");
    let [whole, cut] = ["whole.safetensors", "cut.safetensors"].map(|name| folder.at(name));
    let model = Model::open(bundled("model.onnx").as_ref()).unwrap();
    let data = Lessons::open(few(&folder).as_ref(), &model).unwrap();
    let method = Method::Adam { betas: [0.9, 0.999], epsilon: 1e-8, decoupled: false };
    let settings =
        Settings { epochs: 2, batch: 20, method, rate: 1e-3, decay: 0.0, save_every: Some(3), ..Settings::default() };
    let how = Elastic::new(Widths::new([2, 8].map(|bits| Bits::new(bits).unwrap())).unwrap());
    train(&Task::new(&model, &data, whole.as_ref()), &settings, &how, &mut |_| {}).unwrap();
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        train(&Task::new(&model, &data, cut.as_ref()), &settings, &how, &mut |at| assert!(at.done < 160, "killed"))
    }));
    assert!(killed.is_err() && !Path::new(&cut).exists());
    let trained = train(&Task::new(&model, &data, cut.as_ref()), &settings, &how, &mut |_| {}).unwrap();
    assert!(trained.resumed);
    assert!(fs::read(&whole).unwrap() == fs::read(&cut).unwrap(), "an interruption changes the weights");
}

#[test]
fn weights_alone_are_quantized_where_asked() {
    let folder = Folder::new("elastic-weights");
    trains_on(&folder, &few(&folder), "--epochs 1 --weights-only --widths 2,4", "w.safetensors");
    let found = measured(&folder, "w.safetensors", "--form w4/row/sym --form w2/tensor/affine");
    assert!(found[0][0] > 0.85, "{found:?}");
    let (model, weights, data) = (bundled("model.onnx"), folder.at("w.safetensors"), sample());
    let eval = format!("elastic eval {model} --weights {weights} --data {data} --form");
    refuse(&folder, &format!("{eval} w4a4/row/sym"), "form w4a4/row/sym: the network quantizes weights alone");
    refuse(&folder, &format!("{eval} w8/row/sym"), "form w8/row/sym: it was trained for 2, 4 bits");
}

#[test]
fn an_exported_form_computes_what_was_measured() {
    let folder = Folder::new("elastic-export");
    trains(&folder, "--epochs 1", "e.safetensors");
    let (model, weights, data) = (bundled("model.onnx"), folder.at("e.safetensors"), sample());
    for form in ["w8a8/row/sym", "w4a4/tensor/affine", "w2a2/row/affine", "w2a4/row/sym/affine"] {
        let said =
            json(&folder, &format!("elastic export {model} --weights {weights} --form {form} -o @q.onnx --force"));
        assert_eq!(said["form"], form);
        let found = json(&folder, &format!("eval @./q.onnx --data {data}"));
        let needs = measured(&folder, "e.safetensors", &format!("--form {form}"))[0];
        let [accuracy, loss] = ["accuracy", "loss"].map(|key| found[key].as_f64().unwrap());
        assert!((accuracy - needs[0]).abs() < 1e-9 && (loss - needs[1]).abs() < 1e-3, "{form}: {found} {needs:?}");
        let graph = niwaki_onnx::Model::open(folder.at("q.onnx").as_ref(), &niwaki_onnx::Limits::default()).unwrap();
        let count = |op: &str| graph.graph().node.iter().filter(|node| node.op_type() == op).count();
        // Four layers; of 8 bits no input needs to be cut.
        let cut = if form.starts_with("w8") { 0 } else { 2 };
        assert_eq!([count("QuantizeLinear"), count("DequantizeLinear"), count("Clip")], [4, 8, cut], "{form}");
        assert!(graph.graph().initializer.iter().all(|tensor| tensor.name() != "conv1.weight"));
    }
    let line = format!("elastic export {model} --weights {weights} --form w4a4/row/sym -o @q.onnx");
    refuse(&folder, &line, "exists");
}

#[test]
fn a_search_keeps_to_its_budget_and_goes_on_from_what_was_measured() {
    let folder = Folder::new("elastic-search");
    trains(&folder, "--epochs 0 --widths 2,3,4,5,8", "e.safetensors");
    let (model, weights, data) = (bundled("model.onnx"), folder.at("e.safetensors"), sample());
    let search = |budget: &str, more: &str| {
        let line = format!("elastic search {model} --weights {weights} --data {data} --budget {budget}");
        json(
            &folder,
            &format!("{line} --examples 200 --pairs 20 --generations 20 --pairs-file @pairs.txt --force {more}"),
        )
    };
    let first = search("3bits", "-o @a.toml");
    for candidate in first["candidates"].as_array().unwrap() {
        assert!(candidate["average"][0].as_f64().unwrap() <= 3.0, "{candidate}");
        let bits: Vec<u64> = candidate["bits"].as_array().unwrap().iter().map(|bits| bits.as_u64().unwrap()).collect();
        assert_eq!((bits.len(), bits[0], bits[3]), (4, 8, 8), "{candidate}");
    }
    let recipe = fs::read_to_string(folder.at("a.toml")).unwrap();
    assert_eq!(recipe.matches("[[quantize]]").count(), 4);
    // What was measured is not measured again, a line that was cut is, and threads change nothing.
    let pairs = fs::read_to_string(folder.at("pairs.txt")).unwrap();
    fs::write(folder.at("pairs.txt"), &pairs[..pairs.len() - 9]).unwrap();
    let again = search("3bits", "-o @b.toml --threads 1");
    assert_eq!((&again["candidates"], &again["tau"]), (&first["candidates"], &first["tau"]));
    assert_eq!(fs::read_to_string(folder.at("b.toml")).unwrap(), recipe);
    let lines = fs::read_to_string(folder.at("pairs.txt")).unwrap().lines().filter(|line| line.ends_with('}')).count();
    search("5bits", "-o @c.toml --method allocate");
    let later = fs::read_to_string(folder.at("pairs.txt")).unwrap().lines().filter(|line| line.ends_with('}')).count();
    assert!(later <= lines + 3, "other budgets use the same measurements: {lines}, {later}");
    // The recipe is a form, and a way to compress.
    let measured = measured(&folder, "e.safetensors", &format!("--form {}", folder.at("a.toml")));
    assert!(measured[0][0] > 0.7, "{measured:?}");
    run(&folder, &format!("compress {} -r @./a.toml -o @small.safetensors", bundled("model.safetensors")));
    let line = format!("elastic search {model} --weights {weights} --data {data} --style tensor/sym --budget 3bits");
    refuse(
        &folder,
        &format!("{line} --pairs-file {} -o @no.toml", folder.at("pairs.txt")),
        "measurements of other weights",
    );
    refuse(&folder, &format!("{line} --pairs 5 -o @no.toml"), "pairs");
    refuse(&folder, &line.replace("3bits", "3"), "`--budget");
}

#[test]
fn an_average_that_no_widths_have_is_said() {
    let folder = Folder::new("elastic-unmet");
    trains_on(&folder, &few(&folder), "--epochs 0 --widths 4,8", "e.safetensors");
    let (model, weights, data) = (bundled("model.onnx"), folder.at("e.safetensors"), sample());
    let line = format!("elastic search {model} --weights {weights} --data {data} --budget 3bits -o @no.toml");
    let answer = attempt(&folder, &line);
    assert_eq!((answer.code, answer.out.as_str()), (1, "no widths average 3 bits: the narrowest have 4\n"));
    assert!(!Path::new(&folder.at("no.toml")).exists());
}

#[test]
fn nested_grids_pack_into_planes_without_loss() {
    let folder = Folder::new("elastic-nested");
    trains(&folder, "--epochs 1 --grid nested --group 32 --weights-only", "e.safetensors");
    let (model, weights, data) = (bundled("model.onnx"), folder.at("e.safetensors"), sample());
    // Weights alone, as planes hold them: first and last layer at 8 bits, the others at the width.
    run(&folder, &format!("compress {weights} --scheme elastic/g32/2,4,8 -o @planes.safetensors"));
    for bits in [2, 4, 8] {
        let found = measured(&folder, "e.safetensors", &format!("--form w{bits}/row/sym"))[0];
        run(&folder, &format!("elastic export {model} --weights {weights} --form w{bits}/row/sym -o @q.onnx --force"));
        run(
            &folder,
            &format!("export @./planes.safetensors --to safetensors --bits {bits} -o @narrow.safetensors --force"),
        );
        run(&folder, "export @./planes.safetensors --to safetensors --bits 8 -o @wide.safetensors --force");
        let [narrow, wide] = ["narrow.safetensors", "wide.safetensors"].map(|name| folder.at(name));
        let graph = niwaki_onnx::Model::open(folder.at("q.onnx").as_ref(), &niwaki_onnx::Limits::default()).unwrap();
        for (name, from) in
            [("conv1.weight", &wide), ("conv2.weight", &narrow), ("fc1.weight", &narrow), ("fc2.weight", &wide)]
        {
            let tensor = graph.graph().initializer.iter().find(|tensor| tensor.name() == name).unwrap();
            let needs: Vec<u8> = floats(from, name).iter().flat_map(|x| x.to_le_bytes()).collect();
            assert!(tensor.raw_data.as_deref() == Some(&needs[..]), "{name} at {bits} bits");
        }
        let said = json(&folder, &format!("eval @./q.onnx --data {data}"));
        assert!((said["accuracy"].as_f64().unwrap() - found[0]).abs() < 1e-9, "{bits}: {said} {found:?}");
    }
}

/// A copy of an elastic file in which one tensor is another.
fn changed(folder: &Folder, from: &str, name: &str, numbers: &[f32], shape: &[usize]) -> String {
    let checkpoint = Checkpoint::open(folder.at(from), &Limits::default()).unwrap();
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let tensors: Vec<(&str, Dtype, &[usize], &[u8])> = checkpoint
        .tensors()
        .map(|view| match view.name() == name {
            true => (name, Dtype::F32, shape, bytes.as_slice()),
            false => (view.name(), view.dtype(), view.shape(), view.bytes()),
        })
        .collect();
    let metadata: Vec<(&str, &str)> = checkpoint.metadata().into_iter().collect();
    let out = folder.at("changed.safetensors");
    write_file(out.as_ref(), &tensors, &metadata, Overwrite::Replace).unwrap();
    out
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let folder = Folder::new("elastic-refused");
    let (model, data) = (bundled("model.onnx"), sample());
    trains(&folder, "--epochs 0", "e.safetensors");
    let eval =
        |weights: &str, form: &str| format!("elastic eval {model} --weights {weights} --data {data} --form {form}");
    let good = folder.at("e.safetensors");
    for form in ["w9a8/row/sym", "w4", "w4a4/row", "w4a4/g64/sym", "a4w4/row/sym", ""] {
        refuse(&folder, &eval(&good, form), &format!("`--form {form}`"));
    }
    refuse(&folder, &eval(&good, "w3a3/row/sym"), "form w3a3/row/sym: it was trained for 2, 4, 8 bits");
    refuse(&folder, &eval(&good, "w4/row/sym"), "form w4/row/sym: the network has inputs of so many bits too");
    refuse(&folder, &eval(&bundled("model.safetensors"), "w4a4/row/sym"), "no `niwaki.elastic` in its metadata");
    let table = floats(&good, "conv1.weight.grids");
    let mut odd = table.clone();
    odd[5] = f32::NAN;
    let shape = [table.len() / 21, 3, 7];
    let name = "conv1.weight.grids";
    let bad = changed(&folder, "e.safetensors", name, &odd, &shape);
    refuse(&folder, &eval(&bad, "w4a4/row/sym"), "tensor `conv1.weight.grids`: number 5 is not finite");
    let bad = changed(&folder, "e.safetensors", name, &table[21..], &[shape[0] - 1, 3, 7]);
    refuse(&folder, &eval(&bad, "w4a4/row/sym"), "tensor `conv1.weight.grids`: F32 [8, 3, 7], F32 [9, 3, 7] expected");
    let train =
        |more: &str| format!("elastic train {model} --data {data} --epochs 1 --batch 50 -o @no.safetensors {more}");
    refuse(&folder, &train("--widths 1,2"), "`--widths`");
    refuse(&folder, &train("--lr 0"), "`--lr");
    assert!(!Path::new(&folder.at("no.safetensors")).exists());
    // A file of another model.
    write_llama(folder.at("llama").as_ref());
    let line = format!("elastic eval @./llama --weights {good} --data {} --form w4a4/row/sym", folder.at("t.txt"));
    fs::write(folder.at("t.txt"), "words").unwrap();
    refuse(&folder, &line, "is not there");
    run(&folder, &eval(&good, "w4a4/row/sym"));
}
