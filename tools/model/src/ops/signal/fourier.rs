//! Fourier transforms: DFT, STFT.

use std::f64::consts::TAU;

use super::{count, elements, floats};
use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::axis;
use crate::ops::{Built, some};
use crate::tensor::Tensor;

/// A complex number.
type Complex = [f64; 2];

/// The spectrum along an axis, or the signal of a spectrum.
#[derive(Clone, Copy, Debug)]
struct Dft {
    axis: i64,
    inverse: bool,
    /// Whether only the first half of the spectrum is made; or, going back, given: what comes of that is real.
    one_sided: bool,
    /// Whether the axis is an input.
    by_input: bool,
}

/// Spectra of pieces of a signal, which may overlap.
#[derive(Clone, Copy, Debug)]
struct Stft {
    one_sided: bool,
}

pub(super) fn build(definition: &Definition) -> Built {
    if definition.op == "STFT" {
        return some(Stft { one_sided: definition.int("onesided")?.unwrap_or(1) != 0 });
    }
    let (inverse, one_sided) = (definition.flag("inverse")?, definition.flag("onesided")?);
    let by_input = definition.opset >= 20;
    let axis = definition.int("axis")?.unwrap_or(if by_input { -2 } else { 1 });
    some(Dft { axis, inverse, one_sided, by_input })
}

fn product(a: Complex, b: Complex) -> Complex {
    [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]]
}

/// The spectrum of the elements of `x` that are `apart` from each other, `out.len()` of them, by the
/// smallest factor of their number; `turns` has the powers of the root of unity of the whole.
fn spectrum(x: &[Complex], apart: usize, turns: &[Complex], out: &mut [Complex]) {
    let len = out.len();
    if len <= 1 {
        out.copy_from_slice(&x[..len]);
        return;
    }
    let factor = (2..).take_while(|f| f * f <= len).find(|f| len.is_multiple_of(*f)).unwrap_or(len);
    let part = len / factor;
    let mut parts = vec![[0.0; 2]; len];
    for (at, part) in parts.chunks_exact_mut(part).enumerate() {
        spectrum(&x[at * apart..], apart * factor, turns, part);
    }
    for (k, out) in out.iter_mut().enumerate() {
        *out = (0..factor).fold([0.0; 2], |sum, at| {
            let add = product(parts[at * part + k % part], turns[at * k % len * apart]);
            [sum[0] + add[0], sum[1] + add[1]]
        });
    }
}

/// Powers of the root of unity.
fn turns(len: usize, inverse: bool) -> Vec<Complex> {
    let way = if inverse { 1.0 } else { -1.0 };
    let turn = |at: usize| {
        let (sin, cos) = (TAU * at as f64 / len as f64).sin_cos();
        [cos, way * sin]
    };
    (0..len).map(turn).collect()
}

/// Numbers, real or complex, as complex ones.
fn complex(tensor: &Tensor, input: usize) -> Result<Vec<Complex>, Fault> {
    let all = floats(tensor).ok_or_else(|| Fault::dtype(input, tensor, "floats"))?;
    match tensor.shape().last() {
        Some(1) => Ok(all.into_iter().map(|x| [x, 0.0]).collect()),
        Some(2) => Ok(all.chunks_exact(2).map(|x| [x[0], x[1]]).collect()),
        _ => Err(Fault::shape(dims(tensor.shape()), "a last dimension of 1 or 2")),
    }
}

