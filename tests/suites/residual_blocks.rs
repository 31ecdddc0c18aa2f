//! Blocks of residual networks in ONNX: found, ranked, removed.
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use niwaki_conformance::folder::{Folder, bundled, part_of_sample, repository};
use niwaki_conformance::residual::{encoder, network, resnet};
use niwaki_conformance::scene::{attempt, json, run};
use niwaki_model::loss::{Target, cross_entropy};
use niwaki_model::{Graph, Run, Tape, Tensor, ValueId};
use niwaki_onnx::build::{Dim, initializer, value};
use niwaki_onnx::{DataType, Limits, Model, SaveOptions, save};
use niwaki_tensors::Checkpoint;
use serde_json::{Value, json};

/// A folder with a ResNet-20 of small stages for the bundled images, and 24 of these.
fn scene(idle: &[usize]) -> Folder {
    let folder = Folder::new("residual-blocks");
    resnet(&folder.path().join("net.onnx"), [1, 28], [3, 3], idle);
    part_of_sample(&folder, "data.safetensors", 0..24);
    folder
}

fn rank(folder: &Folder, by: &str, more: &str) -> Value {
    let mut found = json(folder, format!("layers rank @net.onnx --by {by} --data @data.safetensors {more}").trim_end());
    assert!(found["seconds"].take().is_number());
    found
}

fn numbers(of: &Value) -> Vec<u64> {
    of.as_array().unwrap().iter().map(|x| x.as_u64().unwrap()).collect()
}

/// Name and bytes of all initializers.
fn weights(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let model = Model::open(path, &Limits::default()).unwrap();
    let all = model.initializers();
    all.map(|one| (one.name().to_owned(), model.read(one).unwrap().bytes.to_vec())).collect()
}

/// The bytes of what a model makes of the bundled images.
fn scores(folder: &Folder, model: &str) -> Vec<u8> {
    let all = Checkpoint::open(folder.at("data.safetensors"), &niwaki_tensors::Limits::default()).unwrap();
    let pixels =
        all.get("images").unwrap().bytes().iter().flat_map(|x| (f32::from(*x) / 255.0).to_le_bytes()).collect();
    let images = [("images", "F32", &[24, 1, 28, 28][..], pixels)];
    niwaki_conformance::checkpoints::write(folder.path().join("in.safetensors"), &images);
    run(folder, &format!("run @{model} --input @in.safetensors -o @out.safetensors --force"));
    let out = Checkpoint::open(folder.at("out.safetensors"), &niwaki_tensors::Limits::default()).unwrap();
    out.tensors().next().unwrap().bytes().to_vec()
}

#[test]
fn resnets_have_the_macs_filters_and_blocks_of_the_paper() {
    // Blocks of a stage, MACs, filters, the share of a block in percent [lottery layers, 4].
    let nets = [(3, 40_813_184u64, 784, 11.56), (5, 69_124_736, 1232, 6.83), (9, 125_747_840, 2128, 3.75)];
    for (blocks, macs, filters, share) in nets {
        let folder = Folder::new("residual-blocks-macs");
        resnet(&folder.path().join("net.onnx"), [3, 32], [blocks, 16], &[]);
        assert_eq!(json(&folder, "inspect @net.onnx")["macs"], json!(macs));
        let model = Model::open(&folder.path().join("net.onnx"), &Limits::default()).unwrap();
        let kernels = model.graph().initializer.iter().filter(|tensor| tensor.dims.len() == 4);
        assert_eq!(kernels.map(|tensor| tensor.dims[0]).sum::<i64>(), filters);
        let found = json(&folder, "layers rank @net.onnx --by random");
        let all = found["blocks"].as_array().unwrap();
        assert_eq!(all.len(), 3 * blocks);
        let may: Vec<usize> = (0..all.len()).filter(|at| all[*at]["removable"] == true).collect();
        let expected: Vec<usize> = (1..3 * blocks).filter(|at| at % blocks > 0).collect();
        assert_eq!(may, expected, "not the first, nor those that change the shape");
        assert!((all[1]["macs"].as_u64().unwrap() as f64 / macs as f64 * 100.0 - share).abs() < 0.005);
        assert!(may.iter().all(|at| all[*at]["macs"] == 4_718_592));
        let stages: Vec<u64> = all.iter().map(|block| block["stage"].as_u64().unwrap()).collect();
        assert_eq!(stages, (0..3 * blocks).map(|at| (at / blocks) as u64).collect::<Vec<_>>());
        let most = 3 * (blocks - 2);
        let removed = json(&folder, &format!("layers remove @net.onnx --count {most} --by random -o @fewer.onnx"));
        assert_eq!(removed["macs_after"].as_u64().unwrap(), macs - 4_718_592 * most as u64);
        let too_many =
            attempt(&folder, &format!("layers remove @net.onnx --count {} --by random -o @x.onnx", most + 1));
        let text = format!("{} blocks to remove: {most} can go at most\n", most + 1);
        assert_eq!((too_many.code, too_many.out), (1, text));
    }
}

