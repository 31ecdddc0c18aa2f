//! The decode path of `niwaki-codes`, and `niwaki-micro` with device images, as a C library without `std`.
//!
//! The panic handler below calls a function that nobody defines. If the optimizer
//! can prove that no code panics, the handler goes away and with it the undefined
//! symbol; `check.sh` looks for it. A dependency that needs `std` brings a second
//! panic handler, and the build fails.
#![no_std]

use core::panic::PanicInfo;
use core::slice;

use niwaki_codes::simd::Level;
use niwaki_codes::{
    Bits, BlockView, ElasticParts, ElasticView, Error, ErrorKind, FloatView, MaskView, PositionsView, Scheme, SparseView,
    Support, UniformView, mask, positions,
};

unsafe extern "C" {
    /// Defined nowhere.
    safe fn niwaki_panic_path_survived() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    niwaki_panic_path_survived()
}

/// Bytes that the caller lends.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Lent {
    at: *const u8,
    len: usize,
}

impl Lent {
    /// # Safety
    ///
    /// `at` points to `len` readable bytes that outlive the result, or `len` is zero.
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: by this function's own condition.
        unsafe { slice::from_raw_parts(self.at, self.len) }
    }
}

/// Floats that the caller lends to be written.
#[repr(C)]
pub struct Floats {
    at: *mut f32,
    len: usize,
}

impl Floats {
    /// # Safety
    ///
    /// `at` points to `len` floats that nobody else uses meanwhile, or `len` is zero.
    unsafe fn slice<'a>(self) -> &'a mut [f32] {
        if self.len == 0 {
            return &mut [];
        }
        // SAFETY: by this function's own condition.
        unsafe { slice::from_raw_parts_mut(self.at, self.len) }
    }
}

/// Bytes that the caller lends to be written.
#[repr(C)]
pub struct Bytes {
    at: *mut u8,
    len: usize,
}

impl Bytes {
    /// # Safety
    ///
    /// `at` points to `len` bytes that nobody else uses meanwhile, or `len` is zero.
    unsafe fn slice<'a>(self) -> &'a mut [u8] {
        if self.len == 0 {
            return &mut [];
        }
        // SAFETY: by this function's own condition.
        unsafe { slice::from_raw_parts_mut(self.at, self.len) }
    }
}

/// Codes that the caller lends to be read or written.
#[repr(C)]
pub struct Codes {
    at: *mut i8,
    len: usize,
}

impl Codes {
    /// # Safety
    ///
    /// `at` points to `len` codes that nobody else uses meanwhile, or `len` is zero.
    unsafe fn slice<'a>(self) -> &'a mut [i8] {
        if self.len == 0 {
            return &mut [];
        }
        // SAFETY: by this function's own condition.
        unsafe { slice::from_raw_parts_mut(self.at, self.len) }
    }
}

/// One compressed tensor, part by part; parts that a scheme does not have are empty.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tensor {
    scheme: Lent,
    rows: usize,
    cols: usize,
    width: u32,
    mask: Lent,
    /// Read where there is no mask and `kept` is above 0.
    positions: Lent,
    kept: usize,
    codes: Lent,
    scales: Lent,
    zeros: Lent,
    factor: Lent,
    base: Lent,
    fixes: [Lent; 9],
    planes: [Lent; 8],
}

/// What the functions below return.
const DONE: i32 = 0;
const REFUSED: i32 = 1;

/// Checks a tensor and decodes all of it: 0 if it could be done, else 1.
///
/// # Safety
///
/// Every part of the tensor, and `out`, is as long as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_decode(tensor: &Tensor, out: Floats) -> i32 {
    // SAFETY: by this function's own condition.
    let decoded = unsafe { decode(tensor, out.slice()) };
    if decoded.is_ok() { DONE } else { REFUSED }
}

/// Gathers the kept values of one row into `kept`, then scatters them into `back`.
///
/// # Safety
///
/// All slices are as long as they say, and do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_move(bits: Lent, row: Floats, kept: Floats, back: Floats) -> i32 {
    // SAFETY: by this function's own condition.
    let (bits, row, kept, back) = unsafe { (bits.bytes(), row.slice(), kept.slice(), back.slice()) };
    let level = Level::best();
    let moved = mask::gather(level, bits, row, kept).and_then(|_| mask::scatter(level, bits, kept, back));
    if moved.is_ok() { DONE } else { REFUSED }
}

