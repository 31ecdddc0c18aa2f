//! Files that the tools themselves wrote decode to the numbers that the tools decode them to.
//! `tests/scripts/foreign_golden.py` made them; the versions are in their metadata.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use niwaki_codes::UniformView;
use niwaki_codes::simd::Level;
use niwaki_foreign::{Format, Imported, Logical};
use niwaki_tensors::{Checkpoint, Limits};
use serde_json::Value;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut cases: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    cases.sort();
    cases
}

/// Calls `look` with the only quantized tensor of each case, the numbers of the tool, and the
/// type in which it computed them.
fn each(look: impl Fn(&str, &Logical<'_>, &[f32], &str)) {
    for path in cases() {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let config: Value = serde_json::from_slice(&std::fs::read(path.with_extension("json")).unwrap()).unwrap();
        let checkpoint = Checkpoint::open(&path, &Limits::default()).unwrap();
        let imported = Imported::open(&checkpoint, Some(&config)).unwrap().unwrap_or_else(|| panic!("{name}"));
        let [tensor] = imported.tensors() else { panic!("{name}: {:?}", imported.tensors()) };
        assert_eq!((tensor.name(), imported.plain()[0]), ("m.weight", "expected"), "{name}");
        let expected = checkpoint.get("expected").unwrap();
        assert_eq!(tensor.rows() * tensor.cols(), expected.elements(), "{name}");
        let mut numbers = vec![0.0; expected.elements()];
        expected.decode_f32(0..numbers.len(), &mut numbers).unwrap();
        let metadata = checkpoint.metadata();
        look(name, tensor, &numbers, metadata["computed"].trim_start_matches("torch."));
    }
}

fn decoded(level: Level, tensor: &Logical<'_>) -> Vec<f32> {
    let mut all = vec![f32::NAN; tensor.rows() * tensor.cols()];
    tensor.decode_rows(level, 0..tensor.rows(), &mut all).unwrap();
    all
}

/// How far the number of a tool that computes in 16 bits may be from the exact `x`.
///
/// MLX rounds the product `x - bias` and then the sum, each by half a unit of its last place; a
/// product is at most three times the group's largest magnitude, which is below 0.5 here.
fn two_roundings(x: f32, digits: i32) -> f32 {
    (x.abs() + 1.5) * 2f32.powi(-digits)
}

#[test]
fn the_numbers_are_those_of_the_tools() {
    each(|name, tensor, expected, computed| {
        for level in Level::all() {
            for (i, (ours, theirs)) in decoded(level, tensor).into_iter().zip(expected).enumerate() {
                let same = match (computed, tensor.format()) {
                    ("float32", _) => ours == *theirs,
                    ("float16", Format::Mlx) => (ours - theirs).abs() <= two_roundings(ours, 11),
                    ("bfloat16", Format::Mlx) => (ours - theirs).abs() <= two_roundings(ours, 8),
                    ("float16", _) => f16::from_f32(ours).to_f32() == *theirs,
                    ("bfloat16", _) => bf16::from_f32(ours).to_f32() == *theirs,
                    (other, _) => panic!("{name}: computed in {other}"),
                };
                assert!(same, "{name} at {i}: {ours:e}, the tool {theirs:e}");
            }
        }
    });
}

#[test]
fn rows_decode_alike_one_by_one() {
    each(|name, tensor, _, _| {
        let whole = decoded(Level::Scalar, tensor);
        let mut row = vec![0.0; tensor.cols()];
        for i in 0..tensor.rows() {
            tensor.decode_rows(Level::best(), i..i + 1, &mut row).unwrap();
            assert_eq!(row, whole[i * tensor.cols()..][..tensor.cols()], "{name} row {i}");
        }
    });
}

#[test]
fn our_scheme_means_the_same_numbers() {
    let schemes = std::cell::RefCell::new(Vec::new());
    each(|name, tensor, _, _| {
        let Some(scheme) = tensor.uniform() else { return };
        schemes.borrow_mut().push(format!("{name} {}", niwaki_codes::Scheme::Uniform(scheme)));
        let parts = tensor.uniform_rows(Level::best(), &scheme, 0..tensor.rows()).unwrap();
        let zeros = (!parts.zeros.is_empty()).then_some(&parts.zeros[..]);
        let (rows, cols) = (tensor.rows(), tensor.cols());
        let view = UniformView::new(scheme, rows, cols, &parts.codes, &parts.scales, zeros).unwrap();
        view.check().unwrap();
        let mut ours = vec![0.0; rows * cols];
        view.dequantize_rows(Level::best(), 0..rows, &mut ours).unwrap();
        assert_eq!(ours, decoded(Level::best(), tensor), "{name}");
    });
    let expected = [
        "ct-int2-g32 int2/g32/sym/f32",
        "ct-int3-g32 int3/g32/sym/f32",
        "ct-int3-row-affine int3/row/affine",
        "ct-int4-g32-affine int4/g32/affine/f32",
        "ct-int4-g32-bf16 int4/g32/sym",
        "ct-int4-g32 int4/g32/sym/f32",
        "ct-int4-tensor int4/tensor/sym",
        "ct-int5-g32 int5/g32/sym/f32",
        "ct-int6-g32 int6/g32/sym/f32",
        "ct-int7-g32 int7/g32/sym/f32",
        "ct-int8-bytes-affine int8/row/affine",
        "ct-int8-bytes int8/row/sym",
        "ct-int8-g32 int8/g32/sym/f32",
    ];
    assert_eq!(schemes.into_inner(), expected);
}
