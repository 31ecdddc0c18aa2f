//! Weights that are ready to be multiplied and decoded.

use std::ffi::c_void;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use niwaki_codes::product::{self, Form, INPUTS, Kernel};
use niwaki_codes::{Bits, MaskView};
use niwaki_container::{Floats, Operand as Ready, Overlay as Stack, RowScratch};

use crate::artifact::{Artifact, Opened, give, the};
use crate::error::{Error, Line, Status, Text, ask, fenced, free};
use crate::memory::{Room, Scratch, apart, check, padded, read, span, write};
use crate::overlay::Overlay;

/// The weights of one tensor at one width, with whatever is laid over them. `niwaki_operand_free`.
#[derive(Debug)]
pub struct Operand {
    /// Borrows from what stands below, which is freed after it.
    ready: Ready<'static>,
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

/// What inputs are multiplied as.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    Full = 0,
    /// Rounded to 8 bits in blocks of 32 with a scale each: less exact, and faster with packed codes.
    Int8 = 1,
}

/// Rows of inputs, one behind the other.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// The first.
    pub data: *const f32,
    /// Floats: a whole number of rows as long as the operand's columns.
    pub len: usize,
    /// A `niwaki_precision`.
    pub precision: u32,
}

/// Where products go.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Outputs {
    /// The first.
    pub data: *mut f32,
    /// Floats: for each row of inputs as many as there are rows of weights in the call.
    pub len: usize,
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

    /// Scratch of a product with `count` rows of inputs.
    fn product_bytes(&self, precision: Precision, count: usize) -> usize {
        let sizes = self.ready.form(precision == Precision::Int8).sizes(self.ready.cols());
        let row = [padded::<f32>(sizes.floats), padded::<i32>(sizes.sums), padded::<i8>(sizes.codes)];
        let row = row.into_iter().fold(0usize, usize::saturating_add);
        row.saturating_mul(count.min(INPUTS))
    }

    fn row_bytes(&self) -> usize {
        let sizes = self.ready.row_sizes();
        let parts = [padded::<f64>(sizes.wide), padded::<f32>(sizes.values), padded::<f32>(sizes.row)];
        parts.into_iter().fold(0, usize::saturating_add)
    }

    fn multiply(
        &self,
        rows: Range<usize>,
        (x, precision): (&[f32], Precision),
        y: &mut [f32],
        mut room: Room<'_>,
    ) -> Result<(), Error> {
        let (n, cols) = (rows.len(), self.ready.cols());
        let form = self.ready.form(precision == Precision::Int8);
        for (x, y) in x.chunks(INPUTS.saturating_mul(cols)).zip(y.chunks_mut(INPUTS.saturating_mul(n))) {
            let (mut inputs, mut room) = ([product::Inputs::plain(&[]); INPUTS], room.again());
            let count = x.len() / cols;
            for (inputs, x) in inputs.iter_mut().zip(x.chunks(cols)) {
                *inputs = self.inputs(form, x, &mut room)?;
            }
            self.ready.gemm(rows.clone(), inputs.get(..count).unwrap_or_default(), y)?;
        }
        Ok(())
    }

    fn inputs<'a>(&self, form: Form, x: &'a [f32], room: &mut Room<'a>) -> Result<product::Inputs<'a>, Error> {
        let sizes = form.sizes(x.len());
        let (floats, sums) = (room.take(sizes.floats)?, room.take(sizes.sums)?);
        let scratch = product::Scratch { floats, sums, codes: room.take(sizes.codes)? };
        let inputs = product::Inputs::new(self.ready.kernel().level(), form, x, scratch);
        inputs.map_err(|why| niwaki_container::Error::from(why).into())
    }
}

