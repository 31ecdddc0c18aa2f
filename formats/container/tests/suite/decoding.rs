//! Logical tensors: what opens, in which order, and what decodes.

use niwaki_codes::Bits;
use niwaki_codes::simd::Level;
use niwaki_container::{Artifact, Blame, ErrorKind, Kind, Layout, Part};
use niwaki_tensors::{Dtype, Limits, Overwrite, write_file, write_index};

use crate::made::{Folder, layout, listed, open, write};

fn bits(n: u32) -> Bits {
    Bits::new(n).unwrap()
}

fn forms() -> Vec<(&'static str, Layout)> {
    vec![
        ("plain", layout(Dtype::BF16, &[37, 21], "dense", None)),
        ("uniform", layout(Dtype::F32, &[37, 21], "int3/g8/affine", None)),
        ("fp8", layout(Dtype::BF16, &[37, 21], "fp8_e4m3/b16", None)),
        ("fp4", layout(Dtype::BF16, &[37, 21], "nvfp4", None)),
        ("nf4", layout(Dtype::F32, &[37, 21], "nf4/g5", None)),
        ("elastic", layout(Dtype::F32, &[37, 21], "elastic/g8", None)),
        ("kept", layout(Dtype::F16, &[37, 600], "dense", Some(5000))),
        ("sparse", layout(Dtype::F32, &[37, 600], "int5/g16/sym", Some(5000))),
        ("by_row", layout(Dtype::F32, &[37, 600], "int4/row/affine", Some(300))),
        ("sparse_elastic", layout(Dtype::F32, &[37, 600], "elastic/g16/2,5", Some(5000))),
        ("few", listed(Dtype::BF16, &[37, 600], "dense", 700)),
        ("few_codes", listed(Dtype::F32, &[37, 600], "int5/g16/sym", 2000)),
        ("few_by_row", listed(Dtype::F32, &[37, 600], "int4/row/affine", 150)),
        ("few_elastic", listed(Dtype::F32, &[37, 600], "elastic/g16/2,5", 90)),
        ("one", listed(Dtype::F32, &[37, 600], "int8/tensor/sym", 1)),
    ]
}

#[test]
fn any_block_of_rows_decodes_like_the_whole() {
    let folder = Folder::new();
    write(&folder.file("a"), &forms(), 3);
    let artifact = open(&folder.file("a"));
    for tensor in artifact.tensors() {
        for width in tensor.widths().map_or(vec![None], |widths| widths.iter().map(Some).collect()) {
            let (rows, cols) = tensor.matrix();
            let mut whole = vec![f32::NAN; rows * cols];
            tensor.dequantize_rows(Level::Scalar, width, 0..rows, &mut whole).unwrap();
            assert!(whole.iter().all(|x| x.is_finite()), "{tensor:?}");
            for level in Level::all() {
                let decoder = tensor.at(width).unwrap();
                for (first, last) in [(0, 1), (5, 6), (15, 18), (16, 32), (36, 37), (37, 37), (3, 37)] {
                    let mut out = vec![f32::NAN; (last - first) * cols];
                    decoder.dequantize_rows(level, first..last, &mut out).unwrap();
                    let same = out.iter().zip(&whole[first * cols..]).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{tensor:?} at {width:?}, rows {first}..{last}, {level:?}");
                }
            }
        }
    }
}

#[test]
fn dropped_weights_are_positive_zero_and_kept_ones_in_place() {
    let folder = Folder::new();
    write(&folder.file("a"), &forms(), 4);
    let artifact = open(&folder.file("a"));
    let tensor = artifact.get("kept").unwrap();
    let mask = tensor.part(Part::Mask).unwrap();
    let values = tensor.part(Part::Values).unwrap();
    let mut out = vec![f32::NAN; 37 * 600];
    tensor.dequantize_rows(Level::best(), None, 0..37, &mut out).unwrap();
    let mut next = values.as_chunks::<2>().0.iter();
    for (i, x) in out.iter().enumerate() {
        let kept = mask[i / 600 * 75 + i % 600 / 8] >> (i % 600 % 8) & 1 == 1;
        let half = if kept { u16::from_le_bytes(*next.next().unwrap()) } else { 0 };
        let expected = niwaki_codes::half_floats::f16_to_f32(half);
        assert_eq!(x.to_bits(), expected.to_bits(), "element {i}");
    }
    assert!(next.next().is_none());
}

