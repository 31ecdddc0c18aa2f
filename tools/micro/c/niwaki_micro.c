/* Runs networks in 8-bit integers: see niwaki_micro.h. */
#include "niwaki_micro.h"

/* --- factors --------------------------------------------------------------------------------------------------------- */

/* x times a factor, rounded to nearest; halves go up. */
static int64_t rounded(int32_t x, int32_t multiplier, uint32_t shift) {
    return ((int64_t)x * multiplier + ((int64_t)1 << (shift - 1))) >> shift;
}

/* With 16 bits after the point: to a whole number. */
static int32_t whole(int32_t x) { return (x + 0x8000) >> 16; }

static int8_t code(int32_t steps, int32_t zero, int32_t low, int32_t high) {
    if (steps < low - zero) steps = low - zero;
    if (steps > high - zero) steps = high - zero;
    return (int8_t)(steps + zero);
}

/* --- sums of products ------------------------------------------------------------------------------------------------ */

#if defined(__ARM_FEATURE_DSP) && defined(__GNUC__)
/* Four codes at a time: words are split into two pairs of halves, and pairs are multiplied and added at once. */
static inline uint32_t word(const void *at) {
    uint32_t x;
    __builtin_memcpy(&x, at, 4);
    return x;
}

static inline int32_t four(uint32_t w, uint32_t x, int32_t sum) {
    uint32_t w0, w1, x0, x1;
    __asm__("sxtb16 %0, %1" : "=r"(w0) : "r"(w));
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(w1) : "r"(w));
    __asm__("sxtb16 %0, %1" : "=r"(x0) : "r"(x));
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(x1) : "r"(x));
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(w0), "r"(x0));
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(w1), "r"(x1));
    return sum;
}

static int32_t dot(const int8_t *w, const int8_t *x, uint32_t n, int32_t sum) {
    for (; n >= 8; n -= 8, w += 8, x += 8) {
        sum = four(word(w), word(x), sum);
        sum = four(word(w + 4), word(x + 4), sum);
    }
    if (n >= 4) {
        sum = four(word(w), word(x), sum);
        n -= 4, w += 4, x += 4;
    }
    while (n--) sum += *w++ * *x++;
    return sum;
}
#else
static int32_t dot(const int8_t *w, const int8_t *x, uint32_t n, int32_t sum) {
    while (n--) sum += *w++ * *x++;
    return sum;
}
#endif

static int32_t total(const int8_t *w, uint32_t n) {
    int32_t sum = 0;
    while (n--) sum += *w++;
    return sum;
}

/* Sums with numbers of weights: their codes, or the odd numbers 2 q + 1 of elastic weights of 8 bits. */
static int32_t product(int odd, const int8_t *w, const int8_t *x, uint32_t n, int32_t sum) {
    return odd ? 2 * dot(w, x, n, 0) + total(x, n) + sum : dot(w, x, n, sum);
}

static int32_t numbers(int odd, const int8_t *w, uint32_t n) {
    return odd ? 2 * total(w, n) + (int32_t)n : total(w, n);
}

/* --- windows --------------------------------------------------------------------------------------------------------- */

/* Places of a window that lie in the image: from, to, and where in the image the first is. */
typedef struct {
    uint32_t from, to, at;
} taps;

static uint32_t places(uint32_t distance, uint32_t dilation) {
    return dilation == 1 ? distance : (distance + dilation - 1) / dilation;
}

static taps under(const niwaki_step *s, int side, uint32_t out) {
    const uint32_t start = out * s->stride[side], before = s->before[side], dilation = s->dilation[side];
    const uint32_t end = s->in[side] + before;
    taps t;
    t.to = end > start ? places(end - start, dilation) : 0;
    if (t.to > s->kernel[side]) t.to = s->kernel[side];
    t.from = before > start ? places(before - start, dilation) : 0;
    t.at = start + t.from * dilation;
    t.at = t.at > before ? t.at - before : 0;
    if (t.from > t.to) t.from = t.to;
    return t;
}

/* --- convolutions ---------------------------------------------------------------------------------------------------- */

/* Codes of 4 bits, the first of two in the low half of a byte. */
static void unpack(const uint8_t *packed, int8_t *codes, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t half = i & 1 ? packed[i / 2] >> 4 : packed[i / 2] & 15;
        codes[i] = (int8_t)((half ^ 8) - 8);
    }
}

/* Four bits to the lowest of a byte each. */
static uint32_t spread(uint32_t bits) { return bits * 0x00204081u & 0x01010101u; }

