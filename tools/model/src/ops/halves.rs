//! Half floats: operators compute in f32, and round what comes out.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::fault::Fault;
use crate::operator::Inputs;
use crate::tensor::{Buffer, Data, Dtype, Tensor};

/// A type of half floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    F16,
    Bf16,
}

impl Half {
    /// The type, where it is one of halves.
    pub(crate) fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// That of the first input that has halves.
    pub(crate) fn among(inputs: &Inputs) -> Option<Self> {
        (0..inputs.len()).find_map(|at| Self::of(inputs.optional(at)?.dtype()))
    }

    /// Runs an operator on the inputs as single floats, and rounds those of its first `rounded`
    /// outputs that are single floats.
    pub(crate) fn run(
        self,
        inputs: &mut Inputs,
        rounded: usize,
        run: impl FnOnce(&mut Inputs) -> Result<Vec<Tensor>, Fault>,
    ) -> Result<Vec<Tensor>, Fault> {
        let all = std::mem::take(inputs).into_vec().into_iter();
        *inputs = Inputs::new(all.map(|tensor| tensor.map(Tensor::widened)).collect());
        let mut outputs = run(inputs)?;
        for output in outputs.iter_mut().take(rounded) {
            if let Data::F32(buffer) = output.data() {
                *output.data_mut() = self.round(buffer.as_slice());
            }
        }
        Ok(outputs)
    }

    /// Rounds single floats.
    pub(crate) fn round(self, x: &[f32]) -> Data {
        match self {
            Self::F16 => {
                let mut y = vec![f16::ZERO; x.len()];
                y.convert_from_f32_slice(x);
                Data::F16(Buffer::from(y))
            }
            Self::Bf16 => {
                let mut y = vec![bf16::ZERO; x.len()];
                y.convert_from_f32_slice(x);
                Data::Bf16(Buffer::from(y))
            }
        }
    }
}

impl Tensor {
    /// Halves as single floats; all else as it is.
    pub fn widened(mut self) -> Self {
        let wide = match self.data() {
            Data::F16(x) => {
                let mut y = vec![0f32; x.as_slice().len()];
                x.as_slice().convert_to_f32_slice(&mut y);
                y
            }
            Data::Bf16(x) => {
                let mut y = vec![0f32; x.as_slice().len()];
                x.as_slice().convert_to_f32_slice(&mut y);
                y
            }
            _ => return self,
        };
        *self.data_mut() = Data::F32(Buffer::from(wide));
        self
    }
}

#[cfg(test)]
impl Half {
    /// A tensor of single floats, rounded.
    pub(crate) fn tensor(self, tensor: &Tensor) -> Tensor {
        let mut rounded = tensor.clone();
        if let Data::F32(x) = tensor.data() {
            *rounded.data_mut() = self.round(x.as_slice());
        }
        rounded
    }
}
