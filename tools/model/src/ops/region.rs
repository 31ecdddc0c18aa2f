//! Regions of images: RoiAlign, MaxRoiPool, and MaxUnpool.

use rayon::prelude::*;

use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::{Built, some};
use crate::real::{Real, count, in_reals, reals, rounded};
use crate::tensor::Tensor;

/// Regions read between pixels.
#[derive(Clone, Copy, Debug)]
pub struct RoiAlign {
    /// The largest sample, else the mean.
    max: bool,
    /// What is taken off coordinates.
    offset: f64,
    size: [usize; 2],
    /// Samples along each side of a result; 0 for as many as it has pixels.
    samples: usize,
    scale: f64,
}

/// The largest pixel of each part of a region.
#[derive(Clone, Copy, Debug)]
pub struct MaxRoiPool {
    size: [usize; 2],
    scale: f64,
}

/// Elements put back where pooling found them.
#[derive(Clone, Debug)]
pub struct MaxUnpool {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    pads: Vec<usize>,
}

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    if !definition.domain.is_empty() {
        return Ok(None);
    }
    let size = |name: &str| {
        let found = definition.int(name)?.unwrap_or(1);
        usize::try_from(found).map_err(|_| Fault::shape(format!("{name} {found}"), "0 or more"))
    };
    let scale = || definition.float("spatial_scale").map(|scale| f64::from(scale.unwrap_or(1.0)));
    match definition.op.as_str() {
        "RoiAlign" => some(RoiAlign {
            max: match definition.text("mode")?.as_deref() {
                None | Some("avg") => false,
                Some("max") => true,
                Some(other) => return Err(Fault::Unsupported(format!("mode `{other}`"))),
            },
            offset: match definition.text("coordinate_transformation_mode")?.as_deref() {
                None if definition.opset < 16 => 0.0,
                None | Some("half_pixel") => 0.5,
                Some("output_half_pixel") => 0.0,
                Some(other) => return Err(Fault::Unsupported(format!("coordinate_transformation_mode `{other}`"))),
            },
            size: [size("output_height")?, size("output_width")?],
            samples: if definition.int("sampling_ratio")?.is_some() { size("sampling_ratio")? } else { 0 },
            scale: scale()?,
        }),
        "MaxRoiPool" => {
            let size = definition.sizes("pooled_shape")?.unwrap_or_default();
            let &[height, width] = size.as_slice() else {
                return Err(Fault::shape(format!("pooled_shape {size:?}"), "2 numbers"));
            };
            some(MaxRoiPool { size: [height, width], scale: scale()? })
        }
        "MaxUnpool" => {
            let kernel = definition.sizes("kernel_shape")?.unwrap_or_default();
            let strides = definition.sizes("strides")?.unwrap_or_else(|| vec![1; kernel.len()]);
            let pads = definition.sizes("pads")?.unwrap_or_else(|| vec![0; 2 * kernel.len()]);
            if strides.len() != kernel.len() || pads.len() != 2 * kernel.len() {
                let found = format!("{} strides and {} pads", strides.len(), pads.len());
                return Err(Fault::shape(found, format!("those of a kernel of {}", dims(&kernel))));
            }
            some(MaxUnpool { kernel, strides, pads })
        }
        _ => Ok(None),
    }
}

/// The four sizes of an image.
fn image(tensor: &Tensor) -> Result<[usize; 4], Fault> {
    match *tensor.shape() {
        [batch, channels, height, width] if !tensor.is_empty() => Ok([batch, channels, height, width]),
        _ => Err(Fault::shape(format!("an image of {}", dims(tensor.shape())), "batch, channels, height and width")),
    }
}

/// A number of an image of the batch.
fn index(at: f64, batch: usize) -> Result<usize, Fault> {
    if at >= 0.0 && at < batch as f64 {
        return Ok(at as usize);
    }
    Err(Fault::shape(format!("image {at}"), format!("one below {batch}")))
}

/// One sample between four pixels: their places and weights.
type Sample = [(usize, f64); 4];

/// Samples of one region, which is refused if it has more.
const MANY: f64 = 8_388_608.0;

