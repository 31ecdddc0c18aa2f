// One step of the search for a mask, as niwaki-prune's `jackpot` has it: scores go down their gradients, then weights change
// places, of those that would a share.
//
//   velocity = momentum velocity + (g scale w + decay score)      score = score - rate velocity
//   rank     = order(score) 2^32 + kept 2^31 + (2^31 - 1 - place): higher first; no two are alike
//   enter    = dropped and rank >= threshold      leave = kept and rank < threshold
//
// The k-th rank comes from eight histograms, one for each byte of it.
#include "words.cuh"

#define THREADS 256u

KERNEL(THREADS) niwaki_descend(const float *gradient, const float *weights, u32 n, float rate, float momentum, float decay,
                              float scale, float *scores, float *velocity, u32 *faults) {
    u32 at = blockIdx.x * THREADS + threadIdx.x;
    if (at >= n) return;
    float v = momentum * velocity[at] + (gradient[at] * scale * weights[at] + decay * scores[at]);
    float score = scores[at] - rate * v;
    velocity[at] = v;
    scores[at] = score;
    if ((__float_as_uint(score) & 0x7f800000u) == 0x7f800000u) atomicOr(faults, 1u);
}

#define ALL 0u
#define ENTER 1u
#define LEAVE 2u

INLINE u64 rank_of(float score, u8 kept, u32 at) {
    return (u64)order_of(score) << 32 | (u64)(kept ? 0x80000000u : 0u) | (0x7fffffffu - at);
}

// Whether a weight is one of those: all, those that would enter, those that would leave.
INLINE bool among(u32 which, u64 rank, u8 kept, u64 threshold) {
    if (which == ALL) return true;
    return which == ENTER ? !kept && rank >= threshold : kept && rank < threshold;
}

// Of ranks whose bytes above `shift` are `prefix`, how many have which byte next.
KERNEL(THREADS) niwaki_rank_digits(const float *scores, const u8 *kept, u32 n, u32 which, u64 threshold, u64 prefix,
                                  u32 shift, u32 *counts) {
    u32 *bins = reinterpret_cast<u32 *>(pool);
    bins[threadIdx.x] = 0u;
    __syncthreads();
    for (u32 at = blockIdx.x * THREADS + threadIdx.x; at < n; at += gridDim.x * THREADS) {
        u64 rank = rank_of(scores[at], kept[at], at);
        bool same = shift == 56u || rank >> (shift + 8u) == prefix;
        if (same && among(which, rank, kept[at], threshold)) atomicAdd(&bins[rank >> shift & 255u], 1u);
    }
    __syncthreads();
    if (bins[threadIdx.x] > 0u) atomicAdd(&counts[threadIdx.x], bins[threadIdx.x]);
}

// Those that enter with a rank from `enter` on, and those that leave with one of at most `leave`, change places.
KERNEL(THREADS) niwaki_swap(const float *scores, const float *weights, u32 n, u64 threshold, u64 enter, u64 leave, u8 *kept,
                           float *effective) {
    u32 at = blockIdx.x * THREADS + threadIdx.x;
    if (at >= n) return;
    u8 was = kept[at];
    u64 rank = rank_of(scores[at], was, at);
    if (among(ENTER, rank, was, threshold) && rank >= enter) {
        kept[at] = 1u;
        effective[at] = weights[at];
    } else if (among(LEAVE, rank, was, threshold) && rank <= leave) {
        kept[at] = 0u;
        effective[at] = 0.0f;
    }
}
