//! Weights that are ready to be multiplied and decoded, and how they are decoded.

use std::ffi::c_void;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use niwaki_codes::product::Kernel;
use niwaki_codes::{Bits, MaskView};
use niwaki_container::{Floats, Operand as Ready, Overlay as Stack, RowScratch};

use crate::artifact::{Artifact, Opened, give, the};
use crate::error::{Error, Line, Status, Text, ask, fenced, free};
use crate::memory::{Scratch, apart, padded, read, span, write};
use crate::overlay::Overlay;

/// The weights of one tensor at one width, with whatever is laid over them. `niwaki_operand_free`.
#[derive(Debug)]
pub struct Operand {
    /// Borrows from what stands below, which is freed after it.
    pub(crate) ready: Ready<'static>,
    kernel: Line,
    _artifact: Arc<Opened>,
    _signatures: Vec<Arc<Opened>>,
    _mask: Option<Arc<[u8]>>,
}

/// How a tensor is made ready; zeros are the widest form that is stored, and nothing else.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Preparation {
    /// The width; 0 for the widest that the tensor serves. One that has a single form ignores it.
    pub width: u32,
    /// Signatures that are laid over the weights, or null.
    pub overlay: *const Overlay,
    /// Bits that say which weights count, after all else, or null for all: row by row, each in whole bytes, the
    /// first weight in the lowest bit. They are copied.
    pub mask: *const u8,
    /// Bytes of the mask: rows times columns / 8, rounded up.
    pub mask_len: usize,
}

/// What an operand is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OperandInfo {
    /// Rows: products of one row of inputs.
    pub rows: usize,
    /// Columns: inputs of one product.
    pub cols: usize,
    /// The width that it is decoded at; 0 where the tensor has one form.
    pub width: u32,
    /// The kernel that multiplies, such as `avx512-vnni`. It lives as long as the operand.
    pub kernel: Text,
}

/// Some rows of the weights, from `start` up to but without `end`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// The first.
    pub start: usize,
    /// One past the last.
    pub end: usize,
}

/// Types that weights are decoded to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatType {
    /// IEEE single precision.
    F32 = 0,
    /// IEEE half precision: the nearest, ties to even.
    F16 = 1,
    /// The upper half of single precision: the nearest, ties to even.
    Bf16 = 2,
}

/// Where decoded weights go.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// The first, aligned as its type is.
    pub data: *mut c_void,
    /// How many there are: rows of the call times columns.
    pub len: usize,
    /// A `niwaki_float_type`.
    pub r#type: u32,
}

impl Operand {
    fn new(
        artifact: &Artifact,
        index: usize,
        width: u32,
        laid: (Option<&Overlay>, Option<&[u8]>),
    ) -> Result<Self, Error> {
        let (overlay, mask) = laid;
        let artifact = Arc::clone(&artifact.opened);
        let mask: Option<Arc<[u8]>> = mask.map(Into::into);
        let layers = overlay.map_or(&[][..], |overlay| &overlay.layers);
        let signatures: Vec<_> = layers.iter().map(|(signature, _)| Arc::clone(signature)).collect();

        // SAFETY: here and twice below, what is borrowed lies in an `Arc` that the operand keeps, which does not move,
        // and which is dropped after the borrower: fields are dropped in their order. No borrow leaves an
        // `Operand`.
        let kept: &'static Opened = unsafe { &*Arc::as_ptr(&artifact) };
        let mut stack = Stack::default();
        for (signature, (_, alpha)) in signatures.iter().zip(layers) {
            // SAFETY: as above.
            stack.push(unsafe { &(*Arc::as_ptr(signature)).artifact }, *alpha)?;
        }
        // SAFETY: as above.
        let bits: Option<&'static [u8]> = mask.as_ref().map(|mask| unsafe { &*Arc::as_ptr(mask) });

        let tensor = kept.tensor(index)?;
        let width = (width != 0).then(|| Bits::new(width)).transpose();
        let width = width.map_err(|why| Error::from(niwaki_container::Error::from(why)).in_tensor(tensor.name()))?;
        let (rows, cols) = tensor.matrix();
        let mask_view = bits.map(|bits| MaskView::new(rows, cols, bits)).transpose();
        let mask_view = mask_view.map_err(|why| Error::caller(why.to_string()).in_tensor(tensor.name()))?;
        let kernel = Kernel::best();
        let ready = tensor.prepare(kernel, width, &stack, mask_view)?;
        let kernel = Line::new(kernel.name());
        Ok(Self { ready, kernel, _artifact: artifact, _signatures: signatures, _mask: mask })
    }

    fn row_bytes(&self) -> usize {
        let sizes = self.ready.row_sizes();
        let parts = [padded::<f64>(sizes.wide), padded::<f32>(sizes.values), padded::<f32>(sizes.row)];
        parts.into_iter().fold(0, usize::saturating_add)
    }
}

