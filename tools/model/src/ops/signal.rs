//! Operators on signals: windows, Fourier transforms, mel weights. All are computed in f64.

mod fourier;
mod mel;
mod window;

use half::{bf16, f16};

use crate::attributes::Definition;
use crate::fault::Fault;
use crate::operator::Inputs;
use crate::ops::Built;
use crate::tensor::{Buffer, Data, Dtype, Tensor};

/// The operators of this family.
pub(crate) fn build(definition: &Definition) -> Built {
    match definition.op.as_str() {
        "HannWindow" | "HammingWindow" | "BlackmanWindow" => window::build(definition),
        "DFT" | "STFT" => fourier::build(definition),
        "MelWeightMatrix" => mel::build(definition),
        _ => Ok(None),
    }
}

/// The numbers of a tensor of any float type.
fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    Some(match tensor.data() {
        Data::F32(x) => x.as_slice().iter().map(|x| f64::from(*x)).collect(),
        Data::F64(x) => x.as_slice().to_vec(),
        Data::F16(x) => x.as_slice().iter().map(|x| x.to_f64()).collect(),
        Data::Bf16(x) => x.as_slice().iter().map(|x| x.to_f64()).collect(),
        _ => return None,
    })
}

/// Numbers as elements of a type.
pub(super) fn elements(dtype: Dtype, all: &[f64]) -> Result<Data, Fault> {
    macro_rules! as_whole {
        ($variant:ident, $type:ty) => {
            Data::$variant(Buffer::from(all.iter().map(|x| *x as $type).collect::<Vec<_>>()))
        };
    }
    Ok(match dtype {
        Dtype::F32 => as_whole!(F32, f32),
        Dtype::F64 => as_whole!(F64, f64),
        Dtype::F16 => Data::F16(Buffer::from(all.iter().map(|x| f16::from_f64(*x)).collect::<Vec<_>>())),
        Dtype::BF16 => Data::Bf16(Buffer::from(all.iter().map(|x| bf16::from_f64(*x)).collect::<Vec<_>>())),
        Dtype::I64 => as_whole!(I64, i64),
        Dtype::I32 => as_whole!(I32, i32),
        Dtype::I16 => as_whole!(I16, i16),
        Dtype::I8 => as_whole!(I8, i8),
        Dtype::U64 => as_whole!(U64, u64),
        Dtype::U32 => as_whole!(U32, u32),
        Dtype::U16 => as_whole!(U16, u16),
        Dtype::U8 => as_whole!(U8, u8),
        other => return Err(Fault::Unsupported(format!("numbers of type {other}"))),
    })
}

/// The only whole number of an input, none of which is negative.
fn count(inputs: &Inputs, index: usize) -> Result<usize, Fault> {
    match inputs.integers(index)?[..] {
        [one] if one >= 0 => Ok(one as usize),
        ref all => Err(Fault::shape(format!("input {index} of {all:?}"), "one number, 0 or more")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
