/* Calls the library as firmware would, and compares floats. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct lent { const uint8_t *at; size_t len; };
struct floats { float *at; size_t len; };
struct bytes { uint8_t *at; size_t len; };
struct tensor {
    struct lent scheme;
    size_t rows, cols;
    uint32_t width;
    struct lent mask, positions;
    size_t kept;
    struct lent codes, scales, zeros, factor, base, fixes[9], planes[8];
};

int32_t niwaki_decode(const struct tensor *tensor, struct floats out);
struct codes { int8_t *at; size_t len; };

int32_t niwaki_device(struct lent image, struct codes input, struct codes arena);
int32_t niwaki_list(struct floats row, struct bytes out);
int32_t niwaki_move(struct lent bits, struct floats row, struct floats kept, struct floats back);

#define LENT(array) ((struct lent){ (const uint8_t *)(array), sizeof(array) })
#define TEXT(text) ((struct lent){ (const uint8_t *)(text), sizeof(text) - 1 })

static int wrong;

static void expect(const char *what, const float *got, const float *want, size_t n) {
    /* Bit for bit, so that -0 is not +0. */
    if (memcmp(got, want, n * sizeof *got) != 0) {
        wrong = 1;
        printf("%s decodes wrong:", what);
        for (size_t i = 0; i < n; i++) printf(" %g", (double)got[i]);
        printf("\n");
    }
}

static void refused(const char *what, const struct tensor *tensor, size_t n) {
    float out[16];
    if (niwaki_decode(tensor, (struct floats){ out, n }) != 1) {
        wrong = 1;
        printf("%s is not refused\n", what);
    }
}

/* An image of the fuzzer's seeds: 18 codes go in, and an arena of 48. */
static int device(void) {
    uint8_t bytes[4096];
    int8_t input[18], arena[48];
    FILE *file = fopen("../fuzz/corpus/device_image/softmax", "rb");
    if (!file) return printf("no seed of a device image\n"), 1;
    const struct lent image = { bytes, fread(bytes, 1, sizeof bytes, file) };
    fclose(file);
    memset(input, 1, sizeof input);
    memset(arena, 0, sizeof arena);
    const int32_t best = niwaki_device(image, (struct codes){ input, 18 }, (struct codes){ arena, 48 });
    const int32_t small = niwaki_device(image, (struct codes){ input, 18 }, (struct codes){ arena, 47 });
    bytes[300] ^= 1;
    const int32_t changed = niwaki_device(image, (struct codes){ input, 18 }, (struct codes){ arena, 48 });
    if (best < 0 || best > 1 || small != -1 || changed != -1) {
        return printf("a device image: %d, %d in a small arena, %d where a byte changed\n", (int)best, (int)small, (int)changed), 1;
    }
    return 0;
}

