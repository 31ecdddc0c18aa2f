"""Adapters between niwaki and Hugging Face's PEFT.

    python3 tests/scripts/peft_adapters.py merge FOLDER...
    python3 tests/scripts/peft_adapters.py make FOLDER

`merge` loads the adapter in each FOLDER into a model of zeros, merges it, and compares the weights with
`differences.safetensors` beside the folder. `make` writes adapters that PEFT saves into folders in FOLDER,
each with the weights of the merged model of zeros in `differences.safetensors`. Prints `N tensors: same` or
what it made, or the first difference and ends with 1; without PEFT it says what is missing and ends with 77.
"""

import json
import sys
from pathlib import Path

try:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from safetensors.torch import load_file, save_file
    from torch import nn
    from transformers.pytorch_utils import Conv1D
except Exception as error:  # A library that is there may still lack others.
    print(f"no PEFT: {error}")
    sys.exit(77)

PREFIX = "base_model.model."


def layer_for(factors, module, shape, transposed):
    if f"{PREFIX}{module}.lora_embedding_A" in factors:
        return nn.Embedding(*shape)
    if len(shape) > 2:
        window = tuple(shape[2:])
        return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(window) - 1](shape[1], shape[0], window, bias=False)
    if transposed:
        return Conv1D(shape[1], shape[0])
    return nn.Linear(shape[1], shape[0], bias=False)


def zeroed(model):
    for parameter in model.parameters():
        parameter.data.zero_()
    return model


def merge(*folders):
    return max(map(merge_one, folders))


def merge_one(folder):
    factors = load_file(folder / "adapter_model.safetensors")
    transposed = json.loads((folder / "adapter_config.json").read_text())["fan_in_fan_out"]
    expected = load_file(folder.parent / "differences.safetensors")
    model = nn.Module()
    for name, value in expected.items():
        *path, leaf = name.removesuffix(".weight").split(".")
        parent = model
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = getattr(parent, part)
        parent.add_module(leaf, layer_for(factors, name.removesuffix(".weight"), list(value.shape), transposed))
    loaded = PeftModel.from_pretrained(zeroed(model), str(folder))
    names = {name.replace(".default", "") for name in loaded.state_dict() if "lora_" in name}
    assert names == set(factors), names ^ set(factors)
    return compare(loaded.merge_and_unload().state_dict(), expected)


def compare(merged, expected):
    for name, value in expected.items():
        found = merged[name].to(torch.float32)
        apart = (found - value).abs().max().item()
        if apart > 1e-6 * value.abs().max().item() or not value.abs().max() > 0:
            print(f"{name}: {found.flatten()[:4]} is not {value.flatten()[:4]}")
            return 1
    print(f"{len(expected)} tensors: same")
    return 0


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(11, 6)
        self.block = nn.ModuleDict({"q": nn.Linear(6, 10), "k": nn.Linear(6, 4), "gpt": Conv1D(7, 6)})
        self.conv = nn.Conv2d(3, 8, (3, 2))
        self.head = nn.Linear(4, 5)


ADAPTERS = {
    "linear": dict(r=4, lora_alpha=6, target_modules=["q", "k"]),
    "patterns": dict(
        r=4, lora_alpha=6, target_modules=["q", "k", "conv"], use_rslora=True,
        rank_pattern={"^block.q": 3, "q": 9}, alpha_pattern={r"block\.(k|v)": 5, "conv": 2},
    ),
    "embedding": dict(r=2, lora_alpha=3, target_modules=["embed_tokens", "q"]),
    "transposed": dict(r=3, lora_alpha=3, target_modules=["gpt"], fan_in_fan_out=True),
    "bias": dict(r=2, lora_alpha=5, target_modules=["q"], lora_bias=True),
    "whole": dict(r=2, lora_alpha=1, target_modules=["q"], bias="all", modules_to_save=["head"]),
}


def make(folder):
    torch.manual_seed(7)
    for name, config in ADAPTERS.items():
        model = get_peft_model(zeroed(Model()), LoraConfig(**config))
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.data.normal_()
        model.save_pretrained(str(folder / name))
        merged = model.merge_and_unload().state_dict()
        changed = {name: value.contiguous() for name, value in merged.items() if value.abs().max() > 0}
        save_file(changed, folder / name / "differences.safetensors")
    print(f"made {', '.join(ADAPTERS)}")
    return 0


if __name__ == "__main__":
    verb, *paths = sys.argv[1:]
    sys.exit({"merge": merge, "make": make}[verb](*map(Path, paths)))
