//! Element types: those of the safetensors format, by its own names.

pub use safetensors::Dtype;

/// Every element type that the format has.
pub const ALL_DTYPES: [Dtype; 22] = [
    Dtype::BOOL,
    Dtype::F4,
    Dtype::F6_E2M3,
    Dtype::F6_E3M2,
    Dtype::U8,
    Dtype::I8,
    Dtype::F8_E5M2,
    Dtype::F8_E4M3,
    Dtype::F8_E8M0,
    Dtype::F8_E4M3FNUZ,
    Dtype::F8_E5M2FNUZ,
    Dtype::I16,
    Dtype::U16,
    Dtype::F16,
    Dtype::BF16,
    Dtype::I32,
    Dtype::U32,
    Dtype::F32,
    Dtype::C64,
    Dtype::F64,
    Dtype::I64,
    Dtype::U64,
];

/// The type of this name, as headers spell it: `BF16`, `F8_E4M3`.
pub fn parse_dtype(name: &str) -> Option<Dtype> {
    ALL_DTYPES.into_iter().find(|dtype| dtype.to_string() == name)
}

/// Whether elements are real floating-point numbers, of whatever width.
pub fn is_float(dtype: Dtype) -> bool {
    matches!(
        dtype,
        Dtype::F64
            | Dtype::F32
            | Dtype::F16
            | Dtype::BF16
            | Dtype::F8_E4M3
            | Dtype::F8_E5M2
            | Dtype::F8_E8M0
            | Dtype::F8_E4M3FNUZ
            | Dtype::F8_E5M2FNUZ
            | Dtype::F6_E2M3
            | Dtype::F6_E3M2
            | Dtype::F4
    )
}

/// Whether [`decode_f32`](crate::decode_f32) takes this type.
pub fn decodes_to_f32(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F8_E4M3 | Dtype::F8_E5M2)
}

/// Bytes of `elements` elements; none where that is no whole number or does not fit.
pub fn byte_len(dtype: Dtype, elements: usize) -> Option<usize> {
    let bits = elements.checked_mul(dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// The number of elements of a shape; none where it does not fit.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_types() {
        for dtype in ALL_DTYPES {
            assert_eq!(parse_dtype(&dtype.to_string()), Some(dtype));
        }
        assert_eq!(parse_dtype("F8_E4M3FNUZ"), Some(Dtype::F8_E4M3FNUZ));
        assert_eq!(parse_dtype("f32"), None);
    }

    #[test]
    fn the_list_is_what_the_format_knows() {
        // The crate reads each of these names, and the list has no type twice.
        for (i, dtype) in ALL_DTYPES.into_iter().enumerate() {
            let read: Dtype = serde_json::from_str(&format!("\"{dtype}\"")).unwrap();
            assert_eq!(read, dtype);
            assert!(!ALL_DTYPES[..i].contains(&dtype));
        }
        let error = serde_json::from_str::<Dtype>("\"none\"").unwrap_err().to_string();
        assert_eq!(error.matches('`').count() / 2 - 1, ALL_DTYPES.len(), "{error}");
    }

    #[test]
    fn lengths_are_whole_bytes_or_none() {
        assert_eq!(byte_len(Dtype::F4, 3), None);
        assert_eq!(byte_len(Dtype::F4, 4), Some(2));
        assert_eq!(byte_len(Dtype::F6_E2M3, 4), Some(3));
        assert_eq!(byte_len(Dtype::C64, 2), Some(16));
        assert_eq!(byte_len(Dtype::U64, usize::MAX), None);
    }
}
