//! Containers of random but valid contents, the same for the same seed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use niwaki_codes::simd::Level;
use niwaki_codes::{
    Bits, BlockType, BlockView, Float, Grouping, Scheme, Shape, Symmetry, Uniform, half_floats::f32_to_f16, positions,
};
use niwaki_container::{Artifact, Digest, Kept, Layout, META_KEY, Meta, Part, PartSpec, Placement, Slot, TensorMeta};
use niwaki_tensors::{Dtype, Limits, Overwrite, Writer, metadata_len};

/// A stream of numbers: splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    /// A float of 11 significant bits, so that F16 and BF16 sources round and F32 do not.
    fn float(&mut self) -> f32 {
        let mantissa = self.below(2048) as f32 - 1024.0;
        mantissa * 2f32.powi(self.below(12) as i32 - 12)
    }
}

/// A folder that is removed with its contents.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("niwaki-container-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The layout of a tensor; scheme `dense` for none. A mask tells what is kept.
pub(crate) fn layout(dtype: Dtype, dims: &[usize], scheme: &str, kept: Option<usize>) -> Layout {
    let scheme = (scheme != "dense").then(|| scheme.parse().unwrap());
    Layout { dtype, shape: Shape::new(dims).unwrap(), scheme, kept: kept.map(Kept::by_mask) }
}

/// The layout of a tensor whose kept weights are told by their positions.
pub(crate) fn listed(dtype: Dtype, dims: &[usize], scheme: &str, kept: usize) -> Layout {
    Layout { kept: Some(Kept::by_positions(kept)), ..layout(dtype, dims, scheme, None) }
}

/// Writes a container of the given tensors with contents from `seed`.
pub(crate) fn write(path: &Path, tensors: &[(&str, Layout)], seed: u64) {
    let mut random = Random(seed);
    let parts: BTreeMap<String, Vec<u8>> = tensors
        .iter()
        .flat_map(|(name, layout)| {
            let specs = layout.parts().unwrap();
            specs
                .into_iter()
                .map(|spec| (spec.part.name(name), contents(layout, &spec, &mut random)))
                .collect::<Vec<_>>()
        })
        .collect();
    write_parts(path, tensors, &parts, |_| ());
}

/// Writes a container of the given parts, the metadata changed by `edit`.
pub(crate) fn write_parts(
    path: &Path,
    tensors: &[(&str, Layout)],
    parts: &BTreeMap<String, Vec<u8>>,
    edit: impl FnOnce(&mut Meta),
) {
    let metas = tensors.iter().map(|(name, layout)| {
        let specs = layout.parts().unwrap();
        let hashes: Vec<_> = specs.iter().map(|spec| (spec.part, Digest::of(&parts[&spec.part.name(name)]))).collect();
        let source = (!layout.is_plain()).then(|| Digest::of(name.as_bytes()));
        ((*name).to_owned(), TensorMeta::new(*layout, &hashes, source).unwrap())
    });
    let mut meta = Meta::new(metas.collect()).with_recipe("version = 1\n");
    meta.lineage.source = Some(Digest::of(b"source"));
    meta.report = serde_json::json!({"bits_per_weight": 4.5});
    meta.source_metadata.insert("format".to_owned(), "pt".to_owned());
    edit(&mut meta);
    let json = meta.to_json();
    let metadata = [(META_KEY, json.as_str())];

    let placement = Placement::new(tensors.iter().map(|(name, layout)| (*name, *layout))).unwrap();
    // The writer of the tensors crate puts the same pads between the same parts.
    let entries = || placement.entries().iter().filter(|entry| entry.slot != Slot::Pad);
    let layout = niwaki_tensors::Layout::new(entries().map(Into::into).collect(), metadata_len(&metadata)).unwrap();
    let data_start = layout.data_start();
    let writer = Writer::create(path, layout, Overwrite::Replace).unwrap();
    for (i, entry) in entries().enumerate() {
        assert_eq!(writer.layout().file_offset(i), Some(data_start + entry.offset), "{}", entry.name);
        writer.write_at(i, 0, &parts[&entry.name]).unwrap();
    }
    writer.finish(&metadata, false).unwrap();
}

