//! Which pages of a file a narrow width brings in.

use std::fs;
use std::path::Path;

use niwaki_codes::Bits;
use niwaki_codes::simd::Level;
use niwaki_container::{Artifact, Layout, Placement};
use niwaki_tensors::Dtype;

use crate::made::{Folder, layout, open, write};

/// Linux maps the cached neighbours of a page that is touched, in aligned windows of this size.
const WINDOW: u64 = 64 << 10;

/// Bytes of the mapped file that are resident in this process.
fn resident(path: &Path) -> u64 {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut mapping = smaps.lines().skip_while(|line| !line.ends_with(path.to_str().unwrap()));
    let line = mapping.find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn decode_all(artifact: &Artifact, bits: Bits) {
    let mut row = vec![0.0; 4096];
    for tensor in artifact.tensors() {
        let (rows, cols) = tensor.matrix();
        let decoder = tensor.at(Some(bits)).unwrap();
        for r in 0..rows {
            decoder.dequantize_rows(Level::best(), r..r + 1, &mut row[..cols]).unwrap();
        }
    }
}

#[test]
fn a_width_touches_its_prefix_and_nothing_behind_it() {
    let folder = Folder::new();
    let path = folder.file("wide.safetensors");
    let tensors: Vec<(&str, Layout)> = vec![
        ("a", layout(Dtype::F32, &[256, 4096], "elastic/g64", None)),
        ("b", layout(Dtype::F32, &[192, 4096], "elastic/g64", None)),
        ("c", layout(Dtype::F32, &[64, 2000], "elastic/g64/2,4,8", None)),
    ];
    write(&path, &tensors, 1);
    let mut before = 0;
    for bits in [2, 4, 8].map(|bits| Bits::new(bits).unwrap()) {
        // A mapping of its own for each width, with nothing in it yet but the header.
        let artifact = open(&path);
        let start = artifact.checkpoint().shards()[0].data_start() as u64;
        assert!(resident(&path) <= start.next_multiple_of(WINDOW));
        decode_all(&artifact, bits);
        let placement = Placement::new(artifact.tensors().map(|t| (t.name(), *t.layout()))).unwrap();
        let (prefix, has) = (start + placement.prefix_bytes(bits), resident(&path));
        assert!(has <= prefix.next_multiple_of(WINDOW), "{bits} bits: {has} bytes resident, {prefix} in the prefix");
        // Each further width adds hundreds of kilobytes of planes, so the measure must grow.
        assert!(has >= before + (100 << 10) && has >= prefix / 2, "{bits} bits: {has} bytes resident");
        before = has;
    }
}
