//! Patches merged into checkpoints of every kind, and taken off again bit for bit.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_conformance::folder::Folder;
use niwaki_conformance::random::Random;
use niwaki_conformance::scene::run;
use niwaki_conformance::trained::{THREE, contents, refuse, signed, write_trained};

fn read(folder: &Folder, name: &str) -> Vec<u8> {
    std::fs::read(folder.at(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Random sequences of adding and removing on `base`: the file in place is at every step the one
/// that a fresh apply of its stack gives, and at the end the one at the beginning.
fn add_and_remove(folder: &Folder, base: &str, flags: &str, steps: u64) {
    let now = format!("now-{base}");
    std::fs::copy(folder.at(base), folder.at(&now)).unwrap();
    let original = read(folder, base);
    let mut stack: Vec<(usize, f64)> = Vec::new();
    let mut random = Random::new(0x5EED + base.len() as u64);
    let apply = |from: &str, patches: &[(usize, f64)], to: &str| {
        let sigs: Vec<_> = patches
            .iter()
            .map(|(nth, alpha)| format!("{}@{alpha}", folder.at(&format!("s{nth}.safetensors"))))
            .collect();
        run(folder, &format!("signature apply @{from} {} --allow-loss{flags} --force -o @{to}", sigs.join(" ")));
    };
    for step in 0..steps {
        let free: Vec<usize> = (0..5).filter(|nth| stack.iter().all(|(other, _)| other != nth)).collect();
        let grow = stack.is_empty() || !free.is_empty() && random.below(5) < 3;
        if grow {
            let nth = free[random.below(free.len() as u64) as usize];
            let alpha = [1.0, 0.5, -0.75, 0.3][random.below(4) as usize];
            apply(&now, &[(nth, alpha)], &now);
            stack.push((nth, alpha));
        } else {
            let (nth, _) = stack.remove(random.below(stack.len() as u64) as usize);
            run(folder, &format!("signature remove @{now} s{nth} --force -o @{now}"));
        }
        if step % 7 == 0 && !stack.is_empty() {
            let fresh = format!("fresh-{base}");
            apply(base, &stack, &fresh);
            assert!(read(folder, &fresh) == read(folder, &now), "{base}: step {step}, {stack:?}");
        }
        if stack.is_empty() {
            assert!(read(folder, &now) == original, "{base}: step {step}");
        }
    }
    while let Some((nth, _)) = stack.pop() {
        run(folder, &format!("signature remove @{now} s{nth} --force -o @{now}"));
    }
    assert!(read(folder, &now) == original, "{base}");
    assert!(!folder.names().iter().any(|name| name.starts_with(&now) && *name != now), "{:?}", folder.names());
}

#[test]
fn float_checkpoints_come_back_bit_for_bit() {
    let folder = signed();
    add_and_remove(&folder, "standard.safetensors", "", 250);
}

/// Compresses the standard checkpoint and adds and removes patches on the result.
fn on_codes(scheme: &str, flags: &str, steps: u64) {
    let folder = signed();
    run(&folder, &format!("compress @standard.safetensors {scheme} -o @base.safetensors"));
    add_and_remove(&folder, "base.safetensors", flags, steps);
    run(&folder, "verify @base.safetensors");
    let sigs = format!("{} {}@0.5", folder.at("s0.safetensors"), folder.at("s1.safetensors"));
    run(&folder, &format!("signature apply @base.safetensors {sigs} --allow-loss -o @two.safetensors"));
    run(&folder, "verify @two.safetensors");
    let listed = run(&folder, "signature list @two.safetensors --json").json();
    let names: Vec<_> = listed["patches"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["s0", "s1"]);
    let base = run(&folder, "signature list @base.safetensors --json").json();
    assert_eq!(base["base_digest"], listed["base_digest"]);
}

#[test]
fn uniform_codes_come_back_bit_for_bit() {
    on_codes("--scheme int8/row/sym", "", 60);
    on_codes("--scheme int4/g32/affine", "", 60);
    on_codes("--scheme int3/tensor/sym", "", 30);
}

#[test]
fn elastic_codes_come_back_bit_for_bit() {
    on_codes("--scheme elastic/g32", "", 60);
    on_codes("--scheme elastic/g16/2,4", "", 20);
}

#[test]
fn blocks_and_small_floats_come_back_bit_for_bit() {
    for scheme in ["q4_0", "q8_0"] {
        on_codes(&format!("--scheme {scheme} --only layer1.2.* --only layer1.10.*"), "", 25);
    }
    for scheme in ["fp8_e4m3/row", "fp8_e4m3/b16", "fp8_e4m3/tensor", "nvfp4", "nf4/g32"] {
        on_codes(&format!("--scheme {scheme}"), "", 15);
    }
}

#[test]
fn sparse_tensors_come_back_bit_for_bit() {
    let folder = signed();
    for (name, scheme) in
        [("dense", ""), ("row", "int8/row/sym"), ("group", "int4/g32/affine"), ("elastic", "elastic/g32")]
    {
        let mut recipe = "version = 1\n[[mask]]\ntensors = \"layer1*\"\npattern = { keep = 0.3 }\n".to_owned();
        match scheme {
            "" => {}
            "elastic/g32" => recipe += "[[elastic]]\ntensors = \"layer1*\"\ngroup = 32\nwidths = [2, 4, 8]\n",
            scheme => recipe += &format!("[[quantize]]\ntensors = \"layer1*\"\nscheme = \"{scheme}\"\n"),
        }
        std::fs::write(folder.at("recipe.toml"), recipe).unwrap();
        run(&folder, &format!("compress @standard.safetensors -r @recipe.toml -o @{name}.safetensors"));
        add_and_remove(&folder, &format!("{name}.safetensors"), "", 25);
    }
}

/// A small Llama, a signature of additions `add` and one of factors `warm`.
fn llama() -> Folder {
    let folder = Folder::new("llama-stacks");
    niwaki_conformance::llama::write_llama(folder.at("llama").as_ref());
    let temperature = |value: &str, queries: &str, out: &str| {
        let line =
            format!("signature temperature @llama --temperature {value} --queries {queries} -o @{out}.safetensors");
        run(&folder, &line);
    };
    temperature("1.25", "*.layers.*_proj.weight --heads 0 --of 2", "tilt");
    temperature("0.5", "*_proj.weight", "lean");
    temperature("2", "*.q_proj.weight", "warm");
    for (patch, out) in [("tilt", "robust"), ("lean", "init")] {
        let patch = folder.at(&format!("{patch}.safetensors"));
        run(&folder, &format!("export @llama --patch {patch} --to safetensors -o @{out}"));
    }
    let line = "signature extract --init @init --standard @llama --robust @robust --only *.layers.*";
    run(&folder, &format!("{line} -o @add.safetensors"));
    folder
}

#[test]
fn files_of_others_come_back_bit_for_bit() {
    let folder = llama();
    let scheme = |to: &str, scheme: &str, out: &str| {
        run(&folder, &format!("compress @llama --to {to} --scheme {scheme} -o @{out}"))
    };
    run(&folder, "export @llama --to gguf -o @plain.gguf");
    scheme("gguf", "q4_0", "codes.gguf");
    scheme("gguf", "q8_0", "bytes.gguf");
    scheme("compressed-tensors", "int4/g32/sym", "packed");
    scheme("compressed-tensors", "int8/row/sym", "eight");
    for base in ["llama", "plain.gguf", "codes.gguf", "bytes.gguf", "packed", "eight"] {
        let (add, warm) = (folder.at("add.safetensors"), folder.at("warm.safetensors"));
        let apply = |from: &str, sigs: &str, out: &str| {
            run(&folder, &format!("signature apply @{from} {sigs} --transfer --allow-loss -o @{out}"));
        };
        let gguf = if base.ends_with("gguf") { ".gguf" } else { "" };
        let at = |name: &str| format!("{name}-{base}{gguf}");
        apply(base, &format!("{add}@0.5 {warm}"), &at("both"));
        assert!(folder.names().contains(&format!("{}.undo.safetensors", at("both"))), "{:?}", folder.names());
        assert!(contents(&folder.at(&at("both"))) != contents(&folder.at(base)), "{base}");
        apply(base, &warm, &at("warm"));
        run(&folder, &format!("signature remove @{} add -o @{}", at("both"), at("less")));
        assert!(contents(&folder.at(&at("less"))) == contents(&folder.at(&at("warm"))), "{base}");
        run(&folder, &format!("signature remove @{} warm -o @{}", at("less"), at("back")));
        assert!(contents(&folder.at(&at("back"))) == contents(&folder.at(base)), "{base}");
        assert!(!folder.names().contains(&format!("{}.undo.safetensors", at("back"))));
        apply(&at("warm"), &format!("{add}@0.5"), &at("other"));
        run(&folder, &format!("signature remove @{} warm --force -o @{}", at("other"), at("other")));
        apply(base, &format!("{add}@0.5"), &at("add"));
        assert!(contents(&folder.at(&at("other"))) == contents(&folder.at(&at("add"))), "{base}");
        if base != "llama" {
            run(&folder, &format!("verify @{}", at("add")));
        }
    }
}

#[test]
fn a_gguf_file_is_patched_under_its_own_names_and_rows() {
    let folder = llama();
    run(&folder, "export @llama --to gguf -o @plain.gguf");
    let (add, warm) = (folder.at("add.safetensors"), folder.at("warm.safetensors"));
    run(&folder, &format!("signature apply @plain.gguf {add}@0.5 {warm} --transfer -o @patched.gguf"));
    run(&folder, &format!("signature apply @llama {add}@0.5 {warm} -o @patched"));
    niwaki_conformance::scene::assert_equal(&folder, "patched", "patched.gguf");
    let line = format!("export @llama --patch {add}@0.5 --patch {warm} --to safetensors -o @seen");
    run(&folder, &line);
    niwaki_conformance::scene::assert_equal(&folder, "patched", "seen");
}

#[test]
fn an_adapter_comes_in_and_goes_out() {
    let folder = llama();
    run(&folder, "signature export @add.safetensors --to peft --rank 64 -o @adapter");
    run(&folder, "signature import @adapter --standard @llama -o @in.safetensors");
    run(&folder, "verify @in.safetensors");
    // Norms are no matrices: the adapter has no place for them.
    let cosine = run(&folder, "signature similarity @add.safetensors @in.safetensors --json").json();
    assert!(cosine["cosine"][0][1].as_f64().unwrap() > 0.999, "{cosine}");
    let exported = run(&folder, "signature export @add.safetensors --rank 2 -o @small --json").json();
    let errors: Vec<f64> =
        exported["tensors"].as_array().unwrap().iter().map(|t| t["relative_error"].as_f64().unwrap()).collect();
    assert!(errors.iter().all(|e| *e > 0.0 && *e < 1.0), "{errors:?}");
    run(&folder, "signature apply @llama @in.safetensors --allow-loss -o @patched");
    let config = std::fs::read_to_string(folder.at("adapter/adapter_config.json")).unwrap();
    std::fs::write(folder.at("adapter/adapter_config.json"), config.replace("64", "63")).unwrap();
    refuse(&folder, "signature import @adapter --standard @llama -o @no.safetensors", "63");
    write_trained(&folder);
    refuse(
        &folder,
        "signature import @small --standard @standard.safetensors -o @no.safetensors",
        "is not in the base checkpoint",
    );
}

#[test]
fn patches_of_few_weights_come_back_bit_for_bit() {
    let folder = signed();
    let extract = |robust: &str, flags: &str, out: &str| {
        let line =
            format!("signature extract {THREE} --robust @{robust}.safetensors {flags} --force -o @{out}.safetensors");
        run(&folder, &line);
    };
    for (nth, (robust, scheme)) in [
        ("fog", "int8/g64/sym"),
        ("noise", "int4/g32/affine"),
        ("fog", "f32"),
        ("noise", "f16"),
        ("fog", "int8/row/sym"),
    ]
    .iter()
    .enumerate()
    {
        extract(robust, &format!("--sparsity 0.98 --norms none --only layer1.* --scheme {scheme}"), &format!("s{nth}"));
    }
    add_and_remove(&folder, "standard.safetensors", "", 40);
    // Whether a patch is given weight by weight or as a whole makes no difference.
    for scheme in ["int8/row/sym", "int5/g32/affine", "int3/tensor/sym", "elastic/g32"] {
        run(&folder, &format!("compress @standard.safetensors --scheme {scheme} --force -o @base.safetensors"));
        add_and_remove(&folder, "base.safetensors", "", 20);
        let sig = folder.at("s0.safetensors");
        run(&folder, &format!("signature apply @base.safetensors {sig} --allow-loss --force -o @few.safetensors"));
        run(&folder, &format!("signature combine {sig} --force -o @dense.safetensors"));
        let dense = folder.at("dense.safetensors");
        run(&folder, &format!("signature apply @base.safetensors {dense} --allow-loss --force -o @all.safetensors"));
        niwaki_conformance::scene::assert_equal(&folder, "few.safetensors", "all.safetensors");
    }
}
