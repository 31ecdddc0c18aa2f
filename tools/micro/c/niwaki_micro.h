/* Runs networks in 8-bit integers. C99, no allocator, no floats, no library.
 *
 * Codes q stand for numbers x = scale (q - zero). Values lie in the arena as rows, columns, channels. The arithmetic is
 * that of the Rust crate niwaki-micro, bit for bit; its page says it step by step. Signed numbers are two's complement
 * and shifts to the right keep the sign, as with every compiler for the machines that this is for.
 */
#ifndef NIWAKI_MICRO_H
#define NIWAKI_MICRO_H

#include <stddef.h>
#include <stdint.h>

/* Codes of weights, and what a row of them has besides. */
typedef struct {
    int32_t bias;
    int32_t multiplier;
    uint8_t shift;
} niwaki_row;

/* Codes have 8 or 4 bits. Where there is a mask, it has a bit for each weight, and codes are those of the weights whose bit is
 * set. Where there are planes, codes are so many planes of bits, the most significant first, one behind the other. */
typedef struct {
    const uint8_t *codes;
    const niwaki_row *rows;
    uint32_t cols;
    uint8_t bits, planes;
    const uint8_t *mask;
} niwaki_weights;

enum niwaki_work {
    NIWAKI_CONV = 1,
    NIWAKI_MAX_POOL = 2,
    NIWAKI_AVERAGE_POOL = 3,
    NIWAKI_ADD = 4,
    NIWAKI_RESCALE = 5,
    NIWAKI_SOFTMAX = 6
};

typedef struct {
    uint8_t work;
    uint8_t onto; /* whether a convolution is added onto what lies where its output goes */
    int8_t low, high;
    int8_t input_zero, output_zero, onto_zero;
    uint8_t shift;
    uint32_t input, output, scratch; /* places in the arena */
    uint16_t in[3], out[3];          /* rows, columns, channels */
    uint16_t kernel[2];
    uint8_t stride[2], dilation[2], before[2];
    uint16_t groups;
    int32_t multiplier, onto_times;
    const niwaki_weights *weights;
    const uint32_t *table;
} niwaki_step;

typedef struct {
    const niwaki_step *steps;
    uint32_t count;
    uint32_t input, output; /* where in the arena their codes are */
    uint32_t inputs, outputs; /* how many */
} niwaki_model;

/* Runs a model: the codes of its input lie at arena + model->input, those of its output are at what is returned, which is in
 * the arena too. The arena has as many bytes as the model's header says, and begins at a multiple of 4. */
const int8_t *niwaki_run(const niwaki_model *model, int8_t *arena);

/* The place of the largest of some codes, the first of several. */
uint32_t niwaki_largest(const int8_t *codes, uint32_t count);

#endif
