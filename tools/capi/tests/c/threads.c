/* Many threads on the same handles: threads FILE. Each takes some rows of a product; all together they must be
 * the bits of the whole. Others open, verify and free at the same time. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>

enum { THREADS = 4, TURNS = 50, COUNT = 3 };

struct share {
    const niwaki_artifact *artifact;
    const niwaki_operand *operand;
    const char *path;
    const float *x;
    const float *whole[2];
    const float *weights;
    size_t first, last;
};

static void *work(void *argument) {
    struct share *share = argument;
    niwaki_operand_info_t info = niwaki_operand_info(share->operand);
    niwaki_rows rows = {share->first, share->last};
    size_t n = rows.end - rows.start;
    float *y = malloc(4 * COUNT * n + 1), *out = malloc(4 * n * info.cols + 1);
    niwaki_error *error = NULL;
    for (int turn = 0; turn < TURNS; turn++) {
        for (uint32_t precision = 0; precision < 2; precision++) {
            niwaki_scratch scratch = scratch_of(niwaki_product_scratch(share->operand, precision, COUNT));
            niwaki_inputs x = {share->x, COUNT * info.cols, precision};
            MUST(niwaki_gemm(share->operand, rows, x, (niwaki_outputs){y, COUNT * n}, scratch, &error));
            for (int input = 0; input < COUNT; input++) {
                const float *right = share->whole[precision] + input * info.rows + rows.start;
                CHECK(memcmp(y + input * n, right, 4 * n) == 0);
            }
            free(scratch.data);
        }
        niwaki_scratch scratch = scratch_of(niwaki_dequantize_scratch(share->operand));
        niwaki_weights to = {out, n * info.cols, NIWAKI_FLOAT_TYPE_F32};
        MUST(niwaki_dequantize(share->operand, rows, to, scratch, &error));
        CHECK(memcmp(out, share->weights + rows.start * info.cols, 4 * n * info.cols) == 0);
        free(scratch.data);

        /* Errors are each thread's own. */
        niwaki_artifact *none = NULL;
        CHECK(niwaki_open("no.safetensors", &none, &error) == NIWAKI_STATUS_CALLER);
        CHECK(strstr(niwaki_error_message(error).bytes, "no.safetensors"));
        niwaki_error_free(error);
        if (turn % 10 == 0) {
            niwaki_artifact_free(open_path(share->path));
            niwaki_verification *found = NULL;
            MUST(niwaki_verify(share->artifact, 2, &found, &error));
            CHECK(niwaki_verification_count(found) == 0);
            niwaki_verification_free(found);
        }
    }
    free(y);
    free(out);
    return NULL;
}

static void shared(const niwaki_artifact *artifact, const char *path, size_t index) {
    niwaki_operand *operand = prepare(artifact, index, NULL);
    niwaki_operand_info_t info = niwaki_operand_info(operand);
    niwaki_error *error = NULL;
    float *x = malloc(4 * COUNT * info.cols + 1), *whole[2], *weights = decoded(operand);
    fill(x, COUNT * info.cols, 3);
    for (uint32_t precision = 0; precision < 2; precision++) {
        whole[precision] = malloc(4 * COUNT * info.rows + 1);
        niwaki_scratch scratch = scratch_of(niwaki_product_scratch(operand, precision, COUNT));
        niwaki_inputs in = {x, COUNT * info.cols, precision};
        niwaki_outputs out = {whole[precision], COUNT * info.rows};
        MUST(niwaki_gemm(operand, (niwaki_rows){0, info.rows}, in, out, scratch, &error));
        free(scratch.data);
    }
    pthread_t threads[THREADS];
    struct share shares[THREADS];
    for (size_t at = 0; at < THREADS; at++) {
        size_t first = info.rows * at / THREADS, last = info.rows * (at + 1) / THREADS;
        shares[at] = (struct share){artifact, operand, path, x, {whole[0], whole[1]}, weights, first, last};
        CHECK(pthread_create(&threads[at], NULL, work, &shares[at]) == 0);
    }
    for (size_t at = 0; at < THREADS; at++) {
        CHECK(pthread_join(threads[at], NULL) == 0);
    }
    free(x), free(whole[0]), free(whole[1]), free(weights);
    niwaki_operand_free(operand);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    niwaki_artifact *artifact = open_path(argv[1]);
    size_t count = niwaki_tensor_count(artifact);
    for (size_t index = 0; index < count; index++) {
        shared(artifact, argv[1], index);
    }
    niwaki_artifact_free(artifact);
    printf("%zu tensors shared by %d threads\n", count, THREADS);
    return 0;
}
