//! Kernels that need more than a plain loop.

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_64;
