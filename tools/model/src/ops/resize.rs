//! Images of another size: Resize, Upsample.

mod taps;

use rayon::prelude::*;

use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::{axis, strides};
use crate::ops::{Built, some};
use crate::real::{Real, in_reals, made, reals, rounded};
use crate::same;
use crate::tensor::{Buffer, Data, Dtype, Element, Tensor};
use taps::{Axis, Taps};

/// Another size along some axes.
#[derive(Clone, Debug)]
pub struct Resize {
    mode: Mode,
    coordinates: Coordinates,
    nearest: Nearest,
    cubic: f64,
    exclude_outside: bool,
    extrapolation: f32,
    antialias: bool,
    axes: Option<Vec<i64>>,
    aspect: Aspect,
    sizes: Sizes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// Where results lie in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    /// A region of the input.
    Crop,
}

#[derive(Clone, Copy, Debug)]
enum Nearest {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
    /// The definition before opset 11: up where the image shrinks, else down.
    Old,
}

/// What becomes of the aspect ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aspect {
    Stretch,
    NotLarger,
    NotSmaller,
}

/// Where the sizes are said.
#[derive(Clone, Debug)]
enum Sizes {
    /// Scales, by an attribute.
    Attribute(Vec<f32>),
    /// Scales, by the second input.
    Second,
    /// A region, scales and sizes, by inputs.
    Inputs,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    let sizes = match (definition.domain.as_str(), definition.op.as_str()) {
        ("", "Upsample") => match definition.floats("scales")? {
            Some(scales) => Sizes::Attribute(scales),
            None => Sizes::Second,
        },
        ("", "Resize") if definition.opset < 11 => Sizes::Second,
        ("", "Resize") => Sizes::Inputs,
        _ => return Ok(None),
    };
    let old = !matches!(sizes, Sizes::Inputs);
    let choice = |name: &str| definition.text(name).map(Option::unwrap_or_default);
    let unknown = |name: &str, found: &str| Err(Fault::Unsupported(format!("{name} `{found}`")));
    some(Resize {
        mode: match choice("mode")?.as_str() {
            "" | "nearest" => Mode::Nearest,
            "linear" | "bilinear" => Mode::Linear,
            "cubic" => Mode::Cubic,
            other => return unknown("mode", other),
        },
        coordinates: match choice("coordinate_transformation_mode")?.as_str() {
            "" if old => Coordinates::Asymmetric,
            "" | "half_pixel" => Coordinates::HalfPixel,
            "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
            "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
            "align_corners" => Coordinates::AlignCorners,
            "asymmetric" => Coordinates::Asymmetric,
            "tf_crop_and_resize" => Coordinates::Crop,
            other => return unknown("coordinate_transformation_mode", other),
        },
        nearest: match choice("nearest_mode")?.as_str() {
            "" if old => Nearest::Old,
            "" | "round_prefer_floor" => Nearest::PreferFloor,
            "round_prefer_ceil" => Nearest::PreferCeil,
            "floor" => Nearest::Floor,
            "ceil" => Nearest::Ceil,
            other => return unknown("nearest_mode", other),
        },
        cubic: f64::from(definition.float("cubic_coeff_a")?.unwrap_or(-0.75)),
        exclude_outside: definition.flag("exclude_outside")?,
        extrapolation: definition.float("extrapolation_value")?.unwrap_or(0.0),
        antialias: definition.flag("antialias")?,
        axes: definition.ints("axes")?,
        aspect: match choice("keep_aspect_ratio_policy")?.as_str() {
            "" | "stretch" => Aspect::Stretch,
            "not_larger" => Aspect::NotLarger,
            "not_smaller" => Aspect::NotSmaller,
            other => return unknown("keep_aspect_ratio_policy", other),
        },
        sizes,
    })
}

/// An input that is there and not empty.
fn filled(inputs: &Inputs, index: usize) -> bool {
    inputs.optional(index).is_some_and(|tensor| !tensor.is_empty())
}

