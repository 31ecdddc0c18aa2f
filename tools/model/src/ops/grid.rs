//! Images read at places that another tensor says: GridSample, AffineGrid.

use rayon::prelude::*;

use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::strides;
use crate::ops::{Built, some};
use crate::real::{Real, count, in_reals, reals, rounded};
use crate::tensor::Tensor;

/// An image at places of a grid.
#[derive(Clone, Copy, Debug)]
pub struct GridSample {
    mode: Mode,
    padding: Padding,
    /// -1 and 1 are the middle of the outermost pixels, not their outer edge.
    align_corners: bool,
}

/// The grid of an affine map.
#[derive(Clone, Copy, Debug)]
pub struct AffineGrid {
    align_corners: bool,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// What is outside of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    match (definition.domain.as_str(), definition.op.as_str()) {
        ("", "GridSample") => some(GridSample {
            mode: match definition.text("mode")?.as_deref() {
                None | Some("linear" | "bilinear") => Mode::Linear,
                Some("nearest") => Mode::Nearest,
                Some("cubic" | "bicubic") => Mode::Cubic,
                Some(other) => return Err(Fault::Unsupported(format!("mode `{other}`"))),
            },
            padding: match definition.text("padding_mode")?.as_deref() {
                None | Some("zeros") => Padding::Zeros,
                Some("border") => Padding::Border,
                Some("reflection") => Padding::Reflection,
                Some(other) => return Err(Fault::Unsupported(format!("padding_mode `{other}`"))),
            },
            align_corners: definition.flag("align_corners")?,
        }),
        ("", "AffineGrid") => some(AffineGrid { align_corners: definition.flag("align_corners")? }),
        _ => Ok(None),
    }
}

/// Places and weights along one axis, at most four.
#[derive(Clone, Copy, Debug, Default)]
struct Taps {
    all: [(usize, f64); 4],
    len: usize,
}

/// Coordinates farther away than this are as good as this far.
const FAR: f64 = 1e9;

impl GridSample {
    /// The taps of a coordinate along an axis of so many pixels.
    fn taps(&self, coordinate: f64, pixels: usize) -> Taps {
        let size = pixels as f64;
        let (low, high) = if self.align_corners { (0.0, size - 1.0) } else { (-0.5, size - 0.5) };
        let mut x = match self.align_corners {
            true => (coordinate + 1.0) / 2.0 * (size - 1.0),
            false => ((coordinate + 1.0) * size - 1.0) / 2.0,
        };
        // Coordinates are of type f32 in the definition.
        x = f64::from(x as f32).clamp(-FAR, FAR);
        if matches!(self.mode, Mode::Nearest) {
            x = x.round_ties_even();
        }
        if x < low || x > high {
            x = match self.padding {
                Padding::Zeros => x,
                Padding::Border => x.clamp(0.0, size - 1.0),
                Padding::Reflection => reflected(x, low, high),
            };
        }
        let base = x.floor();
        let part = x - base;
        let (first, weights): (f64, [f64; 4]) = match self.mode {
            Mode::Nearest => (x.trunc(), [1.0, 0.0, 0.0, 0.0]),
            Mode::Linear => (base, [1.0 - part, part, 0.0, 0.0]),
            Mode::Cubic => (base - 1.0, cubic(part)),
        };
        let count = match self.mode {
            Mode::Nearest => 1,
            Mode::Linear => 2,
            Mode::Cubic => 4,
        };
        let mut taps = Taps::default();
        for (step, weight) in weights.iter().enumerate().take(count) {
            let at = first + step as f64;
            let at = match self.padding {
                Padding::Zeros if at < 0.0 || at >= size => continue,
                Padding::Reflection => reflected(at, low, high).clamp(0.0, size - 1.0),
                _ => at.clamp(0.0, size - 1.0),
            };
            taps.all[taps.len] = (at as usize, *weight);
            taps.len += 1;
        }
        taps
    }

