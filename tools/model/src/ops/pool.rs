//! Pooling: MaxPool, AveragePool, LpPool, and their global kin.

mod back;

use niwaki_codes::simd::Level;
use niwaki_codes::stamp;
use rayon::prelude::*;

use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::{strides, walk};
use crate::ops::window::{Span, Window};
use crate::ops::{Built, some};
use crate::real::{Real, count, in_reals, made, reals, rounded};
use crate::reverse::Reverse;
use crate::tensor::{Buffer, Data, Dtype, Element, Tensor};

/// The largest element under each window; the second output is where it is.
#[derive(Clone, Debug)]
pub struct MaxPool {
    window: Window,
    /// Places are counted column after column.
    column_major: bool,
    wants_places: bool,
}

/// The mean of the elements under each window.
#[derive(Clone, Debug)]
pub struct AveragePool {
    window: Window,
    count_padding: bool,
}

/// The norm of the elements under each window.
#[derive(Clone, Debug)]
pub struct LpPool {
    window: Window,
    p: f32,
}

/// What becomes of each channel of an image as a whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GlobalPool {
    /// Its mean.
    Average,
    /// Its largest element.
    Max,
    /// Its norm.
    Lp(f32),
}

impl MaxPool {
    /// How its windows lie on images of these spatial dimensions.
    ///
    /// # Errors
    ///
    /// Images that no window fits.
    pub fn windows(&self, image: &[usize]) -> Result<Vec<Span>, Fault> {
        self.window.spans(image, None)
    }

    /// Whether it makes the elements alone, not their places.
    pub(crate) fn is_plain(&self) -> bool {
        !self.wants_places
    }
}

impl AveragePool {
    /// How its windows lie on images of these spatial dimensions.
    ///
    /// # Errors
    ///
    /// Images that no window fits.
    pub fn windows(&self, image: &[usize]) -> Result<Vec<Span>, Fault> {
        self.window.spans(image, None)
    }

    /// Whether padding counts.
    pub fn counts_padding(&self) -> bool {
        self.count_padding
    }
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    if !definition.domain.is_empty() {
        return Ok(None);
    }
    let p = || match definition.int("p") {
        Ok(p) => Ok(p.unwrap_or(2) as f32),
        Err(_) => definition.float("p").map(|p| p.unwrap_or(2.0)),
    };
    match definition.op.as_str() {
        "MaxPool" => some(MaxPool {
            window: Window::read(definition)?,
            column_major: definition.flag("storage_order")?,
            wants_places: definition.outputs > 1,
        }),
        "AveragePool" => some(AveragePool {
            window: Window::read(definition)?,
            count_padding: definition.flag("count_include_pad")?,
        }),
        "LpPool" => some(LpPool { window: Window::read(definition)?, p: p()? }),
        "GlobalAveragePool" => some(GlobalPool::Average),
        "GlobalMaxPool" => some(GlobalPool::Max),
        "GlobalLpPool" => some(GlobalPool::Lp(p()?)),
        _ => Ok(None),
    }
}

/// The planes of an image: how many, and what becomes of each.
struct Planes {
    spans: Vec<Span>,
    /// Elements of one plane before, and after.
    input: usize,
    output: usize,
    /// The shape of the result.
    shape: Vec<usize>,
}

impl Planes {
    fn new(tensor: &Tensor, window: &Window) -> Result<Self, Fault> {
        Self::of(tensor.shape(), window)
    }

    fn of(shape: &[usize], window: &Window) -> Result<Self, Fault> {
        let wrong = || Fault::shape(format!("a shape of {}", dims(shape)), "batch, channels and an image");
        let [batch, channels, image @ ..] = shape else { return Err(wrong()) };
        if image.is_empty() {
            return Err(wrong());
        }
        let spans = window.spans(image, None)?;
        let mut shape = vec![*batch, *channels];
        shape.extend(spans.iter().map(|span| span.output));
        let wrong = || Fault::shape(format!("an image of {shape:?}"), "one that fits in memory");
        let output = crate::tensor::elements(&shape[2..]).ok_or_else(wrong)?;
        Ok(Self { input: count(image)?, output, spans, shape })
    }

