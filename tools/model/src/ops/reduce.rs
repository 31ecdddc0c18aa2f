//! Sums, extremes and norms along axes.

mod back;

use niwaki_codes::simd::Level;

use crate::attributes::Definition;
use crate::fault::Fault;
use crate::kernels::{lanes, math, parts};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::binary::made;
use crate::ops::halves::Half;
use crate::ops::number::Number;
use crate::ops::shape::axes;
use crate::ops::{Built, some};
use crate::reverse::Reverse;
use crate::tensor::{Buffer, Data, Dtype, Tensor};

/// What is made of the numbers along axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Σ x.
    Sum,
    /// Σ x / n.
    Mean,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// Π x.
    Prod,
    /// Σ |x|.
    L1,
    /// √ Σ x².
    L2,
    /// ln Σ x.
    LogSum,
    /// ln Σ e^x.
    LogSumExp,
    /// Σ x².
    SumSquare,
}

/// A reduction along axes.
#[derive(Clone, Debug)]
pub struct Reduce {
    /// What is made.
    pub reduction: Reduction,
    /// Along which axes, where they are not an input.
    pub axes: Option<Vec<i64>>,
    /// Whether these axes stay, with one element.
    pub keep: bool,
    /// Whether no axes mean that nothing is reduced; else all are.
    pub none_is_none: bool,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    let reduction = match definition.op.as_str() {
        "ReduceSum" => Reduction::Sum,
        "ReduceMean" => Reduction::Mean,
        "ReduceMax" => Reduction::Max,
        "ReduceMin" => Reduction::Min,
        "ReduceProd" => Reduction::Prod,
        "ReduceL1" => Reduction::L1,
        "ReduceL2" => Reduction::L2,
        "ReduceLogSum" => Reduction::LogSum,
        "ReduceLogSumExp" => Reduction::LogSumExp,
        "ReduceSumSquare" => Reduction::SumSquare,
        _ => return Ok(None),
    };
    some(Reduce {
        reduction,
        axes: definition.ints("axes")?,
        keep: definition.int("keepdims")?.unwrap_or(1) != 0,
        none_is_none: definition.flag("noop_with_empty_axes")?,
    })
}

impl Operator for Reduce {
    fn name(&self) -> &'static str {
        match self.reduction {
            Reduction::Sum => "ReduceSum",
            Reduction::Mean => "ReduceMean",
            Reduction::Max => "ReduceMax",
            Reduction::Min => "ReduceMin",
            Reduction::Prod => "ReduceProd",
            Reduction::L1 => "ReduceL1",
            Reduction::L2 => "ReduceL2",
            Reduction::LogSum => "ReduceLogSum",
            Reduction::LogSumExp => "ReduceLogSumExp",
            Reduction::SumSquare => "ReduceSumSquare",
        }
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        if let Some(half) = Half::among(inputs) {
            return half.run(inputs, 1, |inputs| self.run(inputs, context));
        }
        let given = match inputs.optional(1) {
            Some(_) => Some(inputs.integers(1)?),
            None => self.axes.clone(),
        };
        let tensor = inputs.take(0)?;
        let rank = tensor.rank();
        let along = match given.as_deref().unwrap_or(&[]) {
            [] if self.none_is_none => Vec::new(),
            [] => (0..rank).collect(),
            some => axes(some, rank)?,
        };
        let kept = |at: &usize| !along.contains(at);
        let shape: Vec<usize> = match self.keep {
            true => (0..rank).map(|at| if kept(&at) { tensor.shape()[at] } else { 1 }).collect(),
            false => (0..rank).filter(kept).map(|at| tensor.shape()[at]).collect(),
        };
        let layout = Layout::new(tensor.shape(), &along);
        let data = match tensor.data() {
            Data::F32(x) => Data::F32(Buffer::from(self.single(x.as_slice(), &layout, context)?)),
            Data::F64(x) => self.general(x.as_slice(), &layout, context)?,
            Data::I64(x) => self.general(x.as_slice(), &layout, context)?,
            Data::I32(x) => self.general(x.as_slice(), &layout, context)?,
            Data::I16(x) => self.general(x.as_slice(), &layout, context)?,
            Data::I8(x) => self.general(x.as_slice(), &layout, context)?,
            Data::U64(x) => self.general(x.as_slice(), &layout, context)?,
            Data::U32(x) => self.general(x.as_slice(), &layout, context)?,
            Data::U16(x) => self.general(x.as_slice(), &layout, context)?,
            Data::U8(x) => self.general(x.as_slice(), &layout, context)?,
            Data::Bool(x) => match self.general(x.as_slice(), &layout, context)? {
                Data::U8(x) if matches!(self.reduction, Reduction::Max | Reduction::Min) => Data::Bool(x),
                _ => return Err(Fault::dtype(0, &tensor, "a number")),
            },
            _ => return Err(Fault::dtype(0, &tensor, "a number")),
        };
        Ok(vec![made(shape, data)?])
    }

    fn reverse(&self) -> Reverse<'_> {
        if self.flows() { Reverse::Flows(self) } else { Reverse::Missing }
    }
}