    fn reals<T: Real>(&self, inputs: &Inputs, context: &Context<'_>) -> Result<Tensor, Fault> {
        let (image, grid) = (inputs.get(0)?, inputs.get(1)?);
        let wrong = || {
            let found = format!("an image of {} and a grid of {}", dims(image.shape()), dims(grid.shape()));
            Fault::shape(found, "one place for each result")
        };
        let ([batch, channels, size @ ..], [grids, places @ .., axes]) = (image.shape(), grid.shape()) else {
            return Err(wrong());
        };
        if grids != batch || *axes != size.len() || places.len() != size.len() || size.is_empty() {
            return Err(wrong());
        }
        let mut shape = vec![*batch, *channels];
        shape.extend_from_slice(places);
        let mut out = T::buffer(context, &shape)?;
        if out.is_empty() {
            return rounded(image.dtype(), shape, out);
        }
        if image.is_empty() {
            return Err(wrong());
        }
        let (pixels, each) = (count(size)?, count(places)?);
        let (x, grid) = (reals::<T>(inputs, 0)?, reals::<f64>(inputs, 1)?);
        let strides = strides(size);
        let images = out.chunks_mut(channels * each).zip(grid.chunks(each * axes)).zip(x.chunks(channels * pixels));
        for ((out, grid), x) in images {
            // The taps of a place serve all channels.
            let taps: Vec<Vec<Taps>> = grid
                .par_chunks(*axes)
                .map(|place| place.iter().rev().zip(size).map(|(c, n)| self.taps(*c, *n)).collect())
                .collect();
            out.par_chunks_mut(each).zip(x.par_chunks(pixels)).for_each(|(out, x)| {
                out.iter_mut().zip(&taps).for_each(|(out, taps)| *out = T::near(sum(x, taps, &strides, 0)));
            });
        }
        rounded(image.dtype(), shape, out)
    }
}

/// The weighted sum of pixels over all axes.
fn sum<T: Real>(image: &[T], taps: &[Taps], strides: &[usize], at: usize) -> f64 {
    let Some((first, rest)) = taps.split_first() else { return image[at].wide() };
    let each = first.all[..first.len].iter();
    each.map(|(tap, weight)| weight * sum(image, rest, &strides[1..], at + tap * strides[0])).sum()
}

/// A coordinate reflected at the borders until it is between them.
fn reflected(x: f64, low: f64, high: f64) -> f64 {
    let range = high - low;
    if range <= 0.0 {
        return low.max(0.0);
    }
    let (outside, from_low) = if x < low {
        (low - x, true)
    } else if x > high {
        (x - high, false)
    } else {
        return x;
    };
    let turns = (outside / range).trunc();
    let rest = outside - turns * range;
    if (turns % 2.0 == 0.0) == from_low { low + rest } else { high - rest }
}

/// Keys' kernel, of four neighbours.
fn cubic(x: f64) -> [f64; 4] {
    const A: f64 = -0.75;
    let outer = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let inner = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    [outer(x + 1.0), inner(x), inner(1.0 - x), outer(2.0 - x)]
}

impl Operator for GridSample {
    fn name(&self) -> &'static str {
        "GridSample"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        Ok(vec![in_reals!(inputs.get(0)?.dtype(), T => self.reals::<T>(inputs, context))?])
    }
}

impl AffineGrid {
    /// The coordinates of pixels along an axis.
    fn axis(self, pixels: usize) -> impl Fn(usize) -> f64 {
        let size = pixels as f64;
        move |at| match self.align_corners {
            true if pixels < 2 => -1.0,
            true => 2.0 * at as f64 / (size - 1.0) - 1.0,
            false => (2.0 * at as f64 + 1.0) / size - 1.0,
        }
    }

    fn reals<T: Real>(self, inputs: &Inputs, context: &Context<'_>) -> Result<Tensor, Fault> {
        let theta = inputs.get(0)?;
        let sizes = inputs.integers(1)?;
        let wrong = || {
            let found = format!("maps of {} for sizes {sizes:?}", dims(theta.shape()));
            Fault::shape(found, "maps of 2x3 and 4 sizes, or of 3x4 and 5")
        };
        let sizes: Vec<usize> =
            sizes.iter().map(|size| usize::try_from(*size)).collect::<Result<_, _>>().map_err(|_| wrong())?;
        let ([batch, _, image @ ..], &[maps, axes, columns]) = (sizes.as_slice(), theta.shape()) else {
            return Err(wrong());
        };
        if maps != *batch || axes != image.len() || columns != axes + 1 || !(2..=3).contains(&axes) {
            return Err(wrong());
        }
        let shape = [&[*batch], image, &[axes]].concat();
        let mut out = T::buffer(context, &shape)?;
        let theta_all = reals::<f64>(inputs, 0)?;
        if out.is_empty() {
            return rounded(theta.dtype(), shape, out);
        }
        let strides = strides(image);
        let each = count(image)?;
        out.par_chunks_mut(axes).enumerate().for_each(|(at, out)| {
            let (map, at) = (&theta_all[at / each * axes * columns..], at % each);
            // The first coordinate is that of the last axis.
            let place = |axis: usize| self.axis(image[axis])(at / strides[axis] % image[axis]);
            for (row, out) in out.iter_mut().enumerate() {
                let row = &map[row * columns..(row + 1) * columns];
                let sum: f64 = (0..axes).map(|axis| row[axis] * place(axes - 1 - axis)).sum();
                *out = T::near(sum + row[axes]);
            }
        });
        rounded(theta.dtype(), shape, out)
    }
}

