//! What a folder of Hugging Face says of its model.

use niwaki_model::ErrorKind;
use niwaki_model::hf::{Config, build};

use crate::text::refused;

/// Configurations: one that is accepted lacks nothing but the weights.
pub fn hf_config(bytes: &[u8]) -> bool {
    match Config::parse(bytes).and_then(|config| build(&config, &|_| Ok(None))) {
        Ok(_) => panic!("a model without weights"),
        Err(error) => {
            refused(&error);
            matches!(error.kind(), ErrorKind::Weights(_))
        }
    }
}
