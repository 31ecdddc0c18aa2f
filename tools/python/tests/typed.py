"""A program that a type checker reads; nobody runs it."""

from pathlib import Path
from typing import Optional

import niwaki


def total(path: Path) -> float:
    model = niwaki.open(path)
    sums = [float(model[name].dequantize(rows=(0, 1), dtype="float16").sum()) for name in model]
    overlay = niwaki.Overlay([(model, 0.5)])
    widths: tuple[int, ...] = model.tensors()[0].widths
    weights = model["w"].dequantize(width=widths[0], overlay=overlay)
    try:
        niwaki.compress(path, "out.safetensors", scheme="int8/row/sym", force=True)
    except niwaki.Error as error:
        where: Optional[str] = error.tensor or error.path
        print(error.blame, where, error.hint)
    faults: list[str] = model.verify(threads=2)
    return sum(sums) + float(weights.sum()) + len(faults)
