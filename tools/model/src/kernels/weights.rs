//! Products with weights in the type in which they are stored: `[out, in]`, row after row.
//!
//! Few inputs: every weight is read once, widened in registers and multiplied with all of them,
//! since reading is what takes the time. Many inputs: weights are widened a panel at a time, and
//! the panel goes to [`mm`].

mod rows;

use half::{bf16, f16};
use niwaki_codes::product::{Inputs, Kernel, Scratch, Sizes};
use niwaki_codes::simd::Level;
use niwaki_codes::stamp;
use rayon::prelude::*;

use crate::fault::Fault;
use crate::kernels::mm::{Matrix, Target, Way, mm};
use crate::operator::Context;
use crate::packed::Packed;
use crate::tensor::{Data, Tensor};

/// Weights where they stand.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stored<'w> {
    /// Single floats.
    F32(&'w [f32]),
    /// Half floats.
    F16(&'w [f16]),
    /// The upper halves of single floats.
    Bf16(&'w [bf16]),
    /// Codes of a few bits.
    Packed(&'w Packed),
}

/// Inputs up to which weights are widened in registers.
const FEW: usize = 4;
/// Rows of weights that one thread does at a time.
const ROWS: usize = 64;
/// Rows of weights that are widened at a time.
const PANEL: usize = 256;
/// Multiplications up to which one thread does them all: others would come too late to help.
const SMALL: usize = 1 << 15;
/// Sums that a product of two rows is spread over.
const SUMS: usize = 32;

impl<'w> Stored<'w> {
    /// The elements of a tensor.
    ///
    /// # Errors
    ///
    /// Elements that are no floats of at most 32 bits.
    pub(crate) fn of(tensor: &'w Tensor, input: usize) -> Result<Self, Fault> {
        Ok(match tensor.data() {
            Data::F32(all) => Self::F32(all.as_slice()),
            Data::F16(all) => Self::F16(all.as_slice()),
            Data::Bf16(all) => Self::Bf16(all.as_slice()),
            _ => return Err(Fault::dtype(input, tensor, "float, float16 or bfloat16")),
        })
    }

    fn len(self) -> usize {
        match self {
            Self::F32(all) => all.len(),
            Self::F16(all) => all.len(),
            Self::Bf16(all) => all.len(),
            Self::Packed(all) => all.rows() * all.cols(),
        }
    }

    /// Widens the elements from `first` on; as many as `out` has, of which all must be there. Of codes
    /// these are whole rows.
    pub(crate) fn widen(self, first: usize, out: &mut [f32]) {
        let level = Level::best();
        let part = first..first + out.len();
        match self {
            Self::F32(all) => out.copy_from_slice(&all[part]),
            Self::F16(all) => widen_f16(level, &all[part], out),
            Self::Bf16(all) => widen_bf16(level, &all[part], out),
            Self::Packed(all) => {
                let width = all.cols().max(1);
                let widened = all.dequantize_rows(Kernel::best(), first / width..part.end / width, out);
                debug_assert!(widened.is_ok(), "{widened:?}");
            }
        }
    }

    /// Whether inputs are rounded, and so multiplied one by one.
    fn rounds(self) -> bool {
        matches!(self, Self::Packed(all) if all.rounds())
    }
}

/// Multiplies every row of `x`, of `width` elements, with every row of weights: `out` is
/// `[rows of x, rows of weights]`, and all of it is written. The same for any number of threads.
///
/// # Errors
///
/// Sizes that do not fit each other.
pub(crate) fn multiply(
    x: &[f32],
    width: usize,
    weights: Stored<'_>,
    out: &mut [f32],
    context: &Context<'_>,
) -> Result<(), Fault> {
    let (inputs, outputs) = match width {
        0 => (0, 0),
        _ => (x.len() / width, weights.len() / width),
    };
    if inputs * width != x.len() || outputs * width != weights.len() || inputs * outputs != out.len() {
        let found = format!("{} inputs, {} weights, {} results", x.len(), weights.len(), out.len());
        return Err(Fault::shape(found, format!("rows of {width}")));
    }
    if out.is_empty() {
        return Ok(());
    }
    match inputs {
        1 => few(x, width, weights, out, context)?,
        inputs if inputs <= FEW || weights.rounds() => {
            let mut turned = context.scratch(out.len());
            few(x, width, weights, &mut turned, context)?;
            for (row, out) in out.chunks_exact_mut(outputs).enumerate() {
                out.iter_mut().zip(turned.iter().skip(row).step_by(inputs)).for_each(|(y, x)| *y = *x);
            }
            context.put(turned);
        }
        _ => return many((x, inputs), width, weights, out, context),
    }
    Ok(())
}

/// All products, those of one row of weights side by side.
fn few(x: &[f32], width: usize, weights: Stored<'_>, out: &mut [f32], context: &Context<'_>) -> Result<(), Fault> {
    let level = Level::best();
    match weights {
        Stored::F32(all) => dots((x, width), all, out, |x, w| dot(level, x, w)),
        Stored::F16(all) => dots((x, width), all, out, |x, w| dot_f16(level, x, w)),
        Stored::Bf16(all) => dots((x, width), all, out, |x, w| dot_bf16(level, x, w)),
        Stored::Packed(all) => return few_of_codes(x, all, out, context),
    }
    Ok(())
}

/// The same, of weights of one type: `dot` is the product of two rows.
fn dots<T: Sync>(
    (x, width): (&[f32], usize),
    weights: &[T],
    out: &mut [f32],
    dot: impl Fn(&[f32], &[T]) -> f32 + Sync,
) {
    let inputs = x.len() / width;
    parts(out, inputs, width, |first, out| {
        for (row, out) in out.chunks_exact_mut(inputs).enumerate() {
            let weights = &weights[(first + row) * width..][..width];
            for (x, y) in x.chunks_exact(width).zip(out) {
                *y = dot(x, weights);
            }
        }
    });
}

/// The same, of codes.
fn few_of_codes(x: &[f32], weights: &Packed, out: &mut [f32], context: &Context<'_>) -> Result<(), Fault> {
    let (width, inputs) = (weights.cols(), x.len() / weights.cols());
    let form = weights.form(Kernel::best());
    let Sizes { floats, sums, codes } = form.sizes(width);
    let mut scratch = context.scratch(floats * inputs);
    let (mut all_sums, mut all_codes) = (vec![0; sums * inputs], vec![0; codes * inputs]);
    let (mut rest, mut rest_sums, mut rest_codes) =
        (scratch.as_mut_slice(), all_sums.as_mut_slice(), all_codes.as_mut_slice());
    let mut ready = Vec::with_capacity(inputs);
    for x in x.chunks_exact(width) {
        let scratch = Scratch {
            floats: rest.split_off_mut(..floats).unwrap_or_default(),
            sums: rest_sums.split_off_mut(..sums).unwrap_or_default(),
            codes: rest_codes.split_off_mut(..codes).unwrap_or_default(),
        };
        let inputs = Inputs::new(Level::best(), form, x, scratch);
        ready.push(inputs.map_err(|e| Fault::shape(e.to_string(), format!("rows of {width}")))?);
    }
    parts(out, inputs, width, |first, out| {
        let rows = out.len() / inputs;
        for (input, x) in ready.iter().enumerate() {
            let mut room = [0.0; ROWS];
            let products = &mut room[..rows];
            let done = weights.products(Kernel::best(), first..first + rows, x, products);
            debug_assert!(done.is_ok(), "{done:?}");
            for (row, product) in products.iter().enumerate() {
                out[row * inputs + input] = *product;
            }
        }
    });
    context.put(scratch);
    Ok(())
}

/// Does `part` for some rows of weights at a time, given the first of them and room for their products.
fn parts(out: &mut [f32], inputs: usize, width: usize, part: impl Fn(usize, &mut [f32]) + Sync) {
    let small = out.len() * width <= SMALL;
    let chunks = |(at, out): (usize, &mut [f32])| part(at * ROWS, out);
    match small {
        true => out.chunks_mut(ROWS * inputs).enumerate().for_each(chunks),
        false => out.par_chunks_mut(ROWS * inputs).enumerate().for_each(chunks),
    }
}

fn many(
    (x, inputs): (&[f32], usize),
    width: usize,
    weights: Stored<'_>,
    out: &mut [f32],
    context: &Context<'_>,
) -> Result<(), Fault> {
    let outputs = out.len() / inputs;
    let left = Matrix::rows(x, inputs, width)?;
    let way = Way { parallel: out.len() * width > SMALL, ..Way::replace() };
    if let Stored::F32(all) = weights {
        let right = Matrix::rows(all, outputs, width)?.transposed();
        return mm(Target::rows(out, inputs, outputs)?, left, right, way);
    }
    let mut panel = context.scratch(PANEL.min(outputs) * width);
    for first in (0..outputs).step_by(PANEL) {
        let count = PANEL.min(outputs - first);
        let wide = &mut panel[..count * width];
        let rows = wide.par_chunks_mut(ROWS * width).enumerate();
        rows.for_each(|(at, wide)| weights.widen((first + at * ROWS) * width, wide));
        let right = Matrix::rows(wide, count, width)?.transposed();
        mm(Target::strided(&mut out[first..], (inputs, count), outputs)?, left, right, way)?;
    }
    context.put(panel);
    Ok(())
}

/// A half float as a single one, without branches.
#[inline(always)]
fn wide(half: f16) -> f32 {
    let bits = u32::from(half.to_bits());
    let magnitude = (bits & 0x7fff) << 13;
    // 2^112 makes up for the smaller bias, and turns subnormal numbers into normal ones.
    let scaled = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(scaled | special | ((bits & 0x8000) << 16))
}

#[inline(always)]
fn upper(half: bf16) -> f32 {
    f32::from_bits(u32::from(half.to_bits()) << 16)
}

#[inline(always)]
fn sum_of_products<T: Copy>(x: &[f32], w: &[T], widen: impl Fn(T) -> f32) -> f32 {
    let mut sums = [0.0f32; SUMS];
    let (xs, ws) = (x.chunks_exact(SUMS), w.chunks_exact(SUMS));
    let (x_rest, w_rest) = (xs.remainder(), ws.remainder());
    for (x, w) in xs.zip(ws) {
        for at in 0..SUMS {
            sums[at] += x[at] * widen(w[at]);
        }
    }
    for (sum, (x, w)) in sums.iter_mut().zip(x_rest.iter().zip(w_rest)) {
        *sum += *x * widen(*w);
    }
    let mut half = SUMS / 2;
    while half > 0 {
        for at in 0..half {
            sums[at] += sums[at + half];
        }
        half /= 2;
    }
    sums[0]
}

stamp! {
    /// The product of two rows.
    pub(crate) fn dot = dot_body(x: &[f32], w: &[f32]) -> f32;
}
#[inline(always)]
fn dot_body(x: &[f32], w: &[f32]) -> f32 {
    sum_of_products(x, w, |w| w)
}

stamp! {
    fn dot_f16 = dot_f16_body(x: &[f32], w: &[f16]) -> f32;
}
#[inline(always)]
fn dot_f16_body(x: &[f32], w: &[f16]) -> f32 {
    sum_of_products(x, w, wide)
}

stamp! {
    fn dot_bf16 = dot_bf16_body(x: &[f32], w: &[bf16]) -> f32;
}
#[inline(always)]
fn dot_bf16_body(x: &[f32], w: &[bf16]) -> f32 {
    sum_of_products(x, w, upper)
}

stamp! {
    fn widen_f16 = widen_f16_body(from: &[f16], out: &mut [f32]) -> ();
}
#[inline(always)]
fn widen_f16_body(from: &[f16], out: &mut [f32]) {
    out.iter_mut().zip(from).for_each(|(y, x)| *y = wide(*x));
}

stamp! {
    fn widen_bf16 = widen_bf16_body(from: &[bf16], out: &mut [f32]) -> ();
}
#[inline(always)]
fn widen_bf16_body(from: &[bf16], out: &mut [f32]) {
    out.iter_mut().zip(from).for_each(|(y, x)| *y = upper(*x));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::operator::Pool;

    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..len).map(next).collect()
    }

    #[test]
    fn every_half_float_widens_exactly() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            let (found, expected) = (wide(half), half.to_f32());
            assert!(found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()), "{bits:#06x}");
            let half = bf16::from_bits(bits);
            assert!(upper(half).to_bits() == half.to_f32().to_bits() || half.is_nan(), "{bits:#06x}");
        }
    }

    #[test]
    fn products_are_those_of_the_definition_for_every_type_and_count() {
        let pool = Pool::default();
        let context = Context::new(1 << 30, &pool);
        for inputs in [1, 2, 4, 5, 9] {
            for (width, outputs) in [(1, 1), (31, 3), (64, 33), (100, 300)] {
                let (x, w) = (numbers(inputs * width, 1), numbers(outputs * width, 2));
                let halves: Vec<f16> = w.iter().map(|x| f16::from_f32(*x)).collect();
                let uppers: Vec<bf16> = w.iter().map(|x| bf16::from_f32(*x)).collect();
                for stored in [Stored::F32(&w), Stored::F16(&halves), Stored::Bf16(&uppers)] {
                    let mut wide = vec![0.0; w.len()];
                    stored.widen(0, &mut wide);
                    let mut out = vec![9.0; inputs * outputs];
                    multiply(&x, width, stored, &mut out, &context).unwrap();
                    for (at, y) in out.iter().enumerate() {
                        let (row, column) = (at / outputs, at % outputs);
                        let pairs = x[row * width..][..width].iter().zip(&wide[column * width..]);
                        let sum: f64 = pairs.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                        // Each of `width` sums rounds by half an ulp of at most width / 4.
                        let bound = (width * width) as f64 / 4.0 * f64::from(f32::EPSILON);
                        assert!((f64::from(*y) - sum).abs() <= bound, "{inputs}x{width}x{outputs} at {at}");
                    }
                }
            }
        }
        assert!(multiply(&[0.0; 3], 2, Stored::F32(&[0.0; 2]), &mut [0.0], &context).is_err());
    }
}
