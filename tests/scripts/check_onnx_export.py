"""onnxruntime against our executor: MODEL.onnx IN.safetensors OUT.safetensors [LIMIT].

Runs the model on the named inputs and compares every output with what `niwaki run` wrote.
Needs onnxruntime and numpy, and onnx for the checker; says `skipped` without the first two.
"""

import json
import struct
import sys

try:
    import numpy
    import onnxruntime
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(0)

TYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8", "I32": "<i4", "U8": "u1", "I8": "i1", "BOOL": "?"}


def tensors(path):
    """The tensors of a safetensors file."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        array = numpy.frombuffer(data[begin:end], TYPES[entry["dtype"]])
        found[name] = array.reshape(entry["shape"])
    return found


def main(model, inputs, outputs, limit="1e-5"):
    try:
        import onnx

        onnx.checker.check_model(model)
        checked = "checked"
    except ImportError:
        checked = "not checked"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Products of 4-bit weights are computed in floats, not with rounded inputs.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, tensors(inputs))))
    worst = 0.0
    for name, wanted in tensors(outputs).items():
        got = found[name]
        if got.shape != wanted.shape:
            sys.exit(f"{name}: shape {got.shape}, expected {wanted.shape}")
        error = numpy.abs(got.astype("f8") - wanted.astype("f8")).max() if wanted.size else 0.0
        scale = numpy.abs(wanted.astype("f8")).max() if wanted.size else 1.0
        worst = max(worst, error / max(scale, 1e-30))
    print(f"onnxruntime {onnxruntime.__version__}, {checked}: {len(names)} outputs, relative error {worst:.2e}")
    if not worst <= float(limit):
        sys.exit(f"more than {limit}")


main(*sys.argv[1:])
