//! Statistics of layers' inputs, fits that look at them, and the search for schemes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use niwaki_conformance::folder::{Folder, bundled, sample};
use niwaki_conformance::llama::{letters, write_llama};
use niwaki_conformance::scene::{attempt, json, run};
use niwaki_conformance::trained::refuse;
use niwaki_engine::{Names, Opened, Stats};
use niwaki_onnx::build::{Dim, attr_int, graph, initializer, model, node, value};
use niwaki_onnx::{DataType, SaveOptions, save};
use niwaki_tensors::{Checkpoint, Limits};

fn floats(path: &str, name: &str) -> Vec<f32> {
    let checkpoint = Checkpoint::open(path, &Limits::default()).unwrap();
    let view = checkpoint.get(name).unwrap();
    let mut all = vec![0.0; view.elements()];
    view.decode_f32(0..all.len(), &mut all).unwrap();
    all
}

/// The bundled network's statistics, with Gram matrices, on all images of the sample.
fn calibrated(name: &str) -> Folder {
    let folder = Folder::new(name);
    let (model, data) = (bundled("model.onnx"), sample());
    json(&folder, &format!("calibrate {model} --data {data} --limit 500 --gram -o @stats.safetensors"));
    folder
}

/// The pixels of the sample's images, as the network sees them.
fn pixels() -> Vec<f64> {
    let checkpoint = Checkpoint::open(sample(), &Limits::default()).unwrap();
    let bytes = checkpoint.get("images").unwrap().bytes().to_vec();
    bytes.into_iter().map(|x| (f64::from(x) / 255.0 - 0.2860) / 0.3530).collect()
}

#[test]
fn statistics_are_those_of_the_inputs() {
    let folder = calibrated("calibrate-pixels");
    let stats = folder.at("stats.safetensors");
    let pixels = pixels();
    let square = pixels.iter().map(|x| x * x).sum::<f64>() / pixels.len() as f64;
    let found = f64::from(floats(&stats, "conv1.weight.mean_square")[0]);
    assert!((found / square - 1.0).abs() < 1e-5, "{found}, {square} expected");
    let ends = |of: fn(f64, f64) -> f64| pixels.iter().copied().reduce(of).unwrap() as f32;
    let near = |name: &str, expected: f32| assert!((floats(&stats, name)[0] - expected).abs() < 1e-5, "{name}");
    near("conv1.weight.low", ends(f64::min));
    near("conv1.weight.high", ends(f64::max));
    // The windows of the first convolution: products of each pixel with its right neighbour, nothing beyond the border.
    let gram = floats(&stats, "gram.0");
    let at = |image: &[f64], y: usize, x: usize| image[28 * y + x];
    let neighbours = pixels
        .chunks(28 * 28)
        .flat_map(|image| (0..28).flat_map(move |y| (0..27).map(move |x| at(image, y, x) * at(image, y, x + 1))));
    let expected = neighbours.sum::<f64>() / pixels.len() as f64;
    // Row 4 of 9, the middle of a window, and column 5.
    let place = (0..4).map(|row| 9 - row).sum::<usize>() + 1;
    assert!((f64::from(gram[place]) / expected - 1.0).abs() < 1e-5, "{}, {expected} expected", gram[place]);
    // The diagonal of a linear layer's matrix is its mean squares.
    let open = Stats::open(stats.as_ref()).unwrap();
    let (gram, squares) =
        (open.layer("fc1.weight").unwrap().grams().unwrap().unwrap(), floats(&stats, "fc1.weight.mean_square"));
    for (at, square) in squares.iter().enumerate() {
        assert!((gram[0].get(at, at) - f64::from(*square)).abs() <= 1e-6 * f64::from(*square), "input {at}");
    }
    assert_eq!((open.examples(), open.names().count()), (500, 4));
}

