/* What a test needs of a board: text out, an exit code, a clock, and how deep the stack went. */
#ifndef BOARD_H
#define BOARD_H
#include <stdint.h>

void board_print(const char *text);
void board_clock_start(void);
/* Instructions since the clock was started, as far as a tick tells. */
uint32_t board_clock(void);
uint32_t board_stack(void);

#endif
