//! Three-dimensional images: as sums over planes of two dimensions.

use super::{Conv, Shapes};
use crate::fault::{Fault, dims};
use crate::operator::{Context, Inputs};
use crate::tensor::Tensor;

use rayon::prelude::*;

pub(super) fn convolve(conv: &Conv, inputs: &Inputs, shapes: &Shapes, context: &Context<'_>) -> Result<Tensor, Fault> {
    let (x, w) = (inputs.elements::<f32>(0, "float")?, inputs.elements::<f32>(1, "float")?);
    let bias = inputs.optional(2).map(|_| inputs.elements::<f32>(2, "float")).transpose()?;
    let kernel = inputs.get(1)?.shape().get(2..).unwrap_or_default();
    let spans = conv.spans(shapes, kernel)?;
    let [deep, rows, cols] = spans.as_slice() else {
        return Err(Fault::Unsupported(format!("a kernel {}", dims(kernel))));
    };
    let output = [deep.output, rows.output, cols.output];
    let mut shape = vec![shapes.images, shapes.out];
    shape.extend(output);
    let mut out = context.buffer(&shape)?;
    if bias.is_some_and(|bias| bias.len() != shapes.out) {
        return Err(Fault::shape("a bias of another size", format!("{} channels", shapes.out)));
    }
    let (size, image) = (output.iter().product::<usize>(), shapes.image.iter().product::<usize>());
    let (per_group, each) = (shapes.out / conv.groups, shapes.channels / conv.groups);
    let taps = kernel.iter().product::<usize>();
    out.par_chunks_exact_mut(size.max(1)).enumerate().for_each(|(nth, out)| {
        let (n, o) = (nth / shapes.out, nth % shapes.out);
        out.fill(bias.map_or(0.0, |bias| bias[o]));
        for c in 0..each {
            let x = &x[(n * shapes.channels + o / per_group * each + c) * image..][..image];
            let w = &w[(o * each + c) * taps..][..taps];
            for (tap, w) in w.iter().enumerate() {
                let (i, j, k) = (tap / (kernel[1] * kernel[2]), tap / kernel[2] % kernel[1], tap % kernel[2]);
                for d in 0..output[0] {
                    let Some(from_d) = deep.under(d, i) else { continue };
                    for h in 0..output[1] {
                        let Some(from_h) = rows.under(h, j) else { continue };
                        let row = &x[(from_d * shapes.image[1] + from_h) * shapes.image[2]..][..shapes.image[2]];
                        let out = &mut out[(d * output[1] + h) * output[2]..][..output[2]];
                        for (at, out) in out.iter_mut().enumerate() {
                            *out += cols.under(at, k).map_or(0.0, |from| w * row[from]);
                        }
                    }
                }
            }
        }
    });
    let len = out.len();
    Tensor::of(shape, out).ok_or_else(|| Fault::shape(format!("{len} results"), "as many as the shape has"))
}
