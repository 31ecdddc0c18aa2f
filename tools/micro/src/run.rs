//! Runs the plan of an image.

use core::fmt;

use niwaki_image::{Image, Step, Work};

use crate::{conv, elementwise, pool};

/// Why an image cannot be run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The arena is smaller than the image asks for.
    Arena {
        /// Bytes that it should have.
        needs: usize,
        /// Bytes that it has.
        has: usize,
    },
    /// Another number of input codes than the image takes.
    Input {
        /// How many it takes.
        needs: usize,
        /// How many there are.
        has: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arena { needs, has } => write!(f, "an arena of {needs} bytes expected, has {has}"),
            Self::Input { needs, has } => write!(f, "{needs} input codes expected, there are {has}"),
        }
    }
}

impl core::error::Error for Error {}

/// The bytes of the arena that a step uses.
pub(crate) struct Parts<'a> {
    pub(crate) input: &'a [i8],
    pub(crate) output: &'a mut [i8],
    /// Room for an unpacked row.
    pub(crate) scratch: &'a mut [i8],
}

/// Runs an image on codes of its input, rows by columns by channels. The codes of its output, which lie in the arena.
///
/// # Errors
///
/// An arena or an input of another length.
pub fn run<'a>(image: &Image<'_>, input: &[i8], arena: &'a mut [i8]) -> Result<&'a [i8], Error> {
    let short = Error::Arena { needs: image.arena(), has: arena.len() };
    let arena = arena.get_mut(..image.arena()).ok_or(short)?;
    let place = image.input().area;
    let wrong = Error::Input { needs: place.len(), has: input.len() };
    let into = arena.get_mut(place.range()).filter(|into| into.len() == input.len()).ok_or(wrong)?;
    // Not `copy_from_slice`, whose panic the compiler cannot always rule out.
    into.iter_mut().zip(input).for_each(|(into, code)| *into = *code);
    for step in image.steps() {
        // A checked image has no step that fails here.
        if let Some(mut parts) = parts(image, &step, arena) {
            one(image, &step, &mut parts);
        }
    }
    arena.get(image.output().area.range()).ok_or(short)
}

/// The place of the largest code, the first of several; none of nothing.
pub fn largest(codes: &[i8]) -> Option<usize> {
    let mut best: Option<(usize, i8)> = None;
    for (at, code) in codes.iter().enumerate() {
        if best.is_none_or(|(_, most)| *code > most) {
            best = Some((at, *code));
        }
    }
    best.map(|(at, _)| at)
}

fn parts<'a>(image: &Image<'_>, step: &Step, arena: &'a mut [i8]) -> Option<Parts<'a>> {
    let (input, output) = (step.input.range(), step.output.range());
    let row = match step.work {
        Work::Conv { weights, scratch, .. } => match image.tensor(weights)? {
            tensor if tensor.kind == niwaki_image::Kind::Int8 => None,
            tensor => Some(scratch..scratch + tensor.cols),
        },
        _ => None,
    };
    match row {
        Some(row) => {
            let [input, output, scratch] = arena.get_disjoint_mut([input, output, row]).ok()?;
            Some(Parts { input, output, scratch })
        }
        None => {
            let [input, output] = arena.get_disjoint_mut([input, output]).ok()?;
            Some(Parts { input, output, scratch: &mut [] })
        }
    }
}

fn one(image: &Image<'_>, step: &Step, parts: &mut Parts<'_>) {
    match &step.work {
        Work::Conv { .. } => conv::conv(image, step, parts),
        Work::MaxPool(window) => pool::largest(step, window, parts),
        Work::AveragePool { window, times } => pool::mean(step, window, *times, parts),
        Work::Add { times, onto } => elementwise::add(step, *times, *onto, parts),
        Work::Rescale { times } => elementwise::rescale(step, *times, parts),
        Work::Softmax { table } => elementwise::softmax(image, step, *table, parts),
    }
}
