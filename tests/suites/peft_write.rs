//! LoRA adapters: what is written, and what PEFT itself reads and writes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use niwaki_conformance::adapters::{CONFIG, WEIGHTS, all, product};
use niwaki_conformance::checkpoints::{Tensor, bf16s, f32s, weights, write as write_tensors};
use niwaki_conformance::folder::{Folder, repository};
use niwaki_engine::signature::peft::{Adapter, Layer, LowRank, Module, write};
use niwaki_engine::{Blame, Options};
use niwaki_tensors::{Checkpoint, Dtype, Limits};

/// A difference, owned.
struct Weight {
    tensor: &'static str,
    shape: Vec<usize>,
    layer: Layer,
    rank: usize,
    b: Vec<f32>,
    a: Vec<f32>,
}

impl Weight {
    fn module(&self) -> Module<'_> {
        let Self { tensor, shape, layer, rank, b, a } = self;
        Module { tensor, shape, layer: *layer, rank: *rank, b, a }
    }
}

/// Modules of several kinds and ranks, sorted by name.
struct Made(Vec<Weight>);

impl Made {
    fn new(modules: &[(&'static str, &[usize], Layer, usize)]) -> Self {
        let mut seed = 0;
        let mut factor = |elements: usize| {
            seed += 1;
            weights(seed, elements)
        };
        let one = |(tensor, shape, layer, rank): &(&'static str, &[usize], Layer, usize)| {
            let (b, a) = (factor(shape[0] * rank), factor(rank * shape[1..].iter().product::<usize>()));
            Weight { tensor, shape: shape.to_vec(), layer: *layer, rank: *rank, b, a }
        };
        Self(modules.iter().map(one).collect())
    }

    /// A convolution, an embedding and linear layers, of one rank or several.
    fn mixed(ranks: [usize; 4]) -> Self {
        Self::new(&[
            ("m.conv.weight", &[5, 3, 2, 3], Layer::Linear, ranks[0]),
            ("m.emb.weight", &[9, 6], Layer::Embedding, ranks[1]),
            ("m.layers.0.q.weight", &[6, 5], Layer::Linear, ranks[2]),
            // Its name is the end of the one before.
            ("q.weight", &[7, 4], Layer::Linear, ranks[3]),
        ])
    }

    fn modules(&self) -> Vec<Module<'_>> {
        self.0.iter().map(Weight::module).collect()
    }

    /// The difference of each tensor.
    fn differences(&self) -> BTreeMap<&str, Vec<f32>> {
        let size = |w: &Weight| (w.shape[0], w.rank, w.shape[1..].iter().product());
        self.0.iter().map(|w| (w.tensor, product(&w.b, &w.a, size(w), 1.0))).collect()
    }
}

fn write_to(folder: &Folder, made: &Made, dtype: Dtype) -> String {
    let out = folder.at("out");
    let bytes = write(out.as_ref(), &made.modules(), dtype, &Options::default()).unwrap();
    assert_eq!(bytes, std::fs::metadata(Path::new(&out).join(WEIGHTS)).unwrap().len());
    out
}

#[test]
fn what_is_written_reads_back() {
    let transposed =
        Made::new(&[("a.weight", &[3, 5], Layer::Transposed, 2), ("b.weight", &[4, 4], Layer::Transposed, 2)]);
    for made in [Made::mixed([2, 2, 2, 2]), Made::mixed([3, 2, 4, 1]), transposed] {
        let folder = Folder::new("peft");
        let out = write_to(&folder, &made, Dtype::F32);
        let adapter = Adapter::open(out.as_ref(), &Limits::default()).unwrap();
        let found: BTreeMap<&str, Vec<f32>> = adapter.differences().iter().map(|d| (d.tensor(), all(d, 2))).collect();
        assert_eq!(found, made.differences());
        for (difference, Weight { shape, .. }) in adapter.differences().iter().zip(&made.0) {
            assert_eq!((difference.shape().dims(), difference.scaling()), (&**shape, 1.0));
        }
        assert!(
            Checkpoint::open(&out, &Limits::default())
                .unwrap()
                .tensors()
                .all(|view| view.name().starts_with("base_model"))
        );
    }
}

#[test]
fn narrow_factors_are_the_nearest() {
    let (folder, made) = (Folder::new("peft"), Made::mixed([2, 2, 2, 2]));
    let out = write_to(&folder, &made, Dtype::BF16);
    let checkpoint = Checkpoint::open(&out, &Limits::default()).unwrap();
    let stored = checkpoint.get("base_model.model.q.lora_B.weight").unwrap();
    assert_eq!((stored.dtype(), stored.shape()), (Dtype::BF16, &[7, 2][..]));
    assert_eq!(stored.bytes(), bf16s(&made.0[3].b));
}

#[test]
fn the_configuration_is_the_one_that_is_expected() {
    let (folder, made) = (Folder::new("peft"), Made::mixed([3, 3, 3, 2]));
    let out = write_to(&folder, &made, Dtype::F32);
    let pattern = r#"{
    "m.layers.0.q": 3,
    "m.conv": 3,
    "m.emb": 3,
    "q": 2
  }"#;
    let expected = r#"{
  "alpha_pattern": PATTERN,
  "base_model_name_or_path": null,
  "bias": "none",
  "fan_in_fan_out": false,
  "inference_mode": true,
  "init_lora_weights": true,
  "lora_alpha": 3,
  "lora_dropout": 0.0,
  "modules_to_save": null,
  "peft_type": "LORA",
  "r": 3,
  "rank_pattern": PATTERN,
  "target_modules": [
    "m.conv",
    "m.emb",
    "m.layers.0.q",
    "q"
  ],
  "task_type": null
}
"#
    .replace("PATTERN", pattern);
    assert_eq!(std::fs::read_to_string(Path::new(&out).join(CONFIG)).unwrap(), expected);
}

