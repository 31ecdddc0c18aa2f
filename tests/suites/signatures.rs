//! Signatures through the command line: made, seen through, combined, compared.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_codes::simd::Level;
use niwaki_conformance::compressed::open;
use niwaki_conformance::folder::Folder;
use niwaki_conformance::scene::{attempt, compare, run};
use niwaki_conformance::trained::{NETWORK, tensor, write_trained};
use niwaki_container::{Artifact, Overlay};
use serde_json::Value as Json;

const THREE: &str = "--init @init.safetensors --standard @standard.safetensors";

fn scene() -> Folder {
    let folder = Folder::new("signatures");
    write_trained(&folder);
    folder
}

/// Extracts what `robust` has into `NAME.safetensors`.
fn extract(folder: &Folder, robust: &str, flags: &str, out: &str) -> Json {
    let flags = if flags.is_empty() { String::new() } else { format!(" {flags}") };
    let line = format!("signature extract {THREE} --robust @{robust}.safetensors{flags} -o @{out}.safetensors --json");
    run(folder, &line).json()
}

fn values(artifact: &Artifact, name: &str) -> Vec<f32> {
    let tensor = artifact.get(name).unwrap_or_else(|| panic!("{name}"));
    let mut out = vec![0.0; tensor.shape().elements()];
    tensor.dequantize_rows(Level::best(), None, 0..tensor.matrix().0, &mut out).unwrap();
    out
}

