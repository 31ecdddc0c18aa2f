//! Eight numbers at a time, or twice eight.

/// How many stand next to each other.
pub(crate) const LANES: usize = 8;

/// Numbers in one register, or in several: [`PARTS`](Self::PARTS) times [`LANES`].
///
/// # Safety
///
/// Each function may only be called on a CPU that has the instructions of the type.
pub(super) trait Lanes: Copy {
    /// One or two.
    const PARTS: usize;

    unsafe fn splat(x: f32) -> Self;

    /// # Safety
    ///
    /// As many numbers stand there.
    unsafe fn load(from: *const f32) -> Self;

    /// A second part, where there is one, from elsewhere.
    ///
    /// # Safety
    ///
    /// Eight numbers stand at either place.
    unsafe fn load_parts(first: *const f32, second: *const f32) -> Self;

    /// `self + a b`, rounded once or twice.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;

    unsafe fn add(self, other: Self) -> Self;

    unsafe fn subtract(self, other: Self) -> Self;

    /// The sum of the numbers.
    unsafe fn total(self) -> f32;

    /// Between two bounds; what is no number stays none.
    unsafe fn clip(self, low: Self, high: Self) -> Self;

    /// # Safety
    ///
    /// There is room for as many numbers.
    unsafe fn store(self, to: *mut f32);

    /// # Safety
    ///
    /// There is room for eight numbers at either place, the second where there is a second part.
    unsafe fn store_parts(self, first: *mut f32, second: *mut f32);
}

impl Lanes for [f32; LANES] {
    const PARTS: usize = 1;

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
    unsafe fn load_parts(first: *const f32, _: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::load(first) }
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
    unsafe fn add(mut self, other: Self) -> Self {
        for lane in 0..LANES {
            self[lane] += other[lane];
        }
        self
    }

    #[inline(always)]
    unsafe fn subtract(mut self, other: Self) -> Self {
        for lane in 0..LANES {
            self[lane] -= other[lane];
        }
        self
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    #[inline(always)]
    unsafe fn clip(mut self, low: Self, high: Self) -> Self {
        for lane in 0..LANES {
            self[lane] = if self[lane] < low[lane] { low[lane] } else { self[lane] };
            self[lane] = if self[lane] > high[lane] { high[lane] } else { self[lane] };
        }
        self
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }

    #[inline(always)]
    unsafe fn store_parts(self, first: *mut f32, _: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { self.store(first) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{
        __m256, __m512, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_set1_ps,
        _mm256_storeu_ps, _mm256_sub_ps, _mm512_add_ps, _mm512_castps256_ps512, _mm512_castps512_ps256,
        _mm512_extractf32x8_ps, _mm512_fmadd_ps, _mm512_insertf32x8, _mm512_loadu_ps, _mm512_max_ps, _mm512_min_ps,
        _mm512_reduce_add_ps, _mm512_set1_ps, _mm512_storeu_ps, _mm512_sub_ps,
    };

    use super::Lanes;

    impl Lanes for __m256 {
        const PARTS: usize = 1;

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
        unsafe fn load_parts(first: *const f32, _: *const f32) -> Self {
            // SAFETY: as above.
            unsafe { Self::load(first) }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: as above.
            unsafe { _mm256_fmadd_ps(a, b, self) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { _mm256_add_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn subtract(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { _mm256_sub_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn total(self) -> f32 {
            // SAFETY: as above; a register has as many numbers as the array.
            unsafe { std::mem::transmute::<Self, [f32; 8]>(self).total() }
        }

        #[inline(always)]
        unsafe fn clip(self, low: Self, high: Self) -> Self {
            // SAFETY: as above. Where one operand is no number, the second one is the result.
            unsafe { _mm256_min_ps(high, _mm256_max_ps(low, self)) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as above, and there is room.
            unsafe { _mm256_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn store_parts(self, first: *mut f32, _: *mut f32) {
            // SAFETY: as above.
            unsafe { self.store(first) }
        }
    }

    impl Lanes for __m512 {
        const PARTS: usize = 2;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: the caller has AVX-512 F and DQ.
            unsafe { _mm512_set1_ps(x) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: as above, and sixteen numbers stand there.
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn load_parts(first: *const f32, second: *const f32) -> Self {
            // SAFETY: as above, and eight numbers stand at either place.
            unsafe { _mm512_insertf32x8::<1>(_mm512_castps256_ps512(_mm256_loadu_ps(first)), _mm256_loadu_ps(second)) }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: as above.
            unsafe { _mm512_fmadd_ps(a, b, self) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { _mm512_add_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn subtract(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { _mm512_sub_ps(self, other) }
        }

        #[inline(always)]
        unsafe fn total(self) -> f32 {
            // SAFETY: as above.
            unsafe { _mm512_reduce_add_ps(self) }
        }

        #[inline(always)]
        unsafe fn clip(self, low: Self, high: Self) -> Self {
            // SAFETY: as above. Where one operand is no number, the second one is the result.
            unsafe { _mm512_min_ps(high, _mm512_max_ps(low, self)) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as above, and there is room.
            unsafe { _mm512_storeu_ps(to, self) }
        }

        #[inline(always)]
        unsafe fn store_parts(self, first: *mut f32, second: *mut f32) {
            // SAFETY: as above, and there is room for eight at either place.
            unsafe {
                _mm256_storeu_ps(first, _mm512_castps512_ps256(self));
                _mm256_storeu_ps(second, _mm512_extractf32x8_ps::<1>(self));
            }
        }
    }
}
