#!/usr/bin/env python3
"""usage: make_ggml_blocks.py LIBGGML_BASE OUT

Writes tests/golden/ggml_blocks.bin: blocks of 32 weights as little-endian F32, then what
ggml's reference quantizer makes of all of them as q4_0, q4_1, q5_0, q5_1, q8_0 and mxfp4.
Prints the FNV-1a hash of what it makes of 2^18 pseudo-random weights; the test of
niwaki-quant has both. LIBGGML_BASE is the path of libggml-base.so; the file was made with
that of llama-cpp-python 0.3.36. Needs numpy.
"""
import ctypes
import sys

import numpy as np

TYPES = [("q4_0", 2, 18), ("q4_1", 3, 20), ("q5_0", 6, 22), ("q5_1", 7, 24), ("q8_0", 8, 34), ("mxfp4", 39, 17)]
BLOCK = 32


def quantize(lib, kind, size, x):
    x = np.ascontiguousarray(x, dtype=np.float32)
    out = np.zeros(x.size // BLOCK * size, dtype=np.uint8)
    lib.ggml_quantize_chunk(kind, x.ctypes.data, out.ctypes.data, 0, 1, x.size, None)
    return out.tobytes()


def pseudo_random(n):
    """The high 24 bits of a 64-bit congruential generator, scaled by 2^-(8..23) a block."""
    state, out = 1, np.empty(n, dtype=np.float32)
    for i in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out[i] = np.float32((state >> 40) - 2**23) * np.float32(2.0 ** -(8 + i // BLOCK % 16))
    return out


def special():
    random = np.random.default_rng(7)
    wave = random.normal(0, 0.02, BLOCK).astype(np.float32)
    yield np.zeros(BLOCK)
    yield -np.zeros(BLOCK)
    yield np.where(np.arange(BLOCK) % 3 == 1, -0.0, 0.0)
    yield np.full(BLOCK, 0.3)
    yield np.full(BLOCK, -0.3)
    yield np.abs(wave)
    yield -np.abs(wave)
    yield np.maximum(wave, 0)
    yield np.where(wave > 0, wave, -0.0)
    yield np.minimum(wave, 0)
    for first, second in [(1, -1), (-1, 1)]:
        tie = wave.copy()
        tie[[5, 21]] = [first, second]
        yield tie
    outlier = wave.copy()
    outlier[17] = -40
    yield outlier
    # Beyond these the inverse of a step is infinite, and what ggml does is not defined.
    for power in [-100, -24, -17, 5, 15]:
        yield wave * np.float32(2.0**power)
    # Halves of steps of each type.
    for steps in [127, 15, 31, 16, 8]:
        yield np.append(np.arange(BLOCK - 1) - 14.5, steps).astype(np.float32) / 64
        yield np.append(np.arange(BLOCK - 1) - 14.5, -steps).astype(np.float32) / 64
    # Midpoints of E2M1, and largest magnitudes just below powers of two.
    yield np.append(np.arange(BLOCK - 1) / 4, 8)
    yield np.append(np.arange(BLOCK - 1) / -4, 8)
    for power in [-100, -65, -64, -63, -33, -32, -31, -20, -9, -8, -7, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 8, 9, 16]:
        for below in [1, 2, 3] if abs(power) < 4 else [1, 2, 3, 5, 6, 11, 12, 22, 23, 44, 45, 88, 89]:
            block = wave * np.float32(2.0 ** (power + 4))
            block[3] = 2.0**power * (1 - below * 2.0**-24)
            yield block
    for _ in range(32):
        yield random.normal(0, 0.02, BLOCK)


def fnv(data):
    hashed = 0xCBF29CE484222325
    for byte in data:
        hashed = (hashed ^ byte) * 0x100000001B3 % 2**64
    return hashed


def main():
    lib = ctypes.CDLL(sys.argv[1])
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    x = np.concatenate([np.asarray(block, dtype=np.float32) for block in special()])
    with open(sys.argv[2], "wb") as out:
        out.write(x.astype("<f4").tobytes())
        for _, kind, size in TYPES:
            out.write(quantize(lib, kind, size, x))
    print(x.size // BLOCK, "blocks")
    x = pseudo_random(1 << 18)
    for name, kind, size in TYPES:
        print(f"{name} {fnv(quantize(lib, kind, size, x)):#018x}")


main()
