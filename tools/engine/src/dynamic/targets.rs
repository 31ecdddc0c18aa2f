//! What heads learn: the channels that fire, as an operator of the graph.

use niwaki_model::{Context, Fault, Inputs, Operator, Reverse, Tensor};
use niwaki_prune::dynamic::{Target, heat};
use rayon::prelude::*;

/// Makes targets `[N, C]` of images `[N, C, ..]`: 1 for the channels that count, else 0. Where what fires is no finite
/// number, targets are none either, and so is what is made of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Targets {
    pub(super) target: Target,
}

impl Targets {
    /// Those of one image.
    fn mark(self, image: &[f32], out: &mut [f32]) {
        heat(image, out);
        let (mut order, mut marks) = (vec![0; out.len()], vec![false; out.len()]);
        match self.target.mark(out, &mut order, &mut marks) {
            Ok(_) => out.iter_mut().zip(marks).for_each(|(out, mark)| *out = if mark { 1.0 } else { 0.0 }),
            Err(_) => out.fill(f32::NAN),
        }
    }
}

impl Operator for Targets {
    fn name(&self) -> &'static str {
        "ChannelTargets"
    }

    fn run(&self, inputs: &mut Inputs, context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let wrong = |shape: &[usize]| Fault::shape(format!("images {shape:?}"), "[N, C, ..]");
        let shape = inputs.get(0)?.shape();
        let &[images, channels, ref image @ ..] = shape else { return Err(wrong(shape)) };
        let each = channels * image.iter().product::<usize>();
        let mut out = context.buffer(&[images, channels])?;
        let all = inputs.elements::<f32>(0, "float")?;
        if each == 0 {
            out.fill(0.0);
        } else {
            let images = out.par_chunks_mut(channels.max(1)).zip(all.par_chunks(each));
            images.for_each(|(out, image)| self.mark(image, out));
        }
        let made = Tensor::of([images, channels], out);
        made.map(|made| vec![made]).ok_or_else(|| wrong(shape))
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Stops
    }
}
