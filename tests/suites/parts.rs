//! A job that is split into parts: the joined output has every byte of the run that was not
//! split, and parts that do not belong together are refused by name.
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use niwaki_conformance::checkpoints::{bf16s, f32s, weights, write};
use niwaki_conformance::cli::niwaki;
use niwaki_conformance::folder::{Folder, fashion, repository};
use niwaki_conformance::random::Random;

/// Writes all `n` parts of a job into `dir`, the last first: no order is asked for.
fn parts(from: &str, dir: &str, n: usize, more: &[&str]) {
    for i in (1..=n).rev() {
        let part = format!("{i}/{n}");
        let args = ["compress", from, "-o", dir, "--part", &part];
        let answer = niwaki(args.iter().chain(more)).ok().out;
        assert!(answer.contains(&format!("wrote {dir}/model-{i:05}-of-{n:05}.safetensors, part {i}/{n}, ")));
    }
}

/// The bytes of the run that is not split.
fn one(from: &str, folder: &Folder, more: &[&str]) -> Vec<u8> {
    let out = folder.at("one.safetensors");
    niwaki(["compress", from, "-o", &out, "--force"].iter().chain(more)).ok();
    std::fs::read(out).unwrap()
}

fn many_tensors(path: &str) {
    let floats = |seed, n| f32s(&weights(seed, n));
    write(
        path,
        &[
            ("a.weight", "F32", &[40, 70], floats(1, 2800)),
            ("b.weight", "BF16", &[33, 64], bf16s(&weights(2, 33 * 64))),
            ("none", "F32", &[0, 4], Vec::new()),
            ("c.bias", "F32", &[33], floats(3, 33)),
            ("d.weight", "F32", &[16, 3, 5, 5], floats(4, 1200)),
            ("steps", "I64", &[1], vec![7; 8]),
            ("e.weight", "F32", &[300, 64], floats(5, 19200)),
        ],
    );
}

#[test]
fn a_joined_file_has_every_byte_of_the_run_that_was_not_split() {
    let folder = Folder::new("parts");
    let (from, recipe) = (folder.at("in.safetensors"), folder.at("r.toml"));
    many_tensors(&from);
    let mask = "[[mask]]\ntensors = \"*.weight\"\npattern = { keep = 0.1 }\n";
    let codes = "[[quantize]]\ntensors = \"[ab].weight\"\nscheme = \"int4/g32/affine\"\nfit = \"lsq\"\n";
    std::fs::write(&recipe, format!("version = 1\n{codes}[[elastic]]\ntensors = \"e.*\"\n{mask}")).unwrap();
    for (k, args) in [
        ["--scheme", "int8/row/sym"],
        ["--scheme", "elastic/g48/2,4,7"],
        ["--scheme", "int5/tensor/affine"],
        ["-r", &recipe],
    ]
    .into_iter()
    .enumerate()
    {
        let whole = one(&from, &folder, &args);
        for n in [1, 2, 5, 9] {
            let (dir, out) = (folder.at(&format!("parts-{k}-{n}")), folder.at(&format!("{k}-{n}.safetensors")));
            parts(&from, &dir, n, &args);
            niwaki(["join", &dir, "-o", &out]).ok();
            assert!(std::fs::read(&out).unwrap() == whole, "{args:?} in {n} parts");
        }
    }
}

#[test]
fn parts_with_an_index_are_the_same_checkpoint() {
    let folder = Folder::new("parts");
    let (from, dir, whole) = (folder.at("in.safetensors"), folder.at("parts"), folder.at("one.safetensors"));
    many_tensors(&from);
    let scheme = ["--scheme", "int4/g32/sym"];
    one(&from, &folder, &scheme);
    parts(&from, &dir, 3, &scheme);
    let joined = niwaki(["join", &dir, "--json"]).ok().json();
    assert_eq!((joined["parts"].as_u64(), joined["tensors"].as_u64()), (Some(3), Some(7)));
    assert_eq!(joined["path"], format!("{dir}/model.safetensors.index.json"));
    let inspected = |path: &str| niwaki(["inspect", path, "--json"]).ok().json();
    let (parts, one) = (inspected(&dir), inspected(&whole));
    for key in ["digest", "source", "recipe", "parameters"] {
        assert_eq!(parts[key], one[key], "{key}");
    }
    assert_eq!(joined["digest"], one["digest"]);
    niwaki(["verify", &dir]).ok();
    for tensor in niwaki(["compare", &whole, &dir, "--json"]).ok().json()["tensors"].as_array().unwrap() {
        assert_eq!((tensor["sqnr_db"].as_f64(), tensor["max_abs"].as_f64()), (None, Some(0.0)), "{tensor}");
    }
    // What is decoded is the same file.
    let (a, b) = (folder.at("a.safetensors"), folder.at("b.safetensors"));
    niwaki(["export", &whole, "--to", "safetensors", "-o", &a]).ok();
    niwaki(["export", &dir, "--to", "safetensors", "-o", &b]).ok();
    niwaki(["compare", &a, &b, "--max-abs", "0"]).ok();
}

