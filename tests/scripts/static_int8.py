"""Weights and inputs in 8 bits, in onnxruntime: ours beside its own quantizer.

    python tests/scripts/static_int8.py MODEL.onnx TRAIN.safetensors TEST.safetensors WORK --niwaki PROGRAM [--images N] [--more]

Ours reaches as far as values were seen, as far as 99.9 to 99.999 percent of them, or as far as loses the least in squares; and
with biases that make up for what rounding weights does, or without. Both are calibrated on the same 512 images of TRAIN (the first; of ours `calibrate` draws them from a file that holds them
alone) and measured on the first N of TEST: accuracy, and how often the largest output is that of the float model. Needs
onnxruntime, onnx and numpy; says `skipped` without.
"""

import argparse
import json
import struct
import sys
from pathlib import Path

try:
    import numpy
    import onnx
    import onnxruntime
    from onnxruntime import quantization
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(0)

from lab import Lab

CALIBRATED = 512
BATCH = 64
RANGES = [
    ("--range", "minmax"),
    ("--range", "percentile", "--percentile", "99.9"),
    ("--range", "percentile", "--percentile", "99.99"),
    ("--range", "percentile", "--percentile", "99.999"),
    ("--range", "mse"),
]


def images(path, count):
    """The first images of a dataset as bytes, their labels and its metadata."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    found = {}
    for name, kind in (("images", "u1"), ("labels", "<i8")):
        entry = header[name]
        begin, end = entry["data_offsets"]
        found[name] = numpy.frombuffer(data[begin:end], kind).reshape(entry["shape"])[:count]
    return found["images"], found["labels"], header["__metadata__"]


def write(path, pixels, labels, about):
    """A dataset."""
    parts = {"labels": ("I64", labels), "images": ("U8", pixels)}
    header, data = {"__metadata__": about}, b""
    for name, (kind, array) in parts.items():
        more = numpy.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(more)]}
        data += more
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def floats(pixels, about):
    """What the network sees."""
    mean, std = ([float(x) for x in about[key].split(",")] for key in ("mean", "std"))
    shape = (1, len(mean), 1, 1)
    scaled = pixels.astype("f4") * numpy.float32(about["scale"])
    return (scaled - numpy.array(mean, "f4").reshape(shape)) / numpy.array(std, "f4").reshape(shape)


class Reader(quantization.CalibrationDataReader):
    """Batches for onnxruntime's quantizer."""

    def __init__(self, name, all_of_them):
        self.batches = iter({name: all_of_them[at : at + BATCH]} for at in range(0, len(all_of_them), BATCH))

    def get_next(self):
        return next(self.batches, None)


def outputs(path, all_of_them):
    """The logits of a model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = (session.run(None, {name: all_of_them[at : at + BATCH]})[0] for at in range(0, len(all_of_them), BATCH))
    return numpy.concatenate(list(parts))


def theirs(model, out, all_of_them, how):
    """onnxruntime's own: per-channel weights, inputs by the method."""
    name = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"]).get_inputs()[0].name
    quantization.quantize_static(
        str(model), str(out), Reader(name, all_of_them), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8, calibrate_method=how,
    )


def main():
    parser = argparse.ArgumentParser()
    for name in ("model", "train", "test", "work"):
        parser.add_argument(name)
    parser.add_argument("--niwaki", default="target/release/niwaki")
    parser.add_argument("--images", type=int, default=10000)
    parser.add_argument("--more", action="store_true", help="onnxruntime's other ranges too, which takes minutes")
    args = parser.parse_args()
    lab = Lab(args)
    pixels, labels, about = images(args.train, CALIBRATED)
    few = lab.file("calibration")
    write(few, pixels, labels, about)
    seen = floats(pixels, about)
    stats = lab.file("stats")
    lab.niwaki("calibrate", args.model, "--data", few, "--limit", CALIBRATED, "--histogram", "-o", stats, "--force")
    models = [("floats", args.model)]
    for range_ in RANGES:
        for flags in (range_, (*range_, "--correct-bias")):
            ours = lab.work / f"ours{len(models)}.onnx"
            words = ("--to", "onnx", "--activations", "static", "--stats", stats, *flags, "-o", ours, "--force")
            lab.niwaki("export", args.model, *words)
            onnx.checker.check_model(str(ours))
            models.append((f"niwaki {' '.join(flags)}", ours))
    ready = lab.work / "ready.onnx"
    quantization.quant_pre_process(args.model, str(ready))
    methods = [quantization.CalibrationMethod.MinMax]
    methods += [quantization.CalibrationMethod.Entropy, quantization.CalibrationMethod.Percentile] if args.more else []
    for how in methods:
        out = lab.work / f"theirs-{how.name.lower()}.onnx"
        theirs(ready, out, seen, how)
        models.append((f"onnxruntime {onnxruntime.__version__}, {how.name}", out))
    pixels, labels, about = images(args.test, args.images)
    test = floats(pixels, about)
    reference = outputs(args.model, test)
    for name, path in models:
        found = outputs(path, test)
        right, same = ((found.argmax(1) == other).mean() for other in (labels, reference.argmax(1)))
        noise = float(((found - reference) ** 2).sum())
        ratio = 10 * numpy.log10(float((reference**2).sum()) / noise) if noise else float("inf")
        size = Path(path).stat().st_size
        print(f"{name}: accuracy {100 * right:.2f} %, agreement {100 * same:.2f} %, SQNR {ratio:.2f} dB, {size} bytes", flush=True)


if __name__ == "__main__":
    main()
