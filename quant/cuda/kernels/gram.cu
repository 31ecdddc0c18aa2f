// The Gram matrix of rows, as niwaki-quant's `observe::Gram` adds it up.
//
//   sums[i, j] += sum over rows of a run of 64, in order, of x[row, i] x[row, j]        runs in order, i <= j
//
// Products of floats are exact in doubles. A block of 256 threads has 64 by 64 of the matrix, a thread 4 by 4.
//
//   pool   left [16][64]  right [16][64]: sixteen rows of the columns i and of the columns j
#include "words.cuh"

#define THREADS 256u
#define SIDE 64u
#define DEEP 64u
#define ROWS 16u

// Sixteen rows of 64 columns; zeros where there are none.
template <typename T> INLINE void load_panel(const T *x, u32 row, u32 rows, u32 first, u32 inputs, float *to) {
    for (u32 at = threadIdx.x; at < ROWS * SIDE; at += THREADS) {
        u32 r = row + at / SIDE, column = first + at % SIDE;
        to[at] = r < rows && column < inputs ? widen(x[(u64)r * inputs + column]) : 0.0f;
    }
}

template <typename T> INLINE void gram(const T *x, u32 rows, u32 inputs, double *sums) {
    u32 top = blockIdx.y * SIDE, left_of = blockIdx.x * SIDE;
    if (blockIdx.y > blockIdx.x) return;
    float *left = reinterpret_cast<float *>(pool), *right = left + ROWS * SIDE;
    u32 i0 = threadIdx.x / 16u * 4u, j0 = threadIdx.x % 16u * 4u;
    double all[4][4], run[4][4];
#pragma unroll
    for (u32 i = 0; i < 4u; i++) {
#pragma unroll
        for (u32 j = 0; j < 4u; j++) {
            u32 row = top + i0 + i, column = left_of + j0 + j;
            all[i][j] = row < inputs && column < inputs ? sums[(u64)row * inputs + column] : 0.0;
            run[i][j] = 0.0;
        }
    }
    for (u32 row = 0; row < rows; row += ROWS) {
        load_panel(x, row, rows, top, inputs, left);
        load_panel(x, row, rows, left_of, inputs, right);
        __syncthreads();
#pragma unroll 4
        for (u32 k = 0; k < ROWS; k++) {
            double a[4], b[4];
#pragma unroll
            for (u32 i = 0; i < 4u; i++) {
                a[i] = left[k * SIDE + i0 + i];
                b[i] = right[k * SIDE + j0 + i];
            }
#pragma unroll
            for (u32 i = 0; i < 4u; i++) {
#pragma unroll
                for (u32 j = 0; j < 4u; j++) run[i][j] = fma(a[i], b[j], run[i][j]);
            }
        }
        __syncthreads();
        if ((row + ROWS) % DEEP == 0u || row + ROWS >= rows) {
#pragma unroll
            for (u32 i = 0; i < 4u; i++) {
#pragma unroll
                for (u32 j = 0; j < 4u; j++) {
                    all[i][j] += run[i][j];
                    run[i][j] = 0.0;
                }
            }
        }
    }
#pragma unroll
    for (u32 i = 0; i < 4u; i++) {
#pragma unroll
        for (u32 j = 0; j < 4u; j++) {
            u32 row = top + i0 + i, column = left_of + j0 + j;
            if (row <= column && column < inputs) sums[(u64)row * inputs + column] = all[i][j];
        }
    }
}

#define GRAM(name, T)                                                                                                 \
    KERNEL(THREADS) niwaki_gram_##name(const T *x, u32 rows, u32 inputs, double *sums) { gram(x, rows, inputs, sums); }
FOR_TYPES(GRAM)