#[test]
fn a_folder_that_is_split_gets_its_other_files_once_and_is_a_model_again() {
    let folder = Folder::new("parts");
    let from = repository().join("tests/golden/hf/llama").to_string_lossy().into_owned();
    let (dir, whole, out) = (folder.at("parts"), folder.at("whole"), folder.at("joined"));
    niwaki(["compress", &from, "--scheme", "int8/row/sym", "-o", &whole]).ok();
    for i in ["2/2", "1/2"] {
        niwaki(["compress", &from, "--scheme", "int8/row/sym", "-o", &dir, "--part", i]).ok();
        assert_eq!(std::fs::exists(format!("{dir}/config.json")).unwrap(), i == "1/2", "after {i}");
    }
    niwaki(["join", &dir]).ok();
    niwaki(["join", &dir, "-o", &out]).ok();
    let names = |path: &str| {
        let mut names: Vec<_> = std::fs::read_dir(path).unwrap().map(|item| item.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&whole), names(&out));
    for name in names(&whole) {
        let read = |path: &str| std::fs::read(std::path::Path::new(path).join(&name)).unwrap();
        assert!(read(&whole) == read(&out), "{}", name.to_string_lossy());
    }
    niwaki(["inspect", &dir]).ok();
}

#[test]
fn shares_are_near_in_bytes_and_said_in_json() {
    let folder = Folder::new("parts");
    let dir = folder.at("parts");
    let mut before = Vec::new();
    for part in ["1/2", "2/2"] {
        let args = ["compress", &fashion(), "--scheme", "int4/row/sym", "-o", &dir, "--part", part, "--json"];
        let report = niwaki(args).ok().json();
        assert_eq!(report["part"], part);
        let tensors = report["tensors"].as_array().unwrap();
        before.push(tensors.iter().map(|t| t["bytes_before"].as_u64().unwrap()).sum::<u64>());
    }
    // Its largest tensor is nearly all of it, and stands alone.
    assert_eq!(before.iter().max(), Some(&(64 * 784 * 4)));
}

/// A folder with the three parts of a job.
fn three(folder: &Folder, name: &str) -> String {
    let (from, dir) = (folder.at("in.safetensors"), folder.at(name));
    many_tensors(&from);
    parts(&from, &dir, 3, &["--scheme", "int8/row/sym"]);
    dir
}

fn part(dir: &str, i: usize) -> String {
    format!("{dir}/model-{i:05}-of-00003.safetensors")
}

/// What `join` says of a folder in which something is wrong; it writes nothing then.
fn refused(dir: &str) -> String {
    let error = niwaki(["join", dir]).error().to_owned();
    assert!(!std::fs::exists(format!("{dir}/model.safetensors.index.json")).unwrap());
    let out = format!("{dir}-joined.safetensors");
    assert_eq!(niwaki(["join", dir, "-o", &out]).error(), error);
    assert!(!std::fs::exists(&out).unwrap() && !std::fs::exists(format!("{out}.niwaki-partial")).unwrap());
    error
}

#[test]
fn parts_that_are_missing_are_named() {
    let folder = Folder::new("parts");
    let dir = three(&folder, "parts");
    std::fs::remove_file(part(&dir, 2)).unwrap();
    assert_eq!(refused(&dir), format!("`{dir}`: lacks 1 of 3 parts: 2/3"));
    std::fs::write(part(&dir, 2) + ".niwaki-partial", b"").unwrap();
    assert!(niwaki(["join", &dir]).err.contains("hint: part 2/3 has begun and is not finished"));
    let empty = folder.at("empty");
    std::fs::create_dir(&empty).unwrap();
    assert_eq!(refused(&empty), format!("`{empty}`: holds no parts"));
    assert_eq!(niwaki(["join", &folder.at("nowhere")]).error(), format!("`{}`: does not exist", folder.at("nowhere")));
    let file = folder.at("in.safetensors");
    assert_eq!(niwaki(["join", &file]).error(), format!("`{file}`: is no folder"));
}

