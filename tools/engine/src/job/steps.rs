//! The stages of a tensor's work, one after the other.

use niwaki_quant::Step;

use super::{Job, Stage};
use crate::encode::Scratch;
use crate::error::Error;
use crate::queue;

impl queue::Job for Job<'_> {
    type Scratch = Scratch;

    fn begin(&self) -> Result<usize, Error> {
        let mut state = self.state();
        Ok(if self.earlier.is_some() { self.start_hash(&mut state, true) } else { self.start(&mut state) })
    }

    fn run(&self, index: usize, scratch: &mut Scratch) -> Result<(), Error> {
        self.source.ensure_unchanged()?;
        let stage = match self.state().stage {
            Stage::Observe(_) => Self::observe,
            Stage::Largest => Self::look_for_largest,
            Stage::Know => Self::know,
            Stage::Encode => Self::encode,
            Stage::Hash { .. } => Self::hash,
            Stage::Waiting => return Ok(()),
        };
        stage(self, index, scratch)
    }

    fn advance(&self) -> Result<Option<usize>, Error> {
        let mut state = self.state();
        match std::mem::take(&mut state.stage) {
            Stage::Observe(mut solver) => {
                let total = state.sums.drain(..).flatten().reduce(|mut total, sums| {
                    total.merge(&sums);
                    total
                });
                match total.map(|sums| solver.advance(sums)) {
                    Some(Step::Done(grid)) => {
                        state.grid = Some(grid);
                        Ok(Some(self.start_encode(&mut state)))
                    }
                    Some(Step::Again) => Ok(Some(self.start_observe(&mut state, *solver))),
                    None => Ok(None),
                }
            }
            Stage::Largest | Stage::Know => Ok(Some(self.start_encode(&mut state))),
            Stage::Encode if self.copies() => {
                let source = self.source_digest(&state);
                self.finish(&mut state, vec![source]).map(|()| None)
            }
            Stage::Encode => Ok(Some(self.start_hash(&mut state, false))),
            Stage::Hash { earlier: false } => {
                let parts = self.part_digests(&state);
                self.finish(&mut state, parts).map(|()| None)
            }
            Stage::Hash { earlier: true } => {
                let found: Vec<String> = self.part_digests(&state).iter().map(ToString::to_string).collect();
                match &self.earlier {
                    Some(earlier) if earlier.parts == found => {
                        state.finished = Some(earlier.clone());
                        (self.run.progress)(self.planned.bytes_before);
                        Ok(None)
                    }
                    _ => Ok(Some(self.start(&mut state))),
                }
            }
            Stage::Waiting => Ok(None),
        }
    }
}
