//! Compressed models of text run on their codes, and say what the decoded weights say.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_conformance::folder::Folder;
use niwaki_conformance::llama::{letters, write_llama};
use niwaki_conformance::scene::attempt;

/// The perplexity of a text, and how another goes on.
fn said(folder: &Folder, model: &str, threads: usize) -> (f64, String) {
    let eval = attempt(folder, &format!("eval {model} --data @text.txt --json -q --threads {threads}")).ok().json();
    let generate = format!("generate {model} --prompt hello --max-tokens 20 --json -q --threads {threads}");
    let generated = attempt(folder, &generate).ok().json();
    (eval["perplexity"].as_f64().unwrap(), generated["text"].as_str().unwrap().to_owned())
}

#[test]
fn codes_say_what_their_weights_say() {
    let folder = Folder::new("packed");
    write_llama(&folder.path().join("llama"));
    std::fs::write(folder.path().join("text.txt"), letters(300)).unwrap();
    let schemes = ["int4/g32/sym", "int8/row/affine", "int3/g8/sym", "elastic/g64/2,4", "nf4/g32"];
    for (at, scheme) in schemes.iter().enumerate() {
        attempt(&folder, &format!("compress @llama --preset weights --scheme {scheme} -o @m{at} -q")).ok();
        attempt(&folder, &format!("export @m{at} --to safetensors -o @d{at}.safetensors -q")).ok();
        let decoded = said(&folder, &format!("@llama --weights @d{at}.safetensors"), 2);
        let packed = said(&folder, &format!("@m{at}"), 2);
        // Sums in another order.
        assert!((packed.0 / decoded.0 - 1.0).abs() < 1e-5, "{scheme}: {packed:?} and {decoded:?}");
        assert_eq!(packed.1, decoded.1, "{scheme}");
        assert_eq!(said(&folder, &format!("@m{at}"), 1), packed, "{scheme} on one thread");
    }
}

#[test]
fn other_tools_codes_and_narrower_widths_are_run_too() {
    let folder = Folder::new("packed-others");
    write_llama(&folder.path().join("llama"));
    std::fs::write(folder.path().join("text.txt"), letters(300)).unwrap();
    attempt(&folder, "compress @llama --preset weights --scheme q8_0 --to gguf -o @q8.gguf -q").ok();
    attempt(&folder, "compress @llama --preset weights --scheme int4/g32/sym --to compressed-tensors -o @ct -q").ok();
    attempt(&folder, "compress @llama --preset weights --scheme elastic/g64/2,4 -o @e -q").ok();
    for (weights, bits) in [("@q8.gguf", ""), ("@ct", ""), ("@e", " --bits 2"), ("@e", " --bits 4")] {
        attempt(&folder, &format!("export {weights}{bits} --to safetensors -o @d.safetensors --force -q")).ok();
        let decoded = said(&folder, "@llama --weights @d.safetensors", 2);
        let packed = said(&folder, &format!("@llama --weights {weights}{bits}"), 2);
        assert!((packed.0 / decoded.0 - 1.0).abs() < 1e-5, "{weights}{bits}: {packed:?} and {decoded:?}");
        assert_eq!(packed.1, decoded.1, "{weights}{bits}");
    }
}

#[test]
fn rounded_inputs_are_near_for_any_number_of_threads() {
    let folder = Folder::new("packed-rounded");
    write_llama(&folder.path().join("llama"));
    std::fs::write(folder.path().join("text.txt"), letters(300)).unwrap();
    attempt(&folder, "compress @llama --preset weights --scheme int8/g32/sym -o @m -q").ok();
    let (float, rounded) = (said(&folder, "@m", 2), said(&folder, "@m --activations dynamic", 2));
    assert_ne!(float.0, rounded.0);
    assert!((float.0 / rounded.0 - 1.0).abs() < 0.01, "{float:?} and {rounded:?}");
    assert_eq!(said(&folder, "@m --activations dynamic", 1), rounded);
    let graph = niwaki_conformance::folder::bundled("model.onnx");
    let sample = niwaki_conformance::folder::sample();
    let refused = attempt(&folder, &format!("eval {graph} --data {sample} --activations dynamic"));
    assert_eq!(refused.error(), "`--activations dynamic` is for models of text");
}