impl RoiAlign {
    /// The samples of each result of a region.
    fn samples(&self, region: &[f64], [height, width]: [usize; 2]) -> Result<Vec<Vec<Sample>>, Fault> {
        let corner = |at: usize| region[at] * self.scale - self.offset;
        let (left, top) = (corner(0), corner(1));
        let least = if self.offset == 0.0 { 1.0 } else { f64::NEG_INFINITY };
        let sides = [(corner(3) - top).max(least), (corner(2) - left).max(least)];
        let bins = [sides[0] / self.size[0] as f64, sides[1] / self.size[1] as f64];
        let grid = bins.map(|bin| if self.samples > 0 { self.samples as f64 } else { bin.ceil().max(0.0) });
        let results = (self.size[0] * self.size[1]) as f64;
        if !(grid[0] * grid[1] * results <= MANY && grid[0] <= MANY && grid[1] <= MANY) {
            return Err(Fault::shape(format!("a region of {}x{}", sides[0], sides[1]), "one of fewer samples"));
        }
        let mut all = Vec::with_capacity(self.size[0] * self.size[1]);
        for at in 0..self.size[0] * self.size[1] {
            let (row, column) = ((at / self.size[1]) as f64, (at % self.size[1]) as f64);
            let mut samples = Vec::new();
            for iy in 0..grid[0] as usize {
                let y = top + row * bins[0] + (iy as f64 + 0.5) * bins[0] / grid[0];
                for ix in 0..grid[1] as usize {
                    let x = left + column * bins[1] + (ix as f64 + 0.5) * bins[1] / grid[1];
                    samples.push(sample(y, x, height, width));
                }
            }
            all.push(samples);
        }
        Ok(all)
    }

    fn reals<T: Real>(&self, inputs: &Inputs, context: &Context<'_>) -> Result<Tensor, Fault> {
        let tensor = inputs.get(0)?;
        let [batch, channels, height, width] = image(tensor)?;
        let regions = reals::<f64>(inputs, 1)?;
        let &[many, 4] = inputs.get(1)?.shape() else {
            return Err(Fault::shape(format!("regions of {}", dims(inputs.get(1)?.shape())), "rows of 4"));
        };
        let images = inputs.integers(2)?;
        if images.len() != many {
            return Err(Fault::shape(format!("{} numbers of images", images.len()), format!("{many}")));
        }
        let shape = vec![many, channels, self.size[0], self.size[1]];
        let mut out = T::buffer(context, &shape)?;
        if out.is_empty() {
            return rounded(tensor.dtype(), shape, out);
        }
        let x = reals::<T>(inputs, 0)?;
        let plane = height * width;
        let each = self.size[0] * self.size[1];
        for ((out, region), of) in out.chunks_mut(channels * each).zip(regions.chunks(4)).zip(images) {
            let of = index(of as f64, batch)?;
            let samples = self.samples(region, [height, width])?;
            out.par_chunks_mut(each).enumerate().for_each(|(channel, out)| {
                let from = (of * channels + channel) * plane;
                let pixels = &x[from..from + plane];
                out.iter_mut().zip(&samples).for_each(|(out, samples)| *out = T::near(self.pooled(pixels, samples)));
            });
        }
        rounded(tensor.dtype(), shape, out)
    }

    fn pooled<T: Real>(&self, pixels: &[T], samples: &[Sample]) -> f64 {
        let parts = |sample: &Sample| sample.map(|(at, weight)| weight * pixels[at].wide());
        if self.max {
            return samples.iter().flat_map(parts).reduce(f64::max).unwrap_or(0.0);
        }
        samples.iter().flat_map(parts).sum::<f64>() / samples.len().max(1) as f64
    }
}

/// The four pixels around a place; weights of 0 where it is outside.
fn sample(y: f64, x: f64, height: usize, width: usize) -> Sample {
    if !((-1.0..=height as f64).contains(&y) && (-1.0..=width as f64).contains(&x)) {
        return [(0, 0.0); 4];
    }
    let along = |at: f64, size: usize| {
        let at = at.max(0.0);
        let low = at as usize;
        if low + 1 >= size { (size - 1, size - 1, 0.0) } else { (low, low + 1, at - low as f64) }
    };
    let ((top, bottom, down), (left, right, across)) = (along(y, height), along(x, width));
    [
        (top * width + left, (1.0 - down) * (1.0 - across)),
        (top * width + right, (1.0 - down) * across),
        (bottom * width + left, down * (1.0 - across)),
        (bottom * width + right, down * across),
    ]
}

