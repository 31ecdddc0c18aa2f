//! Weights of a few bits: MatMulNBits of com.microsoft.

use rayon::prelude::*;

use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::kernels::mm::{Matrix, Target, Way, mm};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::matmul::products;
use crate::ops::{Built, some};
use crate::real::{reals, rounded};
use crate::tensor::{Data, Tensor, elements};

/// A product with a matrix of codes: `k` by `n`, stored as `n` rows of blocks, each of which has a
/// scale and a zero point.
#[derive(Clone, Copy, Debug)]
pub struct MatMulNBits {
    k: usize,
    n: usize,
    bits: usize,
    block: usize,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    if (definition.domain.as_str(), definition.op.as_str()) != ("com.microsoft", "MatMulNBits") {
        return Ok(None);
    }
    let number = |name: &str, default: Option<i64>| {
        let found =
            definition.int(name)?.or(default).ok_or_else(|| Fault::shape(format!("no attribute `{name}`"), "one"))?;
        usize::try_from(found)
            .ok()
            .filter(|x| *x > 0)
            .ok_or_else(|| Fault::shape(format!("{name} {found}"), "1 or more"))
    };
    let op = MatMulNBits {
        k: number("K", None)?,
        n: number("N", None)?,
        bits: number("bits", Some(4))?,
        block: number("block_size", None)?,
    };
    if !matches!(op.bits, 2 | 4 | 8) {
        return Err(Fault::Unsupported(format!("MatMulNBits of {} bits", op.bits)));
    }
    if !op.block.is_power_of_two() || !(16..=1 << 16).contains(&op.block) {
        return Err(Fault::shape(format!("block_size {}", op.block), "a power of 2 from 16 to 65536"));
    }
    some(op)
}

/// Numbers that are decoded at a time.
const PANEL: usize = 1 << 18;

/// The zero points of blocks.
enum Zeros<'a> {
    /// The middle of the codes.
    Middle(f32),
    /// Codes, those of each row in whole bytes.
    Packed(&'a [u8]),
    Numbers(std::borrow::Cow<'a, [f32]>),
}

impl MatMulNBits {
    /// Blocks of one row.
    fn blocks(&self) -> usize {
        self.k.div_ceil(self.block)
    }

    /// Code `at` of packed ones, the first in the lowest bits.
    fn code(&self, packed: &[u8], at: usize) -> u8 {
        let shift = at * self.bits % 8;
        let mask = ((1u16 << self.bits) - 1) as u8;
        (packed[at * self.bits / 8] >> shift) & mask
    }

    fn zeros<'a>(&self, inputs: &'a Inputs) -> Result<Zeros<'a>, Fault> {
        let Some(tensor) = inputs.optional(3) else { return Ok(Zeros::Middle((1u32 << (self.bits - 1)) as f32)) };
        let row = (self.blocks() * self.bits).div_ceil(8);
        let (zeros, has, needs) = match tensor.data() {
            Data::U8(all) => (Zeros::Packed(all.as_slice()), tensor.len(), Some(row)),
            _ => (Zeros::Numbers(reals::<f32>(inputs, 3)?), tensor.len(), Some(self.blocks())),
        };
        match needs.and_then(|row| row.checked_mul(self.n)) {
            Some(needs) if needs == has => Ok(zeros),
            _ => Err(Fault::shape(format!("{has} zero points"), format!("those of {} rows", self.n))),
        }
    }

    /// Decodes a row.
    fn decode(&self, row: usize, packed: &[u8], scales: &[f32], zeros: &Zeros<'_>, out: &mut [f32]) {
        let (blocks, bytes) = (self.blocks(), self.block * self.bits / 8);
        for (block, out) in out.chunks_mut(self.block).enumerate() {
            let at = row * blocks + block;
            let zero = match zeros {
                Zeros::Middle(zero) => *zero,
                Zeros::Packed(all) => {
                    let long = (blocks * self.bits).div_ceil(8);
                    f32::from(self.code(&all[row * long..(row + 1) * long], block))
                }
                Zeros::Numbers(all) => all[at],
            };
            let (packed, scale) = (&packed[at * bytes..(at + 1) * bytes], scales[at]);
            match self.bits {
                4 => out.chunks_mut(2).zip(packed).for_each(|(out, byte)| {
                    out[0] = (f32::from(byte & 15) - zero) * scale;
                    if let [_, second] = out {
                        *second = (f32::from(byte >> 4) - zero) * scale;
                    }
                }),
                _ => out.iter_mut().enumerate().for_each(|(i, out)| {
                    *out = (f32::from(self.code(packed, i)) - zero) * scale;
                }),
            }
        }
    }
}

impl Operator for MatMulNBits {
    fn name(&self) -> &'static str {
        "MatMulNBits"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let (k, n) = (self.k, self.n);
        let tensor = inputs.get(0)?;
        let [batch @ .., last] = tensor.shape() else {
            return Err(Fault::shape("a scalar", format!("rows of {k}")));
        };
        if *last != k {
            return Err(Fault::shape(format!("a shape of {}", dims(tensor.shape())), format!("rows of {k}")));
        }
        if inputs.optional(4).is_some() {
            return Err(Fault::Unsupported("MatMulNBits with g_idx".to_owned()));
        }
        let packed: &[u8] = inputs.elements(1, "uint8")?;
        let scales = reals::<f32>(inputs, 2)?;
        let blocks = elements(&[n, self.blocks()]);
        let bytes = blocks.and_then(|blocks| blocks.checked_mul(self.block * self.bits / 8));
        if bytes != Some(packed.len()) || blocks != Some(scales.len()) {
            let found = format!("{} bytes of codes and {} scales", packed.len(), scales.len());
            return Err(Fault::shape(found, format!("those of {n} rows of {} blocks", self.blocks())));
        }
        let zeros = self.zeros(inputs)?;
        let mut shape = batch.to_vec();
        shape.push(n);
        let mut out = context.buffer(&shape)?;
        let x = reals::<f32>(inputs, 0)?;
        let m = x.len() / k;
        let left = Matrix::rows(&x, m, k)?;
        let high = (PANEL / k).clamp(1, n);
        let mut panel = context.scratch(high * k);
        for first in (0..n).step_by(high) {
            let rows = high.min(n - first);
            let panel = &mut panel[..rows * k];
            let decoded = panel.par_chunks_mut(k).enumerate();
            decoded.for_each(|(row, out)| self.decode(first + row, packed, &scales, &zeros, out));
            let right = Matrix::rows(panel, rows, k)?.transposed();
            if m > 0 {
                mm(Target::strided(&mut out[first..], (m, rows), n)?, left, right, Way::replace())?;
            }
        }
        context.put(panel);
        if inputs.optional(5).is_some() {
            let bias = reals::<f32>(inputs, 5)?;
            if bias.len() != n {
                return Err(Fault::shape(format!("{} biases", bias.len()), format!("{n}")));
            }
            out.chunks_mut(n).for_each(|row| row.iter_mut().zip(bias.iter()).for_each(|(x, bias)| *x += bias));
        }
        Ok(vec![rounded(tensor.dtype(), shape, out)?])
    }

    fn macs(&self, _: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        products(outputs, self.k)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
