"""A network that computes only the channels that an image needs: planned, trained and measured at several shares of what fires.
Whatever is there already is not made again: an interrupted run goes on.

    python3 tests/scripts/dynamic_evidence.py run NET.onnx TRAIN TEST WORK OUT.json [--epochs 2] [--batch 128] [--seeds 0]
        [--masses 1,0.95,0.9] [--variants decoupled,joint,fixed] [--niwaki PROGRAM] [--flags "..."] [--head-flags "..."]
    python3 tests/scripts/dynamic_evidence.py table OUT.json ...

TRAIN and TEST are datasets as `niwaki dataset import` makes them. What is predicted is what `dynamic plan` says of the network
as it is, on images of TRAIN. `dense` is the network trained as much without masks, `decoupled` the paper's default, `joint` lets
the backbone learn from targets too, `fixed` has the same mask for all images, and `uniform` the same share of channels in all
layers, as large as the share that the mass is predicted to leave. `table` prints the tables of benches/RESULTS.md. Needs nothing
but Python.
"""

import json
from pathlib import Path

from lab import Lab, main

WAYS = {"decoupled": [], "joint": ["--joint"], "fixed": ["--fixed"], "average": ["--pool", "average"], "uniform": []}


def run(args):
    lab = Lab(args)
    plan = lab.niwaki("dynamic", "plan", args.net, "--data", args.train, "--mass", args.masses)
    predicted = {row["mass"]: row for row in plan["table"]}
    dense = lab.niwaki("eval", args.net, "--data", args.test)
    found = {"net": Path(args.net).stem, "epochs": args.epochs, "batch": args.batch, "flags": args.flags, "head_flags": args.head_flags,
             "images": lab.niwaki("eval", args.net, "--data", args.train)["examples"],
             "macs": plan["table"][0]["dense"], "heads": plan["table"][0]["heads"],
             "paper_macs": plan["table"][0]["paper_dense"], "dense": round(100 * dense["accuracy"], 2), "rows": []}
    common = ["--data", args.train, "--epochs", args.epochs, "--batch", args.batch, *args.flags.split()]
    for seed in map(int, args.seeds.split(",")):
        lab.said(f"dense-{seed}", "train", args.net, *common, "--lr", 0.01, "--seed", seed)
        accuracy = lab.niwaki("eval", args.net, "--weights", lab.file(f"dense-{seed}"), "--data", args.test)["accuracy"]
        found.setdefault("trained", []).append(round(100 * accuracy, 2))
        for variant in args.variants.split(","):
            for mass in map(float, args.masses.split(",")):
                name = f"{variant}-{mass}-{seed}"
                share = round(predicted[mass]["channels"], 3)
                target = ["--uniform", share] if variant == "uniform" else ["--mass", mass]
                said = lab.said(name, "dynamic", "train", args.net, *common, "--seed", seed, *target, *WAYS[variant],
                                *args.head_flags.split())
                one = lab.niwaki("dynamic", "eval", args.net, "--heads", lab.file(name), "--data", args.test)
                macs = one["macs"]
                row = {"variant": variant, "mass": mass, "seed": seed, "accuracy": round(100 * one["accuracy"], 2),
                       "predicted": predicted[mass]["share"], "realized": macs["share"],
                       "predicted_paper": predicted[mass]["paper_share"], "realized_paper": macs["paper_share"],
                       **{key: one[key] for key in ("active", "head_accuracy", "majority", "majority_by_channel", "variation")},
                       "images_per_second": round(said["items_per_second"], 1)}
                found["rows"].append(row)
                print(json.dumps(row), flush=True)
                Path(args.out).write_text(json.dumps(found, indent=1) + "\n")


def table(paths):
    for path in paths:
        found = json.loads(Path(path).read_text())
        trained = ", ".join(f"{accuracy:.2f}" for accuracy in found["trained"])
        print(f"**{found['net']}**, dense {found['dense']:.2f} %, after as many passes without masks {trained} %; "
              f"{found['epochs']} passes over {found['images']} images, {found['macs']} MACs, {found['heads']} of heads:\n")
        print("| | mass | accuracy | predicted | realized | paper's: predicted | realized | heads right | fixed masks | differ |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        percent = lambda row, key: f"{100 * row[key]:.1f} %"
        keys = ("predicted", "realized", "predicted_paper", "realized_paper", "head_accuracy", "majority_by_channel", "variation")
        for row in found["rows"]:
            cells = " | ".join(percent(row, key) for key in keys)
            print(f"| {row['variant']} | {row['mass']:g} | {row['accuracy']:.2f} % | {cells} |")
        print()


if __name__ == "__main__":
    main(run, table, {"epochs": 2, "batch": 128, "seeds": "0", "masses": "1,0.95,0.9", "variants": "decoupled,joint,fixed",
                      "flags": "--flip --crop 4", "head-flags": ""})
