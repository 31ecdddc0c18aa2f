//! The examples at the end of every verb's help: commands that work on files of those names.

use clap::{Command, CommandFactory};

use crate::args::Cli;

/// Verbs, and what is typed after `niwaki`.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("inspect", &["inspect model.safetensors", "inspect model.onnx --json"]),
    ("plan", &["plan model.safetensors --scheme int4/g64/sym", "plan model.safetensors -r recipe.toml"]),
    (
        "compress",
        &[
            "compress model.safetensors --scheme int4/g64/sym -o small.safetensors",
            "compress llama/ --scheme q4_k_m --to gguf -o llama.gguf",
        ],
    ),
    ("join", &["join parts/", "join parts/ -o small.safetensors"]),
    ("slice", &["slice elastic.safetensors --bits 4 -o four.safetensors"]),
    (
        "export",
        &[
            "export small.safetensors --to safetensors -o restored.safetensors",
            "export model.onnx --to c --stats stats.safetensors -o model.c",
        ],
    ),
    (
        "compare",
        &["compare model.safetensors small.safetensors", "compare model.safetensors small.safetensors --min-sqnr 20"],
    ),
    ("verify", &["verify small.safetensors"]),
    ("dataset import", &["dataset import cifar10 cifar-10-batches-bin/ --split test -o test.safetensors"]),
    ("dataset corrupt", &["dataset corrupt test.safetensors --kind fog --severity 3 -o fog.safetensors"]),
    (
        "signature extract",
        &[
            "signature extract --standard plain.safetensors --robust robust.safetensors --init init.safetensors -o fog.safetensors",
        ],
    ),
    ("signature apply", &["signature apply model.safetensors fog.safetensors@0.5 -o patched.safetensors"]),
    ("signature remove", &["signature remove patched.safetensors fog -o model.safetensors"]),
    ("signature list", &["signature list patched.safetensors"]),
    ("signature similarity", &["signature similarity fog.safetensors noise.safetensors"]),
    ("signature combine", &["signature combine fog.safetensors noise.safetensors@0.5 --how ties -o both.safetensors"]),
    (
        "signature temperature",
        &["signature temperature model.safetensors --temperature 1.2 --queries '*.q_proj.weight' -o warm.safetensors"],
    ),
    ("signature import", &["signature import adapter/ --standard model/ -o adapter.safetensors"]),
    ("signature export", &["signature export fog.safetensors --to peft --rank 16 -o adapter/"]),
    ("signature sign", &["signature sign fog.safetensors --key private.pem"]),
    ("layers rank", &["layers rank model.onnx --by random", "layers rank llama/ --by kl --data text.txt"]),
    (
        "layers remove",
        &[
            "layers remove llama/ --blocks 4,7 -o smaller/",
            "layers remove llama/ --count 2 --by cosine --data text.txt -o smaller/",
        ],
    ),
    (
        "mask search",
        &["mask search model.onnx --data train.safetensors --sparsity 0.9 --epochs 10 -o mask.safetensors"],
    ),
    ("mask score", &["mask score model.safetensors --by magnitude --sparsity 0.9 -o mask.safetensors"]),
    ("mask apply", &["mask apply model.safetensors mask.safetensors -o sparse.safetensors"]),
    ("mask compare", &["mask compare mask.safetensors other.safetensors"]),
    (
        "elastic train",
        &["elastic train model.onnx --data train.safetensors --epochs 3 --widths 2,4,8 -o net.safetensors"],
    ),
    (
        "elastic eval",
        &["elastic eval model.onnx --weights net.safetensors --data test.safetensors --form w4a8/row/sym"],
    ),
    (
        "elastic search",
        &["elastic search model.onnx --weights net.safetensors --data train.safetensors --budget 4bits -o recipe.toml"],
    ),
    ("elastic export", &["elastic export model.onnx --weights net.safetensors --form w8a8/row/sym -o eight.onnx"]),
    ("dynamic train", &["dynamic train model.onnx --data train.safetensors --mass 0.8 -o heads.safetensors"]),
    ("dynamic plan", &["dynamic plan model.onnx --data train.safetensors --macs 0.5"]),
    ("dynamic eval", &["dynamic eval model.onnx --heads heads.safetensors --data test.safetensors"]),
    ("dynamic export", &["dynamic export model.onnx --heads heads.safetensors -o gated.onnx"]),
    ("train", &["train model.onnx --data train.safetensors --epochs 10 -o trained.safetensors"]),
    ("run", &["run model.onnx --input in.safetensors -o out.safetensors"]),
    (
        "eval",
        &[
            "eval model.onnx --data test.safetensors",
            "eval llama/ --weights small.safetensors --data text.txt --against llama/model.safetensors",
        ],
    ),
    ("calibrate", &["calibrate model.onnx --data train.safetensors --gram -o stats.safetensors"]),
    ("search", &["search model.onnx --data train.safetensors --budget 4bits -o recipe.toml"]),
    ("generate", &["generate llama/ --prompt 'Once upon a time'"]),
    ("report", &["report small.safetensors eval.json -o report.html"]),
    ("devices", &["devices"]),
    ("completions", &["completions bash"]),
    ("man", &["man compress", "man mask score"]),
];

/// The program's arguments, every verb with its examples.
pub(crate) fn command() -> Command {
    EXAMPLES.iter().fold(Cli::command(), |command, (verb, examples)| {
        let heading = if examples.len() == 1 { "Example" } else { "Examples" };
        let lines: String = examples.iter().map(|example| format!("\n  niwaki {example}")).collect();
        at(command, verb, &format!("{heading}:{lines}"))
    })
}

/// The same command with a text after the help of a verb under it.
fn at(command: Command, verb: &str, text: &str) -> Command {
    match verb.split_once(' ') {
        Some((first, rest)) => command.mut_subcommand(first, |under| at(under, rest, text)),
        None => command.mut_subcommand(verb, |under| under.after_help(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    /// The words of a line, as a shell splits it.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut quoted) = (vec![String::new()], false);
        for letter in line.chars() {
            match letter {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                letter => words.last_mut().unwrap().push(letter),
            }
        }
        words
    }

    /// All verbs that do something: those that have no verbs under them.
    fn verbs(command: &Command, path: &str, found: &mut Vec<String>) {
        for under in command.get_subcommands().filter(|under| under.get_name() != "help") {
            let path = format!("{path} {}", under.get_name()).trim().to_owned();
            if under.has_subcommands() {
                verbs(under, &path, found);
            } else {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_verb_has_examples_and_each_can_be_typed() {
        let mut all = Vec::new();
        verbs(&command(), "", &mut all);
        let mut listed: Vec<&str> = EXAMPLES.iter().map(|(verb, _)| *verb).collect();
        listed.sort_unstable();
        all.sort();
        assert_eq!(all, listed);
        for (verb, examples) in EXAMPLES {
            assert!((1..=2).contains(&examples.len()), "{verb}");
            for example in *examples {
                assert!(example.starts_with(verb), "{example}");
                let typed = std::iter::once("niwaki".to_owned()).chain(words(example));
                let matches = command().try_get_matches_from(typed).unwrap_or_else(|e| panic!("{example}: {e}"));
                Cli::from_arg_matches(&matches).unwrap();
            }
        }
    }

    #[test]
    fn help_ends_with_the_examples() {
        let mut command = command();
        let mask = command.find_subcommand_mut("mask").unwrap();
        let help = mask.find_subcommand_mut("compare").unwrap().render_help().to_string();
        assert!(help.ends_with("Example:\n  niwaki mask compare mask.safetensors other.safetensors\n"), "{help}");
    }
}
