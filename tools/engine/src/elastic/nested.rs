//! Weights on the nested grid as an operator of the graph: those that the planes of an elastic tensor decode to, at the width
//! that a choice says. Codes nest, so what was trained is packed without loss.
//!
//! Grids follow the weights, and nothing of them is learned; gradients go straight through.

use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, Elastic, ElasticParts, ElasticView};
use niwaki_model::{Context, Fault, Inputs, Keeps, Operator, Pass, Pullback, Reverse, Tensor};
use niwaki_quant::{ElasticOut, Fit, Values, encode_elastic_rows};

use super::quantizer::Choice;
use crate::matrix::transposed;

/// Puts weights onto the nested grid, and makes floats of them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nested {
    pub(super) scheme: Elastic,
    /// Whether the rows of the matrix are inputs.
    pub(super) turned: bool,
}

/// What rows of weights decode to at a width.
fn through(scheme: &Elastic, width: Bits, cols: usize, x: &[f32]) -> Result<Vec<f32>, Fault> {
    let fault =
        |e: &dyn std::fmt::Display| Fault::shape(format!("weights that are no elastic ones: {e}"), "finite ones");
    let rows = x.len() / cols.max(1);
    let sizes = scheme.parts(rows, cols).map_err(|e| fault(&e))?;
    let mut base = vec![0; sizes.base];
    let mut fixes: [Option<Vec<u8>>; 9] = std::array::from_fn(|at| {
        Bits::all().any(|b| b.get() as usize == at && scheme.has_fix(b)).then(|| vec![0; sizes.fix])
    });
    let mut planes: [Option<Vec<u8>>; 8] = std::array::from_fn(|at| scheme.has_plane(at).then(|| vec![0; sizes.plane]));
    let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
    let out = ElasticOut {
        base: &mut base,
        fixes: fixes.each_mut().map(Option::as_deref_mut),
        planes: planes.each_mut().map(Option::as_deref_mut),
    };
    let level = Level::best();
    encode_elastic_rows(level, scheme, Fit::MinMax, Values::F32(&bytes), cols, out).map_err(|e| fault(&e))?;
    let parts = ElasticParts {
        base: &base,
        fixes: fixes.each_ref().map(Option::as_deref),
        planes: planes.each_ref().map(Option::as_deref),
    };
    let view = ElasticView::new(*scheme, rows, cols, parts).map_err(|e| fault(&e))?;
    let mut made = vec![0.0; x.len()];
    view.dequantize_rows(level, width, 0..rows, &mut made).map_err(|e| fault(&e))?;
    Ok(made)
}

impl Nested {
    /// What weights are at a width.
    pub(super) fn at(&self, bits: Bits, weights: &Tensor) -> Result<Tensor, Fault> {
        let shape = weights.shape();
        let x = weights.get::<f32>().ok_or_else(|| Fault::shape("weights of another type", "float32"))?;
        let made = match (self.turned, shape) {
            (true, [rows, cols]) => transposed(&through(&self.scheme, bits, *rows, &transposed(x, *cols))?, *rows),
            _ => through(&self.scheme, bits, shape.iter().skip(1).product(), x)?,
        };
        Tensor::of(shape, made).ok_or_else(|| Fault::shape("another number of elements", "those of the input"))
    }
}

impl Operator for Nested {
    fn name(&self) -> &'static str {
        "NestedQuantize"
    }

    fn run(&self, inputs: &mut Inputs, _context: &Context<'_>) -> Result<Vec<Tensor>, Fault> {
        let bits = Choice::read(&inputs.integers(1)?)?.bits;
        Ok(vec![self.at(bits, inputs.get(0)?)?])
    }

    fn reverse(&self) -> Reverse<'_> {
        Reverse::Flows(self)
    }
}

impl Pullback for Nested {
    fn keeps(&self, _wanted: &[bool]) -> Keeps {
        Keeps::NOTHING
    }

    fn pull(&self, pass: &mut Pass, _context: &Context<'_>) -> Result<Vec<Option<Tensor>>, Fault> {
        Ok(vec![Some(pass.take_gradient(0)?)])
    }
}
