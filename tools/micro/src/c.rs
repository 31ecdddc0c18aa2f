//! The same arithmetic in C99, as text: what `niwaki export --to c` puts beside a model.

/// `niwaki_micro.h`.
pub const HEADER: &str = include_str!("../c/niwaki_micro.h");

/// `niwaki_micro.c`.
pub const SOURCE: &str = include_str!("../c/niwaki_micro.c");
