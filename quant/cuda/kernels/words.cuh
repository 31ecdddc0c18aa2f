// What every kernel file begins with: short names, halves and floats as their bits, loads of 16 bytes, sums of a warp.
//
// Rules that let the same text run on a device and, behind the emulator's header, on a CPU:
//   - entry points are plain C: pointers and scalars, one dimension of threads;
//   - shared memory is `pool` alone, as many bytes as the launch asks for;
//   - products and sums are rounded one by one (compiled with fmad=false); what is fused says so;
//   - what comes out hangs on neither the order of blocks nor of threads: sums have one order, atomics are of integers.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
#define INLINE __device__ __forceinline__

extern __shared__ __align__(16) u8 pool[];

// Adding 1.5 * 2^23 rounds a float below 2^22 to nearest, ties to even.
#define ROUNDER 12582912.0f
// Keys at and above this are of infinities and NaN.
#define NOT_FINITE 0xff000000u
#define WARP 0xffffffffu

// Numbers of 16 bits: IEEE halves, and the upper halves of floats.
struct half16 {
    u16 bits;
};
struct bfloat16 {
    u16 bits;
};

INLINE float widen(float x) { return x; }

INLINE float widen(bfloat16 x) { return __uint_as_float((u32)x.bits << 16); }

// f32 = half's magnitude as the bits of a float, times 2^112: exact, subnormal halves included.
INLINE float widen(half16 x) {
    u32 magnitude = (u32)(x.bits & 0x7fffu) << 13;
    u32 value = __float_as_uint(__uint_as_float(magnitude) * 5.192296858534828e33f);
    if (magnitude >= 0x7c00u << 13) value = magnitude + (112u << 23) + (112u << 23);
    return __uint_as_float(value | (u32)(x.bits & 0x8000u) << 16);
}

// The nearest half, ties to even; beyond 65504 by half a step or more, an infinity.
INLINE u16 half_of(float x) {
    u32 sign = (__float_as_uint(x) >> 16) & 0x8000u;
    u32 magnitude = __float_as_uint(x) & 0x7fffffffu;
    u32 half;
    if (magnitude >= (127u + 16u) << 23) {
        half = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    } else if (magnitude < (127u - 14u) << 23) {
        half = __float_as_uint(__uint_as_float(magnitude) + 0.5f) - __float_as_uint(0.5f);
    } else {
        half = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    }
    return (u16)(half | sign);
}

// Numbers of a type in 16 bytes.
template <typename T> struct Lanes {
    static const u32 count = 16u / sizeof(T);
};

INLINE void unpack_lanes(const float *, uint4 v, float *out) {
    out[0] = __uint_as_float(v.x);
    out[1] = __uint_as_float(v.y);
    out[2] = __uint_as_float(v.z);
    out[3] = __uint_as_float(v.w);
}

template <typename T> INLINE void unpack_halves(u32 pair, float *out) {
    T low, high;
    low.bits = (u16)(pair & 0xffffu);
    high.bits = (u16)(pair >> 16);
    out[0] = widen(low);
    out[1] = widen(high);
}

template <typename T> INLINE void unpack_lanes(const T *, uint4 v, float *out) {
    unpack_halves<T>(v.x, out);
    unpack_halves<T>(v.y, out + 2);
    unpack_halves<T>(v.z, out + 4);
    unpack_halves<T>(v.w, out + 6);
}

// The numbers of 16 bytes at a place that 16 divides.
template <typename T> INLINE void load_lanes(const T *x, float *out) {
    unpack_lanes(x, *reinterpret_cast<const uint4 *>(x), out);
}

template <typename T> INLINE bool aligned(const T *x) { return ((u64)x & 15u) == 0u; }

// A number that orders floats by magnitude, the negative one of two first.
INLINE u32 key_of(float x) {
    u32 bits = __float_as_uint(x);
    return bits << 1 | bits >> 31;
}

INLINE float of_key(u32 key) { return __uint_as_float(key >> 1 | key << 31); }

// A number that orders floats by value; of zeros the negative one is less.
INLINE u32 order_of(float x) {
    u32 bits = __float_as_uint(x);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

INLINE u32 most(u32 a, u32 b) { return a > b ? a : b; }
INLINE u32 least(u32 a, u32 b) { return a < b ? a : b; }
INLINE u64 least64(u64 a, u64 b) { return a < b ? a : b; }

INLINE u32 warp_most(u32 v) {
#pragma unroll
    for (int apart = 16; apart > 0; apart >>= 1) v = most(v, __shfl_xor_sync(WARP, v, apart));
    return v;
}
INLINE float warp_low(float v) {
#pragma unroll
    for (int apart = 16; apart > 0; apart >>= 1) v = fminf(v, __shfl_xor_sync(WARP, v, apart));
    return v;
}
INLINE float warp_high(float v) {
#pragma unroll
    for (int apart = 16; apart > 0; apart >>= 1) v = fmaxf(v, __shfl_xor_sync(WARP, v, apart));
    return v;
}
// Neighbours 16 apart first, then 8, 4, 2, 1: one order.
INLINE float warp_sum(float v) {
#pragma unroll
    for (int apart = 16; apart > 0; apart >>= 1) v += __shfl_xor_sync(WARP, v, apart);
    return v;
}

// One entry point for each type of numbers.
#define FOR_TYPES(STAMP) STAMP(f32, float) STAMP(bf16, bfloat16) STAMP(f16, half16)
