//! One tensor on its way from the mapped source to its parts in the output.
//!
//! ```text
//! know       where a fit asks for it: what is known of the layer's inputs
//! observe    whole-tensor grids only: passes over the weights until the grid is found
//! largest    small floats that share a scale: a pass for the largest magnitude
//! encode     block by block: hash a piece of the source, encode, write at a known place
//! hash       content hashes of the parts, read back from the output
//! ```
//!
//! A tensor that is carried as it is needs no third stage: its part is its source.

mod steps;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use niwaki_codes::{Grouping, Scheme, Uniform, simd::Level};
use niwaki_container::{ContentHasher, Digest, Part, PartSpec, PieceHash};
use niwaki_quant::{Distortion, GridPoint, Solver, Sums, largest};
use niwaki_tensors::Writer;

use crate::blocks::{BLOCK, Blocks};
use crate::device::Device;
use crate::encode::{self, Scratch};
use crate::error::Error;
use crate::journal::{Bits, Finished, Journal};
use crate::masked;
use crate::plan::Planned;
use crate::source::SourceTensor;
use crate::stats::Stats;
use crate::weigh::{self, Known, Weighing};

/// What all jobs of a run share.
pub(crate) struct Run<'a> {
    pub(crate) writer: &'a Writer,
    pub(crate) journal: &'a Journal,
    pub(crate) level: Level,
    /// What encodes beside the processor.
    pub(crate) device: &'a Device,
    /// What is known of the inputs of layers.
    pub(crate) stats: Option<&'a Stats>,
    /// How much their Gram matrices are damped.
    pub(crate) damping: f64,
    /// Tensors, by place in the plan, whose layers' inputs were damped more than usual.
    pub(crate) damped: &'a Mutex<BTreeMap<usize, f64>>,
    /// Told the bytes of source that an item has dealt with.
    pub(crate) progress: &'a (dyn Fn(u64) + Sync),
}

/// One tensor's work.
pub(crate) struct Job<'a> {
    pub(crate) run: &'a Run<'a>,
    /// Index in the plan.
    pub(crate) index: usize,
    pub(crate) planned: &'a Planned,
    pub(crate) source: &'a SourceTensor<'a>,
    /// Its parts and the entries of the output that hold them, in part order.
    pub(crate) parts: Vec<(PartSpec, usize)>,
    /// What an earlier run says of the tensor; believed if the hashes of the parts agree.
    earlier: Option<Finished>,
    state: Mutex<State>,
}

/// Distortion by width; width 0 for uniform codes.
pub(crate) type ByWidth = Vec<(u32, Distortion)>;

#[derive(Default)]
struct State {
    stage: Stage,
    grid: Option<GridPoint>,
    /// The largest magnitude of the tensor.
    largest: f32,
    /// What is known of the layer's inputs.
    known: Option<Arc<Known>>,
    sums: Vec<Option<Sums>>,
    source: Vec<Option<PieceHash>>,
    distortion: Vec<ByWidth>,
    hashes: Vec<Option<PieceHash>>,
    finished: Option<Finished>,
}

#[derive(Default)]
enum Stage {
    #[default]
    Waiting,
    /// Looking for the grid of the whole tensor.
    Observe(Box<Solver>),
    /// Looking for the largest magnitude of the whole tensor.
    Largest,
    /// Taking what is known of the layer's inputs from the statistics.
    Know,
    Encode,
    /// Hashing parts: those just written, or those that an earlier run is said to have finished.
    Hash {
        earlier: bool,
    },
}

impl<'a> Job<'a> {
    /// The work on one planned tensor, or the record of an earlier run that did it.
    pub(crate) fn new(
        run: &'a Run<'a>,
        index: usize,
        planned: &'a Planned,
        source: &'a SourceTensor<'a>,
        parts: Vec<(PartSpec, usize)>,
        earlier: Option<Finished>,
    ) -> Self {
        Self { run, index, planned, source, parts, earlier, state: Mutex::default() }
    }