impl Operator for AffineGrid {
    fn name(&self) -> &'static str {
        "AffineGrid"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        Ok(vec![in_reals!(inputs.get(0)?.dtype(), T => self.reals::<T>(inputs, context))?])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::operator::Pool;

    fn run(op: &dyn Operator, inputs: Vec<Option<Tensor>>) -> Result<Tensor, Fault> {
        let pool = Pool::default();
        Ok(op.run(&mut Inputs::new(inputs), &Context::new(1 << 20, &pool))?.remove(0))
    }

    #[test]
    fn the_grid_of_the_identity_gives_the_image() {
        for align_corners in [false, true] {
            let theta = Tensor::of([1, 2, 3], vec![1.0f32, 0.0, 0.0, 0.0, 1.0, 0.0]);
            let size = Some(Tensor::vector(vec![1i64, 1, 2, 3]));
            let grid = run(&AffineGrid { align_corners }, vec![theta, size]).unwrap();
            assert_eq!(grid.shape(), [1, 2, 3, 2]);
            let image = Tensor::of([1, 1, 2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
            for mode in [Mode::Nearest, Mode::Linear, Mode::Cubic] {
                let sample = GridSample { mode, padding: Padding::Zeros, align_corners };
                let out = run(&sample, vec![Some(image.clone()), Some(grid.clone())]).unwrap();
                for (x, y) in out.get::<f32>().unwrap().iter().zip(image.get::<f32>().unwrap()) {
                    assert!((x - y).abs() < 1e-5, "{mode:?}: {x}, {y} expected");
                }
            }
        }
    }

    #[test]
    fn what_is_outside_is_as_the_padding_says() {
        let image = Tensor::of([1, 1, 1, 2], vec![1.0f32, 5.0]).unwrap();
        // Half a pixel past the last one's middle, then two pixels past it.
        let grid = Tensor::of([1, 1, 2, 2], vec![1.0f32, 0.0, 2.5, 0.0]).unwrap();
        for (padding, expected) in
            [(Padding::Zeros, [2.5, 0.0]), (Padding::Border, [5.0, 5.0]), (Padding::Reflection, [5.0, 1.0])]
        {
            let sample = GridSample { mode: Mode::Linear, padding, align_corners: false };
            let out = run(&sample, vec![Some(image.clone()), Some(grid.clone())]).unwrap();
            assert_eq!(out.get::<f32>().unwrap(), expected, "{padding:?}");
        }
    }

    #[test]
    fn hostile_grids_are_read_or_refused() {
        let image = Tensor::of([1, 1, 1, 1], vec![1.0f32]).unwrap();
        let far = vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38];
        for padding in [Padding::Zeros, Padding::Border, Padding::Reflection] {
            for align_corners in [false, true] {
                for mode in [Mode::Nearest, Mode::Linear, Mode::Cubic] {
                    let grid = Tensor::of([1, 1, 2, 2], far.clone());
                    let sample = GridSample { mode, padding, align_corners };
                    assert!(run(&sample, vec![Some(image.clone()), grid]).is_ok());
                }
            }
        }
        let sample = GridSample { mode: Mode::Linear, padding: Padding::Zeros, align_corners: false };
        assert!(run(&sample, vec![Some(image), Tensor::of([1, 1, 1, 3], vec![0.0f32; 3])]).is_err());
        let theta = || Tensor::of([1, 2, 3], vec![1.0f32; 6]);
        let affine = AffineGrid { align_corners: false };
        for sizes in [vec![1i64, 1, 2], vec![1, 1, -1, 2], vec![2, 1, 2, 2], vec![1, 1, i64::MAX, i64::MAX]] {
            assert!(run(&affine, vec![theta(), Some(Tensor::vector(sizes))]).is_err());
        }
    }
}