impl Precision {
    fn new(number: u32) -> Result<Self, Error> {
        match number {
            0 => Ok(Self::Full),
            1 => Ok(Self::Int8),
            _ => Err(Error::caller(format!("precision {number} is not known; known: 0, 1"))),
        }
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

/// Bytes of scratch for products with `count` rows of inputs of that `niwaki_precision`: no more for many than
/// for 8. 0 for null, and for a precision that is not known.
///
/// # Safety
///
/// `operand` is null or was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_product_scratch(operand: *const Operand, precision: u32, count: usize) -> usize {
    let bytes = |operand: &Operand| Precision::new(precision).map_or(0, |known| operand.product_bytes(known, count));
    // SAFETY: the condition of this function.
    unsafe { ask(operand, 0, bytes) }
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

/// Multiplies some rows with one row of inputs: `y[i]` is the product of row `rows.start + i`.
///
/// Ranges of rows give the same bits as all rows at once, so threads may share the work, each with scratch of
/// its own. The order in which a row is summed is the kernel's.
///
/// # Safety
///
/// `operand` was not freed; `x` can be read, `y` and `scratch` be read and written, by nobody else during the
/// call; `error` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_gemv(
    operand: *const Operand,
    rows: Rows,
    x: Inputs,
    y: Outputs,
    scratch: Scratch,
    error: *mut *mut Error,
) -> Status {
    // SAFETY: the condition of this function.
    unsafe {
        fenced(error, || {
            let cols = the(operand, "operand")?.ready.cols();
            if x.len != cols {
                return Err(Error::caller(format!("`x` needs {cols} floats, has {}", x.len)));
            }
            product(operand, rows, x, y, scratch)
        })
    }
}

/// Multiplies some rows with several rows of inputs: `y` has the products with the first row of inputs, then
/// those with the second, and so on, `rows.end - rows.start` of each. The same bits as `niwaki_gemv` with each.
///
/// # Safety
///
/// That of `niwaki_gemv`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_gemm(
    operand: *const Operand,
    rows: Rows,
    x: Inputs,
    y: Outputs,
    scratch: Scratch,
    error: *mut *mut Error,
) -> Status {
    // SAFETY: the condition of this function.
    unsafe { fenced(error, || product(operand, rows, x, y, scratch)) }
}

/// # Safety
///
/// That of [`niwaki_gemv`].
unsafe fn product(operand: *const Operand, rows: Rows, x: Inputs, y: Outputs, scratch: Scratch) -> Result<(), Error> {
    // SAFETY: the condition of this function.
    let operand = unsafe { the(operand, "operand") }?;
    let rows = there(rows, operand.ready.rows())?;
    let (precision, cols) = (Precision::new(x.precision)?, operand.ready.cols());
    if x.len.checked_rem(cols).unwrap_or(x.len) != 0 {
        return Err(Error::caller(format!("`x` needs whole rows of {cols} floats, has {}", x.len)));
    }
    let count = x.len.checked_div(cols).unwrap_or(0);
    let needs = count.saturating_mul(rows.len());
    if cols > 0 && y.len != needs {
        return Err(Error::caller(format!("`y` needs {needs} floats, has {}", y.len)));
    }
    check(x.data, x.len, "x")?;
    check(y.data, y.len, "y")?;
    let bytes = operand.product_bytes(precision, count);
    let used = scratch.len.min(bytes);
    let spans = [
        ("x", span(x.data, x.len.saturating_mul(4))),
        ("y", span(y.data, y.len.saturating_mul(4))),
        ("scratch", span(scratch.data, used)),
    ];
    apart(&spans)?;
    // SAFETY: the condition of this function; `apart` has seen that they do not overlap.
    let (x, y, room) = unsafe { (read(x.data, x.len, "x")?, write(y.data, y.len, "y")?, scratch.room(bytes)?) };
    match (cols, rows.len()) {
        // A sum of nothing.
        (0, _) => y.fill(0.0),
        (_, 0) => {}
        _ => operand.multiply(rows, (x, precision), y, room)?,
    }
    Ok(())
}

fn there(rows: Rows, has: usize) -> Result<Range<usize>, Error> {
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
