// What a robust training changed that an ordinary one did not, as niwaki-quant's `signature::extract` has it.
//
//   a = standard - init      v = robust - init      signature = v - coefficient a, in doubles, rounded once
//   sums of v a, a a, v v, standard^2, (robust - standard)^2: of blocks of 4096 in sixteen lanes, lanes added in order
//
// Half a warp has one block.
#include "words.cuh"

#define THREADS 128u
#define BLOCK 4096u
#define SUMS 5u

KERNEL(THREADS) niwaki_signature_moments(const float *init, const float *standard, const float *robust, u64 n,
                                        double *sums) {
    u64 block = ((u64)blockIdx.x * THREADS + threadIdx.x) / 16u;
    u32 lane = threadIdx.x % 16u;
    u64 end = least64((block + 1u) * BLOCK, n);
    double of[SUMS] = {0.0, 0.0, 0.0, 0.0, 0.0};
#pragma unroll 4
    for (u64 at = block * BLOCK + lane; at < end; at += 16u) {
        double i = init[at], s = standard[at], r = robust[at], a = s - i, v = r - i;
        of[0] += v * a;
        of[1] += a * a;
        of[2] += v * v;
        of[3] += s * s;
        of[4] += (r - s) * (r - s);
    }
#pragma unroll
    for (u32 which = 0; which < SUMS; which++) {
        double sum = 0.0;
#pragma unroll
        for (u32 i = 0; i < 16u; i++) sum += __shfl_sync(WARP, of[which], threadIdx.x % 32u / 16u * 16u + i);
        if (lane == 0u && block * BLOCK < n) sums[SUMS * block + which] = sum;
    }
}

KERNEL(THREADS) niwaki_signature(const float *init, const float *standard, const float *robust, u64 n, double coefficient,
                                float *out) {
    u64 at = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (at >= n) return;
    double i = init[at], s = standard[at], r = robust[at];
    out[at] = (float)((r - i) - coefficient * (s - i));
}
