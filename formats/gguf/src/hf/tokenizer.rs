//! Tokens, their types and scores, and merges, from a `tokenizer.json`.
//!
//! Two kinds of byte-pair encoding come in this file. One spells bytes as characters and
//! splits texts first (`gpt2` in GGUF); the other is a SentencePiece model written as merges,
//! with a token `<0x..>` for every byte (`llama` in GGUF), which llama.cpp runs on scores.
//! SentencePiece numbers its scores downwards in the order in which pairs were merged; that
//! order stands in the merges, so the scores come from there.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::config::{Config, fault};
use super::fault::FolderFault;
use super::pre;
use crate::error::Error;
use crate::value::{Array, Metadata, Texts, Value};

const FILE: &str = "tokenizer.json";

/// More tokens than any model has.
const MOST_TOKENS: u32 = 1 << 24;

/// The types of tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// The scores of tokens that no merge makes.
const ADDED_SCORE: f32 = -1000.0;
const UNUSED_SCORE: f32 = -10_000.0;

/// Which kind of tokenizer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    /// Bytes as characters.
    ByteLevel,
    /// SentencePiece with a token for every byte.
    ByteFallback,
}

/// A `tokenizer.json`.
pub(crate) struct Tokenizer<'a> {
    root: &'a Json,
    pub(crate) model: Model,
}

impl<'a> Tokenizer<'a> {
    pub(crate) fn new(root: &'a Json) -> Result<Self, Error> {
        let model = root.get("model").ok_or_else(|| Config::new(FILE, root).missing("model"))?;
        let inner = Config::new(FILE, model);
        if let Some(other) = inner.get("type").filter(|kind| kind.as_str() != Some("BPE")) {
            return Err(inner.refuse("model.type", other, "`BPE`"));
        }
        let model = if inner.flag("byte_fallback") == Some(true) { Model::ByteFallback } else { Model::ByteLevel };
        Ok(Self { root, model })
    }

    /// The tokens that were added to those of the model: number, text, whether they are special.
    pub(crate) fn added(&self) -> impl Iterator<Item = (u64, &'a str, bool)> {
        let listed = self.root.get("added_tokens").and_then(Json::as_array).into_iter().flatten();
        listed.filter_map(|token| {
            let special = token.get("special").and_then(Json::as_bool).unwrap_or(false);
            Some((token.get("id")?.as_u64()?, token.get("content")?.as_str()?, special))
        })
    }

    /// The number of an added token.
    pub(crate) fn added_id(&self, text: &str) -> Option<u64> {
        self.added().find(|(_, content, _)| *content == text).map(|(id, ..)| id)
    }

