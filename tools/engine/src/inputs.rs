//! What a layer multiplies its weights with, and how that goes together.

use std::any::Any;

use niwaki_codes::simd::Level;
use niwaki_model::ops::conv::Conv;
use niwaki_model::ops::matmul::{Gemm, MatMul};
use niwaki_model::{Graph, Paused, Tensor, ValueId};
use niwaki_quant::observe::{Band, Gram, Patches};
use rayon::prelude::*;

use crate::device::Device;
use crate::error::{Error, ErrorKind};
use crate::mask::{Product, matrix};

/// Elements of patches that are written at a time, about.
const SLAB: usize = 1 << 22;

/// Windows that a thread writes at a time.
const WINDOWS: usize = 64;

/// How a layer looks at the value that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// As rows of so many numbers.
    Rows(usize),
    /// As images: windows of each group of channels.
    Images {
        /// How many groups.
        groups: usize,
        /// The windows on the images of each run.
        windows: Vec<Patches>,
    },
}

fn unlike(what: impl ToString) -> Error {
    ErrorKind::Unlike { what: what.to_string() }.into()
}

impl Takes {
    /// How a product of a graph does.
    pub(crate) fn new(graph: &Graph, product: &Product, runs: &[&Paused]) -> Result<Self, Error> {
        let node = graph.nodes().iter().find(|node| node.inputs.get(1) == Some(&Some(product.weight)));
        let op: Option<&dyn Any> = node.map(|node| &*node.op as &dyn Any);
        let shape = graph.constant(product.weight).map(Tensor::shape).unwrap_or_default();
        if let Some(conv) = op.and_then(|op| op.downcast_ref::<Conv>()) {
            let of =
                |run: &Paused| patches(conv, run.value(product.input).map(Tensor::shape).unwrap_or_default(), shape);
            let windows = runs.iter().copied().map(of).collect::<Result<Vec<_>, _>>()?;
            return Ok(Self::Images { groups: conv.groups(), windows });
        }
        let turns = |op: &dyn Any| {
            let gemm = op.downcast_ref::<Gemm>().is_some_and(|gemm| gemm.transpose_left);
            gemm || op.downcast_ref::<MatMul>().is_some_and(|product| product.transpose_left)
        };
        if op.is_some_and(turns) || shape.len() != 2 {
            let what = "Gram matrices of products whose inputs are columns, or whose weights are no matrix,".to_owned();
            return Err(ErrorKind::Unsupported { what }.into());
        }
        let (rows, cols) = matrix(shape);
        Ok(Self::Rows(if product.turned { rows } else { cols }))
    }

    /// Inputs of one group, and how many groups there are.
    fn size(&self) -> (usize, usize) {
        match self {
            Self::Rows(inputs) => (*inputs, 1),
            Self::Images { groups, windows } => (windows.first().map_or(0, Patches::inputs), *groups),
        }
    }
}

/// The windows of a convolution on images.
fn patches(conv: &Conv, images: &[usize], weights: &[usize]) -> Result<Patches, Error> {
    let spans = conv.windows(images, weights).map_err(unlike)?;
    let [rows, cols] = match spans[..] {
        [cols] => [None, Some(cols)],
        [rows, cols] => [Some(rows), Some(cols)],
        _ => {
            let what = "Gram matrices of convolutions of three dimensions".to_owned();
            return Err(ErrorKind::Unsupported { what }.into());
        }
    };
    // Images of one dimension are images of one row.
    let pair = |of: fn(&niwaki_model::ops::conv::Span) -> usize, alone: usize| {
        [rows.as_ref().map_or(alone, of), cols.as_ref().map_or(alone, of)]
    };
    Ok(Patches {
        channels: weights.get(1).copied().unwrap_or(0),
        image: pair(|span| span.input, 1),
        kernel: pair(|span| span.kernel, 1),
        stride: pair(|span| span.stride, 1),
        dilation: pair(|span| span.dilation, 1),
        before: pair(|span| span.before, 0),
        output: pair(|span| span.output, 1),
    })
}