    /// Calls `each` with every plane before and after, on all threads.
    fn each<T: Element>(&self, input: &[T], output: &mut [T], each: impl Fn(&[T], &mut [T]) + Sync) {
        if self.input == 0 || self.output == 0 {
            return;
        }
        output.par_chunks_mut(self.output).zip(input.par_chunks(self.input)).for_each(|(out, input)| each(input, out));
    }
}

/// Folds the elements under each window of a plane, row by row: `out = fold(out, element)`.
#[inline(always)]
fn fold_plane<T: Copy>(spans: &[Span], input: &[T], out: &mut [T], fold: impl Fn(T, T) -> T) {
    let Some((last, outer)) = spans.split_last() else { return };
    if last.output == 0 || input.is_empty() {
        return;
    }
    let mut at = [0usize; 8];
    let mut tap = [0usize; 8];
    if outer.len() > at.len() {
        return;
    }
    for out in out.chunks_exact_mut(last.output) {
        tap.fill(0);
        loop {
            if let Some(row) = row_under(outer, &at, &tap) {
                fold_row(last, &input[row * last.input..(row + 1) * last.input], out, &fold);
            }
            if !step(outer.iter().map(|span| span.kernel), &mut tap) {
                break;
            }
        }
        step(outer.iter().map(|span| span.output), &mut at);
    }
}

/// The row of the input under a place of a window; none where there is padding.
#[inline(always)]
fn row_under(outer: &[Span], at: &[usize; 8], tap: &[usize; 8]) -> Option<usize> {
    let mut row = 0;
    for (axis, span) in outer.iter().enumerate() {
        row = row * span.input + span.under(at[axis], tap[axis])?;
    }
    Some(row)
}

/// The next place in row-major order; whether there is one.
#[inline(always)]
fn step(ends: impl DoubleEndedIterator<Item = usize> + ExactSizeIterator, at: &mut [usize; 8]) -> bool {
    for (axis, end) in ends.enumerate().rev() {
        at[axis] += 1;
        if at[axis] < end {
            return true;
        }
        at[axis] = 0;
    }
    false
}

/// Folds one row of the input into one row of results.
#[inline(always)]
fn fold_row<T: Copy>(span: &Span, input: &[T], out: &mut [T], fold: &impl Fn(T, T) -> T) {
    for tap in 0..span.kernel {
        let (from, to) = span.results(tap);
        if from >= to {
            continue;
        }
        let first = from * span.stride + tap * span.dilation - span.before;
        let (input, out) = (&input[first..], &mut out[from..to]);
        match span.stride {
            1 => out.iter_mut().zip(input).for_each(|(out, x)| *out = fold(*out, *x)),
            2 => out.iter_mut().zip(input.chunks(2)).for_each(|(out, x)| *out = fold(*out, x[0])),
            stride => out.iter_mut().zip(input.iter().step_by(stride)).for_each(|(out, x)| *out = fold(*out, *x)),
        }
    }
}

stamp! {
    fn max_plane = max_plane_body(spans: &[Span], input: &[f32], out: &mut [f32]) -> ();
}

stamp! {
    fn sum_plane = sum_plane_body(spans: &[Span], input: &[f32], out: &mut [f32]) -> ();
}

#[inline(always)]
fn max_plane_body(spans: &[Span], input: &[f32], out: &mut [f32]) {
    fold_plane(spans, input, out, |a, b| if b > a { b } else { a });
}

#[inline(always)]
fn sum_plane_body(spans: &[Span], input: &[f32], out: &mut [f32]) {
    fold_plane(spans, input, out, |a, b| a + b);
}

/// The deepest image that windows slide over.
const DEEPEST: usize = 8;