#[test]
fn parts_of_other_jobs_are_refused() {
    let folder = Folder::new("parts");
    let dir = three(&folder, "parts");
    let second = part(&dir, 2);
    let sound = std::fs::read(&second).unwrap();
    // Another recipe, other weights of the same shapes, another flag; and a copy of another part.
    let (other, made) = (folder.at("other.safetensors"), folder.at("made"));
    let mut bytes = std::fs::read(folder.at("in.safetensors")).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&other, bytes).unwrap();
    let from = folder.at("in.safetensors");
    let first = "`model-00001-of-00003.safetensors`";
    for (from, args, what) in [
        (&from, vec!["--scheme", "int4/row/sym"], "is by another recipe than"),
        (&other, vec!["--scheme", "int8/row/sym"], "is of another source than"),
    ] {
        let args = ["compress", from, "-o", &made, "--part", "2/3", "--force"].into_iter().chain(args);
        niwaki(args).ok();
        std::fs::copy(part(&made, 2), &second).unwrap();
        assert_eq!(refused(&dir), format!("`{second}`: {what} {first}"));
    }
    std::fs::copy(part(&dir, 1), &second).unwrap();
    assert_eq!(refused(&dir), format!("`{second}`: is part 1/3, and named like 2/3"));
    std::fs::copy(&from, &second).unwrap();
    assert_eq!(refused(&dir), format!("`{second}`: is no part of a job"));
    std::fs::write(&second, sound).unwrap();
    let stray = format!("{dir}/model-00001-of-00002.safetensors");
    std::fs::copy(part(&dir, 1), &stray).unwrap();
    let both = "`model-00001-of-00002.safetensors` and `model-00003-of-00003.safetensors`";
    assert_eq!(refused(&dir), format!("`{dir}`: holds parts of two jobs: {both}"));
    std::fs::remove_file(stray).unwrap();
    niwaki(["join", &dir]).ok();
}

#[test]
fn damaged_parts_are_refused_and_nothing_panics() {
    let folder = Folder::new("parts");
    let dir = three(&folder, "parts");
    let second = part(&dir, 2);
    let sound = std::fs::read(&second).unwrap();
    std::fs::write(&second, &sound[..sound.len() - 1]).unwrap();
    assert!(refused(&dir).starts_with(&format!("`{second}`: ")));
    let mut stained = sound.clone();
    *stained.last_mut().unwrap() ^= 1;
    std::fs::write(&second, &stained).unwrap();
    assert!(refused(&dir).starts_with(&format!("`{second}`: tensor `")), "{}", refused(&dir));
    // The header, where the lies would be.
    let header = sound.len().min(6000) as u64;
    let mut random = Random::new(15);
    for _ in 0..if cfg!(debug_assertions) { 300 } else { 10_000 } {
        let mut bytes = sound.clone();
        for _ in 0..=random.below(3) {
            bytes[random.below(header) as usize] = b"0123456789\"{}[],:abz \0\xff"[random.below(23) as usize];
        }
        std::fs::write(&second, &bytes).unwrap();
        let answer = niwaki(["join", &dir, "--force"]);
        // A digit in the report or in the room can be another one, and the part still be one.
        assert!(answer.code == 0 || answer.code == 2 && answer.err.starts_with("error: "), "{answer:?}");
    }
    std::fs::write(&second, sound).unwrap();
    niwaki(["join", &dir, "--force"]).ok();
}

