/* Tells pictures of clothes apart with a compressed network, through niwaki's C library.
 *
 *     niwaki compress tests/fixtures/fashion-cnn/model.safetensors --scheme int4/g16/sym -o model.safetensors
 *     cc classify.c $(pkg-config --cflags --libs niwaki) -o classify
 *     ./classify model.safetensors tests/fixtures/fashion-cnn/sample.safetensors
 *
 * Two convolutions of 3x3 and two linear layers. A convolution is a product of its weights with the 3x3 neighbourhood of
 * every place, so all four are calls of `niwaki_gemm` on packed weights.
 */
#include <niwaki.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 28, LARGEST = 16 * SIDE * SIDE * 9 };

/* One layer: packed weights, and a bias in floats. */
struct layer {
    niwaki_operand *weights;
    niwaki_scratch scratch;
    float bias[64];
};

static void *room(size_t bytes) {
    void *data = aligned_alloc(NIWAKI_SCRATCH_ALIGNMENT, (bytes + 64) / 64 * 64);
    if (!data) {
        fprintf(stderr, "no memory\n");
        exit(1);
    }
    return data;
}

static void must(niwaki_status status, niwaki_error *error) {
    if (status != NIWAKI_STATUS_OK) {
        fprintf(stderr, "%s\n", niwaki_error_message(error).bytes);
        exit(1);
    }
}

static niwaki_operand *prepare(const niwaki_artifact *model, const char *layer, const char *what) {
    char name[64];
    snprintf(name, sizeof name, "%s.%s", layer, what);
    niwaki_error *error = NULL;
    niwaki_operand *operand = NULL;
    size_t index;
    must(niwaki_tensor_find(model, name, &index, &error), error);
    must(niwaki_prepare(model, index, NULL, &operand, &error), error);
    return operand;
}

static struct layer layer_of(const niwaki_artifact *model, const char *name, uint32_t precision) {
    struct layer layer = {prepare(model, name, "weight"), {NULL, 0}, {0}};
    niwaki_error *error = NULL;
    niwaki_operand *bias = prepare(model, name, "bias");
    size_t bytes = niwaki_dequantize_scratch(bias), count = niwaki_operand_info(bias).cols;
    niwaki_scratch scratch = {room(bytes), bytes};
    if (count > sizeof layer.bias / sizeof *layer.bias) {
        fprintf(stderr, "%s: %zu outputs; this program has room for 64\n", name, count);
        exit(1);
    }
    niwaki_weights out = {layer.bias, count, NIWAKI_FLOAT_TYPE_F32};
    must(niwaki_dequantize(bias, (niwaki_rows){0, 1}, out, scratch, &error), error);
    free(scratch.data);
    niwaki_operand_free(bias);
    layer.scratch.len = niwaki_product_scratch(layer.weights, precision, SIDE * SIDE);
    layer.scratch.data = room(layer.scratch.len);
    return layer;
}

/* Outputs of `count` rows of inputs, biases added, negative ones cut off: `y` is [count, outputs]. */
static void apply(const struct layer *layer, const float *x, size_t count, float *y, uint32_t precision) {
    niwaki_operand_info_t info = niwaki_operand_info(layer->weights);
    niwaki_error *error = NULL;
    niwaki_inputs in = {x, count * info.cols, precision};
    niwaki_outputs out = {y, count * info.rows};
    must(niwaki_gemm(layer->weights, (niwaki_rows){0, info.rows}, in, out, layer->scratch, &error), error);
    for (size_t at = 0; at < count * info.rows; at++) {
        y[at] += layer->bias[at % info.rows];
    }
}

/* The 3x3 neighbourhood of every place of [channels, side, side], outside it zeros. */
static void neighbourhoods(const float *x, int channels, int side, float *out) {
    for (int at = 0; at < side * side; at++) {
        for (int channel = 0; channel < channels; channel++) {
            for (int step = 0; step < 9; step++) {
                int row = at / side + step / 3 - 1, col = at % side + step % 3 - 1;
                int inside = row >= 0 && row < side && col >= 0 && col < side;
                *out++ = inside ? x[(channel * side + row) * side + col] : 0.0f;
            }
        }
    }
}

/* The largest of every 2x2 of [side * side, channels], at least 0, as [channels, side / 2, side / 2]. */
static void pool(const float *x, int channels, int side, float *out) {
    for (int channel = 0; channel < channels; channel++) {
        for (int row = 0; row < side; row += 2) {
            for (int col = 0; col < side; col += 2) {
                float largest = 0.0f;
                for (int step = 0; step < 4; step++) {
                    float here = x[((row + step / 2) * side + col + step % 2) * channels + channel];
                    largest = here > largest ? here : largest;
                }
                *out++ = largest;
            }
        }
    }
}

static int largest_of(const float *scores, int count) {
    int best = 0;
    for (int at = 1; at < count; at++) {
        best = scores[at] > scores[best] ? at : best;
    }
    return best;
}

/* The bytes of a tensor that is stored as it is. */
static niwaki_bytes bytes_of(const niwaki_artifact *file, const char *name) {
    niwaki_error *error = NULL;
    niwaki_bytes bytes;
    size_t index;
    must(niwaki_tensor_find(file, name, &index, &error), error);
    must(niwaki_part(file, index, "", &bytes, &error), error);
    return bytes;
}

int main(int argc, char **argv) {
    if (argc != 3 && !(argc == 4 && !strcmp(argv[3], "int8"))) {
        fprintf(stderr, "usage: classify MODEL SAMPLE [int8]\n");
        return 2;
    }
    uint32_t precision = argc == 4 ? NIWAKI_PRECISION_INT8 : NIWAKI_PRECISION_FULL;
    niwaki_error *error = NULL;
    niwaki_artifact *model = NULL, *sample = NULL;
    must(niwaki_open(argv[1], &model, &error), error);
    must(niwaki_open(argv[2], &sample, &error), error);
    const char *names[4] = {"conv1", "conv2", "fc1", "fc2"};
    struct layer layers[4];
    for (int at = 0; at < 4; at++) {
        layers[at] = layer_of(model, names[at], precision);
    }
    niwaki_artifact_free(model); /* the operands keep what they need */

    niwaki_bytes images = bytes_of(sample, "images"), labels = bytes_of(sample, "labels");
    float *a = room(4 * LARGEST), *b = room(4 * LARGEST);
    size_t right = 0, count = labels.len / 8;
    for (size_t image = 0; image < count; image++) {
        for (int at = 0; at < SIDE * SIDE; at++) {
            a[at] = ((float)images.data[image * SIDE * SIDE + at] / 255.0f - 0.2860f) / 0.3530f;
        }
        for (int at = 0; at < 2; at++) {
            int channels = at ? 8 : 1, side = at ? SIDE / 2 : SIDE;
            neighbourhoods(a, channels, side, b);
            apply(&layers[at], b, (size_t)(side * side), a, precision);
            pool(a, at ? 16 : 8, side, b);
            float *swap = a;
            a = b, b = swap;
        }
        apply(&layers[2], a, 1, b, precision);
        for (int at = 0; at < 64; at++) {
            b[at] = b[at] > 0.0f ? b[at] : 0.0f;
        }
        apply(&layers[3], b, 1, a, precision);
        right += largest_of(a, 10) == labels.data[image * 8];
    }
    printf("%zu of %zu right\n", right, count);
    for (int at = 0; at < 4; at++) {
        niwaki_operand_free(layers[at].weights);
        free(layers[at].scratch.data);
    }
    free(a), free(b);
    niwaki_artifact_free(sample);
    return 0;
}
