// Runs kernels on a CPU as a device would: each thread of a block is a fiber, barriers and shuffles are where they meet.
//
//   launch > blocks, one after the other > rounds: every fiber that can run runs until it waits or ends
//
// It refuses what a device leaves undefined or hangs on: barriers that only some threads reach, shuffles with lanes that are
// gone, and through check.cpp reads of what nobody wrote, accesses beyond memory, races. Not modelled: the order of memory
// between blocks, time, approximate functions.
#include "emulator.h"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

#include "device.h"

extern "C" {
__attribute__((aligned(16))) unsigned char pool[emulator::POOL];
}

namespace emulator {

Place place;

namespace {

enum State { READY, BARRIER, WARP, DONE };
constexpr size_t STACK = 64 << 10;
constexpr unsigned MOST = 1024;

struct Fiber {
    State state;
    Triple thread;
    int line;
    unsigned warp_barriers, exchanges;
    void *stack_pointer;
    ucontext_t context;
};

// A meeting of the lanes of a warp; two, so that the next one may begin before all have left.
struct Meeting {
    uint32_t mask, arrived, left;
    int line;
    uint64_t values[32];
};

Fiber fibers[MOST];
Meeting meetings[MOST / 32][2];
Kernel *kernels;
Kernel *running;
void **parameters;
unsigned char *stacks;
unsigned current, count, barriers, block_number;
size_t shared;
int atomic_depth;
Order order;
uint64_t state = 1;
std::string fault;
bool inside;

uint64_t draw() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

#if defined(__x86_64__)
// Registers that a call keeps, and the stack: no signals, no system call.
extern "C" void emulator_switch(void **from, void *to);
asm(".text\n"
    ".hidden emulator_switch\n"
    ".globl emulator_switch\n"
    "emulator_switch:\n"
    "  pushq %rbx\n  pushq %rbp\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbp\n  popq %rbx\n"
    "  ret\n");
void *scheduler;
void leave() { emulator_switch(&fibers[current].stack_pointer, scheduler); }
void enter() { emulator_switch(&scheduler, fibers[current].stack_pointer); }
#else
ucontext_t scheduler;
void leave() { swapcontext(&fibers[current].context, &scheduler); }
void enter() { swapcontext(&scheduler, &fibers[current].context); }
#endif

void begin() {
    running->call(parameters);
    fibers[current].state = DONE;
    leave();
    abort();
}

// A fresh stack that begins with `begin`.
void prepare(unsigned at) {
    Fiber &fiber = fibers[at];
    fiber.state = READY;
    fiber.warp_barriers = fiber.exchanges = 0;
    unsigned char *base = stacks + at * STACK;
#if defined(__x86_64__)
    void **top = reinterpret_cast<void **>(base + STACK);
    // Where a function begins, 8 bytes are missing to a multiple of 16.
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(begin);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    fiber.stack_pointer = top;
#else
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = base;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, begin, 0);
#endif
}

void refuse(const char *what, int line) {
    if (!fault.empty()) return;
    char text[256];
    snprintf(text, sizeof text, "%s: %s, line %d, block %u %u, thread %u", running->name, what, line, place.block.x,
             place.block.y, fibers[current].thread.x);
    fault = text;
}

void wait(State state, int line) {
    fibers[current].state = state;
    fibers[current].line = line;
    leave();
    if (!fault.empty()) {
        // The launch is over: this fiber never runs on.
        fibers[current].state = DONE;
        leave();
    }
}

bool can_run(unsigned at) {
    const Fiber &fiber = fibers[at];
    if (fiber.state == READY) return true;
    if (fiber.state != WARP) return false;
    const Meeting &m = meetings[at / 32][(fiber.exchanges - 1) % 2];
    return (m.arrived & m.mask) == m.mask;
}

// Nobody can run: all wait at one barrier, or something is wrong.
void open_barrier() {
    int line = 0;
    unsigned waiting = 0, ended = 0;
    for (unsigned at = 0; at < count; at++) {
        const Fiber &fiber = fibers[at];
        if (fiber.state == WARP) {
            current = at;
            return refuse("a shuffle waits for lanes that ended or wait elsewhere", fiber.line);
        }
        if (fiber.state == DONE) {
            ended++;
            continue;
        }
        if (waiting++ > 0 && fiber.line != line) {
            current = at;
            return refuse("threads of one block wait at different barriers", fiber.line);
        }
        line = fiber.line;
    }
    if (ended > 0) return refuse("a barrier that some threads never reach", line);
    barriers++;
    for (unsigned at = 0; at < count; at++) fibers[at].state = READY;
}

void run_block() {
    unsigned turn[MOST];
    for (unsigned at = 0; at < count; at++) {
        turn[at] = order == DOWN ? count - 1 - at : at;
        prepare(at);
    }
    memset(meetings, 0, sizeof meetings);
    memset(pool, 0xff, shared);
    barriers = 0;
    check_block();
    for (unsigned left = count; left > 0 && fault.empty();) {
        if (order == RANDOM) {
            for (unsigned at = count - 1; at > 0; at--) std::swap(turn[at], turn[draw() % (at + 1)]);
        }
        bool moved = false;
        for (unsigned nth = 0; nth < count && fault.empty(); nth++) {
            if (!can_run(turn[nth])) continue;
            current = turn[nth];
            fibers[current].state = READY;
            place.thread = fibers[current].thread;
            moved = inside = true;
            enter();
            inside = false;
            left -= fibers[current].state == DONE;
        }
        if (!moved && fault.empty()) open_barrier();
    }
}

}  // namespace

