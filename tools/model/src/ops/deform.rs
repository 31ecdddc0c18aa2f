//! Convolutions that read their image where another tensor says: DeformConv.
//!
//! Tap k of the kernel at output o reads the image at stride·o - pad + dilation·k + offset(k, o), between
//! pixels as linear interpolation does it, where everything outside of the image is 0; a mask multiplies
//! what was read (ONNX, `DeformConv`; Dai et al. 2017, "Deformable Convolutional Networks").

use rayon::prelude::*;

use crate::attributes::Definition;
use crate::fault::{Fault, dims};
use crate::kernels::mm::{Matrix, Target, Way, mm};
use crate::operator::{Context, Inputs, Operator};
use crate::ops::shape::strides;
use crate::ops::window::{Span, Window};
use crate::ops::{Built, some};
use crate::real::{Real, count, in_reals, reals, rounded};
use crate::tensor::Tensor;

/// A convolution with offsets.
///
/// Inputs are an image `[N, C, D1, ..]`, weights `[M, C / groups, K1, ..]`, offsets in pixels
/// `[N, offset groups · K1 · .. · dimensions, O1, ..]`, and where they are there a bias `[M]` and a mask
/// `[N, offset groups · K1 · .., O1, ..]`. The result is `[N, M, O1, ..]`.
#[derive(Clone, Debug)]
pub struct DeformConv {
    window: Window,
    groups: usize,
    offset_groups: usize,
}

/// Dimensions of an image at most: a sample lies between two pixels along each.
const MOST: usize = 4;

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    if !definition.domain.is_empty() || definition.op != "DeformConv" {
        return Ok(None);
    }
    let groups = |name: &str| {
        let found = definition.int(name)?.unwrap_or(1);
        let groups = usize::try_from(found).ok().filter(|groups| *groups > 0);
        groups.ok_or_else(|| Fault::shape(format!("{name} {found}"), "1 or more"))
    };
    let (groups, offset_groups) = (groups("group")?, groups("offset_group")?);
    some(DeformConv { window: Window::read(definition)?, groups, offset_groups })
}

/// Sizes of one convolution.
struct Sizes {
    channels: usize,
    /// Channels that one group of weights takes, and that it makes.
    group: [usize; 2],
    spans: Vec<Span>,
    /// Pixels of an image, taps of the kernel, results of a channel.
    pixels: usize,
    taps: usize,
    results: usize,
    shape: Vec<usize>,
}

impl DeformConv {
    fn sizes(&self, inputs: &Inputs) -> Result<Sizes, Fault> {
        let [x, w, offset] = [inputs.get(0)?.shape(), inputs.get(1)?.shape(), inputs.get(2)?.shape()];
        let wrong = || {
            let found = [x, w, offset].map(dims).join(", ");
            Fault::shape(format!("image, weights and offsets {found}"), "those of a convolution")
        };
        let ([batch, channels, image @ ..], [made, taken, kernel @ ..]) = (x, w) else { return Err(wrong()) };
        let (groups, offset_groups) = (self.groups, self.offset_groups);
        let fits = channels.is_multiple_of(groups)
            && made.is_multiple_of(groups)
            && channels.is_multiple_of(offset_groups)
            && channels / groups == *taken
            && image.len() == kernel.len()
            && (1..=MOST).contains(&image.len())
            && self.window.kernel.as_deref().is_none_or(|own| own == kernel);
        if !fits {
            return Err(wrong());
        }
        let spans = self.window.spans(image, Some(kernel))?;
        let outputs: Vec<usize> = spans.iter().map(|span| span.output).collect();
        let mut shape = vec![*batch, *made];
        shape.extend_from_slice(&outputs);
        let (taps, results) = (count(kernel)?, count(&outputs)?);
        let of = |channels: usize| {
            let channels = channels.checked_mul(taps).and_then(|all| all.checked_mul(offset_groups));
            channels.map(|channels| [&[*batch, channels], outputs.as_slice()].concat())
        };
        if of(image.len()).is_none_or(|needs| needs != offset) {
            return Err(wrong());
        }
        if let Some(mask) = inputs.optional(4)
            && of(1).is_none_or(|needs| needs != mask.shape())
        {
            let needs = of(1).map_or_else(String::new, |needs| dims(&needs));
            return Err(Fault::shape(format!("a mask of {}", dims(mask.shape())), needs));
        }
        if let Some(bias) = inputs.optional(3)
            && bias.shape() != [*made]
        {
            return Err(Fault::shape(format!("a bias of {}", dims(bias.shape())), made.to_string()));
        }
        let group = [*taken, made / groups];
        Ok(Sizes { channels: *channels, group, spans, pixels: count(image)?, taps, results, shape })
    }

