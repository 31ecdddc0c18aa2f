// How far numbers reach: the largest magnitude, the least and the greatest of rows and of columns.
//
//   key = max rotl(bits(x), 1)      low = min x      high = max x       not a number counts for the key alone
//
// A row is cut into parts of `span` numbers, a block each; columns into runs of `deep` rows. Whoever asked puts the parts
// together: which is least hangs on no order.
#include "words.cuh"

#define THREADS 256u

struct Range {
    u32 key;
    float low, high;
};

INLINE void widen_range(Range *r, float x) {
    r->key = most(r->key, key_of(x));
    r->low = fminf(r->low, x);
    r->high = fmaxf(r->high, x);
}

INLINE void nothing(Range *r) {
    r->key = 0u;
    r->low = __uint_as_float(0x7f800000u);
    r->high = __uint_as_float(0xff800000u);
}

template <typename T>
INLINE void row_ranges(const T *x, u32 cols, u32 parts, u32 span, u32 *keys, float *lows, float *highs) {
    u64 row = blockIdx.x / parts;
    u32 start = blockIdx.x % parts * span, end = least(start + span, cols);
    const T *from = x + row * cols;
    Range r;
    nothing(&r);
    const u32 lanes = Lanes<T>::count;
    u32 at = start;
    if (aligned(from + start)) {
        u32 whole = start + (end - start) / lanes * lanes;
#pragma unroll 4
        for (at = start + threadIdx.x * lanes; at < whole; at += THREADS * lanes) {
            float v[Lanes<T>::count];
            load_lanes(from + at, v);
#pragma unroll
            for (u32 i = 0; i < lanes; i++) widen_range(&r, v[i]);
        }
        at = whole;
    }
    for (at += threadIdx.x; at < end; at += THREADS) widen_range(&r, widen(from[at]));
    u32 *warp_keys = reinterpret_cast<u32 *>(pool);
    float *warp_lows = reinterpret_cast<float *>(warp_keys + 8), *warp_highs = warp_lows + 8;
    u32 key = warp_most(r.key);
    float low = warp_low(r.low), high = warp_high(r.high);
    if (threadIdx.x % 32u == 0u) {
        warp_keys[threadIdx.x / 32u] = key;
        warp_lows[threadIdx.x / 32u] = low;
        warp_highs[threadIdx.x / 32u] = high;
    }
    __syncthreads();
    if (threadIdx.x == 0u) {
        for (u32 i = 1; i < 8u; i++) {
            key = most(key, warp_keys[i]);
            low = fminf(low, warp_lows[i]);
            high = fmaxf(high, warp_highs[i]);
        }
        keys[blockIdx.x] = key;
        lows[blockIdx.x] = low;
        highs[blockIdx.x] = high;
    }
}

template <typename T>
INLINE void column_ranges(const T *x, u32 rows, u32 cols, u32 deep, u32 *keys, float *lows, float *highs) {
    u32 column = blockIdx.x * THREADS + threadIdx.x;
    if (column >= cols) return;
    Range r;
    nothing(&r);
    u32 end = least((blockIdx.y + 1u) * deep, rows);
#pragma unroll 8
    for (u32 row = blockIdx.y * deep; row < end; row++) widen_range(&r, widen(x[(u64)row * cols + column]));
    u64 to = (u64)blockIdx.y * cols + column;
    keys[to] = r.key;
    lows[to] = r.low;
    highs[to] = r.high;
}

#define RANGES(name, T)                                                                                              \
    KERNEL(THREADS) niwaki_row_ranges_##name(const T *x, u32 cols, u32 parts, u32 span, u32 *keys, float *lows,      \
                                            float *highs) {                                                          \
        row_ranges(x, cols, parts, span, keys, lows, highs);                                                         \
    }                                                                                                                \
    KERNEL(THREADS) niwaki_column_ranges_##name(const T *x, u32 rows, u32 cols, u32 deep, u32 *keys, float *lows,    \
                                               float *highs) {                                                       \
        column_ranges(x, rows, cols, deep, keys, lows, highs);                                                       \
    }
FOR_TYPES(RANGES)
