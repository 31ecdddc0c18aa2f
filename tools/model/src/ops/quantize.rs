//! Codes of whole numbers and what they stand for: QuantizeLinear, DequantizeLinear,
//! DynamicQuantizeLinear.
//!
//! 4-bit codes are held one in a byte.

use rayon::prelude::*;

use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::axis;
use crate::ops::{Built, some};
use crate::real::{count, made, reals, rounded};
use crate::tensor::{Buffer, Data, Dtype, Element, Tensor};

/// Codes: x / scale rounded, ties to even, plus the zero point, saturated.
#[derive(Clone, Copy, Debug)]
pub struct Quantize {
    layout: Layout,
    /// The codes, where the definition says them; else those of the zero point.
    codes: Option<Codes>,
}

/// (code - zero point) times scale.
#[derive(Clone, Copy, Debug)]
pub struct Dequantize {
    layout: Layout,
    /// The type of the result; else that of the scale.
    dtype: Option<Dtype>,
}

/// Codes of type uint8 for the range that the elements have, 0 included; the scale; the zero point.
#[derive(Clone, Copy, Debug)]
pub struct DynamicQuantize;

/// Which elements share a scale.
#[derive(Clone, Copy, Debug)]
struct Layout {
    axis: i64,
    /// Elements along the axis that share a scale; 0 where each place along it has its own.
    block: usize,
}

/// Codes: a type, and the smallest and largest of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Codes {
    pub(crate) dtype: Dtype,
    pub(crate) min: i32,
    pub(crate) max: i32,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    if !matches!(definition.domain.as_str(), "" | "com.microsoft") {
        return Ok(None);
    }
    let layout = || {
        let block = definition.int("block_size")?.unwrap_or(0);
        let block = usize::try_from(block).map_err(|_| Fault::shape(format!("block_size {block}"), "0 or more"))?;
        Ok(Layout { axis: definition.int("axis")?.unwrap_or(1), block })
    };
    match definition.op.as_str() {
        "QuantizeLinear" => {
            let codes = match definition.int("output_dtype")? {
                None | Some(0) => None,
                Some(number) => Some(Codes::of_number(number)?),
            };
            some(Quantize { layout: layout()?, codes })
        }
        "DequantizeLinear" => {
            let dtype = match definition.int("output_dtype")? {
                None | Some(0) => None,
                Some(1) => Some(Dtype::F32),
                Some(10) => Some(Dtype::F16),
                Some(16) => Some(Dtype::BF16),
                Some(other) => return Err(Fault::Unsupported(format!("output_dtype {other}"))),
            };
            some(Dequantize { layout: layout()?, dtype })
        }
        "DynamicQuantizeLinear" => some(DynamicQuantize),
        _ => Ok(None),
    }
}

impl Codes {
    /// Codes by the number that ONNX gives their type.
    ///
    /// # Errors
    ///
    /// Types that are no codes here.
    fn of_number(number: i64) -> Result<Self, Fault> {
        Ok(match number {
            22 => Self { dtype: Dtype::I8, min: -8, max: 7 },
            21 => Self { dtype: Dtype::U8, min: 0, max: 15 },
            2 => Self::of(Dtype::U8)?,
            3 => Self::of(Dtype::I8)?,
            4 => Self::of(Dtype::U16)?,
            5 => Self::of(Dtype::I16)?,
            other => return Err(Fault::Unsupported(format!("output_dtype {other}"))),
        })
    }

    /// All codes of a type.
    ///
    /// # Errors
    ///
    /// Types that are no codes here.
    pub(crate) fn of(dtype: Dtype) -> Result<Self, Fault> {
        let (min, max) = match dtype {
            Dtype::U8 => (0, 255),
            Dtype::I8 => (-128, 127),
            Dtype::U16 => (0, 65_535),
            Dtype::I16 => (-32_768, 32_767),
            other => return Err(Fault::Unsupported(format!("quantization to {other}"))),
        };
        Ok(Self { dtype, min, max })
    }

    /// The code of a number of scales, above a zero point.
    #[inline(always)]
    pub(crate) fn code(&self, x: f32, zero: i32) -> i32 {
        // What is no number becomes 0, as `as` has it; what is far away stays within the codes.
        let steps = x.round_ties_even().clamp(-2e6, 2e6) as i32;
        (steps + zero).clamp(self.min, self.max)
    }

