// The k-th largest magnitude: one histogram for each digit of |w|, from the upper one down.
//
//   bits 30..20, 19..10, 9..0: of weights whose upper bits are `prefix` the count of each value of the next digit
//
// A block counts in shared memory. Weights that are not finite count in `faults`.
#include "words.cuh"

#define THREADS 512u

template <typename T>
INLINE void digits(const T *x, u64 n, u32 above, u32 prefix, u32 shift, u32 bits, u64 *counts, u32 *faults) {
    u32 *bins = reinterpret_cast<u32 *>(pool);
    for (u32 bin = threadIdx.x; bin < 1u << bits; bin += THREADS) bins[bin] = 0u;
    __syncthreads();
    const u32 lanes = Lanes<T>::count;
    u64 step = (u64)gridDim.x * THREADS, first = (u64)blockIdx.x * THREADS + threadIdx.x, runs = (n + lanes - 1u) / lanes;
    bool bad = false;
    for (u64 run = first; run < runs; run += step) {
        float v[Lanes<T>::count];
        bool whole = (run + 1u) * lanes <= n;
        if (whole) load_lanes(x + run * lanes, v);
#pragma unroll
        for (u32 i = 0; i < lanes; i++) {
            if (!whole && run * lanes + i >= n) continue;
            u32 magnitude = __float_as_uint(whole ? v[i] : widen(x[run * lanes + i])) & 0x7fffffffu;
            bad = bad || magnitude >= 0x7f800000u;
            if (magnitude >> above == prefix) atomicAdd(&bins[magnitude >> shift & ((1u << bits) - 1u)], 1u);
        }
    }
    if (bad) atomicOr(faults, 1u);
    __syncthreads();
    for (u32 bin = threadIdx.x; bin < 1u << bits; bin += THREADS) {
        if (bins[bin] > 0u) atomicAdd(&counts[bin], (u64)bins[bin]);
    }
}

#define DIGITS(name, T)                                                                                               \
    KERNEL(THREADS) niwaki_magnitude_digits_##name(const T *x, u64 n, u32 above, u32 prefix, u32 shift, u32 bits,     \
                                                  u64 *counts, u32 *faults) {                                         \
        digits(x, n, above, prefix, shift, bits, counts, faults);                                                     \
    }
FOR_TYPES(DIGITS)
