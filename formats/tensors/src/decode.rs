//! Elements to `f32`, from bytes at any alignment.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::dtype::{Dtype, byte_len};
use crate::error::{Error, ErrorKind};

/// Elements that pass through one buffer on the stack.
const CHUNK: usize = 512;

/// Decodes as many elements as `out` has.
///
/// `F64` is rounded to the nearest `f32`, ties to even; every other type is exact. `F8_E4M3`
/// is the `e4m3fn` of ML: no infinities, NaN where all seven bits below the sign are set.
///
/// # Errors
///
/// [`ErrorKind::NoDecode`] for a type that [`decodes_to_f32`](crate::decodes_to_f32) does not
/// name, [`ErrorKind::Buffer`] where `bytes` holds another number of elements.
pub fn decode_f32(dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
    let decode: fn(&[u8], &mut [f32]) = match dtype {
        Dtype::F64 => from_f64,
        Dtype::F32 => from_f32,
        Dtype::F16 => from_f16,
        Dtype::BF16 => from_bf16,
        Dtype::F8_E4M3 => from_e4m3,
        Dtype::F8_E5M2 => from_e5m2,
        dtype => return Err(ErrorKind::NoDecode { dtype }.into()),
    };
    if byte_len(dtype, out.len()) != Some(bytes.len()) {
        let needs = bytes.len() * 8 / dtype.bitsize();
        return Err(ErrorKind::Buffer { needs, has: out.len() }.into());
    }
    decode(bytes, out);
    Ok(())
}

/// Bytes of `F32` as the floats that they are, where they are aligned and this machine has their order.
pub fn as_f32(dtype: Dtype, bytes: &[u8]) -> Option<&[f32]> {
    if dtype != Dtype::F32 || cfg!(target_endian = "big") {
        return None;
    }
    bytemuck::try_cast_slice(bytes).ok()
}

fn from_f64(bytes: &[u8], out: &mut [f32]) {
    let (elements, _) = bytes.as_chunks::<8>();
    for (out, element) in out.iter_mut().zip(elements) {
        *out = f64::from_le_bytes(*element) as f32;
    }
}

fn from_f32(bytes: &[u8], out: &mut [f32]) {
    if cfg!(target_endian = "little") {
        return bytemuck::cast_slice_mut(out).copy_from_slice(bytes);
    }
    let (elements, _) = bytes.as_chunks::<4>();
    for (out, element) in out.iter_mut().zip(elements) {
        *out = f32::from_le_bytes(*element);
    }
}

fn from_bf16(bytes: &[u8], out: &mut [f32]) {
    let (elements, _) = bytes.as_chunks::<2>();
    for (out, element) in out.iter_mut().zip(elements) {
        *out = f32::from_bits(u32::from(u16::from_le_bytes(*element)) << 16);
    }
}

fn from_f16(bytes: &[u8], out: &mut [f32]) {
    halves(bytes, out, |bits| u16::from_le_bytes(*bits));
}

/// E5M2 is the upper byte of F16.
fn from_e5m2(bytes: &[u8], out: &mut [f32]) {
    halves(bytes, out, |[upper]: &[u8; 1]| u16::from(*upper) << 8);
}

/// Collects chunks of F16 bits on the stack, which `half` converts with the CPU's own
/// instruction where it has one.
fn halves<const N: usize>(bytes: &[u8], out: &mut [f32], bits: impl Fn(&[u8; N]) -> u16) {
    let (elements, _) = bytes.as_chunks::<N>();
    let mut buffer = [f16::ZERO; CHUNK];
    for (elements, out) in elements.chunks(CHUNK).zip(out.chunks_mut(CHUNK)) {
        for (half, element) in buffer.iter_mut().zip(elements) {
            *half = f16::from_bits(bits(element));
        }
        if let Some(halves) = buffer.get(..out.len()) {
            halves.convert_to_f32_slice(out);
        }
    }
}

fn from_e4m3(bytes: &[u8], out: &mut [f32]) {
    for (out, byte) in out.iter_mut().zip(bytes) {
        *out = E4M3[usize::from(*byte)];
    }
}

/// All 256 values of F8_E4M3.
static E4M3: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = e4m3(code as u8);
        code += 1;
    }
    table
};

