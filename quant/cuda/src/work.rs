//! One piece of work on a stream.
//!
//! ```text
//! host     pinned up   [input 0 | input 1 | ..]                 pinned down [output 0 | output 1 | ..]
//!               │ upload                                             ▲ download
//! device   arena up    [input 0 | input 1 | ..] ──> kernels ──> arena down [output 0 | output 1 | ..]
//! ```
//!
//! Parts begin at multiples of 256 bytes. Memory grows to what was needed and stays with the stream. An output that begins
//! with something is an input of that name: [`Work::begin_with`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, LaunchConfig, PinnedHostSlice, PushKernelArg};

use crate::card::Theme;
use crate::error::{exactly, refused};
use crate::{Card, Error};

/// Where parts of memory begin.
const ALIGNMENT: usize = 256;

/// Memory of the host that the device reaches, and as much on the device.
struct Arena {
    host: PinnedHostSlice<u8>,
    device: CudaSlice<u8>,
    address: u64,
}

/// A stream and its memory: nobody else's.
pub(crate) struct Lane {
    stream: Arc<CudaStream>,
    up: Option<Arena>,
    down: Option<Arena>,
}

impl Lane {
    pub(crate) fn new(context: &Arc<CudaContext>) -> Result<Self, Error> {
        let stream = context.new_stream().map_err(refused("a stream"))?;
        Ok(Self { stream, up: None, down: None })
    }
}

/// Whether memory is kept for the next work. Programs with debug assertions take it anew each time and no more than is
/// needed, so that the emulator sees whoever reads what another work left, or goes beyond the end.
const KEEPS: bool = !cfg!(debug_assertions);

/// Memory of at least so many bytes.
fn arena(kept: &mut Option<Arena>, stream: &Arc<CudaStream>, bytes: usize) -> Result<(), Error> {
    if kept.as_ref().is_some_and(|arena| KEEPS && arena.host.len() >= bytes) {
        return Ok(());
    }
    *kept = None;
    let bytes = if KEEPS { bytes.next_power_of_two().max(1 << 16) } else { bytes.max(1) };
    // SAFETY: numbers of eight bits have no wrong value, and nothing is read that was not written.
    let (host, device) = unsafe {
        let host = stream.context().alloc_pinned_with_flags::<u8>(bytes, 0).map_err(refused("pinned memory"))?;
        (host, stream.alloc::<u8>(bytes).map_err(refused("memory of the device"))?)
    };
    let address = device.device_ptr(stream).0;
    *kept = Some(Arena { host, device, address });
    Ok(())
}

/// What a kernel is given.
#[derive(Clone, Copy)]
pub(crate) enum Arg {
    U32(u32),
    /// A number or an address.
    U64(u64),
    F32(f32),
    F64(f64),
}

/// A kernel and its grid.
pub(crate) struct Launch {
    pub(crate) theme: Theme,
    pub(crate) kernel: &'static str,
    pub(crate) blocks: (u32, u32),
    pub(crate) threads: u32,
    pub(crate) shared: usize,
}

/// A stream that is at work.
pub(crate) struct Work<'c> {
    card: &'c Card,
    lane: Option<Lane>,
    /// Where inputs and outputs begin and how long they are.
    inputs: Vec<(usize, usize)>,
    outputs: Vec<(usize, usize)>,
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.take() {
            // What was begun has to end before the memory is used again.
            if lane.stream.synchronize().is_ok() {
                self.card.put_back(lane);
            }
        }
    }
}

/// Parts one after the other, and where the last ends.
fn laid_out(sizes: &[usize]) -> (Vec<(usize, usize)>, usize) {
    let mut end = 0;
    let mut place = |size: &usize| {
        let start = end;
        end = (start + size).next_multiple_of(ALIGNMENT).max(start + ALIGNMENT);
        (start, *size)
    };
    (sizes.iter().map(&mut place).collect(), end)
}

