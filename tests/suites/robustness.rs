//! What goes wrong around the program: it is killed, disks are full, two of it write one output,
//! inputs are damaged. Outputs are whole or not there, and errors are one line.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so, and another one how much it did")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use niwaki_conformance::checkpoints::{f32s, weights, write, write_large};
use niwaki_conformance::cli::niwaki;
use niwaki_conformance::folder::{Folder, bundled, fashion, part_of_sample, repository, sample};
use niwaki_conformance::random::Random;

/// Moments at which each verb is killed.
const KILLS: usize = if cfg!(debug_assertions) { 3 } else { 20 };

/// How often two runs of each verb meet.
const MEETINGS: usize = if cfg!(debug_assertions) { 1 } else { 5 };

/// Mutated inputs of each format.
const MUTANTS: usize = if cfg!(debug_assertions) { 150 } else { 10_000 };

/// A command that writes: its words, of which `OUT` is the output.
struct Job {
    name: &'static str,
    words: Vec<String>,
}

/// Inputs of every kind, and one job for every verb that writes.
struct Inputs {
    folder: Folder,
    jobs: Vec<Job>,
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// A checkpoint that takes a while.
fn large(folder: &Folder) -> String {
    let path = folder.at("large.safetensors");
    write_large(&path, 6, 128, 1024);
    path
}

/// A job for every verb that writes: its name, and its words with inputs in braces.
const JOBS: [(&str, &str); 24] = [
    ("compress", "compress {large} --scheme int4/g64/affine --fit lsq -o OUT.safetensors"),
    ("compress --to gguf", "compress {large} --scheme q4_0 --to gguf -o OUT.gguf"),
    ("compress a folder", "compress {llama} --scheme int8/row/sym -o OUT"),
    ("compress --to mlx", "compress {large} --scheme int4/g64/affine --to mlx -o OUT"),
    ("compress --to onnx", "compress {model} --scheme int8/row/sym --to onnx -o OUT.onnx"),
    ("compress --part", "compress {large} --scheme int4/g64/affine -o OUT --part 1/2"),
    ("join", "join {parts} -o OUT.safetensors"),
    ("slice", "slice {elastic} --bits 4 -o OUT.safetensors"),
    ("export", "export {small} --to safetensors -o OUT.safetensors"),
    ("export --to gguf", "export {small} --to gguf -o OUT.gguf"),
    ("mask score", "mask score {large} --by magnitude --sparsity 0.9 -o OUT.safetensors"),
    ("mask apply", "mask apply {large} {mask} -o OUT.safetensors"),
    ("signature extract", "signature extract --interpolate --standard {plain} --robust {robust} -o OUT.safetensors"),
    ("signature apply", "signature apply {plain} {signature} -o OUT.safetensors"),
    ("signature remove", "signature remove {patched} sig -o OUT.safetensors"),
    ("dataset corrupt", "dataset corrupt {data} --kind fog --severity 3 -o OUT.safetensors"),
    ("run", "run {model} --input {input} -o OUT.safetensors"),
    ("calibrate", "calibrate {model} --data {few} --gram -o OUT.safetensors"),
    ("search", "search {model} --data {few} --budget 4bits -o OUT.toml"),
    ("train", "train {model} --data {few} --epochs 2 -o OUT.safetensors"),
    ("elastic train", "elastic train {model} --data {few} --epochs 1 -o OUT.safetensors"),
    ("elastic export", "elastic export {model} --weights {net} --form w8a8/row/sym -o OUT.onnx"),
    ("layers remove", "layers remove {llama} --blocks 1 -o OUT"),
    ("report", "report {fashion} {small} {elastic} -o OUT.html"),
];

/// Runs a verb that writes `name` in a folder; the path of that.
fn made(folder: &Folder, name: &str, args: &str) -> String {
    let answer = niwaki(words(args).into_iter().chain(["-o".to_owned(), folder.at(name), "-q".to_owned()]));
    assert_eq!(answer.code, 0, "{answer:?}");
    folder.at(name)
}

fn inputs() -> Inputs {
    let folder = Folder::new("robust");
    let made = |name: &str, args: &str| made(&folder, name, args);
    let (large, model, few) =
        (large(&folder), bundled("model.onnx"), part_of_sample(&folder, "few.safetensors", 0..32));
    let (robust, plain) = (folder.at("robust.safetensors"), folder.at("plain.safetensors"));
    for (path, seed) in [(&plain, 1), (&robust, 2)] {
        let all = weights(seed, 128 * 1024);
        let tensors = [("a.weight", "F32", &[128, 1024][..], f32s(&all)), ("b", "F32", &[64, 64], f32s(&all[..4096]))];
        write(path, &tensors);
    }
    let signature =
        made("sig.safetensors", &format!("signature extract --interpolate --standard {plain} --robust {robust}"));
    let parts = folder.at("parts");
    for part in ["1/2", "2/2"] {
        niwaki(["compress", &large, "--scheme", "int4/g32/sym", "-o", &parts, "--part", part]).ok();
    }
    let files = BTreeMap::from([
        ("elastic", made("elastic.safetensors", &format!("compress {large} --scheme elastic/g64"))),
        ("small", made("small.safetensors", &format!("compress {large} --scheme int4/g32/sym"))),
        ("mask", made("mask.safetensors", &format!("mask score {large} --by magnitude --sparsity 0.5"))),
        ("patched", made("patched.safetensors", &format!("signature apply {plain} {signature}"))),
        ("net", made("net.safetensors", &format!("elastic train {model} --data {few} --epochs 1"))),
        ("llama", repository().join("tests/golden/hf/llama").to_string_lossy().into_owned()),
        ("input", input(&folder)),
        ("data", sample()),
        ("fashion", fashion()),
        ("large", large),
        ("model", model),
        ("few", few),
        ("robust", robust),
        ("plain", plain),
        ("signature", signature),
        ("parts", parts),
    ]);
    let filled = |line: &str| {
        files.iter().fold(line.to_owned(), |line, (name, path)| line.replace(&format!("{{{name}}}"), path))
    };
    let jobs = JOBS.iter().map(|(name, line)| Job { name, words: words(&filled(line)) }).collect();
    Inputs { folder, jobs }
}

/// Inputs of the bundled network by name.
fn input(folder: &Folder) -> String {
    let path = folder.at("input.safetensors");
    let inspected = niwaki(["inspect", &bundled("model.onnx"), "--json"]).ok().json();
    let name = inspected["graph"]["inputs"][0]["name"].as_str().unwrap().to_owned();
    write(&path, &[(&name, "F32", &[1, 1, 28, 28], f32s(&weights(9, 784)))]);
    path
}

/// A folder of its own for an output, and the output's name in it without what comes after.
fn place(folder: &Folder, name: &str) -> (String, String) {
    let dir = folder.at(name);
    std::fs::create_dir(&dir).unwrap();
    let out = format!("{dir}/out");
    (dir, out)
}

impl Job {
    /// The command with another output.
    fn to(&self, out: &str) -> Vec<String> {
        let word = |word: &String| if word.starts_with("OUT") { word.replace("OUT", out) } else { word.clone() };
        self.words.iter().map(word).collect()
    }

