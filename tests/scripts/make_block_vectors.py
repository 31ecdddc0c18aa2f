#!/usr/bin/env python3
"""usage: make_block_vectors.py OUT

Writes tests/golden/blocks.bin: for each block type, in the order of `BlockType::ALL`,
512 weights as random blocks (one of them with a subnormal scale) and the floats that the
gguf package decodes them to, little-endian F32.

Needs the packages gguf (0.19.0 made the file) and numpy.
"""
import sys

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES

# Type, and where its F16 scales stand in a block.
TYPES = [
    (Type.Q4_0, [0]),
    (Type.Q4_1, [0, 2]),
    (Type.Q5_0, [0]),
    (Type.Q5_1, [0, 2]),
    (Type.Q8_0, [0]),
    (Type.Q2_K, [80, 82]),
    (Type.Q3_K, [108]),
    (Type.Q4_K, [0, 2]),
    (Type.Q5_K, [0, 2]),
    (Type.Q6_K, [208]),
    (Type.IQ4_NL, [0]),
    (Type.IQ4_XS, [0]),
    (Type.MXFP4, []),
]
WEIGHTS = 512


def main():
    random = np.random.default_rng(20260)
    with open(sys.argv[1], "wb") as out:
        for kind, scales in TYPES:
            elements, size = GGML_QUANT_SIZES[kind]
            blocks = random.integers(0, 256, (WEIGHTS // elements, size), dtype=np.uint8)
            for at in scales:
                values = random.normal(0, 0.3, len(blocks)).astype(np.float16)
                values[-1] = 3e-6
                blocks[:, at : at + 2] = values.view(np.uint8).reshape(-1, 2)
            if kind == Type.MXFP4:
                blocks[:4, 0] = [0, 1, 2, 252]
                blocks[4:, 0] %= 253
            floats = quants.dequantize(blocks, kind)
            assert floats.dtype == np.float32 and np.isfinite(floats).all()
            out.write(blocks.tobytes())
            out.write(floats.astype("<f4").tobytes())


main()