#[test]
fn threads_and_matrices_change_no_number() {
    let folder = Folder::new("calibrate-threads");
    let (model, data) = (bundled("model.onnx"), sample());
    let line =
        |flags: &str, out: &str| format!("calibrate {model} --data {data} --limit 70 {flags} -o @{out}.safetensors");
    run(&folder, &line("--gram --threads 1", "one"));
    run(&folder, &line("--gram --threads 3", "three"));
    let said = json(&folder, &line("--threads 2", "without"));
    assert!(fs::read(folder.at("one.safetensors")).unwrap() == fs::read(folder.at("three.safetensors")).unwrap());
    assert_eq!(
        (said["layers"].as_u64(), said["grams"].as_u64(), said["examples"].as_u64()),
        (Some(4), Some(0), Some(70))
    );
    for name in ["conv1.weight.mean_square", "fc1.weight.low", "fc2.weight.high", "conv2.weight.mean_square"] {
        assert_eq!(
            floats(&folder.at("one.safetensors"), name),
            floats(&folder.at("without.safetensors"), name),
            "{name}"
        );
    }
    // Codes made of them are the same too.
    let weights = bundled("model.safetensors");
    let line = |threads: u32| {
        format!(
            "compress {weights} --scheme int3/g32/affine --fit gptq_order --stats @one.safetensors --threads {threads} -o @{threads}.safetensors"
        )
    };
    for threads in [1, 3] {
        run(&folder, &line(threads));
    }
    assert!(fs::read(folder.at("1.safetensors")).unwrap() == fs::read(folder.at("3.safetensors")).unwrap());
}

#[test]
fn what_is_known_of_inputs_makes_outputs_nearer() {
    let folder = calibrated("calibrate-fits");
    let (model, weights, data) = (bundled("model.onnx"), bundled("model.safetensors"), sample());
    let kl = |scheme: &str, fit: &str| {
        let out = "codes.safetensors";
        run(&folder, &format!("compress {weights} --scheme {scheme} --fit {fit} --force -o @{out}"));
        let found = json(&folder, &format!("eval {model} --weights @{out} --against {weights} --data {data}"));
        found["kl"].as_f64().unwrap()
    };
    let stats = folder.at("stats.safetensors");
    for scheme in ["int2/row/affine", "int3/row/sym", "int3/g32/sym"] {
        let [lsq, weighted, gptq, order] = [
            "lsq".to_owned(),
            format!("lsq --stats {stats}"),
            format!("gptq --stats {stats}"),
            format!("gptq_order --stats {stats}"),
        ]
        .map(|fit| kl(scheme, &fit));
        assert!(gptq.max(order) < lsq.min(weighted), "{scheme}: {lsq} {weighted} {gptq} {order}");
    }
}

#[test]
fn damping_is_what_is_asked_for() {
    let folder = calibrated("calibrate-damping");
    let weights = bundled("model.safetensors");
    let line = |flags: &str, out: &str| {
        format!("compress {weights} --scheme int3/g32/sym --fit gptq --stats @stats.safetensors{flags} -o @{out}")
    };
    for (flags, out) in [("", "plain"), (" --damping 0.01", "usual"), (" --damping 0.5", "much")] {
        run(&folder, &line(flags, &format!("{out}.safetensors")));
    }
    let recipe = "version = 1\ndamping = 0.5\n\n[[quantize]]\ntensors = \"*\"\nmin_dims = 2\nscheme = \"int3/g32/sym\"\nfit = \"gptq\"\n";
    fs::write(folder.at("r.toml"), recipe).unwrap();
    run(&folder, &format!("compress {weights} -r @r.toml --stats @stats.safetensors -o @recipe.safetensors"));
    let codes = |of: &str| {
        let file = Checkpoint::open(folder.at(&format!("{of}.safetensors")), &Limits::default()).unwrap();
        file.get("fc1.weight.codes").unwrap().bytes().to_vec()
    };
    assert_eq!(codes("plain"), codes("usual"));
    assert_ne!(codes("plain"), codes("much"));
    assert_eq!(codes("recipe"), codes("much"));
    let printed = run(&folder, &format!("plan {weights} -r @r.toml --print-recipe")).out;
    assert!(printed.contains("\ndamping = 0.5\n"), "{printed}");
    for (flags, what) in [(" --damping 0", "a damping of 0"), (" --damping 1.5", "a damping of 1.5")] {
        refuse(&folder, &line(flags, "no.safetensors"), what);
    }
    let without = format!("compress {weights} --scheme int3/g32/sym --damping 0.1 -o @no.safetensors");
    refuse(&folder, &without, "a damping without the fit gptq");
    assert!(!folder.path().join("no.safetensors").exists());
}

