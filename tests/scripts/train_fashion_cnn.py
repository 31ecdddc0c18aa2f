#!/usr/bin/env python3
"""Train the small fixture network on Fashion-MNIST and write the fixture folder.

usage: train_fashion_cnn.py DATA OUT [--epochs N] [--seed N]

DATA  folder with the four files of the data set as published:
      {train,t10k}-{images-idx3,labels-idx1}-ubyte.gz
OUT   folder for model.safetensors, sample.safetensors and README.md

Needs Python 3.9, numpy and PyTorch 1.13 or newer; no GPU, about a minute of one core.
One seed gives one set of bytes on one machine. Another processor or another PyTorch
sums in another order, so its weights, and with them the accuracy, differ a little.
"""
import argparse
import gzip
import json
import math
import pathlib
import struct

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
           "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
SCALE, MEAN, STD = "0.00392156862745098", "0.2860", "0.3530"  # pixel -> (pixel*SCALE - MEAN) / STD
BATCH, PEAK_RATE, PER_CLASS = 128, 4e-3, 50


class Net(nn.Module):
    """conv 8 - pool - conv 16 - pool - linear 64 - linear 10; 52,138 weights."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc1 = nn.Linear(16 * 7 * 7, 64)
        self.fc2 = nn.Linear(64, len(CLASSES))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


def read_idx(path):
    """An IDX file of bytes: 0, 0, type 8, number of dimensions, the dimensions, the data."""
    raw = gzip.decompress(path.read_bytes())
    kind, ndim = raw[2], raw[3]
    if raw[:2] != b"\0\0" or kind != 8:
        raise SystemExit(f"{path.name}: not an IDX file of bytes")
    shape = struct.unpack(f">{ndim}I", raw[4:4 + 4 * ndim])
    return np.frombuffer(raw, np.uint8, math.prod(shape), 4 + 4 * ndim).reshape(shape)


def read_split(folder, name):
    images = read_idx(folder / f"{name}-images-idx3-ubyte.gz")[:, None]
    labels = read_idx(folder / f"{name}-labels-idx1-ubyte.gz").astype(np.int64)
    return images, labels


def normalize(images):
    x = torch.from_numpy(images.astype(np.float32))
    return (x * float(SCALE) - float(MEAN)) / float(STD)


def train(net, images, labels, epochs):
    """Adam, cross-entropy, the rate up and down once; random horizontal flips."""
    x, y = normalize(images), torch.from_numpy(labels)
    steps = epochs * math.ceil(len(x) / BATCH)
    optimizer = torch.optim.Adam(net.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    for epoch in range(epochs):
        net.train()
        total = 0.0
        for pick in torch.randperm(len(x)).split(BATCH):
            batch = x[pick]
            flip = torch.rand(len(pick)) < 0.5
            batch[flip] = batch[flip].flip(3)
            loss = F.cross_entropy(net(batch), y[pick])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            total += loss.item() * len(pick)
        print(f"epoch {epoch + 1}/{epochs}: training loss {total / len(x):.4f}", flush=True)


def count_correct(net, images, labels):
    net.eval()
    with torch.no_grad():
        found = torch.cat([net(part).argmax(1) for part in normalize(images).split(1000)])
    return int((found.numpy() == labels).sum())


def choose_sample(labels):
    """The first PER_CLASS test images of every class, the classes taking turns: any prefix
    of a multiple of ten images is balanced too."""
    by_class = [np.flatnonzero(labels == c)[:PER_CLASS] for c in range(len(CLASSES))]
    return np.stack(by_class, axis=1).reshape(-1)


def write_safetensors(path, tensors, metadata):
    """Length of the header, the header padded with spaces to a multiple of 8, the data.
    The widest type goes first, so that every tensor is aligned."""
    names = {"float32": "F32", "int64": "I64", "uint8": "U8"}
    header, chunks, at = {"__metadata__": metadata}, [], 0
    for name, a in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        data = np.ascontiguousarray(a).astype(a.dtype.newbyteorder("<")).tobytes()
        header[name] = {"dtype": names[a.dtype.name], "shape": list(a.shape), "data_offsets": [at, at + len(data)]}
        chunks.append(data)
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))


README = """# fashion-cnn

A small network for tests: it tells the ten kinds of clothing of Fashion-MNIST apart.
`model.safetensors` holds its {weights:,} weights as f32 under PyTorch's names, without structure;
`sample.safetensors` holds {sample} test images (the first {per_class} of every class, the classes taking
turns) as `images` U8 [{sample},1,28,28] and `labels` I64 [{sample}], with the preprocessing in its
metadata: `(pixel * scale - mean) / std`.

| layer | weight | bias | then | output |
|---|---|---|---|---|
| conv1, 3x3, padding 1 | 8x1x3x3 | 8 | ReLU, max pool 2x2 | 8x14x14 |
| conv2, 3x3, padding 1 | 16x8x3x3 | 16 | ReLU, max pool 2x2 | 16x7x7 |
| fc1, on the flattened image | 64x784 | 64 | ReLU | 64 |
| fc2 | 10x64 | 10 | | 10 class scores |

Accuracy in f32, as measured by the script: **{full:.2f} %** of the 10,000 test images ({full_n} right),
**{part:.1f} %** of the sample ({part_n} of {sample} right).

Made by `tests/scripts/train_fashion_cnn.py DATA OUT --epochs {epochs} --seed {seed}` on one CPU thread (PyTorch {torch});
DATA is the folder of the four `.gz` files of the data set. It takes about a minute. Other machines end
on slightly different weights; the tests use the committed files.

The images are part of Fashion-MNIST, copyright 2017 Zalando SE, MIT licence: see `LICENSE-fashion-mnist`.
"""


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("data", type=pathlib.Path)
    args.add_argument("out", type=pathlib.Path)
    args.add_argument("--epochs", type=int, default=8)
    args.add_argument("--seed", type=int, default=0)
    args = args.parse_args()

    torch.set_num_threads(1)  # one order of summation
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(args.seed)
    test_images, test_labels = read_split(args.data, "t10k")
    net = Net()
    train(net, *read_split(args.data, "train"), args.epochs)

    pick = choose_sample(test_labels)
    images, labels = test_images[pick], test_labels[pick]
    full_n = count_correct(net, test_images, test_labels)
    part_n = count_correct(net, images, labels)
    full, part = 100 * full_n / len(test_labels), 100 * part_n / len(labels)
    print(f"test set {full:.2f} %, sample {part:.1f} %")

    args.out.mkdir(parents=True, exist_ok=True)
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    write_safetensors(args.out / "model.safetensors", state, {"format": "pt"})
    write_safetensors(args.out / "sample.safetensors", {"images": images, "labels": labels},
                      {"scale": SCALE, "mean": MEAN, "std": STD, "layout": "NCHW", "classes": ",".join(CLASSES)})
    (args.out / "README.md").write_text(README.format(
        weights=sum(v.size for v in state.values()), sample=len(pick), per_class=PER_CLASS, full=full, full_n=full_n,
        part=part, part_n=part_n, epochs=args.epochs, seed=args.seed, torch=torch.__version__))


if __name__ == "__main__":
    main()
