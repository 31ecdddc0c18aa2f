// Bit-planes of codes, as niwaki-codes' `planes` has them.
//
//   plane p, bit i = bit p of code i        a plane of n codes takes ceil(n / 8) bytes, bits past its end are 0
//
// Eight codes are a matrix of 8 by 8 bits; turned, its rows are bytes of planes. A thread takes eight.
#include "words.cuh"

#define THREADS 256u

// Rows of bits become columns: blocks of 1, 2 and 4 change places.
INLINE u64 turned(u64 x) {
    u64 t = (x ^ x >> 7) & 0x00aa00aa00aa00aaull;
    x ^= t ^ t << 7;
    t = (x ^ x >> 14) & 0x0000cccc0000ccccull;
    x ^= t ^ t << 14;
    t = (x ^ x >> 28) & 0x00000000f0f0f0f0ull;
    return x ^ t ^ t << 28;
}

INLINE u64 up_to_eight(const u8 *codes, u64 n, u64 run) {
    if (8u * run + 8u <= n) return *reinterpret_cast<const u64 *>(codes + 8u * run);
    u64 word = 0u;
    for (u32 i = 0; 8u * run + i < n; i++) word |= (u64)codes[8u * run + i] << (8u * i);
    return word;
}

// Plane p begins `size` bytes after the one before.
KERNEL(THREADS) niwaki_split_planes(const u8 *codes, u64 n, u64 size, u8 *planes) {
    u64 run = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (8u * run >= n) return;
    u64 word = turned(up_to_eight(codes, n, run));
#pragma unroll
    for (u32 plane = 0; plane < 8u; plane++) planes[plane * size + run] = (u8)(word >> (8u * plane));
}

// The codes of the planes from `first` to 7, as their most significant bits alone: shifted down by `first`.
KERNEL(THREADS) niwaki_merge_planes(const u8 *planes, u64 n, u64 size, u32 first, u8 *codes) {
    u64 run = (u64)blockIdx.x * THREADS + threadIdx.x;
    if (8u * run >= n) return;
    u64 word = 0u;
    for (u32 plane = first; plane < 8u; plane++) word |= (u64)planes[plane * size + run] << (8u * (plane - first));
    word = turned(word);
    if (8u * run + 8u <= n) {
        *reinterpret_cast<u64 *>(codes + 8u * run) = word;
        return;
    }
    for (u32 i = 0; 8u * run + i < n; i++) codes[8u * run + i] = (u8)(word >> (8u * i));
}