/// Dimensions put together: neighbours that are both kept, or both reduced, are one.
#[derive(Debug)]
struct Layout {
    dims: Vec<(usize, bool)>,
    /// How many numbers become one.
    count: usize,
}

impl Layout {
    fn new(shape: &[usize], along: &[usize]) -> Self {
        let mut dims: Vec<(usize, bool)> = Vec::new();
        for (at, dim) in shape.iter().copied().enumerate() {
            let reduced = along.contains(&at);
            match dims.last_mut() {
                _ if dim == 1 => {}
                Some((last, same)) if *same == reduced => *last = last.saturating_mul(dim),
                _ => dims.push((dim, reduced)),
            }
        }
        let count = along.iter().map(|at| shape[*at]).product();
        Self { dims, count }
    }

    /// The steps that reduce one dimension at a time, the last first: numbers outside of it, its
    /// length, and numbers within.
    fn steps(&self) -> Vec<[usize; 3]> {
        let mut steps = Vec::new();
        let mut inner = 1;
        for (at, (dim, reduced)) in self.dims.iter().enumerate().rev() {
            if *reduced {
                let outer = self.dims[..at].iter().map(|(dim, _)| dim).product();
                steps.push([outer, *dim, inner]);
            } else {
                inner *= dim;
            }
        }
        steps
    }
}

/// What is done in a first step, and in those after it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Sum,
    Sizes,
    Squares,
    Product,
    Max,
    Min,
}

impl Reduce {
    fn first_step(&self) -> Step {
        match self.reduction {
            Reduction::Sum | Reduction::Mean | Reduction::LogSum | Reduction::LogSumExp => Step::Sum,
            Reduction::L1 => Step::Sizes,
            Reduction::L2 | Reduction::SumSquare => Step::Squares,
            Reduction::Prod => Step::Product,
            Reduction::Max => Step::Max,
            Reduction::Min => Step::Min,
        }
    }

    fn single(&self, x: &[f32], layout: &Layout, context: &Context<'_>) -> Result<Vec<f32>, Fault> {
        let (level, count) = (Level::best(), layout.count as f32);
        if self.reduction == Reduction::LogSumExp {
            return exponentials(x, layout, context);
        }
        let mut y = fold_all(self.first_step(), x, layout, context)?;
        parts::each(&mut y, 1, |_, y| match self.reduction {
            Reduction::Mean => lanes::affine(level, y, 1.0 / count, 0.0),
            Reduction::L2 => y.iter_mut().for_each(|y| *y = y.sqrt()),
            Reduction::LogSum => y.iter_mut().for_each(|y| *y = math::ln(*y)),
            _ => {}
        });
        Ok(y)
    }

