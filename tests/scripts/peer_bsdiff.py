#!/usr/bin/env python3
"""Measure bsdiff on a sparse update of an int8 model: what a patch is compared with.

usage: peer_bsdiff.py [--rows 1024] [--cols 2048] [--share 0.01] [--seed 0]

The model is normal(0, 0.02) weights as int8 codes with one f32 scale a row (the largest
magnitude over 127), scales before codes. The update adds normal(0, 0.02) to a share of the
weights, chosen at random. The updated model is encoded twice: with the scales of the old one
(`frozen`; what they do not reach is cut off) and with new ones (`recomputed`). Prints one line
of JSON with, for each: the share of bytes that differ, the bytes of bsdiff's patch, their share
of the file, and the seconds to make and to apply the patch, which is checked to give the new file.

Needs numpy and bsdiff4; without them it says *skipped* and ends with 0.
"""
import argparse
import json
import time

SIGMA = 0.02
TOP = 127


def row_scales(np, weights):
    return (np.abs(weights).max(axis=1, keepdims=True) / TOP).astype("<f4")


def encode(np, weights, scales):
    """Bytes of a model: scales, then codes row by row, rounded to nearest."""
    codes = np.clip(np.rint(weights / scales), -TOP, TOP).astype(np.int8)
    return scales.tobytes() + codes.tobytes()


def measure(np, bsdiff4, old, new):
    start = time.perf_counter()
    patch = bsdiff4.diff(old, new)
    made = time.perf_counter()
    applied = bsdiff4.patch(old, patch)
    end = time.perf_counter()
    if applied != new:
        raise SystemExit("bsdiff's patch does not give the new file")
    differ = np.frombuffer(old, np.uint8) != np.frombuffer(new, np.uint8)
    return {
        "bytes_changed": round(float(differ.mean()), 5),
        "patch_bytes": len(patch),
        "patch_share": round(len(patch) / len(old), 5),
        "diff_seconds": round(made - start, 3),
        "apply_seconds": round(end - made, 3),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--cols", type=int, default=2048)
    parser.add_argument("--share", type=float, default=0.01, help="of the weights that change")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        import bsdiff4
        import numpy as np
    except ImportError as error:
        print(f"skipped: {error.name} is not installed")
        return
    random = np.random.default_rng(args.seed)
    weights = random.standard_normal((args.rows, args.cols), dtype=np.float32) * np.float32(SIGMA)
    touched = random.choice(weights.size, round(args.share * weights.size), replace=False)
    updated = weights.copy()
    updated.ravel()[touched] += random.standard_normal(touched.size, dtype=np.float32) * np.float32(SIGMA)

    scales = row_scales(np, weights)
    old = encode(np, weights, scales)
    result = {"version": 1, "weights": weights.size, "updated": touched.size, "file_bytes": len(old)}
    result["frozen"] = measure(np, bsdiff4, old, encode(np, updated, scales))
    result["recomputed"] = measure(np, bsdiff4, old, encode(np, updated, row_scales(np, updated)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