#[test]
fn a_block_that_adds_nothing_goes_first_and_is_not_missed() {
    let folder = scene(&[4]);
    let whole = scores(&folder, "net.onnx");
    for by in ["kl", "cka", "influence"] {
        let found = rank(&folder, by, "");
        assert_eq!(found["order"][0], json!(4), "{by}");
        let score = found["blocks"][4]["score"].as_f64().unwrap();
        assert!(score.abs() < 1e-12, "{by}: {score}");
        let removed = json(
            &folder,
            &format!("layers remove @net.onnx --count 1 --by {by} --data @data.safetensors -o @fewer.onnx --force"),
        );
        assert_eq!((numbers(&removed["removed"]), &removed["by"]), (vec![4], &json!(by)));
        assert_eq!(scores(&folder, "fewer.onnx"), whole, "bit for bit");
    }
    run(&folder, "layers remove @net.onnx --blocks 5 -o @other.onnx");
    assert_ne!(scores(&folder, "other.onnx"), whole);
}

#[test]
fn what_stays_keeps_its_bytes_and_what_goes_is_gone() {
    let folder = scene(&[]);
    let said = json(&folder, "layers remove @net.onnx --blocks 8,1 -o @fewer.onnx --power 5 --intensity 400");
    assert_eq!((numbers(&said["removed"]), numbers(&said["kept"])), (vec![1, 8], vec![0, 2, 3, 4, 5, 6, 7]));
    let (before, after) = (weights(&folder.path().join("net.onnx")), weights(&folder.path().join("fewer.onnx")));
    let gone = |name: &str| name.starts_with("block1.") || name.starts_with("block8.");
    let expected: BTreeMap<_, _> = before.into_iter().filter(|(name, _)| !gone(name)).collect();
    assert_eq!(after, expected);
    let model = Model::open(&folder.path().join("fewer.onnx"), &Limits::default()).unwrap();
    assert!(model.graph().node.iter().all(|node| !node.output.iter().any(|output| gone(output))));
    assert!(said["weights_after"].as_u64() < said["weights_before"].as_u64());
    assert!(said["peak_bytes_after"].as_u64() <= said["peak_bytes_before"].as_u64());
    let energy = |at: usize, key: &str| said["energy"][at][key].as_f64().unwrap();
    for (at, seconds) in ["pass_seconds_before", "pass_seconds_after"].iter().enumerate() {
        let hours = said[seconds].as_f64().unwrap() * 1e6 * 5.0 / 3.6e6;
        assert!((energy(at, "kilowatt_hours") / hours - 1.0).abs() < 1e-9);
        assert!((energy(at, "grams_co2") / hours / 400.0 - 1.0).abs() < 1e-9);
    }
    // What is left has the other blocks, and can be taken from again.
    let again = json(&folder, "layers rank @fewer.onnx --by random");
    assert_eq!(again["blocks"].as_array().unwrap().len(), 7);
}