impl Resize {
    /// What becomes of each axis.
    fn axes(&self, inputs: &Inputs, shape: &[usize]) -> Result<Vec<Axis>, Fault> {
        let named = match &self.axes {
            Some(all) => all.iter().map(|one| axis(*one, shape.len())).collect::<Result<Vec<_>, _>>()?,
            None => (0..shape.len()).collect(),
        };
        let mut all: Vec<Axis> =
            shape.iter().map(|dim| Axis { input: *dim, output: *dim, scale: 1.0, region: (0.0, 1.0) }).collect();
        let right = |what: &str, found: usize, needs: usize| match found == needs {
            true => Ok(()),
            false => Err(Fault::shape(format!("{found} {what}"), format!("{needs}"))),
        };
        let scales = match &self.sizes {
            Sizes::Attribute(scales) => Some(scales.clone()),
            Sizes::Second => Some(reals::<f32>(inputs, 1)?.into_owned()),
            Sizes::Inputs if filled(inputs, 2) => Some(reals::<f32>(inputs, 2)?.into_owned()),
            Sizes::Inputs => None,
        };
        match scales {
            Some(scales) => {
                right("scales", scales.len(), named.len())?;
                named.iter().zip(&scales).try_for_each(|(at, scale)| all[*at].scaled(f64::from(*scale)))?;
            }
            None => {
                let sizes = inputs.integers(3)?;
                right("sizes", sizes.len(), named.len())?;
                for (at, size) in named.iter().zip(&sizes) {
                    let size = usize::try_from(*size);
                    all[*at].sized(size.map_err(|_| Fault::shape(format!("sizes {sizes:?}"), "no negative one"))?)?;
                }
                self.keep_aspect(&mut all, &named)?;
            }
        }
        if self.coordinates == Coordinates::Crop {
            let region = reals::<f32>(inputs, 1)?;
            right("numbers of a region", region.len(), 2 * named.len())?;
            for (at, axis) in named.iter().enumerate() {
                all[*axis].region = (f64::from(region[at]), f64::from(region[named.len() + at]));
            }
        }
        Ok(all)
    }

    /// One scale for all axes that are named.
    fn keep_aspect(&self, all: &mut [Axis], named: &[usize]) -> Result<(), Fault> {
        let scales = named.iter().map(|at| all[*at].scale);
        let scale = match self.aspect {
            Aspect::Stretch => return Ok(()),
            Aspect::NotLarger => scales.fold(f64::INFINITY, f64::min),
            Aspect::NotSmaller => scales.fold(0.0, f64::max),
        };
        for at in named {
            all[*at].scaled(scale)?;
            all[*at].output = (scale * all[*at].input as f64 + 0.5) as usize;
        }
        Ok(())
    }

    /// The nearest elements, of any type.
    fn copy(&self, tensor: Tensor, passes: &[(usize, Taps)]) -> Result<Tensor, Fault> {
        let mut shape = tensor.shape().to_vec();
        let mut data = tensor.into_data();
        for (axis, taps) in passes {
            data = same!(&data, all => copied(all.as_slice(), taps, sides(&shape, *axis)));
            shape[*axis] = taps.len();
        }
        let found = data.len();
        made(shape, data, found)
    }

    /// Weighted sums.
    fn reals<T: Real>(
        &self,
        all: Vec<T>,
        shape: &[usize],
        passes: &[(usize, Taps)],
        context: &Context<'_>,
    ) -> Result<Vec<T>, Fault> {
        let (mut shape, mut all) = (shape.to_vec(), all);
        for (axis, taps) in passes {
            let sides = sides(&shape, *axis);
            shape[*axis] = taps.len();
            let mut out = T::buffer(context, &shape)?;
            weighted(&all, &mut out, taps, sides);
            all = out;
        }
        Ok(all)
    }
}

impl Axis {
    fn scaled(&mut self, scale: f64) -> Result<(), Fault> {
        let output = (self.input as f64 * scale).floor();
        if !(scale > 0.0 && output < 2f64.powi(48)) {
            return Err(Fault::shape(format!("a scale of {scale}"), "one above 0, of a size that fits"));
        }
        (self.scale, self.output) = (scale, output as usize);
        Ok(())
    }

    fn sized(&mut self, output: usize) -> Result<(), Fault> {
        if self.input == 0 && output > 0 {
            return Err(Fault::shape("an image without elements", "one to resize"));
        }
        (self.scale, self.output) = (if self.input == 0 { 1.0 } else { output as f64 / self.input as f64 }, output);
        Ok(())
    }
}