    /// The post-processor's parts, the one part if it is no sequence.
    pub(crate) fn processors(&self) -> impl Iterator<Item = &'a Json> {
        let whole = self.root.get("post_processor").filter(|value| !value.is_null());
        let parts = whole.and_then(|whole| whole.get("processors")).and_then(Json::as_array);
        let alone = if parts.is_none() { whole } else { None };
        parts.into_iter().flatten().chain(alone)
    }

    /// Writes model, pre-tokenizer, tokens, scores, types and merges.
    pub(crate) fn describe(&self, vocab: u32, pre: Option<&str>, metadata: &mut Metadata) -> Result<(), Error> {
        let text = |text: &str| Value::Text(text.to_owned());
        let merges = self.merges()?;
        let list = self.tokens(vocab, &merges)?;
        let kinds = Value::Array(Array::I32(list.kinds.iter().map(|kind| *kind as i32).collect()));
        match self.model {
            Model::ByteLevel => {
                let pre = match pre {
                    Some(name) => name,
                    None => pre::name(self.root)?,
                };
                metadata.set("tokenizer.ggml.model", text("gpt2"));
                metadata.set("tokenizer.ggml.pre", text(pre));
                metadata.set("tokenizer.ggml.tokens", list.texts());
                metadata.set("tokenizer.ggml.token_type", kinds);
                metadata.set("tokenizer.ggml.merges", Value::Array(Array::Text(merges)));
            }
            Model::ByteFallback => {
                metadata.set("tokenizer.ggml.model", text("llama"));
                metadata.set("tokenizer.ggml.pre", text(pre.unwrap_or("default")));
                metadata.set("tokenizer.ggml.tokens", list.texts());
                metadata.set("tokenizer.ggml.scores", Value::Array(Array::F32(list.scores)));
                metadata.set("tokenizer.ggml.token_type", kinds);
            }
        }
        Ok(())
    }

    /// Tokens by number; of those that are added, the added ones.
    fn tokens(&self, vocab: u32, merges: &Texts) -> Result<List<'a>, Error> {
        let config = Config::new(FILE, self.root);
        let entries = self.root.pointer("/model/vocab").and_then(Json::as_object);
        let entries = entries.ok_or_else(|| config.missing("model.vocab"))?;
        let mut by_id: BTreeMap<u64, &str> = BTreeMap::new();
        for (text, id) in entries {
            let number = id.as_u64().ok_or_else(|| config.refuse("model.vocab", id, "a number for every token"))?;
            if by_id.insert(number, text).is_some() {
                return Err(fault(FolderFault::TokenTwice { id: number }));
            }
        }
        let highest = by_id.keys().next_back().copied().into_iter().chain(self.added().map(|(id, ..)| id)).max();
        let has = highest.map_or(0, |id| id.saturating_add(1));
        if has > vocab.into() || vocab > MOST_TOKENS {
            return Err(fault(FolderFault::Tokens { has, says: vocab.into() }));
        }
        let mut list = List::unused(vocab);
        let unknown = self.root.pointer("/model/unk_token").and_then(Json::as_str);
        let ranks = Ranks::new(if self.model == Model::ByteFallback { Some(merges) } else { None });
        for (id, text) in by_id {
            let kind = match self.model {
                Model::ByteFallback if is_byte(text) => Kind::Byte,
                Model::ByteFallback if Some(text) == unknown => Kind::Unknown,
                _ => Kind::Normal,
            };
            let score = if kind == Kind::Normal { ranks.score(text, id) } else { 0.0 };
            list.set(id, Token::Known(text), kind, score);
        }
        for (id, text, special) in self.added() {
            if special || looks_special(text) {
                list.set(id, Token::Known(text), Kind::Control, ADDED_SCORE);
            } else {
                list.set(id, Token::Spaced(text.replace('\u{2581}', " ")), Kind::UserDefined, ADDED_SCORE);
            }
        }
        Ok(list)
    }

    /// The pairs that are merged, two parts with a space between them.
    fn merges(&self) -> Result<Texts, Error> {
        let config = Config::new(FILE, self.root);
        let key = "model.merges";
        let listed = self.root.pointer("/model/merges").and_then(Json::as_array);
        let mut merges = Texts::new();
        for merge in listed.ok_or_else(|| config.missing(key))? {
            match merge {
                Json::String(pair) => merges.push(pair),
                Json::Array(pair) => match pair.as_slice() {
                    // A space within a part is spelled as bytes as characters spell it.
                    [Json::String(left), Json::String(right)] => {
                        merges.push(&format!("{} {}", left.replace(' ', "\u{120}"), right.replace(' ', "\u{120}")));
                    }
                    _ => return Err(config.refuse(key, merge, "a list of pairs")),
                },
                other => return Err(config.refuse(key, other, "a list of pairs")),
            }
        }
        Ok(merges)
    }
}

enum Token<'a> {
    Known(&'a str),
    Spaced(String),
    Missing(u32),
}

struct List<'a> {
    tokens: Vec<Token<'a>>,
    kinds: Vec<Kind>,
    scores: Vec<f32>,
}

impl<'a> List<'a> {
    fn unused(n: u32) -> Self {
        let len = n as usize;
        Self {
            tokens: (0..n).map(Token::Missing).collect(),
            kinds: vec![Kind::Unused; len],
            scores: vec![UNUSED_SCORE; len],
        }
    }

    fn set(&mut self, id: u64, token: Token<'a>, kind: Kind, score: f32) {
        let Ok(at) = usize::try_from(id) else { return };
        if let (Some(t), Some(k), Some(s)) = (self.tokens.get_mut(at), self.kinds.get_mut(at), self.scores.get_mut(at))
        {
            (*t, *k, *s) = (token, kind, score);
        }
    }

    fn texts(&self) -> Value {
        let mut texts = Texts::new();
        for token in &self.tokens {
            match token {
                Token::Known(text) => texts.push(text),
                Token::Spaced(text) => texts.push(text),
                Token::Missing(id) => texts.push(&format!("[PAD{id}]")),
            }
        }
        Value::Array(Array::Text(texts))
    }
}

/// The order in which merges make tokens.
struct Ranks {
    by_text: BTreeMap<String, u32>,
}

impl Ranks {
    fn new(merges: Option<&Texts>) -> Self {
        let mut by_text = BTreeMap::new();
        for merge in merges.into_iter().flat_map(Texts::iter) {
            let next = by_text.len() as u32;
            by_text.entry(merge.replacen(' ', "", 1)).or_insert(next);
        }
        Self { by_text }
    }

    /// Minus the rank; tokens that no merge makes come after all others, by number.
    fn score(&self, text: &str, id: u64) -> f32 {
        match self.by_text.get(text) {
            Some(rank) => -(*rank as f32),
            None => -((self.by_text.len() as u64 + id) as f32),
        }
    }
}

/// `<0x0A>`.
fn is_byte(text: &str) -> bool {
    let hex = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    hex.is_some_and(|hex| hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Whether an added token is one of control, though nobody marked it as special: Gemma and
/// others leave such tokens unmarked.
fn looks_special(text: &str) -> bool {
    let between = |open: &str, close: &str| text.starts_with(open) && text.ends_with(close);
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || between("<|", "|>")
        || between("<\u{ff5c}", "\u{ff5c}>")
        || between("<unused", ">")
}