/// The graph of a model in double floats, with batch normalizations by the statistics of the batch.
fn doubles(folder: &Folder) -> Graph {
    let mut proto = Model::open(&folder.path().join("net.onnx"), &Limits::default()).unwrap().into_proto();
    let graph = proto.graph.as_mut().unwrap();
    for tensor in &mut graph.initializer {
        let dims: Vec<usize> = tensor.dims.iter().map(|dim| *dim as usize).collect();
        let raw = tensor.raw_data().to_vec();
        let wide = raw.chunks_exact(4).flat_map(|x| f64::from(f32::from_le_bytes(x.try_into().unwrap())).to_le_bytes());
        *tensor = initializer(tensor.name(), DataType::Double, &dims, wide.collect::<Vec<u8>>());
    }
    let images = [Dim::Named("batch"), Dim::Known(1), Dim::Known(28), Dim::Known(28)];
    graph.input = vec![value("images", DataType::Double, &images)];
    graph.output = vec![value("scores", DataType::Double, &[Dim::Named("batch"), Dim::Known(10)])];
    let path = folder.path().join("doubles.onnx");
    save(&proto, &path, &SaveOptions::default()).unwrap();
    let mut graph = niwaki_model::onnx::open(&path).unwrap();
    graph.norms(Some(0.9));
    graph
}

/// The gradients of the loss with respect to some weights, in double floats.
fn gradients(graph: &Graph, wanted: &[ValueId], images: &Tensor, targets: &[Target]) -> Vec<Vec<f64>> {
    let tape = Tape::new(graph.clone(), wanted.to_vec()).unwrap();
    let forward = tape.forward(vec![images.clone()], None).unwrap();
    let loss = cross_entropy(&forward.outputs[0], targets, 0.0).unwrap();
    let mut seeds = vec![None; forward.outputs.len()];
    seeds[0] = Some(loss.gradient);
    let back = tape.backward(forward, seeds).unwrap();
    back.gradients.iter().map(|tensor| tensor.as_ref().unwrap().get::<f64>().unwrap().to_vec()).collect()
}

fn moved(graph: &Graph, wanted: &[ValueId], along: &[Vec<f64>], by: f64) -> Graph {
    let mut graph = graph.clone();
    for (value, along) in wanted.iter().zip(along) {
        let tensor = graph.constant(*value).unwrap().clone();
        let all = tensor.get::<f64>().unwrap().iter().zip(along).map(|(x, d)| x + by * d).collect();
        graph.set_weight(*value, Tensor::of(tensor.shape(), all).unwrap());
    }
    graph
}

#[test]
fn gradients_of_normalized_layers_obey_the_identities_behind_the_scores() {
    let folder = scene(&[]);
    let graph = doubles(&folder);
    let floats: Vec<ValueId> =
        graph.weights().filter(|(_, tensor)| tensor.get::<f64>().is_some()).map(|(value, _)| value).collect();
    let trains = |value: &&ValueId| !graph.name(**value).contains("running_");
    let wanted: Vec<ValueId> = floats.iter().filter(trains).copied().collect();
    let data = niwaki_engine::dataset::Dataset::open(folder.at("data.safetensors").as_ref()).unwrap();
    let mut images = vec![0.0; 24 * data.item_len()];
    data.batch(0..24, &mut images).unwrap();
    let images = Tensor::of([24, 1, 28, 28], images.into_iter().map(f64::from).collect()).unwrap();
    let targets: Vec<Target> = (0..24).map(|item| Target::Class(data.label(item).unwrap())).collect();
    let gradient = gradients(&graph, &wanted, &images, &targets);
    // H g by central differences: along the whole gradient, a step that is small beside the weights.
    let size = gradient.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
    let step = 1e-4 / size;
    let ends = [step, -step].map(|by| gradients(&moved(&graph, &wanted, &gradient, by), &wanted, &images, &targets));
    let of_rank = |by: &str| -> Vec<f64> {
        let found = rank(&folder, by, "");
        found["blocks"].as_array().unwrap().iter().map(|b| b["score"].as_f64().unwrap_or(f64::NAN)).collect()
    };
    let (grasp, snip, mean) = (of_rank("grasp"), of_rank("snip"), of_rank("snip-mean"));
    for block in [1, 2, 4, 5, 7, 8] {
        let (mut squares, mut hessian, mut sizes, mut count) = (0.0, 0.0, 0.0, 0);
        for (at, value) in wanted.iter().enumerate() {
            let name = graph.name(*value);
            if !name.starts_with(&format!("block{block}.")) || name.contains(".bn.") {
                continue;
            }
            let weights = graph.constant(*value).unwrap().get::<f64>().unwrap();
            let g = &gradient[at];
            let signed: f64 = weights.iter().zip(g).map(|(w, g)| w * g).sum();
            let unsigned: f64 = weights.iter().zip(g).map(|(w, g)| (w * g).abs()).sum();
            assert!(signed.abs() < 1e-4 * unsigned, "{name}: {signed} of {unsigned}");
            let product = ends[0][at].iter().zip(&ends[1][at]).map(|(plus, minus)| (plus - minus) / (2.0 * step));
            hessian -= weights.iter().zip(product).map(|(w, hg)| w * hg).sum::<f64>();
            squares += g.iter().map(|g| g * g).sum::<f64>();
            sizes += unsigned;
            count += weights.len();
        }
        // -θ'Hg = |g|².
        assert!((hessian / squares - 1.0).abs() < 0.01, "block {block}: {hessian} and {squares}");
        let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-3, "{found} {expected}");
        close(grasp[block], squares);
        close(snip[block], sizes);
        close(mean[block], sizes / f64::from(count as u32));
    }
    let order = numbers(&rank(&folder, "grasp", "")["order"]);
    assert!(order.windows(2).all(|two| grasp[two[0] as usize] >= grasp[two[1] as usize]), "the largest go first");
}

