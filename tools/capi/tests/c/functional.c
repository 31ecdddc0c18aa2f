/* Every function of the library, on the golden files: functional FOLDER */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <fcntl.h>
#include <unistd.h>

static char path_of_buffer[2][4096];

static const char *path_of(const char *folder, const char *name, const char *suffix) {
    static int turn;
    char *path = path_of_buffer[turn ^= 1];
    snprintf(path, sizeof path_of_buffer[0], "%s/%s%s.safetensors", folder, name, suffix);
    return path;
}

static uint8_t *read_whole(const char *path, size_t *len) {
    FILE *file = fopen(path, "rb");
    CHECK(file);
    CHECK(fseek(file, 0, SEEK_END) == 0);
    *len = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(*len);
    CHECK(bytes && fread(bytes, 1, *len, file) == *len);
    fclose(file);
    return bytes;
}

static int same_text(niwaki_text a, niwaki_text b) {
    return a.len == b.len && memcmp(a.bytes, b.bytes, a.len) == 0 && a.bytes[a.len] == 0;
}

/* Checks that a call fails so, and frees the error. */
static void fails(niwaki_status status, niwaki_error *error, niwaki_status expected, const char *message) {
    niwaki_text has = niwaki_error_message(error);
    if (status != expected || !has.bytes || strcmp(has.bytes, message)) {
        fprintf(stderr, "status %d, `%s`; expected %d, `%s`\n", (int)status, has.bytes, (int)expected, message);
        exit(1);
    }
    CHECK(has.len == strlen(message));
    CHECK(niwaki_error_status(error) == expected);
    niwaki_error_free(error);
}

#define FAILS(call, expected, message)                    \
    do {                                                  \
        niwaki_error *error = NULL;                       \
        niwaki_status status = call;                      \
        fails(status, error, expected, message);          \
    } while (0)
#define REFUSES(call, message) FAILS(call, NIWAKI_STATUS_CALLER, message)

/* Path, bytes and descriptor give the same; nothing of the three is needed any more once it is open. */
static void openers(const char *folder) {
    const char *path = path_of(folder, "mixed", "");
    niwaki_error *error = NULL;
    size_t len;
    uint8_t *bytes = read_whole(path, &len);
    niwaki_artifact *all[3] = {open_path(path), NULL, NULL};
    MUST(niwaki_open_bytes(bytes, len, &all[1], &error));
    int fd = open(path, O_RDONLY);
    MUST(niwaki_open_fd(fd, &all[2], &error));
    close(fd);
    uint8_t digests[3][32];
    for (int i = 0; i < 3; i++) {
        CHECK(niwaki_tensor_count(all[i]) == 12);
        MUST(niwaki_digest(all[i], digests[i], &error));
        CHECK(memcmp(digests[0], digests[i], 32) == 0);
        niwaki_verification *found = NULL;
        MUST(niwaki_verify(all[i], 2, &found, &error));
        CHECK(niwaki_verification_count(found) == 0);
        CHECK(!niwaki_verification_fault(found, 0).bytes);
        niwaki_verification_free(found);
        for (size_t at = 0; at < 12; at++) {
            niwaki_tensor_info_t a, b;
            MUST(niwaki_tensor_info(all[0], at, &a, &error));
            MUST(niwaki_tensor_info(all[i], at, &b, &error));
            CHECK(same_text(a.name, b.name) && same_text(a.scheme, b.scheme) && same_text(a.dtype, b.dtype));
            size_t index;
            MUST(niwaki_tensor_find(all[i], b.name.bytes, &index, &error));
            CHECK(index == at);
        }
    }
    size_t index;
    niwaki_tensor_info_t info;
    MUST(niwaki_tensor_find(all[0], "up.weight", &index, &error));
    MUST(niwaki_tensor_info(all[0], index, &info, &error));
    CHECK(!strcmp(info.scheme.bytes, "elastic/g8/2,4,8") && !strcmp(info.dtype.bytes, "BF16"));
    CHECK(info.dims == 2 && info.shape[0] == 5 && info.shape[1] == 24 && info.rows == 5 && info.cols == 24);
    CHECK(info.widths == (1u << 2 | 1u << 4 | 1u << 8) && info.masked == 0);

    niwaki_bytes ids;
    MUST(niwaki_tensor_find(all[1], "ids", &index, &error));
    MUST(niwaki_part(all[1], index, "", &ids, &error));
    CHECK(ids.len == 24 && ids.data > bytes && ids.data < bytes + len); /* nothing was copied */
    REFUSES(niwaki_part(all[1], index, "codes", &ids, &error), "tensor `ids` has no part `codes`; it has ``");

    /* A bit that turned is found. */
    bytes[len - 1] ^= 1;
    niwaki_verification *found = NULL;
    MUST(niwaki_verify(all[1], 1, &found, &error));
    CHECK(niwaki_verification_count(found) > 0 && niwaki_verification_fault(found, 0).len > 0);
    niwaki_verification_free(found);
    for (int i = 0; i < 3; i++) {
        niwaki_artifact_free(all[i]);
    }
    /* A file that is cut short anywhere is refused, or its contents are. */
    for (size_t cut = 0; cut < len; cut += 97) {
        niwaki_artifact *short_one = NULL;
        niwaki_error *why = NULL;
        CHECK(niwaki_open_bytes(bytes, cut, &short_one, &why) == NIWAKI_STATUS_INPUT);
        CHECK(!short_one && niwaki_error_message(why).len > 0);
        niwaki_error_free(why);
    }
    free(bytes);
}

