//! From a checkpoint with one stack of patches to the same checkpoint with another.
//!
//! ```text
//! stored bytes --record--> bytes without patches --new stack--> bytes to store
//!                                   '--------- correction -------'
//! ```
//!
//! Every block of rows goes this way by itself, on any thread. What a stack makes of a weight
//! hangs on the weight without patches and on the stack alone: whoever adds two patches one
//! after the other gets the bytes of whoever adds both at once.

use std::collections::BTreeMap;
use std::mem::take;
use std::ops::Range;

use niwaki_codes::PatchKind;
use niwaki_container::{Part, encode_chunk};
use niwaki_quant::signature::arrival::Arrival;
use rayon::prelude::*;

use super::current::Corrections;
use super::files::{File, Place, place};
use super::shift::{Values, Way, shift};
use super::storage::Stored;
use crate::blocks::Blocks;
use crate::error::{Error, ErrorKind};
use crate::signature::bound::TensorPatch;

/// One tensor whose stack changes.
pub(super) struct Task<'a> {
    pub(super) stored: Stored<'a>,
    /// Where each part stands.
    pub(super) places: Vec<Place>,
    /// What is laid over it now, and what takes that off.
    old: Vec<TensorPatch<'a>>,
    corrections: BTreeMap<usize, Corrections<'a>>,
    /// What is to be laid over it.
    pub(super) new: Vec<TensorPatch<'a>>,
    scales: bool,
    blocks: Blocks,
}

/// Told the place of a part, how far into it bytes belong, and the bytes.
type Write<'w> = &'w (dyn Fn(&Place, usize, Vec<u8>) -> Result<(), Error> + Sync);

/// What came of a task, or of one block of it.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) arrival: Arrival,
    /// For each part that changes: the corrections of every block, in order.
    pub(super) corrections: BTreeMap<usize, Vec<u8>>,
}

impl<'a> Task<'a> {
    pub(super) fn new(
        stored: Stored<'a>,
        files: &[File<'_>],
        (old, new): (Vec<TensorPatch<'a>>, Vec<TensorPatch<'a>>),
        corrections: BTreeMap<usize, Corrections<'a>>,
    ) -> Result<Self, Error> {
        let lost = || ErrorKind::Patch { what: "stands in none of the files as raw bytes".to_owned() };
        let places = stored.parts.iter().map(|part| place(files, part.bytes).ok_or_else(lost));
        let places = places.collect::<Result<Vec<_>, _>>()?;
        let scales = old.iter().chain(&new).any(|patch| patch.kind == PatchKind::Scale);
        let blocks = stored.blocks();
        Ok(Self { stored, places, old, corrections, new, scales, blocks })
    }

    /// The parts that change, by number.
    pub(super) fn changing(&self) -> impl Iterator<Item = (usize, Part)> {
        let parts = self.stored.parts.iter().enumerate().map(|(at, part)| (at, part.part));
        parts.filter(|(_, part)| self.stored.changes(*part, self.scales))
    }

    /// The names of those parts in the files.
    pub(super) fn changing_names(&self) -> impl Iterator<Item = &str> {
        self.changing().map(|(at, _)| self.stored.parts[at].name.as_str())
    }

    /// Does all blocks; `write` is told the place of bytes in a part, and the bytes.
    pub(super) fn run(&self, write: Write<'_>) -> Result<Outcome, Error> {
        let block = |index: usize| {
            let done = self.block(index, &self.blocks.get(index).rows, write);
            done.map_err(|e| e.of(self.stored.tensor.name()))
        };
        let blocks = (0..self.blocks.len()).into_par_iter().map(block).collect::<Result<Vec<_>, _>>()?;
        let mut outcome = Outcome::default();
        for block in blocks {
            outcome.arrival.merge(&block.arrival);
            for (part, stream) in block.corrections {
                outcome.corrections.entry(part).or_default().extend(stream);
            }
        }
        Ok(outcome)
    }

    fn block(&self, index: usize, rows: &Range<usize>, write: Write<'_>) -> Result<Outcome, Error> {
        self.stored.tensor.ensure_unchanged()?;
        let mut original = self.stored.read(rows);
        if !self.old.is_empty() {
            let old = Values::new(&self.stored, rows, &self.old)?;
            shift(&self.stored, rows, &old, Way::Off, &mut original)?;
            for (part, corrections) in &self.corrections {
                let width = self.stored.parts[*part].width;
                corrections.apply(index, width, &mut original[*part])?;
            }
        }
        let mut outcome = Outcome::default();
        let mut now = original.clone();
        if !self.new.is_empty() {
            let new = Values::new(&self.stored, rows, &self.new)?;
            outcome.arrival = shift(&self.stored, rows, &new, Way::On, &mut now)?;
            let mut predicted = now.clone();
            shift(&self.stored, rows, &new, Way::Off, &mut predicted)?;
            for (part, _) in self.changing() {
                let width = self.stored.parts[part].width;
                let mut stream = Vec::new();
                encode_chunk(width, &original[part], &predicted[part], &mut stream)?;
                outcome.corrections.insert(part, stream);
            }
        }
        for (part, _) in self.changing() {
            write(&self.places[part], self.stored.range(part, rows).start, take(&mut now[part]))?;
        }
        Ok(outcome)
    }
}