fn names(artifact: &Artifact) -> Vec<String> {
    let mut names: Vec<_> = artifact.tensors().map(|tensor| tensor.name().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_signature_is_off_the_direction_of_the_standard_training() {
    let folder = scene();
    let report = extract(&folder, "fog", "", "fogsig");
    let signature = open(&folder.at("fogsig.safetensors"));
    for (index, (name, shape)) in NETWORK.iter().enumerate() {
        let [init, standard, fog, _] = tensor(index, shape.iter().product());
        if name.starts_with("fc.") {
            assert!(signature.get(name).is_none(), "the classifier is never patched");
            continue;
        }
        let found = values(&signature, name);
        if name.contains("running") {
            assert_eq!(found, fog, "{name}");
        } else if name.starts_with("bn1") {
            assert!(
                found
                    .iter()
                    .zip(fog.iter().zip(&standard))
                    .all(|(x, (r, s))| *x == (f64::from(*r) - f64::from(*s)) as f32)
            );
        } else {
            let dot =
                |a: &dyn Fn(usize) -> f64, b: &dyn Fn(usize) -> f64| (0..found.len()).map(|i| a(i) * b(i)).sum::<f64>();
            let a = |i: usize| f64::from(standard[i]) - f64::from(init[i]);
            let x = |i: usize| f64::from(found[i]);
            let norms = (dot(&a, &a) * dot(&x, &x)).sqrt();
            assert!(dot(&x, &a).abs() <= 1e-5 * norms && norms > 0.0, "{name}");
        }
    }
    let layers: Vec<&str> = report["layers"].as_array().unwrap().iter().map(|l| l["name"].as_str().unwrap()).collect();
    assert_eq!(layers, ["conv1", "layer1.0", "layer1.2", "layer1.10"]);
    let energy: f64 = report["layers"].as_array().unwrap().iter().map(|l| l["energy"].as_f64().unwrap()).sum();
    assert!((energy - 1.0).abs() < 1e-9);
}

#[test]
fn layers_are_kept_by_depth_by_energy_or_by_glob() {
    let folder = scene();
    let kept = |flags: &str| {
        extract(&folder, "fog", &format!("--norms none --force {flags}"), "out");
        names(&open(&folder.at("out.safetensors")))
    };
    assert_eq!(kept("--layers 2"), ["conv1.bias", "conv1.weight", "layer1.0.conv.weight"]);
    assert_eq!(kept("--energy 0.5"), ["layer1.10.conv.weight"]);
    assert_eq!(
        kept("--energy 1"),
        ["conv1.bias", "conv1.weight", "layer1.0.conv.weight", "layer1.10.conv.weight", "layer1.2.conv.weight"]
    );
    assert_eq!(kept("--only *.2.* --only fc.*"), ["fc.bias", "fc.weight", "layer1.2.conv.weight"]);
    extract(&folder, "fog", "--layers 1", "all");
    let all = names(&open(&folder.at("all.safetensors")));
    assert_eq!(all, ["bn1.bias", "bn1.running_mean", "bn1.running_var", "bn1.weight", "conv1.bias", "conv1.weight"]);
    for (flags, what) in [
        ("--layers 0", "there are 4 layers"),
        ("--layers 5", "there are 4 layers"),
        ("--energy 1.5", "above 0 and at most 1"),
        ("--only nothing.*", "`--only nothing.*` matches no tensor"),
        ("--sparsity 1", "`--sparsity 1`"),
        ("--scheme int9/row/sym", "int9/row/sym"),
    ] {
        let line = format!("signature extract {THREE} --robust @fog.safetensors {flags} -o @no.safetensors -q");
        assert!(attempt(&folder, &line).error().contains(what), "{flags}");
    }
    assert!(!folder.names().iter().any(|name| name.starts_with("no.")));
}

#[test]
fn other_architectures_are_refused_by_tensor() {
    let folder = scene();
    let one = |name: &str, tensors: &[niwaki_conformance::checkpoints::Tensor<'_>]| {
        niwaki_conformance::checkpoints::write(folder.at(name), tensors);
    };
    one("other.safetensors", &[("conv1.weight", "F32", &[8, 4, 3, 2], vec![0; 8 * 4 * 6 * 4])]);
    let line = format!("signature extract {THREE} --robust @other.safetensors -o @no.safetensors -q");
    let answer = attempt(&folder, &line);
    assert!(answer.error().contains("is not in the robust checkpoint"), "{}", answer.err);
    let line =
        format!("signature extract {THREE} --robust @other.safetensors --only conv1.weight -o @no.safetensors -q");
    let answer = attempt(&folder, &line);
    assert!(
        answer.error().contains("is 8x4x3x2 F32 in the robust checkpoint, 8x4x3x3 floats expected"),
        "{}",
        answer.err
    );
    extract(&folder, "fog", "", "fogsig");
    let answer = attempt(
        &folder,
        "export @other.safetensors --patch @fogsig.safetensors --to safetensors -o @no.safetensors -q",
    );
    assert_eq!(answer.code, 2);
}

#[test]
fn a_checkpoint_is_seen_through_patches() {
    let folder = scene();
    extract(&folder, "fog", "", "fogsig");
    extract(&folder, "noise", "--scheme int8/row/sym", "noisesig");
    let sigs = format!("--patch {} --patch {}@0.5", folder.at("fogsig.safetensors"), folder.at("noisesig.safetensors"));
    run(&folder, &format!("export @standard.safetensors {sigs} --to safetensors -o @seen.safetensors"));
    let (seen, fog, noise) = (
        open(&folder.at("seen.safetensors")),
        open(&folder.at("fogsig.safetensors")),
        open(&folder.at("noisesig.safetensors")),
    );
    for (index, (name, shape)) in NETWORK.iter().enumerate() {
        let [_, standard, robust, other] = tensor(index, shape.iter().product());
        let found = values(&seen, name);
        if name.starts_with("fc.") {
            assert_eq!(found, standard);
            continue;
        }
        let (f, n) = (values(&fog, name), values(&noise, name));
        for i in 0..found.len() {
            let expected = if name.contains("running") {
                0.5 * f64::from(robust[i]) + 0.5 * f64::from(other[i])
            } else {
                f64::from(standard[i]) + f64::from(f[i]) + 0.5 * f64::from(n[i])
            };
            assert_eq!(found[i], expected as f32, "{name} {i}");
        }
    }
    // The library sees the same.
    run(&folder, "compress @standard.safetensors --scheme int8/row/sym -o @small.safetensors");
    let line = format!("export @small.safetensors {sigs} --to safetensors -o @seen8.safetensors");
    run(&folder, &line);
    let (small, seen8) = (open(&folder.at("small.safetensors")), open(&folder.at("seen8.safetensors")));
    let mut overlay = Overlay::default();
    overlay.push(&fog, 1.0).unwrap();
    overlay.push(&noise, 0.5).unwrap();
    for (name, _) in NETWORK {
        let tensor = small.get(name).unwrap();
        let mut out = vec![0.0; tensor.shape().elements()];
        overlay.at(tensor, None).unwrap().dequantize_rows(Level::best(), 0..tensor.matrix().0, &mut out).unwrap();
        assert_eq!(out, values(&seen8, name), "{name}");
    }
}

#[test]
fn a_recipe_lays_patches_under_everything_else() {
    let folder = scene();
    extract(&folder, "fog", "", "fogsig");
    let recipe = format!(
        "version = 1\n[[patch]]\nsignature = {:?}\nalpha = 0.5\n[[quantize]]\ntensors = \"*conv*.weight\"\nscheme = \"int8/row/sym\"\n",
        folder.at("fogsig.safetensors")
    );
    std::fs::write(folder.at("recipe.toml"), recipe).unwrap();
    run(&folder, "compress @standard.safetensors -r @recipe.toml -o @a.safetensors");
    run(&folder, "verify @a.safetensors");
    let patch = folder.at("fogsig.safetensors");
    run(&folder, &format!("export @standard.safetensors --patch {patch}@0.5 --to safetensors -o @seen.safetensors"));
    for (name, db) in compare(&folder, "seen.safetensors", "a.safetensors") {
        assert_eq!(db.is_some(), name.contains("conv") && name.ends_with("weight"), "{name}: {db:?}");
        assert!(db.is_none_or(|db| db > 38.0), "{name}: {db:?}");
    }
    let answer = attempt(&folder, "plan @standard.safetensors -r @recipe.toml --print-recipe -q");
    assert!(answer.out.contains("[[patch]]") && answer.out.contains("alpha = 0.5"), "{}", answer.out);
    let wrong = |edit: (&str, &str), what: &str| {
        let text = std::fs::read_to_string(folder.at("recipe.toml")).unwrap().replace(edit.0, edit.1);
        std::fs::write(folder.at("wrong.toml"), text).unwrap();
        let answer = attempt(&folder, "plan @standard.safetensors -r @wrong.toml -q");
        assert!(answer.error().contains(what), "{}", answer.err);
    };
    wrong(("alpha = 0.5", "alpha = nan"), "`alpha` is NaN; expected a finite number");
    wrong(("alpha = 0.5", "aplha = 0.5"), "unknown key `aplha` in `[[patch]]`");
    wrong(("fogsig", "nosig"), "nosig.safetensors");
}

#[test]
fn other_weights_need_to_be_asked_for() {
    let folder = scene();
    extract(&folder, "fog", "", "fogsig");
    let line = "compare @noise.safetensors @noise.safetensors --patch";
    let patch = folder.at("fogsig.safetensors");
    let answer = attempt(&folder, &format!("{line} {patch} -q"));
    assert!(answer.error().contains("other weights than those of the signature"), "{}", answer.err);
    assert!(answer.err.contains("--transfer"));
    assert_eq!(attempt(&folder, &format!("{line} {patch} --transfer -q")).code, 0);
    for alpha in ["nan", "inf", "x", ""] {
        let answer = attempt(&folder, &format!("{line} {patch}@{alpha} --transfer -q"));
        assert!(answer.error().contains("a finite number is expected"), "{alpha}: {}", answer.err);
    }
    let answer = attempt(&folder, &format!("{line} {} -q", folder.at("standard.safetensors")));
    assert!(answer.error().contains("is no signature"), "{}", answer.err);
    // A quantized derivative comes from the same weights.
    run(&folder, "compress @standard.safetensors --scheme int4/g32/sym -o @small.safetensors");
    assert_eq!(attempt(&folder, &format!("inspect @small.safetensors --patch {patch} -q")).code, 0);
}

#[test]
fn an_interpolation_meets_both_ends_bit_for_bit() {
    let folder = scene();
    let line = "signature extract --standard @standard.safetensors --robust @fog.safetensors --interpolate";
    run(&folder, &format!("{line} -o @wise.safetensors"));
    for (alpha, end) in [("0", "standard"), ("1", "fog")] {
        let line = format!(
            "compare @{end}.safetensors @standard.safetensors --patch {}@{alpha}",
            folder.at("wise.safetensors")
        );
        let answer = run(&folder, &format!("{line} --json")).json();
        for t in answer["tensors"].as_array().unwrap() {
            let name = t["name"].as_str().unwrap();
            let kept = name.starts_with("fc.") || name.contains("tracked");
            assert!(t["max_abs"] == 0.0 || kept && end == "fog", "{alpha}: {t}");
        }
    }
}

#[test]
fn a_temperature_scales_the_rows_of_queries() {
    let folder = Folder::new("temperature");
    niwaki_conformance::llama::write_llama(folder.at("llama").as_ref());
    let line = "signature temperature @llama --temperature 2 --queries *.q_proj.weight";
    run(&folder, &format!("{line} --heads 1 --of 2 -o @warm.safetensors"));
    let warm = folder.at("warm.safetensors");
    run(&folder, &format!("export @llama --patch {warm} --to safetensors -o @seen.safetensors"));
    let (base, seen) = (open(&folder.at("llama")), open(&folder.at("seen.safetensors")));
    for tensor in base.tensors() {
        let (name, (before, after)) = (tensor.name(), (values(&base, tensor.name()), values(&seen, tensor.name())));
        let half = before.len() / 2;
        let expected: Vec<f32> = match name.contains("q_proj") {
            true => before[..half].iter().copied().chain(before[half..].iter().map(|x| x * 0.5)).collect(),
            false => before,
        };
        assert_eq!(after, expected, "{name}");
    }
    for (flags, what) in [
        ("--temperature 0 --queries *.q_proj.weight", "a number above 0"),
        ("--temperature 2 --queries nothing", "matches no tensor"),
        ("--temperature 2 --queries *.q_proj.weight --heads 2 --of 2", "head 2: there are 2"),
        ("--temperature 2 --queries *.q_proj.weight --heads 0 --of 7", "cannot be divided among 7 heads"),
    ] {
        let answer = attempt(&folder, &format!("signature temperature @llama {flags} -o @no.safetensors -q"));
        assert!(answer.error().contains(what), "{flags}: {}", answer.err);
    }
}

#[test]
fn signatures_are_combined_and_compared() {
    let folder = scene();
    for (robust, out) in [("fog", "f"), ("noise", "n")] {
        extract(&folder, robust, "--norms none", out);
    }
    let combined = |flags: &str, out: &str| {
        let (f, n) = (folder.at("f.safetensors"), folder.at("n.safetensors"));
        run(&folder, &format!("signature combine {f} {n}@0.5 {flags} -o @{out}.safetensors --json")).json();
        open(&folder.at(&format!("{out}.safetensors")))
    };
    let (f, n) = (open(&folder.at("f.safetensors")), open(&folder.at("n.safetensors")));
    let sum = combined("--how sum", "sum");
    let name = "layer1.10.conv.weight";
    let (a, b) = (values(&f, name), values(&n, name));
    let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| (f64::from(*a) + 0.5 * f64::from(*b)) as f32).collect();
    assert_eq!(values(&sum, name), expected);
    let ties = values(&combined("--how ties --density 0.2", "ties"), name);
    let nonzero = ties.iter().filter(|x| **x != 0.0).count() as f64 / ties.len() as f64;
    assert!(nonzero > 0.2 && nonzero <= 0.4, "{nonzero}");
    let all = values(&combined("--how dare --density 1", "dare1"), name);
    assert!(all.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-9));
    let dare = values(&combined("--how dare --density 0.3 --seed 5", "dare"), name);
    let again = values(&combined("--how dare --density 0.3 --seed 5 --threads 1", "again"), name);
    let other = values(&combined("--how dare --density 0.3 --seed 6", "other"), name);
    assert!(dare == again && dare != other);
    let matrix = run(&folder, "signature similarity @f.safetensors @n.safetensors @sum.safetensors --json").json();
    let cosine = |a: usize, b: usize| matrix["cosine"][a][b].as_f64().unwrap();
    assert!((cosine(0, 0) - 1.0).abs() < 1e-12 && cosine(0, 1).abs() < 0.1 && cosine(0, 2) > 0.9);
    assert_eq!(matrix["signatures"], serde_json::json!(["f", "n", "sum"]));
}

