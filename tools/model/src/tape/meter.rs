//! Counts the bytes that values take, shared ones once.

use std::collections::BTreeMap;

use crate::execute::place;
use crate::tensor::Tensor;

/// The bytes that are held, by place.
#[derive(Debug, Default)]
pub(super) struct Meter {
    held: BTreeMap<usize, (usize, usize)>,
    now: usize,
    peak: usize,
}

impl Meter {
    /// Somebody holds a value.
    pub(super) fn hold(&mut self, tensor: &Tensor) {
        let (at, bytes) = place(tensor);
        if bytes == 0 {
            return;
        }
        let (_, holders) = self.held.entry(at).or_insert((bytes, 0));
        *holders += 1;
        if *holders == 1 {
            self.now += bytes;
            self.peak = self.peak.max(self.now);
        }
    }

    /// Somebody who held it no longer does.
    pub(super) fn release(&mut self, tensor: &Tensor) {
        self.release_place(place(tensor));
    }

    /// The same, where only the place is still known.
    pub(super) fn release_place(&mut self, (at, _): (usize, usize)) {
        if let Some((bytes, holders)) = self.held.get_mut(&at) {
            *holders -= 1;
            if *holders == 0 {
                self.now -= *bytes;
                self.held.remove(&at);
            }
        }
    }

    pub(super) fn peak(&self) -> usize {
        self.peak
    }
}