#[test]
fn nothing_is_overwritten_and_a_part_can_be_done_again() {
    let folder = Folder::new("parts");
    let dir = three(&folder, "parts");
    let from = folder.at("in.safetensors");
    let again = ["compress", &from, "--scheme", "int8/row/sym", "-o", &dir, "--part", "2/3"];
    let before = std::fs::read(part(&dir, 2)).unwrap();
    assert_eq!(niwaki(again).error(), format!("`{}`: exists already", part(&dir, 2)));
    niwaki(again.iter().chain(&["--force"])).ok();
    assert!(std::fs::read(part(&dir, 2)).unwrap() == before);
    niwaki(["join", &dir]).ok();
    let index = format!("{dir}/model.safetensors.index.json");
    assert_eq!(niwaki(["join", &dir]).error(), format!("`{index}`: exists already"));
    let out = folder.at("out.safetensors");
    std::fs::write(&out, b"mine").unwrap();
    assert_eq!(niwaki(["join", &dir, "-o", &out]).error(), format!("`{out}`: exists already"));
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
    niwaki(["join", &dir, "-o", &out, "--force"]).ok();
    niwaki(["verify", &out]).ok();
}

/// A folder as the README's examples have it: a model, a recipe, and programs by their names.
#[cfg(unix)]
fn as_in_the_readme() -> Folder {
    let folder = Folder::new("parts");
    let model = folder.at("model");
    std::fs::create_dir_all(&model).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(repository().join("tests/golden/hf/llama").join(file), format!("{model}/{file}")).unwrap();
    }
    let recipe = "version = 1\n[[quantize]]\ntensors = \"*proj.weight\"\nscheme = \"int4/g32/sym\"\n";
    std::fs::write(folder.at("recipe.toml"), recipe).unwrap();
    std::fs::create_dir(folder.at("bin")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_niwaki-process"), folder.at("bin/niwaki")).unwrap();
    niwaki(["compress", &model, "-r", &folder.at("recipe.toml"), "-o", &folder.at("whole")]).ok();
    folder
}

/// Runs a program in that folder, with more variables than usual.
#[cfg(unix)]
fn in_it(folder: &Folder, program: &[&str], variables: &[(&str, String)]) {
    let path = format!("{}:{}", folder.at("bin"), std::env::var("PATH").unwrap());
    let mut command = std::process::Command::new(program[0]);
    command.args(&program[1..]).current_dir(folder.path()).env("PATH", path).envs(variables.iter().cloned());
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Whether what was joined is the output of one run.
#[cfg(unix)]
fn check_joined(folder: &Folder) {
    niwaki(["join", &folder.at("parts"), "-o", &folder.at("joined"), "--force"]).ok();
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(read("joined/model.safetensors") == read("whole/model.safetensors"));
    assert_eq!(read("joined/config.json"), read("whole/config.json"));
    std::fs::remove_dir_all(folder.at("parts")).unwrap();
}

#[cfg(unix)]
#[test]
fn the_examples_for_schedulers_do_what_they_say() {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let (_, page) = readme.split_once("\n## Several machines\n").unwrap();
    let block = |language| niwaki_conformance::transcript::block(page, language).unwrap();
    let folder = as_in_the_readme();
    let job = block("yaml");
    assert!(job.contains("completions: 8\n") && job.contains("completionMode: Indexed"));
    let line = job.lines().find_map(|line| line.trim().strip_prefix("- niwaki ")).unwrap();
    let line = format!("niwaki {line}").replace("/models", &folder.path().to_string_lossy());
    for index in 0..8 {
        in_it(&folder, &["sh", "-c", &line], &[("JOB_COMPLETION_INDEX", index.to_string())]);
    }
    check_joined(&folder);

    std::fs::write(folder.at("bin/srun"), "#!/bin/sh\nexec \"$@\"\n").unwrap();
    in_it(&folder, &["chmod", "+x", "bin/srun"], &[]);
    std::fs::write(folder.at("array.sh"), block("bash")).unwrap();
    assert!(block("bash").contains("#SBATCH --array=1-8\n"));
    for task in 1..=8 {
        let count = ("SLURM_ARRAY_TASK_COUNT", "8".to_owned());
        let cpus = ("SLURM_CPUS_PER_TASK", "4".to_owned());
        in_it(&folder, &["sh", "array.sh"], &[("SLURM_ARRAY_TASK_ID", task.to_string()), count, cpus]);
    }
    check_joined(&folder);

    let python = std::process::Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|done| done.status.success()) {
        println!("skipped: no python3");
        return;
    }
    // Ray itself is large: this has the names that the example uses.
    let ray = "class _Task:\n    def __init__(self, do):\n        self.remote = do\n\n\ndef init():\n    pass\n\n\n\
               def remote(**how):\n    return _Task\n\n\ndef get(all):\n    return all\n";
    std::fs::write(folder.at("ray.py"), ray).unwrap();
    std::fs::write(folder.at("job.py"), block("python")).unwrap();
    in_it(&folder, &["python3", "job.py"], &[]);
    assert!(Path::new(&folder.at("parts/model.safetensors.index.json")).exists());
    check_joined(&folder);
}