    /// What is known of the tensor once it is written.
    pub(crate) fn into_finished(self) -> Option<Finished> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).finished
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn source_hasher(&self) -> ContentHasher {
        ContentHasher::new(self.planned.bytes_before)
    }

    /// Whether the source's bytes are its one part.
    fn copies(&self) -> bool {
        self.planned.layout.is_plain() && self.planned.taken
    }

    /// Blocks to encode or to decode; one for a masked tensor; none for one that is copied.
    fn blocks(&self) -> Option<Blocks> {
        let (rows, cols) = self.planned.layout.matrix();
        match self.planned.layout.scheme {
            Some(Scheme::Uniform(scheme)) if matches!(self.planned.weighing, Some(Weighing::Down(_))) => {
                Some(Blocks::of_columns(rows, cols, &scheme))
            }
            // Codes that are taken over come by whole rows.
            Some(_) if self.planned.taken || self.planned.weighing.is_some() => Some(Blocks::of_rows(rows, cols)),
            Some(scheme) => Some(Blocks::new(rows, cols, scheme)),
            None if self.copies() || self.planned.selection.is_some() => None,
            None => Some(Blocks::of_runs(rows, cols)),
        }
    }

    fn encode_items(&self) -> usize {
        match (&self.planned.selection, self.blocks()) {
            (Some(_), _) => 1,
            // No elements are one item, so that the tensor is finished.
            (None, Some(blocks)) => blocks.len().max(1),
            (None, None) => self.source_hasher().pieces() as usize,
        }
    }

    /// Solver of a grid that the whole tensor shares.
    fn solver(&self) -> Option<Solver> {
        match self.planned.layout.scheme {
            Some(Scheme::Uniform(scheme @ Uniform { grouping: Grouping::Tensor, .. }))
                if self.planned.selection.is_none() && !self.planned.taken =>
            {
                Some(Solver::new(&scheme, self.planned.fit))
            }
            _ => None,
        }
    }

    fn start(&self, state: &mut State) -> usize {
        if self.planned.weighing.is_some() {
            state.stage = Stage::Know;
            return 1;
        }
        match (self.planned.layout.scheme, self.solver()) {
            (_, Some(solver)) => self.start_observe(state, solver),
            (Some(Scheme::Float(float)), _) if encode::shares_a_scale(float) && !self.planned.taken => {
                state.stage = Stage::Largest;
                self.pieces()
            }
            _ => self.start_encode(state),
        }
    }

    /// Pieces of the tensor that are looked at before it is encoded.
    fn pieces(&self) -> usize {
        self.planned.elements().div_ceil(BLOCK)
    }

    /// The weights of such a piece.
    fn piece(&self, index: usize) -> std::ops::Range<usize> {
        index * BLOCK..((index + 1) * BLOCK).min(self.planned.elements())
    }

    fn know(&self, _: usize, _: &mut Scratch) -> Result<(), Error> {
        let layer = self.run.stats.and_then(|stats| stats.layer(&self.planned.name));
        let Some((layer, weighing)) = layer.zip(self.planned.weighing) else { return Ok(()) };
        let known = Known::of(&layer, weighing, self.run.damping)?;
        if let Some(damping) = known.damping() {
            self.run.damped.lock().unwrap_or_else(PoisonError::into_inner).insert(self.index, damping);
        }
        self.state().known = Some(Arc::new(known));
        Ok(())
    }

    fn look_for_largest(&self, index: usize, scratch: &mut Scratch) -> Result<(), Error> {
        let range = self.piece(index);
        let start = range.start;
        let found = largest(self.run.level, self.source.values(range, &mut scratch.decoded)?);
        let found = found.map_err(|e| encode::not_encodable(&e.offset(start, 0), &self.planned.name))?;
        let mut state = self.state();
        state.largest = state.largest.max(found);
        Ok(())
    }

    fn start_hash(&self, state: &mut State, earlier: bool) -> usize {
        let pieces = |(spec, _): &(PartSpec, usize)| ContentHasher::new(spec.bytes as u64).pieces() as usize;
        let items = self.parts.iter().map(pieces).sum();
        state.stage = Stage::Hash { earlier };
        state.known = None;
        state.hashes = vec![None; items];
        items
    }

    fn start_encode(&self, state: &mut State) -> usize {
        let items = self.encode_items();
        state.stage = Stage::Encode;
        state.source = vec![None; self.source_hasher().pieces() as usize];
        state.distortion = vec![ByWidth::new(); items];
        items
    }

    fn start_observe(&self, state: &mut State, solver: Solver) -> usize {
        let items = self.pieces();
        state.stage = Stage::Observe(Box::new(solver));
        state.sums = (0..items).map(|_| None).collect();
        items
    }

    fn observe(&self, index: usize, scratch: &mut Scratch) -> Result<(), Error> {
        let range = self.piece(index);
        let solver = match &self.state().stage {
            Stage::Observe(solver) => solver.clone(),
            _ => return Ok(()),
        };
        let start = range.start;
        let observed = solver.observe(self.run.level, self.source.values(range, &mut scratch.decoded)?);
        let sums = observed.map_err(|e| encode::not_encodable(&e.offset(start, 0), &self.planned.name))?;
        self.state().sums[index] = Some(sums);
        Ok(())
    }

    /// Hashes this item's share of the source and encodes its block.
    fn encode(&self, index: usize, scratch: &mut Scratch) -> Result<(), Error> {
        let hasher = self.source_hasher();
        let (pieces, items) = (hasher.pieces() as usize, self.encode_items());
        let copies = self.copies();
        let mut done = 0;
        for piece in index * pieces / items..(index + 1) * pieces / items {
            let range = hasher.range(piece as u64);
            let source = self.source.stored_range(range.start as usize..range.end as usize, &mut scratch.stored);
            let hash = hasher.piece(piece as u64, source);
            if copies {
                self.write(Part::Whole, range.start as usize, source)?;
            }
            self.state().source[piece] = Some(hash);
            done += source.len() as u64;
        }
        let distortion = match (&self.planned.selection, self.blocks()) {
            (Some(selection), _) => masked::encode(self, selection, scratch)?,
            (None, Some(blocks)) => {
                let (shared, known) = {
                    let state = self.state();
                    (encode::Shared { grid: state.grid, largest: state.largest }, state.known.clone())
                };
                match known {
                    Some(known) => weigh::block(self, &blocks.get(index), &known, scratch)?,
                    None => encode::block(self, &blocks.get(index), shared, scratch)?,
                }
            }
            (None, None) => ByWidth::new(),
        };
        self.state().distortion[index] = distortion;
        (self.run.progress)(done);
        Ok(())
    }

    /// The entry of the output that holds `part`.
    pub(crate) fn part(&self, part: Part) -> Option<usize> {
        self.parts.iter().find(|(spec, _)| spec.part == part).map(|(_, entry)| *entry)
    }

    /// Writes into `part` from byte `offset` on; nothing where the tensor has no such part.
    pub(crate) fn write(&self, part: Part, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        match self.part(part) {
            Some(entry) => Ok(self.run.writer.write_at(entry, offset as u64, bytes)?),
            None => Ok(()),
        }
    }

    /// Piece `index` of all parts' pieces: which part, and which piece of it.
    fn part_piece(&self, mut index: usize) -> (usize, u64) {
        for (part, (spec, _)) in self.parts.iter().enumerate() {
            let pieces = ContentHasher::new(spec.bytes as u64).pieces() as usize;
            if index < pieces {
                return (part, index as u64);
            }
            index -= pieces;
        }
        (self.parts.len().saturating_sub(1), 0)
    }

    fn hash(&self, index: usize, scratch: &mut Scratch) -> Result<(), Error> {
        let (part, piece) = self.part_piece(index);
        let (spec, entry) = &self.parts[part];
        let hasher = ContentHasher::new(spec.bytes as u64);
        let range = hasher.range(piece);
        scratch.bytes.resize((range.end - range.start) as usize, 0);
        self.run.writer.read_at(*entry, range.start, &mut scratch.bytes)?;
        let hash = hasher.piece(piece, &scratch.bytes);
        self.state().hashes[index] = Some(hash);
        Ok(())
    }

    /// Content hash of the source, once all of it is hashed.
    fn source_digest(&self, state: &State) -> Digest {
        let pieces: Vec<PieceHash> = state.source.iter().flatten().copied().collect();
        self.source_hasher().combine(&pieces)
    }

    fn part_digests(&self, state: &State) -> Vec<Digest> {
        let mut hashes = state.hashes.iter().flatten().copied();
        let digest = |(spec, _): &(PartSpec, usize)| {
            let hasher = ContentHasher::new(spec.bytes as u64);
            let pieces: Vec<_> = hashes.by_ref().take(hasher.pieces() as usize).collect();
            hasher.combine(&pieces)
        };
        self.parts.iter().map(digest).collect()
    }

    /// Notes in the journal that the tensor is written.
    fn finish(&self, state: &mut State, parts: Vec<Digest>) -> Result<(), Error> {
        let mut distortion = ByWidth::new();
        for block in &state.distortion {
            merge(&mut distortion, block);
        }
        let finished = Finished {
            tensor: self.index,
            source: self.source_digest(state).to_string(),
            parts: parts.iter().map(ToString::to_string).collect(),
            distortion: distortion.into_iter().map(|(width, d)| (width, Bits::from(d))).collect(),
        };
        self.run.journal.add(&finished)?;
        state.finished = Some(finished);
        Ok(())
    }
}

/// Adds what was measured on a block to what was measured before it.
pub(crate) fn merge(total: &mut ByWidth, block: &ByWidth) {
    if total.is_empty() {
        total.clone_from(block);
        return;
    }
    for ((_, total), (_, block)) in total.iter_mut().zip(block) {
        total.merge(block);
    }
}