impl Card {
    /// Begins work with inputs and outputs of so many bytes.
    pub(crate) fn work(&self, inputs: &[usize], outputs: &[usize]) -> Result<Work<'_>, Error> {
        self.context.bind_to_thread().map_err(refused("the device for a thread"))?;
        let mut lane = self.lane()?;
        let ((inputs, up), (outputs, down)) = (laid_out(inputs), laid_out(outputs));
        arena(&mut lane.up, &lane.stream, up)?;
        arena(&mut lane.down, &lane.stream, down)?;
        Ok(Work { card: self, lane: Some(lane), inputs, outputs })
    }

    /// Copies so many bytes on the device, for the time that it takes ([`time`](Self::time)): what kernels that wait for
    /// memory are measured by.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub fn copy(&self, bytes: usize) -> Result<(), Error> {
        let times = self.times.load(Ordering::Relaxed);
        let mut work = self.work(&[bytes], &[bytes])?;
        let Lane { stream, up, down } = work.lane()?;
        let (Some(up), Some(down)) = (up.as_ref(), down.as_mut()) else { return Ok(()) };
        let mut to = down.device.slice_mut(..bytes);
        let mut run = || stream.memcpy_dtod(&up.device.slice(..bytes), &mut to).map_err(refused("to copy"));
        run()?;
        stream.synchronize().map_err(refused("a copy"))?;
        let start = Instant::now();
        (0..times).try_for_each(|_| run())?;
        stream.synchronize().map_err(refused("a copy"))?;
        self.note("copy", start.elapsed().as_secs_f64() / f64::from(times));
        Ok(())
    }
}

impl Work<'_> {
    fn lane(&mut self) -> Result<&mut Lane, Error> {
        // It is gone when the work is.
        self.lane.as_mut().ok_or(Error::Driver { doing: "work", said: "it has ended".to_owned() })
    }

    /// The address of an input.
    pub(crate) fn input(&self, nth: usize) -> Arg {
        let base = self.lane.as_ref().and_then(|lane| lane.up.as_ref()).map_or(0, |arena| arena.address);
        Arg::U64(base + self.inputs[nth].0 as u64)
    }

    /// The address of an output.
    pub(crate) fn output(&self, nth: usize) -> Arg {
        let base = self.lane.as_ref().and_then(|lane| lane.down.as_ref()).map_or(0, |arena| arena.address);
        Arg::U64(base + self.outputs[nth].0 as u64)
    }

    /// Brings an input to the device.
    pub(crate) fn upload(&mut self, nth: usize, bytes: &[u8]) -> Result<(), Error> {
        exactly("input", self.inputs[nth].1, bytes.len())?;
        self.upload_some(nth, bytes)
    }

    /// Brings the beginning of an input to the device.
    pub(crate) fn upload_some(&mut self, nth: usize, bytes: &[u8]) -> Result<(), Error> {
        let (start, len) = self.inputs[nth];
        exactly("input", len.max(bytes.len()), len)?;
        let Lane { stream, up, .. } = self.lane()?;
        copy_up(stream, up.as_mut(), start, bytes)
    }

    /// Brings what an output begins with to the device.
    pub(crate) fn begin_with(&mut self, nth: usize, bytes: &[u8]) -> Result<(), Error> {
        let (start, len) = self.outputs[nth];
        exactly("output", len, bytes.len())?;
        let Lane { stream, down, .. } = self.lane()?;
        copy_up(stream, down.as_mut(), start, bytes)
    }

    /// Fills an output with zeros.
    pub(crate) fn clear(&mut self, nth: usize) -> Result<(), Error> {
        let (start, len) = self.outputs[nth];
        let Lane { stream, down, .. } = self.lane()?;
        let Some(arena) = down.as_mut().filter(|_| len > 0) else { return Ok(()) };
        stream.memset_zeros(&mut arena.device.slice_mut(start..start + len)).map_err(refused("to clear memory"))
    }

    /// Starts a kernel. Addresses among its arguments are of this work's inputs and outputs.
    pub(crate) fn launch(&mut self, launch: &Launch, args: &[Arg]) -> Result<(), Error> {
        let function = self.card.function(launch.theme, launch.kernel)?;
        let times = self.card.times.load(Ordering::Relaxed);
        let config = LaunchConfig {
            grid_dim: (launch.blocks.0, launch.blocks.1, 1),
            block_dim: (launch.threads, 1, 1),
            shared_mem_bytes: u32::try_from(launch.shared).unwrap_or(u32::MAX),
        };
        let card = self.card;
        let Lane { stream, .. } = self.lane()?;
        let run = || {
            let mut builder = stream.launch_builder(&function);
            for arg in args {
                match arg {
                    Arg::U32(x) => builder.arg(x),
                    Arg::U64(x) => builder.arg(x),
                    Arg::F32(x) => builder.arg(x),
                    Arg::F64(x) => builder.arg(x),
                };
            }
            // SAFETY: the wrappers beside give each kernel what it takes, and memory as long as it reaches.
            unsafe { builder.launch(config) }.map_err(refused("to launch a kernel"))
        };
        run()?;
        if times > 1 {
            stream.synchronize().map_err(refused("a kernel"))?;
            let start = Instant::now();
            (0..times).try_for_each(|_| run().map(|_| ()))?;
            stream.synchronize().map_err(refused("a kernel"))?;
            card.note(launch.kernel, start.elapsed().as_secs_f64() / f64::from(times));
        }
        Ok(())
    }

    /// Waits for what was begun, after which inputs may be brought anew.
    pub(crate) fn wait(&mut self) -> Result<(), Error> {
        self.lane()?.stream.synchronize().map_err(refused("what was launched"))
    }

    /// Brings one output back and waits for it.
    pub(crate) fn read<T: bytemuck::Pod>(&mut self, nth: usize) -> Result<&[T], Error> {
        let place = self.outputs[nth];
        let Lane { stream, down, .. } = self.lane()?;
        let Some(arena) = down.as_mut() else { return Ok(&[]) };
        copy_down(stream, arena, place)?;
        stream.synchronize().map_err(refused("what was launched"))?;
        let bytes = arena.host.as_slice().map_err(refused("pinned memory"))?;
        Ok(bytemuck::cast_slice(&bytes[place.0..place.0 + place.1]))
    }

    /// Brings all outputs back and waits for them.
    pub(crate) fn download(&mut self) -> Result<Outputs<'_>, Error> {
        let Self { lane, outputs, .. } = self;
        let lane = lane.as_mut().ok_or(Error::Driver { doing: "work", said: "it has ended".to_owned() })?;
        let Some(arena) = lane.down.as_mut() else { return Ok(Outputs { bytes: &[], places: outputs }) };
        outputs.iter().try_for_each(|place| copy_down(&lane.stream, arena, *place))?;
        lane.stream.synchronize().map_err(refused("what was launched"))?;
        Ok(Outputs { bytes: arena.host.as_slice().map_err(refused("pinned memory"))?, places: outputs })
    }
}

