"""Times passes forward in niwaki and in PyTorch, by turns: ResNet-20 of tests/scripts/nets.py, with the running statistics
of its normalizations.

    python3 tests/scripts/time_inference.py [--niwaki PROGRAM] [--batch 64,1] [--threads 1,2] [--passes 20] [--rounds 5]

For each batch and number of threads: the median of the rounds, each the median time of a pass in milliseconds, of niwaki
on the network as PyTorch exports it, and of PyTorch with channels first and last; and niwaki's speed as a share of either.
Exits with 77 where PyTorch is not installed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

try:
    import torch
except ImportError:
    print("skipped: PyTorch is not installed")
    sys.exit(77)

import numpy

from nets import ResNet20, filled, tensor


def write(path, x):
    """One tensor `x` as safetensors."""
    data = x.numpy().astype("<f4").tobytes()
    header = json.dumps({"x": {"dtype": "F32", "shape": list(x.shape), "data_offsets": [0, len(data)]}}).encode()
    header += b" " * (-len(header) % 8)
    Path(path).write_bytes(numpy.uint64(len(header)).tobytes() + header + data)


def in_torch(net, x, passes):
    seconds = []
    with torch.inference_mode():
        for nth in range(passes + 2):
            start = time.perf_counter()
            net(x)
            if nth >= 2:
                seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e3


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--niwaki", default="target/release/niwaki")
    parser.add_argument("--batch", default="64,1")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(f"PyTorch {torch.__version__}; ms for a pass forward")
    net = filled(ResNet20()).eval()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for batch in map(int, args.batch.split(",")):
            x = tensor((batch, 3, 32, 32), 1000)
            model = str(folder / f"{batch}.onnx")
            torch.onnx.export(net, (x,), model, input_names=["x"], dynamo=False)
            write(folder / "x.safetensors", x)
            for threads in map(int, args.threads.split(",")):
                torch.set_num_threads(threads)
                ours, first, last = [], [], []
                for _ in range(args.rounds):
                    command = [args.niwaki, "run", model, "--input", folder / "x.safetensors", "-o", folder / "y.safetensors",
                               "--force", "--json", "--threads", str(threads), "--repeat", str(args.passes)]
                    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                    ours.append(json.loads(said)["median_seconds"] * 1e3)
                    first.append(in_torch(net.to(memory_format=torch.contiguous_format), x, args.passes))
                    last_x = x.to(memory_format=torch.channels_last)
                    last.append(in_torch(net.to(memory_format=torch.channels_last), last_x, args.passes))
                mine, first, last = map(statistics.median, (ours, first, last))
                print(f"batch {batch}, {threads} threads: niwaki {mine:.2f}, PyTorch channels first {first:.2f} "
                      f"({first / mine:.2f}x), channels last {last:.2f} ({last / mine:.2f}x)", flush=True)


if __name__ == "__main__":
    main()
