"""Times ONNX models in niwaki and in onnxruntime, by turns, on the same random inputs.

    python3 tests/scripts/time_onnx.py MODEL.onnx [--niwaki PROGRAM] [--dims NAME=SIZE ...] [--below INPUT=NUMBER ...]
        [--threads 1,2] [--passes 20] [--rounds 5]

For each number of threads: the median of the rounds, each the median time of a pass in milliseconds, of either
program, and niwaki's speed as a share of onnxruntime's. Inputs are made as compare_onnx.py makes them. Exits with 77
where onnxruntime is not installed.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from compare_onnx import make, onnxruntime, write


def in_niwaki(program, model, inputs, out, threads, passes):
    command = [program, "run", model, "--input", inputs, "-o", out, "--force", "--json",
               "--threads", str(threads), "--repeat", str(passes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise SystemExit(f"niwaki: {answer['error']['message']}")
    return answer["median_seconds"]


def in_onnxruntime(session, feeds, passes):
    session.run(None, feeds)
    seconds = []
    for _ in range(passes):
        start = time.perf_counter()
        session.run(None, feeds)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--niwaki", default="target/release/niwaki")
    parser.add_argument("--dims", nargs="*", default=[])
    parser.add_argument("--below", nargs="*", default=[])
    parser.add_argument("--value", nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(f"{args.model}, onnxruntime {onnxruntime.__version__}")
    for threads in map(int, args.threads.split(",")):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
        feeds = make(session, args)
        ours, theirs = [], []
        with tempfile.TemporaryDirectory() as folder:
            inputs, out = Path(folder) / "in.safetensors", Path(folder) / "out.safetensors"
            write(inputs, feeds)
            for _ in range(args.rounds):
                theirs.append(in_onnxruntime(session, feeds, args.passes))
                ours.append(in_niwaki(args.niwaki, args.model, inputs, out, threads, args.passes))
        a, b = statistics.median(ours) * 1e3, statistics.median(theirs) * 1e3
        print(f"{threads} threads: niwaki {a:.2f} ms, onnxruntime {b:.2f} ms, speed {b / a:.2f}")


if __name__ == "__main__":
    main()