    fn reals<T: Real>(&self, inputs: &Inputs, context: &Context<'_>) -> Result<Tensor, Fault> {
        let sizes = self.sizes(inputs)?;
        let (x, w, offset) = (reals::<T>(inputs, 0)?, reals::<T>(inputs, 1)?, reals::<T>(inputs, 2)?);
        let bias = inputs.optional(3).map(|_| reals::<T>(inputs, 3)).transpose()?;
        let mask = inputs.optional(4).map(|_| reals::<T>(inputs, 4)).transpose()?;
        let dtype = inputs.get(0)?.dtype();
        let mut out = T::buffer(context, &sizes.shape)?;
        let Sizes { channels, group: [taken, made], taps, results, .. } = sizes;
        if out.is_empty() || taken == 0 || taps == 0 {
            let each = results.max(1);
            let bias = |at: usize| bias.as_ref().map_or(T::ZERO, |bias| bias[at / each % sizes.shape[1].max(1)]);
            out.iter_mut().enumerate().for_each(|(at, y)| *y = bias(at));
            return rounded(dtype, sizes.shape, out);
        }
        let mut read = T::buffer(context, &[channels, taps, results])?;
        let own = |all: &'_ [T], at: usize| -> std::ops::Range<usize> {
            let each = all.len() / sizes.shape[0];
            at * each..(at + 1) * each
        };
        for at in 0..sizes.shape[0] {
            let samples = Samples {
                sizes: &sizes,
                offset: &offset[own(&offset, at)],
                mask: mask.as_ref().map(|mask| &mask[own(mask, at)]),
            };
            let image = &x[own(&x, at)];
            let per_group = channels / self.offset_groups;
            read.par_chunks_exact_mut(taps * results).enumerate().for_each(|(channel, read)| {
                samples.read(channel / per_group, &image[channel * sizes.pixels..][..sizes.pixels], read);
            });
            let own = own(&out, at);
            for (group, out) in out[own].chunks_exact_mut(made * results).enumerate() {
                let (deep, first) = (taken * taps, group * made);
                let weights = Matrix::rows(&w[first * deep..(first + made) * deep], made, deep)?;
                let read = Matrix::rows(&read[group * deep * results..][..deep * results], deep, results)?;
                mm(Target::rows(out, made, results)?, weights, read, Way::replace())?;
                let Some(bias) = &bias else { continue };
                for (row, bias) in out.chunks_exact_mut(results).zip(&bias[first..]) {
                    row.iter_mut().for_each(|y| *y += *bias);
                }
            }
        }
        rounded(dtype, sizes.shape, out)
    }
}

/// Where one image of the batch is read.
struct Samples<'s, T> {
    sizes: &'s Sizes,
    offset: &'s [T],
    mask: Option<&'s [T]>,
}

impl<T: Real> Samples<'_, T> {
    /// What every tap reads of one channel, for every result.
    fn read(&self, group: usize, image: &[T], read: &mut [T]) {
        let Sizes { spans, taps, results, .. } = self.sizes;
        let (rank, results) = (spans.len(), *results);
        let (kernel, outputs): (Vec<usize>, Vec<usize>) = spans.iter().map(|s| (s.kernel, s.output)).unzip();
        let size: Vec<usize> = spans.iter().map(|span| span.input).collect();
        let (of_kernel, of_outputs, of_image) = (strides(&kernel), strides(&outputs), strides(&size));
        for (tap, read) in read.chunks_exact_mut(results).enumerate() {
            let offsets = &self.offset[(group * taps + tap) * rank * results..];
            for (result, read) in read.iter_mut().enumerate() {
                let mut place = [0.0f64; MOST];
                for (axis, span) in spans.iter().enumerate() {
                    let (k, o) = (tap / of_kernel[axis] % kernel[axis], result / of_outputs[axis] % outputs[axis]);
                    let start = (o * span.stride + k * span.dilation) as f64 - span.before as f64;
                    place[axis] = start + offsets[axis * results + result].wide();
                }
                let value = between(image, &size, &of_image, &place[..rank]);
                let mask = self.mask.map_or(1.0, |mask| mask[(group * taps + tap) * results + result].wide());
                *read = T::near(value * mask);
            }
        }
    }
}