static uint16_t to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static float from_f16(uint16_t half) {
    int exponent = half >> 10 & 31, fraction = half & 1023;
    float size = exponent ? ldexpf((float)(fraction | 1024), exponent - 25) : ldexpf((float)fraction, -24);
    return half >> 15 ? -size : size;
}

/* Decodes in pieces, to each type. */
static void decodes(const niwaki_operand *operand, const float *expected) {
    niwaki_operand_info_t info = niwaki_operand_info(operand);
    niwaki_scratch scratch = scratch_of(niwaki_dequantize_scratch(operand));
    niwaki_error *error = NULL;
    size_t cols = info.cols;
    uint16_t *halves = malloc(2 * cols + 1);
    float *full = malloc(4 * cols + 1);
    CHECK(halves && full);
    for (size_t row = 0; row < info.rows; row++) {
        niwaki_rows one = {row, row + 1};
        const float *right = expected + row * cols;
        MUST(niwaki_dequantize(operand, one, (niwaki_weights){full, cols, NIWAKI_FLOAT_TYPE_F32}, scratch, &error));
        CHECK(memcmp(full, right, 4 * cols) == 0);
        MUST(niwaki_dequantize(operand, one, (niwaki_weights){halves, cols, NIWAKI_FLOAT_TYPE_BF16}, scratch, &error));
        for (size_t col = 0; col < cols; col++) {
            CHECK(halves[col] == to_bf16(right[col]));
        }
        MUST(niwaki_dequantize(operand, one, (niwaki_weights){halves, cols, NIWAKI_FLOAT_TYPE_F16}, scratch, &error));
        for (size_t col = 0; col < cols; col++) {
            /* Half a step of eleven bits, and half of the least step; half a step past the largest it is infinite. */
            int infinite = fabsf(right[col]) >= 65520.0f;
            CHECK(infinite ? (halves[col] & 0x7FFF) == 0x7C00
                           : fabsf(from_f16(halves[col]) - right[col]) <=
                                 fabsf(right[col]) / 2048 + 0x1p-25f);
        }
    }
    free(halves);
    free(full);
    free(scratch.data);
}

