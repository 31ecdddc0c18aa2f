// Grids of evenly spaced codes, as niwaki-quant's `grid.rs` has them.
//
//   code = clamp(rne(x / scale) + zero, 0, 2^bits - 1)      x' = scale * (code - zero)
//
// On a symmetric grid `zero` is 2^(bits-1) and the scale may be negative: the end of larger magnitude takes code 0.
#pragma once
#include "words.cuh"

#define AFFINE 1u
#define F32_SCALES 2u
#define CLIP 4u
#define LEAST_NORMAL 1.17549435e-38f

struct Grid {
    u32 bits;
    u32 flags;
};

struct Point {
    float scale;
    float zero;
};

INLINE float top_of(Grid g) { return (float)((1u << g.bits) - 1u); }
INLINE float half_code(Grid g) { return (float)(1u << (g.bits - 1u)); }

// The stored scale nearest to `raw`: never 0 for a `raw` that is not.
INLINE float stored(Grid g, float raw) {
    float rounded = raw, smallest = LEAST_NORMAL;
    if (!(g.flags & F32_SCALES)) {
        half16 half;
        half.bits = half_of(raw);
        rounded = widen(half);
        smallest = 5.9604645e-8f;
    }
    bool tiny = raw != 0.0f && fabsf(rounded) < smallest;
    return tiny ? copysignf(smallest, raw) : rounded;
}

INLINE float symmetric_scale(Grid g, u32 key) {
    float extreme = of_key(key);
    float scale = -extreme * (1.0f / half_code(g));
    if (fabsf(scale) < LEAST_NORMAL) scale = copysignf(LEAST_NORMAL, -extreme);
    return extreme == 0.0f ? 0.0f : scale;
}

INLINE float affine_scale(Grid g, float low, float high) {
    float scale = __fdiv_rn(high, top_of(g)) - __fdiv_rn(low, top_of(g));
    float largest = 3.40282347e+38f / (float)(1u << g.bits);
    scale = scale < largest ? scale : largest;
    scale = scale < LEAST_NORMAL ? LEAST_NORMAL : scale;
    return low == high ? 0.0f : scale;
}

INLINE float affine_zero(Grid g, float low, float scale) {
    float steps = scale == 0.0f ? 0.0f : __fdiv_rn(-low, scale);
    steps = steps > 0.0f ? steps : 0.0f;
    steps = steps < top_of(g) ? steps : top_of(g);
    return (steps + ROUNDER) - ROUNDER;
}

// The grid of an extent as it is: the fit `min_max`. `low <= 0 <= high`.
INLINE Point min_max(Grid g, u32 key, float low, float high) {
    Point p;
    if (g.flags & AFFINE) {
        p.scale = stored(g, affine_scale(g, low, high));
        p.zero = affine_zero(g, low, p.scale);
    } else {
        p.scale = stored(g, symmetric_scale(g, key));
        p.zero = half_code(g);
    }
    return p;
}

INLINE float inverse(float scale) { return scale == 0.0f ? 0.0f : __fdiv_rn(1.0f, scale); }

// `x * inverse`, clamped and rounded to an integer, plus ROUNDER.
INLINE float steps(float x, float inverted, float low, float high) {
    return fminf(fmaxf(x * inverted, low), high) + ROUNDER;
}

INLINE bool finite(float x) { return (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u; }

// Writes scale and zero point of one group where they are stored.
INLINE void put(Grid g, Point p, u64 group, u8 *scales, u8 *zeros) {
    if (g.flags & F32_SCALES) {
        reinterpret_cast<float *>(scales)[group] = p.scale;
    } else {
        reinterpret_cast<u16 *>(scales)[group] = half_of(p.scale);
    }
    if (g.flags & AFFINE) zeros[group] = (u8)p.zero;
}
