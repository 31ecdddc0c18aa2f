// Fake quantization with a learned step and offset, as niwaki-quant's `fake_quant` has it.
//
//   v = (x - offset) / step      q = rne(clamp(v, low, high))      x' = q step + offset
//   back: inside = low <= v <= high      g_x = g inside      step: g (q - v inside)      offset: g (1 - inside)
//
// Sums of slopes are of runs of 1024 values in sixteen lanes, lane i the values i, i + 16, ..; the lanes of a run are added
// in order. Half a warp has one run. Whoever asked adds the runs, in doubles and in order.
#include "words.cuh"

#define THREADS 128u
#define RUN 1024u

struct Learned {
    float step, offset, low, high;
};

INLINE float rounded(float v) { return v + ROUNDER - ROUNDER; }

// Not a number stays that.
INLINE float clamped(Learned l, float v) {
    v = l.low > v ? l.low : v;
    return l.high < v ? l.high : v;
}

INLINE float on_grid(Learned l, float x) {
    return rounded(clamped(l, __fdiv_rn(x - l.offset, l.step))) * l.step + l.offset;
}

KERNEL(THREADS) niwaki_fake_quantize(const float *x, u64 n, float step, float offset, float low, float high, float *out) {
    Learned l = {step, offset, low, high};
    u64 at = ((u64)blockIdx.x * THREADS + threadIdx.x) * 4u;
    if (at + 4u <= n) {
        float4 v = *reinterpret_cast<const float4 *>(x + at);
        *reinterpret_cast<float4 *>(out + at) = float4{on_grid(l, v.x), on_grid(l, v.y), on_grid(l, v.z), on_grid(l, v.w)};
        return;
    }
    for (; at < n; at++) out[at] = on_grid(l, x[at]);
}

KERNEL(THREADS) niwaki_fake_quantize_back(const float *x, u64 n, float step, float offset, float low, float high,
                                         float *gradients, float *slopes) {
    Learned l = {step, offset, low, high};
    u64 run = ((u64)blockIdx.x * THREADS + threadIdx.x) / 16u;
    u32 lane = threadIdx.x % 16u;
    u64 end = least64((run + 1u) * RUN, n);
    float of_step = 0.0f, of_offset = 0.0f;
#pragma unroll 8
    for (u64 at = run * RUN + lane; at < end; at += 16u) {
        float g = gradients[at], v = __fdiv_rn(x[at] - l.offset, l.step), q = rounded(clamped(l, v));
        bool inside = l.low <= v && v <= l.high;
        of_step += g * (inside ? q - v : q);
        of_offset += inside ? 0.0f : g;
        gradients[at] = inside ? g : 0.0f;
    }
    float step_sum = 0.0f, offset_sum = 0.0f;
#pragma unroll
    for (u32 i = 0; i < 16u; i++) {
        u32 from = threadIdx.x % 32u / 16u * 16u + i;
        step_sum += __shfl_sync(WARP, of_step, from);
        offset_sum += __shfl_sync(WARP, of_offset, from);
    }
    if (lane == 0u && run * RUN < n) {
        slopes[2u * run] = step_sum;
        slopes[2u * run + 1u] = offset_sum;
    }
}
