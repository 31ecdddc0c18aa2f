"""Runs an ONNX model in niwaki and in onnxruntime on the same random inputs, and compares what comes out.

    python3 tests/scripts/compare_onnx.py MODEL.onnx [--niwaki PROGRAM] [--dims NAME=SIZE ...]
        [--below INPUT=NUMBER ...] [--value INPUT=NUMBER ...] [--seed N] [--times N]

Inputs follow the types and shapes that the model declares. A dimension without a size of 1 or more takes that of
`--dims`, by its name or as INPUT.AXIS, else 1. Floats are normal, integers lie in 0..2, or below the number of
`--below`; `--value` fills an input with one number. Prints a line for each output: the largest difference over the
largest magnitude that onnxruntime gives. Exits with 1 where that passes 1e-3, where types or shapes differ, or where
either program cannot run the model, and with 77 where onnxruntime is not installed.

With `--times N`, also the median time, with 2 threads, of N loads and first runs of the model: in niwaki those of a
whole process, in onnxruntime the making of a session and its first run.
"""

import argparse
import json
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

try:
    import numpy as np
    import onnxruntime
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

BOUND = 1e-3
CODES = {
    "float32": "F32", "float64": "F64", "float16": "F16", "bool": "BOOL",
    "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
    "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64",
}
NUMPY = {code: np.dtype(name) for name, code in CODES.items()}
TYPES = {"float": "float32", "double": "float64"}


def write(path, tensors):
    """A safetensors file."""
    header, data = {}, b""
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": CODES[array.dtype.name], "shape": list(array.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read(path):
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + length])
    tensors = {}
    for name, of in header.items():
        if name != "__metadata__":
            start, end = (8 + length + at for at in of["data_offsets"])
            tensors[name] = np.frombuffer(raw[start:end], NUMPY[of["dtype"]]).reshape(of["shape"])
    return tensors


def pairs(items, number):
    return {name: number(value) for name, _, value in (item.rpartition("=") for item in items)}


def make(session, args):
    """Inputs by name."""
    random = np.random.default_rng(args.seed)
    dims, below, fixed = pairs(args.dims, int), pairs(args.below, int), pairs(args.value, float)
    inputs = {}
    for given in session.get_inputs():
        kind = given.type.removeprefix("tensor(").removesuffix(")")
        dtype = np.dtype(TYPES.get(kind, kind))
        shape = [size if isinstance(size, int) and size > 0 else dims.get(f"{given.name}.{axis}", dims.get(size, 1))
                 for axis, size in enumerate(given.shape)]
        if given.name in fixed:
            value = np.full(shape, fixed[given.name])
        elif dtype.kind == "f":
            value = random.standard_normal(shape)
        else:
            value = random.integers(0, below.get(given.name, 2), shape)
        inputs[given.name] = np.asarray(value).astype(dtype)
    return inputs


def difference(ours, theirs):
    """The largest difference over the largest magnitude; infinite where they cannot be compared."""
    if ours is None or ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return np.inf
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.isfinite(theirs)
    odd = ~finite
    if not np.array_equal(ours[odd], theirs[odd], equal_nan=True) or not np.isfinite(ours[finite]).all():
        return np.inf
    most = np.abs(theirs[finite]).max(initial=0)
    apart = np.abs(ours - theirs)[finite].max(initial=0)
    return apart if most == 0 else apart / most


def median(times, once):
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        once()
        taken.append(time.perf_counter() - start)
    return 1e3 * statistics.median(taken)


def session_of(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--niwaki", default="niwaki")
    parser.add_argument("--dims", nargs="*", default=[])
    parser.add_argument("--below", nargs="*", default=[])
    parser.add_argument("--value", nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--times", type=int, default=0)
    args = parser.parse_args()

    session = session_of(args.model)
    inputs = make(session, args)
    names = [output.name for output in session.get_outputs()]
    theirs = dict(zip(names, session.run(names, inputs)))
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "in.safetensors"), Path(folder, "out.safetensors")
        write(given, inputs)
        command = [args.niwaki, "run", args.model, "--input", str(given), "-o", str(made), "--force", "--threads", "2",
                   "--device", "cpu", "-q"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            print(done.stderr.strip())
            return 1
        ours = read(made)
        worst = 0.0
        for name, expected in theirs.items():
            apart = difference(ours.get(name), expected)
            worst = max(worst, apart)
            found = "nothing" if name not in ours else f"{ours[name].dtype.name} {list(ours[name].shape)}"
            most = np.abs(expected).max(initial=0)
            needs = f"{expected.dtype.name} {list(expected.shape)}"
            print(f"{name}: {apart:.1e} of the largest, which is {most:.3g}; {found}, {needs} expected")
        if args.times:
            ran = median(args.times, lambda: subprocess.run(command, check=True, capture_output=True))
            peer = median(args.times, lambda: session_of(args.model).run(names, inputs))
            print(f"load and first run: niwaki {ran:.1f} ms, onnxruntime {onnxruntime.__version__} {peer:.1f} ms")
    print(f"largest {worst:.1e}, bound {BOUND:.0e}")
    return int(not worst <= BOUND)


if __name__ == "__main__":
    sys.exit(main())
