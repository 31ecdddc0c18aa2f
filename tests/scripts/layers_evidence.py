"""Residual networks with fewer blocks: accuracy by criterion as the network is, and after a short training; and tickets of
networks that were not trained yet. Whatever is there already is not made again: an interrupted run goes on.

    python3 tests/scripts/layers_evidence.py run NET.onnx TRAIN TEST WORK OUT.json [--counts 1,2,3] [--tuned 3] [--epochs 1]
        [--criteria grasp,...] [--seeds 0,1,2] [--train-epochs 0] [--niwaki PROGRAM] [--flags "..."]
    python3 tests/scripts/layers_evidence.py table OUT.json ...

TRAIN and TEST are datasets as `niwaki dataset import` makes them. Blocks are chosen on images of TRAIN; those of each count of
`--counts` are removed, and those of `--tuned` also trained for `--epochs` passes from there. Two criteria that choose the
same blocks share what comes of it. `--train-epochs` trains fresh weights of each seed dense, and without the blocks that
`grasp`, `snip` and chance choose at their beginning, from the same weights. Needs nothing but Python.
"""

import json
import statistics
from pathlib import Path

from lab import Lab, main

CRITERIA = "grasp,snip,snip-mean,hrank,expectabs,kl,pls,cka,influence,random"
TICKETS = ("grasp", "snip", "random")


class Layers(Lab):
    def percent(self, net, *more):
        return round(100 * self.niwaki("eval", net, "--data", self.args.test, *more)["accuracy"], 2)

    def removed(self, name, net, by, count, *more):
        """A network without the blocks that a criterion chooses, and what was said."""
        out, report = self.work / f"{name}.onnx", self.work / f"{name}.json"
        if not (out.exists() and report.exists()):
            out.unlink(missing_ok=True)
            data = [] if by == "random" else ["--data", self.args.train]
            said = self.niwaki("layers", "remove", net, "--count", count, "--by", by, *data, *more, "-o", out)
            report.write_text(json.dumps(said))
        return out, json.loads(report.read_text())

    def trained(self, name, net, epochs, *more):
        said = self.said(name, "train", net, "--data", self.args.train, "--epochs", epochs, *self.args.flags.split(), *more)
        return self.percent(net, "--weights", self.file(name)), said


def criteria(lab, found):
    """Accuracy by criterion and count, by the blocks that go."""
    args = lab.args
    counts, tuned = ([int(x) for x in text.split(",") if x] for text in (args.counts, args.tuned))
    for by in args.criteria.split(","):
        for count in counts:
            net, said = lab.removed(f"{by}-{count}", args.net, by, count)
            blocks = ",".join(map(str, said["removed"]))
            one = found["removed"].setdefault(blocks, {"macs": said["macs_after"], "weights": said["weights_after"]})
            found["chosen"].setdefault(by, {})[str(count)] = blocks
            if "accuracy" not in one:
                one["accuracy"] = lab.percent(net)
            if count in tuned and "tuned" not in one:
                one["tuned"], trained = lab.trained(f"tuned-{blocks}", net, args.epochs, "--lr", "0.01")
                one["images_per_second"] = round(trained["items_per_second"], 1)
            print(by, count, blocks, one, flush=True)
            Path(args.out).write_text(json.dumps(found, indent=1) + "\n")


def tickets(lab, found):
    """Accuracy of fresh weights after as many passes, dense and without blocks."""
    args, epochs = lab.args, lab.args.train_epochs
    for seed in map(int, args.seeds.split(",")):
        dense = f"dense-{seed}"
        accuracy, _ = lab.trained(dense, args.net, epochs, "--init", "random", "--seed", seed, "--keep-epoch", 0)
        first = lab.work / f"{dense}.epoch0.safetensors"
        found["tickets"].setdefault("dense", {}).setdefault("0", []).append(accuracy)
        fresh = lab.work / f"fresh-{seed}.onnx"
        if not fresh.exists():
            # The dense network with its first weights: what criteria look at.
            lab.niwaki("export", first, "--to", "onnx", "--model", args.net, "-o", fresh)
        for by in TICKETS:
            for count in map(int, args.counts.split(",")):
                name = f"ticket-{by}-{count}-{seed}"
                net, said = lab.removed(name, fresh, by, count, "--seed", seed)
                accuracy, _ = lab.trained(f"{name}-trained", net, epochs, "--seed", seed)
                found["tickets"].setdefault(by, {}).setdefault(str(count), []).append(accuracy)
                print(seed, by, count, said["removed"], accuracy, flush=True)
                Path(args.out).write_text(json.dumps(found, indent=1) + "\n")


def run(args):
    lab = Layers(args)
    found = {"net": Path(args.net).stem, "images": lab.niwaki("eval", args.net, "--data", args.train)["examples"],
             "dense": lab.percent(args.net), "macs": lab.niwaki("inspect", args.net)["macs"], "epochs": args.epochs,
             "train_epochs": args.train_epochs, "flags": args.flags, "removed": {}, "chosen": {}, "tickets": {}}
    if args.criteria:
        criteria(lab, found)
    if args.train_epochs:
        tickets(lab, found)
    Path(args.out).write_text(json.dumps(found, indent=1) + "\n")


def table(paths):
    for path in paths:
        found = json.loads(Path(path).read_text())
        print(f"**{found['net']}**, dense {found['dense']:.2f} %, {found['macs']:,} MACs\n")
        if found["chosen"]:
            counts = list(next(iter(found["chosen"].values())))
            cells = [f"{count} gone | accuracy" + (" | trained" if any("tuned" in found["removed"][chosen[count]] for chosen in
                     found["chosen"].values()) else "") for count in counts]
            columns = " | ".join(cells)
            print(f"| | {columns} |\n|---|" + "---|" * (columns.count("|") + 1))
            for by, chosen in found["chosen"].items():
                row = []
                for count, cell in zip(counts, cells):
                    one = found["removed"][chosen[count]]
                    row += [chosen[count], f"{one['accuracy']:.2f}"]
                    row += [f"{one['tuned']:.2f}" if "tuned" in one else ""] if "trained" in cell else []
                print(f"| {by} | " + " | ".join(row) + " |")
            print()
        for by, counts in found["tickets"].items():
            for count, all_of in counts.items():
                spread = statistics.stdev(all_of) if len(all_of) > 1 else 0.0
                print(f"| {by} | {count} | {statistics.fmean(all_of):.2f} ± {spread:.2f} | {', '.join(map(str, all_of))} |")


if __name__ == "__main__":
    main(run, table, {"counts": "1,2,3", "tuned": "3", "epochs": 1, "criteria": CRITERIA, "seeds": "0,1,2", "train-epochs": 0,
                      "flags": "--flip --crop 4"})
