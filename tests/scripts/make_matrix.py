#!/usr/bin/env python3
"""Write the benchmark matrix: normal(0, 0.02) values as one tensor of a safetensors file.

usage: make_matrix.py OUT.safetensors [f32|bf16|f16] [ROWS COLS]

Default f32, 4096 x 14336, under the name model.layers.0.mlp.down_proj.weight. Seed 0 of
numpy's default generator; bf16 and f16 are the f32 values rounded to nearest, ties to even.
Needs numpy.
"""
import json
import struct
import sys

import numpy as np

NAME, SEED, SIGMA = "model.layers.0.mlp.down_proj.weight", 0, 0.02


def matrix(rows, cols):
    values = np.random.default_rng(SEED).standard_normal((rows, cols), dtype=np.float32)
    values *= SIGMA
    return values


def to_bf16(values):
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


CODECS = {"f32": ("F32", lambda v: v.astype("<f4", copy=False)), "bf16": ("BF16", to_bf16), "f16": ("F16", lambda v: v.astype("<f2"))}


def main(out, codec="f32", rows="4096", cols="14336"):
    dtype, encode = CODECS[codec]
    rows, cols = int(rows), int(cols)
    data = encode(matrix(rows, cols))
    header = {"__metadata__": {"format": "pt"}, NAME: {"dtype": dtype, "shape": [rows, cols], "data_offsets": [0, data.nbytes]}}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(out, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        data.tofile(file)


if __name__ == "__main__":
    args = sys.argv[1:]
    if len(args) not in (1, 2, 4) or args[1:2] and args[1] not in CODECS:
        raise SystemExit(__doc__)
    main(*args)
