//! Which channels of a layer an input needs (Elkerdawy et al., *Fire Together Wire Together: A Dynamic Pruning Approach with
//! Self-Supervised Mask Prediction*, 2022).
//!
//! ```text
//! a_f = max over places of |O_f|        how much channel f of a layer's output fires for one input
//! n_f = a_f / Σ a
//! g   = the channels of the largest n whose sum is at most r, and which fire at all: n_f > 1e-5
//!
//!     a = 8.6  7.9  5.5  3.1  2.2  0.9  0.3                   r = 0.95
//! Σ n  = .30  .58  .77  .88  .96  .99  1.0    -->   g = 1 1 1 1 0 0 0
//! ```
//!
//! g is what a head is to predict from the layer's input ([`Target`]); how well it does is a [`Watch`], and what it saves are
//! multiplications ([`Layer`]).
//!
//! Departures: the channel that fires most is always kept, where the released code keeps none when it alone has more than
//! the share r, and all when nothing fires. A channel that has less than 1e-5 of all is kept for no r; in the code for r = 1
//! alone, so that more channels may be kept for less. Both leave the number of those kept growing with r. The code's
//! uniform target counts channels that fire less than 1e-5 themselves among those; here it is their part of all, as with
//! masses, so that no target changes with the scale of what fires.

mod macs;
#[cfg(feature = "alloc")]
mod watch;

pub use macs::{Layer, active};
#[cfg(feature = "alloc")]
pub use watch::Watch;

use crate::{Error, ErrorKind, Ratio};

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;

/// What a sum of parts may be above the share, and what a channel has to have of all (the released code).
const SLACK: f64 = 1e-5;

/// Which channels count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Those that fire most and together are this share of all that fires; of 1, all that fire at all.
    Mass(Ratio),
    /// The same share of the channels of every layer, those that fire most.
    Uniform(Ratio),
}

impl Target {
    /// The share.
    pub const fn share(self) -> Ratio {
        match self {
            Self::Mass(share) | Self::Uniform(share) => share,
        }
    }

    /// Marks the channels that count, of which `heat[f]` says how much channel f fires, and says how many they are: at
    /// least one of some. Of channels that fire alike the earlier ones come first. `order` is for work in between.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Channels`] where the slices differ in length, [`ErrorKind::Heat`] for what is negative or no finite
    /// number.
    pub fn mark(self, heat: &[f32], order: &mut [usize], marks: &mut [bool]) -> Result<usize, Error> {
        for has in [order.len(), marks.len()] {
            if has != heat.len() {
                return Err(ErrorKind::Channels { needs: heat.len(), has }.into());
            }
        }
        if let Some((channel, value)) = heat.iter().enumerate().find(|(_, a)| !(a.is_finite() && **a >= 0.0)) {
            return Err(ErrorKind::Heat { channel, value: *value }.into());
        }
        order.iter_mut().enumerate().for_each(|(at, channel)| *channel = at);
        order.sort_unstable_by(|a, b| heat[*b].total_cmp(&heat[*a]).then(a.cmp(b)));
        let all: f64 = order.iter().map(|channel| f64::from(heat[*channel])).sum();
        let most = match self {
            Self::Mass(_) => heat.len(),
            Self::Uniform(share) => share.of(heat.len() as u64) as usize,
        };
        marks.fill(false);
        let (mut sum, mut kept) = (0.0, 0);
        for channel in order.iter().take(most) {
            let part = f64::from(heat[*channel]);
            sum += part;
            let within = match self {
                Self::Mass(share) => sum <= (share.get() + SLACK) * all,
                Self::Uniform(_) => true,
            };
            // The first one stays, whatever it is.
            if kept > 0 && !(within && part > SLACK * all) {
                break;
            }
            marks[*channel] = true;
            kept += 1;
        }
        Ok(kept)
    }
}

/// How much each channel of an image fires: its largest magnitude; `image` has the planes of the channels one after the
/// other. What is no number is none of them: it stays.
pub fn heat(image: &[f32], heat: &mut [f32]) {
    let plane = image.len() / heat.len().max(1);
    for (heat, plane) in heat.iter_mut().zip(image.chunks_exact(plane.max(1))) {
        *heat = plane.iter().fold(0.0, |most: f32, x| if x.abs() > most || x.is_nan() { x.abs() } else { most });
    }
}
