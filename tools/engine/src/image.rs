//! Device images: a network in 8-bit integers, for machines without floats or memory to spare.
//!
//! ```text
//! model, statistics --> plan of steps over values --> places in an arena --> image --> niwaki-micro
//!                                                                                  '-> C
//! ```
//!
//! Every value has a grid of 256 codes over the range that the statistics saw, with 0 on it. Weights have a scale for each
//! row. All factors are whole numbers and shifts, decided here: the device multiplies, adds and shifts.

mod c;
mod graph;
mod grid;
mod layers;
mod lower;
mod memory;
mod moves;
mod nested;
mod plan;
mod weights;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use niwaki_codes::Bits;
use niwaki_image::{Image, Kind, Place};
use serde::Serialize;

use crate::dataset::Dataset;
use crate::error::{Blame, Error, ErrorKind};
use crate::eval::{Evaluation, Scores};
use crate::model::Model;
use crate::progress::Progress;
use crate::source::Source;
use crate::stats::Stats;
use crate::target::file_error;
pub use c::{check_folder, write_c};
use graph::Ready;
use lower::Lowering;
pub use weights::{Codes, Zeros};

/// The largest arena that is made here: an image may ask for 4 GiB in a few bytes.
const MOST_ARENA: usize = 256 << 20;

/// What an image takes of a device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Taken {
    /// Bytes of the image: flash.
    pub image_bytes: u64,
    /// Of these weights, with the numbers of their rows.
    pub weight_bytes: u64,
    /// Bytes of the arena: memory, beside the stack.
    pub arena_bytes: u64,
    /// Steps of the plan.
    pub steps: usize,
    /// Multiplications of one input.
    pub macs: u64,
    /// Of elastic weights each width, and how many of the first bytes are an image of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<(u8, usize)>,
}

/// The image of a model, and what it takes.
///
/// # Errors
///
/// Statistics of another checkpoint; nodes that no step does, all of them in one error; values of which the statistics say
/// nothing; weights that are no numbers.
pub fn image(model: &Model, source: &Source<'_>, stats: &Stats, codes: Codes) -> Result<(Vec<u8>, Taken), Error> {
    stats.check(source)?;
    let at = |e: Error| e.at(model.path());
    let ready = Ready::new(model)?;
    let (plan, input, output) = Lowering::plan(&ready, stats, codes).map_err(at)?;
    let steps = plan.steps();
    let mut draft = plan.settle(input, output);
    if let Codes::Elastic(widths) = codes
        && draft.tensors.iter().any(|tensor| tensor.kind == Kind::Elastic)
    {
        draft.widths = widths.iter().map(|width| width.get() as u8).collect();
    }
    let weights = draft.tensors.iter().filter(|tensor| tensor.kind != Kind::Exponentials);
    let weight_bytes = weights.map(|tensor| tensor.codes.len() + 12 * tensor.rows.len()).sum::<usize>() as u64;
    let bytes = draft.write().map_err(|e| at(Error::below(e, Blame::Input)))?;
    let prefixes = Image::parse(&bytes).map_err(|e| at(Error::below(e, Blame::Input)))?.widths().collect();
    let taken = Taken {
        image_bytes: bytes.len() as u64,
        weight_bytes,
        arena_bytes: draft.arena as u64,
        steps,
        macs: ready.macs,
        prefixes,
    };
    Ok((bytes, taken))
}

/// The codes that an image takes for the numbers of an input `[C, H, W]`.
pub fn input_codes(image: &Image<'_>, numbers: &[f32]) -> Vec<i8> {
    let place = image.input();
    let [_, _, channels] = place.area.shape;
    let plane = numbers.len() / channels.max(1);
    let grid = grid::Grid { scale: place.scale, zero: place.zero };
    (0..plane).flat_map(|at| (0..channels).map(move |c| c * plane + at)).map(|at| grid.code(numbers[at])).collect()
}

/// How well an image does on labelled images, run as a device runs it.
///
/// # Errors
///
/// Bytes that are no image; images of another size; those of reading.
pub fn evaluate(
    path: &Path,
    data: &Dataset,
    limit: Option<usize>,
    progress: Progress<'_>,
) -> Result<Evaluation, Error> {
    let bytes = std::fs::read(path).map_err(|e| file_error(&e, path))?;
    let at = |e: Error| e.at(path);
    let image = Image::parse(&bytes).map_err(|e| at(Error::below(e, Blame::Input)))?;
    let (place, [c, h, w]) = (image.input(), data.shape());
    if place.area.shape != [h, w, c] {
        let [rows, cols, channels] = place.area.shape;
        let what = format!("images of {c}x{h}x{w} do not fit its input {channels}x{rows}x{cols}");
        return Err(at(ErrorKind::Unlike { what }.into()));
    }
    let examples = limit.unwrap_or(usize::MAX).min(data.len());
    let mut scores = Scores::default();
    if image.arena() > MOST_ARENA {
        return Err(at(ErrorKind::Memory { needs: image.arena(), cap: MOST_ARENA }.into()));
    }
    let mut arena = vec![0; image.arena()];
    let mut numbers = vec![0.0; data.item_len()];
    for item in 0..examples {
        data.batch(std::iter::once(item), &mut numbers)?;
        let made = niwaki_micro::run(&image, &input_codes(&image, &numbers), &mut arena);
        let made = made.map_err(|e| at(Error::below(e, Blame::Input)))?;
        let Place { zero, scale, .. } = image.output();
        let logits: Vec<f32> = made.iter().map(|q| scale * f32::from(i16::from(*q) - i16::from(zero))).collect();
        scores.add(&logits, data.class(item, logits.len())?, None);
        progress(item as u64 + 1, examples as u64);
    }
    Ok(scores.evaluation())
}

/// The first bytes of an image, which are one of narrower weights.
///
/// # Errors
///
/// A file that is no image, or serves no such width.
pub fn cut(path: &Path, bits: Bits) -> Result<(Vec<u8>, usize), Error> {
    let mut bytes = std::fs::read(path).map_err(|e| file_error(&e, path))?;
    let image = Image::parse(&bytes).map_err(|e| Error::below(e, Blame::Input).at(path))?;
    let found = image.widths().find(|(width, _)| u32::from(*width) == bits.get());
    let Some((_, end)) = found else {
        let served: Vec<String> = image.widths().map(|(width, _)| width.to_string()).collect();
        let served = if served.is_empty() { "none".to_owned() } else { served.join(", ") };
        let what = format!("a device image of width {bits}; it serves {served}");
        return Err(Error::from(ErrorKind::Unlike { what }).at(path));
    };
    let all = bytes.len();
    bytes.truncate(end);
    Ok((bytes, all))
}

/// Whether a file begins as device images do.
pub fn is_image(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"niwk"
}