    /// Codes as elements of their type.
    pub(crate) fn data(&self, all: &[i32]) -> Data {
        match self.dtype {
            Dtype::I8 => Data::I8(Buffer::from(all.par_iter().map(|x| *x as i8).collect::<Vec<_>>())),
            Dtype::U16 => Data::U16(Buffer::from(all.par_iter().map(|x| *x as u16).collect::<Vec<_>>())),
            Dtype::I16 => Data::I16(Buffer::from(all.par_iter().map(|x| *x as i16).collect::<Vec<_>>())),
            _ => Data::U8(Buffer::from(all.par_iter().map(|x| *x as u8).collect::<Vec<_>>())),
        }
    }
}

/// Whole numbers of any type up to 32 bits; none for others.
pub(crate) fn whole(tensor: &Tensor) -> Option<Vec<i32>> {
    fn each<T: Element + Into<i32>>(all: &Buffer<T>) -> Vec<i32> {
        all.as_slice().iter().map(|x| (*x).into()).collect()
    }
    Some(match tensor.data() {
        Data::I8(all) => each(all),
        Data::U8(all) => each(all),
        Data::I16(all) => each(all),
        Data::U16(all) => each(all),
        Data::I32(all) => each(all),
        _ => return None,
    })
}

/// How scales lie over elements.
#[derive(Debug, PartialEq, Eq)]
struct Spread {
    /// Elements along the axis, and after it.
    along: usize,
    inner: usize,
    /// Scales along the axis, where they are those of blocks; else each place along it has its own.
    blocks: Option<Blocks>,
}

/// Blocks along an axis.
#[derive(Debug, PartialEq, Eq)]
struct Blocks {
    /// Elements of one.
    size: usize,
    /// How many there are along the axis.
    count: usize,
}

/// Elements of one scale that are computed together.
const RUN: usize = 4096;

impl Layout {
    fn spread(&self, shape: &[usize], scale: &[usize]) -> Result<Spread, Fault> {
        if crate::tensor::elements(scale) == Some(1) && (self.block == 0 || scale.len() < shape.len()) {
            return Ok(Spread { along: 1, inner: RUN, blocks: None });
        }
        let axis = axis(self.axis, shape.len())?;
        let along = shape[axis];
        let inner = count(&shape[axis + 1..])?;
        let wrong = |needs: String| Fault::shape(format!("a scale of {}", dims(scale)), needs);
        if self.block == 0 {
            let found = Spread { along, inner, blocks: None };
            return if scale == [along] { Ok(found) } else { Err(wrong(format!("one of {along}"))) };
        }
        let mut needs = shape.to_vec();
        needs[axis] = along.div_ceil(self.block);
        if scale != needs {
            return Err(wrong(dims(&needs)));
        }
        Ok(Spread { along, inner, blocks: Some(Blocks { size: self.block, count: needs[axis] }) })
    }
}

impl Spread {
    /// Computes every element with its scale: `one(where, scale)`.
    fn each<T: Send>(&self, out: &mut [T], one: impl Fn(usize, usize) -> T + Sync) {
        if self.inner == 0 || self.along == 0 {
            return;
        }
        if self.inner == 1 {
            let rows = out.par_chunks_mut(self.along).enumerate();
            rows.for_each(|(row, out)| self.row(row, out, &one));
            return;
        }
        out.par_chunks_mut(self.inner).enumerate().for_each(|(row, out)| {
            let first = row * self.inner;
            let along = row % self.along;
            match &self.blocks {
                None => out.iter_mut().enumerate().for_each(|(i, out)| *out = one(first + i, along)),
                Some(blocks) => {
                    let scale = (row / self.along * blocks.count + along / blocks.size) * self.inner;
                    out.iter_mut().enumerate().for_each(|(i, out)| *out = one(first + i, scale + i));
                }
            }
        });
    }

    /// Computes a row along the axis, which is the last dimension.
    fn row<T>(&self, row: usize, out: &mut [T], one: &impl Fn(usize, usize) -> T) {
        let first = row * self.along;
        let Some(blocks) = &self.blocks else {
            out.iter_mut().enumerate().for_each(|(i, out)| *out = one(first + i, i));
            return;
        };
        for (block, out) in out.chunks_mut(blocks.size).enumerate() {
            let first = first + block * blocks.size;
            let scale = row * blocks.count + block;
            out.iter_mut().enumerate().for_each(|(i, out)| *out = one(first + i, scale));
        }
    }
}

