"""Tiny Hugging Face models with random weights, and what transformers computes with them.

    python tests/scripts/hf_goldens.py tests/golden/hf

Needs torch, transformers and safetensors. One folder a model: `config.json` and
`model.safetensors` as `save_pretrained` writes them, and beside it `NAME.expected.safetensors` with the
inputs and the results. All is computed in float32 with eager attention; weights of half precision are stored
as such and widened by the reference too.
"""

import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

VOCABULARY = 40
TOKENS = 24
SIZES = dict(
    vocab_size=VOCABULARY,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)
ROPES = {
    "linear": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
        "rope_theta": 500.0,
    },
    "yarn": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "rope_theta": 10000.0,
    },
}


def decoders():
    """Name, configuration, type that weights are stored in."""
    of = transformers
    yield "llama", of.LlamaConfig(**SIZES, rms_norm_eps=1e-5, tie_word_embeddings=False), torch.float32
    yield "llama-bias", of.LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True, head_dim=12), torch.float32
    for name, rope in ROPES.items():
        # Dynamic scaling changes nothing before the context is full.
        sizes = SIZES | {"max_position_embeddings": 16} if name == "dynamic" else SIZES
        config = of.LlamaConfig(**sizes, head_dim=8, rope_parameters=rope, tie_word_embeddings=True)
        yield f"llama-{name}", config, torch.float32
    yield "mistral", of.MistralConfig(**SIZES, sliding_window=5, head_dim=8), torch.bfloat16
    yield "qwen2", of.Qwen2Config(**SIZES, tie_word_embeddings=True), torch.float16
    sizes = dict(use_sliding_window=True, sliding_window=6, max_window_layers=1)
    yield "qwen2-window", of.Qwen2Config(**SIZES, **sizes), torch.float32
    yield "qwen3", of.Qwen3Config(**SIZES, head_dim=8, tie_word_embeddings=True), torch.float32
    yield "gemma", of.GemmaConfig(**SIZES, head_dim=8), torch.float32
    gemma = dict(head_dim=8, query_pre_attn_scalar=20, sliding_window=6)
    yield "gemma2", of.Gemma2Config(**SIZES, **gemma, final_logit_softcapping=8.0, attn_logit_softcapping=2.0), torch.float32
    yield "gemma3", of.Gemma3TextConfig(**SIZES, **gemma, sliding_window_pattern=2), torch.float32


def encoders():
    of = transformers
    sizes = {k: v for k, v in SIZES.items() if k != "num_key_value_heads"}
    yield "bert", of.BertConfig(**sizes), of.BertModel
    yield "roberta", of.RobertaConfig(**sizes, pad_token_id=1, type_vocab_size=1), of.RobertaModel
    distil = dict(vocab_size=VOCABULARY, dim=16, hidden_dim=24, n_layers=2, n_heads=4, max_position_embeddings=64)
    yield "distilbert", of.DistilBertConfig(**distil), of.DistilBertModel
    labels = dict(id2label={0: "bad", 1: "so-so", 2: "good"}, label2id={"bad": 0, "so-so": 1, "good": 2})
    yield "bert-classes", of.BertConfig(**sizes, **labels), of.BertForSequenceClassification
    config = of.RobertaConfig(**sizes, **labels, pad_token_id=1, type_vocab_size=1)
    yield "roberta-classes", config, of.RobertaForSequenceClassification
    yield "distilbert-classes", of.DistilBertConfig(**distil, **labels), of.DistilBertForSequenceClassification


def shaken(model):
    """Weights that leave no part without effect: norms and biases too."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            scale = 0.3 if weight.dim() > 1 else 0.2
            noise = torch.randn(weight.shape) * scale
            # Gemma stores how far its norms are from one.
            one = weight.dim() == 1 and name.endswith("weight") and "gemma" not in type(model).__name__.lower()
            weight.copy_(noise + 1.0 if one else noise)


def save(folder, model, dtype, expected):
    folder.mkdir(parents=True, exist_ok=True)
    model.to(dtype).save_pretrained(folder)
    for extra in folder.iterdir():
        if extra.name not in ("config.json", "model.safetensors"):
            extra.unlink()
    config = json.loads((folder / "config.json").read_text())
    config.pop("transformers_version", None)
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in expected.items()}, folder.with_name(f"{folder.name}.expected.safetensors"))


def main(out):
    for name, config, dtype in decoders():
        torch.manual_seed(7)
        config._attn_implementation = "eager"
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        shaken(model)
        # What is stored is what the reference computes with. Frequencies are not stored.
        with torch.no_grad():
            for weight in model.parameters():
                weight.copy_(weight.to(dtype))
        ids = torch.randint(0, VOCABULARY, (1, TOKENS))
        with torch.no_grad():
            logits = model(ids, use_cache=False).logits[0]
        save(out / name, model, dtype, {"input_ids": ids[0], "logits": logits})
        print(name, tuple(logits.shape), float(logits.abs().max()))
    for name, config, kind in encoders():
        torch.manual_seed(8)
        config._attn_implementation = "eager"
        model = kind(config).eval()
        shaken(model)
        ids = torch.randint(2, VOCABULARY, (3, 10))
        mask = torch.ones_like(ids)
        mask[1, 7:] = 0
        mask[2, 2:] = 0
        # Roberta finds its padding by the token, not by the mask.
        ids = torch.where(mask == 1, ids, torch.full_like(ids, config.pad_token_id or 0))
        inputs = dict(input_ids=ids, attention_mask=mask)
        if name.startswith("bert"):
            inputs["token_type_ids"] = (torch.arange(10)[None] >= 5).long().repeat(3, 1)
        scores = {}
        with torch.no_grad():
            if name.endswith("-classes"):
                found = model(**inputs, output_hidden_states=True)
                hidden, scores = found.hidden_states[-1], {"scores": found.logits}
            else:
                hidden = model(**inputs).last_hidden_state
        weight = mask[..., None].float()
        mean = (hidden * weight).sum(1) / weight.sum(1)
        embedding = torch.nn.functional.normalize(mean, dim=-1)
        results = {"last_hidden_state": hidden, "embedding": embedding} | scores
        save(out / name, model, torch.float32, inputs | results)
        print(name, tuple(hidden.shape), float(hidden.abs().max()))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