impl Operator for Dft {
    fn name(&self) -> &'static str {
        "DFT"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let input = inputs.get(0)?;
        let x = complex(input, 0)?;
        let along = if self.by_input && inputs.optional(2).is_some() { place(inputs, 2)? } else { self.axis };
        let at = axis(along, input.rank())?;
        let mut shape = input.shape().to_vec();
        if at + 1 == shape.len() {
            return Err(Fault::shape(format!("axis {along}"), "not that of the complex numbers"));
        }
        let has = shape[at];
        let half_given = self.inverse && self.one_sided;
        let all = if half_given { 2 * has.saturating_sub(1) } else { has };
        let len = if inputs.optional(1).is_some() { count(inputs, 1)? } else { all };
        context.len::<[Complex; 2]>(&[len])?;
        shape[at] = if self.one_sided && !self.inverse { len / 2 + 1 } else { len };
        let numbers = if half_given { 1 } else { 2 };
        if let Some(last) = shape.last_mut() {
            *last = numbers;
        }
        let made = shape[at];
        let mut out = vec![0f64; context.len::<f64>(&shape)?];
        if out.is_empty() || len == 0 {
            out.clear();
            shape[at] = 0;
            return Ok(vec![Tensor::new(shape, elements(input.dtype(), &out)?).ok_or(Fault::Missing { input: 0 })?]);
        }
        let inner: usize = shape[at + 1..shape.len() - 1].iter().product();
        let turns = turns(len, self.inverse);
        let scale = if self.inverse { 1.0 / len as f64 } else { 1.0 };
        let (mut line, mut found) = (vec![[0.0; 2]; len], vec![[0.0; 2]; len]);
        for lane in 0..out.len() / (numbers * made) {
            let (outer, within) = (lane / inner, lane % inner);
            let given = |place: usize| if place < has { x[(outer * has + place) * inner + within] } else { [0.0; 2] };
            for (place, line) in line.iter_mut().enumerate() {
                *line = match half_given && place > len / 2 {
                    // The other half is the first one mirrored.
                    true => [given(len - place)[0], -given(len - place)[1]],
                    false => given(place),
                };
            }
            spectrum(&line, 1, &turns, &mut found);
            for (place, found) in found.iter().take(made).enumerate() {
                let to = numbers * ((outer * made + place) * inner + within);
                out[to..to + numbers].copy_from_slice(&found.map(|x| x * scale)[..numbers]);
            }
        }
        Ok(vec![Tensor::new(shape, elements(input.dtype(), &out)?).ok_or(Fault::Missing { input: 0 })?])
    }
}

impl Operator for Stft {
    fn name(&self) -> &'static str {
        "STFT"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let input = inputs.get(0)?;
        let step = count(inputs, 1)?;
        let window = inputs.optional(2).map(|tensor| floats(tensor).ok_or_else(|| Fault::dtype(2, tensor, "floats")));
        let window = window.transpose()?;
        let (batch, signal) = match *input.shape() {
            [batch, signal] | [batch, signal, _] => (batch, signal),
            _ => return Err(Fault::shape(dims(input.shape()), "batch x signal x 1 or 2")),
        };
        let x = match input.rank() {
            2 => complex(&input.clone().reshaped([batch, signal, 1]).ok_or(Fault::Missing { input: 0 })?, 0)?,
            _ => complex(input, 0)?,
        };
        let len = match &window {
            _ if inputs.optional(3).is_some() => count(inputs, 3)?,
            Some(window) => window.len(),
            None => return Err(Fault::Missing { input: 3 }),
        };
        if step == 0 || len == 0 || len > signal || window.as_ref().is_some_and(|window| window.len() != len) {
            let found = format!("pieces of {len}, {step} apart, of {signal}");
            return Err(Fault::shape(found, "pieces of the signal, as long as the window"));
        }
        let frames = (signal - len) / step + 1;
        let made = if self.one_sided { len / 2 + 1 } else { len };
        let shape = vec![batch, frames, made, 2];
        let mut out = vec![0f64; context.len::<f64>(&shape)?];
        let turns = turns(len, false);
        let mut found = vec![[0.0; 2]; len];
        for (piece, out) in out.chunks_exact_mut(2 * made).enumerate() {
            let from = piece / frames * signal + piece % frames * step;
            let mut line = x[from..from + len].to_vec();
            if let Some(window) = &window {
                line.iter_mut().zip(window).for_each(|(x, w)| *x = [x[0] * w, x[1] * w]);
            }
            spectrum(&line, 1, &turns, &mut found);
            out.copy_from_slice(&found[..made].concat());
        }
        Ok(vec![Tensor::new(shape, elements(input.dtype(), &out)?).ok_or(Fault::Missing { input: 0 })?])
    }
}

/// The only whole number of an input.
fn place(inputs: &Inputs, index: usize) -> Result<i64, Fault> {
    match inputs.integers(index)?[..] {
        [one] => Ok(one),
        ref all => Err(Fault::shape(format!("input {index} of {} numbers", all.len()), "one")),
    }
}
