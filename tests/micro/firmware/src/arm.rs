//! A Cortex-M under QEMU: semihosting, and SysTick as the clock.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, Ordering};

global_asm!(
    ".section .vectors, \"a\"",
    ".word stack_top, reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, 0, 0, 0, 0, 0",
    ".text",
    ".thumb_func",
    "reset:",
    // Registers of floats, in which copies are made too; where there are none this does nothing.
    "ldr r0, =0xe000ed88",
    "ldr r1, =0xf00000",
    "str r1, [r0]",
    "ldr r0, =bss_start",
    "ldr r1, =bss_end",
    "movs r2, #0",
    "bl fill",
    "ldr r0, =bss_end",
    "mov r1, sp",
    "ldr r2, =0xa5a5a5a5",
    "bl fill",
    // The vectors and constants are in flash, and nothing has a value to begin with but 0.
    "bl main",
    ".pool",
    ".thumb_func",
    "fill: cmp r0, r1",
    "bhs 1f",
    "str r2, [r0]",
    "adds r0, #4",
    "b fill",
    "1: bx lr",
    ".thumb_func",
    "fault: movs r0, #99",
    "bl niwaki_leave",
);

fn host(operation: u32, argument: *const u32) {
    // SAFETY: the argument is what the operation takes; QEMU changes no register but r0.
    unsafe { asm!("bkpt 0xab", inout("r0") operation => _, in("r1") argument) };
}

pub(crate) fn byte(byte: u8) {
    host(0x03, (&raw const byte).cast());
}

pub(crate) fn print(text: &str) {
    text.bytes().for_each(byte);
}

#[unsafe(export_name = "niwaki_leave")]
pub(crate) extern "C" fn leave(code: u32) -> ! {
    // The application ended, with this code.
    let reason = [0x20026, code];
    host(0x20, reason.as_ptr());
    loop {}
}

const TICKS: *mut u32 = 0xe000_e010 as *mut u32;
/// Loops of three instructions that tell how many a tick is.
const LOOPS: u32 = 100_000;

static LOOP_TICKS: AtomicU32 = AtomicU32::new(0);

fn restart() {
    // SAFETY: the three registers of SysTick.
    unsafe {
        TICKS.add(1).write_volatile(0xff_ffff);
        TICKS.add(2).write_volatile(0);
        TICKS.write_volatile(5);
    }
}

fn ticks() -> u32 {
    // SAFETY: as above.
    0xff_ffff - unsafe { TICKS.add(2).read_volatile() }
}

pub(crate) fn start() {
    restart();
    // SAFETY: it changes the register that it was given, and flags.
    unsafe { asm!("1: subs {n}, {n}, #1", "cmp {n}, #0", "bne 1b", n = inout(reg) LOOPS => _) };
    LOOP_TICKS.store(ticks(), Ordering::Relaxed);
    restart();
}

pub(crate) fn took() -> u32 {
    let instructions = u64::from(ticks()) * u64::from(3 * LOOPS);
    instructions.checked_div(LOOP_TICKS.load(Ordering::Relaxed).into()).unwrap_or(0) as u32
}
