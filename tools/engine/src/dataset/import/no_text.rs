//! Text, where this build has no tokenizers.

use std::path::Path;

use super::{Imported, Target};
use crate::error::{Error, ErrorKind};

/// Says that it cannot be done.
pub(super) fn import(_: &Path, _: &Path, _: usize, _: &Target<'_>) -> Result<Imported, Error> {
    Err(ErrorKind::Unsupported { what: "text, in a build without the feature `tokenizers`,".to_owned() }.into())
}
