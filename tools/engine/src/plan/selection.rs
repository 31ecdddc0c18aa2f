//! Which weights of masked tensors are stored.

use std::collections::BTreeMap;

use niwaki_codes::{Mask, Shape};
use niwaki_container::{Kept, matrix};
use niwaki_prune::{NofM, Pattern};

use crate::destination::{Format, inputs_first};
use crate::error::{Error, ErrorKind};
use crate::mask::MaskFiles;
use crate::mask::outputs::stacked;
use crate::recipe::{Action, MaskSource, Rule};
use crate::source::{Opened, Source, SourceTensor};

/// A list of positions is written where at most one weight of so many is kept: it is then less
/// than two thirds of a mask.
const POSITIONS_FROM: usize = 8;

/// Which weights of a masked tensor are stored.
#[derive(Debug, PartialEq)]
pub enum Selection {
    /// The largest magnitudes.
    Magnitude(Pattern),
    /// The largest n of every m down a column: along the inputs of a weight whose rows are inputs.
    Down(NofM),
    /// A given mask.
    Given(Mask),
}

impl Selection {
    /// How many weights of a tensor it keeps, and what is to tell which.
    pub(super) fn kept(&self, shape: &Shape) -> Kept {
        let (rows, cols) = matrix(shape);
        let weights = match self {
            Self::Magnitude(pattern) => pattern.kept_count(rows, cols) as usize,
            Self::Down(run) => Pattern::NofM(*run).kept_count(cols, rows) as usize,
            Self::Given(mask) => mask.kept(),
        };
        let few = weights <= shape.elements() / POSITIONS_FROM;
        if few { Kept::by_positions(weights) } else { Kept::by_mask(weights) }
    }

    /// What the rule does not say of it.
    pub(super) fn note(&self) -> Option<String> {
        match self {
            Self::Down(run) => Some(format!("its rows are inputs: {} goes down its columns", Pattern::NofM(*run))),
            _ => None,
        }
    }
}

/// What masks of a checkpoint's tensors are made of.
pub(super) struct Selector {
    files: MaskFiles,
    /// Weights whose rows are inputs, with their dimensions; of a checkpoint without a graph none is known.
    inputs_first: BTreeMap<String, usize>,
}

impl Selector {
    /// That of the rules for a checkpoint.
    pub(super) fn new(source: &Source<'_>, rules: &[Rule]) -> Self {
        let runs = |rule: &Rule| matches!(rule.action, Action::Mask(MaskSource::Magnitude(Pattern::NofM(_))));
        let inputs_first = match source.opened() {
            Opened::Onnx(onnx) if rules.iter().any(runs) => inputs_first(onnx.model()),
            _ => BTreeMap::new(),
        };
        Self { files: MaskFiles::default(), inputs_first }
    }

    /// The weights of a tensor that a mask keeps; none where it has no weights.
    ///
    /// # Errors
    ///
    /// Formats that hold no masks, those of mask files, and n of every m of stacks of matrices whose rows are inputs.
    pub(super) fn select(
        &mut self,
        mask: &MaskSource,
        tensor: &SourceTensor<'_>,
        to: Format,
    ) -> Result<Option<Selection>, Error> {
        let shape = tensor.shape();
        if shape.elements() == 0 {
            return Ok(None);
        }
        if to != Format::Safetensors {
            let error = Error::from(ErrorKind::Held { format: to.name(), scheme: "masks".to_owned() });
            return Err(error.hinting("`--to safetensors` does; `export` writes zeros from that"));
        }
        Ok(Some(match (mask, self.inputs_first.get(tensor.name())) {
            (MaskSource::Magnitude(Pattern::NofM(run)), Some(2)) => Selection::Down(*run),
            (MaskSource::Magnitude(Pattern::NofM(_)), Some(rank)) => return Err(stacked(*rank)),
            (MaskSource::Magnitude(pattern), _) => Selection::Magnitude(*pattern),
            (MaskSource::File(path), _) => Selection::Given(self.files.mask(path, tensor.name(), matrix(shape))?),
        }))
    }
}
