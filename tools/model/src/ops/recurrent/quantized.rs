//! `DynamicQuantizeLSTM` of ONNX Runtime: an LSTM whose weights are codes of 8 bits.
//!
//! Inputs, and the state before each product with it, are rounded to 256 levels over the range
//! that they have at that time, as `DynamicQuantizeLinear` does it. Products of codes and products
//! of what they stand for are the same numbers but for the rounding of sums; here they are the
//! latter.

use super::Recurrent;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::quantize::{Codes, range, whole};
use crate::real::Real;
use crate::tensor::{Dtype, Tensor};

/// An LSTM whose weights are codes. These lie with the gates last: input, 4 times hidden.
#[derive(Clone, Debug)]
pub(super) struct Quantized(Recurrent);

/// Rounds numbers to 256 levels over their range.
pub(super) fn round<T: Real>(all: &mut [T]) -> Result<(), Fault> {
    let codes = Codes::of(Dtype::U8)?;
    let (scale, zero) = range(all.iter().map(|x| x.wide() as f32));
    for x in all {
        let code = codes.code(x.wide() as f32 / scale, zero);
        *x = T::near(f64::from((code - zero) as f32 * scale));
    }
    Ok(())
}

impl Quantized {
    pub(super) fn new(layer: Recurrent) -> Self {
        Self(Recurrent { rounds: true, ..layer })
    }
}

/// What codes stand for, with the gates before the inputs. Scales are one for each direction, or
/// one for each gate too; a zero point that is left out is 0.
fn weights(inputs: &Inputs, context: &Context<'_>, index: usize, scale: usize) -> Result<Tensor, Fault> {
    let codes = inputs.get(index)?;
    let &[directions, rows, columns] = codes.shape() else {
        return Err(Fault::shape(format!("weights {}", dims(codes.shape())), "directions, inputs, gates"));
    };
    let scales: &[f32] = inputs.elements(scale, "float32")?;
    let per = match scales.len() {
        len if len == directions => 1,
        len if Some(len) == directions.checked_mul(columns) => columns,
        len => return Err(Fault::shape(format!("{len} scales"), format!("{directions}, or as many for each gate"))),
    };
    let bytes = |index: usize, tensor: &Tensor| match tensor.dtype() {
        Dtype::I8 | Dtype::U8 => whole(tensor).ok_or_else(|| Fault::dtype(index, tensor, "int8 or uint8")),
        _ => Err(Fault::dtype(index, tensor, "int8 or uint8")),
    };
    let zeros = match inputs.optional(scale + 1) {
        None => vec![0; scales.len()],
        Some(zeros) => bytes(scale + 1, zeros)?,
    };
    if zeros.len() != scales.len() {
        return Err(Fault::shape(format!("{} zero points", zeros.len()), scales.len().to_string()));
    }
    let codes = bytes(index, codes)?;
    let mut out = context.buffer(&[directions, columns, rows])?;
    for direction in 0..directions {
        let from = &codes[direction * rows * columns..];
        for (column, out) in out[direction * rows * columns..].chunks_mut(rows.max(1)).take(columns).enumerate() {
            let at = direction * per + column % per;
            let numbers = from.iter().skip(column).step_by(columns);
            out.iter_mut().zip(numbers).for_each(|(out, code)| *out = (code - zeros[at]) as f32 * scales[at]);
        }
    }
    Tensor::of([directions, columns, rows], out).ok_or_else(|| Fault::shape("weights", "as many as their shape says"))
}

impl Operator for Quantized {
    fn name(&self) -> &'static str {
        "DynamicQuantizeLSTM"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let w = weights(inputs, context, 1, 8)?;
        let r = weights(inputs, context, 2, 10)?;
        let x = inputs.get(0)?;
        let mut all = x.get::<f32>().ok_or_else(|| Fault::dtype(0, x, "float32"))?.to_vec();
        round(&mut all)?;
        let x = Tensor::of(x.shape(), all).ok_or_else(|| Fault::shape(dims(x.shape()), "another shape"))?;
        let mut plain = vec![Some(x), Some(w), Some(r)];
        plain.extend((3..8).map(|index| inputs.optional(index).cloned()));
        self.0.run(&mut Inputs::new(plain), context)
    }

    fn macs(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        let mut swapped = [None, None].map(|_: Option<()>| Vec::new());
        for (at, to) in swapped.iter_mut().enumerate() {
            to.extend(inputs.get(at + 1).copied().flatten().unwrap_or_default());
            if let [_, rows, columns] = to.as_mut_slice() {
                std::mem::swap(rows, columns);
            }
        }
        let x = inputs.first().copied().flatten();
        self.0.macs(&[x, Some(&swapped[0]), Some(&swapped[1])], outputs)
    }
}
