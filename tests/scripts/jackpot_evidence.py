"""Masks of a trained network: in one shot, searched, searched from elsewhere, and on fresh weights. Whatever is there
already is not made again: an interrupted run goes on.

    python3 tests/scripts/jackpot_evidence.py run NET.onnx TRAIN TEST WORK OUT.json [--sparsities 0.8,0.9,0.95]
        [--full 0.9] [--epochs 10] [--batch 128] [--seeds 0] [--niwaki PROGRAM] [--flags "..."]
    python3 tests/scripts/jackpot_evidence.py table OUT.json ...

TRAIN and TEST are datasets as `niwaki dataset import` makes them. At each sparsity the masks of magnitudes and of SNIP are
measured, both with running statistics measured anew on TRAIN where the network has some, and a search that begins with
magnitudes. At `--full` there are also searches that begin with random masks, without short restriction, and on fresh weights.
`table` prints the tables of benches/RESULTS.md. Needs nothing but Python.
"""

import json
import statistics
from pathlib import Path

from lab import Lab, main


class Masks(Lab):
    def score(self, name, sparsity, by, *more):
        self.said(name, "mask", "score", self.args.net, "--by", by, "--sparsity", sparsity, *more)
        return self.file(name)

    def search(self, name, sparsity, seed, *more):
        args = self.args
        return self.said(name, "mask", "search", args.net, "--data", args.train, "--eval-data", args.test, "--sparsity", sparsity,
                         "--epochs", args.epochs, "--batch", args.batch, "--seed", seed, *args.flags.split(), *more)

    def accuracy(self, mask, anew):
        out = self.work / "masked.onnx"
        self.niwaki("mask", "apply", self.args.net, mask, "-o", out, "--force",
                    *(["--recalibrate", self.args.train, *self.args.flags.split()] if anew else []))
        return round(100 * self.niwaki("eval", out, "--data", self.args.test)["accuracy"], 2)

    def overlap(self, first, second):
        both = self.niwaki("mask", "compare", first, second)["all"]
        return [round(both[key], 4) for key in ("overlap", "chance", "iou", "iou_chance")]


def passes(report):
    """Accuracy on TEST, exchanges a step and loss, pass by pass."""
    return {"accuracy": [round(100 * epoch["eval_accuracy"], 2) for epoch in report["epochs"]],
            "eval_loss": [round(epoch["eval_loss"], 4) for epoch in report["epochs"]],
            "exchanges": [round(epoch["flips"], 1) for epoch in report["epochs"]],
            "loss": [round(epoch["loss"], 4) for epoch in report["epochs"]],
            "steps_per_second": round(report["items_per_second"], 1), "seconds": round(report["seconds"], 1)}


def run(args):
    lab = Masks(args)
    inside = lab.niwaki("inspect", args.net)
    anew = any("running_mean" in tensor["name"] for tensor in inside["tensors"])
    found = {"net": Path(args.net).stem, "epochs": args.epochs, "batch": args.batch, "flags": args.flags, "recalibrated": anew,
             "images": lab.niwaki("eval", args.net, "--data", args.train)["examples"],
             "dense": round(100 * lab.niwaki("eval", args.net, "--data", args.test)["accuracy"], 2), "sparsities": {}}
    for sparsity in map(float, args.sparsities.split(",")):
        name = f"{sparsity:g}"
        magnitude = lab.score(f"magnitude-{name}", sparsity, "magnitude")
        snip = lab.score(f"snip-{name}", sparsity, "snip", "--data", args.train, "--budget", "own")
        alike = lab.score(f"snip-as-{name}", sparsity, "snip", "--data", args.train, "--counts-of", magnitude)
        one = {"magnitude": lab.accuracy(magnitude, False), "snip": lab.accuracy(snip, anew), "searches": {}}
        if anew:
            one["magnitude_anew"] = lab.accuracy(magnitude, True)
        searches = {"from magnitude": []}
        if sparsity == args.full:
            searches |= {"from random": ["--start", "random"], "without restriction": ["--restriction", "none"],
                         "on fresh weights": ["--init", "random"]}
        for what, more in searches.items():
            for seed in map(int, args.seeds.split(",")):
                file = f"{what.replace(' ', '-')}-{name}-{seed}"
                one["searches"].setdefault(what, []).append(passes(lab.search(file, sparsity, seed, *more)))
                print(name, what, seed, one["searches"][what][-1]["accuracy"], flush=True)
        if sparsity == args.full:
            drawn = lab.file(f"from-random-{name}-{args.seeds.split(',')[0]}")
            one["overlaps"] = {"magnitude": lab.overlap(drawn, magnitude), "snip": lab.overlap(drawn, alike)}
        found["sparsities"][name] = one
        Path(args.out).write_text(json.dumps(found, indent=1) + "\n")


def table(paths):
    for path in paths:
        found = json.loads(Path(path).read_text())
        print(f"**{found['net']}**, dense {found['dense']:.2f} %; {found['epochs']} passes over {found['images']} images:\n")
        print("| sparsity | magnitude | magnitude, statistics anew | SNIP | searched: first pass | last pass |\n|---|---|---|---|---|---|")
        for sparsity, one in found["sparsities"].items():
            all_ = one["searches"]["from magnitude"]
            first = statistics.mean(search["accuracy"][0] for search in all_)
            last = statistics.mean(search["accuracy"][-1] for search in all_)
            again = f"{one['magnitude_anew']:.2f}" if "magnitude_anew" in one else ""
            print(f"| {100 * float(sparsity):g} % | {one['magnitude']:.2f} | {again} | {one['snip']:.2f} | {first:.2f} | {last:.2f} |")
        for sparsity, one in found["sparsities"].items():
            if len(one["searches"]) < 2:
                continue
            print(f"\nAt {100 * float(sparsity):g} %, accuracy after each pass, and exchanges a step in the first and in the last:\n")
            print("| search | " + " | ".join(str(at + 1) for at in range(found["epochs"])) + " | exchanges |")
            print("|---|" + "---|" * (found["epochs"] + 1))
            for what, all_ in one["searches"].items():
                each = [statistics.mean(column) for column in zip(*(search["accuracy"] for search in all_))]
                flips = [statistics.mean(search["exchanges"][at] for search in all_) for at in (0, -1)]
                print(f"| {what} | " + " | ".join(f"{x:.2f}" for x in each) + f" | {flips[0]:.1f}, {flips[1]:.1f} |")
            overlaps = one["overlaps"]
            print("\nThe mask searched from a random one keeps "
                  + ", ".join(f"{100 * overlap:.1f} % of its weights in common with {name} (chance {100 * chance:.1f} %; IoU {iou:.3f}, chance {by:.3f})"
                              for name, (overlap, chance, iou, by) in overlaps.items()) + ".")
        print()


if __name__ == "__main__":
    main(run, table, {"sparsities": "0.9,0.8,0.95", "full": 0.9, "epochs": 10, "batch": 128, "seeds": "0", "flags": "--flip --crop 4"})
