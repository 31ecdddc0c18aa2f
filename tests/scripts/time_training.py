"""Times training steps (forward and back, no update) in niwaki and in PyTorch, by turns.

    python3 tests/scripts/time_training.py BENCH [--threads 1,2] [--passes 10] [--rounds 5] [NET ...]

BENCH is the program that `cargo bench -p niwaki-benches --bench training --no-run` names. For each net and number of
threads: the median of the rounds, each the median time of a pass in milliseconds, of niwaki, of PyTorch with channels
first and, for images, with channels last; and niwaki's speed as a share of either. Then the most memory that one pass
takes: niwaki's count of values, and by how much PyTorch's resident memory grows at most.
Exits with 77 where PyTorch is not installed.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import threading
import time

try:
    import torch
except ImportError:
    print("skipped: PyTorch is not installed")
    sys.exit(77)
from torch import nn

from nets import Encoder, ResNet20, filled, tensor


def nets():
    depthwise = nn.Conv2d(96, 96, 3, padding=1, groups=96, bias=False)
    return {
        "resnet20": (filled(ResNet20()), tensor((64, 3, 32, 32), 1000), False),
        "depthwise": (depthwise, tensor((32, 96, 28, 28), 1000), True),
        "encoder": (filled(Encoder(256, 4)), tensor((8, 128, 256), 1000), True),
    }


def in_torch(net, x, of_input, passes):
    x = x.clone(memory_format=torch.preserve_format).requires_grad_(of_input)
    net.train()
    seconds = []
    for nth in range(passes + 2):
        net.zero_grad()
        x.grad = None
        start = time.perf_counter()
        y = net(x)
        y.backward(torch.full_like(y, 1 / 64))
        if nth >= 2:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e3


def in_niwaki(bench, name, threads, passes):
    command = [bench, name, "--threads", str(threads), "--passes", str(passes)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [float(x) for x in re.search(r"both ([\d.]+) ms, \d+ examples/s, ([\d.]+) MB", said).groups()]


def growth(name, passes=3):
    """By how many MB the resident memory of a process of its own grows at most during passes, looked at every 0.2 ms."""
    code = f"import time_training as t; print(t.grows({name!r}, {passes}))"
    folder = str(pathlib.Path(__file__).resolve().parent)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    return float(done.stdout)


def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def grows(name, passes):
    torch.set_num_threads(1)
    net, x, of_input = nets()[name]
    in_torch(net, x[:1], of_input, 1)
    before, most, stop = resident(), [0], threading.Event()

    def look():
        while not stop.is_set():
            most[0] = max(most[0], resident())
            time.sleep(2e-4)

    watch = threading.Thread(target=look)
    watch.start()
    in_torch(net, x, of_input, passes)
    stop.set()
    watch.join()
    return (most[0] - before) / 1e6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench")
    parser.add_argument("nets", nargs="*")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(f"PyTorch {torch.__version__}; ms for a pass forward and back")
    for name, (net, x, of_input) in nets().items():
        if args.nets and name not in args.nets:
            continue
        for threads in map(int, args.threads.split(",")):
            torch.set_num_threads(threads)
            ways = {"first": (net, x)}
            if x.dim() == 4:
                ways["last"] = tuple(of.to(memory_format=torch.channels_last) for of in (net, x))
            ours, theirs = [], {way: [] for way in ways}
            for _ in range(args.rounds):
                time_, memory = in_niwaki(args.bench, name, threads, args.passes)
                ours.append(time_)
                for way, (net_, x_) in ways.items():
                    # The same module serves both ways.
                    net_.to(memory_format=torch.channels_last if way == "last" else torch.contiguous_format)
                    theirs[way].append(in_torch(net_, x_, of_input, args.passes))
            mine = statistics.median(ours)
            text = [f"channels {way} {statistics.median(all_):.1f} ({statistics.median(all_) / mine:.2f}x)"
                    for way, all_ in theirs.items()]
            print(f"{name}, {threads} threads: niwaki {mine:.1f}, PyTorch {', '.join(text)}", flush=True)
        print(f"{name}, memory: niwaki {memory:.1f} MB, PyTorch grows by {growth(name):.1f} MB", flush=True)


if __name__ == "__main__":
    main()