    /// What it writes where nothing disturbs it, and how long that takes.
    fn undisturbed(&self, folder: &Folder) -> (BTreeMap<String, Vec<u8>>, Duration) {
        let (dir, out) = place(folder, "whole");
        let start = Instant::now();
        let (code, err) = finish(process(&self.to(&out)).spawn().unwrap());
        assert_eq!((code, err.as_str()), (0, ""), "{}", self.name);
        let (took, expected) = (start.elapsed(), contents(&dir));
        assert!(!expected.is_empty(), "{}", self.name);
        assert_eq!(growing(Path::new(&dir)), Vec::<String>::new(), "{}", self.name);
        std::fs::remove_dir_all(dir).unwrap();
        (expected, took)
    }
}

fn process(args: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_niwaki-process"));
    command.args(args).args(["--threads", "2", "-q"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn finish(child: Child) -> (i32, String) {
    let done = child.wait_with_output().unwrap();
    (done.status.code().unwrap_or(-1), String::from_utf8(done.stderr).unwrap())
}

/// Whether a file is one that is not finished or not in its place, or in a folder that is not, or says how far another
/// one is.
fn grows(path: &str) -> bool {
    let ends = [".niwaki-partial", ".niwaki-journal", ".niwaki-new", ".niwaki-old", ".next"];
    path.split('/').any(|name| ends.iter().any(|end| name.ends_with(end)))
}

/// All files in a folder and those in it, by path.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for item in std::fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

/// All finished files in a folder, by their path in it.
fn contents(dir: &str) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &Path| path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
    let all = files(Path::new(dir)).into_iter().map(|path| (name(&path), path));
    all.filter(|(name, _)| !grows(name)).map(|(name, path)| (name, std::fs::read(path).unwrap())).collect()
}

/// What has begun to grow in a folder and is not finished.
fn growing(dir: &Path) -> Vec<String> {
    let names = files(dir).into_iter().map(|path| path.to_string_lossy().into_owned());
    names.filter(|name| grows(name)).collect()
}

#[test]
fn a_killed_run_leaves_nothing_half_written_and_can_be_done_again() {
    let inputs = inputs();
    let mut random = Random::new(15);
    let mut killed = 0;
    for job in &inputs.jobs {
        let (expected, took) = job.undisturbed(&inputs.folder);
        for turn in 0..KILLS {
            let (dir, out) = place(&inputs.folder, &format!("killed-{turn}"));
            let mut child = process(&job.to(&out)).spawn().unwrap();
            std::thread::sleep(Duration::from_micros(random.below(took.as_micros() as u64)));
            killed += usize::from(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
            let left = contents(&dir);
            // What a training has learnt so far is no output; it goes on from there.
            let left: BTreeMap<_, _> = left.into_iter().filter(|(file, _)| !file.ends_with(".state")).collect();
            for (file, bytes) in &left {
                assert!(expected.get(file) == Some(bytes), "{}: `{file}` is half written", job.name);
            }
            let force = (!left.is_empty()).then(|| "--force".to_owned());
            let again = job.to(&out).into_iter().chain(force).collect::<Vec<_>>();
            let (code, err) = finish(process(&again).spawn().unwrap());
            assert_eq!(code, 0, "{} after a kill that left {:?}: {err}", job.name, left.keys());
            assert!(contents(&dir) == expected, "{}: other bytes after a kill", job.name);
            assert_eq!(growing(Path::new(&dir)), Vec::<String>::new(), "{}", job.name);
            std::fs::remove_dir_all(dir).unwrap();
        }
    }
    println!("{killed} of {} runs were killed before they had ended", inputs.jobs.len() * KILLS);
    assert!(killed > inputs.jobs.len(), "only {killed} runs were killed in time");
}

#[test]
fn a_folder_that_a_killed_run_had_just_begun_is_no_obstacle() {
    let inputs = inputs();
    let folders = inputs.jobs.iter().filter(|job| job.words.iter().any(|word| word == "OUT"));
    for job in folders {
        let (expected, _) = job.undisturbed(&inputs.folder);
        for left in [None, Some("model.safetensors.niwaki-partial")] {
            let (dir, out) = place(&inputs.folder, "begun");
            std::fs::create_dir(&out).unwrap();
            left.iter().for_each(|name| std::fs::write(format!("{out}/{name}"), b"begun").unwrap());
            if job.name == "layers remove" {
                // It grows beside its name.
                std::fs::rename(&out, format!("{out}.niwaki-partial")).unwrap();
            }
            assert_eq!(finish(process(&job.to(&out)).spawn().unwrap()), (0, String::new()), "{}", job.name);
            assert!(contents(&dir) == expected, "{}", job.name);
            std::fs::remove_dir_all(dir).unwrap();
        }
    }
}

#[test]
fn of_two_runs_with_one_output_each_is_done_or_says_why_not() {
    let inputs = inputs();
    for job in &inputs.jobs {
        let (expected, _) = job.undisturbed(&inputs.folder);
        for turn in 0..MEETINGS {
            let (dir, out) = place(&inputs.folder, &format!("both-{turn}"));
            let both = [process(&job.to(&out)).spawn().unwrap(), process(&job.to(&out)).spawn().unwrap()];
            let ends = both.map(finish);
            assert!(ends.iter().any(|(code, _)| *code == 0), "{}: {ends:?}", job.name);
            for (code, err) in &ends {
                assert!(*code == 0 || *code == 2 && err.starts_with("error: "), "{}: {ends:?}", job.name);
            }
            assert!(contents(&dir) == expected, "{}: {ends:?}", job.name);
            assert_eq!(growing(Path::new(&dir)), Vec::<String>::new(), "{}: {ends:?}", job.name);
            std::fs::remove_dir_all(dir).unwrap();
        }
    }
}

/// Runs a command in a shell that lets no file grow beyond so many blocks of 512 bytes.
#[cfg(unix)]
fn limited(args: &[String], blocks: u64) -> (i32, String) {
    let mut command = Command::new("sh");
    // Without the trap the signal would end the program; a full disk sends none.
    command.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"")).arg("sh");
    command.arg(env!("CARGO_BIN_EXE_niwaki-process")).args(args).args(["-q", "--threads", "2"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    finish(command.spawn().unwrap())
}

#[cfg(unix)]
#[test]
fn an_output_that_has_no_room_is_said_in_one_line_and_leaves_nothing() {
    let inputs = inputs();
    for job in &inputs.jobs {
        let (expected, _) = job.undisturbed(&inputs.folder);
        let largest = expected.values().map(Vec::len).max().unwrap();
        let blocks = (largest as u64 / 2048).min(64);
        let (dir, out) = place(&inputs.folder, "full");
        let (code, err) = limited(&job.to(&out), blocks);
        assert_eq!(code, 2, "{} of {largest} bytes in {blocks} blocks: {err}", job.name);
        let mut lines = err.lines().filter(|line| !line.is_empty() && !line.starts_with("hint: "));
        let line = lines.next().unwrap_or_default();
        assert!(line.starts_with("error: `"), "{}: {err}", job.name);
        assert_eq!(lines.next(), None, "{}: {err}", job.name);
        let left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|item| item.unwrap().path()).collect();
        assert!(left.is_empty(), "{}: left {left:?} ({err})", job.name);
        // What was there before stays.
        assert_eq!(finish(process(&job.to(&out)).spawn().unwrap()).0, 0, "{}", job.name);
        let before = contents(&dir);
        let again = job.to(&out).into_iter().chain(["--force".to_owned()]).collect::<Vec<_>>();
        assert_eq!(limited(&again, blocks).0, 2, "{}", job.name);
        assert!(contents(&dir) == before, "{}: what was there before is another", job.name);
        std::fs::remove_dir_all(dir).unwrap();
    }
}

/// A small disk of its own, gone when dropped.
#[cfg(target_os = "linux")]
struct Disk(Folder);

#[cfg(target_os = "linux")]
impl Disk {
    fn of(bytes: &str) -> Option<Self> {
        let folder = Folder::new("disk");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(folder.path());
        mount.output().is_ok_and(|done| done.status.success()).then_some(Self(folder))
    }
}

#[cfg(target_os = "linux")]
impl Drop for Disk {
    fn drop(&mut self) {
        // The folder beneath is removed either way.
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_and_left_as_it_was() {
    let Some(disk) = Disk::of("128k") else {
        println!("skipped: no disk may be mounted");
        return;
    };
    let folder = Folder::new("robust");
    let from = large(&folder);
    let out = disk.0.at("out.safetensors");
    for scheme in ["int8/row/sym", "elastic/g64"] {
        let (code, err) =
            finish(process(&words(&format!("compress {from} --scheme {scheme} -o {out}"))).spawn().unwrap());
        assert_eq!(code, 2, "{err}");
        assert!(err.starts_with(&format!("error: `{}", disk.0.path().display())), "{err}");
        assert_eq!(disk.0.names(), Vec::<String>::new());
    }
}

/// A file after a few changes: bytes, cuts, and pieces that stand twice.
fn mutant(seed: &[u8], random: &mut Random) -> Vec<u8> {
    const WORDS: [&[u8]; 8] =
        [b"0", b"-1", b"18446744073709551615", b"null", b"\"\"", b"[]", b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"\0"];
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            break;
        }
        // Headers, where the lies would be, more often than data.
        let within = if random.below(4) == 0 { bytes.len() } else { bytes.len().min(2048) };
        let at = random.below(within as u64) as usize;
        match random.below(5) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at),
            3 => {
                let word = WORDS[random.below(WORDS.len() as u64) as usize];
                let end = (at + word.len()).min(bytes.len());
                bytes.splice(at..end, word.iter().copied());
            }
            _ => {
                let end = (at + random.below(16) as usize).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// Two checkpoints of small tensors, a recipe for them, and an answer about them.
fn tiny(folder: &Folder) -> [String; 4] {
    let all = weights(3, 24 * 64);
    for (name, factor) in [("tiny.safetensors", 1.0), ("other.safetensors", 1.5)] {
        let all: Vec<f32> = all.iter().map(|w| w * factor).collect();
        let (a, b) = all.split_at(512);
        write(folder.at(name), &[("a.weight", "F32", &[8, 64], f32s(a)), ("b.weight", "F32", &[16, 64], f32s(b))]);
    }
    let recipe = "version = 1\n[[quantize]]\ntensors = \"a.*\"\nscheme = \"int4/g32/sym\"\n\n\
                  [[mask]]\ntensors = \"b.*\"\npattern = { keep = 0.2 }\n";
    std::fs::write(folder.at("recipe.toml"), recipe).unwrap();
    let args = format!(
        "compress {} --scheme elastic/g32 --json -o {}",
        folder.at("tiny.safetensors"),
        folder.at("r.safetensors")
    );
    std::fs::write(folder.at("answer.json"), niwaki(words(&args)).ok().out).unwrap();
    ["tiny.safetensors", "other.safetensors", "recipe.toml", "answer.json"].map(|name| folder.at(name))
}

/// Verbs that read a container; `IN` is the file.
const INSIDE: [&str; 4] =
    ["inspect IN", "verify IN", "report IN -o OUT --force", "export IN --to safetensors -o OUT --force"];

/// Files of every format, small ones, and the verbs that read them.
fn formats(folder: &Folder) -> Vec<(&'static str, String, Vec<&'static str>)> {
    let [tiny, other, recipe, answer] = tiny(folder);
    let made = |name: &str, args: String| made(folder, name, &args);
    let (inside, page) = (INSIDE.to_vec(), "report IN -o OUT --force");
    let container = made("container.safetensors", format!("compress {tiny} --scheme int4/g32/affine"));
    let elastic = made("elastic.safetensors", format!("compress {tiny} --scheme elastic/g32/2,4"));
    let sparse = made("sparse.safetensors", format!("compress {tiny} -r {recipe}"));
    let gguf = made("tiny.gguf", format!("compress {tiny} --scheme q8_0 --to gguf"));
    let mask = made("mask.safetensors", format!("mask score {tiny} --by magnitude --sparsity 0.5"));
    let extract = format!("signature extract --interpolate --standard {tiny} --robust {other}");
    let signature = made("sig.safetensors", extract);
    let encode = "compress IN --scheme int4/g32/sym -o OUT --force";
    vec![
        ("safetensors", tiny, vec!["inspect IN", encode, "compare IN IN"]),
        ("container", container, inside.clone()),
        ("elastic container", elastic, inside.clone()),
        ("sparse container", sparse, inside.clone()),
        ("gguf", gguf, inside),
        ("onnx", bundled("model.onnx"), vec!["inspect IN", "verify IN", "plan IN --scheme int8/row/sym"]),
        ("mask", mask, vec![page, "mask compare IN IN"]),
        ("signature", signature, vec!["inspect IN", "verify IN", page, "signature similarity IN IN"]),
        (
            "dataset",
            part_of_sample(folder, "few.safetensors", 0..4),
            vec!["dataset corrupt IN --kind contrast --severity 1 -o OUT --force"],
        ),
        ("recipe", recipe, vec![page]),
        ("report", answer, vec![page]),
    ]
}

#[test]
fn damaged_inputs_are_refused_in_one_line_or_read_and_nothing_panics() {
    let folder = Folder::new("mutants");
    for (format, path, verbs) in formats(&folder) {
        let seed = std::fs::read(&path).unwrap();
        let extension = Path::new(&path).extension().unwrap().to_string_lossy().into_owned();
        let (file, out) = (folder.at(&format!("mutant.{extension}")), folder.at("mutant-out"));
        let mut random = Random::new(format.bytes().map(u64::from).sum());
        let mut refused = 0;
        for turn in 0..MUTANTS {
            let bytes = mutant(&seed, &mut random);
            std::fs::write(&file, &bytes).unwrap();
            let verb = verbs[turn % verbs.len()];
            let output = format!("{out}.{}", if verb.starts_with("report") { "html" } else { "safetensors" });
            let line = verb.replace("IN", &file).replace("OUT", &output);
            let run = || niwaki(words(&line).iter().chain(&["-q".to_owned()]));
            let answer = std::panic::catch_unwind(run);
            let answer =
                answer.unwrap_or_else(|_| panic!("{format}: `{verb}` panics at b\"{}\"", bytes.escape_ascii()));
            let lines = answer.err.lines().filter(|line| !line.is_empty() && !line.starts_with("hint: ")).count();
            assert!(
                answer.code < 2 || answer.code == 2 && answer.err.starts_with("error: ") && lines == 1,
                "{format}: {answer:?}"
            );
            refused += usize::from(answer.code == 2);
        }
        println!("{format}: {MUTANTS} mutated inputs, {refused} refused");
        assert!(
            refused > MUTANTS / 10 && refused < MUTANTS || format == "recipe",
            "{format}: {refused} of {MUTANTS} refused"
        );
    }
}