/// The Gram matrix of a value of all runs: one for each group of channels, of rows one.
pub(crate) fn grams(device: &Device, takes: &Takes, value: ValueId, runs: &[&Paused]) -> Result<Vec<Gram>, Error> {
    let (inputs, groups) = takes.size();
    if groups != 1 {
        let mut grams: Vec<Gram> = (0..groups).map(|_| Gram::new(inputs)).collect();
        walk(takes, value, runs, |all, patches| {
            patches.map_or(Ok(()), |patches| {
                images(&mut grams, patches, all);
                Ok(())
            })
        })?;
        return Ok(grams);
    }
    let mut gram = Gram::new(inputs);
    let mut summing = device.summing(inputs)?;
    let mut add = |all: &[f32]| match &mut summing {
        Some(summing) => summing.rows(all),
        None => {
            rows(&mut gram, all);
            Ok(())
        }
    };
    walk(takes, value, runs, |all, patches| match patches {
        Some(patches) => slabs(patches, all, &mut add),
        None => add(all),
    })?;
    Ok(vec![match summing {
        Some(summing) => summing.finish()?,
        None => gram,
    }])
}

/// Hands on the value of each run, with the windows on it where it is images.
fn walk(
    takes: &Takes,
    value: ValueId,
    runs: &[&Paused],
    mut of: impl FnMut(&[f32], Option<Patches>) -> Result<(), Error>,
) -> Result<(), Error> {
    for (nth, run) in runs.iter().enumerate() {
        let floats = run.value(value).and_then(Tensor::get::<f32>);
        let all = floats.ok_or_else(|| unlike("what it is multiplied with are no floats"))?;
        match takes {
            Takes::Rows(inputs) if *inputs == 0 || !all.len().is_multiple_of(*inputs) => {
                return Err(unlike(format!(
                    "what it is multiplied with: {} numbers, rows of {inputs} expected",
                    all.len()
                )));
            }
            Takes::Rows(_) => of(all, None)?,
            Takes::Images { windows, .. } => of(all, Some(windows[nth]))?,
        }
    }
    Ok(())
}

/// Adds rows, on all threads.
fn rows(gram: &mut Gram, all: &[f32]) {
    let level = Level::best();
    gram.bands(all).into_par_iter().for_each(|band: Band<'_>| band.add(level));
}

/// The windows of an image that are written at a time, and how many those are at most.
fn cut(patches: &Patches) -> (Vec<std::ops::Range<usize>>, usize) {
    let some = (SLAB / patches.inputs().max(1)).max(WINDOWS);
    let slabs = (0..patches.count()).step_by(some).map(|start| start..(start + some).min(patches.count()));
    (slabs.collect(), some.min(patches.count()))
}

/// Hands on the patches of images, some at a time, written on all threads.
fn slabs(patches: Patches, all: &[f32], mut add: impl FnMut(&[f32]) -> Result<(), Error>) -> Result<(), Error> {
    let (inputs, (slabs, some)) = (patches.inputs(), cut(&patches));
    let mut out = vec![0.0; some * inputs];
    let images = all.chunks_exact(patches.image_len().max(1));
    for (image, slab) in images.flat_map(|image| slabs.iter().map(move |slab| (image, slab))) {
        let out = &mut out[..slab.len() * inputs];
        out.par_chunks_mut((WINDOWS * inputs).max(1)).enumerate().for_each(|(nth, out)| {
            let from = slab.start + nth * WINDOWS;
            patches.write(image, from..(from + WINDOWS).min(slab.end), out);
        });
        add(out)?;
    }
    Ok(())
}

/// Adds the patches of images, a Gram matrix for each group of channels: each is one thread's.
fn images(grams: &mut [Gram], patches: Patches, all: &[f32]) {
    let (inputs, len, (slabs, some)) = (patches.inputs(), patches.image_len(), cut(&patches));
    let whole = (len * grams.len()).max(1);
    grams.par_iter_mut().enumerate().for_each(|(group, gram)| {
        let mut out = vec![0.0; some * inputs];
        for (image, slab) in all.chunks_exact(whole).flat_map(|image| slabs.iter().map(move |slab| (image, slab))) {
            let out = &mut out[..slab.len() * inputs];
            patches.write(&image[group * len..][..len], slab.clone(), out);
            gram.rows(Level::best(), out);
        }
    });
}