    fn general<T: Number>(&self, x: &[T], layout: &Layout, context: &Context<'_>) -> Result<Data, Fault> {
        let whole = !matches!(T::DTYPE, Dtype::F64);
        if whole && matches!(self.reduction, Reduction::Mean) && layout.count == 0 {
            return Err(Fault::shape("a mean of no numbers", "numbers"));
        }
        if self.reduction == Reduction::LogSumExp {
            let x: Vec<f64> = x.iter().map(|x| x.cast()).collect();
            let mut tops = Self { reduction: Reduction::Max, ..self.clone() }.folded(&x, layout, context)?;
            tops.iter_mut().filter(|top| !top.is_finite()).for_each(|top| *top = 0.0);
            let mut powers = Vec::with_capacity(x.len());
            layout.visit(|top| powers.push((x[powers.len()] - tops[top]).exp()));
            let sums = Self { reduction: Reduction::Sum, ..self.clone() }.folded(&powers, layout, context)?;
            let logs: Vec<T> = sums.iter().zip(&tops).map(|(x, top)| T::from_float(x.ln() + top)).collect();
            return Ok(T::wrap(Buffer::from(logs)));
        }
        self.folded(x, layout, context).map(|all| T::wrap(Buffer::from(all)))
    }

    fn folded<T: Number>(&self, x: &[T], layout: &Layout, context: &Context<'_>) -> Result<Vec<T>, Fault> {
        let mut all = x.to_vec();
        let mut step = self.first_step();
        if layout.steps().is_empty() {
            all.iter_mut().for_each(|x| *x = general_step(step, general_start(step), *x));
        }
        for [outer, long, inner] in layout.steps() {
            let mut next = vec![general_start::<T>(step); context.len::<T>(&[outer, inner])?];
            if inner > 0 && long > 0 {
                for (y, x) in next.chunks_exact_mut(inner).zip(all.chunks_exact(inner * long)) {
                    for x in x.chunks_exact(inner) {
                        y.iter_mut().zip(x).for_each(|(y, x)| *y = general_step(step, *y, *x));
                    }
                }
            }
            (all, step) = (next, after(step));
        }
        for y in &mut all {
            *y = match self.reduction {
                Reduction::Mean => y.div(T::from_unsigned(layout.count as u64)),
                Reduction::L2 => T::from_float(y.cast::<f64>().sqrt()),
                Reduction::LogSum => T::from_float(y.cast::<f64>().ln()),
                _ => *y,
            };
        }
        Ok(all)
    }
}

/// What is done with results of a step in the next.
fn after(step: Step) -> Step {
    match step {
        Step::Sizes | Step::Squares => Step::Sum,
        same => same,
    }
}

fn general_start<T: Number>(step: Step) -> T {
    match step {
        Step::Sum | Step::Sizes | Step::Squares => T::default(),
        Step::Product => T::one(),
        Step::Max => T::lowest(),
        Step::Min => T::highest(),
    }
}

#[inline(always)]
fn general_step<T: Number>(step: Step, y: T, x: T) -> T {
    match step {
        Step::Sum => y.add(x),
        Step::Sizes => y.add(x.abs()),
        Step::Squares => y.add(x.mul(x)),
        Step::Product => y.mul(x),
        Step::Max => y.larger(x),
        Step::Min => y.smaller(x),
    }
}

/// All steps of single floats.
fn fold_all(step: Step, x: &[f32], layout: &Layout, context: &Context<'_>) -> Result<Vec<f32>, Fault> {
    let mut step = step;
    let mut held: Option<Vec<f32>> = None;
    for [outer, long, inner] in layout.steps() {
        let mut next = context.buffer(&[outer, inner])?;
        fold_one(step, held.as_deref().unwrap_or(x), &mut next, long, inner);
        if let Some(old) = held.replace(next) {
            context.put(old);
        }
        step = after(step);
    }
    match held {
        Some(all) => Ok(all),
        None => {
            let mut all = context.buffer(&[x.len()])?;
            fold_one(step, x, &mut all, 1, 1);
            Ok(all)
        }
    }
}

