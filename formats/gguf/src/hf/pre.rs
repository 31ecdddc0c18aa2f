//! Which of llama.cpp's pre-tokenizers splits texts as a `tokenizer.json` says.
//!
//! llama.cpp knows each by a name; the rules behind the names are compiled in. The table below
//! has one line for each that the families here come with: the steps as `tokenizer.json` has
//! them, whether merges are skipped for words that are tokens already, and the name.

use serde_json::Value as Json;

use super::config::fault;
use super::fault::FolderFault;
use crate::error::Error;

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// One step of a pre-tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step<'a> {
    /// Every digit for itself.
    Digits,
    /// Pieces that match a pattern, and what lies between them.
    Split(&'a str),
    /// Bytes as characters; before that, words as GPT-2 splits them.
    Words,
    /// Bytes as characters, nothing else.
    Bytes,
}

struct Known {
    steps: &'static [Step<'static>],
    /// Whether `ignore_merges` must be set, or must not; none where it may be either.
    ignore_merges: Option<bool>,
    name: &'static str,
}

const TABLE: [Known; 7] = [
    Known { steps: &[Step::Digits, Step::Words], ignore_merges: Some(false), name: "smollm" },
    Known { steps: &[Step::Words], ignore_merges: Some(false), name: "gpt-2" },
    Known { steps: &[Step::Split(LLAMA_3), Step::Bytes], ignore_merges: Some(true), name: "llama-bpe" },
    Known { steps: &[Step::Split(LLAMA_3), Step::Bytes], ignore_merges: Some(false), name: "dbrx" },
    Known { steps: &[Step::Split(QWEN_2), Step::Bytes], ignore_merges: Some(false), name: "qwen2" },
    Known { steps: &[Step::Split(TEKKEN), Step::Bytes], ignore_merges: None, name: "tekken" },
    Known { steps: &[Step::Split(GPT_4O), Step::Bytes], ignore_merges: Some(false), name: "gpt-4o" },
];

/// The name of the pre-tokenizer of a `tokenizer.json`.
pub(crate) fn name(tokenizer: &Json) -> Result<&'static str, Error> {
    let definition = tokenizer.get("pre_tokenizer").unwrap_or(&Json::Null);
    let ignores = tokenizer.pointer("/model/ignore_merges").and_then(Json::as_bool).unwrap_or(false);
    let steps: Option<Vec<Step<'_>>> = listed(definition).into_iter().map(step).collect();
    let fits = |known: &&Known, steps: &[Step<'_>]| {
        known.steps == steps && known.ignore_merges.is_none_or(|needs| needs == ignores)
    };
    let found = steps.and_then(|steps| TABLE.iter().find(|known| fits(known, &steps)));
    found.map(|known| known.name).ok_or_else(|| {
        let ignores = if ignores { " with `ignore_merges`" } else { "" };
        fault(FolderFault::PreTokenizer { found: format!("`{}`{ignores}", shortened(&definition.to_string())) })
    })
}

/// The steps of a sequence, or the one step that there is.
fn listed(definition: &Json) -> Vec<&Json> {
    match definition.get("pretokenizers").and_then(Json::as_array) {
        Some(steps) if kind(definition) == Some("Sequence") => steps.iter().collect(),
        _ => vec![definition],
    }
}

fn kind(step: &Json) -> Option<&str> {
    step.get("type")?.as_str()
}

fn step(step: &Json) -> Option<Step<'_>> {
    let flag = |key: &str, otherwise| step.get(key).map_or(Some(otherwise), Json::as_bool);
    match kind(step)? {
        "Digits" if flag("individual_digits", false)? => Some(Step::Digits),
        "ByteLevel" if flag("add_prefix_space", true)? => None,
        "ByteLevel" if flag("use_regex", true)? => Some(Step::Words),
        "ByteLevel" => Some(Step::Bytes),
        "Split" if step.get("behavior")?.as_str()? == "Isolated" && !flag("invert", false)? => {
            step.pointer("/pattern/Regex")?.as_str().map(Step::Split)
        }
        _ => None,
    }
}

/// As much of a definition as fits into a message.
fn shortened(text: &str) -> String {
    const MOST: usize = 300;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn split(regex: &str) -> Json {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]})
    }

    fn named(pre: Json, ignore_merges: bool) -> Result<&'static str, String> {
        name(&json!({"pre_tokenizer": pre, "model": {"ignore_merges": ignore_merges}})).map_err(|e| e.to_string())
    }

    #[test]
    fn the_families_are_known() {
        let words = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let smollm = json!({"type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": true}, words.clone()]});
        assert_eq!(named(smollm, false), Ok("smollm"));
        assert_eq!(named(words, false), Ok("gpt-2"));
        assert_eq!((named(split(LLAMA_3), true), named(split(LLAMA_3), false)), (Ok("llama-bpe"), Ok("dbrx")));
        assert_eq!((named(split(QWEN_2), false), named(split(GPT_4O), false)), (Ok("qwen2"), Ok("gpt-4o")));
        assert_eq!((named(split(TEKKEN), false), named(split(TEKKEN), true)), (Ok("tekken"), Ok("tekken")));
    }

    #[test]
    fn what_is_unknown_is_told() {
        let said = "the pre-tokenizer of `tokenizer.json` is none that llama.cpp has a name for: ";
        assert_eq!(named(json!({"type": "Whitespace"}), false), Err(format!("{said}`{{\"type\":\"Whitespace\"}}`")));
        assert_eq!(named(Json::Null, true), Err(format!("{said}`null` with `ignore_merges`")));
        assert!(named(split(QWEN_2), true).is_err());
        assert!(named(json!({"type": "ByteLevel", "add_prefix_space": true}), false).is_err());
        let long = named(split(&"x".repeat(5000)), false).unwrap_err();
        assert!(long.len() < 450 && long.ends_with("...`"), "{long}");
    }
}