/// The image between pixels; 0 outside of it, and where a place is no number.
fn between<T: Real>(image: &[T], size: &[usize], strides: &[usize], place: &[f64]) -> f64 {
    let mut sum = 0.0;
    for corner in 0..1usize << place.len() {
        let (mut at, mut weight) = (0, 1.0);
        for (axis, x) in place.iter().enumerate() {
            let (low, upper) = (x.floor(), corner >> axis & 1 == 1);
            let pixel = if upper { low + 1.0 } else { low };
            if !(pixel >= 0.0 && pixel < size[axis] as f64) {
                weight = 0.0;
                break;
            }
            at += pixel as usize * strides[axis];
            weight *= if upper { x - low } else { 1.0 - (x - low) };
        }
        if weight != 0.0 {
            sum += weight * image[at].wide();
        }
    }
    sum
}

impl Operator for DeformConv {
    fn name(&self) -> &'static str {
        "DeformConv"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let dtype = inputs.get(0)?.dtype();
        in_reals!(dtype, T => self.reals::<T>(inputs, context)).map(|y| vec![y])
    }

    fn macs(&self, inputs: &[Option<&[usize]>], outputs: &[&[usize]]) -> u64 {
        let (Some(Some([_, taken, kernel @ ..])), Some(output)) = (inputs.get(1), outputs.first()) else { return 0 };
        let all = kernel.iter().chain(output.iter());
        all.fold(*taken as u64, |all, dim| all.saturating_mul(*dim as u64))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::attributes::Attribute;
    use crate::ops::trial::{assert_close, definition, elements, run, tensor};

    #[test]
    fn offsets_move_what_is_read() {
        let x = tensor(&[1, 1, 2, 2], &[1.0f32, 2.0, 3.0, 4.0]);
        let w = tensor(&[1, 1, 1, 1], &[2.0f32]);
        let of = |offsets: &[f32], mask: Option<&[f32]>| {
            let offset = tensor(&[1, 2, 2, 2], offsets);
            let mask = mask.map(|mask| tensor(&[1, 1, 2, 2], mask));
            let bias = tensor(&[1], &[0.5f32]);
            run(&definition("DeformConv", &[]), &[Some(x.clone()), Some(w.clone()), Some(offset), Some(bias), mask])
                .unwrap()
                .remove(0)
        };
        assert_close(&of(&[0.0; 8], None), &[2.5, 4.5, 6.5, 8.5]);
        // Half a pixel down; below the last row there is nothing.
        let down = [0.5, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0];
        assert_close(&of(&down, None), &[4.5, 6.5, 3.5, 4.5]);
        assert_close(&of(&down, Some(&[1.0, 0.0, 0.5, 1.0])), &[4.5, 0.5, 2.0, 4.5]);
        // A quarter to the left, and far away.
        let left = [0.0, 0.0, 0.0, 0.0, -0.25, -0.25, f32::INFINITY, f32::NAN];
        assert_close(&of(&left, None), &[2.0, 4.0, 0.5, 0.5]);
    }

    #[test]
    fn offsets_have_to_fit() {
        let (x, w) = (tensor(&[1, 2, 3, 3], &[0.0f32; 18]), tensor(&[2, 2, 2, 2], &[0.0f32; 16]));
        let ints = |name: &'static str, x: i64| (name, Attribute::Int(x));
        let of = |attributes: &[(&str, Attribute)], offset: Tensor| {
            run(&definition("DeformConv", attributes), &[Some(x.clone()), Some(w.clone()), Some(offset)])
        };
        let fits = || tensor(&[1, 8, 2, 2], &[0.0f32; 32]);
        assert_eq!(elements::<f32>(&of(&[], fits()).unwrap()[0]), [0.0; 8]);
        assert!(of(&[ints("offset_group", 2)], fits()).is_err());
        assert!(of(&[ints("group", 2)], fits()).is_err());
        assert!(of(&[ints("group", 0)], fits()).is_err());
        assert!(of(&[], tensor(&[1, 8, 2, 1], &[0.0f32; 16])).is_err());
    }
}