impl MaxPool {
    fn plain<T: Element>(&self, tensor: &Tensor, all: &[T], lowest: T, out: Vec<T>) -> Result<Vec<T>, Fault> {
        let planes = Planes::new(tensor, &self.window)?;
        let mut out = out;
        out.fill(lowest);
        planes.each(all, &mut out, |input, out| {
            fold_plane(&planes.spans, input, out, |a, b| if b > a { b } else { a });
        });
        Ok(out)
    }

    /// The places of the largest elements, the first of equal ones, and the elements.
    fn places<T: Element>(&self, planes: &Planes, all: &[T], out: &mut [T]) -> Vec<i64> {
        let mut places = vec![0i64; out.len()];
        let outputs: Vec<usize> = planes.spans.iter().map(|span| span.output).collect();
        let kernel: Vec<usize> = planes.spans.iter().map(|span| span.kernel).collect();
        let image: Vec<usize> = planes.spans.iter().map(|span| span.input).collect();
        let row_major = strides(&image);
        let column_major: Vec<usize> =
            image.iter().scan(1, |stride, dim| Some(std::mem::replace(stride, *stride * dim))).collect();
        let strides_out = if self.column_major { column_major } else { row_major.clone() };
        let (at_strides, tap_strides) = (strides(&outputs), strides(&kernel));
        let each = |(plane, (out, places)): (usize, (&mut [T], &mut [i64]))| {
            let input = &all[plane * planes.input..(plane + 1) * planes.input];
            walk(&outputs, [&at_strides], |[result]| {
                let mut best: Option<(T, usize)> = None;
                walk(&kernel, [&tap_strides], |[tap]| {
                    let mut found = Some((0, 0));
                    for (axis, span) in planes.spans.iter().enumerate() {
                        let (at, tap) =
                            (result / at_strides[axis] % span.output, tap / tap_strides[axis] % span.kernel);
                        found = found.and_then(|(offset, place)| {
                            let under = span.under(at, tap)?;
                            Some((offset + under * row_major[axis], place + under * strides_out[axis]))
                        });
                    }
                    if let Some((offset, place)) = found
                        && best.is_none_or(|(largest, _)| input[offset] > largest)
                    {
                        best = Some((input[offset], place));
                    }
                });
                if let Some((largest, place)) = best {
                    out[result] = largest;
                    places[result] = (plane * planes.input + place) as i64;
                }
            });
        };
        if planes.output > 0 && planes.input > 0 {
            let chunks = out.par_chunks_mut(planes.output).zip(places.par_chunks_mut(planes.output));
            chunks.enumerate().for_each(each);
        }
        places
    }

    fn with_places(&self, tensor: &Tensor, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let planes = Planes::new(tensor, &self.window)?;
        context.len::<i64>(&planes.shape)?;
        let (data, places) = match tensor.data() {
            Data::F64(all) => {
                let mut out = vec![f64::NEG_INFINITY; context.len::<f64>(&planes.shape)?];
                let places = self.places(&planes, all.as_slice(), &mut out);
                (Data::F64(Buffer::from(out)), places)
            }
            Data::I8(all) => {
                let mut out = vec![i8::MIN; context.len::<i8>(&planes.shape)?];
                let places = self.places(&planes, all.as_slice(), &mut out);
                (Data::I8(Buffer::from(out)), places)
            }
            Data::U8(all) => {
                let mut out = vec![0u8; context.len::<u8>(&planes.shape)?];
                let places = self.places(&planes, all.as_slice(), &mut out);
                (Data::U8(Buffer::from(out)), places)
            }
            data => {
                let all = f32::widened(data).ok_or_else(|| Fault::dtype(0, tensor, "a float type, int8 or uint8"))?;
                let mut out = context.buffer(&planes.shape)?;
                out.fill(f32::NEG_INFINITY);
                let places = self.places(&planes, &all, &mut out);
                (rounded(tensor.dtype(), planes.shape.clone(), out)?.into_data(), places)
            }
        };
        let found = places.len();
        let places = made(planes.shape.clone(), Data::I64(Buffer::from(places)), found)?;
        Ok(vec![made(planes.shape, data, found)?, places])
    }
}

