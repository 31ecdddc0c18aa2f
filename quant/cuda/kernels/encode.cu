// From weights to packed codes.
//
//   extent    key = max rotl(bits(x), 1)      low = min(0, x)      high = max(0, x)                 of a group
//   grid      scale, zero = min_max(extent); `clip`: of shrunken extents the first of least  sum (x - x')^2
//   code      clamp(rne(x * (1 / scale)), -zero, top - zero) + zero, at bits [i b, i b + b) of its row
//   lost      signal = sum x^2, noise = sum (x - x')^2: of a tile sixteen sums, lane i takes i, i + 16, .. of each group
//             padded to sixteen; then lanes 8, 4, 2, 1 apart
//
// One block of 128 threads encodes one tile: up to 4096 weights of a row, all of whose groups lie in it, or a run of a row
// whose grid is known. Weights are read once, 16 bytes at a time.
//
//   pool   weights [tile]  errors [tile]  partial extents [3][tile / 8]  grids [3][groups]  losses  packed codes
#include "grid.cuh"

#define THREADS 128u

// What a launch says of its rows.
struct Rows {
    u32 cols;
    u32 group;   // weights of a group
    u32 padded;  // the same, up to a multiple of sixteen
    u32 groups;  // groups of a tile
    u32 tiles;   // tiles of a row
    u32 trials;  // grids that are tried besides the first
};

// Where a tile stands, and its shared memory.
struct Tile {
    u64 row;
    u32 start;  // its first column
    u32 first;  // its first group
    u32 count;  // weights
    u32 n;      // groups
    float *x, *e;
    u32 *keys;
    float *lows, *highs;
    float *scale, *zero, *inverted;
    float *losses;
    u8 *packed;
};

INLINE Tile tile_of(Rows r) {
    Tile t;
    t.row = blockIdx.x / r.tiles;
    u32 nth = blockIdx.x % r.tiles;
    u32 all = (r.cols + r.group - 1u) / r.group;
    t.first = nth * r.groups;
    t.n = least(r.groups, all - t.first);
    t.start = t.first * r.group;
    t.count = least(t.n * r.group, r.cols - t.start);
    u32 size = r.groups * r.padded;
    t.x = reinterpret_cast<float *>(pool);
    t.e = t.x + size;
    t.keys = reinterpret_cast<u32 *>(t.e + size);
    t.lows = reinterpret_cast<float *>(t.keys + size / 8u);
    t.highs = t.lows + size / 8u;
    t.scale = t.highs + size / 8u;
    t.zero = t.scale + r.groups;
    t.inverted = t.zero + r.groups;
    t.losses = t.inverted + r.groups;
    t.packed = reinterpret_cast<u8 *>(t.losses + r.groups * (r.trials + 1u));
    return t;
}

// Widens the weights of a tile, groups at multiples of `padded`, zeros where there are none.
template <typename T> INLINE void load_tile(const T *x, Rows r, Tile t) {
    const u32 lanes = Lanes<T>::count;
    u32 size = t.n * r.padded;
    if (r.group == r.padded && aligned(x)) {
        for (u32 at = threadIdx.x * lanes; at < size; at += THREADS * lanes) {
            float v[Lanes<T>::count];
            if (at + lanes <= t.count) {
                load_lanes(x + at, v);
            } else {
#pragma unroll
                for (u32 i = 0; i < lanes; i++) v[i] = at + i < t.count ? widen(x[at + i]) : 0.0f;
            }
#pragma unroll
            for (u32 i = 0; i < lanes; i += 4u) {
                *reinterpret_cast<float4 *>(t.x + at + i) = float4{v[i], v[i + 1u], v[i + 2u], v[i + 3u]};
            }
        }
        return;
    }
    for (u32 at = threadIdx.x; at < size; at += THREADS) {
        u32 group = at / r.padded, inside = at % r.padded, from = group * r.group + inside;
        t.x[at] = inside < r.group && from < t.count ? widen(x[from]) : 0.0f;
    }
}

INLINE void eight_of(const float *x, float *v) {
    float4 a = *reinterpret_cast<const float4 *>(x), b = *reinterpret_cast<const float4 *>(x + 4);
    v[0] = a.x;
    v[1] = a.y;
    v[2] = a.z;
    v[3] = a.w;
    v[4] = b.x;
    v[5] = b.y;
    v[6] = b.z;
    v[7] = b.w;
}

