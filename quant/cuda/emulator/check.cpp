// Looks at every access of a kernel. Kernel files are compiled with -fsanitize=thread, which puts a call before each access;
// the functions that are called are these, and not those of that library.
//
//   bounds        an access lies in memory of the device, in shared memory of the launch, or in the thread's own stack
//   first writes  what is read was written, by a kernel or by a copy
//   races         two threads, one writes, not both atomic: a barrier lies between, and they are of one block
#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

#include "emulator.h"

// Where the linker put the library.
extern const char image_start[] __asm__("__ehdr_start") __attribute__((visibility("hidden")));
extern const char image_end[] __asm__("_end") __attribute__((visibility("hidden")));

namespace emulator {
namespace {

// When and by whom a byte was touched last.
struct Touch {
    uint32_t launch, block, barriers, warp_barriers;
    uint16_t thread;
    bool atomic, many;
};

struct Byte {
    bool known;
    Touch write, read;
};

struct Memory {
    uintptr_t start;
    std::vector<Byte> bytes;
};

std::map<uintptr_t, Memory> memories;
Memory *last;
Memory shared_memory{0, std::vector<Byte>(POOL)};
uint32_t launches;

Memory *find(uintptr_t at) {
    if (last && at - last->start < last->bytes.size()) return last;
    auto after = memories.upper_bound(at);
    if (after == memories.begin()) return nullptr;
    Memory *found = &std::prev(after)->second;
    if (at - found->start >= found->bytes.size()) return nullptr;
    return last = found;
}

// Whether a touch of this launch may come at the same time as what `w` does.
bool clashes(const Touch &touch, const Who &w) {
    if (touch.launch != launches || (touch.atomic && w.atomic)) return false;
    if (touch.block != w.block) return true;
    if (touch.barriers != w.barriers) return false;
    if (touch.many) return true;
    if (touch.thread == w.thread) return false;
    return touch.thread / 32 != w.thread / 32 || touch.warp_barriers == w.warp_barriers;
}

void touch(Touch &to, const Who &w, bool keeps) {
    bool same = to.launch == launches && to.block == w.block && to.barriers == w.barriers;
    bool many = keeps && same && (to.many || to.thread != w.thread);
    to = {launches, w.block, w.barriers, w.warp_barriers, static_cast<uint16_t>(w.thread), w.atomic, many};
}

void look(uintptr_t at, size_t bytes, bool write) {
    Who w = who();
    if (!w.running || own_stack(at)) return;
    size_t offset = at - reinterpret_cast<uintptr_t>(pool);
    Memory *memory = &shared_memory;
    if (offset < POOL) {
        if (offset + bytes > shared_bytes()) return violation("an access beyond shared memory", offset, bytes);
    } else {
        // What the compiler keeps beside the code, and the emulator's own.
        uintptr_t image = reinterpret_cast<uintptr_t>(image_start);
        if (at - image < reinterpret_cast<uintptr_t>(image_end) - image) return;
        memory = find(at);
        if (!memory) return violation(write ? "a write beyond memory" : "a read beyond memory", at, bytes);
        offset = at - memory->start;
        if (offset + bytes > memory->bytes.size()) return violation("an access beyond the end of memory", offset, bytes);
    }
    if (at % bytes != 0) return violation("an access where its size does not divide the address", at, bytes);
    for (Byte *byte = &memory->bytes[offset], *end = byte + bytes; byte < end; byte++) {
        if (!write && !byte->known) return violation("a read of what nobody wrote", offset, bytes);
        if (clashes(byte->write, w)) return violation(write ? "a race of writes" : "a race of a write and a read", offset, bytes);
        if (write && clashes(byte->read, w)) return violation("a race of a read and a write", offset, bytes);
        if (write) {
            touch(byte->write, w, false);
            byte->known = true;
        } else {
            touch(byte->read, w, true);
        }
    }
}

}  // namespace

void add_memory(uintptr_t start, size_t bytes) {
    memories[start] = {start, std::vector<Byte>(bytes)};
    last = nullptr;
}

void remove_memory(uintptr_t start) {
    memories.erase(start);
    last = nullptr;
}

void written(uintptr_t start, size_t bytes) {
    Memory *memory = find(start);
    if (!memory) return;
    for (size_t at = start - memory->start, end = at + bytes; at < end; at++) memory->bytes[at].known = true;
}

void wide(const void *at, bool write) { look(reinterpret_cast<uintptr_t>(at), 16, write); }

void check_launch() { launches++; }

// Shared memory begins anew with each block; what happened to it before is over.
void check_block() { memset(shared_memory.bytes.data(), 0, sizeof(Byte) * shared_bytes()); }

}  // namespace emulator

using emulator::look;

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit(void *) {}
#define HOOKS(n)                                                                                     \
    void __tsan_read##n(void *p) { look(reinterpret_cast<uintptr_t>(p), n, false); }                 \
    void __tsan_write##n(void *p) { look(reinterpret_cast<uintptr_t>(p), n, true); }                 \
    void __tsan_unaligned_read##n(void *p) { look(reinterpret_cast<uintptr_t>(p), n, false); }       \
    void __tsan_unaligned_write##n(void *p) { look(reinterpret_cast<uintptr_t>(p), n, true); }       \
    void __tsan_volatile_read##n(void *p) { look(reinterpret_cast<uintptr_t>(p), n, false); }        \
    void __tsan_volatile_write##n(void *p) { look(reinterpret_cast<uintptr_t>(p), n, true); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void *p, unsigned long n) { look(reinterpret_cast<uintptr_t>(p), n, false); }
void __tsan_write_range(void *p, unsigned long n) { look(reinterpret_cast<uintptr_t>(p), n, true); }
}
