//! The JSON files of a Hugging Face folder, described as GGUF.

use niwaki_gguf::hf::{Fate, Folder, Outcome, Settings, SourceTensor, describe, names_back};
use niwaki_gguf::{Layout, parse};
use niwaki_tensors::Limits;
use serde_json::Value;

/// One object with the files of a folder by name and a list of `tensors`, each with name and
/// shape. What is described has a fate for every tensor, names that lead back, and metadata
/// that can be written.
pub fn gguf_folder(bytes: &[u8]) -> bool {
    let Ok(all) = serde_json::from_slice::<Value>(bytes) else { return false };
    let file = |name: &str| all.get(name).filter(|value| !value.is_null());
    let Some(config) = file("config") else { return false };
    let folder = Folder {
        config,
        tokenizer: file("tokenizer"),
        tokenizer_config: file("tokenizer_config"),
        special_tokens_map: file("special_tokens_map"),
        generation_config: file("generation_config"),
        chat_template: file("chat_template").and_then(Value::as_str),
    };
    let listed: Vec<(&str, Vec<usize>)> =
        all.get("tensors").and_then(Value::as_array).into_iter().flatten().filter_map(tensor).collect();
    let tensors: Vec<_> = listed.iter().map(|(name, shape)| SourceTensor { name, shape }).collect();
    let described = match describe(&folder, &tensors, &Settings::default()) {
        Ok(Outcome::Known(described)) => described,
        Ok(Outcome::Unknown { .. }) => return true,
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains(char::is_control) && !text.is_empty(), "{text:?}");
            return false;
        }
    };
    assert_eq!(described.fates.len(), tensors.len());
    for (fate, (_, shape)) in described.fates.iter().zip(&listed) {
        let Fate::Write { name, transform, .. } = fate else { continue };
        assert!(names_back(&described.metadata, name).is_some(), "`{name}` does not lead back");
        let rows = shape.first().copied().unwrap_or(0).min(100);
        assert!(!transform.fits(rows) || (0..rows).all(|row| transform.source_row(row, rows) < rows));
    }
    let layout = Layout::new(&described.metadata, &[]).expect("metadata of a folder");
    parse(layout.header(), &Limits::default()).expect("what we wrote");
    true
}

fn tensor(entry: &Value) -> Option<(&str, Vec<usize>)> {
    let shape = entry.get(1)?.as_array()?.iter().filter_map(|dim| usize::try_from(dim.as_u64()?).ok());
    Some((entry.get(0)?.as_str()?, shape.collect()))
}
