//! Transcripts: commands, and exactly what they print.
//!
//! ```text
//! # a comment
//! $ niwaki plan made/odd.safetensors --scheme int4/g64/sym --tail error
//! error: tensor `conv.weight`: group 64 does not divide the row of 45 weights
//!
//! hint: `--tail short` ends such rows in a short last group
//! [exit 2]
//! ```
//!
//! After a command come stdout, then stderr, then the exit code where it is not 0. Lines of
//! stderr begin with `error: `, `hint: ` or `note: ` and lines of stdout do not; the replay
//! checks that, so a transcript shows the stream of every line.
//!
//! **The one rule for what differs from run to run or machine to machine:** `…` stands for
//! any text within a line, and a line `…` for any number of lines.
//!
//! Blank lines at the end of an answer do not count. Besides `niwaki` (and `cargo run
//! --release --`, which is the same) a transcript may use `cat F`, `cp A B`, `rm F`, `mkdir D`
//! and `head -c N A > B`; any command may end in `> FILE`. Each file is replayed in a fresh folder that holds the bundled
//! network under its usual path, the files of [`crate::checkpoints::write_scene`] in `made`,
//! and the recipes of `tests/transcripts/recipes`.

use std::fmt::Write as _;
use std::path::Path;

use crate::checkpoints::write_scene;
use crate::cli::{Answer, niwaki};
use crate::folder::{Folder, repository};

/// One command and the lines that it is to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The line of the file on which the command stands, counted from 0.
    pub line: usize,
    /// The command.
    pub command: String,
    /// The lines below it, without blank ones at the end.
    pub expected: Vec<String>,
}

const STDERR: [&str; 3] = ["error: ", "hint: ", "note: "];

/// The steps of a transcript.
pub fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (line, content) in text.lines().enumerate() {
        if let Some(command) = content.strip_prefix("$ ") {
            steps.push(Step { line, command: command.to_owned(), expected: Vec::new() });
        } else if let Some(step) = steps.last_mut().filter(|_| !content.starts_with("# ")) {
            step.expected.push(content.to_owned());
        }
    }
    for step in &mut steps {
        while step.expected.last().is_some_and(|l| l.trim().is_empty()) {
            step.expected.pop();
        }
    }
    steps
}

/// The steps in the console blocks of a Markdown page, with their lines in the page.
pub fn console_steps(page: &str) -> Vec<Step> {
    let mut inside = false;
    let kept = page.lines().map(|line| {
        let fence = line.starts_with("```");
        let shown = inside && !fence;
        inside = if fence { line == "```console" } else { inside };
        // Outside of blocks, comments: they keep the count of lines and end an answer.
        if shown { line } else { "# " }
    });
    steps(&kept.collect::<Vec<_>>().join("\n"))
}

/// The first block of `language` in a Markdown page.
pub fn block<'a>(page: &'a str, language: &str) -> Option<&'a str> {
    let (_, rest) = page.split_once(&format!("\n```{language}\n"))?;
    rest.split_once("\n```").map(|(block, _)| block)
}

/// The pages whose console blocks are replayed.
pub const PAGES: [&str; 2] = ["README.md", "tools/guide.md"];

/// A scene for a page, whose first block of TOML is `recipe.toml`.
///
/// # Panics
///
/// If the page has no such block, or the scene cannot be made.
pub fn page_scene(page: &str) -> Folder {
    let scene = scene();
    let recipe = block(page, "toml").expect("a recipe on the page");
    std::fs::write(scene.path().join("recipe.toml"), recipe.to_owned() + "\n").expect("room for a recipe");
    scene
}

/// A fresh folder with everything that transcripts use, made the current one.
///
/// # Panics
///
/// If it cannot be made.
pub fn scene() -> Folder {
    let folder = Folder::new("transcript");
    let root = repository();
    for (from, to) in
        [("tests/fixtures/fashion-cnn", "tests/fixtures/fashion-cnn"), ("tests/transcripts/recipes", "recipes")]
    {
        copy_files(&root.join(from), &folder.path().join(to));
    }
    std::fs::create_dir(folder.path().join("target")).expect("a folder that can be written");
    write_scene(&folder.path().join("made"));
    std::env::set_current_dir(folder.path()).expect("a folder to go to");
    folder
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder that can be written");
    for entry in std::fs::read_dir(from).expect("a folder of the repository") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("room for a copy");
    }
}

/// Runs a command in the current folder: the lines it prints, or what is wrong with them.
///
/// # Errors
///
/// Commands that transcripts do not have, and lines on the wrong stream.
pub fn perform(command: &str) -> Result<Vec<String>, String> {
    let words = words(command);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["head", ..] => lines(&answer(&words)?),
        [ref command @ .., ">", file] => {
            let answer = answer(command)?;
            std::fs::write(file, &answer.out).map_err(|e| format!("`{file}`: {e}"))?;
            lines(&Answer { out: String::new(), ..answer })
        }
        _ => lines(&answer(&words)?),
    }
}

fn answer(words: &[&str]) -> Result<Answer, String> {
    Ok(match *words {
        ["niwaki", ref args @ ..] | ["cargo", "run", "--release", "--", ref args @ ..] => niwaki(args),
        ["cat", file] => shown(std::fs::read_to_string(file)),
        ["cp", from, to] => shown(std::fs::copy(from, to).map(|_| String::new())),
        ["rm", file] => shown(std::fs::remove_file(file).map(|()| String::new())),
        ["mkdir", folder] => shown(std::fs::create_dir(folder).map(|()| String::new())),
        ["head", "-c", n, from, ">", to] => {
            let n: usize = n.parse().map_err(|_| format!("`{n}` is no number"))?;
            let start = std::fs::read(from).map(|bytes| bytes[..n.min(bytes.len())].to_vec());
            shown(start.and_then(|bytes| std::fs::write(to, bytes)).map(|()| String::new()))
        }
        _ => return Err(format!("transcripts have no command `{}`", words.join(" "))),
    })
}

