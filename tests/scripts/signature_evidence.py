"""Trains one network from one initialization on clean and on corrupted images, takes signatures of the differences, and
measures what they do. Whatever is there already is not made again: an interrupted run goes on.

    python3 tests/scripts/signature_evidence.py run NET.onnx TRAIN TEST WORK OUT.json [--kinds K,K,...] [--severity 5]
        [--start-epochs 1] [--epochs 2] [--layers 2 | --only GLOB,GLOB] [--lr 0.02] [--tune-lr LR] [--limit N] [--niwaki PROGRAM] [--train-flags "..."]
        [--other NAME=TRAIN,TEST]
    python3 tests/scripts/signature_evidence.py table OUT.json ...

TRAIN and TEST are datasets as `niwaki dataset import` makes them. The initialization is the network after
`--start-epochs` passes over the clean images from fresh weights; the clean and every robust network go on from it for
`--epochs` passes. `table` prints the tables of benches/RESULTS.md. Needs Python and numpy.
"""

import json
from pathlib import Path

import numpy

from lab import Lab, main

ALPHAS = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
WIDTHS = [8, 4, 3, 2]


def read(path):
    data = Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        tensors[name] = numpy.frombuffer(data[8 + length + first:8 + length + last], "<f4").reshape(entry["shape"])
    return tensors


