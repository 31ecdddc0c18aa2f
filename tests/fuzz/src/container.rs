//! The metadata of a container.

use niwaki_container::parse_meta;

use crate::text::refused;

/// The JSON under the metadata key: what is accepted is written back and read again.
pub fn container_meta(bytes: &[u8]) -> bool {
    match parse_meta(bytes) {
        Ok(meta) => {
            let json = meta.to_json();
            let again = parse_meta(json.as_bytes());
            assert_eq!(again.expect("our own text").to_json(), json, "metadata changes when it is copied");
        }
        Err(error) => return refused(&error),
    }
    true
}
