//! Products of codes: MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv.
//!
//! Codes are at most 8 bits wide. Their differences from zero points are whole numbers that f32
//! holds, and so are sums of up to `EXACT` products; those are computed as f32 and added as int32.

use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::kernels::mm::{Matrix, Target, Way, mm};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::matmul::{Sizes, products};
use crate::ops::quantize::{Codes, whole};
use crate::ops::window::{Span, Window};
use crate::ops::{Built, some};
use crate::real::{count, made, reals};
use crate::tensor::{Buffer, Data, Dtype, Tensor, elements};

/// Products of matrices of codes, as int32.
#[derive(Clone, Copy, Debug)]
pub struct MatMulInteger;

/// The same as codes.
#[derive(Clone, Copy, Debug)]
pub struct QLinearMatMul;

/// Convolution of codes, as int32.
#[derive(Clone, Debug)]
pub struct ConvInteger(Convolution);

/// The same as codes.
#[derive(Clone, Debug)]
pub struct QLinearConv(Convolution);

#[derive(Clone, Debug)]
struct Convolution {
    window: Window,
    groups: usize,
}

/// Products of differences of codes whose sum f32 holds: 256 * 255 * 255 < 2^24.
const EXACT: usize = 256;

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    if !definition.domain.is_empty() {
        return Ok(None);
    }
    let convolution = || {
        let groups = definition.int("group")?.unwrap_or(1);
        let groups = usize::try_from(groups).ok().filter(|groups| *groups > 0);
        let groups = groups.ok_or_else(|| Fault::shape("attribute `group` below 1", "1 or more"))?;
        Ok(Convolution { window: Window::read(definition)?, groups })
    };
    match definition.op.as_str() {
        "MatMulInteger" => some(MatMulInteger),
        "QLinearMatMul" => some(QLinearMatMul),
        "ConvInteger" => some(ConvInteger(convolution()?)),
        "QLinearConv" => some(QLinearConv(convolution()?)),
        _ => Ok(None),
    }
}

/// Codes less their zero points: one for all, or one for each row, or column, of the last two
/// dimensions.
fn differences(inputs: &Inputs, index: usize, zero: usize, of: Zeros) -> Result<Vec<f32>, Fault> {
    let tensor = inputs.get(index)?;
    let all = codes(tensor, index)?;
    let zeros = match inputs.optional(zero) {
        Some(tensor) => codes(tensor, zero)?,
        None => vec![0],
    };
    if let [zero] = zeros.as_slice() {
        return Ok(all.into_iter().map(|code| (code - zero) as f32).collect());
    }
    let (along, inner) = match (of, tensor.shape()) {
        (Zeros::Rows, [.., rows, columns]) => (*rows, *columns),
        (Zeros::Columns, [.., columns]) => (*columns, 1),
        (Zeros::First, [first, rest @ ..]) => (*first, rest.iter().product()),
        _ => (1, 1),
    };
    let batch = elements(tensor.shape().get(..tensor.rank().saturating_sub(2)).unwrap_or_default()).unwrap_or(0);
    if zeros.len() != along && !(zeros.len() == along * batch && of != Zeros::First) {
        return Err(Fault::shape(format!("{} zero points", zeros.len()), format!("1 or {along}")));
    }
    let at = |at: usize| match of {
        Zeros::Columns if zeros.len() != along => {
            let matrix = tensor.shape().iter().rev().take(2).product::<usize>();
            at / matrix * along + at % along
        }
        _ => at / inner % zeros.len(),
    };
    Ok(all.into_iter().enumerate().map(|(i, code)| (code - zeros[at(i)]) as f32).collect())
}

/// What has a zero point of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zeros {
    Rows,
    Columns,
    /// Each place along the first dimension.
    First,
}

/// Codes of 8 bits.
fn codes(tensor: &Tensor, index: usize) -> Result<Vec<i32>, Fault> {
    match tensor.dtype() {
        Dtype::I8 | Dtype::U8 => whole(tensor).ok_or_else(|| Fault::dtype(index, tensor, "int8 or uint8")),
        _ => Err(Fault::dtype(index, tensor, "int8 or uint8")),
    }
}

/// `out += left * right` of whole numbers, `EXACT` rows of `right` at a time.
fn add_product(
    out: &mut [i32],
    (m, k, n): (usize, usize, usize),
    left: &[f32],
    right: &[f32],
    sums: &mut Vec<f32>,
) -> Result<(), Fault> {
    sums.resize(m * n, 0.0);
    let left = Matrix::rows(left, m, k)?;
    for (at, rows) in right.chunks((EXACT * n).max(1)).enumerate() {
        let count = rows.len() / n;
        let right = Matrix::rows(rows, count, n)?;
        mm(Target::rows(sums, m, n)?, left.columns(at * EXACT, count)?, right, Way::replace())?;
        out.iter_mut().zip(sums.iter()).for_each(|(out, sum)| *out = out.wrapping_add(*sum as i32));
    }
    Ok(())
}