/// `(-1)^s 2^(e-7) 1.mmm`, and `(-1)^s 2^-6 0.mmm` for e = 0.
const fn e4m3(code: u8) -> f32 {
    let sign = (code as u32 & 0x80) << 24;
    let (exponent, fraction) = (code as u32 >> 3 & 15, code as u32 & 7);
    let magnitude = match (exponent, fraction) {
        (15, 7) => 0x7fc0_0000,
        // 2^-9 is the value of the lowest bit; its multiples up to 7 are exact.
        (0, _) => (fraction as f32 / 512.0).to_bits(),
        _ => (exponent + 127 - 7) << 23 | fraction << 20,
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    fn decoded(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
        let mut out = vec![0.0; bytes.len() * 8 / dtype.bitsize()];
        decode_f32(dtype, bytes, &mut out).unwrap();
        out
    }

    /// The value by the definition, in f64 arithmetic: independent of bit tricks.
    fn e4m3_by_hand(code: u8) -> f64 {
        let (s, e, m) = (code >> 7, i32::from(code >> 3 & 15), f64::from(code & 7));
        let magnitude = if e == 0 { m / 8.0 * 2f64.powi(-6) } else { (1.0 + m / 8.0) * 2f64.powi(e - 7) };
        if s == 1 { -magnitude } else { magnitude }
    }

    #[test]
    fn every_e4m3_code_has_its_value() {
        for code in 0..=255u8 {
            let value = decoded(Dtype::F8_E4M3, &[code])[0];
            match code & 0x7f {
                0x7f => assert!(value.is_nan(), "{code:#x}"),
                _ => assert_eq!(f64::from(value), e4m3_by_hand(code), "{code:#x}"),
            }
        }
        assert_eq!(decoded(Dtype::F8_E4M3, &[0x7e, 0x80, 0x01]), [448.0, -0.0, 1.0 / 512.0]);
    }

    #[test]
    fn every_e5m2_code_has_its_value() {
        for code in 0..=255u8 {
            let value = decoded(Dtype::F8_E5M2, &[code])[0];
            let (e, m) = (i32::from(code >> 2 & 31), f64::from(code & 3));
            let sign = if code >> 7 == 1 { -1.0 } else { 1.0 };
            match (e, m as u8) {
                (31, 0) => assert_eq!(value, sign as f32 * f32::INFINITY),
                (31, _) => assert!(value.is_nan()),
                (0, _) => assert_eq!(f64::from(value), sign * m / 4.0 * 2f64.powi(-14)),
                _ => assert_eq!(f64::from(value), sign * (1.0 + m / 4.0) * 2f64.powi(e - 15)),
            }
        }
    }

    #[test]
    fn every_half_agrees_with_the_half_crate() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let same = |a: f32, b: f32| a == b || a.is_nan() && b.is_nan();
        // One byte off, so that nothing is aligned by chance.
        let mut shifted = vec![0];
        shifted.extend(&bytes);
        for (bits, value) in (0..=u16::MAX).zip(decoded(Dtype::F16, &shifted[1..])) {
            assert!(same(value, f16::from_bits(bits).to_f32()), "{bits:#x}");
        }
        for (bits, value) in (0..=u16::MAX).zip(decoded(Dtype::BF16, &shifted[1..])) {
            assert!(same(value, bf16::from_bits(bits).to_f32()), "{bits:#x}");
        }
    }

    #[test]
    fn f64_is_rounded_to_the_nearest() {
        let tie = 1.0 + f64::from(f32::EPSILON) / 2.0;
        let bytes: Vec<u8> = [tie, 1e300, -0.1].into_iter().flat_map(f64::to_le_bytes).collect();
        assert_eq!(decoded(Dtype::F64, &bytes), [1.0, f32::INFINITY, -0.1]);
    }

    #[test]
    fn other_types_and_lengths_are_refused() {
        let error = decode_f32(Dtype::I8, &[0], &mut [0.0]).unwrap_err();
        let said = "I8 is not decoded to f32; F64, F32, F16, BF16, F8_E4M3 and F8_E5M2 are";
        assert_eq!(error.to_string(), said);
        let error = decode_f32(Dtype::F16, &[0; 6], &mut [0.0; 2]).unwrap_err();
        assert_eq!(error.to_string(), "3 elements need a buffer of as many; it has 2");
        assert!(decode_f32(Dtype::F16, &[0; 5], &mut [0.0; 2]).is_err());
    }
}
