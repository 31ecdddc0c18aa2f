// Sums over rows for each column, in doubles.
//
//   sum = sum over runs of `deep` rows, in order, of (sum x^2 over the rows of the run, in order)
//
// The square of a float is exact in a double.
#include "words.cuh"

#define THREADS 256u

template <typename T> INLINE void second_moments(const T *x, u32 rows, u32 cols, u32 deep, double *sums) {
    u32 column = blockIdx.x * THREADS + threadIdx.x;
    if (column >= cols) return;
    u32 end = least((blockIdx.y + 1u) * deep, rows);
    double sum = 0.0;
#pragma unroll 8
    for (u32 row = blockIdx.y * deep; row < end; row++) {
        double value = widen(x[(u64)row * cols + column]);
        sum += value * value;
    }
    sums[(u64)blockIdx.y * cols + column] = sum;
}

#define MOMENTS(name, T)                                                                                              \
    KERNEL(THREADS) niwaki_second_moments_##name(const T *x, u32 rows, u32 cols, u32 deep, double *sums) {            \
        second_moments(x, rows, cols, deep, sums);                                                                    \
    }
FOR_TYPES(MOMENTS)

// Adds up the sums of runs, in order.
KERNEL(THREADS) niwaki_add_runs(const double *sums, u32 runs, u32 cols, double *all) {
    u32 column = blockIdx.x * THREADS + threadIdx.x;
    if (column >= cols) return;
    double sum = 0.0;
    for (u32 run = 0; run < runs; run++) sum += sums[(u64)run * cols + column];
    all[column] = sum;
}
