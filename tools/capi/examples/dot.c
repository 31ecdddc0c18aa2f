/* Multiplies a tensor of a checkpoint with 1, 2, 4, 8, 16, ..
 *
 *     cc dot.c $(pkg-config --cflags --libs niwaki) -o dot
 *     ./dot tests/golden/example.safetensors w
 */
#include <niwaki.h>
#include <stdio.h>
#include <stdlib.h>

static void must(niwaki_status status, niwaki_error *error) {
    if (status != NIWAKI_STATUS_OK) {
        fprintf(stderr, "%s\n", niwaki_error_message(error).bytes);
        exit(1);
    }
}

int main(int argc, char **argv) {
    niwaki_error *error = NULL;
    niwaki_artifact *model = NULL;
    niwaki_operand *weights = NULL;
    size_t index;
    if (argc != 3) {
        fprintf(stderr, "usage: dot FILE TENSOR\n");
        return 2;
    }
    must(niwaki_open(argv[1], &model, &error), error);
    must(niwaki_tensor_find(model, argv[2], &index, &error), error);
    must(niwaki_prepare(model, index, NULL, &weights, &error), error);
    niwaki_artifact_free(model); /* the weights keep what they need */

    niwaki_operand_info_t info = niwaki_operand_info(weights);
    size_t bytes = niwaki_product_scratch(weights, NIWAKI_PRECISION_FULL, 1);
    niwaki_scratch scratch = {aligned_alloc(NIWAKI_SCRATCH_ALIGNMENT, bytes + NIWAKI_SCRATCH_ALIGNMENT), bytes};
    float *x = malloc(4 * info.cols), *y = malloc(4 * info.rows);
    for (size_t at = 0; at < info.cols; at++) {
        x[at] = at ? 2 * x[at - 1] : 1;
    }
    niwaki_inputs in = {x, info.cols, NIWAKI_PRECISION_FULL};
    niwaki_outputs out = {y, info.rows};
    must(niwaki_gemv(weights, (niwaki_rows){0, info.rows}, in, out, scratch, &error), error);
    for (size_t at = 0; at < info.rows; at++) {
        printf("%g%c", y[at], at + 1 < info.rows ? ' ' : '\n');
    }
    free(x), free(y), free(scratch.data);
    niwaki_operand_free(weights);
    return 0;
}
