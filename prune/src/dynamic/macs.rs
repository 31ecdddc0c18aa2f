//! Multiplications of a convolution of which some channels are computed, for one input.
//!
//! ```text
//!                      paper's                                   honest
//! convolution          H W k² active_out ⌊active_in / groups⌋     H W k² Σ over groups active_out active_in
//! active_in            what the layer before keeps                what may be other than 0: of a sum, what either term keeps
//! head                 0                                          C_in C_out
//! all else             0, and not in the total                    as it is, and in the total
//! ```
//!
//! Two things make the paper's smaller: the input of a block behind a shortcut is a sum, of which a channel is 0 only where
//! all its terms are, and it is charged for the mask of the last of them; and of a depth-wise convolution ⌊active_in / groups⌋
//! is 0 as soon as one channel is not there.

use crate::{Error, ErrorKind};

/// The size of a convolution, by what it multiplies for one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Places of its output.
    pub places: u64,
    /// Places of its kernel.
    pub taps: u64,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Parts that channels are cut into.
    pub groups: usize,
}

impl Layer {
    /// Those of all channels.
    pub fn dense(&self) -> u64 {
        self.papers(self.inputs, self.outputs)
    }

    /// Those of so many channels that go in and come out, as the released code counts them.
    pub fn papers(&self, inputs: usize, outputs: usize) -> u64 {
        let pairs = (inputs / self.groups.max(1)) as u64 * outputs as u64;
        self.places.saturating_mul(self.taps).saturating_mul(pairs)
    }

    /// Those of these channels.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Channels`] where the slices are not of all channels.
    pub fn honest(&self, inputs: &[bool], outputs: &[bool]) -> Result<u64, Error> {
        for (marks, needs) in [(inputs, self.inputs), (outputs, self.outputs)] {
            if marks.len() != needs {
                return Err(ErrorKind::Channels { needs, has: marks.len() }.into());
            }
        }
        let of_group = |channels: usize| (channels / self.groups.max(1)).max(1);
        let groups = inputs.chunks(of_group(self.inputs)).zip(outputs.chunks(of_group(self.outputs)));
        let pairs: u64 = groups.map(|(inputs, outputs)| (active(inputs) * active(outputs)) as u64).sum();
        Ok(self.places.saturating_mul(self.taps).saturating_mul(pairs))
    }

    /// Those of the head that predicts its mask.
    pub fn head(&self) -> u64 {
        self.inputs as u64 * self.outputs as u64
    }
}

/// How many channels are marked.
pub fn active(marks: &[bool]) -> usize {
    marks.iter().filter(|mark| **mark).count()
}
