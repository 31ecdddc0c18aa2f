"""The networks of tests/src/nets.rs, in PyTorch, with the same made-up weights; and networks to be trained.

    python tests/scripts/nets.py resnet8|resnet20|narrow|vgg OUT.onnx
"""

import math
import sys

import numpy
import torch
from torch import nn
from torch.nn import functional


# As graphs have it: a single float.
EPSILON = float(numpy.float32(1e-5))


def numbers(length, seed):
    """Numbers between -1 and 1: the mixing function of splitmix64."""
    with numpy.errstate(over="ignore"):
        x = numpy.arange(1, length + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        x += numpy.uint64(seed * 0xD1B54A32D192ED03 % 2**64)
        x = (x ^ x >> numpy.uint64(30)) * numpy.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ x >> numpy.uint64(27)) * numpy.uint64(0x94D049BB133111EB)
        x ^= x >> numpy.uint64(31)
    return ((x >> numpy.uint64(11)).astype(numpy.float64) / 2.0**52 - 1.0).astype(numpy.float32)


def tensor(shape, seed):
    return torch.from_numpy(numbers(math.prod(shape), seed)).reshape(shape)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.c1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.b1 = nn.BatchNorm2d(outputs, EPSILON)
        self.c2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.b2 = nn.BatchNorm2d(outputs, EPSILON)
        self.short = None
        if stride != 1:
            self.short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs, EPSILON))

    def forward(self, x):
        y = self.b2(self.c2(functional.relu(self.b1(self.c1(x)))))
        return functional.relu(y + (x if self.short is None else self.short(x)))


class ResNet20(nn.Module):
    """For images of 32x32; with one block a stage it is ResNet-8, of width 8 narrow."""

    def __init__(self, blocks_=3, width=16):
        super().__init__()
        self.each = blocks_
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width, EPSILON), nn.ReLU())
        blocks, channels = [], width
        for outputs in (width, 2 * width, 4 * width):
            for _ in range(blocks_):
                blocks.append(Block(channels, outputs, 1 if outputs == channels else 2))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(4 * width, 10)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))

    def named(self):
        """Parameters by the names of tests/src/nets.rs, in its order, with their middle and spread."""
        def unit(name, conv, norm):
            fan = conv.weight[0].numel()
            yield f"{name}.conv.weight", conv.weight, 0.0, numpy.sqrt(numpy.float32(3.0 / fan))
            yield f"{name}.bn.weight", norm.weight, 1.0, 0.3
            yield f"{name}.bn.bias", norm.bias, 0.0, 0.3

        yield from unit("stem", self.stem[0], self.stem[1])
        for at, block in enumerate(self.blocks):
            name = f"{at // self.each}.{at % self.each}"
            yield from unit(f"{name}.1", block.c1, block.b1)
            yield from unit(f"{name}.2", block.c2, block.b2)
            if block.short is not None:
                yield from unit(f"{name}.short", block.short[0], block.short[1])
        yield "fc.weight", self.fc.weight, 0.0, 0.2
        yield "fc.bias", self.fc.bias, 0.0, 0.2


class Encoder(nn.Module):
    """A layer that is normalized before each half; weights are [in, out]."""

    def __init__(self, hidden, heads):
        super().__init__()
        self.heads = heads
        self.all = nn.ParameterDict()
        self.order = []
        self.norm("norm1", hidden)
        for name in ("q", "k", "v", "o"):
            self.linear(name, hidden, hidden)
        self.norm("norm2", hidden)
        self.linear("up", hidden, 4 * hidden)
        self.linear("down", 4 * hidden, hidden)

    def add(self, name, shape, middle, spread):
        self.all[name.replace(".", "_")] = nn.Parameter(torch.zeros(shape))
        self.order.append((name, middle, spread))

    def norm(self, name, hidden):
        self.add(f"{name}.weight", (hidden,), 1.0, 0.3)
        self.add(f"{name}.bias", (hidden,), 0.0, 0.3)

    def linear(self, name, inputs, outputs):
        self.add(f"{name}.weight", (inputs, outputs), 0.0, numpy.sqrt(numpy.float32(3.0 / inputs)))
        self.add(f"{name}.bias", (outputs,), 0.0, 0.3)

    def of(self, name):
        return self.all[f"{name}_weight"], self.all[f"{name}_bias"]

    def forward(self, x):
        def linear(x, name):
            weight, bias = self.of(name)
            return x @ weight + bias

        def norm(x, name):
            return functional.layer_norm(x, x.shape[-1:], *self.of(name), EPSILON)

        texts, tokens, hidden = x.shape
        y = norm(x, "norm1")
        q, k, v = (linear(y, name).reshape(texts, tokens, self.heads, -1).transpose(1, 2) for name in "qkv")
        shares = torch.softmax(q @ k.transpose(2, 3) / float(numpy.float32(hidden // self.heads) ** 0.5), -1)
        x = x + linear((shares @ v).transpose(1, 2).reshape(texts, tokens, hidden), "o")
        return x + linear(functional.gelu(linear(norm(x, "norm2"), "up")), "down")

    def named(self):
        for name, middle, spread in self.order:
            yield name, self.all[name.replace(".", "_")], middle, spread


def filled(net):
    """The network with its made-up weights."""
    with torch.no_grad():
        for at, (_, parameter, middle, spread) in enumerate(net.named()):
            numbers_ = numpy.float32(middle) + numpy.float32(spread) * numbers(parameter.numel(), at + 1)
            parameter.copy_(torch.from_numpy(numbers_).reshape(parameter.shape))
    return net.train()


class Vgg(nn.Module):
    """Eight convolutions without normalization, for images of 32x32: 32, 32, 64, 64, 128, 128, 128, 128 channels."""

    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for at, outputs in enumerate((32, 32, 64, 64, 128, 128, 128, 128)):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU()]
            if at in (1, 3, 5):
                layers.append(nn.MaxPool2d(2))
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, 10)

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


def main():
    """Exports a network to be trained: python tests/scripts/nets.py resnet8|resnet20|narrow|vgg OUT.onnx"""
    nets = {"resnet8": lambda: ResNet20(1), "resnet20": ResNet20, "narrow": lambda: ResNet20(width=8), "vgg": Vgg}
    if len(sys.argv) != 3 or sys.argv[1] not in nets:
        raise SystemExit(main.__doc__)
    net = nets[sys.argv[1]]().eval()
    for at, tensor_ in enumerate(net.state_dict().values()):
        # Tensors that are equal would become one.
        if tensor_.dim() == 1:
            tensor_.copy_(1.0 + 0.1 * tensor(tuple(tensor_.shape), at + 1))
    torch.onnx.export(net, (torch.zeros(2, 3, 32, 32),), sys.argv[2], dynamo=False,
                      input_names=["images"], output_names=["scores"], opset_version=17,
                      training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
                      dynamic_axes={"images": {0: "batch"}, "scores": {0: "batch"}})


if __name__ == "__main__":
    main()
