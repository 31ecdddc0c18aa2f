//! The device of these tests: a real one, or the emulated one where LD_LIBRARY_PATH names the folder of its driver.

#![allow(dead_code, reason = "not every suite needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use niwaki_cuda::Card;

/// The first device; without one it says *skipped*, and fails where NIWAKI_REQUIRE_GPU is set.
#[allow(clippy::print_stderr, reason = "who skips says so")]
pub(crate) fn card() -> Option<Card> {
    match Card::open(0) {
        Ok(card) => Some(card),
        Err(why) => {
            assert!(std::env::var_os("NIWAKI_REQUIRE_GPU").is_none(), "NIWAKI_REQUIRE_GPU is set, and {why}");
            eprintln!("skipped: {why}");
            None
        }
    }
}

/// Numbers around 0 of every size that weights have, the same every time; some are 0, some equal.
pub(crate) fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let one = |bits: u64| {
        let x = (bits >> 40) as f32 / (1 << 23) as f32 - 1.0;
        match bits % 16 {
            0 => 0.0,
            1 => -0.0,
            2 => (x * 8.0).round() / 8.0,
            3 => x * x * x * 4.0,
            _ => x,
        }
    };
    (0..len).map(|_| one(draw())).collect()
}

/// The types that numbers come in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Type {
    F32,
    Bf16,
    F16,
}

pub(crate) const TYPES: [Type; 3] = [Type::F32, Type::Bf16, Type::F16];

impl Type {
    /// Numbers as little-endian bytes of this type.
    pub(crate) fn bytes(self, numbers: &[f32]) -> Vec<u8> {
        numbers
            .iter()
            .flat_map(|x| match self {
                Self::F32 => x.to_le_bytes().to_vec(),
                Self::Bf16 => half::bf16::from_f32(*x).to_le_bytes().to_vec(),
                Self::F16 => half::f16::from_f32(*x).to_le_bytes().to_vec(),
            })
            .collect()
    }

    /// These bytes as kernels take them.
    pub(crate) fn numbers(self, bytes: &[u8]) -> niwaki_cuda::Numbers<'_> {
        match self {
            Self::F32 => niwaki_cuda::Numbers::F32(bytes),
            Self::Bf16 => niwaki_cuda::Numbers::Bf16(bytes),
            Self::F16 => niwaki_cuda::Numbers::F16(bytes),
        }
    }

    /// And as the CPU's encoders take them.
    pub(crate) fn values(self, bytes: &[u8]) -> niwaki_quant::Values<'_> {
        match self {
            Self::F32 => niwaki_quant::Values::F32(bytes),
            Self::Bf16 => niwaki_quant::Values::Bf16(bytes),
            Self::F16 => niwaki_quant::Values::F16(bytes),
        }
    }

    /// What the bytes stand for.
    pub(crate) fn floats(self, bytes: &[u8]) -> Vec<f32> {
        let mut out = vec![0.0; self.values(bytes).len()];
        self.values(bytes).decode(niwaki_codes::simd::Level::Scalar, &mut out);
        out
    }
}
