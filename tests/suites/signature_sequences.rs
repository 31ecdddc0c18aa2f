//! A thousand random sequences of patches, on floats, codes, elastic codes and blocks of GGUF.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_conformance::folder::Folder;
use niwaki_conformance::random::Random;
use niwaki_conformance::scene::run;

const THREE: &str = "--init @init.safetensors --standard @standard.safetensors";

fn read(folder: &Folder, name: &str) -> Vec<u8> {
    std::fs::read(folder.at(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// A checkpoint of two small tensors and five signatures for it.
fn tiny() -> Folder {
    let folder = Folder::new("tiny");
    let write = |name: &str, seed: u64, near: f32| {
        let base = |seed, n| niwaki_conformance::checkpoints::weights(seed, n);
        let mixed = |at: u64, n: usize| -> Vec<f32> {
            base(at, n).iter().zip(base(seed + at, n)).map(|(x, d)| x + near * d).collect()
        };
        let f32s = niwaki_conformance::checkpoints::f32s;
        let tensors: [niwaki_conformance::checkpoints::Tensor<'_>; 2] =
            [("a.weight", "F32", &[6, 32], f32s(&mixed(1, 192))), ("b.weight", "F32", &[3, 64], f32s(&mixed(2, 192)))];
        niwaki_conformance::checkpoints::write(folder.at(&format!("{name}.safetensors")), &tensors);
    };
    write("init", 10, 0.5);
    write("standard", 20, 0.3);
    for nth in 0..5 {
        write("robust", 30 + nth, 0.4);
        let flags =
            ["", "--scheme int8/row/sym", "--only b.*", "--sparsity 0.8", "--scheme int4/g32/affine"][nth as usize];
        let flags = if flags.is_empty() { String::new() } else { format!(" {flags}") };
        run(&folder, &format!("signature extract {THREE} --robust @robust.safetensors{flags} -o @s{nth}.safetensors"));
    }
    folder
}

/// Sequences of adding and removing that begin and end without a patch: the end is the beginning,
/// and in the middle the file is that of a fresh apply of its stack.
fn sequences(base: &str, count: u64) {
    let folder = tiny();
    match base {
        "standard.safetensors" => {}
        "codes.gguf" => drop(run(&folder, "compress @standard.safetensors --to gguf --scheme q4_0 -o @codes.gguf")),
        "int4.safetensors" => {
            drop(run(&folder, "compress @standard.safetensors --scheme int4/g32/sym -o @int4.safetensors"))
        }
        _ => drop(run(&folder, "compress @standard.safetensors --scheme elastic/g32 -o @elastic.safetensors")),
    }
    let (original, extension) = (read(&folder, base), base.rsplit('.').next().unwrap());
    let (now, fresh) = (format!("now.{extension}"), format!("fresh.{extension}"));
    let sig = |(nth, alpha): &(u64, f64)| format!("{}@{alpha}", folder.at(&format!("s{nth}.safetensors")));
    let apply = |from: &str, stack: &[(u64, f64)], to: &str| {
        let sigs: Vec<_> = stack.iter().map(sig).collect();
        run(&folder, &format!("signature apply @{from} {} --transfer --allow-loss --force -o @{to}", sigs.join(" ")));
    };
    let mut random = Random::new(0xA11CE);
    for sequence in 0..count {
        let patches = 1 + random.below(5);
        let mut stack: Vec<(u64, f64)> = Vec::new();
        let mut waiting: Vec<u64> = (0..5).collect();
        waiting.rotate_left(random.below(5) as usize);
        waiting.truncate(patches as usize);
        let checked = random.below(patches);
        std::fs::write(folder.at(&now), &original).unwrap();
        while !waiting.is_empty() || !stack.is_empty() {
            if stack.is_empty() || !waiting.is_empty() && random.below(3) > 0 {
                let nth = waiting.remove(random.below(waiting.len() as u64) as usize);
                let patch = (nth, [1.0, -0.5, 0.25][random.below(3) as usize]);
                apply(&now, &[patch], &now);
                stack.push(patch);
            } else {
                let (nth, _) = stack.remove(random.below(stack.len() as u64) as usize);
                run(&folder, &format!("signature remove @{now} s{nth} --force -o @{now}"));
            }
            if stack.len() as u64 == checked + 1 && sequence % 4 == 0 {
                apply(base, &stack, &fresh);
                assert!(read(&folder, &fresh) == read(&folder, &now), "{base}: sequence {sequence}, {stack:?}");
            }
        }
        assert!(read(&folder, &now) == original, "{base}: sequence {sequence}");
    }
}

#[test]
fn random_sequences_on_floats_end_where_they_began() {
    sequences("standard.safetensors", 250);
}

#[test]
fn random_sequences_on_int4_end_where_they_began() {
    sequences("int4.safetensors", 250);
}

#[test]
fn random_sequences_on_elastic_codes_end_where_they_began() {
    sequences("elastic.safetensors", 250);
}

#[test]
fn random_sequences_on_gguf_end_where_they_began() {
    sequences("codes.gguf", 250);
}