/// The probabilities of the classes of all images by a model.
fn probabilities(folder: &Folder, model: &str) -> Vec<Vec<f64>> {
    let data = niwaki_engine::dataset::Dataset::open(folder.at("data.safetensors").as_ref()).unwrap();
    let mut images = vec![0.0; 24 * data.item_len()];
    data.batch(0..24, &mut images).unwrap();
    let executor = niwaki_engine::model::Model::open(&folder.path().join(model)).unwrap().executor().unwrap();
    let images = Tensor::of([24, 1, 28, 28], images).unwrap();
    let made = executor.run(vec![images], Run::default()).unwrap().outputs;
    let softmax = |row: &[f32]| -> Vec<f64> {
        let all: Vec<f64> = row.iter().map(|x| f64::from(*x).exp()).collect();
        all.iter().map(|x| x / all.iter().sum::<f64>()).collect()
    };
    made[0].get::<f32>().unwrap().chunks_exact(10).map(softmax).collect()
}

#[test]
fn kl_is_that_of_the_networks_without_each_block() {
    let folder = scene(&[]);
    let found = rank(&folder, "kl", "");
    let whole = probabilities(&folder, "net.onnx");
    for block in [2, 7] {
        run(&folder, &format!("layers remove @net.onnx --blocks {block} -o @fewer.onnx --force"));
        let without = probabilities(&folder, "fewer.onnx");
        let terms = |(q, p): (&Vec<f64>, &Vec<f64>)| q.iter().zip(p).map(|(q, p)| q * (q / p).ln()).sum::<f64>();
        let kl = without.iter().zip(&whole).map(terms).sum::<f64>() / 24.0;
        let score = found["blocks"][block]["score"].as_f64().unwrap();
        assert!((kl / score - 1.0).abs() < 1e-4, "{block}: {kl} {score}");
    }
    assert_eq!((&found["images"], &found["blocks"][3]["score"]), (&json!(24), &Value::Null));
}

