//! The bytes of the K types.

use niwaki_codes::half_floats::f32_to_f16;
use niwaki_codes::stamp;

use super::affine::{self, Affine, Grid};
use super::lanes::{LANES, SUPER, bits, whole, whole_bits};
use super::signed::{self, Levels};

const Q2_K: Grid = Grid { top: 3.0, steps: 15.0, each: 16, shares: &[0.8], fits: 2, reach: (1, 1) };
const Q4_K: Grid = Grid { top: 15.0, steps: 63.0, each: 8, shares: &[0.86, 0.93, 1.0], fits: 1, reach: (2, 2) };
const Q5_K: Grid = Grid { top: 31.0, steps: 63.0, each: 8, shares: &[0.92, 1.0], fits: 1, reach: (2, 1) };

/// Whole numbers from `-self` up to but without `self`.
#[derive(Clone, Copy)]
struct Even(f32);

impl Levels for Even {
    #[inline(always)]
    fn nearest(self, x: f32) -> f32 {
        whole(x, -self.0, self.0 - 1.0)
    }

    #[inline(always)]
    fn code(self, x: f32) -> u8 {
        whole_bits(x, -self.0, self.0 - 1.0).wrapping_add(self.0 as u8)
    }
}

const Q3_K: signed::Grid<Even> =
    signed::Grid { levels: Even(4.0), lowest: -32.0, each: 16, ends: &[-4.4, -4.0, -3.6, 3.3], fits: 1, reach: 1 };
const Q6_K: signed::Grid<Even> = signed::Grid {
    levels: Even(32.0),
    lowest: -128.0,
    each: 16,
    ends: &[-33.0, -32.0, -31.0, 31.0, 32.0],
    fits: 1,
    reach: 2,
};

stamp! {
    /// Blocks of 16 bytes of scales and minima, 64 of codes, F16 scale and F16 minimum.
    pub(super) fn q2_k = q2_k_body(x: &[f32], out: &mut [u8]) -> ();
}

stamp! {
    /// Blocks of 32 bytes of high bits, 64 of codes, 12 of scales and F16 scale.
    pub(super) fn q3_k = q3_k_body(x: &[f32], out: &mut [u8]) -> ();
}

stamp! {
    /// Blocks of F16 scale, F16 minimum, 12 bytes of scales and minima and 128 of codes.
    pub(super) fn q4_k = q4_k_body(x: &[f32], out: &mut [u8]) -> ();
}

stamp! {
    /// Blocks as of [`q4_k`], with 32 bytes of high bits before the codes.
    pub(super) fn q5_k = q5_k_body(x: &[f32], out: &mut [u8]) -> ();
}

stamp! {
    /// Blocks of 128 bytes of low bits, 64 of high bits, 16 of scales and F16 scale.
    pub(super) fn q6_k = q6_k_body(x: &[f32], out: &mut [u8]) -> ();
}

#[inline(always)]
fn q2_k_body(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.as_chunks::<SUPER>().0.iter().zip(out.as_chunks_mut::<84>().0) {
        let fit = affine::fit::<16>(x, Q2_K);
        let codes = codes::<16>(&fit, x, 0, Q2_K.top);
        for (lane, to) in out.iter_mut().enumerate().take(LANES) {
            *to = bits(fit.steps[0][lane]) | bits(fit.steps[1][lane]) << 4;
        }
        quarters(&codes, &mut out[16..80]);
        out[80..82].copy_from_slice(&f32_to_f16(fit.unit[0][0]).to_le_bytes());
        out[82..].copy_from_slice(&f32_to_f16(fit.unit[1][0]).to_le_bytes());
    }
}

#[inline(always)]
fn q3_k_body(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.as_chunks::<SUPER>().0.iter().zip(out.as_chunks_mut::<110>().0) {
        let fit = signed::fit::<16, _>(x, Q3_K);
        let codes = signed_codes(&fit, x, Q3_K.levels);
        let mut high = [0; 32];
        for (j, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
            for l in 0..32 {
                high[l] |= codes[l] >> 2 << j;
            }
        }
        out[..32].copy_from_slice(&high);
        quarters(&codes, &mut out[32..96]);
        let mut scales = [0; LANES];
        for (to, scale) in scales.iter_mut().zip(fit.steps) {
            *to = bits(scale + 32.0);
        }
        for j in 0..8 {
            out[96 + j] = scales[j] & 15 | scales[j + 8] << 4;
        }
        for j in 0..4 {
            out[104 + j] =
                scales[j] >> 4 | scales[j + 4] >> 4 << 2 | scales[j + 8] >> 4 << 4 | scales[j + 12] >> 4 << 6;
        }
        out[108..].copy_from_slice(&f32_to_f16(fit.unit[0]).to_le_bytes());
    }
}

