"""Times elastic training beside plain training, and beside the same recipe in PyTorch, by turns on the same threads.

    python tests/scripts/time_elastic.py NET.onnx DATA.safetensors [--batch 128] [--rounds 3] [--niwaki PROGRAM]

NET.onnx is ResNet-20 as `tests/scripts/nets.py resnet20` exports it, DATA a dataset of images of 3x32x32, a few batches (`niwaki
dataset import --limit`). A step of the recipe: the widest, a mixed and the narrowest form of 2, 4 and 8 bits, each taught by
the one before, granularity and symmetry drawn by layer; the loss of the weights' distribution; gradients cut to -1..1; Adam.
In PyTorch quantizers are functions with a backward of their own. Steps a second of a second pass over the data: what both do
once, before the first, is not counted. Needs torch and numpy.
"""

import argparse
import json
import random
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from nets import ResNet20
from time_jackpots import images


class Quantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, step, offset, low, high, damping):
        v = (x - offset) / step
        q = v.clamp(low, high).round_()
        ctx.save_for_backward(v, q)
        ctx.ends, ctx.damping, ctx.shape = (low, high), damping, step.shape
        return q * step + offset

    @staticmethod
    def backward(ctx, gradient):
        v, q = ctx.saved_tensors
        inside = (v >= ctx.ends[0]) & (v <= ctx.ends[1])
        own = gradient * inside
        step = (gradient * q - own * v).sum_to_size(ctx.shape) * ctx.damping
        offset = (gradient - own).sum_to_size(ctx.shape) * ctx.damping
        return own, step, offset, None, None, None


class Layer(nn.Module):
    """A convolution or a linear layer between quantizers."""

    def __init__(self, layer, fixed):
        super().__init__()
        self.layer, self.fixed, self.signed = layer, fixed, fixed == "first"
        rows, dims = layer.weight.shape[0], [1] * (layer.weight.dim() - 1)
        largest = layer.weight.detach().abs().max()
        def table(shape, scale):
            steps = torch.stack([2 * scale / (2**bits - 1) * torch.ones(shape) for bits in range(2, 9)])
            return nn.Parameter(steps), nn.Parameter(steps.clone()), nn.Parameter(torch.zeros_like(steps))
        self.tensor = nn.ParameterList(table([1] * layer.weight.dim(), largest))
        self.rows = nn.ParameterList(table([rows, *dims], largest))
        self.input = nn.ParameterList(table([1], 3.0))
        self.choose(8)

    def choose(self, bits):
        free = lambda: 8 if self.fixed else bits or random.choice((2, 4, 8))
        self.bits, self.style = (free(), free()), [random.random() < 0.5 for _ in range(3)]

    def quantized(self, x, tables, bits, signed, affine, count):
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        symmetric, step, offset = tables
        at = bits - 2
        step, offset = (step[at], offset[at]) if affine else (symmetric[at], torch.zeros_like(offset[at]))
        return Quantize.apply(x, step.abs() + 1e-9, offset, low, high, (high * count) ** -0.5)

    def forward(self, x):
        rows, affine, input_affine = self.style
        weight = self.layer.weight
        w = self.quantized(weight, self.rows if rows else self.tensor, self.bits[0], True, affine, weight.numel())
        x = self.quantized(x, self.input, self.bits[1], self.signed, input_affine, x.numel())
        if isinstance(self.layer, nn.Conv2d):
            return functional.conv2d(x, w, None, self.layer.stride, self.layer.padding)
        return functional.linear(x, w, self.layer.bias)


def wrap(module, names, last):
    for name, child in list(module.named_children()):
        if isinstance(child, (nn.Conv2d, nn.Linear)):
            names.append(Layer(child, "first" if not names else "last" if child is last else ""))
            setattr(module, name, names[-1])
        else:
            wrap(child, names, last)


class Elastic:
    def __init__(self):
        self.net, self.layers = ResNet20().train(), []
        wrap(self.net, self.layers, self.net.fc)
        self.adam = torch.optim.Adam(self.net.parameters(), 1e-3)

    def step(self, x, y):
        self.adam.zero_grad()
        shaped = self.layers[1:]
        loss = 0.0
        for layer in shaped:
            w = layer.layer.weight
            u = (w - w.mean()) / w.std()
            loss = loss + (0.015 * ((u**4).mean() - 1.8) ** 2 + (u**3).mean() ** 2) / len(shaped)
        loss.backward()
        teacher = None
        for bits in (8, None, 2):
            for layer in self.layers:
                layer.choose(bits)
            out = self.net(x)
            loss = functional.cross_entropy(out, y)
            if teacher is not None:
                apart = functional.kl_div(out.log_softmax(1), teacher, reduction="batchmean")
                loss = 0.5 * loss + 0.5 * apart
            loss.backward()
            teacher = out.detach().softmax(1)
        nn.utils.clip_grad_value_(self.net.parameters(), 1.0)
        self.adam.step()


class Plain:
    def __init__(self):
        self.net = ResNet20().train()
        self.adam = torch.optim.Adam(self.net.parameters(), 1e-3)

    def step(self, x, y):
        self.adam.zero_grad()
        functional.cross_entropy(self.net(x), y).backward()
        self.adam.step()


def of_torch(kind, args, threads, x, y):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    random.seed(0)
    training, steps = kind(), len(x) // args.batch
    training.step(x[:args.batch], y[:args.batch])
    begin = time.perf_counter()
    for at in range(steps):
        part = slice(at * args.batch, (at + 1) * args.batch)
        training.step(x[part], y[part])
    return steps / (time.perf_counter() - begin)


def of_niwaki(verb, args, threads, steps):
    def seconds(epochs):
        with tempfile.TemporaryDirectory() as folder:
            words = [*verb, args.net, "--data", args.data, "--epochs", epochs, "--batch", args.batch, "--optimizer", "adam",
                     "--lr", "0.001", "--threads", threads, "-o", Path(folder) / "out.safetensors", "--json"]
            done = subprocess.run([args.niwaki, *map(str, words)], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["seconds"]
    return steps / (seconds(2) - seconds(1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("net")
    parser.add_argument("data")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--niwaki", default="target/release/niwaki")
    args = parser.parse_args()
    x, y = images(args.data)
    steps = len(x) // args.batch
    for threads in (1, 2):
        found = [[], [], [], []]
        for _ in range(args.rounds):
            found[0].append(of_niwaki(["train"], args, threads, steps))
            found[1].append(of_niwaki(["elastic", "train"], args, threads, steps))
            found[2].append(of_torch(Plain, args, threads, x, y))
            found[3].append(of_torch(Elastic, args, threads, x, y))
        plain, elastic, torch_plain, torch_elastic = map(statistics.median, found)
        print(f"{threads} threads, steps a second: niwaki {plain:.2f} plain, {elastic:.2f} elastic ({plain / elastic:.2f} plain "
              f"steps each); PyTorch {torch_plain:.2f}, {torch_elastic:.2f} ({torch_plain / torch_elastic:.2f}); elastic "
              f"{elastic / torch_elastic:.2f} of PyTorch", flush=True)


if __name__ == "__main__":
    main()
