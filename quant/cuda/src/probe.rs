//! Whether a CUDA driver may be asked at all.
//!
//! cudarc ends the program where the driver or one of its functions is not there, so this looks first: with the same names
//! of the library, for the functions that are called here.

use std::fmt;

use libloading::Library;

/// Why there is no device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The loader finds no driver.
    NoDriver,
    /// What it finds lacks a function of this name.
    BrokenDriver(&'static str),
    /// The driver did not start, for this reason by CUDA's numbers.
    Init(u32),
    /// There is a driver and no device.
    NoDevice,
    /// There is a device, and none of this number; so many there are.
    NoSuchDevice(u32, usize),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDriver => f.write_str("no CUDA driver found"),
            Self::BrokenDriver(symbol) => write!(f, "the CUDA driver has no function `{symbol}`"),
            // The one code that everybody meets: a driver without a device.
            Self::Init(100) | Self::NoDevice => f.write_str("the CUDA driver finds no device"),
            Self::Init(code) => write!(f, "the CUDA driver does not start (code {code})"),
            Self::NoSuchDevice(asked, 1) => write!(f, "no CUDA device {asked}; there is one, device 0"),
            Self::NoSuchDevice(asked, n) => write!(f, "no CUDA device {asked}; there are devices 0 to {}", n - 1),
        }
    }
}

impl std::error::Error for Unavailable {}

/// Functions of the driver that are called through cudarc: those that the emulated driver has, and no other.
const CALLED: [&str; 34] = [
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventQuery",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuLaunchKernel",
    "cuMemAllocAsync",
    "cuMemAlloc_v2",
    "cuMemFreeAsync",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemHostAlloc",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
];

/// How many devices there are; more than none.
///
/// # Errors
///
/// Why there is none.
pub fn probe() -> Result<usize, Unavailable> {
    let names = cudarc::get_lib_name_candidates("cuda");
    // SAFETY: a library of this name is the driver's, whose start-up code every CUDA program runs.
    let library = names.into_iter().find_map(|name| unsafe { Library::new(name) }.ok());
    let library = library.ok_or(Unavailable::NoDriver)?;
    let found = ask(&library);
    // A driver that is unloaded and loaded again does not start.
    std::mem::forget(library);
    found
}

/// Asks an opened driver.
fn ask(driver: &Library) -> Result<usize, Unavailable> {
    for name in CALLED {
        // SAFETY: the address is looked at and not used.
        unsafe { driver.get::<*const ()>(name) }.map_err(|_| Unavailable::BrokenDriver(name))?;
    }
    // SAFETY: the driver's functions of these names have these signatures.
    let (init, count) = unsafe {
        let init = driver.get::<unsafe extern "C" fn(u32) -> u32>("cuInit");
        let count = driver.get::<unsafe extern "C" fn(*mut i32) -> u32>("cuDeviceGetCount");
        (
            init.map_err(|_| Unavailable::BrokenDriver("cuInit"))?,
            count.map_err(|_| Unavailable::BrokenDriver("cuDeviceGetCount"))?,
        )
    };
    let mut devices = 0;
    // SAFETY: as above; the number is written where it lies.
    let code = unsafe {
        match init(0) {
            0 => count(&raw mut devices),
            code => code,
        }
    };
    match (code, usize::try_from(devices)) {
        (0, Ok(devices)) if devices > 0 => Ok(devices),
        (0, _) => Err(Unavailable::NoDevice),
        (code, _) => Err(Unavailable::Init(code)),
    }
}
