/* Runs a model on the inputs of vectors.h, and compares every code of every output with what the host made.
 * Prints `equal N of M, right N, instructions N, stack N`; 0 where all are equal. */
#include "model.h"
#include "vectors.h"

#ifdef HOST
#include <stdio.h>
static void board_print(const char *text) { fputs(text, stdout); }
static void board_clock_start(void) {}
static uint32_t board_clock(void) { return 0; }
static uint32_t board_stack(void) { return 0; }
#else
#include "board.h"
#endif

static int8_t arena[MODEL_ARENA] __attribute__((aligned(4)));

static void number(const char *before, uint32_t x) {
    char text[11];
    char *at = text + 10;
    *at = 0;
    do {
        *--at = (char)('0' + x % 10);
        x /= 10;
    } while (x);
    board_print(before);
    board_print(at);
}

int main(void) {
    uint32_t equal = 0, right = 0, instructions = 0;
    for (uint32_t nth = 0; nth < VECTORS; nth++) {
        for (uint32_t i = 0; i < MODEL_INPUTS; i++) arena[MODEL_INPUT_AT + i] = inputs[nth][i];
        board_clock_start();
        const int8_t *made = niwaki_run(&model, arena);
        const uint32_t took = board_clock();
        uint32_t same = 1;
        for (uint32_t i = 0; i < MODEL_OUTPUTS; i++) same &= made[i] == outputs[nth][i];
        equal += same;
        right += niwaki_largest(made, MODEL_OUTPUTS) == labels[nth];
        if (took > instructions) instructions = took;
    }
    number("equal ", equal);
    number(" of ", VECTORS);
    number(", right ", right);
    number(", instructions ", instructions);
    number(", stack ", board_stack());
    board_print("\n");
    return equal != VECTORS;
}
