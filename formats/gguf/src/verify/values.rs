//! Values and scales that are NaN or infinite.

use super::Fault;
use crate::ggml::GgmlType;
use crate::header::Header;

pub(super) fn verify(header: &Header, bytes: &[u8], faults: &mut Vec<Fault>) {
    for (info, index) in header.tensors.iter().zip(0..) {
        let (Ok(ggml), Ok(range)) = (info.ggml_type(), header.file_range(index)) else { continue };
        let data = bytes.get(range).unwrap_or_default();
        let what = if ggml.block_elements() > 1 { "scales" } else { "values" };
        if let Some((first, count)) = not_finite(ggml, data) {
            faults.push(Fault::NotFinite { tensor: info.name.clone(), what, count, first });
        }
    }
}

/// The first block or element with a number that is not finite, and how many such numbers
/// there are.
fn not_finite(ggml: GgmlType, data: &[u8]) -> Option<(u64, u64)> {
    match ggml {
        GgmlType::F32 => count(data.as_chunks().0, |x: &[u8; 4]| !f32::from_le_bytes(*x).is_finite()),
        GgmlType::F64 => count(data.as_chunks().0, |x: &[u8; 8]| !f64::from_le_bytes(*x).is_finite()),
        GgmlType::F16 => count(data.as_chunks().0, |x: &[u8; 2]| half_is_bad(*x)),
        GgmlType::BF16 => count(data.as_chunks().0, |x: &[u8; 2]| u16::from_le_bytes(*x) & 0x7f80 == 0x7f80),
        // E8M0: the largest exponent is NaN.
        GgmlType::MXFP4 => count_blocks(ggml, data, |block| u64::from(block.first() == Some(&0xff))),
        // UE4M3: 0x7f is NaN.
        GgmlType::NVFP4 => {
            count_blocks(ggml, data, |block| block.iter().take(4).filter(|b| **b & 0x7f == 0x7f).count() as u64)
        }
        _ if ggml.halves().is_empty() => None,
        _ => count_blocks(ggml, data, |block| {
            let half = |at: &usize| block.get(*at..at + 2).and_then(|two| two.try_into().ok());
            ggml.halves().iter().filter_map(half).filter(|two| half_is_bad(*two)).count() as u64
        }),
    }
}

/// Whether an IEEE half is NaN or infinite: all bits of its exponent are set.
fn half_is_bad(bytes: [u8; 2]) -> bool {
    u16::from_le_bytes(bytes) & 0x7c00 == 0x7c00
}

fn count<const N: usize>(items: &[[u8; N]], bad: impl Fn(&[u8; N]) -> bool) -> Option<(u64, u64)> {
    let first = items.iter().position(&bad)?;
    let rest = items.get(first..).unwrap_or_default();
    Some((first as u64, rest.iter().filter(|item| bad(item)).count() as u64))
}

fn count_blocks(ggml: GgmlType, data: &[u8], bad: impl Fn(&[u8]) -> u64) -> Option<(u64, u64)> {
    let mut first = None;
    let mut total = 0;
    for (block, index) in data.chunks_exact(ggml.block_bytes()).zip(0..) {
        let here = bad(block);
        total += here;
        if here > 0 && first.is_none() {
            first = Some(index);
        }
    }
    first.map(|first| (first, total))
}