/// The zero points, one for each scale.
fn zeros(inputs: &Inputs, scales: usize) -> Result<Vec<i32>, Fault> {
    let Some(tensor) = inputs.optional(2) else { return Ok(vec![0; scales]) };
    let all = whole(tensor).ok_or_else(|| Fault::dtype(2, tensor, "whole numbers of up to 32 bits"))?;
    if all.len() != scales {
        return Err(Fault::shape(format!("{} zero points", all.len()), format!("{scales}, as scales")));
    }
    Ok(all)
}

impl Operator for Quantize {
    fn name(&self) -> &'static str {
        "QuantizeLinear"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let tensor = inputs.get(0)?;
        let x = match tensor.data() {
            Data::I32(all) => all.as_slice().iter().map(|x| *x as f32).collect::<Vec<_>>().into(),
            _ => reals::<f32>(inputs, 0)?,
        };
        let scale = reals::<f32>(inputs, 1)?;
        let zeros = zeros(inputs, scale.len())?;
        let codes = match (self.codes, inputs.optional(2)) {
            (Some(codes), _) => codes,
            (None, Some(zero)) => Codes::of(zero.dtype())?,
            (None, None) => Codes::of(Dtype::U8)?,
        };
        let spread = self.layout.spread(tensor.shape(), inputs.get(1)?.shape())?;
        let mut out = vec![0i32; context.len::<i32>(tensor.shape())?];
        spread.each(&mut out, |at, of| codes.code(x[at] / scale[of], zeros[of]));
        Ok(vec![made(tensor.shape().to_vec(), codes.data(&out), out.len())?])
    }
}

impl Operator for Dequantize {
    fn name(&self) -> &'static str {
        "DequantizeLinear"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let tensor = inputs.get(0)?;
        let scale = reals::<f32>(inputs, 1)?;
        let zeros = zeros(inputs, scale.len())?;
        let spread = self.layout.spread(tensor.shape(), inputs.get(1)?.shape())?;
        let mut out = context.buffer(tensor.shape())?;
        match tensor.data() {
            Data::I8(all) => dequantize(&spread, &mut out, all.as_slice(), &scale, &zeros),
            Data::U8(all) => dequantize(&spread, &mut out, all.as_slice(), &scale, &zeros),
            Data::I16(all) => dequantize(&spread, &mut out, all.as_slice(), &scale, &zeros),
            Data::U16(all) => dequantize(&spread, &mut out, all.as_slice(), &scale, &zeros),
            Data::I32(all) => dequantize(&spread, &mut out, all.as_slice(), &scale, &zeros),
            _ => return Err(Fault::dtype(0, tensor, "whole numbers of up to 32 bits")),
        }
        let dtype = self.dtype.unwrap_or(inputs.get(1)?.dtype());
        Ok(vec![rounded(dtype, tensor.shape().to_vec(), out)?])
    }
}

fn dequantize<T: Element + Into<i32>>(spread: &Spread, out: &mut [f32], all: &[T], scale: &[f32], zeros: &[i32]) {
    // 32-bit codes have no zero point but 0; the difference of others fits.
    spread.each(out, |at, of| {
        let code: i32 = all[at].into();
        code.wrapping_sub(zeros[of]) as f32 * scale[of]
    });
}

/// The scale and the zero point of 256 levels for the range that numbers have, 0 included.
pub(crate) fn range(all: impl Iterator<Item = f32>) -> (f32, i32) {
    let (least, most) = all.fold((0f32, 0f32), |(least, most), x| (least.min(x), most.max(x)));
    let scale = if least == most { 1.0 } else { (most - least) / 255.0 };
    (scale, (-least / scale).clamp(0.0, 255.0).round_ties_even() as i32)
}

impl Operator for DynamicQuantize {
    fn name(&self) -> &'static str {
        "DynamicQuantizeLinear"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let x = reals::<f32>(inputs, 0)?;
        let shape = inputs.get(0)?.shape().to_vec();
        let (scale, zero) = range(x.iter().copied());
        let codes = Codes::of(Dtype::U8)?;
        let mut out = vec![0u8; context.len::<u8>(&shape)?];
        out.par_iter_mut().zip(x.as_ref()).for_each(|(out, x)| *out = codes.code(*x / scale, zero) as u8);
        let found = out.len();
        Ok(vec![made(shape, Data::U8(Buffer::from(out)), found)?, Tensor::scalar(scale), Tensor::scalar(zero as u8)])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
