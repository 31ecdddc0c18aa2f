"""Reads a model that niwaki wrote with the tools that the format belongs to, and compares.

    python3 tests/scripts/read_by_tools.py gguf FILE.gguf PLAIN.safetensors
    python3 tests/scripts/read_by_tools.py compressed-tensors|mlx|gptq|awq FOLDER PLAIN.safetensors

PLAIN is what `niwaki export FILE --to safetensors` made of the same model: under Hugging Face's
names for GGUF files of the Llama family. Prints `N tensors, M quantized: same`, or the first difference and ends with 1.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np


def load_plain(path):
    """The tensors of a safetensors file of floats, as F32: NumPy has no bfloat16."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = (start + offset for offset in entry["data_offsets"])
        kind = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}[entry["dtype"]]
        value = np.frombuffer(data[begin:end], kind)
        if entry["dtype"] == "BF16":
            value = (value.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = value.astype(np.float32).reshape(entry["shape"])
    return tensors


LLAMA = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}


def gguf_tensors(path):
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(path)
    field = lambda key: reader.fields[key].contents() if key in reader.fields else None
    heads = {"attn_q": field("llama.attention.head_count"), "attn_k": field("llama.attention.head_count_kv")}
    for tensor in reader.tensors:
        quantized = tensor.tensor_type.name not in ("F32", "F16", "BF16")
        name, value = tensor.name, dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if field("general.architecture") == "llama":
            number, layer, leaf = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(\w+)", name).groups()
            block = f"model.layers.{number}." if number else ""
            if layer in ("attn_q", "attn_k"):
                # The rotary embedding of llama.cpp turns neighbours, that of Hugging Face halves.
                rows, cols = value.shape
                value = value.reshape(heads[layer], rows // heads[layer] // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)
            name = f"{block}{LLAMA[layer]}.{leaf}"
        yield name, quantized, value


def compressed_tensors(folder):
    import torch
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig
    from safetensors.torch import load_file

    stored = load_file(folder / "model.safetensors")
    config = QuantizationConfig(**json.loads((folder / "config.json").read_text())["quantization_config"])
    modules = sorted({name.rpartition(".")[0] for name in stored if name.endswith(".weight_scale")})
    for module in modules:
        (scheme,) = [
            group for group in config.config_groups.values()
            if module in group.targets or len(config.config_groups) == 1
        ]
        prefix = module + "."
        state = {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}
        decode = BaseCompressor.get_value_from_registry(scheme.format or config.format).decompress
        yield prefix + "weight", True, decode(state, scheme)["weight"].to(torch.float32).numpy()
    for name, value in stored.items():
        module, _, leaf = name.rpartition(".")
        if not (module in modules and leaf.startswith("weight")):
            yield name, False, value.to(torch.float32).numpy()


def mlx(folder):
    import mlx.core as mx

    mx.set_default_device(mx.cpu)
    stored = mx.load(str(folder / "model.safetensors"))
    config = json.loads((folder / "config.json").read_text())["quantization"]
    for name, value in stored.items():
        module, _, leaf = name.rpartition(".")
        if leaf in ("scales", "biases"):
            continue
        if leaf == "weight" and module + ".scales" in stored:
            own = {**config, **config.get(module, {})}
            keys = {key: own[key] for key in ("group_size", "bits", "mode") if key in own}
            # MLX computes in the type of the scales; in F32 its products and sums are not rounded twice.
            scales, biases = stored[module + ".scales"], stored.get(module + ".biases")
            if biases is not None:
                scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
            value = mx.dequantize(value, scales, biases, **keys, dtype=mx.float32)
            yield name, True, np.array(value)
        else:
            yield name, False, np.array(value.astype(mx.float32))


def gptq(folder):
    import torch
    from gptqmodel import BACKEND, GPTQModel
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear

    # All of it is the tool's: it reads the configuration, makes v2 of v1, and decodes.
    model = GPTQModel.load(str(folder), device="cpu", dtype=torch.bfloat16, backend=BACKEND.GPTQ_TORCH)
    said = quantization(folder)
    read = model.quantize_config
    assert (said.bits, said.group_size, said.desc_act, said.sym, said.format) == (
        read.bits, read.group_size, read.desc_act, read.sym, read.format.value), (said, read)
    for name, module in model.model.named_modules():
        if isinstance(module, TorchLinear):
            # It computes in the type of the scales; in F32 the products are not rounded.
            module.scales = module.scales.to(torch.float32)
            # The object's own method would be compiled first.
            yield name + ".weight", True, TorchLinear.dequantize_weight(module).T.numpy()
    for name, value in model.model.named_parameters():
        yield name, False, value.detach().to(torch.float32).numpy()


def awq(folder):
    import torch
    from awq.models._config import AwqConfig
    from awq.modules.linear.gemm import WQLinear_GEMM
    from awq.utils.packing_utils import dequantize_gemm
    from safetensors.torch import load_file

    stored = load_file(folder / "model.safetensors")
    said, read = quantization(folder), AwqConfig.from_pretrained(str(folder))
    assert (said.bits, said.group_size, said.zero_point, said.format) == (
        read.w_bit, read.q_group_size, read.zero_point, read.version), (said, read)
    for name, value in stored.items():
        module, _, leaf = name.rpartition(".")
        if leaf == "qweight":
            parts = {part: stored[f"{module}.{part}"] for part in ("qweight", "qzeros", "scales")}
            size = value.shape[0], parts["scales"].shape[1]
            # Its scales are half precision, as are its products; in F32 these are not rounded.
            linear = WQLinear_GEMM(read.w_bit, read.q_group_size, *size, False, "cpu").float()
            linear.load_state_dict(parts)
            value = dequantize_gemm(linear.qweight, linear.qzeros, linear.scales, linear.w_bit, linear.group_size)
            yield module + ".weight", True, value.T.numpy()
        elif leaf not in ("qzeros", "scales"):
            yield name, False, value.to(torch.float32).numpy()


def quantization(folder):
    """What Hugging Face's library understands of the configuration."""
    from transformers.quantizers.auto import AutoQuantizationConfig

    return AutoQuantizationConfig.from_dict(json.loads((folder / "config.json").read_text())["quantization_config"])


def half(value):
    """Whether all numbers are bfloat16."""
    return not (value.view(np.uint32) & 0xFFFF).any()


def rounded(value):
    """The nearest bfloat16, ties to even."""
    bits = value.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def main():
    kind, model, plain = sys.argv[1], Path(sys.argv[2]), load_plain(sys.argv[3])
    readers = {"gguf": gguf_tensors, "compressed-tensors": compressed_tensors, "mlx": mlx, "gptq": gptq, "awq": awq}
    tensors = readers[kind](model)
    count = quantized = 0
    for name, coded, value in tensors:
        expected = plain.pop(name)
        if half(value):
            # The tool decodes to bfloat16.
            expected = rounded(expected)
        elif half(expected):
            # The export is in bfloat16, as the model was.
            value = rounded(value)
        if value.shape != expected.shape or not np.array_equal(value, expected):
            print(f"{name}: {value.shape} {value.ravel()[:4]} is not {expected.shape} {expected.ravel()[:4]}")
            return 1
        count, quantized = count + 1, quantized + coded
    if plain:
        print(f"only in {sys.argv[3]}: {sorted(plain)[:3]}")
        return 1
    print(f"{count} tensors, {quantized} quantized: same")
    return 0


if __name__ == "__main__":
    sys.exit(main())
