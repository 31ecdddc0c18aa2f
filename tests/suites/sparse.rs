//! Very sparse tensors: positions in the place of masks, chosen by the plan.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_codes::simd::Level;
use niwaki_codes::{Mask, Scheme, SparseView};
use niwaki_conformance::checkpoints::weights;
use niwaki_conformance::compressed::{bytes, compared, open, opened, run};
use niwaki_conformance::folder::Folder;
use niwaki_container::{Artifact, Kept, Part, Tensor, verify};
use niwaki_engine::{Names, Options, export};
use niwaki_prune::{Pattern, Ratio, magnitude_mask};
use niwaki_tensors::{Dtype, Overwrite, write_file};

const ROWS: usize = 96;
const COLS: usize = 1000;

fn source(folder: &Folder) -> (String, Vec<f32>) {
    let (path, values) = (folder.at("in.safetensors"), weights(3, ROWS * COLS));
    let entry = ("w", Dtype::F32, &[ROWS, COLS][..], &bytes(Dtype::F32, &values)[..]);
    write_file(path.as_ref(), &[entry], &[], Overwrite::Replace).unwrap();
    (path, values)
}

fn recipe(scheme: Option<&str>, keep: Option<f64>) -> String {
    let codes = scheme.map(|scheme| format!("[[quantize]]\ntensors = \"*\"\nscheme = \"{scheme}\"\n"));
    let mask = keep.map(|keep| format!("[[mask]]\ntensors = \"*\"\npattern = {{ keep = {keep:?} }}\n"));
    format!("version = 1\n{}{}", codes.unwrap_or_default(), mask.unwrap_or_default())
}

fn decoded(tensor: &Tensor<'_>) -> Vec<f32> {
    let (rows, cols) = tensor.matrix();
    let mut out = vec![f32::NAN; rows * cols];
    tensor.dequantize_rows(Level::best(), None, 0..rows, &mut out).unwrap();
    out
}