impl Operator for MaxPool {
    fn name(&self) -> &'static str {
        "MaxPool"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let tensor = inputs.get(0)?;
        let planes = Planes::new(tensor, &self.window)?;
        refuse_deep(&planes)?;
        if self.wants_places {
            return self.with_places(tensor, context);
        }
        let shape = planes.shape.clone();
        let data = match tensor.data() {
            Data::F64(all) => {
                let out = vec![0.0; context.len::<f64>(&shape)?];
                Data::F64(Buffer::from(self.plain(tensor, all.as_slice(), f64::NEG_INFINITY, out)?))
            }
            Data::I8(all) => {
                let out = vec![0; context.len::<i8>(&shape)?];
                Data::I8(Buffer::from(self.plain(tensor, all.as_slice(), i8::MIN, out)?))
            }
            Data::U8(all) => {
                let out = vec![0; context.len::<u8>(&shape)?];
                Data::U8(Buffer::from(self.plain(tensor, all.as_slice(), 0, out)?))
            }
            data => {
                let all = f32::widened(data).ok_or_else(|| Fault::dtype(0, tensor, "a float type, int8 or uint8"))?;
                let mut out = context.buffer(&shape)?;
                out.fill(f32::NEG_INFINITY);
                let level = Level::best();
                planes.each(&all, &mut out, |input, out| max_plane(level, &planes.spans, input, out));
                return Ok(vec![rounded(tensor.dtype(), shape, out)?]);
            }
        };
        let found = data.len();
        Ok(vec![made(shape, data, found)?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

fn refuse_deep(planes: &Planes) -> Result<(), Fault> {
    if planes.spans.len() > DEEPEST {
        return Err(Fault::Unsupported(format!("pooling over {} dimensions", planes.spans.len())));
    }
    Ok(())
}

impl AveragePool {
    fn reals<T: Real>(&self, inputs: &Inputs, context: &Context<'_>) -> Result<Tensor, Fault> {
        let tensor = inputs.get(0)?;
        let planes = Planes::new(tensor, &self.window)?;
        refuse_deep(&planes)?;
        let all = reals::<T>(inputs, 0)?;
        let mut out = T::buffer(context, &planes.shape)?;
        let shares = self.shares::<T>(&planes);
        let level = Level::best();
        planes.each(&all, &mut out, |input, out| {
            out.fill(T::ZERO);
            T::sums(level, &planes.spans, input, out);
            out.iter_mut().zip(&shares).for_each(|(out, share)| *out = *out / *share);
        });
        rounded(tensor.dtype(), planes.shape.clone(), out)
    }

    /// How many elements each result of a plane is the mean of.
    fn shares<T: Real>(&self, planes: &Planes) -> Vec<T> {
        let mut shares = vec![1.0f64];
        for span in &planes.spans {
            let counts: Vec<f64> =
                (0..span.output).map(|at| span.count(at, self.count_padding).max(1) as f64).collect();
            shares = shares.iter().flat_map(|share| counts.iter().map(move |count| share * count)).collect();
        }
        shares.into_iter().map(T::near).collect()
    }
}

/// Sums of windows, by the fastest loop that there is for the type.
trait Sums: Sized {
    fn sums(level: Level, spans: &[Span], input: &[Self], out: &mut [Self]);
}

impl<T: Real> Sums for T {
    fn sums(level: Level, spans: &[Span], input: &[Self], out: &mut [Self]) {
        match (bytemuck::try_cast_slice::<T, f32>(input), T::DTYPE) {
            (Ok(input), Dtype::F32) => sum_plane(level, spans, input, bytemuck::cast_slice_mut(out)),
            _ => fold_plane(spans, input, out, |a, b| a + b),
        }
    }
}

impl Operator for AveragePool {
    fn name(&self) -> &'static str {
        "AveragePool"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        Ok(vec![in_reals!(inputs.get(0)?.dtype(), T => self.reals::<T>(inputs, context))?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl LpPool {
    fn reals<T: Real>(&self, inputs: &Inputs, context: &Context<'_>) -> Result<Tensor, Fault> {
        let tensor = inputs.get(0)?;
        let planes = Planes::new(tensor, &self.window)?;
        refuse_deep(&planes)?;
        let all = reals::<T>(inputs, 0)?;
        let mut out = T::buffer(context, &planes.shape)?;
        let p = T::near(f64::from(self.p));
        planes.each(&all, &mut out, |input, out| {
            out.fill(T::ZERO);
            fold_plane(&planes.spans, input, out, |sum, x| sum + power(x, self.p, p));
            out.iter_mut().for_each(|x| *x = root(*x, self.p, p));
        });
        rounded(tensor.dtype(), planes.shape.clone(), out)
    }
}

/// |x|^p.
fn power<T: Real>(x: T, p: f32, wide: T) -> T {
    match p {
        1.0 => x.abs(),
        2.0 => x * x,
        _ => x.abs().powf(wide),
    }
}

/// The p-th root of x.
fn root<T: Real>(x: T, p: f32, wide: T) -> T {
    match p {
        1.0 => x,
        2.0 => x.sqrt(),
        _ => x.powf(T::ONE / wide),
    }
}

impl Operator for LpPool {
    fn name(&self) -> &'static str {
        "LpPool"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        Ok(vec![in_reals!(inputs.get(0)?.dtype(), T => self.reals::<T>(inputs, context))?])
    }
}

impl GlobalPool {
    fn reals<T: Real>(self, inputs: &Inputs, context: &Context<'_>) -> Result<Tensor, Fault> {
        let tensor = inputs.get(0)?;
        let [batch, channels, image @ ..] = tensor.shape() else {
            return Err(Fault::shape(format!("a shape of {}", dims(tensor.shape())), "batch, channels and an image"));
        };
        let mut shape = vec![*batch, *channels];
        shape.resize(tensor.rank(), 1);
        let mut out = T::buffer(context, &shape)?;
        let all = reals::<T>(inputs, 0)?;
        let plane = count(image)?;
        if plane == 0 {
            return Err(Fault::shape("an image without elements", "one to pool"));
        }
        out.par_iter_mut().zip(all.par_chunks(plane)).for_each(|(out, plane)| *out = self.plane(plane));
        rounded(tensor.dtype(), shape, out)
    }

    fn plane<T: Real>(self, plane: &[T]) -> T {
        match self {
            Self::Average => sum(plane, |x| x) / T::near(plane.len() as f64),
            Self::Max => plane.iter().fold(T::LOWEST, |a, b| a.max(*b)),
            Self::Lp(p) => root(sum(plane, |x| power(x, p, T::near(f64::from(p)))), p, T::near(f64::from(p))),
        }
    }
}

/// The sum of an expression of each element, in lanes that vector registers have.
fn sum<T: Real>(all: &[T], one: impl Fn(T) -> T) -> T {
    let mut lanes = [T::ZERO; 16];
    let (whole, rest) = all.as_chunks::<16>();
    for chunk in whole {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += one(*x));
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, x)| *lane += one(*x));
    lanes.into_iter().sum()
}

impl Operator for GlobalPool {
    fn name(&self) -> &'static str {
        match self {
            Self::Average => "GlobalAveragePool",
            Self::Max => "GlobalMaxPool",
            Self::Lp(_) => "GlobalLpPool",
        }
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        Ok(vec![in_reals!(inputs.get(0)?.dtype(), T => self.reals::<T>(inputs, context))?])
    }

    fn reverse(&self) -> Reverse<'_> {
        match self {
            Self::Lp(_) => Reverse::Missing,
            _ => Reverse::Flows(self),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
