"""Times the search for lottery jackpots beside the same search in PyTorch, by turns on the same threads.

    python tests/scripts/time_jackpots.py NET.onnx DATA.safetensors [--batch 128] [--rounds 3]
        [--sparsity 0.9] [--niwaki PROGRAM]

NET.onnx is ResNet-20 as `tests/scripts/nets.py resnet20` exports it, DATA a dataset of images of 3x32x32, a few batches (`niwaki
dataset import --limit`). Both search from
magnitudes with the whole short restriction: forward and back through the masked weights, SGD with momentum on the scores of every
weight, and each layer's highest scores. Needs torch and numpy.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy
import torch
from torch import nn
from torch.nn import functional

from nets import ResNet20


def images(path):
    data = Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    def tensor(name, kind):
        entry = header[name]
        first, last = entry["data_offsets"]
        return numpy.frombuffer(data[8 + length + first:8 + length + last], kind).reshape(entry["shape"])
    pixels = torch.from_numpy(tensor("images", "u1").astype("<f4") / 255.0)
    return pixels, torch.from_numpy(tensor("labels", "<i8").copy())


class Search:
    """The search in PyTorch, as the method's released code has it, with the short restriction as the paper means it."""

    def __init__(self, net, sparsity):
        self.net = net.train()
        layers = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
        everything = torch.cat([layer.weight.detach().abs().flatten() for layer in layers])
        threshold = everything.kthvalue(int(sparsity * everything.numel())).values
        self.layers = []
        for layer in layers:
            weight = layer.weight.detach().clone()
            mask = weight.abs() > threshold
            if not mask.any():
                mask.view(-1)[weight.abs().argmax()] = True
            scores = torch.where(mask, 1.0, 0.99)
            self.layers.append([layer, weight, mask, scores, torch.zeros_like(scores), int(mask.sum())])
            layer.weight.data = weight * mask
        for parameter in net.parameters():
            parameter.requires_grad_(False)
        for layer in layers:
            layer.weight.requires_grad_(True)

    def step(self, x, y, rate, share):
        functional.cross_entropy(self.net(x), y).backward()
        with torch.no_grad():
            for layer, weight, mask, scores, velocity, count in self.layers:
                gradient = layer.weight.grad * weight
                velocity.mul_(0.9).add_(gradient).add_(scores, alpha=5e-4)
                scores.sub_(velocity, alpha=rate)
                threshold = scores.view(-1).kthvalue(scores.numel() - count).values
                enter, leave = (~mask & (scores > threshold)).view(-1), (mask & (scores <= threshold)).view(-1)
                wanted = int(enter.sum())
                if wanted and wanted == int(leave.sum()):
                    many = -int(-wanted * share // 1)
                    enters, leaves = enter.nonzero().view(-1), leave.nonzero().view(-1)
                    flat = scores.view(-1)
                    mask.view(-1)[enters[flat[enters].topk(many).indices]] = True
                    mask.view(-1)[leaves[(-flat[leaves]).topk(many).indices]] = False
                    layer.weight.data = weight * mask
                layer.weight.grad = None


def of_torch(args, threads, x, y):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    search = Search(ResNet20(), args.sparsity)
    search.step(x[:args.batch], y[:args.batch], 0.1, 1.0)
    begin, steps = time.perf_counter(), len(x) // args.batch
    for at in range(steps):
        part = slice(at * args.batch, (at + 1) * args.batch)
        search.step(x[part], y[part], 0.1, (1 - at / steps) ** 4)
    return steps / (time.perf_counter() - begin)


def of_niwaki(args, threads):
    with tempfile.TemporaryDirectory() as folder:
        words = ["mask", "search", args.net, "--data", args.data, "--sparsity", args.sparsity, "--epochs", 1, "--batch", args.batch,
                 "--threads", threads, "-o", Path(folder) / "mask.safetensors", "--json"]
        done = subprocess.run([args.niwaki, *map(str, words)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["items_per_second"] / args.batch


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("net")
    parser.add_argument("data")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--niwaki", default="target/release/niwaki")
    args = parser.parse_args()
    x, y = images(args.data)
    for threads in (1, 2):
        ours, theirs = [], []
        for _ in range(args.rounds):
            ours.append(of_niwaki(args, threads))
            theirs.append(of_torch(args, threads, x, y))
        a, b = statistics.median(ours), statistics.median(theirs)
        print(f"{threads} threads: niwaki {a:.2f} steps a second, PyTorch {b:.2f}: {a / b:.2f}")


if __name__ == "__main__":
    main()
