"""One set of weights at many widths: fitted, trained, trained with less, and trained for one width alone. Whatever is there
already is not made again: an interrupted run goes on.

    python3 tests/scripts/elastic_evidence.py run NET.onnx TRAIN TEST WORK OUT.json [--epochs 3] [--batch 128] [--seeds 0]
        [--variants trained,shapeless,unguided,nested,2,4,8] [--niwaki PROGRAM] [--flags "..."]
    python3 tests/scripts/elastic_evidence.py table OUT.json ...

TRAIN and TEST are datasets as `niwaki dataset import` makes them. Each variant is measured at 8, 4 and 2 bits (weights and
inputs), with running statistics measured on TRAIN; what is only fitted also with those that the network came with. A number
as a variant is a training for that width alone, of as many passes through the network: three forms a step, all of that
width. `table` prints the tables of benches/RESULTS.md. Needs nothing but Python.
"""

import array
import json
import statistics
from pathlib import Path

from lab import Lab, main

BITS = (8, 4, 2)
STYLES = ("row/sym", "tensor/affine")
WAYS = {"trained": [], "shapeless": ["--no-shape"], "unguided": ["--no-guide"], "nested": ["--grid", "nested"]}


def moments(path, names):
    """Kurtosis and skewness of tensors of a safetensors file."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    found = []
    for name in names:
        begin, end = (8 + size + at for at in header[name]["data_offsets"])
        weights = array.array("f", data[begin:end])
        mean = statistics.fmean(weights)
        spread = statistics.fmean((w - mean) ** 2 for w in weights) ** 0.5
        found.append([round(statistics.fmean(((w - mean) / spread) ** power for w in weights), 4) for power in (4, 3)])
    return found


class Elastic(Lab):
    def trained(self, name, seed, epochs, *more):
        args = self.args
        return self.said(f"{name}-{seed}", "elastic", "train", args.net, "--data", args.train, "--epochs", epochs, "--seed", seed,
                         "--batch", args.batch, "--eval-data", args.test, *args.flags.split(), *more)

    def measured(self, name, *more):
        """Accuracy of each form."""
        forms = [f"w{bits}a{bits}/{style}" for style in STYLES for bits in self.served(name)]
        words = [word for form in forms for word in ("--form", form)]
        found = self.niwaki("elastic", "eval", self.args.net, "--weights", self.file(name), "--data", self.args.test, *words, *more)
        return {one["form"]: round(100 * one["accuracy"], 2) for one in found["forms"]}

    def served(self, name):
        variant = name.split("-")[0]
        return (int(variant),) if variant.isdigit() else BITS


def run(args):
    lab = Elastic(args)
    found = {"net": Path(args.net).stem, "epochs": args.epochs, "batch": args.batch, "flags": args.flags,
             "images": lab.niwaki("eval", args.net, "--data", args.train)["examples"],
             "dense": round(100 * lab.niwaki("eval", args.net, "--data", args.test)["accuracy"], 2), "variants": {}}
    anew = ["--recalibrate", args.train]
    lab.trained("fitted", 0, 0)
    layers = [tensor["name"].removesuffix(".grids") for tensor in lab.niwaki("inspect", lab.file("fitted-0"))["tensors"]
              if tensor["name"].endswith(".grids")]
    found["fitted"] = lab.measured("fitted-0", "--recalibrate-examples", "0")
    found["fitted_anew"] = lab.measured("fitted-0", *anew)
    found["moments"] = {"before": moments(lab.file("fitted-0"), layers[1:])}
    for seed in map(int, args.seeds.split(",")):
        for variant in args.variants.split(","):
            more = ["--widths", variant] if variant.isdigit() else WAYS[variant]
            said = lab.trained(variant, seed, args.epochs, *more)
            one = lab.measured(f"{variant}-{seed}", *anew)
            rate = {"seconds": round(said["seconds"], 1), "images_per_second": round(said["items_per_second"], 1)}
            found["variants"].setdefault(variant, []).append({"forms": one, **rate})
            if variant in ("trained", "shapeless") and seed == 0:
                found["moments"][variant] = moments(lab.file(f"{variant}-0"), layers[1:])
            if variant == "trained" and seed == 0:
                found["own_statistics"] = lab.measured("trained-0", "--recalibrate-examples", "0")
            print(variant, seed, one, flush=True)
            Path(args.out).write_text(json.dumps(found, indent=1) + "\n")


def table(paths):
    for path in paths:
        found = json.loads(Path(path).read_text())
        print(f"**{found['net']}**, dense {found['dense']:.2f} %; {found['epochs']} passes over {found['images']} images:\n")
        forms = [f"w{bits}a{bits}/{style}" for style in STYLES for bits in BITS]
        print("| | " + " | ".join(forms) + " |\n|---|" + "---|" * len(forms))
        rows = {"fitted alone": found["fitted"], "fitted, statistics anew": found["fitted_anew"]}
        if "own_statistics" in found:
            rows["trained, statistics of the training"] = found["own_statistics"]
        for variant, seeds in found["variants"].items():
            name = f"{variant} bits alone" if variant.isdigit() else variant
            rows[name] = {form: statistics.fmean(seed["forms"][form] for seed in seeds) for form in seeds[0]["forms"]}
        for name, row in rows.items():
            print(f"| {name} | " + " | ".join(f"{row[form]:.2f}" if form in row else "" for form in forms) + " |")
        print("\n| weights of the layers but the first | mean distance of the kurtosis from 1.8 | mean square of the skewness |\n|---|---|---|")
        for name, layers in found["moments"].items():
            far = statistics.fmean(abs(kurtosis - 1.8) for kurtosis, _ in layers)
            print(f"| {name} | {far:.3f} | {statistics.fmean(skewness**2 for _, skewness in layers):.4f} |")
        print()


if __name__ == "__main__":
    main(run, table, {"epochs": 3, "batch": 128, "seeds": "0", "variants": "trained,shapeless,unguided,nested,2,4,8",
                      "flags": "--flip --crop 4"})