#[inline(always)]
fn q6_k_body(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.as_chunks::<SUPER>().0.iter().zip(out.as_chunks_mut::<210>().0) {
        let fit = signed::fit::<16, _>(x, Q6_K);
        let codes = signed_codes(&fit, x, Q6_K.levels);
        for (i, codes) in codes.as_chunks::<128>().0.iter().enumerate() {
            let (mut low, mut high) = ([0; 64], [0; 32]);
            for l in 0..64 {
                low[l] = codes[l] & 15 | codes[l + 64] << 4;
            }
            for l in 0..32 {
                high[l] = codes[l] >> 4 | codes[l + 32] >> 4 << 2 | codes[l + 64] >> 4 << 4 | codes[l + 96] >> 4 << 6;
            }
            out[64 * i..][..64].copy_from_slice(&low);
            out[128 + 32 * i..][..32].copy_from_slice(&high);
        }
        for (to, scale) in out[192..208].iter_mut().zip(fit.steps) {
            *to = bits(scale);
        }
        out[208..].copy_from_slice(&f32_to_f16(fit.unit[0]).to_le_bytes());
    }
}

#[inline(always)]
fn signed_codes(fit: &signed::Signed, x: &[f32; SUPER], levels: Even) -> [u8; SUPER] {
    let mut codes = [0; SUPER];
    for (lane, (x, codes)) in x.as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<16>().0).enumerate() {
        *codes = fit.codes(x, lane, levels);
    }
    codes
}

#[inline(always)]
fn q4_k_body(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.chunks(2 * SUPER).zip(out.chunks_mut(2 * 144)) {
        let fit = affine::fit::<32>(x, Q4_K);
        for (i, (x, out)) in x.as_chunks::<SUPER>().0.iter().zip(out.as_chunks_mut::<144>().0).enumerate() {
            let codes = codes::<32>(&fit, x, 8 * i, Q4_K.top);
            out[..16].copy_from_slice(&scales_and_minima(&fit, 8 * i));
            pairs(&codes, &mut out[16..]);
        }
    }
}

#[inline(always)]
fn q5_k_body(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.chunks(2 * SUPER).zip(out.chunks_mut(2 * 176)) {
        let fit = affine::fit::<32>(x, Q5_K);
        for (i, (x, out)) in x.as_chunks::<SUPER>().0.iter().zip(out.as_chunks_mut::<176>().0).enumerate() {
            let codes = codes::<32>(&fit, x, 8 * i, Q5_K.top);
            out[..16].copy_from_slice(&scales_and_minima(&fit, 8 * i));
            let mut high = [0; 32];
            for (j, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
                for l in 0..32 {
                    high[l] |= codes[l] >> 4 << j;
                }
            }
            out[16..48].copy_from_slice(&high);
            pairs(&codes, &mut out[48..]);
        }
    }
}

/// The codes of the block whose first sub-block is `lane`.
#[inline(always)]
fn codes<const N: usize>(fit: &Affine, x: &[f32; SUPER], lane: usize, top: f32) -> [u8; SUPER] {
    let mut codes = [0; SUPER];
    for (i, (x, codes)) in x.as_chunks::<N>().0.iter().zip(codes.as_chunks_mut::<N>().0).enumerate() {
        *codes = fit.codes(x, lane + i, top);
    }
    codes
}

/// The first 16 bytes of Q4_K and Q5_K.
#[inline(always)]
fn scales_and_minima(fit: &Affine, lane: usize) -> [u8; 16] {
    let mut out = [0; 16];
    out[..2].copy_from_slice(&f32_to_f16(fit.unit[0][lane]).to_le_bytes());
    out[2..4].copy_from_slice(&f32_to_f16(fit.unit[1][lane]).to_le_bytes());
    for j in 0..4 {
        let low = [bits(fit.steps[0][lane + j]), bits(fit.steps[1][lane + j])];
        let high = [bits(fit.steps[0][lane + j + 4]), bits(fit.steps[1][lane + j + 4])];
        out[4 + j] = low[0] | high[0] >> 4 << 6;
        out[8 + j] = low[1] | high[1] >> 4 << 6;
        out[12 + j] = high[0] & 15 | high[1] << 4;
    }
    out
}

/// Low nibbles of 64 codes in 32 bytes, the second half of them above the first.
#[inline(always)]
fn pairs(codes: &[u8; SUPER], out: &mut [u8]) {
    for (codes, out) in codes.as_chunks::<64>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        for l in 0..32 {
            out[l] = codes[l] & 15 | codes[l + 32] << 4;
        }
    }
}

/// The low two bits of 128 codes in 32 bytes.
#[inline(always)]
fn quarters(codes: &[u8; SUPER], out: &mut [u8]) {
    for (codes, out) in codes.as_chunks::<128>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        for l in 0..32 {
            out[l] = codes[l] & 3 | (codes[l + 32] & 3) << 2 | (codes[l + 64] & 3) << 4 | codes[l + 96] << 6;
        }
    }
}
