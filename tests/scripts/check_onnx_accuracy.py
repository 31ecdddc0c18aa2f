"""Prints the accuracy of an ONNX model of images, by onnxruntime, as a fraction.

    python3 tests/scripts/check_onnx_accuracy.py MODEL.onnx DATA.safetensors [BATCH]

DATA is as `niwaki dataset import` makes it: `images` U8 or F32 [N, C, H, W], `labels` I64 [N], and preprocessing in the metadata.
Needs numpy and onnxruntime.
"""

import json
import sys

import numpy
import onnxruntime


def read(path):
    """Images as the model takes them, and labels."""
    data = open(path, "rb").read()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    types = {"U8": numpy.uint8, "F32": numpy.float32, "I64": numpy.int64}

    def tensor(name):
        about = header[name]
        begin, end = (8 + size + at for at in about["data_offsets"])
        return numpy.frombuffer(data[begin:end], types[about["dtype"]]).reshape(about["shape"])

    about = header.get("__metadata__", {})
    images = tensor("images").astype(numpy.float64) * float(about.get("scale", 1))
    if "mean" in about:
        each = lambda key: numpy.array([float(x) for x in about[key].strip("[]").split(",")]).reshape(1, -1, 1, 1)
        images = (images - each("mean")) / each("std")
    return images.astype(numpy.float32), tensor("labels")


def main(model, data, batch=100):
    images, labels = read(data)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    right = 0
    for at in range(0, len(labels), int(batch)):
        logits = session.run(None, {name: images[at : at + int(batch)]})[0]
        right += int((logits.argmax(1) == labels[at : at + int(batch)]).sum())
    print(right / len(labels))


main(*sys.argv[1:])
