//! Every seed, and 10,000 mutations of the seeds, through every target.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use niwaki_fuzz::mutate::{Random, mutation};
use niwaki_fuzz::{TARGETS, Target};

const MUTATIONS: usize = 10_000;

fn here(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// File and folder names without their extension, in order.
fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = files.map(|file| file.expect("a readable folder").path());
    let stem = |path: PathBuf| path.file_stem().and_then(|name| name.to_str()).map(str::to_owned);
    let mut names: Vec<_> = paths.filter_map(stem).collect();
    names.sort();
    names
}

/// The seeds of a target by file name.
fn seeds(target: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = here("corpus").join(target);
    let bytes = |name: &String| fs::read(folder.join(name)).expect("a readable seed");
    names(&folder).into_iter().map(|name| (name.clone(), bytes(&name))).collect()
}

/// The first input that makes the target panic.
fn first_crash(target: Target, seeds: &[Vec<u8>]) -> Option<Vec<u8>> {
    let survives = |bytes: &[u8]| panic::catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))).is_ok();
    let mut random = Random::new(target.name.bytes().fold(0, |seed: u64, b| seed.wrapping_mul(31) + u64::from(b)));
    let mutations = std::iter::repeat_with(|| mutation(seeds, &mut random)).take(MUTATIONS);
    [Vec::new()].into_iter().chain(seeds.iter().cloned()).chain(mutations).find(|bytes| !survives(bytes))
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let seeds = seeds(name);
    if let Some(bytes) = first_crash(*target, &seeds.values().cloned().collect::<Vec<_>>()) {
        panic!("`{name}` panics at b\"{}\"", bytes.escape_ascii());
    }
    for (seed, bytes) in &seeds {
        assert_eq!((target.run)(bytes), !seed.starts_with("bad-"), "`{name}` accepts `{seed}`");
    }
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )*

        /// The targets that are replayed here.
        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
    };
}
replays!(
    block_view container_meta correction_stream dataset_file device_image elastic_file elastic_view float_view foreign_checkpoint gguf_folder gguf_header heads_file hf_config idx_file imatrix_dat mask_file mask_view onnx_model picture_file positions_view public_key_pem recipe_text report_answer safetensors_header safetensors_index scheme_text signature_about sparse_view stats_file training_state undo_record uniform_view
);

#[test]
fn each_target_has_a_program_seeds_and_a_replay() {
    let targets: Vec<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(targets, REPLAYED);
    assert_eq!(targets, names(&here("fuzz_targets")));
    assert_eq!(targets, names(&here("corpus")));
    for target in &targets {
        let program = fs::read_to_string(here("fuzz_targets").join(format!("{target}.rs"))).unwrap();
        assert!(program.contains(&format!("niwaki_fuzz::{target}(bytes)")), "{target}.rs calls another target");
        assert!(seeds(target).len() >= 3, "`{target}` has few seeds");
    }
}

#[test]
fn mutations_repeat_and_differ() {
    let seeds = vec![b"int4/g64/sym".to_vec(), b"elastic/g64/2,4".to_vec()];
    let some = |seed| {
        let mut random = Random::new(seed);
        (0..1000).map(|_| mutation(&seeds, &mut random)).collect::<Vec<_>>()
    };
    assert_eq!(some(1), some(1));
    assert_ne!(some(1), some(2));
    assert!(some(1).into_iter().collect::<BTreeSet<_>>().len() > 500);
}

#[test]
fn a_target_that_panics_is_caught() {
    fn fragile(bytes: &[u8]) -> bool {
        assert!(!bytes.contains(&b'7'), "a planted panic");
        true
    }
    let quiet = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let crash = first_crash(Target { name: "fragile", run: fragile }, &[b"int4/g64/sym".to_vec()]);
    panic::set_hook(quiet);
    assert!(crash.unwrap().contains(&b'7'));
}
