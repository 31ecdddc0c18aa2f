//! Patches that do not fit, files that somebody edited, runs that were killed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_conformance::folder::Folder;
use niwaki_conformance::scene::run;
use niwaki_conformance::trained::{refuse, signed};

fn read(folder: &Folder, name: &str) -> Vec<u8> {
    std::fs::read(folder.at(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let folder = signed();
    let sig = |nth: usize| folder.at(&format!("s{nth}.safetensors"));
    run(&folder, "compress @standard.safetensors --scheme int4/g32/sym -o @codes.safetensors");
    run(&folder, &format!("signature apply @standard.safetensors {} -o @once.safetensors", sig(0)));
    run(&folder, &format!("signature apply @codes.safetensors {} --allow-loss -o @coded.safetensors", sig(0)));
    let apply = "signature apply";
    refuse(
        &folder,
        &format!("{apply} @noise.safetensors {} -o @no.safetensors", sig(0)),
        "tensor `bn1.bias`: other weights",
    );
    refuse(
        &folder,
        &format!("{apply} @once.safetensors {} -o @no.safetensors", sig(0)),
        "a patch `s0` is in the stack already",
    );
    refuse(
        &folder,
        &format!("{apply} @standard.safetensors {} --alpha nan -o @no.safetensors", sig(0)),
        "alpha is `nan`",
    );
    refuse(&folder, &format!("{apply} @standard.safetensors @fog.safetensors -o @no.safetensors"), "is no signature");
    refuse(&folder, &format!("{apply} @standard.safetensors {} -o @once.safetensors", sig(1)), "exists");
    refuse(
        &folder,
        &format!("{apply} @standard.safetensors {} --recalibrate @fog.safetensors -o @no.safetensors", sig(1)),
        "no tensor `images`",
    );
    refuse(&folder, "signature remove @standard.safetensors s0 -o @no.safetensors", "no patch `s0`");
    refuse(&folder, "signature remove @once.safetensors s1 -o @no.safetensors", "its stack has `s0`");
    refuse(
        &folder,
        &format!("{apply} @codes.safetensors {}@0.001 -o @no.safetensors", sig(0)),
        "% of the patch outlives",
    );
    refuse(&folder, "slice @coded.safetensors --bits 4 -o @no.safetensors", "has patches merged into it");
    // Another architecture is refused, transfer or not.
    niwaki_conformance::llama::write_llama(folder.at("llama").as_ref());
    refuse(
        &folder,
        &format!("{apply} @llama {} --transfer -o @no", sig(0)),
        "another architecture than the signature's",
    );
    // A signature of a later version.
    let bytes = read(&folder, "s0.safetensors");
    let at = bytes
        .windows(12)
        .position(|w| w == b"\"projection\\")
        .unwrap_or_else(|| bytes.windows(10).position(|w| w == b"projection").unwrap());
    let at = bytes[at..].windows(10).position(|w| w == b"projection").unwrap() + at;
    let mut newer = bytes;
    newer[at..at + 10].copy_from_slice(b"perfection");
    std::fs::write(folder.at("newer.safetensors"), newer).unwrap();
    refuse(
        &folder,
        &format!("{apply} @standard.safetensors @newer.safetensors -o @no.safetensors"),
        "method `perfection`",
    );
}

#[test]
fn a_patched_file_that_somebody_edited_is_refused_by_tensor() {
    let folder = signed();
    let sig = |nth: usize| folder.at(&format!("s{nth}.safetensors"));
    run(&folder, "compress @standard.safetensors --scheme int8/row/sym -o @codes.safetensors");
    for (base, tensor) in [("standard", "norm.weight"), ("codes", "layer1.2.conv.weight")] {
        run(
            &folder,
            &format!("signature apply @{base}.safetensors {} --allow-loss -o @on.safetensors --force", sig(0)),
        );
        let good = read(&folder, "on.safetensors");
        let mut file = good.clone();
        // The first data byte of a tensor that the patch does not touch, then of one that it does.
        let opened = niwaki_conformance::compressed::open(&folder.at("on.safetensors"));
        for name in [tensor, "conv1.weight"] {
            let (_, part) = opened.get(name).unwrap().parts().next().unwrap();
            let shard = &opened.checkpoint().shards()[0];
            let at = part.as_ptr() as usize - shard.bytes().as_ptr() as usize;
            file[at] ^= 1;
            std::fs::write(folder.at("edited.safetensors"), &file).unwrap();
            let undo = folder.at("on.safetensors.undo.safetensors");
            if std::path::Path::new(&undo).exists() {
                std::fs::copy(undo, folder.at("edited.safetensors.undo.safetensors")).unwrap();
            }
            let what = format!("tensor `{name}`: was changed after it was written");
            refuse(&folder, "signature remove @edited.safetensors s0 -o @no.safetensors", &what);
            refuse(
                &folder,
                &format!("signature apply @edited.safetensors {} --transfer -o @no.safetensors", sig(1)),
                &what,
            );
            file = good.clone();
        }
    }
}

#[test]
fn what_does_not_come_back_is_refused() {
    // Corrections that are sound, and whose hash is right, but are of other weights.
    let folder = signed();
    run(&folder, "compress @standard.safetensors --scheme int8/row/sym -o @codes.safetensors");
    run(
        &folder,
        &format!("signature apply @codes.safetensors {} --allow-loss -o @on.safetensors", folder.at("s0.safetensors")),
    );
    let mut file = read(&folder, "on.safetensors");
    let opened = niwaki_conformance::compressed::open(&folder.at("on.safetensors"));
    let shard = &opened.checkpoint().shards()[0];
    let undo = niwaki_container::undo_blob("conv1.weight.codes");
    let stream = opened.checkpoint().get(&undo).unwrap().bytes();
    let at = stream.as_ptr() as usize - shard.bytes().as_ptr() as usize;
    // The first block: its length, the bits of a difference, the differences.
    assert_ne!(stream[4], 0, "nothing to correct in the first block");
    let mut damaged = stream.to_vec();
    damaged[5] ^= 1;
    file[at + 5] ^= 1;
    let [before, after] = [stream, &damaged].map(|bytes| niwaki_container::Digest::of(bytes).to_string());
    let text = file.windows(64).position(|window| window == before.as_bytes()).unwrap();
    file[text..text + 64].copy_from_slice(after.as_bytes());
    std::fs::write(folder.at("damaged.safetensors"), &file).unwrap();
    let what = "tensor `conv1.weight`: does not come back as it was: the record of its patches is damaged";
    refuse(&folder, "signature remove @damaged.safetensors s0 -o @no.safetensors", what);
}

#[test]
fn a_killed_swap_is_found_out() {
    let folder = signed();
    let sig = |nth: usize| folder.at(&format!("s{nth}.safetensors"));
    let original = read(&folder, "standard.safetensors");
    run(&folder, &format!("signature apply @standard.safetensors {} -o @now.safetensors", sig(0)));
    let one = read(&folder, "now.safetensors.undo.safetensors");
    run(&folder, &format!("signature apply @now.safetensors {} --force -o @now.safetensors", sig(1)));
    // As if the run had ended between the file's new name and the record's.
    std::fs::rename(folder.at("now.safetensors.undo.safetensors"), folder.at("now.safetensors.undo.safetensors.next"))
        .unwrap();
    std::fs::write(folder.at("now.safetensors.undo.safetensors"), one).unwrap();
    let listed = run(&folder, "signature list @now.safetensors --json").json();
    assert_eq!(listed["patches"].as_array().unwrap().len(), 2);
    for name in ["s0", "s1"] {
        run(&folder, &format!("signature remove @now.safetensors {name} --force -o @now.safetensors"));
    }
    assert!(read(&folder, "now.safetensors") == original);
}
