"""The Hugging Face folder of a Llama in GGUF: what `niwaki export` does not know of it.

    python tests/scripts/smollm2_folder.py SmolLM2-135M-Instruct.Q4_1.gguf FOLDER

Writes `config.json` and `tokenizer.json` (byte-level BPE, digits one by
one); `niwaki export MODEL.gguf --to safetensors -o FOLDER/model.safetensors` writes the weights.
"""

import json
import pathlib
import struct
import sys

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def metadata(path):
    """The keys of a GGUF file, version 2 or 3."""
    data = open(path, "rb").read(1 << 23)
    at = 4

    def number(kind):
        nonlocal at
        (found,) = struct.unpack_from("<" + kind, data, at)
        at += struct.calcsize("<" + kind)
        return found

    def text():
        nonlocal at
        size = number("Q")
        at += size
        return data[at - size : at].decode()

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            kind, count = number("I"), number("Q")
            return [value(kind) for _ in range(count)]
        return number(NUMBERS[kind])

    assert data[:4] == b"GGUF" and number("I") in (2, 3)
    number("Q")
    return {text(): value(number("I")) for _ in range(number("Q"))}


def main(source, folder):
    value = metadata(source).__getitem__
    folder.mkdir(parents=True, exist_ok=True)
    heads = value("llama.attention.head_count")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": value("llama.embedding_length"),
        "intermediate_size": value("llama.feed_forward_length"),
        "num_hidden_layers": value("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": value("llama.attention.head_count_kv"),
        "max_position_embeddings": value("llama.context_length"),
        "rms_norm_eps": round(value("llama.attention.layer_norm_rms_epsilon"), 9),
        "rope_theta": value("llama.rope.freq_base"),
        "vocab_size": value("llama.vocab_size"),
        "tie_word_embeddings": True,
        "bos_token_id": value("tokenizer.ggml.bos_token_id"),
        "eos_token_id": value("tokenizer.ggml.eos_token_id"),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    tokens, kinds = value("tokenizer.ggml.tokens"), value("tokenizer.ggml.token_type")
    special = [
        dict(id=i, content=t, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
        for i, (t, kind) in enumerate(zip(tokens, kinds))
        if kind == 3
    ]
    bytes_ = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    digits = dict(type="Digits", individual_digits=True)
    model = dict(
        type="BPE",
        dropout=None,
        unk_token=None,
        continuing_subword_prefix=None,
        end_of_word_suffix=None,
        fuse_unk=False,
        byte_fallback=False,
        vocab={t: i for i, t in enumerate(tokens)},
        merges=value("tokenizer.ggml.merges"),
    )
    tokenizer = dict(
        version="1.0",
        truncation=None,
        padding=None,
        added_tokens=special,
        normalizer=None,
        pre_tokenizer=dict(type="Sequence", pretokenizers=[digits, bytes_]),
        post_processor=None,
        decoder=bytes_,
        model=model,
    )
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
