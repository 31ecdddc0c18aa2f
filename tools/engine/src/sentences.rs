//! What a folder of sentence-transformers says of how a text becomes a vector.
//!
//! ```text
//! modules.json   Transformer --> Pooling --> Normalize?
//!                    |              '-- FOLDER/config.json: pooling_mode_…
//!                    '-- sentence_…_config.json: max_seq_length, do_lower_case
//! ```
//!
//! A folder without `modules.json` says nothing: vectors are the means of tokens', of length 1, and texts as long as the
//! model allows. What a folder says otherwise is done, or refused; nothing is passed over.

use std::borrow::Cow;
use std::path::Path;

use niwaki_model::{PoolMode, Pooling};
use niwaki_tensors::{Limits, read_limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind};

/// Files of which the first that is there says how long texts are.
const SETTINGS: [&str; 7] = ["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"];

/// The keys of modes, in the order in which their vectors stand.
const MODES: [(&str, PoolMode); 6] = [
    ("pooling_mode_cls_token", PoolMode::First),
    ("pooling_mode_max_tokens", PoolMode::Max),
    ("pooling_mode_mean_tokens", PoolMode::Mean),
    ("pooling_mode_mean_sqrt_len_tokens", PoolMode::RootMean),
    ("pooling_mode_weightedmean_tokens", PoolMode::Weighted),
    ("pooling_mode_lasttoken", PoolMode::Last),
];

/// How texts become vectors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sentences {
    /// How many tokens of a text count, where it is said.
    most: Option<usize>,
    /// Whether texts are taken in lower case.
    lower: bool,
    /// Whether space around texts is taken off.
    trims: bool,
    /// How the vectors of tokens become one.
    pub pooling: Pooling,
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    r#type: String,
}

#[derive(Default, Deserialize)]
struct Settings {
    max_seq_length: Option<usize>,
    do_lower_case: Option<bool>,
}

/// A JSON file of the folder; none where there is none.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    if !path.exists() {
        return Ok(None);
    }
    let text = read_limited(path, &Limits::default())?;
    serde_json::from_slice(&text).map(Some).map_err(|e| wrong(path, e.to_string()))
}

fn wrong(path: &Path, what: impl Into<String>) -> Error {
    Error::from(ErrorKind::Unlike { what: what.into() }).at(path)
}

fn unsupported(path: &Path, what: impl Into<String>) -> Error {
    Error::from(ErrorKind::Unsupported { what: what.into() }).at(path)
}

impl Sentences {
    /// What the folder of a model says.
    ///
    /// # Errors
    ///
    /// Files that cannot be read or are otherwise than they should be; modules, modes and prompts that are not known here.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("modules.json");
        let Some(modules) = read::<Vec<Module>>(&path)? else { return Ok(Self::default()) };
        let kinds: Vec<&str> =
            modules.iter().map(|module| module.r#type.rsplit('.').next().unwrap_or_default()).collect();
        let [transformer, pooling, more @ ..] = modules.as_slice() else {
            return Err(wrong(&path, format!("{} modules, a Transformer and a Pooling expected", modules.len())));
        };
        match kinds.as_slice() {
            ["Transformer", "Pooling"] | ["Transformer", "Pooling", "Normalize"] => {}
            _ => return Err(unsupported(&path, format!("a model of {}", kinds.join(", ")))),
        }
        if !transformer.path.is_empty() {
            return Err(unsupported(&path, format!("a Transformer in the folder `{}`", transformer.path)));
        }
        let prompts = folder.join("config_sentence_transformers.json");
        if read::<Map<String, Value>>(&prompts)?
            .is_some_and(|keys| keys.get("default_prompt_name").is_some_and(|name| !name.is_null()))
        {
            return Err(unsupported(&prompts, "a prompt before every text (`default_prompt_name`)"));
        }
        let files = SETTINGS.map(|family| folder.join(format!("sentence_{family}_config.json")));
        let file = files.iter().find(|file| file.exists());
        let Settings { max_seq_length, do_lower_case } =
            file.map(|file| read(file)).transpose()?.flatten().unwrap_or_default();
        if let (Some(0), Some(file)) = (max_seq_length, file) {
            return Err(wrong(file, "`max_seq_length` is 0, 1 or more expected"));
        }
        let modes = modes(&folder.join(&pooling.path).join("config.json"))?;
        Ok(Self {
            most: max_seq_length,
            lower: do_lower_case.unwrap_or(false),
            trims: true,
            pooling: Pooling { modes, normalize: !more.is_empty() },
        })
    }