fn shown(result: std::io::Result<String>) -> Answer {
    match result {
        Ok(out) => Answer { code: 0, out, err: String::new() },
        Err(e) => Answer { code: 1, out: String::new(), err: format!("error: {e}\n") },
    }
}

/// Words of a command; single and double quotes hold words together.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in command.chars() {
        match (quote, c) {
            (Some(q), _) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn lines(answer: &Answer) -> Result<Vec<String>, String> {
    let marked = |line: &str| STDERR.iter().any(|mark| line.starts_with(mark));
    if let Some(line) = answer.out.lines().find(|l| marked(l)) {
        return Err(format!("stdout has a line of stderr: {line}"));
    }
    if let Some(line) = answer.err.lines().find(|l| !l.is_empty() && !marked(l)) {
        return Err(format!("stderr has a line without mark: {line}"));
    }
    let mut lines: Vec<String> = answer.out.lines().chain(answer.err.lines()).map(str::to_owned).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    if answer.code != 0 {
        lines.push(format!("[exit {}]", answer.code));
    }
    Ok(lines)
}

/// Whether lines are as expected, `…` standing for anything.
pub fn agree(expected: &[String], found: &[String]) -> bool {
    match expected.split_first() {
        None => found.is_empty(),
        Some((first, rest)) if first == "…" => (0..=found.len()).any(|i| agree(rest, &found[i..])),
        Some((first, rest)) => {
            found.split_first().is_some_and(|(line, more)| line_agrees(first, line) && agree(rest, more))
        }
    }
}

fn line_agrees(expected: &str, found: &str) -> bool {
    let Some((before, after)) = expected.split_once('…') else { return expected == found };
    let Some(rest) = found.strip_prefix(before) else { return false };
    (0..=rest.len()).filter(|i| rest.is_char_boundary(*i)).any(|i| line_agrees(after, &rest[i..]))
}

/// Replays steps in the current folder: every one that differs, both sides in full.
pub fn differences(name: &str, steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        let found = perform(&step.command).unwrap_or_else(|why| vec![format!("[{why}]")]);
        if !agree(&step.expected, &found) {
            let (expected, found) = (step.expected.join("\n"), found.join("\n"));
            let line = step.line + 1;
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name}:{line}: $ {}\n--- expected\n{expected}\n--- found\n{found}\n", step.command);
        }
    }
    text
}

/// The same text with the answers that the commands give now, where they differ.
pub fn accepted(text: &str, steps: &[Step]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let answers: Vec<_> = steps
        .iter()
        .map(|step| {
            let found = perform(&step.command).unwrap_or_else(|why| vec![format!("[{why}]")]);
            if agree(&step.expected, &found) { step.expected.clone() } else { found }
        })
        .collect();
    for (step, answer) in steps.iter().zip(answers).rev() {
        let from = step.line + 1;
        lines.splice(from..from + step.expected.len(), answer);
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|l| (*l).to_owned()).collect()
    }

    #[test]
    fn a_transcript_is_commands_with_the_lines_below_them() {
        let found = steps("# c\n$ niwaki a 'b c'\none\n\ntwo\n\n# d\n$ cat x\n");
        assert_eq!(found[0].expected, ["one", "", "two"]);
        assert_eq!((found[1].line, found[1].expected.len()), (7, 0));
        assert_eq!(words(&found[0].command), ["niwaki", "a", "b c"]);
    }

    #[test]
    fn a_page_gives_the_steps_of_its_console_blocks_only() {
        let page =
            "# Title\n$ no\n```console\n$ niwaki x\nyes\n```\n```sh\n$ niwaki y\n```\n\n```toml\nversion = 1\n```\n";
        let found = console_steps(page);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].line, &found[0].expected[..]), (3, &owned(&["yes"])[..]));
        assert_eq!(block(page, "toml"), Some("version = 1"));
    }

    #[test]
    fn other_lines_do_not_agree() {
        assert!(agree(&owned(&["a … c", "…", "z"]), &owned(&["a b c", "x", "y", "z"])));
        assert!(agree(&owned(&["…"]), &[]));
        assert!(!agree(&owned(&["a"]), &owned(&["a", "b"])));
        assert!(!agree(&owned(&["a", "b"]), &owned(&["a"])));
        assert!(!agree(&owned(&["a … c"]), &owned(&["a b d"])));
    }

    #[test]
    fn an_answer_on_the_wrong_stream_is_a_difference() {
        let answer = |out: &str, err: &str| Answer { code: 2, out: out.into(), err: err.into() };
        assert_eq!(
            lines(&answer("a\n", "error: b\n\nhint: c\n")).unwrap(),
            ["a", "error: b", "", "hint: c", "[exit 2]"]
        );
        assert!(lines(&answer("error: b\n", "")).is_err());
        assert!(lines(&answer("", "a\n")).is_err());
    }

    #[test]
    fn a_wrong_expectation_is_found_and_can_be_replaced() {
        let text = "$ cat no-such-file-of-any-test\nfine\n\n# end\n";
        let steps = steps(text);
        assert!(differences("t", &steps).contains("--- expected\nfine"));
        let now = accepted(text, &steps);
        assert!(now.contains("[exit 1]\n\n# end\n") && !now.contains("fine"), "{now}");
        assert_eq!(differences("t", &super::steps(&now)), "");
    }
}