#[test]
fn kept_weights_are_handed_out_as_they_are_decoded() {
    let folder = Folder::new();
    write(&folder.file("a"), &forms(), 4);
    let artifact = open(&folder.file("a"));
    for tensor in artifact.tensors() {
        let (rows, cols) = tensor.matrix();
        let decoder = tensor.at(None).unwrap();
        for (first, last) in [(0, rows), (5, 6), (17, 33), (37, 37)] {
            let mut out = vec![0.0; (last - first) * cols];
            decoder.dequantize_rows(Level::best(), first..last, &mut out).unwrap();
            let (mut again, mut next) = (vec![0.0f32; out.len()], first * cols);
            let some = decoder.visit_kept(Level::best(), first..last, |places, values| {
                for (place, value) in places.iter().zip(values) {
                    assert!(*place >= next && *place < last * cols, "{tensor:?}: {place} after {next}");
                    (again[place - first * cols], next) = (*value, place + 1);
                }
            });
            assert_eq!(some.unwrap(), tensor.masked());
            let same = again.iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same || !tensor.masked(), "{tensor:?}, rows {first}..{last}");
        }
        assert_eq!(decoder.visit_kept(Level::best(), 36..38, |_, _| ()).is_err(), tensor.masked());
    }
}

#[test]
fn tensors_come_in_plan_order_with_elastic_ones_last() {
    let folder = Folder::new();
    write(&folder.file("a"), &forms(), 5);
    let artifact = open(&folder.file("a"));
    let names: Vec<_> = artifact.tensors().map(|t| t.name()).collect();
    assert_eq!(
        names,
        [
            "plain",
            "uniform",
            "fp8",
            "fp4",
            "nf4",
            "kept",
            "sparse",
            "by_row",
            "few",
            "few_codes",
            "few_by_row",
            "one",
            "elastic",
            "sparse_elastic",
            "few_elastic"
        ]
    );
    assert_eq!(artifact.kind(), Kind::Container);
    assert!(artifact.widths().unwrap().iter().eq([bits(2), bits(5)]));
    assert!(artifact.get("elastic.base").is_none());
}

#[test]
fn facts_of_a_tensor_are_those_of_its_layout() {
    let folder = Folder::new();
    write(&folder.file("a"), &forms(), 5);
    let artifact = open(&folder.file("a"));
    let tensor = artifact.get("sparse_elastic").unwrap();
    assert_eq!(tensor.scheme().unwrap().to_string(), "elastic/g16/2,5");
    assert!(tensor.masked() && tensor.matrix() == (37, 600) && tensor.dtype() == Dtype::F32);
    assert_eq!(tensor.bytes(), tensor.layout().bytes().unwrap());
    assert_eq!(tensor.parts().map(|(_, bytes)| bytes.len() as u64).sum::<u64>(), tensor.bytes());
    assert_eq!(tensor.at(None).unwrap().width(), Some(bits(5)));
    assert_eq!(artifact.get("plain").unwrap().at(Some(bits(3))).unwrap().width(), None);
}

#[test]
fn a_width_that_is_not_served_lists_those_that_are() {
    let folder = Folder::new();
    write(&folder.file("a"), &forms(), 6);
    let artifact = open(&folder.file("a"));
    let error = artifact.get("sparse_elastic").unwrap().at(Some(bits(3))).unwrap_err();
    assert_eq!(error.to_string(), "tensor `sparse_elastic`: width 3 is not served; served: 2,5");
    assert_eq!((error.blame(), error.tensor()), (Blame::Caller, Some("sparse_elastic")));
}