/* Products with one and several rows of inputs, against weights that are decoded. */
static void multiplies(const niwaki_operand *operand, const float *weights, uint32_t precision) {
    enum { COUNT = 11 };
    niwaki_operand_info_t info = niwaki_operand_info(operand);
    size_t rows = info.rows, cols = info.cols;
    size_t bytes = niwaki_product_scratch(operand, precision, COUNT);
    CHECK(bytes == niwaki_product_scratch(operand, precision, 8));
    niwaki_scratch scratch = scratch_of(bytes);
    niwaki_error *error = NULL;
    float *x = malloc(4 * COUNT * cols + 1), *y = malloc(4 * COUNT * rows + 1), *one = malloc(4 * rows + 1);
    CHECK(x && y && one);
    fill(x, COUNT * cols, 7);
    niwaki_inputs all = {x, COUNT * cols, precision};
    MUST(niwaki_gemm(operand, (niwaki_rows){0, rows}, all, (niwaki_outputs){y, COUNT * rows}, scratch, &error));
    for (size_t input = 0; input < COUNT; input++) {
        niwaki_inputs some = {x + input * cols, cols, precision};
        /* In two ranges, the second first. */
        size_t half = rows / 2;
        MUST(niwaki_gemv(operand, (niwaki_rows){half, rows}, some, (niwaki_outputs){one + half, rows - half}, scratch, &error));
        MUST(niwaki_gemv(operand, (niwaki_rows){0, half}, some, (niwaki_outputs){one, half}, scratch, &error));
        CHECK(memcmp(one, y + input * rows, 4 * rows) == 0);
        for (size_t row = 0; row < rows; row++) {
            double sum = 0, size = 0;
            for (size_t col = 0; col < cols; col++) {
                double weight = weights[row * cols + col];
                sum += weight * some.data[col];
                size += fabs(weight);
            }
            /* Each of the sums rounds by half an ulp of at most `size`; a code of 8 bits is half of a 127th off. */
            double bound = size * (double)cols * 0x1p-23 + (precision ? size / 254 * 1.001 : 0);
            CHECK(fabs(one[row] - sum) <= bound);
        }
    }
    free(x);
    free(y);
    free(one);
    free(scratch.data);
}

/* Each tensor of a golden file at each width is what the golden floats say. */
static int golden(const char *folder, const char *name) {
    niwaki_artifact *artifact = open_path(path_of(folder, name, ""));
    niwaki_artifact *floats = open_path(path_of(folder, name, ".expected"));
    niwaki_error *error = NULL;
    int seen = 0;
    for (size_t at = 0; at < niwaki_tensor_count(artifact); at++) {
        niwaki_tensor_info_t info;
        MUST(niwaki_tensor_info(artifact, at, &info, &error));
        for (uint32_t width = 0; width <= 8; width++) {
            if (info.widths ? !(info.widths >> width & 1) : width > 0) {
                continue;
            }
            char expected_name[256];
            snprintf(expected_name, sizeof expected_name, width ? "%s@%u" : "%s", info.name.bytes, (unsigned)width);
            size_t index;
            niwaki_status there = niwaki_tensor_find(floats, expected_name, &index, NULL);
            if (there != NIWAKI_STATUS_OK) {
                REFUSES(niwaki_prepare(artifact, at, NULL, &(niwaki_operand *){NULL}, &error),
                        !strcmp(info.dtype.bytes, "BOOL") ? "tensor `flag`: BOOL is not decoded to floats"
                                                          : "tensor `ids`: I64 is not decoded to floats");
                continue;
            }
            niwaki_operand *operand = prepare(artifact, at, &(niwaki_preparation){.width = width});
            niwaki_operand *right = prepare(floats, index, NULL);
            CHECK(niwaki_operand_info(operand).width == width && niwaki_operand_info(operand).kernel.len > 0);
            float *weights = decoded(right);
            decodes(operand, weights);
            if (info.rows * info.cols > 0) {
                multiplies(operand, weights, NIWAKI_PRECISION_FULL);
                multiplies(operand, weights, NIWAKI_PRECISION_INT8);
            }
            free(weights);
            niwaki_operand_free(right);
            niwaki_operand_free(operand);
            seen++;
        }
    }
    niwaki_artifact_free(artifact);
    niwaki_artifact_free(floats);
    return seen;
}

