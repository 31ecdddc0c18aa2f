//! Numbers as they lie in a file.

/// Little-endian numbers of one type, of any alignment.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a> {
    /// IEEE single precision, four bytes each.
    F32(&'a [u8]),
    /// bfloat16, two bytes each.
    Bf16(&'a [u8]),
    /// IEEE half precision, two bytes each.
    F16(&'a [u8]),
}

impl<'a> Numbers<'a> {
    /// Of floats in memory.
    pub fn of(floats: &'a [f32]) -> Self {
        Self::F32(bytemuck::cast_slice(floats))
    }

    /// How many whole numbers there are.
    pub fn len(&self) -> usize {
        self.bytes().len() / self.size()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        match self {
            Self::F32(bytes) | Self::Bf16(bytes) | Self::F16(bytes) => bytes,
        }
    }

    /// Bytes of one.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::F32(_) => 4,
            Self::Bf16(_) | Self::F16(_) => 2,
        }
    }

    /// The kernel for this type among three.
    pub(crate) fn of_type(&self, [f32, bf16, f16]: [&'static str; 3]) -> &'static str {
        match self {
            Self::F32(_) => f32,
            Self::Bf16(_) => bf16,
            Self::F16(_) => f16,
        }
    }
}
