//! The whole path from a checkpoint to a smaller one and back: the same bytes for any
//! number of threads, on plain files, folders, and networks from elsewhere.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_conformance::checkpoints::{bf16s, weights, write, write_large, write_scene};
use niwaki_conformance::cli::niwaki;
use niwaki_conformance::folder::{Folder, fashion, repository};

const SCHEMES: [&str; 8] = [
    "int4/g32/sym",
    "int4/g64/affine",
    "int3/g60/affine/f32",
    "int8/row/sym",
    "int6/row/affine",
    "int5/tensor/sym",
    "elastic/g64",
    "elastic/g48/2,4,7",
];

fn bytes_with(from: &str, threads: &str, more: &[&str]) -> Vec<u8> {
    let folder = Folder::new("pipeline");
    let out = folder.at("out.safetensors");
    niwaki(["compress", from, "-o", &out, "--threads", threads].iter().chain(more)).ok();
    std::fs::read(out).unwrap()
}

#[test]
fn bytes_do_not_depend_on_threads_or_on_the_run() {
    let folder = Folder::new("pipeline");
    let from = folder.at("in.safetensors");
    // Larger than a block, with rows that groups of 60, 48 and 64 do not divide.
    write(
        &from,
        &[
            ("a", "BF16", &[700, 601], bf16s(&weights(1, 700 * 601))),
            ("b", "BF16", &[3, 200_003], bf16s(&weights(2, 3 * 200_003))),
            ("c", "BF16", &[17], bf16s(&weights(3, 17))),
        ],
    );
    for scheme in SCHEMES {
        let one = bytes_with(&from, "1", &["--scheme", scheme]);
        for threads in ["1", "2", "8"] {
            assert!(bytes_with(&from, threads, &["--scheme", scheme]) == one, "{scheme} on {threads} threads");
        }
    }
}

#[test]
fn bytes_do_not_depend_on_threads_for_any_fit_and_for_masks() {
    let folder = Folder::new("pipeline");
    let recipe = folder.at("r.toml");
    for fit in ["clip", "lsq"] {
        let args = ["--scheme", "int4/g32/affine", "--fit", fit];
        assert!(bytes_with(&fashion(), "1", &args) == bytes_with(&fashion(), "8", &args), "{fit}");
    }
    for codes in [
        "",
        "[[quantize]]\ntensors = \"fc*.weight\"\nscheme = \"int4/g32/sym\"\n",
        "[[elastic]]\ntensors = \"fc*.weight\"\n",
    ] {
        let text = format!("version = 1\n{codes}[[mask]]\ntensors = \"*.weight\"\npattern = {{ keep = 0.3 }}\n");
        std::fs::write(&recipe, text).unwrap();
        let args = ["-r", recipe.as_str()];
        assert!(bytes_with(&fashion(), "1", &args) == bytes_with(&fashion(), "8", &args), "{codes}");
    }
}

#[test]
fn the_memory_cap_changes_nothing_but_memory() {
    let folder = Folder::new("pipeline");
    let from = folder.at("in.safetensors");
    write_large(&from, 3, 512, 1024);
    let args = ["--scheme", "int4/g32/sym"];
    let capped = ["--scheme", "int4/g32/sym", "--memory", "16MiB"];
    assert!(bytes_with(&from, "4", &args) == bytes_with(&from, "4", &capped));
}

/// Compresses, verifies, and decodes; the noise of all tensors together, in dB.
fn there_and_back(from: &str, scheme: &str) -> f64 {
    let folder = Folder::new("pipeline");
    let (out, back) = (folder.at("out.safetensors"), folder.at("back.safetensors"));
    niwaki(["compress", from, "--scheme", scheme, "-o", &out]).ok();
    niwaki(["verify", &out]).ok();
    niwaki(["export", &out, "--to", "safetensors", "-o", &back]).ok();
    let one = niwaki(["compare", from, &out, "--json"]).ok().json()["sqnr_db"].as_f64().unwrap();
    let two = niwaki(["compare", from, &back, "--json"]).ok().json()["sqnr_db"].as_f64().unwrap();
    // An F32 source: what is exported is what is decoded.
    assert!((one - two).abs() < 1e-9, "{scheme}: {one} and {two}");
    one
}