// The grids of the groups of a tile; marks groups that no code holds.
INLINE void min_max_grids(Grid g, Rows r, Tile t, u32 *faults) {
    for (u32 at = threadIdx.x; at < t.n * r.padded / 8u; at += THREADS) {
        float v[8];
        eight_of(t.x + 8u * at, v);
        u32 key = 0u;
        float low = 0.0f, high = 0.0f;
#pragma unroll
        for (u32 i = 0; i < 8u; i++) {
            key = most(key, key_of(v[i]));
            low = fminf(low, v[i]);
            high = fmaxf(high, v[i]);
        }
        t.keys[at] = key;
        t.lows[at] = low;
        t.highs[at] = high;
    }
    __syncthreads();
    for (u32 group = threadIdx.x; group < t.n; group += THREADS) {
        u32 key = 0u, each = r.padded / 8u;
        float low = 0.0f, high = 0.0f;
        for (u32 at = group * each; at < (group + 1u) * each; at++) {
            key = most(key, t.keys[at]);
            low = fminf(low, t.lows[at]);
            high = fmaxf(high, t.highs[at]);
        }
        Point p = min_max(g, key, low, high);
        if (key >= NOT_FINITE || !finite(p.scale)) atomicOr(faults, 1u);
        t.scale[group] = p.scale;
        t.zero[group] = p.zero;
        t.inverted[group] = inverse(p.scale);
        t.keys[group * each] = key;
        t.lows[group * each] = low;
        t.highs[group * each] = high;
    }
    __syncthreads();
}

// The k-th of the grids that `clip` tries: multiples of the extent, more of them above where codes are few.
INLINE Point trial(Grid g, u32 nth, u32 key, float low, float high) {
    const float bounds[7] = {0.55f, 0.65f, 0.76f, 0.85f, 0.91f, 0.95f, 0.97f};
    float bound = bounds[0];
#pragma unroll
    for (u32 i = 1; i < 7u; i++) bound = g.bits == i + 2u ? bounds[i] : bound;
    Point p;
    if (g.flags & AFFINE) {
        float a = bound + __fdiv_rn((1.02f - bound) * (float)(nth / 4u), 3.0f);
        float b = bound + __fdiv_rn((1.02f - bound) * (float)(nth % 4u), 3.0f);
        float end = a * low;
        p.scale = stored(g, affine_scale(g, end, b * high));
        p.zero = affine_zero(g, end, p.scale);
        return p;
    }
    float multiple = nth < 14u ? bound + __fdiv_rn((1.2f - bound) * (float)nth, 13.0f)
                               : -(bound + __fdiv_rn((1.08f - bound) * (float)(nth - 14u), 5.0f));
    p.scale = stored(g, symmetric_scale(g, key) * multiple);
    p.zero = half_code(g);
    return p;
}

// Tries grids: a thread for each and each group, sums in the order of the weights; of the least the first.
INLINE void search(Grid g, Rows r, Tile t) {
    u32 tried = r.trials + 1u, each = r.padded / 8u;
    for (u32 unit = threadIdx.x; unit < t.n * tried; unit += THREADS) {
        u32 group = unit / tried, nth = unit % tried;
        Point p;
        p.scale = t.scale[group];
        p.zero = t.zero[group];
        if (nth > 0u) p = trial(g, nth - 1u, t.keys[group * each], t.lows[group * each], t.highs[group * each]);
        float inverted = inverse(p.scale), low = -p.zero, high = top_of(g) - p.zero, sum = 0.0f;
        const float *x = t.x + group * r.padded;
        for (u32 i = 0; i < r.group; i++) {
            float error = x[i] - (steps(x[i], inverted, low, high) - ROUNDER) * p.scale;
            sum += error * error;
        }
        t.losses[unit] = sum;
    }
    __syncthreads();
    for (u32 group = threadIdx.x; group < t.n; group += THREADS) {
        const float *loss = t.losses + group * tried;
        float lost = loss[0];
        u32 best = 0u;
        for (u32 nth = 1; nth < tried; nth++) {
            if (loss[nth] < lost) {
                lost = loss[nth];
                best = nth;
            }
        }
        if (best > 0u) {
            Point p = trial(g, best - 1u, t.keys[group * each], t.lows[group * each], t.highs[group * each]);
            t.scale[group] = p.scale;
            t.zero[group] = p.zero;
            t.inverted[group] = inverse(p.scale);
        }
    }
    __syncthreads();
}

// Bytes of so many codes.
INLINE u32 bytes_of(u32 codes, u32 bits) { return codes / 8u * bits + (codes % 8u * bits + 7u) / 8u; }