/* A signature and a mask, on the example of the format page. Handles are freed as early as can be. */
static void overlays(const char *folder) {
    niwaki_error *error = NULL;
    niwaki_artifact *model = open_path(path_of(folder, "example", ""));
    niwaki_artifact *signature = open_path(path_of(folder, "example-signature", ""));
    const niwaki_artifact *signatures[] = {signature};
    double alpha = 0.5;
    niwaki_overlay *overlay = NULL;
    MUST(niwaki_overlay_new(signatures, &alpha, 1, &overlay, &error));
    niwaki_artifact_free(signature);
    size_t index;
    MUST(niwaki_tensor_find(model, "w", &index, &error));
    uint8_t *mask = malloc(2);
    mask[0] = 5, mask[1] = 6;
    niwaki_operand *patched = prepare(model, index, &(niwaki_preparation){.overlay = overlay});
    niwaki_operand *masked = prepare(model, index, &(niwaki_preparation){0, overlay, mask, 2});
    REFUSES(niwaki_prepare(model, index, &(niwaki_preparation){0, NULL, mask, 1}, &(niwaki_operand *){NULL}, &error),
            "`mask` needs 2 bytes, has 1");
    REFUSES(niwaki_prepare(model, index, &(niwaki_preparation){0, NULL, mask, 0}, &(niwaki_operand *){NULL}, &error),
            "`mask` needs 2 bytes, has 0");
    REFUSES(niwaki_prepare(model, index, &(niwaki_preparation){0, NULL, NULL, 2}, &(niwaki_operand *){NULL}, &error),
            "`mask` is null; 2 elements expected");
    free(mask);
    niwaki_overlay_free(overlay);

    const float expected[] = {-3.0f, 3.5f, 0.0f, 0.0f, 2.0f, -3.0f}, kept[] = {-3.0f, 0, 0.0f, 0, 2.0f, -3.0f};
    decodes(patched, expected);
    decodes(masked, kept);
    multiplies(patched, expected, NIWAKI_PRECISION_FULL);
    multiplies(masked, kept, NIWAKI_PRECISION_INT8);
    niwaki_operand_free(patched);

    signatures[0] = model;
    overlay = (niwaki_overlay *)&alpha; /* is set to null */
    niwaki_status status = niwaki_overlay_new(signatures, &alpha, 1, &overlay, &error);
    CHECK(status == NIWAKI_STATUS_INPUT && !overlay && strstr(niwaki_error_message(error).bytes, "is no signature"));
    CHECK(strstr(niwaki_error_path(error).bytes, "example.safetensors"));
    niwaki_error_free(error);
    niwaki_artifact_free(model);
    multiplies(masked, kept, NIWAKI_PRECISION_FULL); /* it has all that it needs */
    niwaki_operand_free(masked);
}

