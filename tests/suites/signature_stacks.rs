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