/// Elements of a shape before an axis, along it, and after it.
fn sides(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// The nearest elements along one axis.
fn copied<T: Element>(all: &[T], taps: &Taps, (outer, input, inner): (usize, usize, usize)) -> Vec<T> {
    let mut out = vec![T::default(); outer * taps.len() * inner];
    if out.is_empty() {
        return out;
    }
    out.par_chunks_mut(taps.len() * inner).enumerate().for_each(|(outer, out)| {
        let from = &all[outer * input * inner..(outer + 1) * input * inner];
        for (at, out) in out.chunks_mut(inner).enumerate() {
            let from_row = taps.at(at).first().map_or(0, |tap| tap.0);
            match inner {
                1 => out[0] = from[from_row],
                _ => out.copy_from_slice(&from[from_row * inner..(from_row + 1) * inner]),
            }
        }
    });
    out
}

/// Weighted sums along one axis.
fn weighted<T: Real>(all: &[T], out: &mut [T], taps: &Taps, (_, input, inner): (usize, usize, usize)) {
    if out.is_empty() || all.is_empty() {
        return;
    }
    let weights: Vec<Vec<(usize, T)>> =
        (0..taps.len()).map(|at| taps.at(at).iter().map(|(from, by)| (*from, T::near(*by))).collect()).collect();
    if inner == 1 {
        out.par_chunks_mut(taps.len()).zip(all.par_chunks(input)).for_each(|(out, from)| {
            for (out, taps) in out.iter_mut().zip(&weights) {
                *out = taps.iter().fold(T::ZERO, |sum, (at, by)| sum + from[*at] * *by);
            }
        });
        return;
    }
    out.par_chunks_mut(inner).enumerate().for_each(|(row, out)| {
        let (outer, at) = (row / weights.len(), row % weights.len());
        let from = &all[outer * input * inner..(outer + 1) * input * inner];
        out.fill(T::ZERO);
        for (tap, by) in &weights[at] {
            let from = &from[tap * inner..(tap + 1) * inner];
            out.iter_mut().zip(from).for_each(|(out, x)| *out += *x * *by);
        }
    });
}

/// What lies outside of the region becomes a value of its own.
fn extrapolate<T: Copy>(all: &mut [T], shape: &[usize], passes: &[(usize, Taps)], value: T) {
    let strides = strides(shape);
    for (axis, taps) in passes {
        let (outer, along, inner) = sides(shape, *axis);
        for outside in &taps.outside {
            for outer in 0..outer {
                let first = outer * along * inner + outside * strides[*axis];
                all[first..first + inner].fill(value);
            }
        }
    }
}

/// Numbers as whole ones of a type, rounded and saturated.
fn whole(dtype: Dtype, all: &[f64]) -> Option<Data> {
    macro_rules! cast {
        ($variant:ident, $type:ty) => {
            Data::$variant(Buffer::from(all.iter().map(|x| x.round_ties_even() as $type).collect::<Vec<_>>()))
        };
    }
    Some(match dtype {
        Dtype::I8 => cast!(I8, i8),
        Dtype::U8 => cast!(U8, u8),
        Dtype::I16 => cast!(I16, i16),
        Dtype::U16 => cast!(U16, u16),
        Dtype::I32 => cast!(I32, i32),
        Dtype::U32 => cast!(U32, u32),
        Dtype::I64 => cast!(I64, i64),
        Dtype::U64 => cast!(U64, u64),
        _ => return None,
    })
}

/// Whole numbers as f64.
fn numbers(data: &Data) -> Option<Vec<f64>> {
    macro_rules! widened {
        ($($variant:ident),*) => {
            match data {
                $(Data::$variant(all) => Some(all.as_slice().iter().map(|x| *x as f64).collect()),)*
                _ => None,
            }
        };
    }
    widened!(I8, U8, I16, U16, I32, U32, I64, U64)
}

impl Operator for Resize {
    fn name(&self) -> &'static str {
        "Resize"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let shape = inputs.get(0)?.shape().to_vec();
        let axes = self.axes(inputs, &shape)?;
        let output: Vec<usize> = axes.iter().map(|axis| axis.output).collect();
        context.len::<f64>(&output)?;
        output.iter().try_for_each(|along| context.len::<f64>(&[*along]).map(drop))?;
        let tensor = inputs.take(0)?;
        if tensor.is_empty() {
            return Err(Fault::shape(format!("an image of {}", dims(&shape)), "one to resize"));
        }
        // The last axes first, while there are fewer rows.
        let passes: Vec<(usize, Taps)> =
            axes.iter().enumerate().rev().filter_map(|(at, axis)| Some((at, Taps::of(self, axis)?))).collect();
        if passes.is_empty() {
            return Ok(vec![tensor]);
        }
        let dtype = tensor.dtype();
        let outside = passes.iter().any(|(_, taps)| !taps.outside.is_empty());
        if self.mode == Mode::Nearest && !outside {
            // What is between two passes is no larger than this.
            let largest: Vec<usize> = axes.iter().map(|axis| axis.input.max(axis.output)).collect();
            context.len::<f64>(&largest)?;
            return Ok(vec![self.copy(tensor, &passes)?]);
        }
        if let Some(all) = numbers(tensor.data()) {
            let mut all = self.reals(all, &shape, &passes, context)?;
            extrapolate(&mut all, &output, &passes, f64::from(self.extrapolation));
            let found = all.len();
            let data = whole(dtype, &all).ok_or_else(|| Fault::dtype(0, &tensor, "numbers"))?;
            return Ok(vec![made(output, data, found)?]);
        }
        let resized = in_reals!(dtype, T => {
            let all = T::widened(tensor.data()).ok_or_else(|| Fault::dtype(0, &tensor, "numbers"))?;
            let mut all = self.reals::<T>(all.into_owned(), &shape, &passes, context)?;
            extrapolate(&mut all, &output, &passes, T::near(f64::from(self.extrapolation)));
            rounded(dtype, output, all)
        });
        Ok(vec![resized?])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
