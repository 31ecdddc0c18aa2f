// How often numbers have which value, in the bins of niwaki-quant's `observe::Histogram`.
//
//   bin = 4096 +- (1 + 64 (exponent + 32) + the first six bits of the mantissa)      4096 below 2^-32, the last beyond 2^32
//
// A block counts in shared memory and adds that to the whole in the end. What is not finite counts nowhere.
#include "words.cuh"

#define THREADS 512u
#define ZERO 4096u
#define BINS 8193u

INLINE u32 bin_of(float x) {
    u32 magnitude = __float_as_uint(x) & 0x7fffffffu, exponent = magnitude >> 23, place;
    if (exponent < 95u) return ZERO;
    place = exponent < 159u ? (exponent - 95u) * 64u + (magnitude >> 17 & 63u) : ZERO - 1u;
    return __float_as_uint(x) >> 31 ? ZERO - 1u - place : ZERO + 1u + place;
}

INLINE void count(u32 *bins, float x) {
    if ((__float_as_uint(x) & 0x7f800000u) != 0x7f800000u) atomicAdd(&bins[bin_of(x)], 1u);
}

template <typename T> INLINE void histogram(const T *x, u64 n, u64 *counts) {
    u32 *bins = reinterpret_cast<u32 *>(pool);
    for (u32 bin = threadIdx.x; bin < BINS; bin += THREADS) bins[bin] = 0u;
    __syncthreads();
    const u32 lanes = Lanes<T>::count;
    u64 step = (u64)gridDim.x * THREADS, first = (u64)blockIdx.x * THREADS + threadIdx.x, runs = n / lanes;
    for (u64 run = first; run < runs; run += step) {
        float v[Lanes<T>::count];
        load_lanes(x + run * lanes, v);
#pragma unroll
        for (u32 i = 0; i < lanes; i++) count(bins, v[i]);
    }
    if (runs * lanes + first < n) count(bins, widen(x[runs * lanes + first]));
    __syncthreads();
    for (u32 bin = threadIdx.x; bin < BINS; bin += THREADS) {
        if (bins[bin] > 0u) atomicAdd(&counts[bin], (u64)bins[bin]);
    }
}

#define HISTOGRAM(name, T)                                                                                            \
    KERNEL(THREADS) niwaki_histogram_##name(const T *x, u64 n, u64 *counts) { histogram(x, n, counts); }
FOR_TYPES(HISTOGRAM)
