//! Patches merged into checkpoints of every kind, and taken off again bit for bit.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_conformance::folder::Folder;
use niwaki_conformance::scene::run;
use niwaki_conformance::trained::write_trained;

const THREE: &str = "--init @init.safetensors --standard @standard.safetensors";

/// Checkpoints, and five signatures `s0` to `s4` of different kinds and encodings.
fn scene() -> Folder {
    let folder = Folder::new("stacks");
    write_trained(&folder);
    let extract = |robust: &str, flags: &str, out: &str| {
        let line = format!("signature extract {THREE} --robust @{robust}.safetensors {flags} -o @{out}.safetensors");
        run(&folder, &line);
    };
    extract("fog", "--layers 2", "s0");
    extract("noise", "--scheme int8/row/sym", "s1");
    extract("fog", "--scheme f16 --norms none", "s2");
    extract("noise", "--sparsity 0.9 --scheme int8/g64/sym --norms none", "s3");
    let line = "signature extract --standard @standard.safetensors --robust @fog.safetensors --interpolate";
    run(&folder, &format!("{line} --only layer1.2.* -o @s4.safetensors"));
    folder
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

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
    let mut random = Random(0x5EED + base.len() as u64);
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
    let folder = scene();
    add_and_remove(&folder, "standard.safetensors", "", 250);
}

/// Compresses the standard checkpoint and adds and removes patches on the result.
fn on_codes(scheme: &str, flags: &str, steps: u64) {
    let folder = scene();
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
        on_codes(&format!("--scheme {scheme} --only layer1*"), "", 25);
    }
    for scheme in ["fp8_e4m3/row", "fp8_e4m3/b16", "fp8_e4m3/tensor", "nvfp4", "nf4/g32"] {
        on_codes(&format!("--scheme {scheme}"), "", 15);
    }
}

#[test]
fn sparse_tensors_come_back_bit_for_bit() {
    let folder = scene();
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