/// Products of matrices over a batch.
fn matmul(inputs: &Inputs, sides: [(usize, usize); 2], context: &Context<'_>) -> Result<(Sizes, Vec<i32>), Fault> {
    let [(left, left_zero), (right, right_zero)] = sides;
    let sizes = Sizes::new(inputs.get(left)?.shape(), inputs.get(right)?.shape(), (false, false))?;
    let mut out = vec![0i32; context.len::<i32>(&sizes.shape)?];
    let left = differences(inputs, left, left_zero, Zeros::Rows)?;
    let right = differences(inputs, right, right_zero, Zeros::Columns)?;
    let (m, k, n) = sizes.each();
    let mut sums = Vec::new();
    if !out.is_empty() {
        for (out, (a, b)) in out.chunks_mut(m * n).zip(sizes.pairs()) {
            let (left, right) = (&left[a * m * k..(a + 1) * m * k], &right[b * k * n..(b + 1) * k * n]);
            add_product(out, (m, k, n), left, right, &mut sums)?;
        }
    }
    Ok((sizes, out))
}

impl Operator for MatMulInteger {
    fn name(&self) -> &'static str {
        "MatMulInteger"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let (sizes, out) = matmul(inputs, [(0, 2), (1, 3)], context)?;
        let found = out.len();
        Ok(vec![made(sizes.shape, Data::I32(Buffer::from(out)), found)?])
    }

    fn macs(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        products(outputs, inputs.first().copied().flatten().and_then(<[usize]>::last).copied().unwrap_or(0))
    }
}

/// Sums as codes: rounded steps of the result's scale, above its zero point. The scale of sum `at`
/// is that of `channel(at)`.
fn coded(
    inputs: &Inputs,
    scales: [usize; 3],
    zero: usize,
    sums: &[i32],
    channel: impl Fn(usize) -> usize,
) -> Result<Data, Fault> {
    let [x, w, y] = scales;
    let (x, w, y) = (reals::<f32>(inputs, x)?, reals::<f32>(inputs, w)?, reals::<f32>(inputs, y)?);
    let (&[x], &[y]) = (x.as_ref(), y.as_ref()) else {
        return Err(Fault::Unsupported("a left scale, or one of the result, that is not one number".to_owned()));
    };
    let last = (0..sums.len().min(1)).chain(sums.len().checked_sub(1)).map(&channel).max().unwrap_or(0);
    if w.is_empty() || (w.len() > 1 && w.len() <= last) {
        return Err(Fault::shape(format!("{} scales", w.len()), format!("1 or {}", last + 1)));
    }
    let scales: Vec<f32> = w.iter().map(|w| x * w / y).collect();
    let (codes, zero) = match inputs.optional(zero) {
        Some(tensor) => match self::codes(tensor, zero)?.as_slice() {
            [zero] => (Codes::of(tensor.dtype())?, *zero),
            all => return Err(Fault::shape(format!("{} zero points of the result", all.len()), "1")),
        },
        None => (Codes::of(inputs.get(0)?.dtype())?, 0),
    };
    let one = |(at, sum): (usize, &i32)| {
        let scale = if scales.len() == 1 { scales[0] } else { scales[channel(at)] };
        codes.code(*sum as f32 * scale, zero)
    };
    Ok(codes.data(&sums.iter().enumerate().map(one).collect::<Vec<_>>()))
}

impl Operator for QLinearMatMul {
    fn name(&self) -> &'static str {
        "QLinearMatMul"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let (sizes, sums) = matmul(inputs, [(0, 2), (3, 5)], context)?;
        let (_, _, n) = sizes.each();
        let scales = inputs.get(4)?;
        if scales.len() != 1 && scales.len() != n {
            return Err(Fault::shape(format!("a scale of {}", dims(scales.shape())), format!("one, or {n}")));
        }
        let data = coded(inputs, [1, 4, 6], 7, &sums, |at| at % n.max(1))?;
        Ok(vec![made(sizes.shape, data, sums.len())?])
    }

    fn macs(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        MatMulInteger.macs(inputs, outputs)
    }
}

/// The inputs of a convolution: where the image, the weight and their zero points are.
struct Places {
    image: usize,
    image_zero: usize,
    weight: usize,
    weight_zero: usize,
}

