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

#[cfg(test)]
mod tests {
    use niwaki_model::Graph;

    use super::*;

    fn state(rows: Vec<f32>) -> Tensor {
        Tensor::of([1, rows.len() / 2, 2], rows).unwrap()
    }

    #[test]
    fn each_block_is_between_the_state_before_it_and_the_one_after() {
        let mut graph = Graph::default();
        let hidden = [graph.value("a"), graph.value("b"), graph.value("c")];
        let other = graph.value("other");
        let mut influences = [Influence::default(); 2];
        let mut watch = Watch::new(&hidden, &mut influences);
        watch.see(hidden[0], &state(vec![1.0, 0.0, 0.0, 3.0]));
        watch.see(other, &state(vec![9.0, 9.0]));
        watch.see(hidden[1], &state(vec![2.0, 0.0, 0.0, 1.0]));
        watch.see(hidden[2], &state(vec![0.0, 2.0, 0.0, -1.0]));
        watch.finish().unwrap();
        assert_eq!(influences.map(|influence| influence.score()), [Some(0.0), Some(1.5)]);
    }

    #[test]
    fn states_that_are_missing_or_of_another_size_are_an_error() {
        let mut graph = Graph::default();
        let hidden = [graph.value("a"), graph.value("b")];
        let mut influences = [Influence::default(); 1];
        let mut watch = Watch::new(&hidden, &mut influences);
        watch.see(hidden[1], &state(vec![1.0, 0.0]));
        assert_eq!(watch.finish().unwrap_err().to_string(), "0 of 2 hidden states");
        let mut watch = Watch::new(&hidden, &mut influences);
        watch.see(hidden[0], &state(vec![1.0, 0.0]));
        watch.see(hidden[1], &state(vec![1.0, 0.0, 2.0, 0.0]));
        let expected = "hidden states of 2 and 4 numbers; expected as many, in rows of 2";
        assert_eq!(watch.finish().unwrap_err().to_string(), expected);
        let mut watch = Watch::new(&hidden, &mut influences);
        watch.see(hidden[0], &Tensor::vector(vec![1i64]));
        assert_eq!(watch.finish().unwrap_err().to_string(), "hidden states that are no floats");
    }
}