int main(void) {
    float out[6];
    const struct floats all = { out, 6 };
    const uint8_t scales[] = { 0, 0x38, 0, 0x40 }; /* halves 0.5 and 2 */

    const uint8_t codes[] = { 0x97, 0x0a, 0x80, 0x07 };
    struct tensor dense = { .scheme = TEXT("int4/g64/sym"), .rows = 2, .cols = 3,
                            .codes = LENT(codes), .scales = LENT(scales) };
    if (niwaki_decode(&dense, all) != 0) wrong = 1;
    expect("int4", out, (float[]){ -0.5f, 0.5f, 1.0f, -16.0f, 0.0f, -2.0f }, 6);

    const uint8_t mask[] = { 5, 2 }, kept[] = { 0x97, 0x0a };
    struct tensor sparse = { .scheme = TEXT("int4/g2/sym"), .rows = 2, .cols = 3, .mask = LENT(mask),
                             .codes = LENT(kept), .scales = LENT(scales) };
    if (niwaki_decode(&sparse, all) != 0) wrong = 1;
    expect("sparse int4", out, (float[]){ -0.5f, 0.0f, 0.5f, 0.0f, 4.0f, 0.0f }, 6);

    /* Weights 0, 2 and 4 of 6: bits 0, 2 and 4, then three low bits that are clear. */
    const uint8_t positions[] = { 0x15, 0 };
    struct tensor listed = sparse;
    listed.mask.len = 0;
    listed.positions = LENT(positions);
    listed.kept = 3;
    if (niwaki_decode(&listed, all) != 0) wrong = 1;
    expect("listed int4", out, (float[]){ -0.5f, 0.0f, 0.5f, 0.0f, 4.0f, 0.0f }, 6);
    uint8_t again[2];
    if (niwaki_list((struct floats){ (float[]){ 1, 0, 1, 0, 1, 0 }, 6 }, (struct bytes){ again, 2 }) != 0) wrong = 1;
    if (memcmp(again, positions, 2) != 0) {
        wrong = 1;
        printf("positions are %02x %02x\n", again[0], again[1]);
    }

    const uint8_t base[] = { 0, 0, 0, 0x3c }, fix[] = { 0x88 }, high[] = { 12 }, low[] = { 10 };
    struct tensor elastic = { .scheme = TEXT("elastic/g4/2"), .rows = 1, .cols = 4, .width = 2, .base = LENT(base) };
    elastic.fixes[2] = LENT(fix);
    elastic.planes[7] = LENT(high);
    elastic.planes[6] = LENT(low);
    if (niwaki_decode(&elastic, (struct floats){ out, 4 }) != 0) wrong = 1;
    expect("elastic", out, (float[]){ -0.75f, -0.25f, 0.25f, 0.75f }, 4);

    /* A half of 2, then for byte j the codes j and 15 - j, less 8. */
    uint8_t block[18] = { 0, 0x40 };
    float wide[32], middle[32];
    for (int j = 0; j < 16; j++) {
        block[2 + j] = (uint8_t)(j | (15 - j) << 4);
        middle[j] = (float)(2 * (j - 8));
        middle[j + 16] = (float)(2 * (7 - j));
    }
    struct tensor blocks = { .scheme = TEXT("q4_0"), .rows = 1, .cols = 32, .codes = LENT(block) };
    if (niwaki_decode(&blocks, (struct floats){ wide, 32 }) != 0) wrong = 1;
    expect("q4_0", wide, middle, 32);

    /* 0x38 is 1 as an e4m3, 0x3f 1.875 and 0xc0 -2. */
    const uint8_t eights[] = { 0x38, 0x3f, 0xc0, 0 };
    const float two_rows[] = { 0.5f, 2.0f };
    struct tensor fp8 = { .scheme = TEXT("fp8_e4m3/row"), .rows = 2, .cols = 2,
                          .codes = LENT(eights), .scales = LENT(two_rows) };
    if (niwaki_decode(&fp8, (struct floats){ out, 4 }) != 0) wrong = 1;
    expect("fp8", out, (float[]){ 0.5f, 0.9375f, -4.0f, 0.0f }, 4);

    /* 1.5, -0.5 and 6, times 1 over the factor. */
    const uint8_t fours[] = { 0x93, 7 };
    const float factor[] = { 2.0f };
    struct tensor nvfp4 = { .scheme = TEXT("nvfp4"), .rows = 1, .cols = 3, .codes = LENT(fours),
                            .scales = { eights, 1 }, .factor = LENT(factor) };
    if (niwaki_decode(&nvfp4, (struct floats){ out, 3 }) != 0) wrong = 1;
    expect("nvfp4", out, (float[]){ 0.75f, -0.25f, 3.0f }, 3);

    /* The two ends of the table, and its zero. */
    const uint8_t normal[] = { 0xf0, 7 };
    struct tensor nf4 = { .scheme = TEXT("nf4/g2"), .rows = 1, .cols = 3, .codes = LENT(normal),
                          .scales = LENT(two_rows) };
    if (niwaki_decode(&nf4, (struct floats){ out, 3 }) != 0) wrong = 1;
    expect("nf4", out, (float[]){ -0.5f, 0.5f, 0.0f }, 3);

    float row[] = { 1, 2, 3 }, two[2], back[3];
    const uint8_t bits[] = { 5 };
    if (niwaki_move(LENT(bits), (struct floats){ row, 3 }, (struct floats){ two, 2 }, (struct floats){ back, 3 }) != 0) {
        wrong = 1;
    }
    expect("a masked row", back, (float[]){ 1, 0, 3 }, 3);

    struct tensor broken = dense;
    broken.codes.len = 3;
    refused("a short part", &broken, 6);
    broken = elastic;
    broken.width = 3;
    refused("an unserved width", &broken, 4);
    broken = sparse;
    broken.scheme = TEXT("int4/g2/symm");
    refused("text that is no scheme", &broken, 6);
    broken = listed;
    broken.kept = 2;
    refused("a list of another length", &broken, 6);
    broken = blocks;
    broken.scheme = TEXT("q6_k");
    refused("a row that no block fills", &broken, 16);
    broken = dense;
    broken.rows = (size_t)-1;
    refused("an overflowing size", &broken, 6);
    broken = nvfp4;
    broken.factor.len = 0;
    refused("a factor that is not there", &broken, 3);
    return wrong | device();
}