impl Convolution {
    /// Sums, and their shape.
    fn sums(&self, inputs: &Inputs, places: &Places, context: &Context<'_>) -> Result<(Vec<usize>, Vec<i32>), Fault> {
        let (image, weight) = (inputs.get(places.image)?.shape(), inputs.get(places.weight)?.shape());
        let wrong = || {
            let found = format!("an image of {} and a weight of {}", dims(image), dims(weight));
            Fault::shape(found, format!("those of a convolution of {} groups", self.groups))
        };
        let ([batch, channels, size @ ..], [filters, per_group, kernel @ ..]) = (image, weight) else {
            return Err(wrong());
        };
        let divides = filters.is_multiple_of(self.groups) && per_group.checked_mul(self.groups) == Some(*channels);
        if !divides || size.len() != kernel.len() || self.window.kernel.as_deref().is_some_and(|own| own != kernel) {
            return Err(wrong());
        }
        let spans = self.window.spans(size, Some(kernel))?;
        let mut shape = vec![*batch, *filters];
        shape.extend(spans.iter().map(|span| span.output));
        let mut out = vec![0i32; context.len::<i32>(&shape)?];
        if out.is_empty() || inputs.get(places.image)?.is_empty() {
            return Ok((shape, out));
        }
        let n = count(&shape[2..])?;
        let (m, k) = (filters / self.groups, count(&weight[1..])?);
        let x = differences(inputs, places.image, places.image_zero, Zeros::Rows)?;
        let w = differences(inputs, places.weight, places.weight_zero, Zeros::First)?;
        let plane = per_group * count(size)?;
        let mut columns = vec![0f32; context.len::<f32>(&[k, n])?];
        let mut sums = Vec::new();
        for (at, out) in out.chunks_mut(m * n).enumerate() {
            let group = at % self.groups;
            unfold(&x[at * plane..(at + 1) * plane], &spans, &mut columns);
            add_product(out, (m, k, n), &w[group * m * k..(group + 1) * m * k], &columns, &mut sums)?;
        }
        Ok((shape, out))
    }
}

/// The elements under each place of the window, one row for each channel and place.
fn unfold(image: &[f32], spans: &[Span], columns: &mut [f32]) {
    let kernel: usize = spans.iter().map(|span| span.kernel).product();
    let outputs: usize = spans.iter().map(|span| span.output).product();
    let plane: usize = spans.iter().map(|span| span.input).product();
    for (row, columns) in columns.chunks_mut(outputs.max(1)).enumerate() {
        let image = &image[row / kernel * plane..];
        for (at, out) in columns.iter_mut().enumerate() {
            let (mut rest_at, mut rest_tap) = (at, row % kernel);
            let (mut found, mut stride) = (Some(0), 1);
            for span in spans.iter().rev() {
                let under = span.under(rest_at % span.output, rest_tap % span.kernel);
                found = found.zip(under).map(|(offset, under)| offset + under * stride);
                stride *= span.input;
                rest_at /= span.output;
                rest_tap /= span.kernel;
            }
            *out = found.map_or(0.0, |offset| image[offset]);
        }
    }
}

/// Multiplications of a convolution.
fn convolved(weight: Option<&[usize]>, outputs: &[&[usize]]) -> u64 {
    products(outputs, weight.and_then(|shape| shape.get(1..)).and_then(elements).unwrap_or(0))
}

impl Operator for ConvInteger {
    fn name(&self) -> &'static str {
        "ConvInteger"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let places = Places { image: 0, image_zero: 2, weight: 1, weight_zero: 3 };
        let (shape, out) = self.0.sums(inputs, &places, context)?;
        let found = out.len();
        Ok(vec![made(shape, Data::I32(Buffer::from(out)), found)?])
    }

    fn macs(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        convolved(inputs.get(1).copied().flatten(), outputs)
    }
}

impl Operator for QLinearConv {
    fn name(&self) -> &'static str {
        "QLinearConv"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let places = Places { image: 0, image_zero: 2, weight: 3, weight_zero: 5 };
        let (shape, mut sums) = self.0.sums(inputs, &places, context)?;
        let (filters, plane) = (shape[1], if sums.is_empty() { 1 } else { count(&shape[2..])? });
        let channel = |at: usize| at / plane.max(1) % filters.max(1);
        if inputs.optional(8).is_some() {
            let bias: &[i32] = inputs.elements(8, "int32")?;
            if bias.len() != filters {
                return Err(Fault::shape(format!("{} biases", bias.len()), format!("{filters}")));
            }
            sums.iter_mut().enumerate().for_each(|(at, sum)| *sum = sum.wrapping_add(bias[channel(at)]));
        }
        let scales = inputs.get(4)?;
        if scales.len() != 1 && scales.len() != filters {
            return Err(Fault::shape(format!("a scale of {}", dims(scales.shape())), format!("one, or {filters}")));
        }
        let data = coded(inputs, [1, 4, 6], 7, &sums, channel)?;
        Ok(vec![made(shape, data, sums.len())?])
    }

    fn macs(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        convolved(inputs.get(3).copied().flatten(), outputs)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