impl Operator for RoiAlign {
    fn name(&self) -> &'static str {
        "RoiAlign"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        Ok(vec![in_reals!(inputs.get(0)?.dtype(), T => self.reals::<T>(inputs, context))?])
    }
}

impl MaxRoiPool {
    fn reals<T: Real>(&self, inputs: &Inputs, context: &Context<'_>) -> Result<Tensor, Fault> {
        let tensor = inputs.get(0)?;
        let [batch, channels, height, width] = image(tensor)?;
        let regions = reals::<f64>(inputs, 1)?;
        let &[many, 5] = inputs.get(1)?.shape() else {
            return Err(Fault::shape(format!("regions of {}", dims(inputs.get(1)?.shape())), "rows of 5"));
        };
        let shape = vec![many, channels, self.size[0], self.size[1]];
        let mut out = T::buffer(context, &shape)?;
        if out.is_empty() {
            return rounded(tensor.dtype(), shape, out);
        }
        let x = reals::<T>(inputs, 0)?;
        let plane = height * width;
        let each = self.size[0] * self.size[1];
        for (out, region) in out.chunks_mut(channels * each).zip(regions.chunks(5)) {
            let of = index(region[0], batch)?;
            let corner = |at: usize| (region[at] * self.scale).round();
            let rows = parts(corner(2), corner(4), self.size[0], height);
            let columns = parts(corner(1), corner(3), self.size[1], width);
            out.par_chunks_mut(each).enumerate().for_each(|(channel, out)| {
                let from = (of * channels + channel) * plane;
                let pixels = &x[from..from + plane];
                for (at, out) in out.iter_mut().enumerate() {
                    let (rows, columns) = (rows[at / columns.len()], columns[at % columns.len()]);
                    let each =
                        (rows.0..rows.1).flat_map(|row| &pixels[row * width + columns.0..row * width + columns.1]);
                    *out = each.copied().reduce(T::max).unwrap_or(T::ZERO);
                }
            });
        }
        rounded(tensor.dtype(), shape, out)
    }
}

/// The pixels of each part of a region along one axis: from, to.
fn parts(first: f64, last: f64, count: usize, pixels: usize) -> Vec<(usize, usize)> {
    let bin = (last - first + 1.0).max(1.0) / count as f64;
    let pixel = |at: f64| (at + first).clamp(0.0, pixels as f64) as usize;
    let part = |at: usize| {
        let from = pixel((at as f64 * bin).floor());
        (from, pixel(((at + 1) as f64 * bin).ceil()).max(from))
    };
    (0..count).map(part).collect()
}

impl Operator for MaxRoiPool {
    fn name(&self) -> &'static str {
        "MaxRoiPool"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        Ok(vec![in_reals!(inputs.get(0)?.dtype(), T => self.reals::<T>(inputs, context))?])
    }
}

impl MaxUnpool {
    /// The shape that was pooled.
    fn shape(&self, pooled: &[usize]) -> Option<Vec<usize>> {
        let (front, image) = pooled.split_at_checked(2)?;
        if image.len() != self.kernel.len() {
            return None;
        }
        let mut shape = front.to_vec();
        for (at, dim) in image.iter().enumerate() {
            let all = dim.checked_sub(1)?.checked_mul(self.strides[at])?.checked_add(self.kernel[at])?;
            let pads = self.pads[at].checked_add(self.pads[image.len() + at])?;
            shape.push(all.checked_sub(pads)?);
        }
        Some(shape)
    }

