//! Devices, where this build has no kernels for them.

use niwaki_codes::Uniform;
use niwaki_quant::observe::{Extremes, Gram, Histogram};
use niwaki_quant::{Distortion, Fit, UniformOut, Values};

use crate::error::{Error, ErrorKind};

/// The processor.
#[derive(Clone, Debug, Default)]
pub struct Device {}

/// A Gram matrix on a device, of which this build has none.
pub(crate) enum Summing<'d> {
    /// Never.
    #[allow(dead_code, reason = "no such thing exists")]
    Never(&'d Device, std::convert::Infallible),
}

fn no_kernels() -> Error {
    ErrorKind::Unsupported { what: "CUDA, in a build without the feature `cuda`,".to_owned() }.into()
}

impl Device {
    /// Says that it cannot be done.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn cuda(_: u32) -> Result<Self, Error> {
        Err(no_kernels())
    }

    /// Says that there are none.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn found() -> Result<Vec<String>, Error> {
        Err(no_kernels())
    }

    /// Nothing: it is the processor.
    pub fn name(&self) -> Option<String> {
        None
    }

    pub(crate) fn encode(
        &self,
        _: (&Uniform, Fit),
        _: (Values<'_>, usize),
        _: &mut UniformOut<'_>,
    ) -> Result<Option<Distortion>, Error> {
        Ok(None)
    }

    pub(crate) fn histogram(&self, _: &[f32], _: &mut Histogram) -> Result<bool, Error> {
        Ok(false)
    }

    pub(crate) fn extremes(&self, _: &[f32], _: Option<usize>, _: &mut Extremes) -> Result<bool, Error> {
        Ok(false)
    }

    pub(crate) fn summing(&self, _: usize) -> Result<Option<Summing<'_>>, Error> {
        Ok(None)
    }
}

impl Summing<'_> {
    pub(crate) fn rows(&mut self, _: &[f32]) -> Result<(), Error> {
        match self {
            Self::Never(_, never) => match *never {},
        }
    }

    pub(crate) fn finish(self) -> Result<Gram, Error> {
        match self {
            Self::Never(_, never) => match never {},
        }
    }
}
