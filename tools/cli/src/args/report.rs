//! Arguments of `report`.

use std::path::PathBuf;

use clap::Args;

use super::Output;

#[derive(Args, Debug)]
pub(crate) struct Report {
    /// Checkpoints, masks, signatures, recipes (.toml) and answers of verbs to --json (.json); what `eval`
    /// measured stands behind the file that it is of
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
}