/// Makes a tensor ready to be multiplied and decoded. A null `preparation` is one of zeros.
///
/// This counts what masks keep, and may allocate; nothing after it does.
///
/// # Safety
///
/// `artifact` was not freed; what `preparation` points to can be read, and its overlay was not freed; `out` can
/// be written; `error` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_prepare(
    artifact: *const Artifact,
    index: usize,
    preparation: *const Preparation,
    out: *mut *mut Operand,
    error: *mut *mut Error,
) -> Status {
    // SAFETY: the condition of this function.
    unsafe {
        fenced(error, || {
            let artifact = the(artifact, "artifact")?;
            let plain = Preparation { width: 0, overlay: ptr::null(), mask: ptr::null(), mask_len: 0 };
            let preparation = preparation.as_ref().unwrap_or(&plain);
            let mask = read(preparation.mask, preparation.mask_len, "mask")?;
            let laid = (preparation.overlay.as_ref(), (!preparation.mask.is_null()).then_some(mask));
            give(out, "out", || Operand::new(artifact, index, preparation.width, laid))
        })
    }
}

/// Frees an operand; null is nothing.
///
/// # Safety
///
/// `operand` is null or was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_operand_free(operand: *mut Operand) {
    // SAFETY: the condition of this function; operands come from a box in `give`.
    unsafe { free(operand) }
}

/// What an operand is; all 0 for null.
///
/// # Safety
///
/// `operand` is null or was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_operand_info(operand: *const Operand) -> OperandInfo {
    let none = OperandInfo { rows: 0, cols: 0, width: 0, kernel: Text::NONE };
    // SAFETY: the condition of this function.
    unsafe {
        ask(operand, none, |operand| OperandInfo {
            rows: operand.ready.rows(),
            cols: operand.ready.cols(),
            width: operand.ready.width().map_or(0, Bits::get),
            kernel: operand.kernel.text(),
        })
    }
}

/// Bytes of scratch for decoding: what a row takes, once or a few times. 0 for null.
///
/// # Safety
///
/// `operand` is null or was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_dequantize_scratch(operand: *const Operand) -> usize {
    // SAFETY: the condition of this function.
    unsafe { ask(operand, 0, Operand::row_bytes) }
}

/// The rows, where they are all there.
pub(crate) fn there(rows: Rows, has: usize) -> Result<Range<usize>, Error> {
    let Rows { start, end } = rows;
    if start > end || end > has {
        return Err(Error::caller(format!("rows {start}..{end} are not all there; there are {has}")));
    }
    Ok(start..end)
}

/// Decodes some rows, patches laid over them, and zeros where a mask drops weights. Halves and bfloat16 are the
/// nearest to the floats that `NIWAKI_FLOAT_TYPE_F32` gives. The same bits on every machine.
///
/// # Safety
///
/// `operand` was not freed; `out` and `scratch` can be read and written, by nobody else during the call;
/// `error` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_dequantize(
    operand: *const Operand,
    rows: Rows,
    out: Weights,
    scratch: Scratch,
    error: *mut *mut Error,
) -> Status {
    // SAFETY: the condition of this function.
    unsafe {
        fenced(error, || {
            let operand = the(operand, "operand")?;
            let rows = there(rows, operand.ready.rows())?;
            let needs = rows.len().saturating_mul(operand.ready.cols());
            if out.len != needs {
                return Err(Error::caller(format!("`out` needs {needs} weights, has {}", out.len)));
            }
            let bytes = operand.row_bytes();
            let width = if out.r#type == FloatType::F32 as u32 { 4 } else { 2 };
            let spans = [
                ("out", span(out.data, out.len.saturating_mul(width))),
                ("scratch", span(scratch.data, scratch.len.min(bytes))),
            ];
            apart(&spans)?;
            let floats = match out.r#type {
                0 => Floats::F32(write(out.data.cast(), out.len, "out")?),
                1 => Floats::F16(write(out.data.cast(), out.len, "out")?),
                2 => Floats::Bf16(write(out.data.cast(), out.len, "out")?),
                other => return Err(Error::caller(format!("type {other} is not known; known: 0, 1, 2"))),
            };
            let (mut room, sizes) = (scratch.room(bytes)?, operand.ready.row_sizes());
            let (wide, values) = (room.take(sizes.wide)?, room.take(sizes.values)?);
            let scratch = RowScratch { wide, values, row: room.take(sizes.row)? };
            Ok(operand.ready.dequantize_rows(rows, floats, scratch)?)
        })
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    // What the header promises of handles.
    shared::<Operand>();
    shared::<Artifact>();
    shared::<Overlay>();
};
