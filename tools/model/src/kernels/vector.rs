//! Eight numbers at a time.

/// How many.
pub(super) const LANES: usize = 8;

/// Eight numbers in one register, or in several.
///
/// # Safety
///
/// Each function may only be called on a CPU that has the instructions of the type.
pub(super) trait Lanes: Copy {
    unsafe fn splat(x: f32) -> Self;

    /// # Safety
    ///
    /// Eight numbers stand there.
    unsafe fn load(from: *const f32) -> Self;

    /// `self + a b`, rounded once or twice.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;

    unsafe fn to_array(self) -> [f32; LANES];
}

impl Lanes for [f32; LANES] {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<Self>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn add_product(mut self, a: Self, b: Self) -> Self {
        for lane in 0..LANES {
            // Where there is no instruction for it, a fused sum is a call.
            self[lane] = if cfg!(target_arch = "aarch64") {
                a[lane].mul_add(b[lane], self[lane])
            } else {
                a[lane] * b[lane] + self[lane]
            };
        }
        self
    }

    #[inline(always)]
    unsafe fn to_array(self) -> [f32; LANES] {
        self
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{__m256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps};

    use super::{LANES, Lanes};

    impl Lanes for __m256 {
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: the caller has AVX2 and FMA.
            unsafe { _mm256_set1_ps(x) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: as above, and eight numbers stand there.
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: as above.
            unsafe { _mm256_fmadd_ps(a, b, self) }
        }

        #[inline(always)]
        unsafe fn to_array(self) -> [f32; LANES] {
            let mut out = [0.0; LANES];
            // SAFETY: as above; there is room for eight.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), self) };
            out
        }
    }
}
