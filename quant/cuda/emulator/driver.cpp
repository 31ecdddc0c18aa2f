// A `libcuda.so` whose one device is the emulator: as much of the driver as the launching code asks for, so that it runs
// unchanged where there is no device. Modules are the committed PTX, which is read for its kernels and the sizes of their
// parameters; both have to be those of the kernels compiled in.
//
// What the environment may ask for: NIWAKI_EMULATOR_ORDER, in which order threads run, `up` (default), `down`, or a number
// that draws it; NIWAKI_EMULATOR_DEVICES, how many devices there are; NIWAKI_EMULATOR_INIT, the code with which the driver
// does not start; NIWAKI_EMULATOR_FAIL, that launches fail.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "emulator.h"

namespace {

typedef int Result;
typedef unsigned long long Address;
enum { OK = 0, INVALID = 1, NO_MEMORY = 2, INVALID_DEVICE = 101, INVALID_PTX = 218, NOT_FOUND = 500, FAILED = 719 };

struct Function {
    std::string name;
};
struct Module {
    std::map<std::string, std::vector<unsigned>> kernels;
    std::map<std::string, Function> functions;
};

// Memory of the device begins at multiples of 256 and, so that nobody counts on zeros, with other bytes.
constexpr size_t ALIGNMENT = 256;

std::recursive_mutex lock;
std::map<Address, size_t> memory;
thread_local void *context;
int the_context, the_stream, the_event;
typedef std::lock_guard<std::recursive_mutex> Guard;

bool inside(Address at, size_t bytes) {
    auto after = memory.upper_bound(at);
    return after != memory.begin() && at + bytes <= std::prev(after)->first + std::prev(after)->second;
}

Result allocate(Address *to, size_t bytes) {
    Guard guard(lock);
    void *got = bytes == 0 ? nullptr : aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    if (!got) return bytes == 0 ? INVALID : NO_MEMORY;
    memset(got, 0xa5, bytes);
    memory[*to = reinterpret_cast<Address>(got)] = bytes;
    emulator::add_memory(*to, bytes);
    return OK;
}

Result release(Address at) {
    Guard guard(lock);
    if (memory.erase(at) == 0) return INVALID;
    emulator::remove_memory(at);
    free(reinterpret_cast<void *>(at));
    return OK;
}

Result to_device(Address to, const void *from, size_t bytes) {
    Guard guard(lock);
    if (!inside(to, bytes)) return INVALID;
    memcpy(reinterpret_cast<void *>(to), from, bytes);
    emulator::written(to, bytes);
    return OK;
}

Result from_device(void *to, Address from, size_t bytes) {
    Guard guard(lock);
    if (!inside(from, bytes)) return INVALID;
    memcpy(to, reinterpret_cast<const void *>(from), bytes);
    return OK;
}

Result fill(Address at, int value, size_t bytes) {
    Guard guard(lock);
    if (!inside(at, bytes)) return INVALID;
    memset(reinterpret_cast<void *>(at), value, bytes);
    emulator::written(at, bytes);
    return OK;
}

// The bytes of each parameter of a kernel: `.param .u64 name`, or `.param .align 4 .b8 name[16]`.
std::vector<unsigned> parameters(const std::string &list) {
    std::vector<unsigned> sizes;
    for (size_t at = list.find(".param"); at != std::string::npos; at = list.find(".param", at + 1)) {
        std::string one = list.substr(at + 6, list.find_first_of(",)", at) - at - 6);
        size_t type = one.find_first_of("usbf", one.find('.'));
        while (type != std::string::npos && !(one[type - 1] == '.' && isdigit(one[type + 1]))) {
            type = one.find_first_of("usbf", type + 1);
        }
        if (type == std::string::npos) return {};
        unsigned bytes = atoi(one.c_str() + type + 1) / 8;
        size_t many = one.find('[');
        sizes.push_back(many == std::string::npos ? bytes : bytes * atoi(one.c_str() + many + 1));
    }
    return sizes;
}

void read_kernels(const std::string &ptx, Module &module) {
    const std::string word = ".entry ";
    for (size_t at = ptx.find(word); at != std::string::npos; at = ptx.find(word, at + 1)) {
        size_t open = ptx.find('(', at), close = ptx.find(')', at);
        if (open == std::string::npos || close == std::string::npos) return;
        size_t name = at + word.size();
        module.kernels[ptx.substr(name, open - name)] = parameters(ptx.substr(open, close - open + 1));
    }
}

void read_order() {
    const char *text = getenv("NIWAKI_EMULATOR_ORDER");
    if (!text || strcmp(text, "up") == 0) return emulator::set_order(0, 0);
    if (strcmp(text, "down") == 0) return emulator::set_order(1, 0);
    emulator::set_order(2, strtoull(text, nullptr, 10));
}

}  // namespace

#define DRIVER extern "C" __attribute__((visibility("default"))) Result