/// Writes the positions of the weights of one row that are not 0 into `out`.
///
/// # Safety
///
/// Both slices are as long as they say, and do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_list(row: Floats, out: Bytes) -> i32 {
    // SAFETY: by this function's own condition.
    let (row, out) = unsafe { (row.slice(), out.slice()) };
    let places = row.iter().zip(0..).filter(|(x, _)| **x != 0.0).map(|(_, place)| place);
    let listed = positions::encode(row.len(), places.clone().count(), places, out);
    if listed.is_ok() { DONE } else { REFUSED }
}

/// Reads a device image and runs it: the place of the largest output, or -1 where it cannot be.
///
/// # Safety
///
/// All slices are as long as they say, and do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn niwaki_device(image: Lent, input: Codes, arena: Codes) -> i32 {
    // SAFETY: by this function's own condition.
    let (image, input, arena) = unsafe { (image.bytes(), input.slice(), arena.slice()) };
    let Ok(image) = niwaki_micro::Image::parse(image) else { return -1 };
    let Ok(made) = niwaki_micro::run(&image, input, arena) else { return -1 };
    niwaki_micro::largest(made).map_or(-1, |best| best as i32)
}

/// # Safety
///
/// Every part of the tensor is as long as it says.
unsafe fn decode(tensor: &Tensor, out: &mut [f32]) -> Result<(), Error> {
    let Tensor { scheme, rows, cols, width, codes, scales, zeros, factor, base, fixes, planes, .. } = *tensor;
    // SAFETY: by this function's own condition.
    let bytes = |lent: Lent| unsafe { lent.bytes() };
    // SAFETY: as above.
    let some = |lent: Lent| Some(unsafe { lent.bytes() }).filter(|bytes| !bytes.is_empty());
    let level = Level::best();
    let text = core::str::from_utf8(bytes(scheme)).unwrap_or_default();
    let support = match (some(tensor.mask), tensor.kept) {
        (Some(mask), _) => Some(Support::from(MaskView::new(rows, cols, mask)?)),
        (None, 0) => None,
        (None, kept) => {
            let elements = rows.checked_mul(cols).ok_or(ErrorKind::Overflow)?;
            let positions = PositionsView::new(elements, kept, bytes(tensor.positions))?;
            Some(Support::by_positions(rows, cols, positions)?)
        }
    };
    planted(codes.len);
    // Kept weights are one row.
    let (high, wide) = support.map_or((rows, cols), |support| (1, support.kept()));
    match (text.parse()?, support) {
        (Scheme::Uniform(scheme), None) => {
            let view = UniformView::new(scheme, rows, cols, bytes(codes), bytes(scales), some(zeros))?;
            view.check()?;
            view.dequantize_rows(level, 0..rows, out)
        }
        (Scheme::Uniform(scheme), Some(support)) => {
            let view = SparseView::uniform(support, scheme, bytes(codes), bytes(scales), some(zeros))?;
            view.check()?;
            view.dequantize_rows(level, 0..rows, 0, out).map(|_| ())
        }
        (Scheme::Elastic(scheme), support) => {
            let parts = ElasticParts { base: bytes(base), fixes: fixes.map(some), planes: planes.map(some) };
            let view = ElasticView::new(scheme, high, wide, parts)?;
            let width = Bits::new(width)?;
            match support {
                None => {
                    view.check()?;
                    view.dequantize_rows(level, width, 0..rows, out)
                }
                Some(support) => {
                    let view = SparseView::elastic(support, view, width)?;
                    view.check()?;
                    view.dequantize_rows(level, 0..rows, 0, out).map(|_| ())
                }
            }
        }
        (Scheme::Block(kind), None) => {
            let view = BlockView::new(kind, rows, cols, bytes(codes))?;
            view.check()?;
            view.dequantize_rows(level, 0..rows, out)
        }
        (Scheme::Float(float), None) => {
            let view = FloatView::new(float, rows, cols, bytes(codes), bytes(scales), some(factor))?;
            view.check()?;
            view.dequantize_rows(level, 0..rows, out)
        }
        _ => Err(ErrorKind::SchemeText.into()),
    }
}

#[cfg(feature = "planted-panic")]
fn planted(at: usize) {
    // An index that nothing bounds: the compiler has to keep the panic.
    let table = [1u8; 16];
    core::hint::black_box(table[at]);
}

#[cfg(not(feature = "planted-panic"))]
fn planted(_: usize) {}
