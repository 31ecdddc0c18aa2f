//! Products of rows of weights with inputs.

use std::ops::Range;

use niwaki_codes::product::{self, Form, INPUTS};

use crate::artifact::the;
use crate::error::{Error, Status, ask, fenced};
use crate::memory::{Room, Scratch, apart, check, padded, read, span, write};
use crate::operand::{Operand, Rows, there};

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

impl Operand {
    /// Scratch of a product with `count` rows of inputs.
    fn product_bytes(&self, precision: Precision, count: usize) -> usize {
        let sizes = self.ready.form(precision == Precision::Int8).sizes(self.ready.cols());
        let row = [padded::<f32>(sizes.floats), padded::<i32>(sizes.sums), padded::<i8>(sizes.codes)];
        let row = row.into_iter().fold(0usize, usize::saturating_add);
        row.saturating_mul(count.min(INPUTS))
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
