//! The whole path from a checkpoint to a smaller one and back: the same bytes for any
//! number of threads, on plain files, folders, and networks from elsewhere.

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

#[test]
fn the_bundled_network_goes_there_and_back_in_every_scheme() {
    for scheme in SCHEMES {
        let db = there_and_back(&fashion(), scheme);
        // A grid of b bits over the whole range of a group: steps of range / 2^b, error step^2 / 12, and a
        // range of at most ten standard deviations: more than 6 b - 10 dB.
        let bits: f64 = match scheme.as_bytes()[..] {
            [b'e', ..] => scheme.rsplit_once(',').map_or(8.0, |(_, widest)| widest.parse().unwrap()),
            [_, _, _, digit, ..] => f64::from(digit - b'0'),
            _ => unreachable!(),
        };
        assert!(db > 6.0 * bits - 10.0, "{scheme}: {db} dB");
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
