//! One device: its kernels and its streams.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::{CudaContext, CudaFunction, CudaModule};
use cudarc::nvrtc::Ptx;

use crate::error::refused;
use crate::work::Lane;
use crate::{Error, Unavailable, probe};

/// Kernels that are loaded together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Theme {
    Counts,
    Decode,
    Encode,
    Fake,
    Gram,
    Jackpot,
    Moments,
    Planes,
    Ranges,
    Select,
    Signature,
}

impl Theme {
    const fn ptx(self) -> &'static str {
        match self {
            Self::Counts => include_str!("../ptx/counts.ptx"),
            Self::Decode => include_str!("../ptx/decode.ptx"),
            Self::Encode => include_str!("../ptx/encode.ptx"),
            Self::Fake => include_str!("../ptx/fake.ptx"),
            Self::Gram => include_str!("../ptx/gram.ptx"),
            Self::Jackpot => include_str!("../ptx/jackpot.ptx"),
            Self::Moments => include_str!("../ptx/moments.ptx"),
            Self::Planes => include_str!("../ptx/planes.ptx"),
            Self::Ranges => include_str!("../ptx/ranges.ptx"),
            Self::Select => include_str!("../ptx/select.ptx"),
            Self::Signature => include_str!("../ptx/signature.ptx"),
        }
    }
}

/// How long a kernel took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Its name.
    pub kernel: &'static str,
    /// Seconds of one launch.
    pub seconds: f64,
}

/// A device, opened.
pub struct Card {
    pub(crate) context: Arc<CudaContext>,
    ordinal: usize,
    name: String,
    /// How many blocks keep the whole device busy, for kernels of which each block takes what is left.
    pub(crate) busy: u32,
    modules: Mutex<BTreeMap<Theme, Arc<CudaModule>>>,
    functions: Mutex<BTreeMap<&'static str, CudaFunction>>,
    /// Streams that nobody uses at the moment.
    lanes: Mutex<Vec<Lane>>,
    /// How often each kernel is launched: more than once where it is timed.
    pub(crate) times: AtomicU32,
    timings: Mutex<Vec<Timing>>,
}

impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Card").field("ordinal", &self.ordinal).field("name", &self.name).finish_non_exhaustive()
    }
}

pub(crate) fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Card {
    /// Opens the device of this number.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where there is none, [`Error::Driver`] for one that does not open.
    pub fn open(ordinal: u32) -> Result<Self, Error> {
        let devices = probe()?;
        if ordinal as usize >= devices {
            return Err(Unavailable::NoSuchDevice(ordinal, devices).into());
        }
        let context = CudaContext::new(ordinal as usize).map_err(refused("to open the device"))?;
        // SAFETY: what lies on the device is of one stream and never used by another.
        unsafe { context.disable_event_tracking() };
        let name = context.name().map_err(refused("the name of the device"))?;
        let processors = cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let processors = context.attribute(processors).map_err(refused("how many processors there are"))?;
        Ok(Self {
            context,
            ordinal: ordinal as usize,
            name,
            busy: 4 * u32::try_from(processors).unwrap_or(0).max(1),
            modules: Mutex::default(),
            functions: Mutex::default(),
            lanes: Mutex::default(),
            times: AtomicU32::new(1),
            timings: Mutex::default(),
        })
    }

    /// What the driver calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    pub fn ordinal(&self) -> usize {
        self.ordinal
    }

    /// Bytes of its memory.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub fn memory(&self) -> Result<usize, Error> {
        self.context.total_mem().map_err(refused("how much memory there is"))
    }

    /// From now on each kernel is launched so many times, and it is noted how long one launch took. What kernels add up is
    /// then wrong.
    pub fn time(&self, times: u32) {
        self.times.store(times.max(1), Ordering::Relaxed);
    }

    /// What was noted since the last time.
    pub fn timings(&self) -> Vec<Timing> {
        std::mem::take(&mut *locked(&self.timings))
    }

    pub(crate) fn note(&self, kernel: &'static str, seconds: f64) {
        locked(&self.timings).push(Timing { kernel, seconds });
    }

    /// A kernel, loaded where that has not been done.
    pub(crate) fn function(&self, theme: Theme, name: &'static str) -> Result<CudaFunction, Error> {
        if let Some(function) = locked(&self.functions).get(name) {
            return Ok(function.clone());
        }
        self.context.bind_to_thread().map_err(refused("the device for a thread"))?;
        let mut modules = locked(&self.modules);
        let module = match modules.get(&theme) {
            Some(module) => module.clone(),
            None => {
                let module = self.context.load_module(Ptx::from_src(theme.ptx())).map_err(refused("kernels"))?;
                modules.entry(theme).or_insert(module).clone()
            }
        };
        let function = module.load_function(name).map_err(refused("a kernel"))?;
        locked(&self.functions).insert(name, function.clone());
        Ok(function)
    }

    /// A stream with its memory.
    pub(crate) fn lane(&self) -> Result<Lane, Error> {
        match locked(&self.lanes).pop() {
            Some(lane) => Ok(lane),
            None => Lane::new(&self.context),
        }
    }

    /// Takes a stream back.
    pub(crate) fn put_back(&self, lane: Lane) {
        locked(&self.lanes).push(lane);
    }
}