/* A row of planes, which are `plane` bytes apart, to odd numbers; those of 8 bits are left as q - 128. */
static void join(const uint8_t *row, uint32_t plane, uint32_t planes, int8_t *codes, uint32_t n) {
    for (uint32_t i = 0; i < n; i += 8, row++) {
        uint32_t four[2] = {0, 0};
        for (uint32_t nth = 0; nth < planes; nth++) {
            four[0] = four[0] << 1 | spread(row[nth * plane] & 15u);
            four[1] = four[1] << 1 | spread(row[nth * plane] >> 4);
        }
        for (uint32_t j = 0; j < 8 && i + j < n; j++) {
            const int32_t q = (int32_t)(four[j / 4] >> j % 4 * 8 & 255u);
            codes[i + j] = (int8_t)(planes == 8 ? q - 128 : 2 * q + 1 - (1 << planes));
        }
    }
}

/* Kept codes of a row to their places; how many bytes they are. */
static uint32_t scatter(const uint8_t *mask, const uint8_t *kept, uint32_t bits, int8_t *codes, uint32_t n) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++) {
        codes[i] = 0;
        if (!(mask[i / 8] >> i % 8 & 1)) continue;
        if (bits == 4) {
            const uint8_t half = count & 1 ? kept[count / 2] >> 4 : kept[count / 2] & 15;
            codes[i] = (int8_t)((half ^ 8) - 8);
        } else {
            codes[i] = (int8_t)kept[count];
        }
        count++;
    }
    return bits == 4 ? (count + 1) / 2 : count;
}

/* Elastic weights of 8 bits. */
static int odd(const niwaki_step *s) { return s->weights->planes == 8; }

/* The sum under a window that lies in the image as a whole. */
static int32_t inside(const niwaki_step *s, const int8_t *x, const int8_t *w, uint32_t each, int32_t sum) {
    const uint32_t channels = s->in[2], line = (uint32_t)s->in[1] * channels;
    const uint32_t across = s->kernel[1] * each;
    for (uint32_t row = 0; row < s->kernel[0]; row++, x += s->dilation[0] * line) {
        if (each == channels && s->dilation[1] == 1) {
            sum = product(odd(s), w, x, across, sum);
            w += across;
            continue;
        }
        const int8_t *place = x;
        for (uint32_t tap = 0; tap < s->kernel[1]; tap++, w += each, place += s->dilation[1] * channels) {
            sum = each == 1 && !odd(s) ? sum + *w * *place : product(odd(s), w, place, each, sum);
        }
    }
    return sum;
}

/* The sum under a window of which a part lies beside the image, where all codes are the zero point. */
static int32_t edge(const niwaki_step *s, const int8_t *x, const int8_t *w, uint32_t each, taps down, taps across,
                    int32_t all, int32_t sum) {
    for (uint32_t row = down.from, y = down.at; row < down.to; row++, y += s->dilation[0]) {
        for (uint32_t tap = across.from, at = across.at; tap < across.to; tap++, at += s->dilation[1]) {
            const int8_t *codes = w + (row * s->kernel[1] + tap) * each;
            sum = product(odd(s), codes, x + (y * s->in[1] + at) * s->in[2], each, sum);
            all -= numbers(odd(s), codes, each);
        }
    }
    return sum + all * s->input_zero;
}

static int8_t conv_code(const niwaki_step *s, const niwaki_row *row, int32_t sum, int8_t there) {
    if (!s->onto) return code((int32_t)rounded(sum, row->multiplier, row->shift), s->output_zero, s->low, s->high);
    const int32_t most = (int32_t)1 << 30;
    const int64_t fine = rounded(sum, row->multiplier, row->shift - 16u);
    const int32_t steps = fine < -most ? -most : fine > most ? most : (int32_t)fine;
    return code(whole(steps + (there - s->onto_zero) * s->onto_times), s->output_zero, s->low, s->high);
}

/* One channel of the output. */
static void channel(const niwaki_step *s, const int8_t *x, int8_t *y, const int8_t *w, const niwaki_row *row) {
    const uint32_t each = s->in[2] / s->groups;
    const int32_t all = numbers(odd(s), w, s->weights->cols);
    for (uint32_t down = 0; down < s->out[0]; down++) {
        const taps lines = under(s, 0, down);
        for (uint32_t across = 0; across < s->out[1]; across++, y += s->out[2]) {
            const taps at = under(s, 1, across);
            int32_t sum = row->bias;
            if (lines.to - lines.from == s->kernel[0] && at.to - at.from == s->kernel[1]) {
                sum = inside(s, x + (lines.at * s->in[1] + at.at) * s->in[2], w, each, sum);
            } else {
                sum = edge(s, x, w, each, lines, at, all, sum);
            }
            *y = conv_code(s, row, sum, *y);
        }
    }
}