    /// How many tokens of a text count, in a model that takes `context`.
    pub fn most(&self, context: usize) -> usize {
        self.most.map_or(context, |most| most.min(context))
    }

    /// A text as the tokenizer gets it.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let text = if self.trims { text.trim() } else { text };
        if self.lower { Cow::Owned(text.to_lowercase()) } else { Cow::Borrowed(text) }
    }
}

/// The modes that a pooling's `config.json` says.
fn modes(path: &Path) -> Result<Vec<PoolMode>, Error> {
    let keys: Map<String, Value> = read(path)?.ok_or_else(|| wrong(path, "is not there"))?;
    let mut modes = Vec::new();
    for (key, value) in keys.iter().filter(|(key, _)| key.starts_with("pooling_mode")) {
        let asked =
            value.as_bool().ok_or_else(|| wrong(path, format!("`{key}` is {value}, true or false expected")))?;
        match MODES.iter().position(|(known, _)| known == key) {
            _ if !asked => {}
            Some(at) => modes.push(at),
            None => {
                let known = MODES.map(|(key, _)| key).join(", ");
                return Err(unsupported(path, format!("`{key}`")).hinting(format!("there are {known}")));
            }
        }
    }
    if modes.is_empty() {
        return Err(wrong(path, "no `pooling_mode_…` is true, one or more expected"));
    }
    modes.sort_unstable();
    Ok(modes.into_iter().map(|at| MODES[at].1).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What a folder of these files says.
    fn said(name: &str, files: &[(&str, &str)]) -> Result<Sentences, String> {
        let folder = std::env::temp_dir().join(format!("niwaki-sentences-{name}-{}", std::process::id()));
        for (path, text) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(&folder).unwrap();
        let found = Sentences::open(&folder).map_err(|e| e.to_string().replace(&*folder.to_string_lossy(), "@"));
        fs::remove_dir_all(folder).unwrap();
        found
    }

    const TWO: &str = r#"[{"idx":0,"path":"","type":"sentence_transformers.models.Transformer"},
        {"idx":1,"path":"1_Pooling","type":"sentence_transformers.models.Pooling"}]"#;

    #[test]
    fn what_a_folder_says_is_done() {
        assert_eq!(said("none", &[]), Ok(Sentences::default()));
        let cls = r#"{"word_embedding_dimension":8,"pooling_mode_max_tokens":true,"pooling_mode_cls_token":true}"#;
        let files = [
            ("modules.json", TWO),
            ("1_Pooling/config.json", cls),
            ("sentence_bert_config.json", r#"{"max_seq_length":16,"do_lower_case":true}"#),
        ];
        let found = said("cls", &files).unwrap();
        assert_eq!(found.pooling, Pooling { modes: vec![PoolMode::First, PoolMode::Max], normalize: false });
        assert_eq!((found.most(64), found.most(8)), (16, 8));
        assert_eq!(found.text("  A Cat "), "a cat");
        assert_eq!(Sentences::default().text("  A Cat "), "  A Cat ");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let pooling = |text| [("modules.json", TWO), ("1_Pooling/config.json", text)];
        for (name, files, expected) in [
            ("mode", pooling(r#"{"pooling_mode_median":true}"#), "`pooling_mode_median` is not supported"),
            (
                "flag",
                pooling(r#"{"pooling_mode_cls_token":1}"#),
                "`pooling_mode_cls_token` is 1, true or false expected",
            ),
            ("nothing", pooling(r#"{"pooling_mode_cls_token":false}"#), "no `pooling_mode_…` is true"),
            ("text", pooling("{"), "EOF while parsing"),
        ] {
            let refused = said(name, &files).unwrap_err();
            assert!(refused.contains("@/1_Pooling/config.json") && refused.contains(expected), "{refused}");
        }
        let dense = TWO.replace(".Pooling", ".Dense");
        let refused = said("dense", &[("modules.json", &dense)]).unwrap_err();
        assert!(refused.contains("a model of Transformer, Dense is not supported"), "{refused}");
        let inside = TWO.replace(r#""path":"""#, r#""path":"0_BERT""#);
        assert!(said("inside", &[("modules.json", &inside)]).unwrap_err().contains("0_BERT"));
        let missing = said("missing", &[("modules.json", TWO)]).unwrap_err();
        assert!(missing.contains("is not there"), "{missing}");
        let prompt = [
            ("modules.json", TWO),
            ("1_Pooling/config.json", r#"{"pooling_mode_cls_token":true}"#),
            ("config_sentence_transformers.json", r#"{"default_prompt_name":"query"}"#),
        ];
        assert!(said("prompt", &prompt).unwrap_err().contains("default_prompt_name"));
    }
}