#[test]
fn parts_that_are_not_joined_yet_say_how_they_are() {
    let folder = Folder::new("parts");
    let dir = three(&folder, "parts");
    let answer = niwaki(["inspect", &dir]);
    assert!(answer.err.contains("hint: `niwaki join` makes one checkpoint of the parts of a job"), "{answer:?}");
}

/// A file of zeros that take no room on the disk, with a header of so many tensors of 25 million weights each.
#[cfg(unix)]
fn write_sparse(path: &str, count: usize) -> u64 {
    use std::os::unix::fs::MetadataExt;
    const BYTES: usize = 5120 * 5120 * 4;
    let entries = (0..count).map(|i| {
        let (from, to) = (i * BYTES, (i + 1) * BYTES);
        format!("\"layers.{i:04}.weight\":{{\"dtype\":\"F32\",\"shape\":[5120,5120],\"data_offsets\":[{from},{to}]}}")
    });
    let header = format!("{{{}}}", entries.collect::<Vec<_>>().join(","));
    std::fs::write(path, niwaki_conformance::checkpoints::file(&header, &[])).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() + (count * BYTES) as u64).unwrap();
    let meta = file.metadata().unwrap();
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks: the disk knows no sparse files", meta.blocks());
    meta.len()
}

#[cfg(unix)]
#[test]
fn a_checkpoint_of_100_gigabytes_is_planned_and_a_part_of_it_done() {
    let folder = Folder::new("parts");
    let (from, dir) = (folder.at("large.safetensors"), folder.at("parts"));
    let bytes = write_sparse(&from, 1000);
    assert!(bytes > 100_000_000_000);
    let plan = niwaki(["plan", &from, "--scheme", "int4/g64/sym", "--json"]).ok().json();
    assert_eq!(plan["tensors"].as_array().unwrap().len(), 1000);
    assert_eq!(plan["input_bytes"].as_u64(), Some(1000 * 5120 * 5120 * 4));
    let args = ["compress", &from, "--scheme", "int4/g64/sym", "-o", &dir, "--part", "77/1000", "--json"];
    let report = niwaki(args).ok().json();
    let tensors = report["tensors"].as_array().unwrap();
    assert_eq!((tensors.len(), tensors[0]["name"].as_str()), (1, Some("layers.0076.weight")));
    niwaki(["verify", &format!("{dir}/model-00077-of-01000.safetensors")]).ok();
    assert!(niwaki(["join", &dir]).error().starts_with(&format!("`{dir}`: lacks 999 of 1000 parts: 1/1000, 2/1000, ")));
}

#[test]
fn what_cannot_be_split_is_said() {
    let folder = Folder::new("parts");
    let (from, dir) = (folder.at("in.safetensors"), folder.at("parts"));
    many_tensors(&from);
    let run = |part: &str, out: &str, more: &[&str]| {
        let args = ["compress", &from, "--scheme", "int8/row/sym", "-o", out, "--part", part, "-q"];
        niwaki(args.iter().chain(more)).error().to_owned()
    };
    for wrong in ["0/3", "4/3", "x", "1/"] {
        let expected = format!("`--part {wrong}`: `{wrong}` is no share: expected i/n with 1 <= i <= n <= 99999");
        assert_eq!(run(wrong, &dir, &[]), expected);
    }
    let file = folder.at("out.safetensors");
    assert_eq!(run("1/2", &file, &[]), format!("`{file}`: the output of `--part` is a folder"));
    let gguf = "a part of an output in compressed-tensors is not supported by this version";
    assert_eq!(run("1/2", &dir, &["--to", "compressed-tensors", "--keep", "d.*"]), gguf);
    assert!(!std::fs::exists(&dir).unwrap());
    assert_eq!(
        run("1/2", &from.replace(".safetensors", ".x/y"), &[]).split(": ").last(),
        Some("is to be in a folder that does not exist")
    );
}
