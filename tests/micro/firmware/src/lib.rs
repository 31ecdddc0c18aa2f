//! A device image and what it makes on the host, built into a program without `std`.
//!
//! `NIWAKI_IMAGE` names the image, `NIWAKI_VECTORS` what `device-vectors` wrote of it, when this is compiled. The panic handler
//! calls a function that nobody defines: a program that links has no path that panics.
#![no_std]

use core::panic::PanicInfo;

use niwaki_micro::{Image, largest, run};

static IMAGE: &[u8] = include_bytes!(env!("NIWAKI_IMAGE"));
static VECTORS: &[u8] = include_bytes!(env!("NIWAKI_VECTORS"));

/// The most bytes of an arena that a program has room for.
pub const ARENA: usize = 7936;

/// What came out of all examples.
#[derive(Clone, Copy, Default)]
pub struct Seen {
    /// Examples of which every code is the host's.
    pub equal: u32,
    /// Examples.
    pub all: u32,
    /// Examples whose largest code is at the label.
    pub right: u32,
    /// The most that one of them took by the clock.
    pub most: u32,
}

/// Runs all examples. `start` sets a clock to 0, `took` reads it. None where the image is none, or needs a larger arena.
pub fn compare(arena: &mut [i8; ARENA], start: fn(), took: fn() -> u32) -> Option<Seen> {
    let image = Image::parse(IMAGE).ok()?;
    let [takes, makes] = [image.input(), image.output()].map(|place| place.area.len());
    let mut seen = Seen::default();
    let mut rest = codes(VECTORS);
    // Of each example the codes that go in, those that come out, and the label.
    while let Some((input, behind)) = rest.split_at_checked(takes) {
        let (output, behind) = behind.split_at_checked(makes)?;
        let (label, behind) = behind.split_first()?;
        rest = behind;
        start();
        let made = run(&image, input, arena).ok()?;
        seen.most = seen.most.max(took());
        seen.all += 1;
        seen.equal += u32::from(made == output);
        seen.right += u32::from(largest(made) == usize::try_from(*label).ok());
    }
    Some(seen)
}

/// Bytes as codes with signs.
fn codes(bytes: &[u8]) -> &[i8] {
    // SAFETY: of the same size and alignment, and every byte is a code.
    unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}

unsafe extern "C" {
    /// Defined nowhere.
    safe fn niwaki_panic_path_survived() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    niwaki_panic_path_survived()
}

/// How many examples were equal, how many there are, and how many were right: 16 bits each, the first the lowest; 0 where nothing
/// could be run.
#[cfg(target_arch = "wasm32")]
#[unsafe(no_mangle)]
pub extern "C" fn compared() -> u64 {
    let mut arena = [0; ARENA];
    let seen = compare(&mut arena, || (), || 0).unwrap_or_default();
    u64::from(seen.equal) | u64::from(seen.all) << 16 | u64::from(seen.right) << 32
}
