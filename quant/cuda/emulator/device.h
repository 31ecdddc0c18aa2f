// CUDA's words for a C++ compiler: included before a kernel file, it makes functions of its kernels that run on a CPU, each
// thread of a block a fiber. What a kernel may use is what stands here.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#define __global__
#define __device__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__
#define __align__(n) __attribute__((aligned(n)))

namespace emulator {

struct Triple {
    unsigned x, y, z;
};

// Where the running thread stands.
struct Place {
    Triple thread, block, threads, blocks;
};
extern Place place;

void barrier(int line);
void warp_barrier(int line);
// Hands over `value` and takes that of the lane `from`; all lanes of `mask` have to come.
uint64_t exchange(uint32_t mask, uint64_t value, unsigned from, int line);
unsigned lane();

// While one is alive, accesses are atomic.
struct Atomic {
    Atomic();
    ~Atomic();
};

// Four numbers that are read and written as one, where 16 divides the address.
void wide(const void *at, bool write);
template <typename T> struct alignas(16) Four {
    T x, y, z, w;
    Four(T x, T y, T z, T w) : x(x), y(y), z(z), w(w) {}
    Four(const Four &from) : x(from.x), y(from.y), z(from.z), w(from.w) { wide(&from, false); }
    Four &operator=(const Four &from) {
        wide(this, true);
        x = from.x;
        y = from.y;
        z = from.z;
        w = from.w;
        return *this;
    }
};

template <typename T> T shuffle(uint32_t mask, T value, unsigned from, int line) {
    static_assert(sizeof(T) <= 8, "shuffles move up to eight bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(T));
    bits = exchange(mask, bits, from & 31u, line);
    memcpy(&value, &bits, sizeof(T));
    return value;
}

template <typename T, typename F> T change(T *at, F to) {
    Atomic atomic;
    T before = *static_cast<volatile T *>(at);
    *static_cast<volatile T *>(at) = to(before);
    return before;
}

// A kernel by name: arguments come as an array of pointers, as the driver takes them.
struct Kernel {
    const char *name;
    void (*call)(void **);
    const unsigned *sizes;
    unsigned arguments;
    Kernel *next;
};
void add(Kernel *);

template <typename F> struct Signature;
template <typename... A> struct Signature<void (*)(A...)> {
    static constexpr unsigned count = sizeof...(A);
    static constexpr unsigned sizes[count + 1] = {sizeof(A)..., 0};
    template <void (*F)(A...), size_t... I> static void go(void **p, std::index_sequence<I...>) {
        F(*static_cast<A *>(p[I])...);
    }
    template <void (*F)(A...)> static void call(void **p) { go<F>(p, std::index_sequence_for<A...>{}); }
};

}  // namespace emulator

#define EMULATE(f)                                                                                                \
    static emulator::Kernel kernel_##f{#f, emulator::Signature<decltype(&f)>::call<&f>,                           \
                                       emulator::Signature<decltype(&f)>::sizes,                                  \
                                       emulator::Signature<decltype(&f)>::count, nullptr};                        \
    static bool added_##f = (emulator::add(&kernel_##f), true);

typedef emulator::Four<unsigned> uint4;
typedef emulator::Four<float> float4;

#define threadIdx (emulator::place.thread)
#define blockIdx (emulator::place.block)
#define blockDim (emulator::place.threads)
#define gridDim (emulator::place.blocks)
#define __syncthreads() emulator::barrier(__LINE__)
#define __syncwarp() emulator::warp_barrier(__LINE__)
#define __shfl_sync(mask, v, from) emulator::shuffle(mask, v, from, __LINE__)
#define __shfl_xor_sync(mask, v, apart) emulator::shuffle(mask, v, emulator::lane() ^ (apart), __LINE__)

template <typename T> static inline T atomicAdd(T *at, T more) {
    return emulator::change(at, [=](T before) { return before + more; });
}
static inline unsigned atomicOr(unsigned *at, unsigned more) {
    return emulator::change(at, [=](unsigned before) { return before | more; });
}
static inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}
static inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
// Compiled without contraction: each is rounded once.
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
