//! The program of a board: text out, an exit code, a clock, and how deep the stack went, as in `board.c`.
#![no_std]
#![no_main]

#[cfg_attr(target_arch = "arm", path = "arm.rs")]
#[cfg_attr(target_arch = "riscv32", path = "riscv.rs")]
mod board;

use core::ptr::{addr_of, addr_of_mut, read_volatile};

use niwaki_firmware::{ARENA, compare};

static mut CODES: [i8; ARENA] = [0; ARENA];

unsafe extern "C" {
    static bss_end: u32;
    static stack_top: u32;
}

/// What the startup code writes below the stack.
const PAINT: u32 = 0xa5a5_a5a5;

/// Bytes of the stack that were used.
fn stack() -> u32 {
    let (mut at, top) = (addr_of!(bss_end), addr_of!(stack_top));
    // SAFETY: between these two is nothing but the stack.
    while at < top && unsafe { read_volatile(at) } == PAINT {
        at = at.wrapping_add(1);
    }
    (top as usize - at as usize) as u32
}

fn number(before: &str, mut x: u32) {
    board::print(before);
    let mut digits = [0u8; 10];
    let mut at = digits.iter_mut().rev();
    let mut count = 0;
    while let Some(digit) = at.next() {
        *digit = b'0' + (x % 10) as u8;
        (x, count) = (x / 10, count + 1);
        if x == 0 {
            break;
        }
    }
    digits.iter().skip(10 - count).for_each(|digit| board::byte(*digit));
}

/// Called by the startup code; never returns.
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    // SAFETY: nothing else names it, and this function is entered once.
    let arena = unsafe { &mut *addr_of_mut!(CODES) };
    let Some(seen) = compare(arena, board::start, board::took) else {
        board::print("no image that this runs\n");
        board::leave(2);
    };
    number("equal ", seen.equal);
    number(" of ", seen.all);
    number(", right ", seen.right);
    number(", instructions ", seen.most);
    number(", stack ", stack());
    board::print("\n");
    board::leave(u32::from(seen.equal != seen.all || seen.all == 0))
}