#[test]
fn language_models_are_calibrated_too() {
    let folder = Folder::new("calibrate-llama");
    write_llama(&folder.path().join("llama"));
    fs::write(folder.path().join("text.txt"), letters(700)).unwrap();
    let said = json(&folder, "calibrate @llama --data @text.txt --gram -o @stats.safetensors");
    // Of queries, keys and values one matrix, of gate and up one; the head takes the embeddings.
    assert_eq!((said["layers"].as_u64(), said["grams"].as_u64()), (Some(15), Some(9)), "{said}");
    let report = json(&folder, "compress @llama --scheme int3/g32/sym --fit gptq --stats @stats.safetensors -o @small");
    assert!(report["tensors"].as_array().unwrap().iter().any(|tensor| tensor["scheme"] == "int3/g32/sym"), "{report}");
    run(&folder, "compress @llama --scheme int3/g32/sym --fit lsq -o @plain");
    let kl = |of: &str| json(&folder, &format!("eval @{of} --data @text.txt --against @llama"))["kl"].as_f64().unwrap();
    assert!(kl("small") < kl("plain"));
    run(&folder, "verify @small");
    // The same as an importance matrix of llama.cpp, there and back.
    run(&folder, "calibrate @llama --data @text.txt --imatrix @i.gguf -o @again.safetensors");
    let opened = Opened::open(folder.at("llama").as_ref(), &Limits::default()).unwrap();
    let source = opened.source(None, Names::Own).unwrap();
    let [ours, theirs] =
        ["stats.safetensors", "i.gguf"].map(|file| Stats::of(folder.at(file).as_ref(), &source).unwrap());
    let name = "model.layers.1.mlp.down_proj.weight";
    let [one, other] = [&ours, &theirs].map(|stats| stats.layer(name).unwrap().importance().unwrap().concat());
    assert_eq!(one.len(), 256);
    assert!(one.iter().zip(&other).all(|(x, y)| (x - y).abs() <= 1e-6), "{one:?} {other:?}");
    assert!(theirs.layer(name).unwrap().range().is_err());
    run(&folder, "compress @llama --scheme int3/g32/sym --fit lsq --stats @i.gguf -o @weighted");
    refuse(&folder, "compress @llama --scheme int3/g32/sym --fit gptq --stats @i.gguf -o @no", "no Gram matrix");
    refuse(&folder, "compress @llama --scheme int3/g32/sym --stats @text.dat -o @no", "text.dat");
}

