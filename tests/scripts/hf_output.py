"""What transformers computes with the model in a folder: its logits, or its last hidden state.

    python tests/scripts/hf_output.py FOLDER IN.safetensors OUT.safetensors

IN has `input_ids`, OUT gets `output`. Exits with 3 where torch or transformers is missing.
"""

import sys

try:
    import torch
    import transformers
    from safetensors.torch import load_file, save_file
except ImportError:
    sys.exit(3)


def main(folder, given, out):
    config = transformers.AutoConfig.from_pretrained(folder)
    decoder = config.architectures[0].endswith("ForCausalLM")
    kind = transformers.AutoModelForCausalLM if decoder else transformers.AutoModel
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = load_file(given)["input_ids"].reshape(1, -1)
    with torch.no_grad():
        result = model(input_ids=ids, use_cache=False) if decoder else model(input_ids=ids)
    found = result.logits if decoder else result.last_hidden_state
    save_file({"output": found[0].contiguous()}, out)


main(*sys.argv[1:])
