/* What the tests in C share: a check that ends the program, and calls that must succeed. */
#ifndef CHECK_H
#define CHECK_H

#include <math.h>
#include <niwaki.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(right)                                                            \
    do {                                                                        \
        if (!(right)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #right); \
            exit(1);                                                            \
        }                                                                       \
    } while (0)

/* Ends the program where a call has failed. */
static void must(niwaki_status status, niwaki_error *error) {
    if (status != NIWAKI_STATUS_OK) {
        fprintf(stderr, "status %d: %s\n", (int)status, niwaki_error_message(error).bytes);
        exit(1);
    }
}

#define MUST(call) must(call, error)

static niwaki_artifact *open_path(const char *path) {
    niwaki_artifact *artifact = NULL;
    niwaki_error *error = NULL;
    MUST(niwaki_open(path, &artifact, &error));
    return artifact;
}

static inline niwaki_operand *prepare(const niwaki_artifact *artifact, size_t index, const niwaki_preparation *how) {
    niwaki_operand *operand = NULL;
    niwaki_error *error = NULL;
    MUST(niwaki_prepare(artifact, index, how, &operand, &error));
    return operand;
}

/* Scratch of so many bytes; free its data. */
static inline niwaki_scratch scratch_of(size_t bytes) {
    niwaki_scratch scratch = {NULL, bytes};
    if (bytes > 0) {
        size_t whole = (bytes + NIWAKI_SCRATCH_ALIGNMENT - 1) / NIWAKI_SCRATCH_ALIGNMENT * NIWAKI_SCRATCH_ALIGNMENT;
        scratch.data = aligned_alloc(NIWAKI_SCRATCH_ALIGNMENT, whole);
        CHECK(scratch.data);
    }
    return scratch;
}

/* All weights of an operand as floats; free them. */
static inline float *decoded(const niwaki_operand *operand) {
    niwaki_operand_info_t info = niwaki_operand_info(operand);
    niwaki_scratch scratch = scratch_of(niwaki_dequantize_scratch(operand));
    size_t count = info.rows * info.cols;
    float *weights = malloc(4 * count + 1);
    CHECK(weights);
    niwaki_weights out = {weights, count, NIWAKI_FLOAT_TYPE_F32};
    niwaki_error *error = NULL;
    MUST(niwaki_dequantize(operand, (niwaki_rows){0, info.rows}, out, scratch, &error));
    free(scratch.data);
    return weights;
}

/* Numbers between -1 and 1, always the same. */
static inline void fill(float *x, size_t count, uint32_t seed) {
    for (size_t at = 0; at < count; at++) {
        seed = seed * 1664525u + 1013904223u;
        x[at] = (float)(seed >> 8) / 8388608.0f - 1.0f;
    }
}

#endif