#[test]
fn what_does_not_go_together_is_refused() {
    let folder = calibrated("calibrate-refusals");
    let (model, weights, data) = (bundled("model.onnx"), bundled("model.safetensors"), sample());
    let stats = "--stats @stats.safetensors -o @no.safetensors";
    let compress = |flags: &str, what: &str| refuse(&folder, &format!("compress {weights} {flags}"), what);
    compress(
        "--scheme int4/row/sym --fit gptq -o @no.safetensors",
        "the fit gptq without statistics of the layers' inputs",
    );
    compress(
        &format!("--scheme int4/tensor/sym --fit gptq {stats}"),
        "the fit gptq of int4/tensor/sym is not supported",
    );
    compress(&format!("--scheme q8_0 --fit gptq {stats}"), "q8_0 blocks have no");
    compress(
        "--scheme q4_0 --only fc2.weight --to gguf --stats @stats.safetensors -o @no.gguf",
        "statistics on the way to gguf",
    );
    run(&folder, &format!("calibrate {model} --data {data} --limit 8 -o @few.safetensors"));
    compress(
        "--scheme int4/row/sym --fit gptq --stats @few.safetensors -o @no.safetensors",
        "no Gram matrix of its inputs",
    );
    // Other weights of the same names.
    run(&folder, &format!("compress {weights} --scheme int8/row/sym -o @other.safetensors"));
    run(&folder, "export @other.safetensors --to safetensors -o @plain.safetensors");
    let line = format!("compress @plain.safetensors --scheme int4/row/sym --fit lsq {stats}");
    refuse(&folder, &line, "statistics of another checkpoint: is");
    refuse(
        &folder,
        &format!("compress {weights} --scheme int4/row/sym --stats {weights} -o @no.safetensors"),
        "no `niwaki.stats`",
    );
    refuse(&folder, &format!("calibrate {model} --data {data} -o @stats.safetensors"), "exists");
    refuse(&folder, &format!("calibrate {model} --data {data} --limit 0 -o @no.safetensors"), "at least one example");
    assert!(!folder.path().join("no.safetensors").exists());
    // Few examples say less than a matrix has rows: it is damped, and not silently where that is more than usual.
    run(&folder, &format!("calibrate {model} --data {data} --limit 2 --gram -o @two.safetensors"));
    run(
        &folder,
        &format!(
            "compress {weights} --scheme int4/row/sym --fit gptq --stats @two.safetensors -o @two-codes.safetensors"
        ),
    );
}

