#!/usr/bin/env python3
"""Keeps the committed PTX that of the kernels.

    ptx.py            compiles every kernels/*.cu and compares it with ptx/; assembles that for each chip
    ptx.py --accept   writes ptx/ anew

Needs no device and no CUDA: NVRTC 12.4 and ptxas come from PyPI into target/cuda/ of the checkout, once (62 MB), and are
only used here. NVRTC 12.4 writes PTX that drivers from 550 on take. A kernel that spills registers, or that keeps
anything in local memory, is an error. Exits with 77 where the tools cannot be fetched.
"""

import ctypes
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = HERE.parent.parent / "target" / "cuda" / "tools"
WHEELS = ["nvidia-cuda-nvrtc-cu12==12.4.127", "nvidia-cuda-nvcc==13.0.88"]
CHIPS = ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]
OPTIONS = ["--gpu-architecture=compute_80", "--fmad=false", "--std=c++17"]


def fetch():
    """Both tools, from the last time or from PyPI."""
    nvrtc = TOOLS / "nvidia/cuda_nvrtc/lib/libnvrtc.so.12"
    ptxas = TOOLS / "nvidia/cu13/bin/ptxas"
    if not (nvrtc.exists() and ptxas.exists()):
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--root-user-action=ignore"]
        try:
            subprocess.run([*pip, "--target", TOOLS, *WHEELS], timeout=300, check=True)
        except subprocess.SubprocessError:
            print("skipped: NVRTC and ptxas cannot be fetched")
            sys.exit(77)
    return nvrtc, ptxas


class Compiler:
    """NVRTC, with the files that kernels include."""

    def __init__(self, library):
        for beside in library.parent.glob("libnvrtc-builtins.so*"):
            ctypes.CDLL(str(beside), mode=ctypes.RTLD_GLOBAL)
        self.nvrtc = ctypes.CDLL(str(library))
        headers = sorted((HERE / "kernels").glob("*.cuh"))
        self.names = (ctypes.c_char_p * len(headers))(*[h.name.encode() for h in headers])
        self.texts = (ctypes.c_char_p * len(headers))(*[h.read_bytes() for h in headers])

    def text(self, program, size, read):
        """What NVRTC has to say of a program."""
        length = ctypes.c_size_t()
        getattr(self.nvrtc, size)(program, ctypes.byref(length))
        buffer = ctypes.create_string_buffer(length.value)
        getattr(self.nvrtc, read)(program, buffer)
        return buffer.value

    def ptx(self, path):
        """The PTX of one file: of the same text always the same bytes."""
        program = ctypes.c_void_p()
        made = self.nvrtc.nvrtcCreateProgram(
            ctypes.byref(program), path.read_bytes(), path.name.encode(), len(self.names), self.texts, self.names
        )
        options = (ctypes.c_char_p * len(OPTIONS))(*[o.encode() for o in OPTIONS])
        if made != 0 or self.nvrtc.nvrtcCompileProgram(program, len(OPTIONS), options) != 0:
            log = self.text(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog")
            sys.exit(f"error: {path.name} does not compile\n{log.decode()}")
        return self.text(program, "nvrtcGetPTXSize", "nvrtcGetPTX")


def assemble(ptxas, path):
    """For each chip the most registers that a kernel takes; spills are errors."""
    for chip in CHIPS:
        strict = ["--warn-on-spills", "--warn-on-local-memory-usage", "-Werror"]
        command = [ptxas, f"-arch={chip}", "-v", *strict, path, "-o", TOOLS / f"{path.stem}-{chip}.cubin"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"error: {path.name} on {chip}\n{done.stderr}")
        registers = [int(n) for n in re.findall(r"Used (\d+) registers", done.stderr)]
        yield f"{chip} {max(registers)}"


def main():
    accept = sys.argv[1:] == ["--accept"]
    if sys.argv[1:] and not accept:
        sys.exit(__doc__)
    nvrtc, ptxas = fetch()
    compiler, stale = Compiler(nvrtc), []
    (HERE / "ptx").mkdir(exist_ok=True)
    for path in sorted((HERE / "kernels").glob("*.cu")):
        kept = HERE / "ptx" / f"{path.stem}.ptx"
        ptx = compiler.ptx(path)
        if accept:
            kept.write_bytes(ptx)
        elif not kept.exists() or kept.read_bytes() != ptx:
            stale.append(kept.name)
            continue
        print(f"{path.stem:10} fresh, registers at most: {', '.join(assemble(ptxas, kept))}")
    if stale:
        sys.exit(f"error: not what the kernels compile to: {', '.join(stale)}; run quant/cuda/ptx.py --accept")


main()
