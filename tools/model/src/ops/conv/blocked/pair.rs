//! A convolution of single pixels, and one of each channel by itself over what it makes, as mobile networks have them: some
//! channels and rows after the other, so that what is between the two stays in a cache.

use std::ops::Range;

use super::{BlockedConv, Weights, aligned, images, parts, spread};
use crate::fault::{Fault, dims};
use crate::kernels::blocks::{BLOCK, End, Job, Out, Packed, Plan, Room, each};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::conv::{SHARES, Span};
use crate::tensor::Tensor;

/// Elements of what is between that are kept: 256 KiB, a part of a second-level cache.
const ROOM: usize = 1 << 16;

/// Rows of outputs below which a part of them would make too much of what its neighbours make as well.
const FEW_ROWS: usize = 8;

/// Both convolutions; the same bits as one after the other.
#[derive(Debug)]
pub(crate) struct BlockedPair {
    first: BlockedConv,
    second: BlockedConv,
}

impl BlockedPair {
    /// None where they are others, or something is added to the sums.
    pub(crate) fn new(first: &BlockedConv, second: &BlockedConv) -> Option<Self> {
        let kinds = matches!((&first.weights, &second.weights), (Weights::Dense(_), Weights::Each(_)));
        let single = !first.apart && first.conv.window.is_single(&first.shape[2..]);
        let added = first.conv.add || second.conv.add;
        (kinds && single && !added).then(|| Self { first: first.clone(), second: second.clone() })
    }
}

impl Operator for BlockedPair {
    fn name(&self) -> &'static str {
        "Conv"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let between = self.first.placed(inputs.get(0)?.shape())?;
        let placed = self.second.placed(&between.blocks())?;
        let x = inputs.elements::<f32>(0, "float")?;
        let (shape, [rows, cols]) = (placed.blocks(), placed.spans);
        // Far more than the image may be around it, of which hardly anything is an output's.
        let padded = cols.input.saturating_add(cols.before).saturating_add(cols.after);
        context.len::<f32>(&[2 * BLOCK, rows.input, padded])?;
        let mut out = context.buffer(&shape)?;
        let (Weights::Dense(first), Weights::Each(second)) = (&self.first.weights, &self.second.weights) else {
            return Err(Fault::Unsupported("these two convolutions at once".to_owned()));
        };
        let ends = [&self.first, &self.second];
        let ends = ends.map(|of| End { bias: &of.bias, add: None, activation: of.conv.activation });
        let work = Work { first, second, ends, spans: placed.spans };
        work.run(x, x.len() / shape[0].max(1), &mut out, context);
        let len = out.len();
        let made = Tensor::of(shape, out).ok_or_else(|| Fault::shape(format!("{len} results"), dims(&shape)))?;
        Ok(vec![made])
    }

    fn macs(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        // The first one makes as many pixels as it takes.
        let first = inputs.first().copied().flatten().map_or(0, |pixels| self.first.macs(inputs, &[pixels]));
        first.saturating_add(self.second.macs(inputs, outputs))
    }
}

struct Work<'w> {
    first: &'w Packed,
    second: &'w each::Packed,
    ends: [End<'w>; 2],
    /// Of the second one.
    spans: [Span; 2],
}

/// Rows of outputs that are made at once.
struct Strip {
    outputs: Range<usize>,
    /// The rows that they take, of which the last ones are not there yet.
    taken: Range<usize>,
    fresh: Plan,
}

