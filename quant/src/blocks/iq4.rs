//! IQ4_NL and IQ4_XS: 16 values of uneven steps.

use niwaki_codes::half_floats::f32_to_f16;
use niwaki_codes::stamp;

use super::lanes::{LANES, SUPER, bits};
use super::signed::{self, Grid, Levels};

/// The values, and the middles between them.
const VALUES: [f32; 16] =
    [-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0];

#[derive(Clone, Copy)]
struct Uneven;

impl Levels for Uneven {
    #[inline(always)]
    fn nearest(self, x: f32) -> f32 {
        let mut value = VALUES[0];
        for i in 1..16 {
            value += if x > 0.5 * (VALUES[i - 1] + VALUES[i]) { VALUES[i] - VALUES[i - 1] } else { 0.0 };
        }
        value
    }

    #[inline(always)]
    fn code(self, x: f32) -> u8 {
        let mut code = 0;
        for i in 1..16 {
            code += u32::from(x > 0.5 * (VALUES[i - 1] + VALUES[i]));
        }
        code as u8
    }
}

const IQ4_NL: Grid<Uneven> =
    Grid { levels: Uneven, lowest: 0.0, each: 1, ends: &[-127.0, -118.0, -136.0, 113.0, 122.0], fits: 1, reach: 0 };
const IQ4_XS: Grid<Uneven> =
    Grid { levels: Uneven, lowest: -32.0, each: 8, ends: &[-127.0, -118.0, -136.0, 113.0, 122.0], fits: 1, reach: 1 };

stamp! {
    /// Blocks of F16 scale and 16 bytes, half-split.
    pub(super) fn iq4_nl = iq4_nl_body(x: &[f32], out: &mut [u8]) -> ();
}

stamp! {
    /// Blocks of F16 scale, 6 bytes of scales and 128 of codes.
    pub(super) fn iq4_xs = iq4_xs_body(x: &[f32], out: &mut [u8]) -> ();
}

#[inline(always)]
fn iq4_nl_body(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.chunks(32 * LANES).zip(out.chunks_mut(18 * LANES)) {
        let fit = signed::fit_alone::<32, _>(x, IQ4_NL);
        for (lane, (x, out)) in x.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<18>().0).enumerate() {
            let codes = fit.codes(x, lane, Uneven);
            out[..2].copy_from_slice(&f32_to_f16(fit.unit[lane]).to_le_bytes());
            out[2..].copy_from_slice(&halves(&codes));
        }
    }
}

#[inline(always)]
fn iq4_xs_body(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.chunks(2 * SUPER).zip(out.chunks_mut(2 * 136)) {
        let fit = signed::fit::<32, _>(x, IQ4_XS);
        for (i, (x, out)) in x.as_chunks::<SUPER>().0.iter().zip(out.as_chunks_mut::<136>().0).enumerate() {
            out[..2].copy_from_slice(&f32_to_f16(fit.unit[8 * i]).to_le_bytes());
            let (mut high, mut low) = (0u16, 0u32);
            for j in 0..8 {
                let scale = bits(fit.steps[8 * i + j] + 32.0);
                high |= u16::from(scale >> 4) << (2 * j);
                low |= u32::from(scale & 15) << (4 * j);
            }
            out[2..4].copy_from_slice(&high.to_le_bytes());
            out[4..8].copy_from_slice(&low.to_le_bytes());
            for (j, (x, out)) in x.as_chunks::<32>().0.iter().zip(out[8..].as_chunks_mut::<16>().0).enumerate() {
                *out = halves(&fit.codes(x, 8 * i + j, Uneven));
            }
        }
    }
}

/// The second half of 32 codes above the first.
#[inline(always)]
fn halves(codes: &[u8; 32]) -> [u8; 16] {
    let mut out = [0; 16];
    for i in 0..16 {
        out[i] = codes[i] | codes[i + 16] << 4;
    }
    out
}
