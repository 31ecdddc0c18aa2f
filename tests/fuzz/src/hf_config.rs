//! What a folder of Hugging Face says of its model.

use niwaki_model::hf::{Config, build};
use niwaki_model::{Error, ErrorKind};

use crate::text::refused;

/// Configurations: one that is accepted lacks nothing but the weights, and so does that of its first
/// layer alone.
pub fn hf_config(bytes: &[u8]) -> bool {
    let accepted = |config: Result<&Config, &Error>| match config.map(|config| build(config, &|_| Ok(None))) {
        Ok(Ok(_)) => panic!("a model without weights"),
        Ok(Err(error)) => {
            refused(&error);
            matches!(error.kind(), ErrorKind::Weights(_))
        }
        Err(error) => {
            refused(error);
            false
        }
    };
    let config = Config::parse(bytes);
    let whole = accepted(config.as_ref());
    if let (true, Ok(config)) = (whole, &config) {
        let first = config.keeping(&[0]);
        assert!(accepted(first.as_ref()), "its first layer alone is refused: {first:?}");
    }
    whole
}
