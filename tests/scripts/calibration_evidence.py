"""What statistics of inputs are worth: fits that look at them, and the search for schemes.

    python3 tests/scripts/calibration_evidence.py fits MODEL CALIBRATION WORK TEXT... [--limit N] [--examples N] [--schemes S ...]
    python3 tests/scripts/calibration_evidence.py search MODEL CALIBRATION WORK TEXT... [--budgets B ...] [--fit F]
    python3 tests/scripts/calibration_evidence.py ranks MODEL CALIBRATION WORK TEXT... [--schemes S ...]

`fits` measures each scheme by each fit: of encoders the mean cosine with the float model, of decoders perplexity. `search`
compares recipes of a search, with and without a probe, with one scheme everywhere at no fewer bits. `ranks` rounds each
layer alone and says how the measured losses rank beside the predicted ones (Spearman). Each prints a Markdown table.
"""

import argparse
import shutil
from pathlib import Path

from lab import Lab

FITS = {"min_max": (), "lsq": (), "lsq, statistics": ("--stats",), "gptq": ("--stats",), "gptq_order": ("--stats",)}


class Evidence(Lab):
    def __init__(self, args):
        super().__init__(args)
        self.stats = self.file("stats")
        words = ("calibrate", args.model, "--data", args.calibration, "--limit", args.limit, "--gram")
        said = self.said("stats", *words)
        print(f"calibrated on {said['examples']} examples in {said['seconds']:.1f} s, {said['bytes']} bytes\n")

    def measured(self, model):
        """A number for each text."""
        found = []
        for text in self.args.texts:
            words = ("eval", model, "--data", text, "--limit", self.args.examples, "--against", self.args.model)
            found.append(self.niwaki(*words))
        return found

    def compressed(self, *words):
        """A folder that was made so, and what was said."""
        out = self.work / "compressed"
        shutil.rmtree(out, ignore_errors=True)
        return out, self.niwaki("compress", self.args.model, *words, "-o", out)


def shown(found):
    """What one text says."""
    return f"{found['perplexity']:.2f}" if found["perplexity"] else f"{found['cosine']:.4f}"


def lost(found):
    """How far a model is from what it was."""
    return found["kl"] if found["kl"] is not None else 1 - found["cosine"]


def row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def head(*cells):
    row(*cells)
    row(*("---" for _ in cells))


def fits(lab):
    head("scheme", "fit", "bytes", "seconds", *(Path(text).stem for text in lab.args.texts))
    for scheme in lab.args.schemes or ["int4/row/sym", "int4/g64/affine", "int3/g64/affine"]:
        for fit, flags in FITS.items():
            words = ("--scheme", scheme, "--fit", fit.split(",")[0], *(word for flag in flags for word in (flag, lab.stats)))
            out, said = lab.compressed(*words)
            row(scheme, fit, said["output_bytes"], f"{said['seconds']:.1f}", *map(shown, lab.measured(out)))


def search(lab):
    head("choice", "bits of layers", "seconds", *(Path(text).stem for text in lab.args.texts))
    common = ("--rest", "int8/row/sym", "--fit", lab.args.fit, "--stats", lab.stats)
    for budget in lab.args.budgets or ["3.375bits", "4.375bits"]:
        bits = int(float(budget.removesuffix("bits")))
        recipe = lab.work / "one.toml"
        for name, flags in {
            f"int{bits}/g64/affine everywhere": ("--schemes", f"int{bits}/g64/affine", "--budget", "64bits"),
            f"search, {budget}": ("--budget", budget),
            f"search with a probe, {budget}": ("--budget", budget, "--data", lab.args.calibration, "--limit", 16),
        }.items():
            said = lab.niwaki("search", lab.args.model, *common, *flags, "-o", recipe, "--force")
            out, _ = lab.compressed("-r", recipe, "--stats", lab.stats)
            row(name, f"{said['bits_per_weight']:.3f}", f"{said['seconds']:.1f}", *map(shown, lab.measured(out)))


def rank(of):
    """The place of each number."""
    order = sorted(range(len(of)), key=of.__getitem__)
    places = [0] * len(of)
    for place, at in enumerate(order):
        places[at] = place
    return places


def correlation(one, other):
    one, other = rank(one), rank(other)
    n = len(one)
    return 1 - 6 * sum((x - y) ** 2 for x, y in zip(one, other)) / (n * (n * n - 1))


def ranks(lab):
    schemes = lab.args.schemes or ["int2/g64/affine", "int3/g64/affine", "int4/g64/affine"]
    recipe = lab.work / "ranks.toml"
    common = ("--stats", lab.stats, "--fit", "lsq", "--schemes", ",".join(schemes), "--budget", "64bits", "-o", recipe)
    layers = lab.niwaki("search", lab.args.model, *common, "--force")
    probe = ("--data", lab.args.calibration, "--limit", 16)
    probed = lab.niwaki("search", lab.args.model, *common, *probe, "--force")
    measured, by_layer, by_probe = [], [], []
    for plain, with_probe in zip(layers["tensors"], probed["tensors"]):
        for at, scheme in enumerate(schemes):
            words = ("--scheme", scheme, "--fit", "lsq", "--only", plain["name"], "--stats", lab.stats)
            out, _ = lab.compressed(*words, "--preset", "weights")
            measured.append(sum(map(lost, lab.measured(out))))
            by_layer.append(plain["losses"][at])
            by_probe.append(with_probe["losses"][at])
    head("predicted by", "pairs of layer and scheme", "rank correlation with the measured loss")
    row("outputs of the layer alone", len(measured), f"{correlation(by_layer, measured):.3f}")
    row("outputs of the layer, a probe of each layer", len(measured), f"{correlation(by_probe, measured):.3f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=("fits", "search", "ranks"))
    for name in ("model", "calibration", "work"):
        parser.add_argument(name)
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--limit", type=int, default=128)
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--schemes", nargs="+")
    parser.add_argument("--budgets", nargs="+")
    parser.add_argument("--fit", default="gptq_order")
    parser.add_argument("--niwaki", default="target/release/niwaki")
    args = parser.parse_args()
    {"fits": fits, "search": search, "ranks": ranks}[args.verb](Evidence(args))


if __name__ == "__main__":
    main()
