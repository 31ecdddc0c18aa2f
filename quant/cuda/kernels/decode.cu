// From packed codes to weights, and to products with inputs.
//
//   code i of a row   bits [i b, i b + b) of it, lowest first      x' = scale * (code - zero)
//   y                 sum over columns of x' * input: lane l of a warp adds, fused, those of the runs of eight l, l + 32, ..
//                     in order; then lanes 16, 8, 4, 2, 1 apart
//
// Eight codes fill `bits` whole bytes: a thread takes eight.
#include "grid.cuh"

#define THREADS 256u

// What codes mean.
struct Coded {
    Grid grid;
    const u8 *codes, *scales, *zeros;
    u32 cols, group;
};

INLINE Point point_at(Coded c, u64 group) {
    Point p;
    if (c.grid.flags & F32_SCALES) {
        p.scale = reinterpret_cast<const float *>(c.scales)[group];
    } else {
        p.scale = widen(reinterpret_cast<const half16 *>(c.scales)[group]);
    }
    p.zero = c.grid.flags & AFFINE ? (float)c.zeros[group] : half_code(c.grid);
    return p;
}

INLINE u32 row_bytes(Coded c) { return c.cols / 8u * c.grid.bits + (c.cols % 8u * c.grid.bits + 7u) / 8u; }

// The codes of a run of eight of a row, as many as there are.
INLINE u64 eight_codes(Coded c, u64 row, u32 run) {
    u32 bytes = least(c.grid.bits, row_bytes(c) - run * c.grid.bits);
    const u8 *from = c.codes + row * row_bytes(c) + (u64)run * c.grid.bits;
    if (bytes == 4u && ((u64)from & 3u) == 0u) return *reinterpret_cast<const u32 *>(from);
    u64 word = 0u;
    for (u32 i = 0; i < bytes; i++) word |= (u64)from[i] << (8u * i);
    return word;
}

// The weights of a run of eight.
INLINE void eight_weights(Coded c, u64 row, u32 run, float *out) {
    u64 word = eight_codes(c, row, run);
    u64 first = row * ((c.cols + c.group - 1u) / c.group);
    bool one = c.group % 8u == 0u;
    Point p = point_at(c, first + 8u * run / c.group);
    u32 mask = (1u << c.grid.bits) - 1u;
#pragma unroll
    for (u32 i = 0; i < 8u; i++) {
        if (!one && 8u * run + i < c.cols) p = point_at(c, first + (8u * run + i) / c.group);
        out[i] = p.scale * ((float)((u32)(word >> (c.grid.bits * i)) & mask) - p.zero);
    }
}

// One run of eight a thread.
KERNEL(THREADS) niwaki_decode(const u8 *codes, const u8 *scales, const u8 *zeros, u32 rows, u32 cols, u32 group, u32 bits,
                             u32 flags, float *out) {
    Coded c = {{bits, flags}, codes, scales, zeros, cols, group};
    u32 runs = (cols + 7u) / 8u;
    u64 at = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (at >= (u64)rows * runs) return;
    u64 row = at / runs;
    u32 run = (u32)(at % runs);
    float v[8];
    eight_weights(c, row, run, v);
    float *to = out + row * cols + 8u * run;
    if (8u * run + 8u <= cols && aligned(to)) {
        *reinterpret_cast<float4 *>(to) = float4{v[0], v[1], v[2], v[3]};
        *reinterpret_cast<float4 *>(to + 4) = float4{v[4], v[5], v[6], v[7]};
        return;
    }
#pragma unroll
    for (u32 i = 0; i < 8u; i++) {
        if (8u * run + i < cols) to[i] = v[i];
    }
}

// A row a warp.
KERNEL(THREADS) niwaki_gemv(const u8 *codes, const u8 *scales, const u8 *zeros, const float *x, u32 rows, u32 cols,
                           u32 group, u32 bits, u32 flags, float *y) {
    Coded c = {{bits, flags}, codes, scales, zeros, cols, group};
    u64 row = ((u64)blockIdx.x * THREADS + threadIdx.x) / 32u;
    if (row >= rows) return;
    float sum = 0.0f;
    for (u32 run = threadIdx.x % 32u; 8u * run < cols; run += 32u) {
        float v[8];
        eight_weights(c, row, run, v);
#pragma unroll
        for (u32 i = 0; i < 8u; i++) {
            if (8u * run + i < cols) sum = __fmaf_rn(v[i], x[8u * run + i], sum);
        }
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32u == 0u) y[row] = sum;
}
