//! Widths that an image serves: each begins where the one before ends, so that the first bytes are an image too.
//!
//! ```text
//! all but elastic codes | numbers of rows, planes, checksum | more numbers, more planes, checksum | ..
//!                        '- a width ----------------------'  '- the next -------------------'
//! ```

use crate::fields::Fields;

/// What a width adds, as its entry of 32 bytes has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Bits of a weight.
    pub(crate) width: u8,
    /// Where the numbers of all rows begin.
    pub(crate) numbers: usize,
    /// Where the first of the planes begins that it adds.
    pub(crate) planes: usize,
    /// Bytes of one plane of all tensors.
    pub(crate) plane: usize,
    /// Where it ends, its checksum included.
    pub(crate) end: usize,
}

impl Layer {
    pub(crate) fn read(bytes: &[u8; 32]) -> Self {
        let mut fields = Fields(bytes);
        let width = fields.u8();
        fields.skip::<3>();
        let [numbers, planes, plane, end] = [(); 4].map(|()| fields.count());
        Self { width, numbers, planes, plane, end }
    }
}