#[test]
fn the_same_inputs_give_the_same_bytes_for_any_number_of_threads() {
    let folder = scene();
    for flags in ["", "--scheme int4/g32/affine", "--sparsity 0.9 --scheme int8/g64/sym", "--scheme f16"] {
        extract(&folder, "fog", &format!("{flags} --threads 1 --force").trim_start().replace("  ", " "), "one");
        extract(&folder, "fog", &format!("{flags} --threads 2 --force").trim_start().replace("  ", " "), "two");
        let read = |name: &str| std::fs::read(folder.at(name)).unwrap();
        assert!(read("one.safetensors") == read("two.safetensors"), "{flags}");
        run(&folder, "verify @one.safetensors");
    }
}

/// The signature beside the golden files, which the library's documentation reads.
#[test]
fn the_example_is_what_its_checkpoints_make() {
    let folder = Folder::new("example");
    let weights = [-3.5, 3.5, 0.0, 0.0, 2.0, -2.0];
    let robust = [-2.5, 3.5, 0.0, 0.0, 2.0, -4.0];
    for (name, values) in [("init", weights), ("standard", weights), ("fog", robust)] {
        let tensor = ("w", "F32", &[2, 3][..], niwaki_conformance::checkpoints::f32s(&values));
        niwaki_conformance::checkpoints::write(folder.at(&format!("{name}.safetensors")), &[tensor]);
    }
    extract(&folder, "fog", "", "made");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/example-signature.safetensors");
    assert!(std::fs::read(folder.at("made.safetensors")).unwrap() == std::fs::read(golden).unwrap());
    run(&folder, "verify @made.safetensors");
}