/// Writes tensors in the given order, with pads between them.
pub(crate) fn write_padded(path: &Path, tensors: &[(&str, Dtype, &[usize], &[u8])], metadata: &[(&str, &str)]) {
    let entry = |(name, dtype, shape, _): &(&str, Dtype, &[usize], &[u8])| niwaki_tensors::Entry {
        name: (*name).to_owned(),
        dtype: *dtype,
        shape: shape.to_vec(),
    };
    let layout = niwaki_tensors::Layout::new(tensors.iter().map(entry).collect(), metadata_len(metadata)).unwrap();
    let writer = Writer::create(path, layout, Overwrite::Replace).unwrap();
    for (i, (.., bytes)) in tensors.iter().enumerate() {
        writer.write_at(i, 0, bytes).unwrap();
    }
    writer.finish(metadata, false).unwrap();
}

pub(crate) fn open(path: &Path) -> Artifact {
    Artifact::open(path, &Limits::default()).unwrap()
}

/// Every float tensor as F32: `NAME`, and for elastic ones `NAME@B` for each width.
pub(crate) fn decoded(artifact: &Artifact, level: Level) -> BTreeMap<String, Vec<f32>> {
    let mut all = BTreeMap::new();
    for tensor in artifact.tensors().filter(|t| niwaki_tensors::decodes_to_f32(t.dtype())) {
        let widths: Vec<Option<Bits>> = match tensor.widths() {
            Some(widths) => widths.iter().map(Some).collect(),
            None => vec![None],
        };
        for width in widths {
            let (rows, cols) = tensor.matrix();
            let mut out = vec![f32::NAN; rows * cols];
            tensor.dequantize_rows(level, width, 0..rows, &mut out).unwrap();
            let name = width.map_or(tensor.name().to_owned(), |width| format!("{}@{width}", tensor.name()));
            all.insert(name, out);
        }
    }
    all
}

/// Random bytes that an encoder could have written.
fn contents(layout: &Layout, spec: &PartSpec, random: &mut Random) -> Vec<u8> {
    let (rows, cols) = layout.matrix();
    let streams = |n: usize| layout.kept.map_or((rows, n), |kept| (1, kept.weights));
    match (spec.part, layout.scheme) {
        (Part::Whole | Part::Values, _) => elements(spec.dtype, spec.shape.elements(), random),
        (Part::Mask, _) => mask(rows, cols, layout.kept.unwrap().weights, random),
        (Part::Positions, _) => {
            let (kept, mut out) = (layout.kept.unwrap().weights, vec![0; spec.bytes]);
            let bits = mask(1, rows * cols, kept, random);
            let places = (0..rows * cols).filter(|i| bits[i / 8] >> (i % 8) & 1 == 1);
            positions::encode(rows * cols, kept, places, &mut out).unwrap();
            out
        }
        (Part::Codes, Some(Scheme::Uniform(uniform))) => packed(streams(cols), uniform.bits.get() as usize, random),
        (Part::Codes, Some(Scheme::Block(kind))) => {
            (0..rows * cols / kind.elements()).flat_map(|_| block(kind, random)).collect()
        }
        (Part::Codes, Some(Scheme::Float(Float::Fp8E4m3(_)))) => e4m3(spec.bytes, random),
        (Part::Codes, Some(Scheme::Float(_))) => packed(streams(cols), 4, random),
        (Part::Scales, Some(Scheme::Float(_))) if spec.dtype == Dtype::F8_E4M3 => e4m3(spec.bytes, random),
        (Part::Scales, Some(Scheme::Float(_))) => {
            (0..spec.bytes / 4).flat_map(|_| (random.float() * 1.1).to_le_bytes()).collect()
        }
        (Part::Factor, _) => (random.float().abs() * 1.1 + 0.1).to_le_bytes().to_vec(),
        (Part::Scales, Some(Scheme::Uniform(uniform))) => scales(&uniform, spec, random),
        (Part::Zeros, Some(Scheme::Uniform(u))) => {
            (0..spec.bytes).map(|_| random.byte() % u.bits.levels().min(255) as u8).collect()
        }
        (Part::Base, _) => (0..spec.bytes / 2).flat_map(|_| f32_to_f16(random.float()).to_le_bytes()).collect(),
        (Part::Fix(_), _) => (0..spec.bytes).map(|_| random.byte()).collect(),
        (Part::Plane(_), _) => packed(streams(cols), 1, random),
        (part, scheme) => panic!("no contents for {part} of {scheme:?}"),
    }
}

