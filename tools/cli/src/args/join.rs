//! Arguments of jobs that several runs do.

use std::path::PathBuf;

use clap::Args;
use niwaki_engine::Share;

/// A share of a plan.
pub(super) fn share(text: &str) -> Result<Share, String> {
    text.parse().map_err(|e: niwaki_engine::Error| e.to_string())
}

#[derive(Args, Debug)]
pub(crate) struct Join {
    /// The folder of the parts
    pub(crate) dir: PathBuf,
    /// Write one file with the bytes of a run that was not split, instead of an index beside the parts; a
    /// folder with such a file where the name does not end in .safetensors
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
    /// Overwrite the output, or the index, if it exists
    #[arg(long)]
    pub(crate) force: bool,
    /// Wait until the disk has the output
    #[arg(long, requires = "output")]
    pub(crate) durable: bool,
}