// The code of a weight on a grid, and how far off it is.
INLINE u32 code_of(Grid g, float x, Point p, float inverted, float *error) {
    float rounded = steps(x, inverted, -p.zero, top_of(g) - p.zero);
    *error = x - (rounded - ROUNDER) * p.scale;
    return (__float_as_uint(rounded) - __float_as_uint(ROUNDER) + (u32)p.zero) & 0xffu;
}

// The codes of eight weights of one group, side by side.
INLINE u64 codes_of_eight(Grid g, Tile t, u32 at, u32 group, float *largest) {
    float v[8], e[8];
    eight_of(t.x + at, v);
    Point p = {t.scale[group], t.zero[group]};
    float inverted = t.inverted[group];
    u64 word = 0u;
#pragma unroll
    for (u32 i = 0; i < 8u; i++) {
        word |= (u64)code_of(g, v[i], p, inverted, &e[i]) << (g.bits * i);
        *largest = fmaxf(*largest, fabsf(e[i]));
    }
    *reinterpret_cast<float4 *>(t.e + at) = float4{e[0], e[1], e[2], e[3]};
    *reinterpret_cast<float4 *>(t.e + at + 4) = float4{e[4], e[5], e[6], e[7]};
    return word;
}

// The same where groups end anywhere, or weights do.
INLINE u64 codes_of_some(Grid g, Rows r, Tile t, u32 run, float *largest) {
    u64 word = 0u;
    for (u32 i = 0; i < 8u && 8u * run + i < t.count; i++) {
        u32 group = (8u * run + i) / r.group, at = group * r.padded + (8u * run + i) % r.group;
        Point p = {t.scale[group], t.zero[group]};
        word |= (u64)code_of(g, t.x[at], p, t.inverted[group], t.e + at) << (g.bits * i);
        *largest = fmaxf(*largest, fabsf(t.e[at]));
    }
    return word;
}

// Quantizes a tile, eight weights a thread; leaves errors and packed codes. The largest error of its weights.
INLINE float quantize(Grid g, Rows r, Tile t) {
    float largest = 0.0f;
    for (u32 run = threadIdx.x; 8u * run < t.count; run += THREADS) {
        bool whole = r.group % 8u == 0u && 8u * run + 8u <= t.count;
        u32 group = 8u * run / r.group, at = group * r.padded + 8u * run % r.group;
        u64 word = whole ? codes_of_eight(g, t, at, group, &largest) : codes_of_some(g, r, t, run, &largest);
        if (g.bits % 4u == 0u) {
            u32 *to = reinterpret_cast<u32 *>(t.packed) + run * (g.bits / 4u);
            to[0] = (u32)word;
            if (g.bits == 8u) to[1] = (u32)(word >> 32);
        } else {
            for (u32 byte = 0; byte < g.bits; byte++) t.packed[run * g.bits + byte] = (u8)(word >> (8u * byte));
        }
    }
    return largest;
}

// Errors of weights that are not there, which the sums go over.
INLINE void clear_padding(Rows r, Tile t) {
    if (t.n * r.padded == t.count) return;
    for (u32 at = threadIdx.x; at < t.n * r.padded; at += THREADS) {
        u32 inside = at % r.padded;
        if (inside >= r.group || at / r.padded * r.group + inside >= t.count) t.e[at] = 0.0f;
    }
}

// Lanes 0 to 15 of the first warp add up squares of weights, the others those of errors.
INLINE void tally(Rows r, Tile t, float *lost) {
    u32 lane = threadIdx.x & 15u;
    const float *from = threadIdx.x < 16u ? t.x : t.e;
    float sum = 0.0f;
#pragma unroll 8
    for (u32 at = lane; at < t.n * r.padded; at += 16u) sum += from[at] * from[at];
#pragma unroll
    for (int apart = 8; apart > 0; apart >>= 1) sum += __shfl_xor_sync(WARP, sum, apart);
    if (lane == 0u) lost[3u * (u64)blockIdx.x + (threadIdx.x >> 4)] = sum;
}

// Packed codes of a tile to their place, four bytes at a time where that is where words begin.
INLINE void store(Grid g, Rows r, Tile t, u8 *codes) {
    u32 bytes = bytes_of(t.count, g.bits);
    u8 *to = codes + t.row * bytes_of(r.cols, g.bits) + bytes_of(t.start, g.bits);
    u32 words = ((u64)to & 3u) == 0u ? bytes / 4u : 0u;
    for (u32 at = threadIdx.x; at < words; at += THREADS) {
        reinterpret_cast<u32 *>(to)[at] = reinterpret_cast<const u32 *>(t.packed)[at];
    }
    for (u32 at = 4u * words + threadIdx.x; at < bytes; at += THREADS) to[at] = t.packed[at];
}

