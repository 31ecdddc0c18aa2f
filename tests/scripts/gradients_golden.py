"""Writes tests/golden/gradients.json: marks of the gradients that PyTorch finds in double precision for the networks
of tests/src/nets.rs. Of each gradient: its norm, and its products with four made-up vectors.

    python3 tests/scripts/gradients_golden.py > tests/golden/gradients.json
"""

import json

import torch

from nets import Encoder, ResNet20, filled, tensor


def marks(gradient):
    flat = gradient.reshape(-1)
    return [flat.norm().item()] + [(flat @ tensor((flat.numel(),), 3000 + seed).double()).item() for seed in range(4)]


def of(net, shape, with_input):
    net = filled(net).double()
    x = tensor(shape, 1000).double().requires_grad_(with_input)
    y = net(x)
    y.backward(tensor(tuple(y.shape), 2000).double())
    found = {name: marks(parameter.grad) for name, parameter, *_ in net.named()}
    if with_input:
        found["x"] = marks(x.grad)
    return found


def main():
    nets = {
        "resnet20": of(ResNet20(), (4, 3, 32, 32), False),
        "encoder": of(Encoder(32, 4), (2, 9, 32), True),
    }
    print(json.dumps(nets, indent=1))


if __name__ == "__main__":
    main()