    fn reals<T: Real>(&self, inputs: &Inputs, context: &Context<'_>) -> Result<Tensor, Fault> {
        let tensor = inputs.get(0)?;
        let wrong = || Fault::shape(format!("a shape of {}", dims(tensor.shape())), "one that this window made");
        let inner = self.shape(tensor.shape()).ok_or_else(wrong)?;
        let shape = match inputs.optional(2) {
            None => inner.clone(),
            Some(_) => {
                let sizes = inputs.integers(2)?;
                let sizes: Option<Vec<usize>> = sizes.iter().map(|size| usize::try_from(*size).ok()).collect();
                let sizes =
                    sizes.filter(|sizes| sizes.len() == inner.len() && sizes.iter().zip(&inner).all(|(a, b)| a >= b));
                sizes.ok_or_else(|| Fault::shape("another output_shape", format!("one of {} or more", dims(&inner))))?
            }
        };
        let mut out = T::buffer(context, &shape)?;
        out.fill(T::ZERO);
        let places = inputs.integers(1)?;
        let x = reals::<T>(inputs, 0)?;
        if places.len() != x.len() {
            return Err(Fault::shape(format!("{} places", places.len()), format!("{}", x.len())));
        }
        let all = count(&inner)?;
        for (place, x) in places.iter().zip(x.iter()) {
            let place = usize::try_from(*place).ok().filter(|place| *place < all);
            let place =
                place.ok_or_else(|| Fault::shape("a place outside of the image", format!("one below {all}")))?;
            // Places are counted in the shape that was pooled.
            let (mut rest, mut to, mut stride) = (place, 0, 1);
            for (inner, dim) in inner.iter().zip(&shape).rev() {
                to += rest % inner * stride;
                stride *= dim;
                rest /= inner;
            }
            out[to] = *x;
        }
        rounded(tensor.dtype(), shape, out)
    }
}

impl Operator for MaxUnpool {
    fn name(&self) -> &'static str {
        "MaxUnpool"
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

    fn counted() -> Option<Tensor> {
        Tensor::of([1, 1, 4, 4], (0..16).map(|x| x as f32).collect())
    }

    #[test]
    fn regions_are_pooled() {
        let align = RoiAlign { max: false, offset: 0.0, size: [1, 1], samples: 2, scale: 1.0 };
        let region =
            |of: i64, all: [f32; 4]| vec![counted(), Tensor::of([1, 4], all.to_vec()), Some(Tensor::vector(vec![of]))];
        let out = run(&align, region(0, [0.0, 0.0, 2.0, 2.0])).unwrap();
        // Samples at 0.5 and 1.5 each way.
        assert_eq!(out.get::<f32>().unwrap(), [5.0]);
        assert!(run(&align, region(1, [0.0, 0.0, 2.0, 2.0])).is_err());
        let dense = RoiAlign { samples: 0, ..align };
        assert!(run(&dense, region(0, [0.0, 0.0, 1e30, 1e30])).is_err());
        assert!(run(&dense, region(0, [f32::NAN; 4])).is_ok());
        let pool = MaxRoiPool { size: [2, 2], scale: 0.5 };
        let out = run(&pool, vec![counted(), Tensor::of([1, 5], vec![0.0f32, 0.0, 0.0, 6.0, 6.0])]).unwrap();
        assert_eq!(out.get::<f32>().unwrap(), [5.0, 7.0, 13.0, 15.0]);
        assert!(run(&pool, vec![counted(), Tensor::of([1, 5], vec![-1.0f32, 0.0, 0.0, 6.0, 6.0])]).is_err());
    }

    #[test]
    fn elements_go_back_to_their_places() {
        let unpool = MaxUnpool { kernel: vec![2, 2], strides: vec![2, 2], pads: vec![0; 4] };
        let inputs = |place: i64, size: Option<Vec<i64>>| {
            vec![
                Tensor::of([1, 1, 1, 2], vec![5.0f32, 6.0]),
                Tensor::of([1, 1, 1, 2], vec![place, 7]),
                size.map(Tensor::vector),
            ]
        };
        let out = run(&unpool, inputs(1, None)).unwrap();
        assert_eq!(out.get::<f32>().unwrap(), [0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 6.0]);
        let out = run(&unpool, inputs(1, Some(vec![1, 1, 2, 5]))).unwrap();
        assert_eq!(out.get::<f32>().unwrap(), [0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 6.0, 0.0]);
        assert!(run(&unpool, inputs(8, None)).is_err());
        assert!(run(&unpool, inputs(-1, None)).is_err());
        assert!(run(&unpool, inputs(0, Some(vec![1, 1, 1, 1]))).is_err());
    }
}
