//! Narrower containers cut from wider ones.

use niwaki_codes::Bits;
use niwaki_codes::simd::Level;
use niwaki_container::{Artifact, Blame, ErrorKind, Layout, Placement, slice, verify};
use niwaki_tensors::{Dtype, Overwrite, write_file};

use crate::made::{Folder, decoded, layout, listed, open, write};

fn bits(n: u32) -> Bits {
    Bits::new(n).unwrap()
}

fn tensors() -> Vec<(&'static str, Layout)> {
    vec![
        ("e", layout(Dtype::F32, &[3, 50], "elastic/g8", None)),
        ("b", layout(Dtype::F32, &[3], "dense", None)),
        ("u", layout(Dtype::F32, &[3, 50], "int3/g4/affine", None)),
        ("f", layout(Dtype::BF16, &[3, 50], "elastic/g16/2,4,6", None)),
        ("m", layout(Dtype::F32, &[3, 50], "elastic/g8/2,3,4,6,7", Some(70))),
        ("p", listed(Dtype::F32, &[3, 50], "elastic/g8/2,4,6", 7)),
        ("q", layout(Dtype::F32, &[3, 64], "q4_1", None)),
        ("n", layout(Dtype::F32, &[3, 50], "nvfp4", None)),
        ("ids", layout(Dtype::I64, &[2], "dense", None)),
    ]
}

#[test]
fn a_slice_verifies_and_decodes_as_before_at_each_width() {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 9);
    let wide = open(&folder.file("a"));
    let before = decoded(&wide, Level::best());
    for width in [2, 4, 6] {
        let path = folder.file("cut");
        let cut = slice(&wide, bits(width), &path, Overwrite::Replace).unwrap();
        let narrow = open(&path);
        let faults = verify(&narrow, 1).faults;
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(narrow.digest(), Some(cut.digest));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), cut.output_bytes);
        let after = decoded(&narrow, Level::best());
        let kept = |name: &str| name.split_once('@').is_none_or(|(_, at)| at.parse::<u32>().unwrap() <= width);
        let expected: Vec<_> = before.iter().filter(|(name, _)| kept(name)).collect();
        assert!(after.iter().eq(expected.iter().copied()), "width {width}");
        assert_eq!(narrow.get("ids").unwrap().parts().next(), wide.get("ids").unwrap().parts().next());
        assert_eq!(narrow.metas()[0].lineage, wide.metas()[0].lineage);
        assert_eq!(narrow.metas()[0].report, wide.metas()[0].report);
    }
}

#[test]
fn the_data_of_a_slice_is_a_prefix_of_the_data() {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 9);
    let wide = open(&folder.file("a"));
    slice(&wide, bits(4), &folder.file("b"), Overwrite::Refuse).unwrap();
    let data = |artifact: &Artifact| {
        let shard = &artifact.checkpoint().shards()[0];
        shard.bytes()[shard.data_start()..].to_vec()
    };
    let (long, short) = (data(&wide), data(&open(&folder.file("b"))));
    assert!(long.starts_with(&short));
    let placement = Placement::new(wide.tensors().map(|t| (t.name(), *t.layout()))).unwrap();
    assert_eq!(short.len() as u64, placement.prefix_bytes(bits(4)));
    assert!(short.len() < long.len());
}

#[test]
fn slicing_twice_equals_slicing_once() {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 9);
    let cut = |from: &str, width, to: &str| {
        slice(&open(&folder.file(from)), bits(width), &folder.file(to), Overwrite::Refuse).unwrap();
        std::fs::read(folder.file(to)).unwrap()
    };
    cut("a", 6, "six");
    let (twice, once) = (cut("six", 2, "twice"), cut("a", 2, "once"));
    assert!(twice == once);
    assert!(cut("once", 2, "again") == once);
}

#[test]
fn what_cannot_be_cut_says_why() {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 9);
    let refuse = |name: &str, width, out: &str| {
        let error = slice(&open(&folder.file(name)), bits(width), &folder.file(out), Overwrite::Replace).unwrap_err();
        assert_eq!(error.blame(), Blame::Caller, "{error}");
        error
    };
    let width = refuse("a", 3, "b");
    assert_eq!(width.to_string(), "tensor `f`: width 3 is not served; served: 2,4,6");
    assert!(matches!(refuse("a", 2, "a").kind(), ErrorKind::OntoItself));
    write(&folder.file("flat"), &tensors()[1..3], 9);
    assert!(matches!(refuse("flat", 2, "b").kind(), ErrorKind::NotElastic));
    write_file(&folder.file("plain"), &[("w", Dtype::F32, &[1], &[0; 4])], &[], Overwrite::Refuse).unwrap();
    assert!(matches!(refuse("plain", 2, "b").kind(), ErrorKind::NotOurs));
    assert!(!folder.file("b").exists());
}

#[test]
fn an_output_that_exists_stays_unless_it_may_be_replaced() {
    let folder = Folder::new();
    write(&folder.file("a"), &tensors(), 9);
    std::fs::write(folder.file("b"), "old").unwrap();
    let artifact = open(&folder.file("a"));
    assert!(slice(&artifact, bits(2), &folder.file("b"), Overwrite::Refuse).is_err());
    assert_eq!(std::fs::read(folder.file("b")).unwrap(), b"old");
    slice(&artifact, bits(2), &folder.file("b"), Overwrite::Replace).unwrap();
    assert!(verify(&open(&folder.file("b")), 1).faults.is_empty());
}