#[test]
fn values_that_are_no_numbers_have_a_node_and_an_example() {
    let folder = Folder::new("calibrate-nan");
    let all = vec![3e38f32; 784 * 4];
    let weights =
        initializer("one", DataType::Float, &[4, 784], all.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
    let two = initializer(
        "two",
        DataType::Float,
        &[10, 4],
        [1f32; 40].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(),
    );
    let nodes = vec![
        node("Flatten", &["images"], &["flat"], vec![]),
        node("Gemm", &["flat", "one"], &["hidden"], vec![attr_int("transB", 1)]),
        node("Gemm", &["hidden", "two"], &["scores"], vec![attr_int("transB", 1)]),
    ];
    let inputs = [Dim::Named("batch"), Dim::Known(1), Dim::Known(28), Dim::Known(28)];
    let graph = graph(
        "overflow",
        nodes,
        vec![value("images", DataType::Float, &inputs)],
        vec![value("scores", DataType::Float, &[Dim::Named("batch"), Dim::Known(10)])],
        vec![weights, two],
    );
    save(&model(17, graph), &folder.path().join("m.onnx"), &SaveOptions::default()).unwrap();
    for flags in ["", " --gram"] {
        let answer = attempt(&folder, &format!("calibrate @m.onnx --data {}{flags} -o @no.safetensors", sample()));
        assert_eq!(answer.code, 2);
        let said = answer.err.lines().next().unwrap().to_owned();
        assert!(said.contains("makes ") && said.contains(" of example ") && said.contains("node `"), "{said}");
    }
    assert!(folder.names().iter().all(|name| name == "m.onnx"), "{:?}", folder.names());
}

#[test]
fn a_search_meets_its_budget_and_loses_less_than_one_scheme() {
    let folder = calibrated("search");
    let (model, weights, data) = (bundled("model.onnx"), bundled("model.safetensors"), sample());
    let schemes = "--schemes int2/g16/affine,int3/g16/affine,int4/g16/affine,int6/g16/affine,int8/g16/affine";
    let search = |flags: &str| format!("search {weights} --stats @stats.safetensors {schemes} {flags}");
    // Four bits and what scales and zero points of 16 weights take.
    let found = json(&folder, &search("--budget 5.5bits -o @r.toml"));
    assert!(found["bits_per_weight"].as_f64().unwrap() <= 5.5 && found["exact"] == true, "{found}");
    let tensors = found["tensors"].as_array().unwrap();
    let uniform: f64 = tensors.iter().map(|tensor| tensor["losses"][2].as_f64().unwrap()).sum();
    let loss = found["loss"].as_f64().unwrap();
    assert!(loss < uniform, "{loss}, {uniform} for four bits everywhere");
    let sum: f64 = tensors.iter().map(|tensor| tensor["loss"].as_f64().unwrap()).sum();
    assert!((sum / loss - 1.0).abs() < 1e-12);
    for tensor in tensors {
        let losses: Vec<f64> = tensor["losses"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        assert!(losses.windows(2).all(|two| two[1] < two[0]), "{tensor}");
    }
    // The recipe does what was found, and so does a compression within the budget.
    let made = json(&folder, &format!("compress {weights} -r @r.toml --stats @stats.safetensors -o @r.safetensors"));
    let bytes = |report: &serde_json::Value| -> u64 {
        report["tensors"].as_array().unwrap().iter().map(|tensor| tensor["bytes_after"].as_u64().unwrap()).sum()
    };
    assert_eq!(found["bytes"].as_u64(), Some(bytes(&made)), "{found}");
    let line = format!("compress {weights} --stats @stats.safetensors --budget 5.5bits {schemes} -o @b.safetensors");
    run(&folder, &line);
    assert!(fs::read(folder.at("r.safetensors")).unwrap() == fs::read(folder.at("b.safetensors")).unwrap());
    // What the model itself loses is looked at, too.
    let probed = json(
        &folder,
        &format!(
            "search {model} --stats @stats.safetensors --data {data} --limit 64 {schemes} --budget 5.5bits -o @p.toml"
        ),
    );
    assert_ne!(probed["loss"], found["loss"]);
    assert!(probed["bits_per_weight"].as_f64().unwrap() <= 5.5, "{probed}");
    // Without statistics those of the data are looked at, and nothing of them is left.
    let before = folder.names().len();
    json(&folder, &format!("search {model} --data {data} --limit 16 --schemes int4/g16/sym --budget 8bits -o @d.toml"));
    assert_eq!(folder.names().len(), before + 1);
}

#[test]
fn layers_run_in_eight_bits_on_ranges_that_were_seen() {
    let folder = calibrated("calibrate-static");
    let (model, data) = (bundled("model.onnx"), sample());
    let line = format!("export {model} --to onnx --activations static");
    let said = json(&folder, &format!("{line} --stats @stats.safetensors -o @q.onnx"));
    assert_eq!((said["layers"].as_array().map(Vec::len), said["unknown"].as_array().map(Vec::len)), (Some(4), Some(0)));
    let eval = |model: &str| json(&folder, &format!("eval {model} --data {data}"));
    let [float, fixed] = [eval(&model), eval("@q.onnx")].map(|found| found["accuracy"].as_f64().unwrap());
    assert!((float - fixed).abs() <= 0.01, "{float} and {fixed}");
    let file =
        niwaki_onnx::Model::open(folder.at("q.onnx").as_ref(), &niwaki_onnx::Limits::default()).unwrap().into_proto();
    let nodes = file.graph.unwrap().node;
    let count = |op: &str| nodes.iter().filter(|node| node.op_type() == op).count();
    assert_eq!((count("QuantizeLinear"), count("DequantizeLinear")), (4, 8));
    refuse(&folder, &format!("{line} -o @no.onnx"), "nothing says how far inputs reach");
    refuse(&folder, &format!("{line} --stats {} -o @no.onnx", bundled("model.safetensors")), "no `niwaki.stats`");
    refuse(&folder, &format!("export {model} --to mlx --stats @stats.safetensors -o @no"), "`--stats` is for");
    let compress = format!("compress {model} --scheme int8/row/sym --to onnx --activations static -o @no.onnx");
    refuse(&folder, &compress, "`--activations static` is for");
}

#[test]
fn budgets_that_cannot_be_met_name_the_least() {
    let folder = calibrated("search-least");
    let weights = bundled("model.safetensors");
    let line = |budget: &str| {
        format!(
            "search {weights} --stats @stats.safetensors --schemes int4/g16/sym,int8/row/sym --budget {budget} -o @r.toml"
        )
    };
    let answer = attempt(&folder, &line("3bits"));
    assert_eq!((answer.code, answer.err.as_str()), (1, ""), "{}", answer.out);
    assert!(answer.out.starts_with("a budget of 3bits cannot be met: the cheapest schemes take "), "{}", answer.out);
    let least = answer.out.trim_end().rsplit(' ').next().unwrap().to_owned();
    let bits: f64 = least.strip_suffix("bits").unwrap().parse().unwrap();
    assert!(bits > 4.9 && bits < 5.2, "{least}");
    let answer = attempt(&folder, &format!("{} --json", line("1KiB")));
    assert_eq!(answer.code, 1);
    let bytes: u64 = answer.json()["least"].as_str().unwrap().strip_suffix(" B").unwrap().parse().unwrap();
    assert!(!folder.path().join("r.toml").exists());
    // What it names can be met.
    run(&folder, &line(&least));
    run(&folder, &format!("{} --force", line(&format!("{bytes}B"))));
    for (budget, what) in [
        ("4", "cheapest"),
        ("0bits", "no number of bits"),
        ("fourbits", "no number of bits"),
        ("4 bits", ""),
        ("x", "neither bits nor a size"),
    ] {
        let answer = attempt(&folder, &line(budget));
        assert!(answer.code != 0, "{budget}: {what}");
    }
    let other = line("4bits").replace("int8/row/sym", "int8/tensor/sym").replace("@r.toml", "@no.toml");
    refuse(&folder, &other, "a search among int8/tensor/sym");
    refuse(&folder, &format!("compress {weights} --budget 4bits -o @no.safetensors"), "--stats");
}

/// The counts of a histogram.
fn counts(path: &str, name: &str) -> Vec<u64> {
    let checkpoint = Checkpoint::open(path, &Limits::default()).unwrap();
    let bytes = checkpoint.get(name).unwrap().bytes().to_vec();
    bytes.chunks_exact(8).map(|count| u64::from_le_bytes(count.try_into().unwrap())).collect()
}

#[test]
fn histograms_count_what_comes_and_change_nothing_else() {
    let folder = Folder::new("calibrate-histogram");
    let (model, data) = (bundled("model.onnx"), sample());
    let line = |flags: &str, out: &str| format!("calibrate {model} --data {data} --limit 500{flags} -o @{out}");
    run(&folder, &line(" --histogram --threads 1", "one.safetensors"));
    run(&folder, &line(" --histogram --threads 3", "three.safetensors"));
    run(&folder, &line("", "plain.safetensors"));
    run(&folder, &line(" --histogram --gram", "gram.safetensors"));
    let [one, gram] = ["one.safetensors", "gram.safetensors"].map(|file| folder.at(file));
    assert!(fs::read(&one).unwrap() == fs::read(folder.at("three.safetensors")).unwrap());
    let found = counts(&one, "histogram.0");
    assert_eq!(found, counts(&gram, "histogram.0"));
    // Bins as the document of the format says them.
    let mut expected = vec![0u64; 8193];
    for x in pixels() {
        let x = x as f32;
        let exponent = x.abs().log2().floor();
        let part = ((x.abs() / exponent.exp2() - 1.0) * 64.0) as i64;
        let away = if x == 0.0 { 0 } else { 1 + 64 * (exponent as i64 + 32) + part };
        expected[(4096 + if x < 0.0 { -away } else { away }) as usize] += 1;
    }
    let apart: u64 = found.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).sum();
    assert_eq!(found.iter().sum::<u64>(), 500 * 784);
    // Pixels are of few values; one at the border of a bin may be computed to its other side.
    assert!(apart < 500 * 784 / 50, "{apart} in other bins");
    let mean = pixels().iter().sum::<f64>() / f64::from(500 * 784);
    assert!((f64::from(floats(&one, "conv1.weight.mean")[0]) - mean).abs() < 1e-5);
    for name in ["conv1.weight.mean_square", "fc1.weight.low", "fc2.weight.high"] {
        assert_eq!(floats(&one, name), floats(&folder.at("plain.safetensors"), name), "{name}");
    }
    let plain = Checkpoint::open(folder.at("plain.safetensors"), &Limits::default()).unwrap();
    assert!(plain.tensors().all(|tensor| !tensor.name().contains("histogram") && !tensor.name().ends_with(".mean")));
}

/// The scores that a model gives the sample's images.
fn scores(folder: &Folder, model: &str) -> Vec<f32> {
    let bytes: Vec<u8> = pixels().into_iter().flat_map(|x| (x as f32).to_le_bytes()).collect();
    let images = [("images", "F32", &[500, 1, 28, 28][..], bytes)];
    niwaki_conformance::checkpoints::write(folder.path().join("in.safetensors"), &images);
    run(folder, &format!("run {model} --input @in.safetensors --force -o @out.safetensors"));
    floats(&folder.at("out.safetensors"), "scores")
}

#[test]
fn inputs_reach_as_far_as_is_asked_and_biases_make_up_for_weights() {
    let folder = Folder::new("calibrate-reach");
    let (model, data) = (bundled("model.onnx"), sample());
    run(&folder, &format!("calibrate {model} --data {data} --limit 500 --histogram -o @s.safetensors"));
    let line = |flags: &str| format!("export {model} --to onnx --activations static --stats @s.safetensors{flags}");
    let float = scores(&folder, &model);
    // The mean over images by which each class is off, and the mean square of all.
    let off = |flags: &str| {
        run(&folder, &format!("{} --force -o @q.onnx", line(flags)));
        let apart: Vec<f64> =
            scores(&folder, "@q.onnx").iter().zip(&float).map(|(a, b)| f64::from(*a) - f64::from(*b)).collect();
        let mean = |class: usize| apart.iter().skip(class).step_by(10).sum::<f64>() / 500.0;
        let square = apart.iter().map(|x| x * x).sum::<f64>() / apart.len() as f64;
        ((0..10).map(|class| mean(class).abs()).sum::<f64>(), square)
    };
    let [plain, mse, far, near] =
        ["", " --range mse", " --range percentile --percentile 100", " --range percentile --percentile 90"].map(&off);
    assert_eq!(plain, far, "all values are as far as was seen");
    // What each layer loses is least, which the outputs need not notice.
    assert!(mse.1 < 1.2 * plain.1 && near.1 > 10.0 * plain.1, "{plain:?} {mse:?} {near:?}");
    let corrected = off(" --correct-bias");
    assert!(corrected.0 < plain.0, "{corrected:?} {plain:?}");
    refuse(&folder, &format!("{} -o @no.onnx", line(" --range mse --percentile 99")), "`--percentile` is for");
    refuse(&folder, &format!("{} -o @no.onnx", line(" --range percentile --percentile 0")), "`--percentile 0`");
    run(&folder, &format!("calibrate {model} --data {data} --limit 8 -o @few.safetensors"));
    for flag in [" --range mse", " --correct-bias"] {
        let line = line(flag).replace("@s.", "@few.");
        refuse(&folder, &format!("{line} -o @no.onnx"), "no histogram of its inputs");
    }
    let other = format!("export {} --to gguf --range mse -o @no.gguf", bundled("model.safetensors"));
    refuse(&folder, &other, "`--range` is for");
    assert!(!folder.path().join("no.onnx").exists());
}
