//! CUDA kernels, and whether there is a device for them.
//!
//! ```text
//! probe ──> Card ──> Work: a stream with pinned and device memory of its own
//!             │        upload > kernels > download
//!             └─ ptx/*.ptx, loaded by theme when first asked for
//! ```
//!
//! Each kernel file in `kernels/` has the formula of the CPU above it and gives the same: integers and codes exactly, sums
//! in an order that is written there. The PTX in `ptx/` is what `ptx.py` makes of them; `emulator/` runs the same files on
//! a CPU, behind a driver that looks like a device to everything here.
//!
//! Nothing here links CUDA: the driver is opened when it is asked for, and where it is not there [`Card::open`] says why.
//!
//! ```
//! match niwaki_cuda::probe() {
//!     Ok(devices) => assert!(devices > 0),
//!     Err(why) => assert!(!why.to_string().is_empty()),
//! }
//! ```
//!
//! Any number of threads may ask one [`Card`]: each takes a stream of its own, so that copies of one run beside the kernels
//! of another.

mod card;
mod decode;
mod encode;
mod error;
mod fake;
mod jackpot;
mod numbers;
mod observe;
mod planes;
mod probe;
mod select;
mod signature;
mod work;

pub use card::{Card, Timing};
pub use encode::{Fit, Parts, Tiles, encodes};
pub use error::Error;
pub use fake::{Learned, Slopes};
pub use jackpot::{Rates, Search};
pub use numbers::Numbers;
pub use observe::{GramSums, Range};
pub use probe::{Unavailable, probe};