unsigned lane() { return current % 32; }

void barrier(int line) { wait(BARRIER, line); }

uint64_t exchange(uint32_t mask, uint64_t value, unsigned from, int line) {
    Fiber &fiber = fibers[current];
    Meeting &m = meetings[current / 32][fiber.exchanges++ % 2];
    uint32_t own = 1u << lane();
    if (m.arrived == 0) {
        m.mask = mask;
        m.line = line;
        m.left = 0;
    }
    if (m.mask != mask || m.line != line) refuse("lanes of one warp at different shuffles", line);
    if (!(mask & own) || !(mask >> from & 1)) refuse("a shuffle with a lane that it does not name", line);
    m.values[lane()] = value;
    m.arrived |= own;
    wait(WARP, line);
    uint64_t taken = m.values[from];
    m.left |= own;
    if (m.left == m.mask) m.arrived = 0;
    return taken;
}

void warp_barrier(int line) {
    exchange(0xffffffffu, 0, lane(), line);
    fibers[current].warp_barriers++;
}

// Other threads may come between what is not atomic.
Atomic::Atomic() {
    if (order == RANDOM && draw() % 4 == 0) wait(READY, 0);
    atomic_depth++;
}
Atomic::~Atomic() { atomic_depth--; }

void add(Kernel *kernel) {
    kernel->next = kernels;
    kernels = kernel;
}

const unsigned *sizes_of(const char *name, unsigned *arguments) {
    for (Kernel *k = kernels; k; k = k->next) {
        if (strcmp(k->name, name) == 0) {
            *arguments = k->arguments;
            return k->sizes;
        }
    }
    return nullptr;
}

void set_order(int to, uint64_t seed) {
    order = static_cast<Order>(to);
    state = seed * 0x9e3779b97f4a7c15u | 1;
}

Who who() {
    return {block_number, current, barriers, fibers[current].warp_barriers, atomic_depth > 0, inside};
}

bool own_stack(uintptr_t at) {
    uintptr_t base = reinterpret_cast<uintptr_t>(stacks);
    return at - base < MOST * STACK;
}

size_t shared_bytes() { return shared; }

void violation(const char *what, uintptr_t at, size_t bytes) {
    char text[128];
    snprintf(text, sizeof text, "%s of %zu bytes at %#zx", what, bytes, static_cast<size_t>(at));
    refuse(text, 0);
    // The access itself is not made.
    fibers[current].state = DONE;
    leave();
}

const char *launch(const char *name, const unsigned *blocks, const unsigned *threads, unsigned bytes, void **arguments) {
    static std::string said;
    fault.clear();
    for (running = kernels; running && strcmp(running->name, name) != 0;) running = running->next;
    count = threads[0] * threads[1] * threads[2];
    if (!running) return "no such kernel";
    if (count == 0 || count > MOST || threads[1] * threads[2] != 1) return "blocks have 1 to 1024 threads in a row";
    if (blocks[0] == 0 || blocks[0] > 0x7fffffffu || blocks[1] == 0 || blocks[1] > 65535 || blocks[2] != 1) {
        return "a grid has 1 to 2^31 - 1 by 1 to 65535 blocks";
    }
    if (bytes > POOL) return "more shared memory than 48 KiB";
    if (!stacks) {
        void *mapped = mmap(nullptr, MOST * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped == MAP_FAILED) return "no memory for stacks";
        stacks = static_cast<unsigned char *>(mapped);
    }
    // Copies in the place of stacks: what is left to check is memory of the device.
    static uint64_t copies[32];
    static void *copied[32];
    for (unsigned at = 0; at < running->arguments; at++) {
        memcpy(copied[at] = &copies[at], arguments[at], running->sizes[at]);
    }
    parameters = copied;
    shared = bytes;
    atomic_depth = 0;
    place.threads = {threads[0], 1, 1};
    place.blocks = {blocks[0], blocks[1], 1};
    for (unsigned at = 0; at < count; at++) fibers[at].thread = {at, 0, 0};
    check_launch();
    uint64_t all = static_cast<uint64_t>(blocks[0]) * blocks[1];
    for (uint64_t nth = 0; nth < all && fault.empty(); nth++) {
        uint64_t at = order == DOWN ? all - 1 - nth : nth;
        place.block = {static_cast<unsigned>(at % blocks[0]), static_cast<unsigned>(at / blocks[0]), 0};
        block_number = static_cast<uint32_t>(at);
        run_block();
    }
    said = fault;
    return said.empty() ? nullptr : said.c_str();
}

}  // namespace emulator
