//! The engine on blocks of ggml's types, from file to file.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_codes::{BlockType, Scheme};
use niwaki_conformance::checkpoints::weights;
use niwaki_conformance::compressed::{bytes, compared, open, run};
use niwaki_conformance::folder::Folder;
use niwaki_container::verify;
use niwaki_tensors::{Dtype, Overwrite, write_file};

fn quantize(scheme: &str) -> String {
    format!("version = 1\n[[quantize]]\ntensors = \"*\"\nscheme = \"{scheme}\"\n")
}

fn mask(keep: f32) -> String {
    format!("[[mask]]\ntensors = \"*\"\npattern = {{ keep = {keep:?} }}\n")
}

#[test]
fn blocks_go_from_file_to_file_and_only_where_they_fill_the_rows() {
    let folder = Folder::new("blocks");
    let (source, out) = (folder.at("even.safetensors"), folder.at("out.safetensors"));
    // More rows than one piece of work takes, a row longer than that, and a vector.
    let shapes: [(&str, Dtype, &[usize]); 4] = [
        ("a.weight", Dtype::F32, &[600, 512]),
        ("long.weight", Dtype::BF16, &[2, 300_032]),
        ("d.weight", Dtype::F64, &[3, 4, 64]),
        ("bias", Dtype::F16, &[768]),
    ];
    let data: Vec<_> = (1..).zip(shapes).map(|(i, (_, d, s))| bytes(d, &weights(i, s.iter().product()))).collect();
    let tensors: Vec<_> = shapes.iter().zip(&data).map(|((n, d, s), b)| (*n, *d, *s, b.as_slice())).collect();
    write_file(source.as_ref(), &tensors, &[], Overwrite::Replace).unwrap();
    for kind in BlockType::ALL {
        let report = run(&source, &quantize(kind.name()), &out, 2).unwrap();
        let one = std::fs::read(&out).unwrap();
        let artifact = open(&out);
        assert_eq!(verify(&artifact, 2).faults, [], "{kind}");
        let compared = compared(&source, &out, None);
        for (t, r) in compared.tensors.iter().zip(&report.tensors) {
            assert_eq!((r.fate, artifact.get(&t.name).unwrap().scheme()), ("quantize", Some(Scheme::Block(kind))));
            let (db, says) = (t.sqnr_db.unwrap(), r.sqnr_db.unwrap());
            // Two bits, the fewest of any type, reach 8 dB on normal weights; the report sums in
            // single precision.
            assert!(db > 6.0 && (db - says).abs() < 0.01, "{kind} {}: {db} dB, {says} reported", t.name);
        }
        run(&source, &quantize(kind.name()), &out, 1).unwrap();
        assert!(std::fs::read(&out).unwrap() == one, "{kind}: the bytes depend on threads");
        run(&source, &(quantize(kind.name()) + &mask(1.0)), &out, 2).unwrap();
        assert!(!open(&out).get("a.weight").unwrap().masked());
    }
    let data = bytes(Dtype::F32, &weights(1, 96 * 130));
    let odd: (_, _, &[usize], _) = ("a.weight", Dtype::F32, &[96, 130], &data[..]);
    write_file(source.as_ref(), &[odd], &[], Overwrite::Replace).unwrap();
    let error = run(&source, &quantize("q4_0"), &out, 1).unwrap_err();
    let expected = format!("`{source}`: tensor `a.weight`: q4_0 blocks of 32 do not fill the row of 130 weights");
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.hint(), Some("the nearest scheme that holds it is `int4/g32/sym`"));
    let error = run(&source, &(quantize("q4_0") + &mask(0.3)), &out, 1).unwrap_err();
    assert_eq!(error.to_string(), format!("`{source}`: tensor `a.weight`: q4_0 blocks have no mask"));
}

#[test]
fn a_block_that_no_f16_scale_reaches_is_named_by_its_number() {
    let folder = Folder::new("block-scale");
    let (source, out) = (folder.at("in.safetensors"), folder.at("out.safetensors"));
    let mut values = weights(1, 700 * 512);
    values[600 * 512 + 40] = 1e9;
    let data = bytes(Dtype::F32, &values);
    let tensor: (_, _, &[usize], _) = ("w", Dtype::F32, &[700, 512], &data[..]);
    write_file(source.as_ref(), &[tensor], &[], Overwrite::Replace).unwrap();
    let error = run(&source, &quantize("q8_0"), &out, 2).unwrap_err();
    let block = 600 * 16 + 1;
    assert_eq!(error.to_string(), format!("tensor `w`: the scale of group {block} is beyond 65504, the largest F16"));
    assert_eq!(error.hint(), Some("a scheme with F32 scales holds it, such as `int4/g32/sym/f32`"));
}
