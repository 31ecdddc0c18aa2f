// The parts of the emulator to each other.
#pragma once
#include <cstddef>
#include <cstdint>

namespace emulator {

// Shared memory that a launch may ask for.
constexpr size_t POOL = 48 << 10;

// In which order the threads of a block run between barriers, and blocks after each other.
enum Order { UP, DOWN, RANDOM };

// One launch; what went wrong, or null.
const char *launch(const char *kernel, const unsigned *blocks, const unsigned *threads, unsigned shared, void **arguments);
void set_order(int order, uint64_t seed);
// Sizes of the arguments of a kernel; null of one that is not known.
const unsigned *sizes_of(const char *kernel, unsigned *count);

// What a kernel may touch: memory of the device. `known` bytes were written by somebody.
void add_memory(uintptr_t start, size_t bytes);
void remove_memory(uintptr_t start);
void written(uintptr_t start, size_t bytes);

// Who runs, for the checks.
struct Who {
    uint32_t block, thread, barriers, warp_barriers;
    bool atomic, running;
};
Who who();
// The first violation of a launch ends it.
void violation(const char *what, uintptr_t at, size_t bytes);
bool own_stack(uintptr_t at);
// Bytes of shared memory of this launch.
size_t shared_bytes();
void check_launch();
void check_block();

}  // namespace emulator

extern "C" unsigned char pool[];