#[test]
fn blocks_that_go_one_by_one_are_scored_anew_each_time() {
    let folder = scene(&[]);
    for by in ["expectabs", "grasp"] {
        let line = format!("--by {by} --data @data.safetensors");
        let all = json(&folder, &format!("layers remove @net.onnx --count 3 --one-by-one {line} -o @all.onnx --force"));
        run(&folder, &format!("layers remove @net.onnx --count 1 {line} -o @a.onnx --force"));
        run(&folder, &format!("layers remove @a.onnx --count 1 {line} -o @b.onnx --force"));
        run(&folder, &format!("layers remove @b.onnx --count 1 {line} -o @c.onnx --force"));
        assert_eq!(numbers(&all["removed"]).len(), 3);
        assert_eq!(weights(&folder.path().join("all.onnx")), weights(&folder.path().join("c.onnx")), "{by}");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_scores_and_bytes() {
    let folder = scene(&[]);
    for by in ["grasp", "snip", "hrank", "expectabs", "kl", "pls", "cka", "influence"] {
        let found = rank(&folder, by, "--threads 1");
        assert_eq!(rank(&folder, by, "--threads 3"), found, "{by}");
        let scored = found["blocks"].as_array().unwrap().iter().filter(|block| block["score"].is_number()).count();
        assert_eq!(
            (scored, found["order"].as_array().unwrap().len()),
            (7, 7),
            "{by}: all but those that change shapes"
        );
    }
    let few = rank(&folder, "expectabs", "--limit 8");
    assert_eq!(few["images"], json!(8));
    assert_ne!(few["blocks"], rank(&folder, "expectabs", "")["blocks"]);
    assert_ne!(few["blocks"], rank(&folder, "expectabs", "--limit 8 --seed 4")["blocks"], "other images");
}

#[test]
fn a_ticket_gets_the_weights_that_a_training_kept() {
    let folder = scene(&[]);
    run(
        &folder,
        "train @net.onnx --data @data.safetensors --epochs 1 --batch 12 --init random --keep-epoch 0 -o @t.safetensors",
    );
    let kept = folder.names().into_iter().find(|name| name.contains("epoch") || name.contains(".0.")).unwrap();
    run(&folder, &format!("layers remove @net.onnx --blocks 1 --rewind @{kept} -o @ticket.onnx"));
    let first = Checkpoint::open(folder.at(&kept), &niwaki_tensors::Limits::default()).unwrap();
    let ticket = weights(&folder.path().join("ticket.onnx"));
    let own = weights(&folder.path().join("net.onnx"));
    assert!(ticket.keys().all(|name| !name.starts_with("block1.")));
    for (name, bytes) in &ticket {
        assert_eq!(first.get(name).unwrap().bytes(), bytes, "{name}");
    }
    assert_ne!(ticket["stem.weight"], own["stem.weight"]);
    run(&folder, "train @ticket.onnx --data @data.safetensors --epochs 1 --batch 12 -o @trained.onnx");
}

#[test]
fn rules_say_which_blocks_may_go() {
    let folder = Folder::new("residual-blocks-rules");
    resnet(&folder.path().join("net.onnx"), [1, 28], [5, 4], &[]);
    let may = |rule: &str| -> Vec<usize> {
        let found = json(&folder, &format!("layers rank @net.onnx --by random --rule {rule}"));
        let all = found["blocks"].as_array().unwrap().clone();
        (0..all.len()).filter(|at| all[*at]["removable"] == true).collect()
    };
    assert_eq!(may("paper"), [1, 2, 3, 7, 8, 12, 13, 14]);
    assert_eq!(may("code"), [1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14]);
    assert_eq!(may("any"), [0, 1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14]);
    run(&folder, "layers remove @net.onnx --blocks 0,1,2,3,4 --rule any -o @fewer.onnx");
    assert_eq!(json(&folder, "layers rank @fewer.onnx --by random")["blocks"].as_array().unwrap().len(), 10);
    // A network of one stage without a change of shape keeps two blocks.
    network(&folder.path().join("small.onnx"), 3);
    assert_eq!(attempt(&folder, "layers remove @small.onnx --count 2 --by random -o @x.onnx").code, 1);
}

#[test]
fn transformers_are_blocks_of_two_halves() {
    let folder = Folder::new("residual-blocks-encoder");
    encoder(&folder.path().join("net.onnx"), 3);
    let whats = |found: &Value| -> Vec<String> {
        found["blocks"].as_array().unwrap().iter().map(|b| b["what"].as_str().unwrap().to_owned()).collect()
    };
    let whole = json(&folder, "layers rank @net.onnx --by random");
    assert_eq!(whats(&whole), ["transformer"; 3]);
    let halves = json(&folder, "layers rank @net.onnx --by random --halves");
    assert_eq!(whats(&halves), ["attention", "linear", "attention", "linear", "attention", "linear"]);
    run(&folder, "layers remove @net.onnx --blocks 1 -o @fewer.onnx");
    let gone = |what: &str| weights(&folder.path().join("fewer.onnx")).keys().all(|name| !name.starts_with(what));
    assert!(gone("1.") && !gone("0.") && !gone("2."));
    run(&folder, "layers remove @net.onnx --halves --blocks 3 -o @fewer.onnx --force");
    assert!(gone("1.up") && gone("1.down") && !gone("1.q"));
}

#[test]
fn what_cannot_be_done_is_said_in_one_line_and_nothing_is_written() {
    let folder = scene(&[]);
    // A second result from within block 4.
    let mut leaks = Model::open(&folder.path().join("net.onnx"), &Limits::default()).unwrap().into_proto();
    leaks.graph.as_mut().unwrap().output.push(value("block4.one", DataType::Float, &[]));
    save(&leaks, &folder.path().join("leaks.onnx"), &SaveOptions::default()).unwrap();
    std::fs::copy(bundled("model.onnx"), folder.path().join("plain.onnx")).unwrap();
    std::fs::write(folder.path().join("broken.onnx"), [7; 40]).unwrap();
    let names = folder.names();
    let refusal = |line: &str| attempt(&folder, line).error().replace(&folder.at(""), "@");
    let cases = [
        (
            "rank @plain.onnx --by random",
            "`@plain.onnx`: a plain network: no branch with weights is added to what it takes, so there is no block",
        ),
        (
            "remove @leaks.onnx --blocks 4 -o @out.onnx",
            "`@leaks.onnx`: block 4 cannot go: a value from within is used elsewhere, by the result `block4.one`",
        ),
        (
            "remove @net.onnx --blocks 3 -o @out.onnx",
            "`@net.onnx`: block 3 changes what it takes on both ways: nothing can take its place",
        ),
        ("remove @net.onnx --blocks 0 -o @out.onnx", "`@net.onnx`: block 0 is none that may be removed"),
        (
            "remove @net.onnx --blocks 7,8 -o @out.onnx",
            "`@net.onnx`: block 7 is one too many of its stage to remove; 2 have to stay",
        ),
        ("remove @net.onnx --blocks 9 -o @out.onnx", "`@net.onnx`: no block 9; there are 0 to 8"),
        ("remove @net.onnx --count 1 --by kl -o @out.onnx", "`--by kl` needs `--data DATA`"),
        (
            "rank @net.onnx --by kl --data @data.safetensors --limit 0",
            "`@data.safetensors`: no image to look at; expected one or more",
        ),
        ("remove @net.onnx --blocks 1 -o @net.onnx", "`@net.onnx`: exists already"),
    ];
    for (line, expected) in cases {
        assert_eq!(refusal(&format!("layers {line}")), expected, "{line}");
    }
    assert!(refusal("layers rank @broken.onnx --by random").starts_with("`@broken.onnx`: "));
    assert!(refusal("layers remove @net.onnx --blocks 1 --rewind @data.safetensors -o @out.onnx").contains("none of"));
    assert_eq!(folder.names(), names);
}

/// `NIWAKI_PYTHON` names a Python with onnxruntime.
#[test]
fn onnxruntime_computes_the_same_of_a_network_without_blocks() {
    let folder = scene(&[]);
    run(&folder, "layers remove @net.onnx --blocks 1,5 -o @fewer.onnx");
    scores(&folder, "fewer.onnx");
    let python = std::env::var("NIWAKI_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = repository().join("tests/scripts/check_onnx_export.py");
    let files = ["fewer.onnx", "in.safetensors", "out.safetensors"].map(|name| folder.at(name));
    match Command::new(&python).arg(script).args(files).output() {
        Err(_) => println!("skipped: no {python}"),
        Ok(done) => {
            print!("{}", String::from_utf8_lossy(&done.stdout));
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
    }
}
