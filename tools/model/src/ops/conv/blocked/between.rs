//! What is done on blocks of channels between convolutions.

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;
use rayon::prelude::*;

use crate::fault::{Fault, dims};
use crate::kernels::blocks::BLOCK;
use crate::operator::{Context, Inputs, Operator};
use crate::ops::pool::MaxPool;
use crate::ops::unary::own;
use crate::ops::window::Span;
use crate::tensor::{Data, Tensor};

/// Makes each x a x + b, with a and b of its channel: a normalization over fixed statistics.
#[derive(Debug)]
pub(crate) struct BlockedAffine {
    a: Vec<f32>,
    b: Vec<f32>,
}

impl BlockedAffine {
    /// Of factors and addends of as many channels.
    pub(crate) fn new((mut a, mut b): (Vec<f32>, Vec<f32>)) -> Self {
        let len = a.len().next_multiple_of(BLOCK);
        [&mut a, &mut b].into_iter().for_each(|all| all.resize(len, 0.0));
        Self { a, b }
    }
}

impl Operator for BlockedAffine {
    fn name(&self) -> &'static str {
        "BatchNormalization"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let mut y = own(inputs.take(0)?, context)?;
        let blocks = self.a.len() / BLOCK;
        let &[_, found, height, width, BLOCK] = y.shape() else { return Err(wrong(&y, blocks)) };
        if found != blocks {
            return Err(wrong(&y, blocks));
        }
        let of_block = (height * width * BLOCK).max(1);
        let Data::F32(x) = y.data_mut() else { return Err(Fault::dtype(0, &y, "float")) };
        x.to_mut().par_chunks_exact_mut(of_block).enumerate().for_each(|(at, x)| {
            let own = at % blocks * BLOCK..(at % blocks + 1) * BLOCK;
            scale(Level::best(), x, &self.a[own.clone()], &self.b[own]);
        });
        Ok(vec![y])
    }
}

stamp! {
    /// Pixels of one block.
    fn scale = scale_body(x: &mut [f32], a: &[f32], b: &[f32]) -> ();
}
#[inline(always)]
fn scale_body(x: &mut [f32], a: &[f32], b: &[f32]) {
    let (Some(a), Some(b)) = (a.first_chunk::<BLOCK>(), b.first_chunk::<BLOCK>()) else { return };
    for pixel in x.as_chunks_mut::<BLOCK>().0 {
        for lane in 0..BLOCK {
            pixel[lane] = pixel[lane] * a[lane] + b[lane];
        }
    }
}

/// The largest element under each window.
#[derive(Debug)]
pub(crate) struct BlockedMaxPool(pub(crate) MaxPool);

impl Operator for BlockedMaxPool {
    fn name(&self) -> &'static str {
        "MaxPool"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let x = inputs.get(0)?;
        let &[images, blocks, height, width, BLOCK] = x.shape() else { return Err(wrong(x, 1)) };
        let windows = self.0.windows(&[height, width])?;
        let &[rows, cols] = windows.as_slice() else { return Err(wrong(x, blocks)) };
        let all = inputs.elements::<f32>(0, "float")?;
        let shape = [images, blocks, rows.output, cols.output, BLOCK];
        let mut out = context.buffer(&shape)?;
        let (from, to) = ((height * width * BLOCK).max(1), (rows.output * cols.output * BLOCK).max(1));
        let planes = out.par_chunks_exact_mut(to).zip(all.par_chunks_exact(from));
        planes.for_each(|(out, x)| largest(Level::best(), [rows, cols], x, out));
        Tensor::of(shape, out).map(|y| vec![y]).ok_or_else(|| Fault::shape(dims(&shape), "room"))
    }
}

stamp! {
    /// Of one block.
    fn largest = largest_body(windows: [Span; 2], x: &[f32], out: &mut [f32]) -> ();
}
#[inline(always)]
fn largest_body([rows, cols]: [Span; 2], x: &[f32], out: &mut [f32]) {
    let (x, _) = x.as_chunks::<BLOCK>();
    let (out, _) = out.as_chunks_mut::<BLOCK>();
    for (row, out) in out.chunks_exact_mut(cols.output.max(1)).enumerate() {
        for (col, out) in out.iter_mut().enumerate() {
            *out = [f32::NEG_INFINITY; BLOCK];
            for i in rows.taps(row) {
                let line = &x[(row * rows.stride + i * rows.dilation - rows.before) * cols.input..][..cols.input];
                for j in cols.taps(col) {
                    let pixel = &line[col * cols.stride + j * cols.dilation - cols.before];
                    for lane in 0..BLOCK {
                        out[lane] = if pixel[lane] > out[lane] { pixel[lane] } else { out[lane] };
                    }
                }
            }
        }
    }
}

fn wrong(x: &Tensor, blocks: usize) -> Fault {
    Fault::shape(format!("{} {}", x.dtype(), dims(x.shape())), format!("{blocks} blocks of channels"))
}
