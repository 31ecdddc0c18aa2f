"""Times a decoder in niwaki and in llama.cpp, by turns, with the same weights.

    python3 tests/scripts/time_language.py FOLDER MODEL.gguf TEXT.txt [--niwaki PROGRAM] [--threads 1,2] [--rounds 3]
        [--activations float|dynamic]

FOLDER is a Hugging Face folder, compressed or not, and MODEL.gguf what `niwaki export FOLDER --to gguf` makes of it; TEXT.txt holds some
thousand letters. For each number of threads and either program: tokens a second over a text of 512 tokens, all of
whose logits are computed, and tokens a second of 64 that are generated after a short prompt; medians of the rounds,
and niwaki's speed as a share of llama.cpp's. Needs llama-cpp-python; exits with 77 without it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

try:
    import llama_cpp
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

PROMPT = "The sea is"
LENGTH, MADE = 512, 64


def ask(command):
    done = subprocess.run([*map(str, command), "--json"], capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise SystemExit(f"niwaki: {answer['error']['message']}")
    return answer


def in_niwaki(args, threads):
    many = ["--threads", threads, "--activations", args.activations]
    read = ask([args.niwaki, "eval", args.folder, "--data", args.text, "--limit", 1, *many])
    made = ask([args.niwaki, "generate", args.folder, "--prompt", PROMPT, "--max-tokens", MADE, *many])
    return LENGTH * read["items_per_second"], made["tokens_per_second"]


def in_llama(model, text):
    model.reset()
    start = time.perf_counter()
    model.eval(text)
    read = len(text) / (time.perf_counter() - start)
    model.reset()
    start = time.perf_counter()
    model.eval(model.tokenize(PROMPT.encode()))
    for _ in range(MADE):
        model.eval([model.sample(temp=0.0)])
    return read, MADE / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("gguf")
    parser.add_argument("text")
    parser.add_argument("--activations", default="float")
    parser.add_argument("--niwaki", default="target/release/niwaki")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with open(args.text, "rb") as file:
        letters = file.read(8 * LENGTH)
    print(f"{args.gguf}, llama-cpp-python {llama_cpp.__version__}")
    for threads in map(int, args.threads.split(",")):
        model = llama_cpp.Llama(args.gguf, n_ctx=2 * LENGTH, n_batch=LENGTH, n_threads=threads, logits_all=True,
                                n_threads_batch=threads, verbose=False)
        text = model.tokenize(letters)[:LENGTH]
        in_llama(model, text)
        rounds = [(in_niwaki(args, threads), in_llama(model, text)) for _ in range(args.rounds)]
        for at, what in enumerate(("text", "generation")):
            ours, theirs = (statistics.median(round[of][at] for round in rounds) for of in (0, 1))
            print(f"{threads} threads, {what}: niwaki {ours:.1f}, llama.cpp {theirs:.1f} tokens a second, "
                  f"speed {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