impl Work<'_> {
    fn run(&self, x: &[f32], image: usize, out: &mut [f32], context: &Context<'_>) {
        let of_out = self.spans[0].output * self.spans[1].output * self.ends[1].bias.len();
        if image == 0 || of_out == 0 {
            return out.fill(0.0);
        }
        let products = image.saturating_mul(self.ends[0].bias.len());
        images((x, image), (out, of_out), products, |_, x, threads, out| self.image(x, context, threads, out));
    }

    fn image(&self, x: &[f32], context: &Context<'_>, threads: usize, out: &mut [f32]) {
        let (rows, out) = (self.spans[0].output, Out::new(out));
        let by_groups = rows < FEW_ROWS * threads * SHARES;
        spread(parts([rows, self.first.groups()], threads, by_groups), threads, |[rows, groups]| {
            // SAFETY: parts are other groups or other rows, and the outputs outlive them.
            unsafe { self.part(x, rows, groups, (out, context)) };
        });
    }

    /// # Safety
    ///
    /// As that of the two convolutions.
    unsafe fn part(&self, x: &[f32], rows: Range<usize>, groups: Range<usize>, (out, context): (Out, &Context<'_>)) {
        let [down, along] = self.spans;
        // With its padding, so that all windows are whole.
        let padded = along.before + along.input + along.after;
        let along = Span { input: padded, before: 0, after: 0, ..along };
        let (of_row, wide) = (padded * BLOCK, self.first.blocks_of(0..1).len());
        let strips = self.strips(rows, ROOM / (wide * of_row).max(1));
        let held = strips.iter().map(|strip| strip.taken.len()).max().unwrap_or(0);
        let mut scratch = context.scratch(wide * held * of_row + BLOCK);
        let skipped = scratch.len() - aligned(&scratch).len();
        let between = &mut scratch[skipped..][..wide * held * of_row];
        for row in between.chunks_exact_mut(of_row.max(1)) {
            row[..self.spans[1].before * BLOCK].fill(0.0);
            row[of_row - self.spans[1].after * BLOCK..].fill(0.0);
        }
        for group in groups {
            let blocks = self.first.blocks_of(group..group + 1);
            let mut there = 0..0;
            for Strip { outputs, taken, fresh } in &strips {
                for block in between.chunks_exact_mut((held * of_row).max(1)) {
                    keep(block, of_row, &there, taken);
                }
                let first = blocks.start;
                let job = Job { plan: fresh, packed: self.first, image: x, end: self.ends[0], first };
                // SAFETY: what is between is this function's own.
                unsafe { job.run(group..group + 1, 0..fresh.tiles(), Out::new(between)) };
                let held = Some(each::Held { block: first, row: taken.start, rows: held });
                let end = self.ends[1];
                let job = each::Job { rows: down, cols: along, packed: self.second, image: between, end, held };
                // SAFETY: the caller's promise.
                unsafe { job.run(blocks.clone(), outputs.clone(), out) };
                there = taken.clone();
            }
        }
        context.put(scratch);
    }

    /// Rows of outputs in strips that take about `most` rows each, and no fewer than one row of outputs does.
    fn strips(&self, rows: Range<usize>, most: usize) -> Vec<Strip> {
        let [down, along] = self.spans;
        let others = (down.kernel - 1) * down.dilation + 1;
        let some = most.saturating_sub(others) / down.stride + 1;
        let parts = rows.clone().step_by(some).map(|start| start..(start + some).min(rows.end));
        let all: Vec<_> = parts.map(|outputs| (down.reach(outputs.clone()), outputs)).collect();
        let held = all.iter().map(|(taken, _)| taken.len()).max().unwrap_or(0);
        let mut done = 0;
        let width = along.before + along.input + along.after;
        let room = |taken: &Range<usize>| Room { first: taken.start, rows: held, left: along.before, width };
        let plan = |taken: &Range<usize>, fresh: Range<usize>| {
            Plan::of_rows(self.first.level(), [down.input, along.input], fresh, &room(taken))
        };
        let strip = |(taken, outputs): (Range<usize>, Range<usize>)| {
            let start = taken.start.max(done).min(taken.end);
            done = done.max(taken.end);
            Strip { outputs, fresh: plan(&taken, start..taken.end), taken }
        };
        all.into_iter().map(strip).collect()
    }
}

/// Moves those rows of a block that were there already, and are taken again, to where they are now; `there` and `taken` are
/// rows of the image.
fn keep(block: &mut [f32], of_row: usize, there: &Range<usize>, taken: &Range<usize>) {
    if taken.start < there.end && there.start < taken.start {
        block.copy_within((taken.start - there.start) * of_row..(there.end - there.start) * of_row, 0);
    }
}
