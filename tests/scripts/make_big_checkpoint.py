#!/usr/bin/env python3
"""Write a made-up bf16 checkpoint of a given size, laid out as Hugging Face lays out Llama.

usage: make_big_checkpoint.py OUT [--size 8GiB] [--shards 4] [--seed 0]

OUT gets config.json, model.safetensors.index.json and the shards. The weights are random
and mean nothing: this is for speed, memory and format checks. The width of the network
follows from the size, and the number of layers fills it up, so the folder ends within
half a layer of what was asked.

Only the standard library; some 60 MB of memory for any size; as fast as the disk takes
it. A tensor's bytes depend on the seed, its name and its shape, not on the shards.
"""
import argparse
import array
import json
import math
import pathlib
import random
import re
import struct
import sys

VOCAB = 32000
WIDTHS = [8192, 4096, 2048, 1024, 512, 256]  # the widest that still gives LAYERS layers
LAYERS = 12
SIGMA = 0.02
BLOCK = 1 << 20  # values
UNITS = {"": 1, "MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30}


def size(text):
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(\w*)", text)
    if not found or found[2] not in UNITS:
        raise argparse.ArgumentTypeError(f"`{text}`: expected a number and one of MB, MiB, GB, GiB")
    return int(float(found[1]) * UNITS[found[2]])


def layer_shapes(width, prefix):
    """One Llama block: a head of 128 (or the whole width), four query heads to a key head."""
    head = min(128, width // 4)
    inner, kv = width * 7 // 2, width // head // 4 * head
    return {
        f"{prefix}.input_layernorm.weight": (width,),
        f"{prefix}.self_attn.q_proj.weight": (width, width),
        f"{prefix}.self_attn.k_proj.weight": (kv, width),
        f"{prefix}.self_attn.v_proj.weight": (kv, width),
        f"{prefix}.self_attn.o_proj.weight": (width, width),
        f"{prefix}.post_attention_layernorm.weight": (width,),
        f"{prefix}.mlp.gate_proj.weight": (inner, width),
        f"{prefix}.mlp.up_proj.weight": (inner, width),
        f"{prefix}.mlp.down_proj.weight": (width, inner),
    }


def nbytes(shape):
    return 2 * math.prod(shape)


def design(total):
    """Width and number of layers for about `total` bytes."""
    for width in WIDTHS:
        one = sum(map(nbytes, layer_shapes(width, "").values()))
        layers = round((total - 2 * nbytes((VOCAB, width))) / one)
        if layers >= LAYERS:
            return width, layers
    raise SystemExit("error: too small; ask for 64MiB or more")


def shapes(width, layers):
    out = {"model.embed_tokens.weight": (VOCAB, width)}
    for i in range(layers):
        out.update(layer_shapes(width, f"model.layers.{i}"))
    out["model.norm.weight"] = (width,)
    out["lm_head.weight"] = (VOCAB, width)
    return out


def config(width, layers):
    head = min(128, width // 4)
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
            "hidden_size": width, "intermediate_size": width * 7 // 2, "num_hidden_layers": layers,
            "num_attention_heads": width // head, "num_key_value_heads": width // head // 4, "head_dim": head,
            "vocab_size": VOCAB, "max_position_embeddings": 8192, "hidden_act": "silu", "rms_norm_eps": 1e-05,
            "rope_theta": 10000.0, "tie_word_embeddings": False}


def split(tensors, count):
    """Whole tensors in order, each shard filled to its share of the bytes."""
    share, parts, held = sum(map(nbytes, tensors.values())) / count, [[]], 0
    for name, shape in tensors.items():
        if held and held + nbytes(shape) / 2 > share * len(parts) and len(parts) < count:
            parts.append([])
        parts[-1].append(name)
        held += nbytes(shape)
    return parts


def bf16(values):
    """Round to nearest, ties to even."""
    words = memoryview(array.array("f", values)).cast("B").cast("I")
    out = array.array("H", [(u + 0x7FFF + (u >> 16 & 1)) >> 16 for u in words])
    if sys.byteorder == "big":
        out.byteswap()
    return out.tobytes()


class Noise:
    """One block of normal values, in eight versions that differ by random signs. Tensors are
    made of turned versions, which costs no arithmetic for each value."""

    def __init__(self, seed):
        self.seed = seed
        rng = random.Random(seed)
        block = bf16(rng.gauss(0, SIGMA) for _ in range(BLOCK))
        number, signs = int.from_bytes(block, "little"), int.from_bytes(b"\0\x80" * BLOCK, "little")
        self.versions = []
        for _ in range(8):
            turned = (number ^ rng.getrandbits(16 * BLOCK) & signs).to_bytes(2 * BLOCK, "little")
            self.versions.append(memoryview(turned + turned))

    def pieces(self, name, shape):
        rng, left = random.Random(f"{self.seed}:{name}"), math.prod(shape)
        if len(shape) == 1:
            yield bf16(rng.gauss(1, 0.1) for _ in range(left))
            return
        while left:
            n, at = min(left, BLOCK), rng.randrange(BLOCK)
            yield rng.choice(self.versions)[2 * at:2 * (at + n)]
            left -= n


def write_shard(path, names, tensors, noise):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name in names:
        end = at + nbytes(tensors[name])
        header[name] = {"dtype": "BF16", "shape": tensors[name], "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            for piece in noise.pieces(name, tensors[name]):
                out.write(piece)


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("out", type=pathlib.Path)
    args.add_argument("--size", type=size, default=size("8GiB"))
    args.add_argument("--shards", type=int, default=4)
    args.add_argument("--seed", type=int, default=0)
    args = args.parse_args()
    if args.shards < 1:
        raise SystemExit("error: `--shards` must be 1 or more")
    if args.out.exists() and any(args.out.iterdir()):
        raise SystemExit(f"error: `{args.out}` is not empty")

    width, layers = design(args.size)
    tensors = shapes(width, layers)
    parts = split(tensors, args.shards)
    noise, placed = Noise(args.seed), {}
    args.out.mkdir(parents=True, exist_ok=True)
    for i, names in enumerate(parts):
        shard = f"model-{i + 1:05}-of-{len(parts):05}.safetensors"
        write_shard(args.out / shard, names, tensors, noise)
        placed.update(dict.fromkeys(names, shard))
    total = sum(map(nbytes, tensors.values()))
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(placed.items()))}
    (args.out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (args.out / "config.json").write_text(json.dumps(config(width, layers), indent=2) + "\n")
    print(f"{total:,} bytes in {len(tensors)} tensors, {len(parts)} shards; width {width}, {layers} layers")


if __name__ == "__main__":
    main()