fn copy_up(stream: &Arc<CudaStream>, arena: Option<&mut Arena>, start: usize, bytes: &[u8]) -> Result<(), Error> {
    let Some(arena) = arena.filter(|_| !bytes.is_empty()) else { return Ok(()) };
    let host = &mut arena.host.as_mut_slice().map_err(refused("pinned memory"))?[start..start + bytes.len()];
    host.copy_from_slice(bytes);
    let mut device = arena.device.slice_mut(start..start + bytes.len());
    stream.memcpy_htod(host, &mut device).map_err(refused("to copy to the device"))
}

fn copy_down(stream: &Arc<CudaStream>, arena: &mut Arena, (start, len): (usize, usize)) -> Result<(), Error> {
    if len == 0 {
        return Ok(());
    }
    let host = &mut arena.host.as_mut_slice().map_err(refused("pinned memory"))?[start..start + len];
    let device = arena.device.slice(start..start + len);
    stream.memcpy_dtoh(&device, host).map_err(refused("to copy to the host"))
}

/// What came of some work, until the next.
pub(crate) struct Outputs<'w> {
    bytes: &'w [u8],
    places: &'w [(usize, usize)],
}

impl<'w> Outputs<'w> {
    /// The bytes of an output, at an address that 8 divides.
    pub(crate) fn get(&self, nth: usize) -> &'w [u8] {
        let (start, len) = self.places[nth];
        self.bytes.get(start..start + len).unwrap_or(&[])
    }

    /// An output as numbers.
    pub(crate) fn numbers<T: bytemuck::Pod>(&self, nth: usize) -> &'w [T] {
        bytemuck::cast_slice(self.get(nth))
    }
}

/// Blocks of so many threads for so many elements.
pub(crate) fn blocks(elements: usize, threads: usize) -> Result<u32, Error> {
    crate::error::small("elements", elements.div_ceil(threads).max(1))
}