// From weights and grids in shared memory to codes and what they lose.
INLINE void finish(Grid g, Rows r, Tile t, u8 *codes, float *lost) {
    float largest = quantize(g, r, t);
    clear_padding(r, t);
    u32 bits = warp_most(__float_as_uint(largest));
    __syncthreads();
    if ((threadIdx.x & 31u) == 0u) t.keys[threadIdx.x >> 5] = bits;
    if (threadIdx.x < 32u) tally(r, t, lost);
    store(g, r, t, codes);
    __syncthreads();
    if (threadIdx.x == 0u) {
        bits = most(most(t.keys[0], t.keys[1]), most(t.keys[2], t.keys[3]));
        lost[3u * (u64)blockIdx.x + 2u] = __uint_as_float(bits);
    }
}

// Rows in groups of up to 512, fit `min_max` or `clip`. `lost` is signal, noise and largest error of each tile.
template <typename T>
INLINE void encode_groups(const T *x, Grid g, Rows r, u8 *codes, u8 *scales, u8 *zeros, float *lost, u32 *faults) {
    Tile t = tile_of(r);
    load_tile(x + t.row * r.cols + t.start, r, t);
    __syncthreads();
    min_max_grids(g, r, t, faults);
    if (g.flags & CLIP) search(g, r, t);
    u64 before = t.row * ((r.cols + r.group - 1u) / r.group) + t.first;
    for (u32 group = threadIdx.x; group < t.n; group += THREADS) {
        Point p;
        p.scale = t.scale[group];
        p.zero = t.zero[group];
        put(g, p, before + group, scales, zeros);
    }
    finish(g, r, t, codes, lost);
}

// Rows whose grids are known: scale and zero point of each.
template <typename T>
INLINE void encode_rows(const T *x, Grid g, u32 cols, const float *grids, u8 *codes, float *lost) {
    Rows r = {cols, 4096u, 4096u, 1u, (cols + 4095u) / 4096u, 0u};
    Tile t = tile_of(r);
    // Shorter than a tile, the group of weights ends where they do.
    r.padded = (t.count + 15u) / 16u * 16u;
    load_tile(x + t.row * cols + t.start, Rows{cols, r.padded, r.padded, 1u, r.tiles, 0u}, t);
    if (threadIdx.x == 0u) {
        t.scale[0] = grids[2u * t.row];
        t.zero[0] = grids[2u * t.row + 1u];
        t.inverted[0] = inverse(t.scale[0]);
    }
    __syncthreads();
    finish(g, r, t, codes, lost);
}

#define ENCODE(name, T)                                                                                               \
    KERNEL(THREADS) niwaki_encode_groups_##name(const T *x, u32 cols, u32 group, u32 groups, u32 tiles, u32 trials,   \
                                               u32 bits, u32 flags, u8 *codes, u8 *scales, u8 *zeros, float *lost,    \
                                               u32 *faults) {                                                         \
        Grid g = {bits, flags};                                                                                       \
        Rows r = {cols, group, (group + 15u) / 16u * 16u, groups, tiles, trials};                                     \
        encode_groups(x, g, r, codes, scales, zeros, lost, faults);                                                   \
    }                                                                                                                 \
    KERNEL(THREADS) niwaki_encode_rows_##name(const T *x, u32 cols, u32 bits, u32 flags, const float *grids, u8 *codes, \
                                             float *lost) {                                                           \
        Grid g = {bits, flags};                                                                                       \
        encode_rows(x, g, cols, grids, codes, lost);                                                                  \
    }
FOR_TYPES(ENCODE)

// The grids of rows from the ranges of their parts, as they are stored and as `encode_rows` reads them.
KERNEL(THREADS) niwaki_row_grids(const u32 *keys, const float *lows, const float *highs, u32 rows, u32 parts, u32 bits,
                                u32 flags, u8 *scales, u8 *zeros, float *grids, u32 *faults) {
    u32 row = blockIdx.x * THREADS + threadIdx.x;
    if (row >= rows) return;
    Grid g = {bits, flags};
    u32 key = 0u;
    float low = 0.0f, high = 0.0f;
    for (u64 at = (u64)row * parts; at < (u64)(row + 1u) * parts; at++) {
        key = most(key, keys[at]);
        low = fminf(low, lows[at]);
        high = fmaxf(high, highs[at]);
    }
    Point p = min_max(g, key, low, high);
    if (key >= NOT_FINITE || !finite(p.scale)) atomicOr(faults, 1u);
    put(g, p, row, scales, zeros);
    grids[2u * (u64)row] = p.scale;
    grids[2u * (u64)row + 1u] = p.zero;
}