def write(path, tensors):
    header, blobs, at = {}, [], 0
    for name, tensor in tensors.items():
        blob = numpy.ascontiguousarray(tensor, "<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


class Signatures(Lab):
    def corrupted(self, which, kind, of=None, name=""):
        out = self.file(f"{name}{which}-{kind}")
        if not out.exists():
            limit = ["--limit", self.args.limit] if self.args.limit and which == "train" else []
            self.niwaki("dataset", "corrupt", of or getattr(self.args, which), "--kind", kind, "--severity", self.args.severity,
                        "-o", out, *limit)
        return out

    def trained(self, name, data, epochs, start):
        out = self.file(name)
        if not out.exists():
            self.niwaki("train", self.args.net, "--data", data, "--epochs", epochs, *start, *self.args.train_flags.split(),
                        "-o", out)
        return out

    def accuracy(self, weights, data, *patches, transfer=False):
        words = [word for patch in patches for word in ("--patch", patch)] + ["--transfer"] * transfer
        answer = self.niwaki("eval", self.args.net, "--weights", weights, "--data", data, *words)
        return round(100 * answer["accuracy"], 2)

    def signature(self, name, robust, *how, standard="standard"):
        report = self.said(f"signature-{name}", "signature", "extract", "--init", self.file("init"), "--standard",
                           self.file(standard), "--robust", robust, *how)
        return self.file(f"signature-{name}"), report


def distances(standard, robust):
    """How far each tensor of two dimensions or more moved, relative to its norm."""
    return {name: round(float(numpy.linalg.norm(robust[name] - tensor) / numpy.linalg.norm(tensor)), 4)
            for name, tensor in standard.items() if tensor.ndim > 1}


def controls(lab, robust_signature, kind, clean):
    """A patch of random numbers, of the same norm for each tensor that the signature changes."""
    standard = read(lab.file("standard"))
    patched = lab.file(f"patched-{kind}")
    if not patched.exists():
        lab.niwaki("signature", "apply", lab.file("standard"), robust_signature, "-o", patched)
    changed = read(patched)
    random = numpy.random.default_rng(7)
    out = {}
    for name, tensor in standard.items():
        difference = changed[name] - tensor
        noise = random.standard_normal(tensor.shape).astype("<f4")
        norm = numpy.linalg.norm(noise)
        out[name] = tensor + noise * (numpy.linalg.norm(difference) / norm if norm else 0.0)
    path = lab.file(f"random-{kind}")
    write(path, out)
    return {"robust": lab.accuracy(path, lab.corrupted("test", kind)), "clean": lab.accuracy(path, clean)}


def recalibrated(lab, standard, signature, kind, clean):
    """The patched network with running statistics of the corrupted training images; none of a network without them."""
    if not any("running_mean" in name for name in read(standard)):
        return None
    out = lab.file(f"recalibrated-{kind}")
    if not out.exists():
        lab.niwaki("signature", "apply", standard, signature, "--recalibrate", lab.corrupted("train", kind), "--model",
                   lab.args.net, "-o", out)
    return [lab.accuracy(out, lab.corrupted("test", kind)), lab.accuracy(out, clean)]


def transferred(lab, signatures, start, layers):
    """Signatures on a network that was trained on other images, beside its own."""
    name, _, both = lab.args.other.partition("=")
    train, test = both.split(",")
    standard = lab.trained(f"{name}-standard", train, lab.args.epochs, start)
    found = {"data": name, "clean": lab.accuracy(standard, test), "kinds": {}}
    own = {}
    for kind, signature in signatures.items():
        corrupted = lab.corrupted("test", kind, test, f"{name}-")
        robust = lab.trained(f"{name}-robust-{kind}", lab.corrupted("train", kind, train, f"{name}-"), lab.args.epochs, start)
        own[kind], _ = lab.signature(f"{name}-{kind}", robust, *layers, standard=f"{name}-standard")
        found["kinds"][kind] = {
            "standard": lab.accuracy(standard, corrupted),
            "patched": lab.accuracy(standard, corrupted, signature, transfer=True),
            "patched_clean": lab.accuracy(standard, test, signature, transfer=True),
            "own": lab.accuracy(standard, corrupted, own[kind]),
            "robust": lab.accuracy(robust, corrupted),
        }
        print(f"{name}, {kind}: {found['kinds'][kind]}", flush=True)
    found["similarity"] = lab.niwaki("signature", "similarity", *signatures.values(), *own.values())["cosine"]
    return found


def run(args):
    lab, kinds = Signatures(args), args.kinds.split(",")
    clean, layers = args.test, ["--layers", args.layers]
    if args.only:
        layers = [word for glob in args.only.split(",") for word in ("--only", glob)]
    train = args.train
    lr = ["--lr", args.lr]
    lab.trained("init", train, args.start_epochs, ["--init", "random", *lr, "--seed", 1])
    start = ["--weights", lab.file("init"), "--lr", args.tune_lr or args.lr, "--seed", 2]
    standard = lab.trained("standard", train, args.epochs, start)
    found = {"net": Path(args.net).stem, "severity": args.severity, "layers": args.only or f"the first {args.layers} layers", "epochs": args.epochs,
             "start_epochs": args.start_epochs, "lr": args.lr, "tune_lr": args.tune_lr or args.lr, "clean": lab.accuracy(standard, clean),
             "init_clean": lab.accuracy(lab.file("init"), clean), "kinds": {}, "pairs": [], "triples": []}
    signatures, everything = {}, {}
    for kind in kinds:
        test = lab.corrupted("test", kind)
        robust = lab.trained(f"robust-{kind}", lab.corrupted("train", kind), args.epochs, start)
        signatures[kind], report = lab.signature(kind, robust, *layers)
        one = {
            "standard": lab.accuracy(standard, test),
            "robust": lab.accuracy(robust, test), "robust_clean": lab.accuracy(robust, clean),
            "patched": lab.accuracy(standard, test, signatures[kind]),
            "patched_clean": lab.accuracy(standard, clean, signatures[kind]),
            "bytes": signatures[kind].stat().st_size, "full_bytes": robust.stat().st_size,
            "distances": distances(read(standard), read(robust)), "widths": {}, "alphas": {},
        }
        for bits in WIDTHS:
            coded, _ = lab.signature(f"{kind}-int{bits}", robust, *layers, "--scheme", f"int{bits}/row/sym")
            one["widths"][bits] = [lab.accuracy(standard, test, coded), coded.stat().st_size]
        for alpha in ALPHAS:
            patch = [f"{signatures[kind]}@{alpha}"] if alpha else []
            one["alphas"][alpha] = [lab.accuracy(standard, test, *patch), lab.accuracy(standard, clean, *patch)]
        names = list(one["distances"])
        last = [word for name in names[-args.layers - 1:-1] for word in ("--only", name)]
        deep, _ = lab.signature(f"{kind}-last", robust, *last)
        one["last_layers"] = [lab.accuracy(standard, test, deep), lab.accuracy(standard, clean, deep)]
        one["recalibrated"] = recalibrated(lab, standard, signatures[kind], kind, clean)
        one["random"] = controls(lab, signatures[kind], kind, clean)
        found["kinds"][kind] = one
        print(f"{kind}: {one['standard']} -> {one['patched']} (robust {one['robust']})", flush=True)
    for kind in kinds:
        others = {other: lab.accuracy(standard, lab.corrupted("test", kind), signatures[other])
                  for other in kinds if other != kind}
        found["kinds"][kind]["others"] = others
    found["similarity"] = lab.niwaki("signature", "similarity", *(signatures[kind] for kind in kinds))
    groups = [(a, b) for at, a in enumerate(kinds) for b in kinds[at + 1:]]
    for pair in groups:
        found["pairs"].append([*pair, *(lab.accuracy(standard, lab.corrupted("test", kind),
                                                     *(f"{signatures[one]}@{1 / len(pair)}" for one in pair))
                                        for kind in pair)])
    for triple in [kinds[at:at + 3] for at in range(0, len(kinds) - 2, 3)]:
        found["triples"].append([*triple, *(lab.accuracy(standard, lab.corrupted("test", kind),
                                                         *(f"{signatures[one]}@{1 / 3}" for one in triple))
                                            for kind in triple)])
    if args.other:
        found["transfer"] = transferred(lab, signatures, start, layers)
    Path(args.out).write_text(json.dumps(found, indent=1) + "\n")


def mean(all_):
    all_ = list(all_)
    return sum(all_) / len(all_)


def table(paths):
    for path in paths:
        found = json.loads(Path(path).read_text())
        kinds = found["kinds"]
        print(f"**{found['net']}**, severity {found['severity']}, {found['start_epochs']} + {found['epochs']} passes, signatures of "
              f"{found['layers']}; clean accuracy {found['clean']:.2f} % (initialization {found['init_clean']:.2f} %):\n")
        print("| corruption | standard | patched | 8 bits | 4 | 3 | 2 | robust | clean: patched | clean: robust | random | last layers | "
              "best other |")
        print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
        for kind, one in kinds.items():
            widths = " | ".join(f"{one['widths'][str(bits)][0]:.2f}" for bits in WIDTHS)
            print(f"| {kind} | {one['standard']:.2f} | {one['patched']:.2f} | {widths} | {one['robust']:.2f} | {one['patched_clean']:.2f} | "
                  f"{one['robust_clean']:.2f} | {one['random']['robust']:.2f} | {one['last_layers'][0]:.2f} | "
                  f"{max(one['others'].values()):.2f} |")
        print()
        print("| alpha | " + " | ".join(str(alpha) for alpha in ALPHAS) + " |\n|---|" + "---|" * len(ALPHAS))
        for at, what in enumerate(("corrupted", "clean")):
            row = [mean(one["alphas"][str(alpha)][at] for one in kinds.values()) for alpha in ALPHAS]
            print(f"| {what} | " + " | ".join(f"{x:.2f}" for x in row) + " |")
        print()
        names = list(next(iter(kinds.values()))["distances"])
        row = [mean(one["distances"][name] for one in kinds.values()) for name in names]
        print("Relative difference of robust and standard weights, mean over corruptions, by depth: "
              + ", ".join(f"{name} {x:.3f}" for name, x in zip(names, row)) + ".\n")
        pairs = [(mean(pair[2:]), mean(kinds[kind]["standard"] for kind in pair[:2]),
                  mean(kinds[kind]["patched"] for kind in pair[:2])) for pair in found["pairs"]]
        if pairs:
            both, before, alone = (mean(column) for column in zip(*pairs))
            print(f"Two at once, half of each, mean over {len(pairs)} pairs and both corruptions: {both:.2f} % (standard {before:.2f} %, "
                  f"each alone at 1 on its own {alone:.2f} %).")
        if found["triples"]:
            three = mean(mean(triple[3:]) for triple in found["triples"])
            before = mean(mean(kinds[kind]["standard"] for kind in triple[:3]) for triple in found["triples"])
            print(f"Three at once, a third of each, {len(found['triples'])} triples: {three:.2f} % (standard {before:.2f} %).")
        families(kinds, found["similarity"]["cosine"])
        anew = {kind: one["recalibrated"] for kind, one in kinds.items() if one.get("recalibrated")}
        if anew:
            print("With running statistics measured anew on corrupted training images (`--recalibrate`): "
                  + ", ".join(f"{kind} {robust:.2f} % (clean {clean:.2f} %)" for kind, (robust, clean) in anew.items()) + ".")
        if found.get("transfer"):
            elsewhere(found["transfer"])
        print()


FAMILIES = {"noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
            "blur": ("gaussian_blur", "defocus_blur", "zoom_blur", "motion_blur", "glass_blur"),
            "light": ("contrast", "brightness", "fog", "saturate")}


def family(kind):
    return next((name for name, kinds in FAMILIES.items() if kind in kinds), kind)


def families(kinds, cosines):
    """Mean cosines between signatures of one family, and of two."""
    kinds = list(kinds)
    same, other = [], []
    for a, one in enumerate(kinds):
        for b in range(a):
            (same if family(one) == family(kinds[b]) else other).append(cosines[a][b])
    if same and other:
        print(f"Cosines between signatures: {mean(same):.3f} within a family (noise, blur, light; {len(same)} pairs), "
              f"{mean(other):.3f} between two ({len(other)}).")


def elsewhere(found):
    """Signatures on a network trained on other images."""
    kinds, n = list(found["kinds"]), len(found["kinds"])
    print(f"\nOn a network trained on {found['data']} from the same initialization (clean accuracy {found['clean']:.2f} %), with "
          "`--transfer`:\n")
    print("| corruption | standard | patched with the other's signature | with its own | robust | clean: patched | cosine of both |")
    print("|---|---|---|---|---|---|---|")
    for at, (kind, one) in enumerate(found["kinds"].items()):
        print(f"| {kind} | {one['standard']:.2f} | {one['patched']:.2f} | {one['own']:.2f} | {one['robust']:.2f} | "
              f"{one['patched_clean']:.2f} | {found['similarity'][at][n + at]:.3f} |")
    across = [found["similarity"][a][n + b] for a in range(n) for b in range(n) if a != b]
    same = [found["similarity"][a][n + a] for a in range(n)]
    if across:
        print(f"\nCosine of the same corruption across the two datasets {mean(same):.3f}, of different ones {mean(across):.3f}.")


if __name__ == "__main__":
    main(run, table, {
        "kinds": "gaussian_noise,shot_noise,impulse_noise,speckle_noise,gaussian_blur,defocus_blur,zoom_blur,contrast,brightness,fog,"
                 "pixelate,jpeg",
        "severity": 5, "start-epochs": 1, "epochs": 2, "layers": 2, "lr": 0.02, "limit": {"type": int}, "train-flags": "",
        "only": {"help": "globs of the tensors that signatures keep, with commas between; else --layers"},
        "tune-lr": {"type": float, "help": "of the networks that go on from the initialization [default: --lr]"},
        "other": {"help": "another dataset to transfer to: NAME=TRAIN,TEST"},
    })
