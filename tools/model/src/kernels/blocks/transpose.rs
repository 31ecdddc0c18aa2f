//! Rows and columns exchanged.

use niwaki_codes::simd::Level;

/// Rows and columns that are exchanged at once.
const SIDE: usize = 8;

/// Makes `[columns, rows]` of `[rows, columns]`. Squares follow each other along the longer side, so that what is written of the
/// shorter one stays in the nearest cache until it is whole.
pub(super) fn transpose(level: Level, from: &[f32], [rows, columns]: [usize; 2], to: &mut [f32]) {
    assert!(from.len() == rows * columns && to.len() == from.len(), "another matrix");
    let whole = match level {
        Level::Scalar => [0; 2],
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(_) | Level::Avx512(_) => {
            // SAFETY: either level proves the features, and the lengths are as asserted.
            unsafe { x86_64::squares(from, [rows, columns], to) };
            [rows, columns].map(|side| side / SIDE * SIDE)
        }
    };
    for column in 0..columns {
        let first = if column < whole[1] { whole[0] } else { 0 };
        for row in first..rows {
            to[column * rows + row] = from[row * columns + column];
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{
        __m256, _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
        _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };

    use super::SIDE;

    /// All whole squares.
    ///
    /// # Safety
    ///
    /// Both hold `rows * columns` numbers.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn squares(from: &[f32], [rows, columns]: [usize; 2], to: &mut [f32]) {
        let [down, along] = [rows / SIDE, columns / SIDE];
        for long in 0..down.max(along) {
            for short in 0..down.min(along) {
                let (row, column) = if down < along { (short, long) } else { (long, short) };
                let mut square = [_mm256_setzero_ps(); SIDE];
                // SAFETY: squares lie within both matrices.
                unsafe {
                    let from = from.as_ptr().add((row * columns + column) * SIDE);
                    for (nth, line) in square.iter_mut().enumerate() {
                        *line = _mm256_loadu_ps(from.add(nth * columns));
                    }
                    let to = to.as_mut_ptr().add((column * rows + row) * SIDE);
                    for (nth, line) in turned(square).into_iter().enumerate() {
                        _mm256_storeu_ps(to.add(nth * rows), line);
                    }
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn turned([a, b, c, d, e, f, g, h]: [__m256; SIDE]) -> [__m256; SIDE] {
        let [ab, cd, ef, gh] = [
            [_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)],
            [_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d)],
            [_mm256_unpacklo_ps(e, f), _mm256_unpackhi_ps(e, f)],
            [_mm256_unpacklo_ps(g, h), _mm256_unpackhi_ps(g, h)],
        ];
        let [above, below] = [four(ab, cd), four(ef, gh)];
        [
            _mm256_permute2f128_ps::<0x20>(above[0], below[0]),
            _mm256_permute2f128_ps::<0x20>(above[1], below[1]),
            _mm256_permute2f128_ps::<0x20>(above[2], below[2]),
            _mm256_permute2f128_ps::<0x20>(above[3], below[3]),
            _mm256_permute2f128_ps::<0x31>(above[0], below[0]),
            _mm256_permute2f128_ps::<0x31>(above[1], below[1]),
            _mm256_permute2f128_ps::<0x31>(above[2], below[2]),
            _mm256_permute2f128_ps::<0x31>(above[3], below[3]),
        ]
    }

    /// Four rows, in each half.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn four(ab: [__m256; 2], cd: [__m256; 2]) -> [__m256; 4] {
        [
            _mm256_shuffle_ps::<0x44>(ab[0], cd[0]),
            _mm256_shuffle_ps::<0xEE>(ab[0], cd[0]),
            _mm256_shuffle_ps::<0x44>(ab[1], cd[1]),
            _mm256_shuffle_ps::<0xEE>(ab[1], cd[1]),
        ]
    }
}
