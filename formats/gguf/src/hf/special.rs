//! Special tokens, what is added in front of texts, chat templates.

use serde_json::Value as Json;

use super::config::Config;
use super::tokenizer::{Model, Tokenizer};
use super::{Family, Folder};
use crate::value::{Array, Metadata, Texts, Value};

/// The special tokens: their names in JSON, and in GGUF.
const SPECIAL: [(&str, &str); 8] = [
    ("bos", "tokenizer.ggml.bos_token_id"),
    ("eos", "tokenizer.ggml.eos_token_id"),
    ("unk", "tokenizer.ggml.unknown_token_id"),
    ("sep", "tokenizer.ggml.seperator_token_id"),
    ("pad", "tokenizer.ggml.padding_token_id"),
    ("cls", "tokenizer.ggml.cls_token_id"),
    ("mask", "tokenizer.ggml.mask_token_id"),
    ("eot", "tokenizer.ggml.eot_token_id"),
];

/// The texts of the special tokens, and whether some are added to every text.
#[derive(Default)]
struct Specials<'a> {
    texts: [Option<&'a str>; SPECIAL.len()],
    add_bos: Option<bool>,
    add_eos: Option<bool>,
}

const BOS: usize = 0;
const EOS: usize = 1;
const EOT: usize = 7;

/// Writes the numbers of special tokens, what is added, and the chat template.
pub(super) fn describe(
    folder: &Folder<'_>,
    tokenizer: &Tokenizer<'_>,
    config: &Config<'_>,
    (family, vocab): (Family, u32),
    metadata: &mut Metadata,
) {
    let specials = find(folder, tokenizer);
    for ((name, key), text) in SPECIAL.iter().zip(specials.texts) {
        let of_text = text.and_then(|text| tokenizer.added_id(text));
        let of_config = config.get(&format!("{name}_token_id")).and_then(Json::as_u64);
        let id = of_text.or(of_config).and_then(|id| u32::try_from(id).ok()).filter(|id| *id < vocab);
        if let Some(id) = id {
            metadata.set(key, Value::U32(id));
        }
    }
    // Texts of models with this vocabulary begin without a token of beginning.
    let never = family == Family::Llama && vocab == 49_152;
    if let Some(add) = if never { Some(false) } else { specials.add_bos } {
        metadata.set("tokenizer.ggml.add_bos_token", Value::Bool(add));
    }
    if let Some(add) = specials.add_eos {
        metadata.set("tokenizer.ggml.add_eos_token", Value::Bool(add));
    }
    let of_config = folder.tokenizer_config.and_then(|config| config.get("chat_template"));
    match of_config {
        Some(template) if !template.is_null() => chat_templates(template, metadata),
        _ => {
            if let Some(text) = folder.chat_template {
                metadata.set("tokenizer.chat_template", Value::Text(text.to_owned()));
            }
        }
    }
}

/// Writes whether texts are tokenized with a space in front of them.
pub(super) fn space_prefix(folder: &Folder<'_>, model: Model, family: Family, metadata: &mut Metadata) {
    let said = folder.tokenizer_config.and_then(|config| config.get("add_prefix_space")).and_then(Json::as_bool);
    let add = match family {
        Family::Gemma | Family::Gemma2 | Family::Gemma3 => (model == Model::ByteFallback).then_some(false),
        Family::Llama => said,
        Family::Qwen2 | Family::Qwen3 => None,
    };
    if let Some(add) = add {
        metadata.set("tokenizer.ggml.add_space_prefix", Value::Bool(add));
    }
}

fn find<'a>(folder: &Folder<'a>, tokenizer: &Tokenizer<'a>) -> Specials<'a> {
    let mut found = Specials::default();
    for (text, (name, _)) in found.texts.iter_mut().zip(SPECIAL) {
        let key = format!("{name}_token");
        let files = [folder.tokenizer_config, folder.special_tokens_map];
        *text = files.into_iter().flatten().find_map(|file| content(file.get(&key)?));
    }
    for processor in tokenizer.processors() {
        match processor.get("type").and_then(Json::as_str) {
            Some("ByteLevel") => {
                found.add_bos.get_or_insert(false);
                found.add_eos.get_or_insert(false);
            }
            Some("TemplateProcessing") => template(processor, &mut found),
            _ => {}
        }
    }
    let flag = |key: &str| folder.tokenizer_config.and_then(|config| config.get(key)).and_then(Json::as_bool);
    found.add_bos = found.add_bos.or_else(|| flag("add_bos_token"));
    found.add_eos = found.add_eos.or_else(|| flag("add_eos_token"));
    found
}

/// The text of a token, which stands alone or in an object.
fn content(token: &Json) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// Reads from a template of one text what is put around it.
fn template<'a>(processor: &'a Json, found: &mut Specials<'a>) {
    let single = processor.get("single").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    if single.len() < 2 {
        return;
    }
    let id = |piece: Option<&'a Json>| piece?.pointer("/SpecialToken/id")?.as_str();
    if let Some(first) = id(single.first()) {
        let bos = *found.texts[BOS].get_or_insert(first);
        found.add_bos = Some(first == bos);
    }
    if let Some(last) = id(single.last()) {
        let eos = *found.texts[EOS].get_or_insert(last);
        if eos != last {
            // What ends a text is another token than what ends a turn.
            found.texts[EOT].get_or_insert(eos);
            found.texts[EOS] = Some(last);
        }
        found.add_eos = Some(true);
    }
}

/// One template, or a list of named ones of which `default` is the one.
fn chat_templates(template: &Json, metadata: &mut Metadata) {
    const KEY: &str = "tokenizer.chat_template";
    if let Some(text) = template.as_str() {
        metadata.set(KEY, Value::Text(text.to_owned()));
        return;
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut names = Texts::new();
    let mut main = None;
    for choice in template.as_array().into_iter().flatten() {
        let text = |key: &str| choice.get(key).and_then(Json::as_str);
        let (Some(name), Some(body)) = (text("name"), text("template")) else { continue };
        let name: String = name.chars().map(plain).collect();
        match name.as_str() {
            "" => {}
            "default" => main = Some(body),
            name => {
                metadata.set(&format!("{KEY}.{name}"), Value::Text(body.to_owned()));
                if !names.iter().any(|known| known == name) {
                    names.push(name);
                }
            }
        }
    }
    if !names.is_empty() {
        metadata.set("tokenizer.chat_templates", Value::Array(Array::Text(names)));
    }
    if let Some(body) = main {
        metadata.set(KEY, Value::Text(body.to_owned()));
    }
}
