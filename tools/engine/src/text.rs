//! Text as tokens, by the tokenizer of a Hugging Face folder.

#[cfg_attr(feature = "tokenizers", path = "text/tokenizer.rs")]
#[cfg_attr(not(feature = "tokenizers"), path = "text/none.rs")]
mod tokenizer;

use std::path::Path;

use niwaki_tensors::{Limits, read_limited};

use crate::error::{Error, ErrorKind};
pub use tokenizer::Tokenizer;

/// The tokens that end a text, as a folder says it.
///
/// # Errors
///
/// A `config.json` that cannot be read, and tokens that are no numbers.
pub fn ends(folder: &Path) -> Result<Vec<u32>, Error> {
    for name in ["generation_config.json", "config.json"] {
        let path = folder.join(name);
        if name == "generation_config.json" && !path.exists() {
            continue;
        }
        let text = read_limited(&path, &Limits::default())?;
        let wrong = |what: String| Error::from(ErrorKind::Unlike { what }).at(&path);
        let json: serde_json::Value = serde_json::from_slice(&text).map_err(|e| wrong(format!("no JSON: {e}")))?;
        let token = |value: &serde_json::Value| {
            let token = value.as_u64().and_then(|token| u32::try_from(token).ok());
            token.ok_or_else(|| wrong("`eos_token_id`: tokens expected".to_owned()))
        };
        match json.get("eos_token_id") {
            None | Some(serde_json::Value::Null) => {}
            Some(serde_json::Value::Array(all)) => return all.iter().map(token).collect(),
            Some(one) => return Ok(vec![token(one)?]),
        }
    }
    Ok(Vec::new())
}