#[test]
fn rows_and_buffers_that_do_not_fit_are_refused() {
    let folder = Folder::new();
    write(&folder.file("a"), &forms(), 6);
    let artifact = open(&folder.file("a"));
    for tensor in artifact.tensors() {
        let decoder = tensor.at(None).unwrap();
        let cols = tensor.matrix().1;
        #[expect(clippy::reversed_empty_ranges, reason = "a range that ends before it begins is one of the cases")]
        for (rows, len) in [(36..38, 2 * cols), (2..1, 0), (0..2, cols), (0..1, cols + 1), (0..usize::MAX, 0)] {
            let error = decoder.dequantize_rows(Level::best(), rows, &mut vec![0.0; len]).unwrap_err();
            assert_eq!((error.blame(), error.tensor()), (Blame::Caller, Some(tensor.name())));
        }
    }
}

#[test]
fn a_plain_file_opens_as_tensors_stored_as_they_are() {
    let folder = Folder::new();
    let floats: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let tensors = [
        ("w.codes", Dtype::F32, &[2][..], &floats[..]),
        ("ids", Dtype::I64, &[1], &[7, 0, 0, 0, 0, 0, 0, 0]),
        ("none", Dtype::F32, &[1 << 40, 0], &[]),
    ];
    write_file(&folder.file("a"), &tensors, &[("format", "pt")], Overwrite::Refuse).unwrap();
    let artifact = open(&folder.file("a"));
    assert_eq!((artifact.kind(), artifact.digest(), artifact.widths()), (Kind::Plain, None, None));
    let mut out = [0.0; 2];
    let w = artifact.get("w.codes").unwrap();
    w.dequantize_rows(Level::best(), Some(bits(4)), 0..1, &mut out).unwrap();
    assert_eq!((out, w.matrix()), ([1.5, -2.0], (1, 2)));
    let ids = artifact.get("ids").unwrap();
    assert_eq!(ids.part(Part::Whole), Some(&[7, 0, 0, 0, 0, 0, 0, 0][..]));
    assert!(matches!(ids.at(None).unwrap_err().kind(), ErrorKind::NoFloats(Dtype::I64)));
    artifact.get("none").unwrap().dequantize_rows(Level::best(), None, 0..0, &mut []).unwrap();
}

#[test]
fn shards_are_one_checkpoint() {
    let folder = Folder::new();
    write(&folder.file("model-1.safetensors"), &forms()[..2], 1);
    write(&folder.file("model-2.safetensors"), &forms()[2..], 2);
    let (first, second) = (open(&folder.file("model-1.safetensors")), open(&folder.file("model-2.safetensors")));
    let shards = [(&first, "model-1.safetensors"), (&second, "model-2.safetensors")];
    let entries: Vec<(&str, &str, u64)> = shards
        .iter()
        .flat_map(|(shard, file)| shard.checkpoint().tensors().map(|t| (t.name(), *file, t.bytes().len() as u64)))
        .filter(|(name, ..)| !niwaki_tensors::is_pad(name))
        .collect();
    write_index(&folder.file(""), entries, Overwrite::Refuse).unwrap();
    let artifact = open(&folder.file(""));
    assert_eq!(artifact.tensors().len(), forms().len());
    assert_eq!((artifact.metas().len(), artifact.get("elastic").unwrap().shard()), (2, 1));
    assert_ne!(artifact.digest(), first.digest());
    let faults = niwaki_container::verify(&artifact, 3).faults;
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn an_artifact_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Artifact>();
    shared::<niwaki_container::Decoder<'_>>();
}

#[test]
fn a_missing_file_is_the_error_of_the_tensors_crate() {
    let folder = Folder::new();
    let error = Artifact::open(&folder.file("none.safetensors"), &Limits::default()).unwrap_err();
    assert!(error.to_string().ends_with("none.safetensors`: does not exist"), "{error}");
    assert_eq!(error.path(), Some(folder.file("none.safetensors").as_path()));
}
