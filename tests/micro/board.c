/* Startup, semihosting, clock and stack of a Cortex-M under QEMU. With `-icount shift=0` an instruction takes a nanosecond
 * and ticks repeat exactly: how many instructions a tick is, a loop of known length tells. */
#include "board.h"

extern uint32_t stack_top, data_start, data_end, data_load, bss_start, bss_end;
int main(void);

#define PAINT 0xa5a5a5a5u

static int host(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void board_print(const char *text) { host(0x04, text); }

static void leave(int code) {
    const uint32_t reason[2] = {0x20026, (uint32_t)code}; /* the application ended, with this code */
    host(0x20, reason);
    for (;;) {
    }
}

/* --- clock ----------------------------------------------------------------------------------------------------------- */

#define TICKS ((volatile uint32_t *)0xe000e010)
#define LOOPS 100000u

static uint32_t loop_ticks;

static void start(void) {
    TICKS[1] = 0xffffff;
    TICKS[2] = 0;
    TICKS[0] = 5;
}

static uint32_t ticks(void) { return 0xffffffu - TICKS[2]; }

void board_clock_start(void) {
    uint32_t n = LOOPS;
    start();
    __asm__ volatile("1: sub %0, %0, #1\n cmp %0, #0\n bne 1b" : "+l"(n) : : "cc");
    loop_ticks = ticks();
    start();
}

uint32_t board_clock(void) {
    const uint64_t instructions = (uint64_t)ticks() * (3 * LOOPS);
    return loop_ticks ? (uint32_t)(instructions / loop_ticks) : 0;
}

/* --- stack ----------------------------------------------------------------------------------------------------------- */

uint32_t board_stack(void) {
    const uint32_t *deepest = &bss_end;
    while (*deepest == PAINT) deepest++;
    return (uint32_t)((uintptr_t)&stack_top - (uintptr_t)deepest);
}

/* --- startup --------------------------------------------------------------------------------------------------------- */

static void fault(void) {
    board_print("fault\n");
    leave(99);
}

void reset(void) {
    const uint32_t *from = &data_load;
    for (uint32_t *to = &data_start; to < &data_end;) *to++ = *from++;
    for (uint32_t *to = &bss_start; to < &bss_end;) *to++ = 0;
    /* What lies below this frame is free. */
    for (uint32_t *to = &bss_end; to < (uint32_t *)__builtin_frame_address(0) - 16;) *to++ = PAINT;
    leave(main());
}

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    &stack_top, (void *)reset, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault,
};

/* What the compiler calls even where no library is asked for. */
void *memcpy(void *to, const void *from, __SIZE_TYPE__ n) {
    char *t = to;
    for (const char *f = from; n--;) *t++ = *f++;
    return to;
}

void *memset(void *to, int byte, __SIZE_TYPE__ n) {
    for (char *t = to; n--;) *t++ = (char)byte;
    return to;
}
