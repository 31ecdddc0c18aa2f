//! Verbs, streams, exit codes and JSON of the command line.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_conformance::checkpoints::{f32s, weights, write};
use niwaki_conformance::cli::niwaki;
use niwaki_conformance::folder::{Folder, fashion};
use serde_json::Value;

/// The keys of an object, in the order of the text.
fn keys(json: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let (mut depth, mut text, mut inside, mut escaped) = (0, String::new(), false, false);
    for c in json.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            '"' => {
                inside = !inside;
                if inside {
                    text.clear();
                }
            }
            _ if inside => text.push(c),
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            ':' if depth == 1 => keys.push(text.clone()),
            _ => {}
        }
    }
    keys
}

#[test]
fn keys_are_read_in_order_at_the_top_only() {
    assert_eq!(keys(r#"{"b":1,"a":[{"x":2}],"c":"d\":"}"#), ["b", "a", "c"]);
}

fn compressed(folder: &Folder, scheme: &str) -> String {
    let out = folder.at(&format!("{}.safetensors", scheme.replace('/', "-")));
    niwaki(["compress", &fashion(), "--scheme", scheme, "-o", &out]).ok();
    out
}

#[test]
fn compress_answers_with_the_keys_of_the_contract() {
    let folder = Folder::new("cli");
    let out = folder.at("out.safetensors");
    let answer = niwaki(["compress", &fashion(), "--scheme", "int4/g32/sym", "-o", &out, "--json"]).ok();
    let expected = ["version", "input_bytes", "output_bytes", "bits_per_weight", "tensors", "digest", "seconds"];
    assert_eq!(keys(&answer.out), expected);
    let json = answer.json();
    let on_disk = std::fs::metadata(&out).unwrap().len();
    assert_eq!(json["output_bytes"].as_u64(), Some(on_disk));
    assert_eq!(json["digest"].as_str().unwrap().len(), 64);
    assert!(json["seconds"].as_f64().unwrap() > 0.0);
    let tensors = json["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), 8);
    for t in tensors {
        for key in ["name", "shape", "fate", "scheme", "rule", "bytes_before", "bytes_after", "sqnr_db"] {
            assert!(t.get(key).is_some(), "{key} in {t}");
        }
        let encoded = t["shape"].as_array().unwrap().len() > 1;
        assert_eq!(t["fate"], if encoded { "quantize" } else { "keep" });
        assert_eq!(t["sqnr_db"].is_f64(), encoded);
    }
}

#[test]
fn quantize_is_compress_by_another_name() {
    let folder = Folder::new("cli");
    let (a, b) = (folder.at("a.safetensors"), folder.at("b.safetensors"));
    niwaki(["compress", &fashion(), "--scheme", "int8/row/sym", "-o", &a]).ok();
    niwaki(["quantize", &fashion(), "--scheme", "int8/row/sym", "-o", &b]).ok();
    assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
}

#[test]
fn plan_and_inspect_and_compare_and_verify_answer_with_the_keys_of_the_contract() {
    let folder = Folder::new("cli");
    let out = compressed(&folder, "int4/g32/affine");

    let plan = niwaki(["plan", &fashion(), "--scheme", "int4/g32/affine", "--json"]).ok();
    assert_eq!(keys(&plan.out), ["version", "input_bytes", "output_bytes", "tensors", "dropped"]);

    let inspect = niwaki(["inspect", &out, "--json"]).ok();
    assert_eq!(keys(&inspect.out)[..6], ["version", "kind", "parameters", "bytes", "macs", "tensors"]);
    let inspect = inspect.json();
    assert_eq!(inspect["digest"].as_str().unwrap().len(), 64);
    assert_eq!((inspect["kind"].as_str(), inspect["parameters"].as_u64()), (Some("niwaki"), Some(52_138)));
    for key in ["name", "dtype", "shape", "bytes", "scheme"] {
        assert!(inspect["tensors"][0].get(key).is_some(), "{key}");
    }

    let compare = niwaki(["compare", &fashion(), &out, "--json"]).ok();
    assert_eq!(keys(&compare.out)[..3], ["version", "sqnr_db", "tensors"]);
    let compare = compare.json();
    let by_name =
        |name: &str| compare["tensors"].as_array().unwrap().iter().find(|t| t["name"] == name).unwrap().clone();
    let (kept, encoded) = (by_name("fc1.bias"), by_name("fc1.weight"));
    assert_eq!((&kept["sqnr_db"], kept["max_abs"].as_f64()), (&Value::Null, Some(0.0)));
    assert!(encoded["sqnr_db"].as_f64().unwrap() > 15.0 && encoded["cosine"].as_f64().unwrap() > 0.98);

    let verify = niwaki(["verify", &out, "--json"]).ok();
    assert_eq!(verify.out, "{\"version\":1,\"ok\":true,\"faults\":[]}\n");
}

#[test]
fn the_report_and_compare_agree_on_the_noise() {
    let folder = Folder::new("cli");
    let out = folder.at("out.safetensors");
    let report = niwaki(["compress", &fashion(), "--scheme", "int4/g32/sym", "-o", &out, "--json"]).ok().json();
    let compare = niwaki(["compare", &fashion(), &out, "--json"]).ok().json();
    for t in compare["tensors"].as_array().unwrap() {
        let said = report["tensors"].as_array().unwrap().iter().find(|r| r["name"] == t["name"]).unwrap();
        match (said["sqnr_db"].as_f64(), t["sqnr_db"].as_f64()) {
            // The report adds F32 lanes, compare adds F64: of n terms of one sign each sum is off by
            // at most n * 2^-24, n being 4096 / 16 in a lane, so a ratio of two by 2^-15: 1.4e-4 dB.
            // Rounding to four decimals adds 5e-5 on either side.
            (Some(a), Some(b)) => assert!((a - b).abs() <= 2.4e-4, "{said} {t}"),
            (a, b) => assert_eq!(a, b),
        }
    }
}

#[test]
fn compare_beyond_its_limits_exits_with_1_and_names_the_tensors() {
    let folder = Folder::new("cli");
    let out = compressed(&folder, "int2/g32/sym");
    let within = niwaki(["compare", &fashion(), &out, "--min-sqnr", "1", "--max-abs", "10"]);
    assert_eq!(within.code, 0);
    let beyond = niwaki(["compare", &fashion(), &out, "--min-sqnr", "90", "--json"]);
    assert_eq!((beyond.code, beyond.err.as_str()), (1, ""));
    assert_eq!(beyond.json()["beyond"].as_array().unwrap().len(), 4);
    let text = niwaki(["compare", &fashion(), &out, "--max-abs", "1e-9"]);
    assert_eq!(text.code, 1);
    assert!(text.out.contains("beyond the limit: `fc1.weight`: largest error"), "{}", text.out);
}

#[test]
fn verify_finds_one_changed_byte_and_exits_with_1() {
    let folder = Folder::new("cli");
    let out = compressed(&folder, "int4/g32/sym");
    let mut bytes = std::fs::read(&out).unwrap();
    *bytes.last_mut().unwrap() ^= 0x10;
    std::fs::write(&out, bytes).unwrap();
    let text = niwaki(["verify", &out]);
    assert_eq!((text.code, text.err.as_str()), (1, ""));
    assert!(text.out.starts_with("fault: tensor `"), "{}", text.out);
    let json = niwaki(["verify", &out, "--json"]);
    assert_eq!((json.code, json.json()["ok"].as_bool()), (1, Some(false)));
    assert!(json.json()["faults"][0]["message"].as_str().unwrap().contains("hash"));
}

#[test]
fn failures_go_to_stderr_or_as_json_to_stdout() {
    let text = niwaki(["inspect", "no-such-file"]);
    assert_eq!(text.error(), "`no-such-file`: does not exist");
    let json = niwaki(["inspect", "no-such-file", "--json"]);
    assert_eq!((json.code, json.err.as_str()), (2, ""));
    let error = &json.json()["error"];
    assert_eq!(error["message"], "`no-such-file`: does not exist");
    assert_eq!(error["kind"], "io");
    assert!(error["blame"].is_string(), "{error}");
    assert_eq!((error["path"].as_str(), &error["tensor"]), (Some("no-such-file"), &Value::Null));
    assert_eq!(keys(&json.out), ["version", "error"]);

    let usage = niwaki(["inspct", "x", "--json"]);
    assert_eq!((usage.code, usage.json()["error"]["kind"].as_str()), (2, Some("usage")));
}

#[test]
fn every_error_is_one_line_and_at_most_one_hint() {
    let folder = Folder::new("cli");
    let nan = folder.at("nan.safetensors");
    let mut values = weights(1, 64);
    values[9] = f32::INFINITY;
    write(&nan, &[("w", "F32", &[8, 8], f32s(&values))]);
    let out = folder.at("out.safetensors");
    let commands: [&[&str]; 9] = [
        &["inspect", "no-such-file"],
        &["compress", &nan, "--scheme", "int4/g8/sym", "-o", &out],
        &["compress", &nan, "--scheme", "int9/g8/sym", "-o", &out],
        &["compress", &nan, "--scheme", "int4/g8/sym", "-o", "no-such-folder/out.safetensors"],
        &["plan", &nan, "--scheme", "int4/g8/sym", "--only", "nothing*"],
        &["verify", &nan],
        &["slice", &nan, "--bits", "4", "-o", &out],
        &["--device", "cuda", "devices"],
        &["export", &nan, "--to", "onnx", "-o", &out],
    ];
    for command in commands {
        let answer = niwaki(command);
        let message = answer.error();
        assert!(
            !message.is_empty() && !message.ends_with('.') && !message.starts_with(char::is_uppercase),
            "{message}"
        );
        let rest: Vec<_> = answer.err.lines().skip(1).collect();
        assert!(matches!(rest[..], [] | ["", _]), "{answer:?}");
        assert!(rest.get(1).is_none_or(|hint| hint.starts_with("hint: ")), "{answer:?}");
    }
    assert_eq!(folder.names(), ["nan.safetensors"], "a failed run leaves nothing behind");
}

#[test]
fn flags_that_mean_nothing_together_are_refused() {
    let folder = Folder::new("cli");
    let recipe = folder.at("r.toml");
    std::fs::write(&recipe, "version = 1\n[[quantize]]\ntensors = \"*.weight\"\nscheme = \"int8/row/sym\"\n").unwrap();
    let both = niwaki(["plan", &fashion(), "-r", &recipe, "--scheme", "int4/g32/sym"]);
    assert_eq!(both.error(), "`--recipe` and `--scheme` both say how tensors are encoded");
    let none = niwaki(["plan", &fashion()]);
    assert_eq!(none.error(), "one of `--scheme`, `--preset` and `--recipe` is needed");
    let bits = niwaki(["compare", &fashion(), &fashion(), "--bits", "4"]);
    assert_eq!(bits.error(), "`--bits` chooses a width of elastic tensors; neither file has one");
}

#[test]
fn the_recipe_that_plan_prints_gives_the_same_bytes() {
    let folder = Folder::new("cli");
    let args = ["--scheme", "int3/g32/affine", "--fit", "clip", "--keep", "fc2.*", "--seed", "5"];
    let (a, b, recipe) = (folder.at("a.safetensors"), folder.at("b.safetensors"), folder.at("r.toml"));
    let printed = niwaki(["plan", &fashion(), "--print-recipe"].into_iter().chain(args)).ok();
    std::fs::write(&recipe, printed.out).unwrap();
    niwaki(["compress", &fashion(), "-o", &a].into_iter().chain(args)).ok();
    niwaki(["compress", &fashion(), "-o", &b, "-r", &recipe]).ok();
    assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
}

#[test]
fn slices_at_every_width_verify_and_equal_the_elastic_file_read_at_that_width() {
    let folder = Folder::new("cli");
    let elastic = compressed(&folder, "elastic/g64");
    let mut last = 0.0;
    for bits in 2..=8 {
        let bits = bits.to_string();
        let slice = folder.at(&format!("{bits}.safetensors"));
        niwaki(["slice", &elastic, "--bits", &bits, "-o", &slice]).ok();
        niwaki(["verify", &slice]).ok();
        let same = niwaki(["compare", &slice, &elastic, "--bits", &bits, "--json"]).ok().json();
        assert!(same["tensors"].as_array().unwrap().iter().all(|t| t["max_abs"].as_f64() == Some(0.0)), "{bits}");
        let noise = niwaki(["compare", &fashion(), &slice, "--json"]).ok().json()["sqnr_db"].as_f64().unwrap();
        assert!(noise > last + 3.0, "{bits} bits: {noise} dB after {last} dB");
        last = noise;
    }
}

#[test]
fn export_gives_a_plain_checkpoint_of_the_same_names_and_types() {
    let folder = Folder::new("cli");
    let (small, plain) = (compressed(&folder, "int8/row/sym"), folder.at("plain.safetensors"));
    niwaki(["export", &small, "--to", "safetensors", "-o", &plain]).ok();
    let same = niwaki(["compare", &small, &plain, "--max-abs", "0"]);
    assert_eq!(same.code, 0, "{same:?}");
    let (before, after) = (std::fs::read(fashion()).unwrap(), std::fs::read(&plain).unwrap());
    let (before, after) = (
        safetensors::SafeTensors::deserialize(&before).unwrap(),
        safetensors::SafeTensors::deserialize(&after).unwrap(),
    );
    let forms = |file: &safetensors::SafeTensors<'_>| {
        let mut all: Vec<_> = file.tensors().into_iter().map(|(n, t)| (n, t.dtype(), t.shape().to_vec())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    assert_eq!(forms(&before), forms(&after));
}

#[test]
fn help_version_completions_and_manual_pages_are_answers() {
    assert!(niwaki(["--version"]).ok().out.starts_with("niwaki "));
    for verb in [
        "inspect",
        "plan",
        "compress",
        "quantize",
        "slice",
        "export",
        "compare",
        "verify",
        "devices",
        "completions",
        "man",
    ] {
        assert!(niwaki([verb, "--help"]).ok().out.contains("Usage: niwaki "), "{verb}");
        assert!(niwaki(["man", verb]).ok().out.contains(".SH NAME") || verb == "quantize", "{verb}");
    }
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(niwaki(["completions", shell]).ok().out.contains("niwaki"), "{shell}");
        assert_eq!(niwaki(["completions", shell, "--json"]).ok().json()["shell"], shell);
    }
}

#[test]
fn devices_names_the_kernels_in_use() {
    let json = niwaki(["devices", "--json", "--threads", "3"]).ok().json();
    assert_eq!(json["threads"], 3);
    let used: Vec<_> = json["kernels"].as_array().unwrap().iter().filter(|k| k["used"] == true).collect();
    // The fastest of all, and the one that multiplies packed weights where the processor has one.
    let products = niwaki_codes::product::Kernel::best();
    assert_eq!(used.len(), if products.name() == products.level().name() { 1 } else { 2 });
    let verbose = niwaki(["devices", "-v"]);
    let said = format!("note: device: cpu with {} kernels", used[0]["name"].as_str().unwrap());
    assert!(verbose.err.starts_with(&said), "{}", verbose.err);
}

#[test]
fn colour_comes_only_when_asked_for_without_a_terminal() {
    assert!(niwaki(["inspect", "no-such-file", "--color", "always"]).err.starts_with("\u{1b}[1;31merror:\u{1b}[0m "));
    assert!(niwaki(["inspect", "no-such-file"]).err.starts_with("error: "));
}
