"""Bytes of the weights that a mask keeps: ours beside compressed sparse rows (32-bit columns), a bit a weight with the values
behind, and the matrices with their zeros, by zstd at its level 19.

    python3 tests/scripts/sparse_bytes.py CKPT WORK [--sparsities 0.5,0.8,0.9,0.95] [--schemes f32,int8/row/sym]
        [--niwaki PROGRAM]

CKPT is a checkpoint of f32. Masks take the largest weights of each tensor; what is counted are the tensors that have one.
Of a scheme, CSR and the bitmask hold a code of whole bytes a weight and the scales. Needs Python and the program `zstd`.
"""

import argparse
import json
import math
import subprocess
from pathlib import Path

from lab import Lab


def stored(path):
    """The bytes of each tensor of a safetensors file."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    return {name: data[8 + size + each["data_offsets"][0] : 8 + size + each["data_offsets"][1]] for name, each in header.items()}


def zstd(data):
    return len(subprocess.run(["zstd", "-19", "--single-thread", "-c"], input=data, capture_output=True, check=True).stdout)


class Sizes(Lab):
    def compressed(self, name, ckpt, rules):
        recipe = self.work / f"{name}.toml"
        recipe.write_text("version = 1\n" + rules)
        return self.niwaki("compress", ckpt, "-r", recipe, "-o", self.file(name), "--force")["tensors"]

    def row(self, sparsity, scheme):
        mask = self.file(f"mask-{sparsity:g}")
        masked = self.niwaki("mask", "score", self.args.ckpt, "--by", "magnitude", "--sparsity", sparsity, "--budget", "uniform",
                             "-o", mask, "--force")["tensors"]
        names = {tensor["name"] for tensor in masked}
        encode = "".join(f'[[quantize]]\ntensors = "{name}"\nscheme = "{scheme}"\n' for name in names if scheme != "f32")
        keep = "".join(f'[[mask]]\ntensors = "{name}"\npattern = {{ file = "{mask.resolve()}" }}\n' for name in names)
        ours = sum(t["bytes_after"] for t in self.compressed("sparse", self.args.ckpt, encode + keep) if t["name"] in names)
        self.niwaki("mask", "apply", self.args.ckpt, mask, "-o", self.file("zeros"), "--force")
        if scheme != "f32":
            self.compressed("dense", self.file("zeros"), encode)
        dense = stored(self.file("zeros" if scheme == "f32" else "dense"))
        parts = {name: data for name, data in sorted(dense.items()) if name.removesuffix(".codes").removesuffix(".scales") in names}
        scales = sum(len(data) for name, data in parts.items() if name.endswith(".scales"))
        width = 4 if scheme == "f32" else 1
        kept = sum(tensor["kept"] for tensor in masked)
        rows = sum(tensor["shape"][0] + 1 for tensor in masked)
        weights = sum(math.prod(tensor["shape"]) for tensor in masked)
        return {"ours": ours, "csr": kept * (width + 4) + 4 * rows + scales, "bitmask": weights // 8 + kept * width + scales,
                "zstd": zstd(b"".join(parts.values())), "dense": sum(map(len, parts.values()))}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ckpt")
    parser.add_argument("work", type=Path)
    parser.add_argument("--sparsities", default="0.5,0.8,0.9,0.95")
    parser.add_argument("--schemes", default="f32,int8/row/sym")
    parser.add_argument("--niwaki", default="target/release/niwaki")
    args = parser.parse_args()
    sizes = Sizes(args)
    print("| values | sparsity | niwaki | CSR | bitmask | zeros by zstd | with zeros |\n|---|---|---|---|---|---|---|")
    for scheme in args.schemes.split(","):
        for sparsity in map(float, args.sparsities.split(",")):
            row = sizes.row(sparsity, scheme)
            cells = [f"{row[what] / 1e6:.3f}" for what in ("ours", "csr", "bitmask", "zstd", "dense")]
            print(f"| {scheme} | {100 * sparsity:g} % | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
