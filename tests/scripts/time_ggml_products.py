"""Times the product of a quantized 4096 x 14336 matrix with a vector in ggml, by its plain rows of blocks.

    python3 tests/scripts/time_ggml_products.py [--threads 1,2] [--rounds 15]

Prints the best of the rounds for each type and number of threads, in milliseconds, and bytes a second. The inputs are
floats, which ggml rounds to blocks of 8 bits first. `cargo bench -p niwaki-benches --bench products` is the same of
niwaki. Needs the libraries of llama-cpp-python; exits with 77 without them.
"""

import argparse
import ctypes
import sys
import time
from pathlib import Path

try:
    import llama_cpp
    import numpy
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

ROWS, COLS = 4096, 14336
F32, TYPES = 0, {"q4_0": 2, "q8_0": 8, "q4_k": 12}


class Params(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


def libraries():
    folder = Path(llama_cpp.__file__).parent / "lib"
    base = ctypes.CDLL(str(folder / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
    cpu = ctypes.CDLL(str(folder / "libggml-cpu.so"), mode=ctypes.RTLD_GLOBAL)
    pointer = ctypes.c_void_p
    base.ggml_init.argtypes, base.ggml_init.restype = [Params], pointer
    base.ggml_new_tensor_2d.argtypes = [pointer, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    base.ggml_mul_mat.argtypes = [pointer, pointer, pointer]
    base.ggml_new_graph.argtypes = base.ggml_get_data.argtypes = [pointer]
    base.ggml_build_forward_expand.argtypes = [pointer, pointer]
    base.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, *[ctypes.c_int64] * 3, pointer]
    base.ggml_quantize_chunk.restype = ctypes.c_size_t
    for function in (base.ggml_new_tensor_2d, base.ggml_mul_mat, base.ggml_new_graph, base.ggml_get_data):
        function.restype = pointer
    cpu.ggml_graph_compute_with_ctx.argtypes = [pointer, pointer, ctypes.c_int]
    return base, cpu


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    base, cpu = libraries()
    random = numpy.random.default_rng(0)
    weights = random.standard_normal((ROWS, COLS), dtype=numpy.float32) * numpy.float32(0.02)
    inputs = random.standard_normal(COLS, dtype=numpy.float32)
    exact = weights.astype(numpy.float64) @ inputs
    for name, kind in TYPES.items():
        context = base.ggml_init(Params(1 << 30, None, False))
        matrix = base.ggml_new_tensor_2d(context, kind, COLS, ROWS)
        vector = base.ggml_new_tensor_2d(context, F32, COLS, 1)
        data = weights.ctypes.data_as(ctypes.c_void_p)
        size = base.ggml_quantize_chunk(kind, data, base.ggml_get_data(matrix), 0, ROWS, COLS, None)
        ctypes.memmove(base.ggml_get_data(vector), inputs.ctypes.data, inputs.nbytes)
        product = base.ggml_mul_mat(context, matrix, vector)
        graph = base.ggml_new_graph(context)
        base.ggml_build_forward_expand(graph, product)
        for threads in map(int, args.threads.split(",")):
            best = float("inf")
            for _ in range(args.rounds):
                start = time.perf_counter()
                cpu.ggml_graph_compute_with_ctx(context, graph, threads)
                best = min(best, time.perf_counter() - start)
            found = numpy.ctypeslib.as_array(
                ctypes.cast(base.ggml_get_data(product), ctypes.POINTER(ctypes.c_float)), (ROWS,)
            )
            # Four bits of normal weights: a tenth of the size of the result.
            assert numpy.linalg.norm(found - exact) < 0.2 * numpy.linalg.norm(exact), name
            print(f"ggml {name}, {threads} threads: {best * 1e3:.2f} ms, {size / best / 1e9:.1f} GB/s")
        base.ggml_free(ctypes.c_void_p(context))


if __name__ == "__main__":
    main()