/// One step: `y` has a number for each outer and inner place.
fn fold_one(step: Step, x: &[f32], y: &mut [f32], long: usize, inner: usize) {
    let level = Level::best();
    if long == 0 {
        y.fill(general_start(step));
        return;
    }
    if inner == 1 {
        let whole = |x: &[f32]| match step {
            Step::Sum => lanes::sum(level, x),
            Step::Sizes => lanes::sizes(level, x),
            Step::Squares => lanes::squares(level, x),
            Step::Product => lanes::product(level, x),
            Step::Max => lanes::max(level, x),
            Step::Min => lanes::min(level, x),
        };
        // Rows are long, results few: parts are of as many results as have a part's numbers.
        let rows = (parts::PART / long).max(1);
        parts::of(y, rows, |start, y| {
            for (y, x) in y.iter_mut().zip(x[start * long..].chunks_exact(long)) {
                *y = whole(x);
            }
        });
        return;
    }
    let columns = (parts::PART / long).clamp(64, 4096);
    parts::of(y, columns, |start, y| {
        let mut done = 0;
        while done < y.len() {
            let (row, column) = ((start + done) / inner, (start + done) % inner);
            let many = (inner - column).min(y.len() - done);
            let y = &mut y[done..done + many];
            y.fill(general_start(step));
            let line = |k: usize| &x[(row * long + k) * inner + column..][..many];
            match step {
                Step::Sum => add_lines(long, line, y),
                Step::Max => (0..long).for_each(|k| lanes::raise(level, y, line(k))),
                _ => (0..long).for_each(|k| {
                    y.iter_mut().zip(line(k)).for_each(|(y, x)| *y = general_step(step, *y, *x));
                }),
            }
            done += many;
        }
    });
}

/// Lines that are added up before their sum is added to the others, so that many lose no digits.
const LINES: usize = 64;

/// Adds `long` lines to `y`.
fn add_lines<'x>(long: usize, line: impl Fn(usize) -> &'x [f32], y: &mut [f32]) {
    let level = Level::best();
    if long <= LINES {
        return (0..long).for_each(|k| lanes::add(level, y, line(k)));
    }
    let mut sums = vec![0.0; y.len()];
    for start in (0..long).step_by(LINES) {
        sums.fill(0.0);
        (start..(start + LINES).min(long)).for_each(|k| lanes::add(level, &mut sums, line(k)));
        lanes::add(level, y, &sums);
    }
}

/// ln Σ e^x = top + ln Σ e^(x - top), where top is the largest.
fn exponentials(x: &[f32], layout: &Layout, context: &Context<'_>) -> Result<Vec<f32>, Fault> {
    let mut tops = fold_all(Step::Max, x, layout, context)?;
    tops.iter_mut().filter(|top| !top.is_finite()).for_each(|top| *top = 0.0);
    let mut powers = context.buffer(&[x.len()])?;
    let mut at = 0;
    layout.visit(|top| {
        powers[at] = math::exp(x[at] - tops[top]);
        at += 1;
    });
    let mut sums = fold_all(Step::Sum, &powers, layout, context)?;
    context.put(powers);
    sums.iter_mut().zip(&tops).for_each(|(sum, top)| *sum = math::ln(*sum) + top);
    Ok(sums)
}

impl Layout {
    /// Calls `each` for every number in order, with the place of its result.
    fn visit(&self, mut each: impl FnMut(usize)) {
        let shape: Vec<usize> = self.dims.iter().map(|(dim, _)| *dim).collect();
        let mut strides = vec![0; shape.len()];
        let mut stride = 1;
        for (at, (dim, reduced)) in self.dims.iter().enumerate().rev() {
            if !reduced {
                strides[at] = stride;
                stride *= dim;
            }
        }
        crate::ops::shape::walk(&shape, [&strides], |[place]| each(place));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