DRIVER cuInit(unsigned) {
    Guard guard(lock);
    read_order();
    const char *code = getenv("NIWAKI_EMULATOR_INIT");
    return code ? atoi(code) : OK;
}
DRIVER cuDeviceGetCount(int *count) {
    const char *text = getenv("NIWAKI_EMULATOR_DEVICES");
    return *count = text ? atoi(text) : 1, OK;
}
DRIVER cuDeviceGet(int *device, int ordinal) { return *device = ordinal, ordinal == 0 ? OK : INVALID_DEVICE; }
DRIVER cuDeviceGetName(char *name, int size, int) { return snprintf(name, size, "emulated on the CPU"), OK; }
DRIVER cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = size_t(1) << 30, OK; }
DRIVER cuDeviceGetAttribute(int *value, int attribute, int) {
    switch (attribute) {
        case 16: *value = 2; break;                // multiprocessors
        case 75: *value = 8; break;                // compute capability, major
        case 76: *value = 0; break;                // and minor
        case 115: *value = 1; break;               // memory in the order of a stream
        default: *value = 0;
    }
    return OK;
}
DRIVER cuDevicePrimaryCtxRetain(void **to, int) { return *to = &the_context, OK; }
DRIVER cuDevicePrimaryCtxRelease_v2(int) { return OK; }
DRIVER cuCtxGetCurrent(void **to) { return *to = context, OK; }
DRIVER cuCtxSetCurrent(void *to) { return context = to, OK; }
DRIVER cuCtxSynchronize() { return OK; }
DRIVER cuStreamCreate(void **to, unsigned) { return *to = &the_stream, OK; }
DRIVER cuStreamDestroy_v2(void *) { return OK; }
DRIVER cuStreamSynchronize(void *) { return OK; }
DRIVER cuStreamWaitEvent(void *, void *, unsigned) { return OK; }
DRIVER cuEventCreate(void **to, unsigned) { return *to = &the_event, OK; }
DRIVER cuEventDestroy_v2(void *) { return OK; }
DRIVER cuEventRecord(void *, void *) { return OK; }
DRIVER cuEventSynchronize(void *) { return OK; }
DRIVER cuEventQuery(void *) { return OK; }
DRIVER cuMemAlloc_v2(Address *to, size_t bytes) { return allocate(to, bytes); }
DRIVER cuMemAllocAsync(Address *to, size_t bytes, void *) { return allocate(to, bytes); }
DRIVER cuMemFree_v2(Address at) { return release(at); }
DRIVER cuMemFreeAsync(Address at, void *) { return release(at); }
DRIVER cuMemHostAlloc(void **to, size_t bytes, unsigned) {
    *to = malloc(bytes);
    return *to ? OK : NO_MEMORY;
}
DRIVER cuMemFreeHost(void *at) { return free(at), OK; }
DRIVER cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *) { return to_device(to, from, bytes); }
DRIVER cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *) { return from_device(to, from, bytes); }
DRIVER cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void *) {
    Guard guard(lock);
    return inside(from, bytes) ? to_device(to, reinterpret_cast<const void *>(from), bytes) : INVALID;
}
DRIVER cuMemsetD8Async(Address at, unsigned char value, size_t bytes, void *) { return fill(at, value, bytes); }
DRIVER cuModuleLoadData(void **to, const void *image) {
    Module *module = new Module;
    read_kernels(static_cast<const char *>(image), *module);
    *to = module;
    return module->kernels.empty() ? INVALID_PTX : OK;
}
DRIVER cuModuleUnload(void *module) { return delete static_cast<Module *>(module), OK; }
DRIVER cuModuleGetFunction(void **to, void *from, const char *name) {
    Guard guard(lock);
    Module *module = static_cast<Module *>(from);
    auto kernel = module->kernels.find(name);
    unsigned count = 0;
    const unsigned *sizes = emulator::sizes_of(name, &count);
    if (kernel == module->kernels.end() || !sizes) return NOT_FOUND;
    if (kernel->second != std::vector<unsigned>(sizes, sizes + count)) {
        fprintf(stderr, "emulator: %s: the PTX has other parameters than the kernel\n", name);
        return INVALID_PTX;
    }
    module->functions[name].name = name;
    *to = &module->functions[name];
    return OK;
}
DRIVER cuLaunchKernel(void *function, unsigned bx, unsigned by, unsigned bz, unsigned tx, unsigned ty, unsigned tz,
                      unsigned shared, void *, void **arguments, void **) {
    Guard guard(lock);
    unsigned blocks[3] = {bx, by, bz}, threads[3] = {tx, ty, tz};
    const std::string &name = static_cast<Function *>(function)->name;
    const char *fault = emulator::launch(name.c_str(), blocks, threads, shared, arguments);
    if (!fault && !getenv("NIWAKI_EMULATOR_FAIL")) return OK;
    fprintf(stderr, "emulator: %s\n", fault ? fault : "asked to fail");
    return FAILED;
}
DRIVER cuGetErrorName(int, const char **name) { return *name = "CUDA_ERROR_EMULATED", OK; }
DRIVER cuGetErrorString(int, const char **text) { return *text = "an error of the emulator", OK; }