/// So many e4m3 that are numbers.
fn e4m3(n: usize, random: &mut Random) -> Vec<u8> {
    (0..n).map(|_| random.byte()).map(|code| if code & 0x7F == 0x7F { code ^ 1 } else { code }).collect()
}

/// A block of random bytes with finite scales.
fn block(kind: BlockType, random: &mut Random) -> Vec<u8> {
    loop {
        let bytes: Vec<u8> = (0..kind.bytes()).map(|_| random.byte()).collect();
        let view = BlockView::new(kind, 1, kind.elements(), &bytes).unwrap();
        let mut floats = vec![0.0; kind.elements()];
        view.dequantize_rows(Level::Scalar, 0..1, &mut floats).unwrap();
        if view.check().is_ok() && floats.iter().all(|x| x.is_finite()) {
            return bytes;
        }
    }
}

fn elements(dtype: Dtype, n: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..n {
        let x = random.float();
        match dtype {
            Dtype::F64 => bytes.extend((f64::from(x) * 1.000_000_1).to_le_bytes()),
            Dtype::F32 => bytes.extend(x.to_le_bytes()),
            Dtype::F16 => bytes.extend(f32_to_f16(x).to_le_bytes()),
            Dtype::BF16 => bytes.extend(((x.to_bits() >> 16) as u16).to_le_bytes()),
            other => bytes.extend((0..other.bitsize() / 8).map(|_| random.byte() & 1)),
        }
    }
    bytes
}

fn scales(uniform: &Uniform, spec: &PartSpec, random: &mut Random) -> Vec<u8> {
    let positive = uniform.symmetry == Symmetry::Affine;
    let groups = matches!(uniform.grouping, Grouping::Group(_)) && spec.dtype == Dtype::F16;
    let one = |random: &mut Random| if positive { random.float().abs() } else { random.float() };
    let scales = (0..spec.shape.elements()).map(|_| one(random));
    if groups {
        scales.flat_map(|x| f32_to_f16(x).to_le_bytes()).collect()
    } else {
        scales.flat_map(|x| (x * 1.1).to_le_bytes()).collect()
    }
}

/// So many streams of `n` random codes of `bits`, padding clear.
fn packed((streams, n): (usize, usize), bits: usize, random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..streams {
        let mut stream: Vec<u8> = (0..(n * bits).div_ceil(8)).map(|_| random.byte()).collect();
        if let (Some(last), used @ 1..) = (stream.last_mut(), n * bits % 8) {
            *last &= (1 << used) - 1;
        }
        out.extend(stream);
    }
    out
}

/// A mask that keeps `kept` weights, drawn without replacement.
fn mask(rows: usize, cols: usize, kept: usize, random: &mut Random) -> Vec<u8> {
    let (mut left, mut out) = (kept, vec![0; rows * cols.div_ceil(8)]);
    for i in 0..rows * cols {
        if random.below(rows * cols - i) < left {
            out[i / cols * cols.div_ceil(8) + i % cols / 8] |= 1 << (i % cols % 8);
            left -= 1;
        }
    }
    out
}