/// The largest weight of each tensor over its root mean square.
fn peaks(path: &str) -> Vec<(String, f64)> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let peak = |data: &[u8]| {
        let values: Vec<f64> = data.as_chunks().0.iter().map(|c| f64::from(f32::from_le_bytes(*c))).collect();
        let square = values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64;
        values.iter().fold(0.0, |a: f64, x| a.max(x.abs())) / square.sqrt()
    };
    file.tensors().into_iter().map(|(name, view)| (name, peak(view.data()))).collect()
}

#[test]
fn the_bundled_network_goes_there_and_back_in_every_scheme() {
    let peaks = peaks(&fashion());
    for scheme in SCHEMES {
        there_and_back(&fashion(), scheme);
        let folder = Folder::new("pipeline");
        let out = folder.at("out.safetensors");
        niwaki(["compress", &fashion(), "--scheme", scheme, "-o", &out]).ok();
        let compared = niwaki(["compare", &fashion(), &out, "--json"]).ok().json();
        let bits: f64 = match scheme.as_bytes()[..] {
            [b'e', ..] => scheme.rsplit_once(',').map_or(8.0, |(_, widest)| widest.parse().unwrap()),
            [_, _, _, digit, ..] => f64::from(digit - b'0'),
            _ => unreachable!(),
        };
        for t in compared["tensors"].as_array().unwrap() {
            let Some(db) = t["sqnr_db"].as_f64() else { continue };
            let (_, peak) = peaks.iter().find(|(name, _)| t["name"] == name.as_str()).unwrap();
            // 2^b codes cover a range of at most twice the largest weight, and no weight is off by more than
            // one step of 2 peak rms / 2^b. Signal over noise is then at least (2^b / 2 peak)^2.
            let least = 20.0 * (bits.exp2() / (2.0 * peak)).log10();
            assert!(db >= least, "{scheme}: {t}, at least {least} dB");
        }
    }
}

#[test]
fn a_folder_with_a_configuration_gets_the_preset_of_language_models() {
    let folder = Folder::new("pipeline");
    write_scene(folder.path());
    let (from, out) = (folder.at("llm"), folder.at("small"));
    let report = niwaki(["compress", &from, "--scheme", "int4/g64/sym", "-o", &out, "--json"]).ok().json();
    let schemes: Vec<_> = report["tensors"].as_array().unwrap().iter().map(|t| t["scheme"].as_str()).collect();
    let (head, weights) = (Some("int8/row/sym"), Some("int4/g64/sym"));
    assert_eq!(schemes, [head, head, None, weights, weights]);
    niwaki(["verify", &out]).ok();
    assert_eq!(
        std::fs::read(folder.at("llm/config.json")).unwrap(),
        std::fs::read(folder.at("small/config.json")).unwrap()
    );
    assert_eq!(niwaki(["compare", &from, &out, "--min-sqnr", "14"]).code, 0);
}

#[test]
fn resnet_20_has_rows_that_no_group_divides() {
    let from = repository().join("../shared/data/resnet20-cifar10.safetensors");
    let Some(from) = from.to_str().filter(|_| from.exists()) else {
        println!("skipped: no `../shared/data/resnet20-cifar10.safetensors`");
        return;
    };
    for scheme in SCHEMES {
        assert!(there_and_back(from, scheme) > 5.0, "{scheme}");
    }
    let refused = niwaki(["plan", from, "--scheme", "int4/g64/sym", "--tail", "error"]);
    assert!(refused.error().contains("group 64 does not divide the row of"), "{}", refused.err);
}
