"""What the tests share: the golden files, and a reader of safetensors that has nothing of niwaki."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def golden():
    return ROOT / "tests" / "golden"


@pytest.fixture
def fashion():
    return ROOT / "tests" / "fixtures" / "fashion-cnn"


def read_f32(path):
    """The F32 tensors of a safetensors file by name."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        begin, end = (8 + length + at for at in entry["data_offsets"])
        if entry["dtype"] == "F32":
            found[name] = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])
    return found


def write_f32(path, tensors):
    """A plain safetensors file of F32 tensors."""
    header, blobs, at = {}, [], 0
    for name, array in tensors.items():
        blob = np.ascontiguousarray(array, "<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))
