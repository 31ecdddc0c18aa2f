//! Signatures through which a checkpoint is seen.

use std::path::Path;

use niwaki_codes::Bits;
use niwaki_engine::folder::Activations;
use niwaki_engine::recipe::Recipe;
use niwaki_engine::signature::{Patch, Signature, overlaid, path_and_alpha};
use niwaki_engine::{Given, Names, Opened, Source};
use niwaki_tensors::Limits;

use crate::args::{self as flags, Patches};
use crate::failure::Stop;

/// Does something with a model's weights as the flags say them.
pub(super) fn given<T>(flags: &flags::Given, work: impl FnOnce(Given<'_>) -> Result<T, Stop>) -> Result<T, Stop> {
    let open = Open::new(&flags.patches)?;
    let bits = flags.bits.map(super::width).transpose()?;
    work(Given { weights: flags.weights.as_deref(), bits, patches: &open.patches(), ..Given::default() })
}

/// What packed matrices are multiplied with, as a flag says it.
pub(super) fn activations(flag: flags::Inputs) -> Activations {
    match flag {
        flags::Inputs::Float => Activations::Float,
        flags::Inputs::Dynamic => Activations::Dynamic,
    }
}

/// Open signatures with their alphas, nearest to the checkpoint first.
pub(super) struct Open {
    signatures: Vec<(Signature, f64, bool)>,
}

impl Open {
    /// Those of the flags.
    pub(super) fn new(flags: &Patches) -> Result<Self, Stop> {
        Self::of_texts(&flags.patch, flags.transfer)
    }

    /// Those of texts like `SIG@ALPHA`.
    pub(super) fn of_texts(texts: &[String], transfer: bool) -> Result<Self, Stop> {
        let mut open = Self { signatures: Vec::new() };
        for text in texts {
            let (path, alpha) = path_and_alpha(text)?;
            open.add(path, alpha, transfer)?;
        }
        Ok(open)
    }

    /// Those of a recipe.
    pub(super) fn of_recipe(recipe: &Recipe) -> Result<Self, Stop> {
        let mut open = Self { signatures: Vec::new() };
        for patch in &recipe.patches {
            open.add(&patch.signature, patch.alpha, patch.transfer)?;
        }
        Ok(open)
    }

    fn add(&mut self, path: &Path, alpha: f64, transfer: bool) -> Result<(), Stop> {
        self.signatures.push((Signature::open(path, &Limits::default())?, alpha, transfer));
        Ok(())
    }

    /// The signatures.
    pub(super) fn patches(&self) -> Vec<Patch<'_>> {
        self.signatures
            .iter()
            .map(|(signature, alpha, transfer)| Patch { signature, alpha: *alpha, transfer: *transfer })
            .collect()
    }

    /// The checkpoint seen through them.
    pub(super) fn over<'a>(&'a self, opened: &'a Opened, bits: Option<Bits>, names: Names) -> Result<Source<'a>, Stop> {
        Ok(overlaid(opened, bits, names, &self.patches())?)
    }
}
