//! Hidden states as a run makes them.

use niwaki_model::{Tensor, ValueId};
use niwaki_prune::layers::Influence;

use crate::error::{Error, ErrorKind};

/// Looks at the hidden states between blocks, one after the other.
pub(super) struct Watch<'w> {
    hidden: &'w [ValueId],
    influences: &'w mut [Influence],
    /// How many states were seen.
    seen: usize,
    /// The last of them.
    before: Vec<f32>,
    failed: Option<Error>,
}

impl<'w> Watch<'w> {
    /// `hidden` are what the first block takes and what each gives; there is an influence a block.
    pub(super) fn new(hidden: &'w [ValueId], influences: &'w mut [Influence]) -> Self {
        Self { hidden, influences, seen: 0, before: Vec::new(), failed: None }
    }

    /// A value was made. The last dimension of a hidden state is its width.
    pub(super) fn see(&mut self, value: ValueId, tensor: &Tensor) {
        if self.failed.is_some() || self.hidden.get(self.seen) != Some(&value) {
            return;
        }
        let (Some(state), Some(width)) = (tensor.get::<f32>(), tensor.shape().last()) else {
            self.failed = Some(wrong("hidden states that are no floats"));
            return;
        };
        let influence = self.seen.checked_sub(1).and_then(|block| self.influences.get_mut(block));
        if let Some(influence) = influence
            && let Err(error) = influence.add(&self.before, state, *width)
        {
            self.failed = Some(wrong(&error.to_string()));
        }
        self.before.clear();
        self.before.extend_from_slice(state);
        self.seen += 1;
    }

    /// Whether all states were seen.
    pub(super) fn finish(self) -> Result<(), Error> {
        match self.failed {
            Some(error) => Err(error),
            None if self.seen == self.hidden.len() => Ok(()),
            None => Err(wrong(&format!("{} of {} hidden states", self.seen, self.hidden.len()))),
        }
    }
}

fn wrong(what: &str) -> Error {
    ErrorKind::Unlike { what: what.to_owned() }.into()
}
