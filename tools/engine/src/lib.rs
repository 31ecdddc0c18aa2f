//! Recipe, plan, streaming engine, report.
//!
//! ```text
//! recipe --.
//!           plan --> compress --> report
//! checkpoint'                 '-> output
//! ```
//!
//! A [`recipe`] is text that a person reviews. A [`plan`] is a recipe resolved against one
//! checkpoint. [`compress()`] does the plan, and decides nothing.
//!
//! ```
//! use niwaki_engine::{Destination, Names, Opened, Options, Plan, Recipe, Tail};
//! use niwaki_tensors::{Dtype, Limits, Overwrite, write_file};
//!
//! let folder = std::env::temp_dir().join(format!("niwaki-doc-engine-{}", std::process::id()));
//! std::fs::create_dir_all(&folder)?;
//! let (from, to) = (folder.join("in.safetensors"), folder.join("out.safetensors"));
//! let bytes: Vec<u8> = (0..256).flat_map(|i| (i as f32).sin().to_le_bytes()).collect();
//! write_file(&from, &[("w", Dtype::F32, &[4, 64], &bytes)], &[], Overwrite::Replace)?;
//!
//! let opened = Opened::open(&from, &Limits::default())?;
//! let source = opened.source(None, Names::HuggingFace)?;
//! let recipe = Recipe::parse("version = 1\n[[quantize]]\ntensors = \"w\"\nscheme = \"int4/g32/sym\"\n")?;
//! let mut plan = Plan::new(&source, recipe, Tail::Short, Destination::default())?;
//! assert_eq!((plan.bytes_before(), plan.bytes_after()), (1024, 144));
//!
//! let report = niwaki_engine::compress(&source, &mut plan, &to, &Options::default(), &|_done, _all| {})?;
//! assert!(report.tensors[0].sqnr_db > Some(18.0));
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it promises: memory does not grow with the size of tensors (but for one bit a weight
//! of masked ones), the same input gives the same bytes for any number of threads, a killed
//! run goes on where it was, and nothing is overwritten or half-written.

mod block_rows;
mod blocks;
pub mod calibrate;
pub mod compare;
pub mod compress;
pub mod dataset;
mod described;
pub mod destination;
mod device;
pub mod dynamic;
pub mod elastic;
mod encode;
mod error;
pub mod eval;
pub mod export;
pub mod fold;
pub mod folder;
pub mod generate;
mod given;
pub mod image;
pub mod imatrix;
mod inputs;
pub mod inspect;
pub mod jackpot;
mod job;
mod join;
mod journal;
pub mod layers;
pub mod mask;
mod masked;
mod matrix;
pub mod model;
pub mod page;
mod part;
pub mod plan;
mod progress;
pub mod qdq;
mod queue;
mod recalibrate;
pub mod recipe;
mod recontain;
mod report;
pub mod search;
pub mod sentences;
pub mod signature;
mod sink;
pub mod source;
pub mod stats;
mod swap;
mod target;
pub mod text;
pub mod train;
mod weigh;

pub use compare::not_finite;
pub use compress::{NanPolicy, Options, compress};
pub use destination::{Destination, Format, Settings};
pub use device::Device;
pub use error::{Blame, Error, ErrorKind, Layer};
pub use fold::Folded;
pub use given::Given;
pub use join::{Joined, join};
pub use niwaki_prune::{Block, Budget, NofM, Ratio};
pub use part::Share;
pub use plan::{Plan, Tail};
pub use recalibrate::Recalibration;
pub use recipe::{Preset, Recipe};
pub use report::{Damped, Report, TensorReport};
pub use source::{Names, Opened, Source};
pub use stats::Stats;
pub use weigh::Weighing;
