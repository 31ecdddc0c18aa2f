//! QEMU's `virt` with a RISC-V: a serial port, and the counter of instructions as the clock.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, Ordering};

global_asm!(
    ".section .vectors, \"ax\"",
    "la sp, stack_top",
    "la t0, fault",
    "csrw mtvec, t0",
    "la t0, bss_start",
    "la t1, bss_end",
    "1: bgeu t0, t1, 2f",
    "sw zero, 0(t0)",
    "addi t0, t0, 4",
    "j 1b",
    "2: li t2, 0xa5a5a5a5",
    "3: bgeu t0, sp, 4f",
    "sw t2, 0(t0)",
    "addi t0, t0, 4",
    "j 3b",
    "4: call main",
    ".balign 4",
    "fault: li a0, 99",
    "call niwaki_leave",
);

pub(crate) fn byte(byte: u8) {
    // SAFETY: where the serial port takes bytes.
    unsafe { (0x1000_0000 as *mut u8).write_volatile(byte) };
}

pub(crate) fn print(text: &str) {
    text.bytes().for_each(byte);
}

#[unsafe(export_name = "niwaki_leave")]
pub(crate) extern "C" fn leave(code: u32) -> ! {
    let said = if code == 0 { 0x5555 } else { code << 16 | 0x3333 };
    // SAFETY: the device that ends the machine.
    unsafe { (0x10_0000 as *mut u32).write_volatile(said) };
    loop {}
}

static SINCE: AtomicU32 = AtomicU32::new(0);

fn instructions() -> u32 {
    let count;
    // SAFETY: it reads a counter.
    unsafe { asm!("csrr {}, minstret", out(reg) count) };
    count
}

pub(crate) fn start() {
    SINCE.store(instructions(), Ordering::Relaxed);
}

pub(crate) fn took() -> u32 {
    instructions().wrapping_sub(SINCE.load(Ordering::Relaxed))
}
