#!/usr/bin/env python3
"""Plants faults into copies of the kernels and asks the tests to notice each.

    faults.py WORK TEST...    WORK: a folder for copies; TEST...: the built test programs

A fault is a text of a kernel file and what takes its place. It is noticed if a test fails on a driver built with it.
"""

import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
KERNELS = HERE.parent / "kernels"

# File, text, replacement, and what the fault is: the first place where the text stands.
FAULTS = [
    ("encode", "most(t.keys[0], t.keys[1])", "t.keys[0]", "the largest error of some warps is forgotten"),
    ("encode", "for (int apart = 8; apart > 0", "for (int apart = 4; apart > 0", "half of the lanes are not added"),
    ("encode", "8u * run + i < t.count; i++", "i < 8u; i++", "codes beyond the end of a row"),
    ("encode", "if (at + lanes <= t.count) {", "if (at < t.count) {", "weights beyond the end of a tile"),
    ("encode", "if (loss[nth] < lost) {", "if (loss[nth] <= lost) {", "of equal losses the last"),
    ("encode", "if (key >= NOT_FINITE || ", "if (", "not finite weights pass"),
    ("grid", "return fminf(fmaxf(x * inverted, low), high) + ROUNDER;", "return x * inverted + ROUNDER;", "no clamp"),
    ("grid", "-low, scale", "low, scale", "the zero point of the other sign"),
    ("ranges", "least(start + span, cols)", "start + span", "parts of rows that end beyond them"),
    ("ranges", "low = fminf(low, warp_lows[i]);", "", "the least of the first warp alone"),
    ("counts", "atomicAdd(&bins[bin_of(x)], 1u)", "bins[bin_of(x)] += 1u", "counts without atomics"),
    ("counts", "(exponent - 95u) * 64u", "(exponent - 94u) * 64u", "bins of the next exponent"),
    ("moments", "(blockIdx.y + 1u) * deep, rows", "(blockIdx.y + 1u) * deep, rows + 1u", "a row too many"),
    ("gram", "(row + ROWS) % DEEP == 0u || ", "", "runs of 64 rows are not added apart"),
    ("gram", "r < rows && column < inputs", "column < inputs", "rows beyond the last"),
    ("decode", "8u * run + 8u <= cols && aligned(to)", "8u * run + 8u <= cols", "wide writes anywhere"),
    ("decode", "least(c.grid.bits, row_bytes(c) - run * c.grid.bits)", "c.grid.bits", "codes beyond the last"),
    ("planes", "0x00aa00aa00aa00aaull", "0x00aa00aa00aa002aull", "a bit of a plane is lost"),
    ("fake", "inside ? q - v : q", "q - v", "slopes of clamped values"),
    ("fake", "if (lane == 0u && run * RUN < n) {", "if (run * RUN < n) {", "all lanes write a sum"),
    ("select", "magnitude >> above == prefix", "true", "digits of other prefixes count"),
    ("jackpot", "rank >= enter", "rank > enter", "the last that enters does not"),
    ("jackpot", "(0x7fffffffu - at)", "at", "of equal scores the last"),
    ("signature", "v * a", "v * v", "another product"),
    ("words", "0xfffu + ((magnitude >> 13) & 1u)", "0x1000u", "halves without ties to even"),
]


def planted():
    """The faults, and each barrier taken away."""
    yield from FAULTS
    for path in sorted(KERNELS.glob("*.cu")):
        text = path.read_text()
        for nth, place in enumerate(re.finditer(r"__syncthreads\(\);", text)):
            line = text.count("\n", 0, place.start()) + 1
            yield (path.stem, nth, "", f"no barrier in line {line}")


def plant(text, what, to):
    """A text with a fault in it."""
    if isinstance(what, int):
        places = [m.span() for m in re.finditer(r"__syncthreads\(\);", text)]
        start, end = places[what]
        return text[:start] + to + text[end:]
    if what not in text:
        sys.exit(f"error: `{what}` is not there to be broken")
    return text.replace(what, to, 1)


def noticed(folder, tests):
    """How the tests notice that something is wrong with a driver, if they do."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "NIWAKI_REQUIRE_GPU": "1", "RUST_BACKTRACE": "0"}
    for order in ["up", "down", "5"]:
        environment["NIWAKI_EMULATOR_ORDER"] = order
        for test in tests:
            try:
                done = subprocess.run([test], env=environment, capture_output=True, text=True, timeout=120)
            except subprocess.TimeoutExpired:
                return "no end"
            if done.returncode != 0:
                said = re.search(r"^emulator: (.*)$", done.stderr, re.M)
                return said[1] if said else "another result"
    return None


def try_fault(fault):
    """What is said of one fault, and whether it passed the tests."""
    (stem, what, to, name), work, tests = fault
    folder = work / threading.current_thread().name
    shutil.rmtree(folder, ignore_errors=True)
    # Objects of kernels that stay sound are taken from there; headers go into all.
    shutil.copytree(work / "sound", folder / "built")
    shutil.copytree(KERNELS, folder / "kernels")
    (path,) = (folder / "kernels").glob(f"{stem}.cu*")
    path.write_text(plant(path.read_text(), what, to))
    built = subprocess.run([HERE / "build", folder / "built", folder / "kernels"], capture_output=True, text=True)
    how = noticed(folder / "built", tests) if built.returncode == 0 else "it does not compile"
    print(f"{'MISSED ' if how is None else 'noticed'} {stem:10} {name}: {how}", flush=True)
    return how is None


def suite(stem, tests):
    """The tests of a kernel file; of what all include those of the encoder."""
    observed = ["ranges", "counts", "moments", "gram"]
    trained = ["planes", "fake", "select", "jackpot", "signature"]
    name = "observe" if stem in observed else "training" if stem in trained else "encode"
    return [test for test in tests if test.name.startswith(name)]


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    work, tests = pathlib.Path(sys.argv[1]).resolve(), [pathlib.Path(t).resolve() for t in sys.argv[2:]]
    subprocess.run([HERE / "build", work / "sound"], check=True)
    if how := noticed(work / "sound", tests):
        sys.exit(f"error: without a fault the tests say: {how}")
    faults = [(fault, work, suite(fault[0], tests)) for fault in planted()]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="broken") as threads:
        missed = sum(threads.map(try_fault, faults))
    if missed:
        sys.exit(f"error: {missed} of {len(faults)} faults passed the tests")
    print(f"all {len(faults)} planted faults are noticed")


main()