/* The codes of row `at`, as they are or unpacked into the arena; `kept` moves on to those of the next row. */
static const int8_t *unpacked(const niwaki_step *s, uint32_t at, const uint8_t **kept, int8_t *arena) {
    const niwaki_weights *weights = s->weights;
    const uint32_t cols = weights->cols, bits = (cols + 7) / 8;
    int8_t *codes = arena + s->scratch;
    if (weights->planes) {
        join(weights->codes + at * bits, s->out[2] * bits, weights->planes, codes, cols);
    } else if (weights->mask) {
        *kept += scatter(weights->mask + at * bits, *kept, weights->bits, codes, cols);
    } else if (weights->bits == 4) {
        unpack(weights->codes + at * ((cols + 1) / 2), codes, cols);
    } else {
        return (const int8_t *)weights->codes + at * cols;
    }
    return codes;
}

static void conv(const niwaki_step *s, int8_t *arena) {
    const uint32_t rows = s->out[2] / s->groups, each = s->in[2] / s->groups;
    const uint8_t *kept = s->weights->codes;
    for (uint32_t at = 0; at < s->out[2]; at++) {
        const int8_t *codes = unpacked(s, at, &kept, arena);
        const uint32_t group = s->groups == 1 ? 0 : at / rows;
        channel(s, arena + s->input + group * each, arena + s->output + at, codes, s->weights->rows + at);
    }
}

/* --- pools, sums, shares --------------------------------------------------------------------------------------------- */

static void pool(const niwaki_step *s, int8_t *arena) {
    const int8_t *x = arena + s->input;
    int8_t *y = arena + s->output;
    const int mean = s->work == NIWAKI_AVERAGE_POOL;
    for (uint32_t down = 0; down < s->out[0]; down++) {
        const taps lines = under(s, 0, down);
        for (uint32_t across = 0; across < s->out[1]; across++) {
            const taps at = under(s, 1, across);
            for (uint32_t channel = 0; channel < s->out[2]; channel++) {
                int32_t all = mean ? 0 : s->low;
                for (uint32_t i = 0; i < lines.to - lines.from; i++) {
                    const uint32_t line = (lines.at + i * s->dilation[0]) * s->in[1] + at.at;
                    for (uint32_t j = 0; j < at.to - at.from; j++) {
                        const int32_t q = x[(line + j * s->dilation[1]) * s->in[2] + channel];
                        all = mean ? all + q - s->input_zero : q > all ? q : all;
                    }
                }
                if (mean) {
                    *y++ = code((int32_t)rounded(all, s->multiplier, s->shift), s->output_zero, s->low, s->high);
                } else {
                    *y++ = (int8_t)(all < s->high ? all : s->high);
                }
            }
        }
    }
}

static uint32_t values(const niwaki_step *s) { return (uint32_t)s->in[0] * s->in[1] * s->in[2]; }

static void elementwise(const niwaki_step *s, int8_t *arena) {
    const int8_t *x = arena + s->input;
    int8_t *y = arena + s->output;
    for (uint32_t i = 0; i < values(s); i++) {
        int32_t sum = (x[i] - s->input_zero) * s->multiplier;
        if (s->work == NIWAKI_ADD) sum += (y[i] - s->onto_zero) * s->onto_times;
        y[i] = code(whole(sum), s->output_zero, s->low, s->high);
    }
}

static void softmax(const niwaki_step *s, int8_t *arena) {
    const int8_t *x = arena + s->input;
    const int32_t most = x[niwaki_largest(x, values(s))];
    uint32_t sum = 0;
    for (uint32_t i = 0; i < values(s); i++) sum += s->table[most - x[i]];
    for (uint32_t i = 0; i < values(s); i++) {
        const uint32_t share = (256 * s->table[most - x[i]] + sum / 2) / sum;
        arena[s->output + i] = code((int32_t)share, -128, s->low, s->high);
    }
}

/* --- all of it ------------------------------------------------------------------------------------------------------- */

const int8_t *niwaki_run(const niwaki_model *model, int8_t *arena) {
    for (const niwaki_step *s = model->steps; s < model->steps + model->count; s++) {
        switch (s->work) {
        case NIWAKI_CONV: conv(s, arena); break;
        case NIWAKI_MAX_POOL:
        case NIWAKI_AVERAGE_POOL: pool(s, arena); break;
        case NIWAKI_ADD:
        case NIWAKI_RESCALE: elementwise(s, arena); break;
        default: softmax(s, arena); break;
        }
    }
    return arena + model->output;
}

uint32_t niwaki_largest(const int8_t *codes, uint32_t count) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++) {
        if (codes[i] > codes[best]) best = i;
    }
    return best;
}
