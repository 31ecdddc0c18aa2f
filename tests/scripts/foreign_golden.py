"""Golden files for formats/foreign, made by the tools themselves.

    pip install torch transformers compressed-tensors==0.20.0 "mlx[cpu]" bitsandbytes safetensors numpy
    python tests/scripts/foreign_golden.py formats/foreign/tests/golden

Each case is NAME.safetensors with the tool's stored tensors, and the tool's own dequantized
weight as `expected` (F32), for small floats also the weight itself as `source`; NAME.json is the config.json that goes with it. Versions are in the
metadata. The weights are 16 to 48 rows of seeded normal numbers, so a case has a few KB.

With --check FOLDER, files that niwaki wrote are opened instead: see `check`.
"""

import json
import sys
from pathlib import Path

import numpy as np


def weight(rows, cols, seed):
    return np.random.default_rng(seed).normal(0, 0.05, (rows, cols)).astype(np.float32)


def args(**more):
    base = {"dynamic": False, "group_size": None, "num_bits": 4, "strategy": "group", "symmetric": True, "type": "int"}
    return base | more


def compressed(out):
    import compressed_tensors
    import torch
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams
    from safetensors.torch import save_file

    def ranges(w, a):
        if a.strategy == "tensor":
            return w.min().reshape(1), w.max().reshape(1)
        if a.strategy == "channel":
            return w.amin(1, keepdim=True), w.amax(1, keepdim=True)
        if a.strategy == "block":
            high, wide = a.block_structure
            pad = torch.nn.functional.pad(w, (0, -w.shape[1] % wide, 0, -w.shape[0] % high))
            blocks = pad.reshape(pad.shape[0] // high, high, pad.shape[1] // wide, wide)
            return blocks.amin((1, 3)), blocks.amax((1, 3))
        groups = w.reshape(w.shape[0], -1, a.group_size)
        return groups.amin(2), groups.amax(2)

    def case(name, form, shape, dtype, **more):
        a = QuantizationArgs(**args(**more))
        scheme = QuantizationScheme(targets=["Linear"], weights=a)
        w = torch.from_numpy(weight(*shape, len(name))).to(dtype)
        low, high = ranges(w, a)
        state = {"weight": w}
        kwargs = {}
        if a.strategy == "tensor_group":
            state["weight_global_scale"] = (448 * 6 / w.abs().max()).float().reshape(1)
            kwargs["global_scale"] = state["weight_global_scale"]
        scale, zero = calculate_qparams(low, high, a, **kwargs)
        if kwargs:
            # As the preset NVFP4 has it (`scale_dtype`): codes are chosen for the scale that is stored.
            state["weight_scale"] = scale.to(torch.float8_e4m3fn).float()
        else:
            state["weight_scale"] = scale if form == "mxfp4-pack-quantized" else scale.to(dtype)
        if not a.symmetric:
            state["weight_zero_point"] = zero
        compressor = BaseCompressor.get_value_from_registry(form)
        stored = compressor.compress(dict(state), scheme)
        back = compressor.decompress(dict(stored), scheme)["weight"]
        tensors = {f"m.{key}": value.contiguous() for key, value in stored.items()}
        tensors["expected"] = back.float().contiguous()
        if a.type == "float":
            tensors["source"] = w
        meta = {"tool": f"compressed-tensors {compressed_tensors.__version__}", "computed": str(back.dtype)}
        save_file(tensors, out / f"{name}.safetensors", metadata=meta)
        group = {"targets": ["Linear"], "weights": args(**more), "format": form}
        config = {"quant_method": "compressed-tensors", "format": form, "version": compressed_tensors.__version__,
                  "config_groups": {"group_0": group}, "ignore": []}
        (out / f"{name}.json").write_text(json.dumps({"quantization_config": config}))

    f32 = torch.float32
    for bits in range(2, 9):
        case(f"ct-int{bits}-g32", "pack-quantized", (6, 96), f32, num_bits=bits, group_size=32)
    case("ct-int4-g32-affine", "pack-quantized", (37, 64), f32, group_size=32, symmetric=False)
    case("ct-int3-row-affine", "pack-quantized", (37, 40), f32, num_bits=3, strategy="channel", symmetric=False)
    case("ct-int4-g32-bf16", "pack-quantized", (6, 64), torch.bfloat16, group_size=32)
    case("ct-int4-tensor", "pack-quantized", (6, 40), f32, strategy="tensor")
    case("ct-int8-bytes", "int-quantized", (6, 40), f32, num_bits=8, strategy="channel")
    case("ct-int8-bytes-affine", "int-quantized", (6, 40), f32, num_bits=8, strategy="channel", symmetric=False)
    case("ct-fp8-row", "float-quantized", (6, 40), f32, num_bits=8, type="float", strategy="channel")
    case("ct-fp8-tensor", "float-quantized", (6, 40), f32, num_bits=8, type="float", strategy="tensor")
    case("ct-fp8-block", "float-quantized", (20, 40), f32, num_bits=8, type="float", strategy="block", block_structure=[16, 16])
    case("ct-mxfp4", "mxfp4-pack-quantized", (6, 64), f32, type="float", group_size=32)
    case("ct-nvfp4", "nvfp4-pack-quantized", (6, 64), f32, type="float", strategy="tensor_group", group_size=16)


def mlx(out):
    import importlib.metadata
    import mlx.core as mx

    mx.set_default_device(mx.cpu)
    version = importlib.metadata.version("mlx")

    def case(name, dtype, shape=(6, 128), **keys):
        w = mx.array(weight(*shape, len(name))).astype(dtype)
        stored = mx.quantize(w, **keys)
        back = mx.dequantize(*stored, **keys, dtype=mx.float32 if keys.get("mode") else None)
        tensors = dict(zip(["m.weight", "m.scales", "m.biases"], stored))
        tensors["expected"] = back.astype(mx.float32)
        meta = {"tool": f"mlx {version}", "computed": str(back.dtype).split(".")[-1]}
        mx.save_safetensors(str(out / f"{name}.safetensors"), tensors, metadata=meta)
        (out / f"{name}.json").write_text(json.dumps({"quantization": keys}))

    for bits in (2, 3, 4, 5, 6, 8):
        case(f"mlx-int{bits}-g64", mx.float32, group_size=64, bits=bits)
    case("mlx-int4-g32-f16", mx.float16, group_size=32, bits=4)
    case("mlx-int4-g128-bf16", mx.bfloat16, group_size=128, bits=4)
    case("mlx-mxfp4", mx.float32, group_size=32, bits=4, mode="mxfp4")
    case("mlx-nvfp4", mx.float32, group_size=16, bits=4, mode="nvfp4")


def nf4(out):
    import bitsandbytes
    import torch
    from bitsandbytes import functional as F
    from safetensors.torch import save_file

    def case(name, shape, nested):
        w = torch.from_numpy(weight(*shape, len(name)))
        codes, state = F.quantize_4bit(w, blocksize=64, quant_type="nf4", compress_statistics=nested)
        back = F.dequantize_4bit(codes, state)
        packed = {f"m.weight.{key}": value.clone() for key, value in state.as_dict(packed=True).items()}
        meta = {"tool": f"bitsandbytes {bitsandbytes.__version__}", "computed": str(back.dtype)}
        save_file({"m.weight": codes, "expected": back} | packed, out / f"{name}.safetensors", metadata=meta)
        (out / f"{name}.json").write_text(json.dumps({"quantization_config": {"quant_method": "bitsandbytes"}}))

    # Blocks are flat; the CPU kernel of 0.50.2 decodes rows that they do not divide otherwise than
    # it encodes them.
    case("bnb-nf4", (6, 64), False)
    case("bnb-nf4-nested", (5, 128), True)


def check(folder):
    """Opens what the test `the_tools_read_what_we_write` left: NAME.safetensors with our parts and
    `expected`, NAME.json with our config. Prints one line a case, and ends with 1 if one differs."""
    import mlx.core as mx
    import torch
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig
    from safetensors.torch import load_file

    bad = 0
    for path in sorted(Path(folder).glob("*.safetensors")):
        config = json.loads(path.with_suffix(".json").read_text())
        if path.stem.startswith("mlx"):
            mx.set_default_device(mx.cpu)
            stored = mx.load(str(path))
            keys = {key: config["quantization"][key] for key in ("group_size", "bits", "mode")}
            got = mx.dequantize(stored["m.weight"], stored["m.scales"], stored.get("m.biases"), **keys, dtype=mx.float32)
            same = bool(mx.array_equal(got, stored["expected"]))
        else:
            stored = load_file(path)
            parsed = QuantizationConfig(**config["quantization_config"])
            (scheme,) = parsed.config_groups.values()
            state = {key.removeprefix("m."): value for key, value in stored.items() if key.startswith("m.")}
            got = BaseCompressor.get_value_from_registry(scheme.format or parsed.format).decompress(state, scheme)["weight"]
            # The tool decodes FP4 to bfloat16.
            same = torch.equal(got, stored["expected"].to(got.dtype))
        print(path.stem, "same" if same else "DIFFERS")
        bad |= not same
    return int(bad)


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        sys.exit(check(sys.argv[2]))
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make in (compressed, mlx, nf4):
        make(folder)
