//! What a training goes on from.

use niwaki_engine::train::check_state;

/// What the state of a training says of itself.
pub fn training_state(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| check_state(text, 3, 7).is_ok())
}
