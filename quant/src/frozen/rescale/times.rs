//! Products of stored scales, rounded once.

use niwaki_codes::floats::{E4M3_MAX, e4m3_to_f32, f32_to_e4m3};
use niwaki_codes::half_floats::{f16_to_f32, f32_to_f16};

/// Multiplies all slots by their factors, or none and gives the first that cannot hold its product.
pub(super) fn each<const N: usize>(
    slots: &mut [u8],
    factors: impl Iterator<Item = f32> + Clone,
    times: impl Fn([u8; N], f32) -> Option<[u8; N]>,
) -> Result<(), usize> {
    let slots = slots.as_chunks_mut::<N>().0;
    let mut products = slots.iter().zip(factors.clone()).map(|(slot, factor)| times(*slot, factor));
    if let Some(bad) = products.position(|product| product.is_none()) {
        return Err(bad);
    }
    for (slot, factor) in slots.iter_mut().zip(factors) {
        *slot = times(*slot, factor).unwrap_or(*slot);
    }
    Ok(())
}

/// An F32 times a factor; none beyond the type.
pub(super) fn times_f32(scale: [u8; 4], factor: f32) -> Option<[u8; 4]> {
    let product = f32::from_le_bytes(scale) * factor;
    product.is_finite().then(|| product.to_le_bytes())
}

/// An F16 times a factor; none beyond the type.
pub(super) fn times_f16(scale: [u8; 2], factor: f32) -> Option<[u8; 2]> {
    // 11 bits times 24: f64 holds the product exactly.
    let product = f64::from(f16_to_f32(u16::from_le_bytes(scale))) * f64::from(factor);
    let half = f32_to_f16(to_odd(product));
    (half & 0x7C00 != 0x7C00).then(|| half.to_le_bytes())
}

/// An e4m3 times a factor; none beyond the type.
pub(super) fn times_e4m3([scale]: [u8; 1], factor: f32) -> Option<[u8; 1]> {
    let product = to_odd(f64::from(e4m3_to_f32(scale)) * f64::from(factor));
    // Halfway to the 480 that would follow, the even fraction is that of 448.
    (product.abs() <= E4M3_MAX + 16.0).then(|| [f32_to_e4m3(product)])
}

/// An f32 next to `x` with its last bit set, or `x` itself where that is an f32: rounded once more
/// to fewer bits, it gives what `x` would give.
fn to_odd(x: f64) -> f32 {
    let near = x as f32;
    let wide = f64::from(near);
    if wide == x || near.to_bits() & 1 == 1 || x.is_nan() {
        return near;
    }
    let outward = x.abs() > wide.abs();
    f32::from_bits(if outward { near.to_bits() + 1 } else { near.to_bits() - 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nearest of all F16 to an exact product, ties to even.
    #[test]
    fn products_are_rounded_once() {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        for _ in 0..2000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let scale = state as u16;
            // Few bits, so that ties come up, or many.
            let low = [0xFFFF_F000u32, 0xFFFF_FFFF, 0xFFFC_0000][(state >> 60) as usize % 3];
            let factor =
                f32::from_bits(((state >> 20) as u32 & 0x807F_FFFF | (110 + (state >> 55) as u32 % 30) << 23) & low);
            let wide = f16_to_f32(scale);
            if !wide.is_finite() {
                assert_eq!(times_f16(scale.to_le_bytes(), factor), None);
                continue;
            }
            let exact = f64::from(wide) * f64::from(factor);
            let distance = |half: u16| (f64::from(f16_to_f32(half)).abs() - exact.abs()).abs();
            match times_f16(scale.to_le_bytes(), factor).map(u16::from_le_bytes) {
                None => assert!(exact.abs() >= 65520.0),
                Some(half) => {
                    assert!(exact.abs() < 65520.0);
                    assert_eq!(half >> 15 == 1, exact.is_sign_negative());
                    let (magnitude, sign) = (half & 0x7FFF, half & 0x8000);
                    for other in [magnitude.saturating_sub(1), magnitude + 1] {
                        let (a, b) = (distance(half), distance(other | sign));
                        assert!(a < b || a == b && half & 1 == 0 || other == magnitude, "{scale:04x} {factor:e}");
                    }
                }
            }
        }
    }

    #[test]
    fn ties_just_missed_are_not_ties() {
        let mut seen = 0;
        for scale in 0x3C00..0x4000u16 {
            // Just below halfway between an odd and an even F16, which f32 cannot tell from halfway.
            let tie = 1.0 + 3.0 / 2048.0;
            let factor = (tie / f64::from(f16_to_f32(scale))) as f32;
            let exact = f64::from(f16_to_f32(scale)) * f64::from(factor);
            if exact < tie && f64::from(exact as f32) == tie {
                assert_eq!(f32_to_f16(exact as f32), 0x3C02);
                assert_eq!(times_f16(scale.to_le_bytes(), factor), Some([0x01, 0x3C]));
                seen += 1;
            }
        }
        assert!(seen > 100, "{seen}");
    }

    #[test]
    fn the_largest_e4m3_is_kept_up_to_halfway() {
        assert_eq!(times_e4m3([0x7E], 464.0 / 448.0), Some([0x7E]));
        assert_eq!(times_e4m3([0x7E], 1.04), None);
        assert_eq!(times_e4m3([0x38], -2.0), Some([0xC0]));
        assert_eq!(times_f32(2f32.to_le_bytes(), f32::MAX), None);
    }
}