#[test]
fn the_order_of_modules_does_not_matter() {
    let (one, other, made) = (Folder::new("peft"), Folder::new("peft"), Made::mixed([3, 3, 3, 2]));
    let first = write_to(&one, &made, Dtype::F32);
    let mut modules = made.modules();
    modules.reverse();
    let options = Options { threads: 1, durable: true, ..Options::default() };
    write(other.at("out").as_ref(), &modules, Dtype::F32, &options).unwrap();
    for name in [CONFIG, WEIGHTS] {
        let bytes = |out: &str| std::fs::read(Path::new(out).join(name)).unwrap();
        assert_eq!(bytes(&first), bytes(&other.at("out")));
    }
}

#[test]
fn modules_that_no_adapter_holds_are_refused() {
    let folder = Folder::new("peft");
    let (b, a) = (weights(1, 6), weights(2, 8));
    let good = Module { tensor: "q.weight", shape: &[3, 4], layer: Layer::Linear, rank: 2, b: &b, a: &a };
    let huge = [f32::MAX; 6];
    let cases: [(&[Module<'_>], Dtype, &str); 10] = [
        (&[], Dtype::F32, "no module to write"),
        (&[good, good], Dtype::F32, "tensor `q.weight`: stands twice"),
        (&[good], Dtype::F16, "factors in F16; they are F32 or BF16"),
        (&[Module { tensor: "q.bias", ..good }], Dtype::F32, "whose names end in `.weight`"),
        (&[Module { tensor: ".weight", ..good }], Dtype::F32, "whose names end in `.weight`"),
        (&[Module { shape: &[12], ..good }], Dtype::F32, "a difference of 12 of rank 2 has no place"),
        (&[Module { rank: 0, ..good }], Dtype::F32, "of rank 0 has no place"),
        (&[Module { rank: 1, ..good }], Dtype::F32, "`B` has 6 elements; rank 1 of 3x4 needs 1x3"),
        (
            &[good, Module { tensor: "k.weight", layer: Layer::Transposed, ..good }],
            Dtype::F32,
            "`k` stores its weight transposed, `q` does not; an adapter has one setting for both",
        ),
        (&[Module { b: &huge, ..good }], Dtype::BF16, "element 0 of a stored factor is beyond BF16"),
    ];
    for (modules, dtype, expected) in cases {
        let error = write(folder.at("out").as_ref(), modules, dtype, &Options::default()).unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert_eq!(error.blame(), Blame::Caller);
        // Nothing half-written stays.
        assert_eq!(folder.names(), [""; 0], "{expected}");
    }
}

#[test]
fn what_stands_there_is_not_overwritten() {
    let (folder, made) = (Folder::new("peft"), Made::mixed([2, 2, 2, 2]));
    let out = write_to(&folder, &made, Dtype::F32);
    let read = |name: &str| std::fs::read(Path::new(&out).join(name)).unwrap();
    let before = (read(CONFIG), read(WEIGHTS));
    let other = Made::mixed([1, 1, 1, 3]);
    let attempt =
        |replace: bool| write(out.as_ref(), &other.modules(), Dtype::F32, &Options { replace, ..Options::default() });
    let error = attempt(false).unwrap_err();
    assert!(error.to_string().ends_with("`: exists"), "{error}");
    assert_eq!((read(CONFIG), read(WEIGHTS)), before);

    std::fs::write(Path::new(&out).join("other.safetensors"), "").unwrap();
    let error = attempt(true).unwrap_err();
    assert!(error.to_string().contains("holds `other.safetensors`"), "{error}");
    assert_eq!((read(CONFIG), read(WEIGHTS)), before);

    std::fs::remove_file(Path::new(&out).join("other.safetensors")).unwrap();
    attempt(true).unwrap();
    let adapter = Adapter::open(out.as_ref(), &Limits::default()).unwrap();
    assert_eq!(adapter.differences().iter().map(LowRank::rank).collect::<Vec<_>>(), [1, 1, 1, 3]);
    let mut names: Vec<_> = std::fs::read_dir(&out).unwrap().map(|item| item.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [CONFIG, WEIGHTS]);

    let file = folder.at("file");
    std::fs::write(&file, "mine").unwrap();
    let options = Options { replace: true, ..Options::default() };
    assert!(write(file.as_ref(), &made.modules(), Dtype::F32, &options).is_err());
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
}

/// What the script says, or why PEFT is not asked.
fn peft(verb: &str, folders: &[String]) -> Result<String, String> {
    let python = std::env::var("NIWAKI_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = repository().join("tests/scripts/peft_adapters.py");
    let output = Command::new(&python).arg(script).arg(verb).args(folders).output();
    let Some(output) = output.ok().filter(|output| output.status.code() != Some(77)) else {
        return Err(format!("skipped: {python} with torch and peft is not installed"));
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

#[test]
fn peft_merges_what_is_written() {
    let transposed = Made::new(&[("a.weight", &[3, 5], Layer::Transposed, 2)]);
    let all = [Made::mixed([2, 2, 2, 2]), Made::mixed([3, 2, 4, 1]), transposed].map(|made| {
        let folder = Folder::new("peft");
        let out = write_to(&folder, &made, Dtype::F32);
        let differences = made.differences();
        let stored: Vec<Tensor<'_>> =
            made.0.iter().map(|w| (w.tensor, "F32", &*w.shape, f32s(&differences[w.tensor]))).collect();
        write_tensors(folder.at("differences.safetensors"), &stored);
        (folder, out)
    });
    let said = match peft("merge", &all.each_ref().map(|(_, out)| out.clone())) {
        Ok(said) => said,
        Err(why) => return println!("{why}"),
    };
    assert_eq!(said, "4 tensors: same\n4 tensors: same\n1 tensors: same\n");
}

#[test]
fn what_peft_writes_is_read() {
    let folder = Folder::new("peft");
    let said = match peft("make", &[folder.path().to_string_lossy().into_owned()]) {
        Ok(said) => said,
        Err(why) => return println!("{why}"),
    };
    let mut compared = 0;
    for name in folder.names() {
        let adapter = Adapter::open(Path::new(&folder.at(&name)).join(WEIGHTS).as_ref(), &Limits::default()).unwrap();
        let merged = Path::new(&folder.at(&name)).join("differences.safetensors");
        let merged = Checkpoint::open(merged, &Limits::default()).unwrap();
        for view in merged.tensors() {
            let mut expected = vec![0.0; view.elements()];
            view.decode_f32(0..expected.len(), &mut expected).unwrap();
            let mut found = vec![0.0; expected.len()];
            if let Some((_, whole)) = adapter.replaced().find(|(tensor, _)| *tensor == view.name()) {
                whole.decode_f32(0..found.len(), &mut found).unwrap();
            }
            if let Some(difference) = adapter.differences().iter().find(|d| d.tensor() == view.name()) {
                assert_eq!(difference.shape().dims(), view.shape(), "{name} {}", view.name());
                found.iter_mut().zip(all(difference, 3)).for_each(|(found, x)| *found += x);
            }
            let largest = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() <= 1e-6 * largest, "{name} {}: {found} {expected}", view.name());
            }
            compared += 1;
        }
        let known = adapter.differences().len() + adapter.replaced().count();
        assert_eq!(known, merged.len(), "{name}");
    }
    assert!(said.ends_with("made linear, patterns, embedding, transposed, bias, whole\n"), "{said}");
    assert_eq!(compared, 17);
}