/// What the same parts decode to under the mask of the largest weights.
fn under_mask(tensor: &Tensor<'_>, values: &[f32], keep: f64) -> Vec<f32> {
    let pattern = Pattern::Keep(Ratio::new(keep).unwrap());
    let mask = magnitude_mask(Level::best(), &pattern, ROWS, COLS, values).unwrap();
    let keeps = |i: usize| mask.keeps(i / COLS, i % COLS).unwrap();
    let Some(Scheme::Uniform(scheme)) = tensor.scheme() else {
        return values.iter().enumerate().map(|(i, w)| if keeps(i) { *w } else { 0.0 }).collect();
    };
    let (codes, scales) = (tensor.part(Part::Codes).unwrap(), tensor.part(Part::Scales).unwrap());
    let view = SparseView::uniform(mask.view(), scheme, codes, scales, tensor.part(Part::Zeros)).unwrap();
    let mut out = vec![f32::NAN; values.len()];
    view.dequantize_rows(Level::best(), 0..ROWS, 0, &mut out).unwrap();
    out
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn assert_sound(artifact: &Artifact) {
    let faults = verify(artifact, 2).faults;
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn few_weights_are_told_by_positions_and_decode_as_under_a_mask() {
    let folder = Folder::new("few");
    let (path, values) = source(&folder);
    for scheme in
        [None, Some("int8/g64/sym"), Some("int4/row/affine"), Some("int8/tensor/sym"), Some("int3/g20/affine")]
    {
        let mut first = None;
        for threads in [1, 3] {
            let out = folder.at("out.safetensors");
            run(&path, &recipe(scheme, Some(0.01)), &out, threads).unwrap();
            let file = std::fs::read(&out).unwrap();
            assert!(*first.get_or_insert_with(|| file.clone()) == file, "{scheme:?} on {threads} threads");
        }
        let artifact = open(&folder.at("out.safetensors"));
        assert_sound(&artifact);
        assert_eq!(artifact.metas()[0].version(), (1, 1));
        let tensor = artifact.get("w").unwrap();
        assert_eq!(tensor.layout().kept, Some(Kept::by_positions(ROWS * COLS / 100)));
        assert!(tensor.part(Part::Mask).is_none() && tensor.part(Part::Positions).is_some());
        let (has, needs) = (decoded(&tensor), under_mask(&tensor, &values, 0.01));
        assert_eq!(bits(&has), bits(&needs), "{scheme:?}");
        assert!(has.iter().filter(|x| **x != 0.0).count() > 900, "{scheme:?}");
    }
}

#[test]
fn one_weight_of_a_hundred_takes_a_fortieth_of_eight_bits_each() {
    let folder = Folder::new("fortieth");
    let (path, _) = source(&folder);
    let size = |scheme, keep| {
        let out = folder.at("out.safetensors");
        let report = run(&path, &recipe(Some(scheme), keep), &out, 2).unwrap();
        let artifact = open(&out);
        assert_eq!(report.tensors[0].bytes_after, artifact.get("w").unwrap().bytes());
        artifact.get("w").unwrap().bytes() as f64
    };
    let (few, all) = (size("int8/g64/sym", Some(0.01)), size("int8/row/sym", None));
    // 8 bits of code, 6 low bits, 2.56 upper ones and a quarter of a scale, for one weight of 100.
    assert!(few <= 0.025 * all && few >= 0.02 * all, "{few} of {all} bytes");
}

#[test]
fn a_mask_stays_where_more_weights_are_kept() {
    let folder = Folder::new("border");
    let (path, _) = source(&folder);
    let out = folder.at("out.safetensors");
    for (keep, kept, version) in [(0.125, Kept::by_positions(12000), (1, 1)), (0.12501, Kept::by_mask(12001), (1, 0))] {
        run(&path, &recipe(Some("int8/g64/sym"), Some(keep)), &out, 2).unwrap();
        let artifact = open(&out);
        assert_sound(&artifact);
        assert_eq!((artifact.get("w").unwrap().layout().kept, artifact.metas()[0].version()), (Some(kept), version));
    }
}

#[test]
fn a_given_mask_of_few_weights_is_obeyed() {
    let folder = Folder::new("given-few");
    let (path, values) = source(&folder);
    let (out, file) = (folder.at("out.safetensors"), folder.at("mask.safetensors"));
    // The last mask keeps nothing.
    for (every, scheme) in [(64, "int8/row/sym"), (997, "elastic/g64/4,8"), (usize::MAX, "int4/g32/sym")] {
        let mask = Mask::from_fn(ROWS, COLS, |row, col| (row * COLS + col) % every == every / 2).unwrap();
        let entry = ("w.mask", Dtype::U8, &[ROWS, COLS / 8][..], mask.bytes());
        write_file(file.as_ref(), &[entry], &[], Overwrite::Replace).unwrap();
        let rules =
            recipe(Some(scheme), None) + &format!("[[mask]]\ntensors = \"w\"\npattern = {{ file = {file:?} }}\n");
        run(&path, &rules, &out, 2).unwrap();
        let artifact = open(&out);
        assert_sound(&artifact);
        let tensor = artifact.get("w").unwrap();
        assert_eq!(tensor.layout().kept, Some(Kept::by_positions(mask.kept())));
        let far = |(i, x): (usize, &f32)| match mask.keeps(i / COLS, i % COLS) {
            Some(true) => (x - values[i]).abs() > 0.002,
            _ => x.to_bits() != 0,
        };
        assert_eq!(decoded(&tensor).iter().enumerate().find(|w| far(*w)), None, "{scheme}");
    }
}

#[test]
fn a_row_longer_than_a_block_is_exported_in_pieces() {
    let folder = Folder::new("long-few");
    let (path, out, back) = (folder.at("in.safetensors"), folder.at("out.safetensors"), folder.at("back.safetensors"));
    let values = weights(5, 700_001);
    let entry = ("w", Dtype::F32, &[1, 700_001][..], &bytes(Dtype::F32, &values)[..]);
    write_file(path.as_ref(), &[entry], &[], Overwrite::Replace).unwrap();
    for scheme in [None, Some("int8/row/sym")] {
        run(&path, &recipe(scheme, Some(0.01)), &out, 2).unwrap();
        let from = opened(&out);
        let options = Options { replace: true, ..Options::default() };
        export::safetensors(&from.source(None, Names::Own).unwrap(), back.as_ref(), &options).unwrap();
        let read = |path: &str| decoded(&open(path).get("w").unwrap());
        assert_eq!(bits(&read(&back)), bits(&read(&out)), "{scheme:?}");
    }
}

#[test]
fn compare_reads_positions() {
    let folder = Folder::new("compare-few");
    let (path, values) = source(&folder);
    let out = folder.at("out.safetensors");
    run(&path, &recipe(Some("int8/g64/sym"), Some(0.01)), &out, 2).unwrap();
    let compared = compared(&path, &out, None);
    let zeros = decoded(&open(&out).get("w").unwrap()).iter().filter(|x| **x == 0.0).count();
    assert_eq!(compared.tensors[0].zeros.1, zeros as u64);
    assert!(zeros >= values.len() / 100 * 99);
}