/* What does not fit is refused, and says why. */
static void refusals(const char *folder) {
    niwaki_artifact *artifact = open_path(path_of(folder, "mixed", ""));
    niwaki_error *error = NULL;
    niwaki_artifact *out = artifact;
    size_t index;
    REFUSES(niwaki_open(NULL, &out, &error), "`path` is null");
    CHECK(!out);
    REFUSES(niwaki_open("x", NULL, &error), "`out` is null");
    REFUSES(niwaki_open("no.safetensors", &out, &error), "`no.safetensors`: does not exist");
    CHECK(niwaki_open("no.safetensors", &out, NULL) == NIWAKI_STATUS_CALLER);
    REFUSES(niwaki_open_bytes(NULL, 9, &out, &error), "`bytes` is null; 9 elements expected");
    REFUSES(niwaki_open_fd(-1, &out, &error), "`fd` is -1, which no open file has");
    CHECK(niwaki_open_fd(9999, &out, NULL) == NIWAKI_STATUS_CALLER);
    REFUSES(niwaki_tensor_find(NULL, "w", &index, &error), "`artifact` is null");
    REFUSES(niwaki_tensor_find(artifact, NULL, &index, &error), "`name` is null");
    REFUSES(niwaki_tensor_find(artifact, "w", NULL, &error), "`index` is null");
    REFUSES(niwaki_tensor_find(artifact, "w\n", &index, &error), "tensor `w\\n` is not there");
    REFUSES(niwaki_tensor_info(artifact, 0, NULL, &error), "`info` is null");
    niwaki_tensor_info_t info;
    REFUSES(niwaki_tensor_info(artifact, 12, &info, &error), "tensor 12 of 12 is not there");
    REFUSES(niwaki_digest(artifact, NULL, &error), "`digest` is null");
    REFUSES(niwaki_verify(artifact, 1, NULL, &error), "`out` is null");
    REFUSES(niwaki_overlay_new(NULL, NULL, 1, &(niwaki_overlay *){NULL}, &error), "`alphas` is null; 1 elements expected");
    REFUSES(niwaki_prepare(artifact, 0, NULL, NULL, &error), "`out` is null");
    CHECK(niwaki_tensor_count(NULL) == 0 && niwaki_operand_info(NULL).rows == 0);
    CHECK(niwaki_product_scratch(NULL, 0, 1) == 0 && niwaki_dequantize_scratch(NULL) == 0);
    CHECK(niwaki_verification_count(NULL) == 0 && !niwaki_verification_fault(NULL, 0).bytes);
    CHECK(niwaki_error_status(NULL) == NIWAKI_STATUS_OK && !niwaki_error_hint(NULL).bytes);
    niwaki_artifact_free(NULL), niwaki_operand_free(NULL), niwaki_overlay_free(NULL);
    niwaki_verification_free(NULL), niwaki_error_free(NULL);

    MUST(niwaki_tensor_find(artifact, "up.weight", &index, &error));
    niwaki_operand *operand = NULL;
    CHECK(niwaki_prepare(artifact, index, &(niwaki_preparation){.width = 3}, &operand, &error) == NIWAKI_STATUS_CALLER);
    CHECK(!strcmp(niwaki_error_message(error).bytes, "tensor `up.weight`: width 3 is not served; served: 2,4,8"));
    CHECK(!strcmp(niwaki_error_tensor(error).bytes, "up.weight") && !niwaki_error_path(error).bytes);
    niwaki_error_free(error);
    operand = prepare(artifact, index, NULL);

    float x[24] = {0}, y[5];
    size_t bytes = niwaki_product_scratch(operand, NIWAKI_PRECISION_INT8, 1);
    CHECK(bytes > 0 && bytes % NIWAKI_SCRATCH_ALIGNMENT == 0);
    CHECK(niwaki_product_scratch(operand, 2, 1) == 0);
    niwaki_scratch scratch = scratch_of(bytes + NIWAKI_SCRATCH_ALIGNMENT);
    niwaki_rows all = {0, 5};
    niwaki_inputs in = {x, 24, NIWAKI_PRECISION_INT8};
    niwaki_outputs to = {y, 5};
    MUST(niwaki_gemv(operand, all, in, to, scratch, &error));
    REFUSES(niwaki_gemv(NULL, all, in, to, scratch, &error), "`operand` is null");
    REFUSES(niwaki_gemv(operand, (niwaki_rows){0, 6}, in, to, scratch, &error), "rows 0..6 are not all there; there are 5");
    REFUSES(niwaki_gemv(operand, (niwaki_rows){3, 2}, in, to, scratch, &error), "rows 3..2 are not all there; there are 5");
    REFUSES(niwaki_gemv(operand, all, (niwaki_inputs){x, 23, 0}, to, scratch, &error), "`x` needs 24 floats, has 23");
    REFUSES(niwaki_gemm(operand, all, (niwaki_inputs){x, 23, 0}, to, scratch, &error),
            "`x` needs whole rows of 24 floats, has 23");
    REFUSES(niwaki_gemv(operand, all, (niwaki_inputs){x, 24, 2}, to, scratch, &error), "precision 2 is not known; known: 0, 1");
    REFUSES(niwaki_gemv(operand, all, (niwaki_inputs){NULL, 24, 0}, to, scratch, &error), "`x` is null; 24 elements expected");
    REFUSES(niwaki_gemv(operand, all, (niwaki_inputs){NULL, 24, 0}, (niwaki_outputs){NULL, 5}, scratch, &error),
            "`x` is null; 24 elements expected");
    REFUSES(niwaki_gemv(operand, all, in, (niwaki_outputs){NULL, 5}, scratch, &error), "`y` is null; 5 elements expected");
    REFUSES(niwaki_gemv(operand, all, in, (niwaki_outputs){y, 4}, scratch, &error), "`y` needs 5 floats, has 4");
    REFUSES(niwaki_gemv(operand, all, in, (niwaki_outputs){x + 19, 5}, scratch, &error), "`x` and `y` overlap");
    REFUSES(niwaki_gemv(operand, all, in, (niwaki_outputs){(float *)((char *)y + 1), 5}, scratch, &error),
            "`y` begins 1 bytes past a multiple of 4");
    REFUSES(niwaki_gemv(operand, all, in, (niwaki_outputs){scratch.data, 5}, scratch, &error), "`y` and `scratch` overlap");
    niwaki_scratch odd = {(char *)scratch.data + 4, bytes};
    REFUSES(niwaki_gemv(operand, all, in, to, odd, &error), "`scratch` begins 4 bytes past a multiple of 64");
    char message[100];
    snprintf(message, sizeof message, "`scratch` needs %zu bytes, has %zu", bytes, bytes - 1);
    REFUSES(niwaki_gemv(operand, all, in, to, ((niwaki_scratch){scratch.data, bytes - 1}), &error), message);

    float out_floats[120];
    niwaki_weights into = {out_floats, 120, NIWAKI_FLOAT_TYPE_F32};
    MUST(niwaki_dequantize(operand, all, into, scratch, &error));
    REFUSES(niwaki_dequantize(operand, (niwaki_rows){0, 4}, into, scratch, &error), "`out` needs 96 weights, has 120");
    into.type = 3;
    REFUSES(niwaki_dequantize(operand, all, into, scratch, &error), "type 3 is not known; known: 0, 1, 2");
    free(scratch.data);
    niwaki_operand_free(operand);
    niwaki_artifact_free(artifact);

    artifact = open_path(path_of(folder, "mixed", ".expected"));
    uint8_t digest[32];
    CHECK(niwaki_digest(artifact, digest, &error) == NIWAKI_STATUS_CALLER);
    CHECK(strstr(niwaki_error_message(error).bytes, "is no niwaki container"));
    niwaki_error_free(error);
    niwaki_artifact_free(artifact);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    CHECK(niwaki_abi() == NIWAKI_ABI && strchr(niwaki_version(), '.'));
    openers(argv[1]);
    const char *names[] = {"example", "example-floats", "example-positions", "uniform", "blocks", "floats", "elastic",
                           "masked", "positions", "mixed", "mixed-sliced-4"};
    int seen = 0;
    for (size_t at = 0; at < sizeof names / sizeof *names; at++) {
        seen += golden(argv[1], names[at]);
    }
    overlays(argv[1]);
    refusals(argv[1]);
    printf("%d tensors decoded and multiplied\n", seen);
    return 0;
}
